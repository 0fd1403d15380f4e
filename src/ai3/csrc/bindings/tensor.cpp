#include <nanobind/stl/string.h>

#include "bindings/array.hpp"

namespace ai3 {

namespace {

// As Python's struct module has it; null for bfloat16, which it lacks.
const char* buffer_format(DType dtype) {
    constexpr const char* formats[] = {"f", "d", nullptr, "q", "i", "B", "?"};
    return formats[std::size_t(dtype)];
}

int get_buffer(PyObject* object, Py_buffer* view, int flags) {
    Tensor* tensor = nb::inst_ptr<Tensor>(object);
    if (!buffer_format(tensor->spec.dtype)) {
        PyErr_SetString(PyExc_BufferError,
                        "the buffer protocol has no bfloat16: use .numpy() or .torch()");
        return -1;
    }
    const Shape& shape = tensor->spec.shape;
    const Py_ssize_t item = Py_ssize_t(size_of(tensor->spec.dtype));
    // Shape and strides live in the view until release_buffer frees them.
    auto* extents = new Py_ssize_t[2 * shape.size() + 1];
    Py_ssize_t* strides = extents + shape.size();
    Py_ssize_t step = item;
    for (std::size_t i = shape.size(); i-- > 0;) {
        extents[i] = shape[i];
        strides[i] = step;
        step *= shape[i] ? shape[i] : 1;
    }
    static char nothing;
    view->obj = Py_NewRef(object);
    view->buf = tensor->memory.data() ? static_cast<void*>(tensor->memory.data()) : &nothing;
    view->len = Py_ssize_t(tensor->spec.bytes());
    view->readonly = 0;
    view->itemsize = item;
    view->format =
        (flags & PyBUF_FORMAT) ? const_cast<char*>(buffer_format(tensor->spec.dtype)) : nullptr;
    view->ndim = int(shape.size());
    view->shape = (flags & PyBUF_ND) ? extents : nullptr;
    view->strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? strides : nullptr;
    view->suboffsets = nullptr;
    view->internal = extents;
    return 0;
}

void release_buffer(PyObject*, Py_buffer* view) {
    delete[] static_cast<Py_ssize_t*>(view->internal);
}

PyType_Slot slots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)},
                       {Py_bf_releasebuffer, reinterpret_cast<void*>(release_buffer)},
                       {0, nullptr}};

nb::ndarray<nb::array_api> as_ndarray(nb::handle self) {
    Tensor& tensor = nb::cast<Tensor&>(self);
    std::vector<std::size_t> shape(tensor.spec.shape.begin(), tensor.spec.shape.end());
    return nb::ndarray<nb::array_api>(tensor.memory.data(), shape.size(), shape.data(), self,
                                      nullptr, dlpack_dtype(tensor.spec.dtype));
}

// The upper halves of floats that the elements of a bfloat16 tensor are, as numpy's uint16.
nb::object bits_of(nb::handle self) {
    Tensor& tensor = nb::cast<Tensor&>(self);
    if (tensor.spec.dtype != DType::bf16)
        throw nb::type_error(("a tensor of " + std::string(name_of(tensor.spec.dtype)) +
                              " has no bits of bfloat16: take it as .numpy()")
                                 .c_str());
    std::vector<std::size_t> shape(tensor.spec.shape.begin(), tensor.spec.shape.end());
    return nb::cast(nb::ndarray<nb::numpy>(tensor.memory.data(), shape.size(), shape.data(), self,
                                           nullptr, nb::dtype<std::uint16_t>()));
}

nb::object to_numpy(nb::handle self) {
    if (nb::cast<const Tensor&>(self).spec.dtype != DType::bf16)
        return nb::module_::import_("numpy").attr("asarray")(self);
    nb::object type;
    try {
        type = nb::module_::import_("ml_dtypes").attr("bfloat16");
    } catch (nb::python_error& error) {
        if (!error.matches(PyExc_ImportError)) throw;
        throw nb::type_error(
            "numpy has no bfloat16 of its own: install ml_dtypes, or take the tensor as .torch()");
    }
    return bits_of(self).attr("view")(type);
}

nb::object to_torch(nb::handle self) {
    return nb::module_::import_("torch").attr("from_dlpack")(self);
}

nb::object to_type(nb::handle self, nb::handle type) {
    const auto named = [&](const char* module, const char* name) {
        nb::object known = nb::module_::import_("sys").attr("modules").attr("get")(module);
        return !known.is_none() && type.is(known.attr(name));
    };
    if (type.is(nb::type<Tensor>())) return nb::borrow(self);
    if (named("numpy", "ndarray")) return to_numpy(self);
    if (named("torch", "Tensor")) return to_torch(self);
    if (type.ptr() == reinterpret_cast<PyObject*>(&PyMemoryView_Type)) {
        nb::object view = nb::steal(PyMemoryView_FromObject(self.ptr()));
        if (!view.is_valid()) throw nb::python_error();
        return view;
    }
    throw nb::type_error(("an ai3.Tensor can become a torch.Tensor, a numpy.ndarray, a memoryview "
                          "or an ai3.Tensor, not " +
                          std::string(nb::repr(type).c_str()))
                             .c_str());
}

}  // namespace

void bind_tensor(nb::module_& module) {
    nb::class_<Tensor>(
        module, "Tensor", nb::type_slots(slots), nb::is_weak_referenceable(),
        "A dense array in memory of its own.\n\n"
        "Implements the buffer protocol (but for bfloat16) and DLPack, without a copy. Made from "
        "any array\n(a torch tensor, a numpy array, ...), whose elements it copies.")
        .def(
            "__init__",
            [](Tensor* self, nb::handle tens) {
                Array array(tens);
                new (self) Tensor{array.spec(), Buffer(array.spec().bytes())};
                if (self->memory.size()) array.copy_to(self->memory.data());
            },
            nb::arg("tens"))
        .def_static(
            "of_bits",
            [](nb::ndarray<const std::uint16_t, nb::c_contig, nb::device::cpu> bits) {
                Shape shape;
                for (std::size_t i = 0; i < bits.ndim(); ++i) shape.push_back(Index(bits.shape(i)));
                const Spec spec{DType::bf16, shape};
                Tensor made{spec, Buffer(spec.bytes())};
                std::copy_n(bits.data(), bits.size(), made.memory.as<std::uint16_t>());
                return made;
            },
            nb::arg("bits"), nb::sig("def of_bits(bits: typing.Any) -> Tensor"),
            "The bfloat16 tensor whose elements have these bits, an array of uint16.")
        .def_prop_ro("bits", &bits_of, nb::sig("def bits(self) -> typing.Any"),
                     "The bits of a bfloat16 tensor's elements: a numpy.ndarray of uint16 that "
                     "shares this tensor's\nmemory.")
        .def_prop_ro(
            "shape", [](const Tensor& self) { return to_tuple(self.spec.shape); },
            nb::sig("def shape(self) -> tuple[int, ...]"))
        .def_prop_ro(
            "dtype", [](const Tensor& self) { return std::string(name_of(self.spec.dtype)); },
            "Its name, such as 'float32'.")
        .def("numpy", &to_numpy, nb::sig("def numpy(self) -> typing.Any"),
             "A numpy.ndarray that shares this tensor's memory.")
        .def("torch", &to_torch, nb::sig("def torch(self) -> typing.Any"),
             "A torch.Tensor that shares this tensor's memory.")
        .def("to", &to_type, nb::arg("out_type"),
             nb::sig("def to(self, out_type: type) -> typing.Any"),
             "This tensor as `out_type`: torch.Tensor, numpy.ndarray, memoryview or ai3.Tensor.\n\n"
             "Raises TypeError for any other type.")
        .def(
            "__dlpack__",
            [](nb::handle self, nb::kwargs kwargs) {
                return nb::cast(as_ndarray(self)).attr("__dlpack__")(**kwargs);
            },
            nb::sig("def __dlpack__(self, **kwargs: typing.Any) -> typing.Any"))
        .def(
            "__dlpack_device__", [](nb::handle) { return nb::make_tuple(1, 0); },
            nb::sig("def __dlpack_device__(self) -> tuple[int, int]"))
        .def(
            "__reduce__",
            [](nb::handle self) {
                if (nb::cast<const Tensor&>(self).spec.dtype == DType::bf16)
                    return nb::make_tuple(nb::module_::import_("ai3.arrays").attr("of_bits"),
                                          nb::make_tuple(bits_of(self)));
                return nb::make_tuple(self.type(), nb::make_tuple(to_numpy(self)));
            },
            nb::sig("def __reduce__(self) -> tuple[typing.Any, ...]"))
        .def(
            "__deepcopy__", [](nb::handle self, nb::handle) { return self.type()(self); },
            nb::arg("memo"))
        .def("__len__",
             [](const Tensor& self) {
                 if (self.spec.shape.empty()) throw nb::type_error("a 0-d tensor has no length");
                 return self.spec.shape[0];
             })
        .def("__repr__", [](const Tensor& self) {
            return "ai3.Tensor(shape=" + to_string(self.spec.shape) +
                   ", dtype=" + std::string(name_of(self.spec.dtype)) + ")";
        });
}

}  // namespace ai3
