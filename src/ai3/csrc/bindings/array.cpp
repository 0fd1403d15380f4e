#include "bindings/array.hpp"

#include <nanobind/stl/string.h>

#include <iterator>

#include "bindings/dlpack.hpp"
#include "core/checksum.hpp"

namespace ai3 {

namespace {

using nanobind::dlpack::dltensor;

constexpr std::int32_t cpu_device = 1;

// The exchange functions of an object's type, or nullptr. Looking the attribute up costs more than
// the rest of the border together, so the last type's answer is remembered.
const DLPackExchange* exchange_of(nb::handle object) {
    static PyTypeObject* last_type = nullptr;
    static const DLPackExchange* last = nullptr;
    PyTypeObject* type = Py_TYPE(object.ptr());
    if (type == last_type) return last;
    const DLPackExchange* found = nullptr;
    nb::handle type_handle(reinterpret_cast<PyObject*>(type));
    if (nb::hasattr(type_handle, "__dlpack_c_exchange_api__")) {
        nb::object capsule = type_handle.attr("__dlpack_c_exchange_api__");
        auto* api = static_cast<const DLPackExchange*>(
            PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
        if (!api) PyErr_Clear();
        while (api && api->major != 1) api = api->previous;
        if (api && api->view_from_object && api->allocate && api->managed_to_object) found = api;
    }
    Py_INCREF(type);
    Py_XDECREF(last_type);
    last_type = type;
    last = found;
    return found;
}

[[noreturn]] void throw_type_error(const std::string& text) { throw nb::type_error(text.c_str()); }

DType checked_dtype(nanobind::dlpack::dtype dtype) {
    for (DType known : dtypes) {
        const auto [code, bits, lanes] = dlpack_dtype(known);
        if (dtype.code == code && dtype.bits == bits && dtype.lanes == lanes) return known;
    }
    static const char* const kinds[] = {"int",    "uint",    "float", "opaque",
                                        "bfloat", "complex", "bool"};
    throw_type_error("an array must be " + dtype_names() + ", not " +
                     (dtype.code < 7 ? kinds[dtype.code] + std::to_string(dtype.bits)
                                     : "dtype code " + std::to_string(dtype.code)));
}

void check_device(std::int32_t type) {
    if (type != cpu_device)
        throw_type_error(
            "an array must be in CPU memory, but this one is on another device "
            "(DLPack device type " +
            std::to_string(type) + ")");
}

}  // namespace

Array::Array(nb::handle object) : object_(object), exchange_(exchange_of(object)) {
    if (exchange_) {
        dltensor view;
        if (exchange_->view_from_object(object.ptr(), &view)) throw nb::python_error();
        check_device(view.device.device_type);
        dtype_ = checked_dtype(view.dtype);
        data_ = static_cast<const std::byte*>(view.data) + view.byte_offset;
        shape_.assign(view.shape, view.shape + view.ndim);
        strides_.assign(view.strides, view.strides + view.ndim);
    } else {
        if (!nb::try_cast(object, holder_))
            throw_type_error(
                "expected an array (a torch tensor, a numpy array, or any object with "
                "DLPack or the buffer protocol) in CPU memory, not " +
                std::string(
                    nb::type_name(nb::handle(reinterpret_cast<PyObject*>(Py_TYPE(object.ptr()))))
                        .c_str()));
        check_device(holder_.device_type());
        dtype_ = checked_dtype(holder_.dtype());
        data_ = holder_.data();
        for (std::size_t i = 0; i < holder_.ndim(); ++i) {
            shape_.push_back(Index(holder_.shape(i)));
            strides_.push_back(holder_.stride(i));
        }
    }
    dense_ = is_dense(shape_, strides_.data());
    elements(shape_);
}

bool Array::channels_last() const {
    if (dense_ || shape_.size() != 4) return false;
    Index stride = 1;
    for (std::size_t axis : {1, 3, 2, 0}) {
        if (shape_[axis] != 1 && strides_[axis] != stride) return false;
        stride *= shape_[axis];
    }
    return true;
}

void Array::copy_to(void* dense) const {
    copy_strided(dtype_, shape_, strides_.data(), data_, dense);
}

std::uint64_t Array::checksum() const {
    const std::size_t bytes = spec().bytes();
    if (bytes == 0) return 0;
    // Where no gaps are between the elements, in whatever order they lie.
    Index reach = 1;
    bool forward = true;
    for (std::size_t i = 0; i < shape_.size(); ++i) {
        forward = forward && (strides_[i] > 0 || shape_[i] == 1);
        reach += (shape_[i] - 1) * strides_[i];
    }
    if (dense_ || (forward && reach == elements(shape_))) return ai3::checksum(data_, bytes);
    Scratch copy(bytes);
    copy_to(copy.data());
    return ai3::checksum(copy.data(), bytes);
}

Constant Array::keep(bool copy) const {
    if (!copy && dense_ && exchange_ && exchange_->managed_from_object) {
        DLPackManaged* managed = nullptr;
        if (exchange_->managed_from_object(object_.ptr(), &managed)) throw nb::python_error();
        return {spec(), data_, std::shared_ptr<const void>(managed, [](DLPackManaged* m) {
                    if (m->deleter) m->deleter(m);
                })};
    }
    if (!copy && dense_ && !exchange_)
        return {spec(), data_, std::make_shared<const nb::ndarray<nb::ro>>(holder_)};
    auto owned = std::make_shared<Buffer>(spec().bytes());
    if (owned->size()) copy_to(owned->data());
    return {spec(), owned->data(), owned};
}

Result::Result(const Spec& spec, const DLPackExchange* exchange) : exchange_(exchange) {
    if (!exchange_) {
        tensor_ = nb::cast(Tensor{spec, Buffer(spec.bytes())}, nb::rv_policy::move);
        data_ = nb::cast<Tensor&>(tensor_).memory.data();
        return;
    }
    Shape shape = spec.shape;
    dltensor prototype;
    prototype.device = {cpu_device, 0};
    prototype.ndim = std::int32_t(shape.size());
    prototype.dtype = dlpack_dtype(spec.dtype);
    prototype.shape = shape.data();
    DLPackManaged* managed = nullptr;
    std::string error;
    const auto set_error = [](void* context, const char*, const char* message) {
        *static_cast<std::string*>(context) = message;
    };
    if (exchange_->allocate(&prototype, &managed, &error, set_error)) {
        if (PyErr_Occurred()) throw nb::python_error();
        throw std::runtime_error("no memory for an output of " + to_string(spec) + ": " + error);
    }
    managed_ = managed;
    data_ = static_cast<std::byte*>(managed->tensor.data) + managed->tensor.byte_offset;
}

Result::Result(Result&& other) noexcept
    : exchange_(other.exchange_),
      managed_(std::exchange(other.managed_, nullptr)),
      tensor_(std::move(other.tensor_)),
      data_(other.data_) {}

Result::~Result() {
    auto* managed = static_cast<DLPackManaged*>(managed_);
    if (managed && managed->deleter) managed->deleter(managed);
}

nb::object Result::release() {
    if (!exchange_) return std::move(tensor_);
    void* object = nullptr;
    auto* managed = static_cast<DLPackManaged*>(std::exchange(managed_, nullptr));
    if (exchange_->managed_to_object(managed, &object)) throw nb::python_error();
    return nb::steal(static_cast<PyObject*>(object));
}

nanobind::dlpack::dtype dlpack_dtype(DType dtype) {
    using Code = nanobind::dlpack::dtype_code;
    const Code code = dtype == DType::bf16      ? Code::Bfloat
                      : is_real(dtype)          ? Code::Float
                      : dtype == DType::boolean ? Code::Bool
                      : dtype == DType::u8      ? Code::UInt
                                                : Code::Int;
    return {std::uint8_t(code), std::uint8_t(8 * size_of(dtype)), 1};
}

std::string dtype_names() {
    std::string names;
    for (DType known : dtypes)
        names += (known == dtypes[0]              ? ""
                  : known == *std::rbegin(dtypes) ? " or "
                                                  : ", ") +
                 std::string(name_of(known));
    return names;
}

DType dtype_from(const std::string& name) {
    for (DType known : dtypes)
        if (name == name_of(known)) return known;
    throw std::invalid_argument("dtype must be " + dtype_names() + ", not '" + name + "'");
}

nb::tuple to_tuple(const Shape& shape) {
    nb::list items;
    for (Index extent : shape) items.append(extent);
    return nb::tuple(items);
}

// A None inside a list becomes -1.
Attributes attributes_from(nb::dict dict) {
    Attributes::Map values;
    const auto integer = [](nb::handle value, const std::string& name) {
        Index result;
        if (PyBool_Check(value.ptr()) || !PyIndex_Check(value.ptr()))
            throw_type_error(name + " must be made of integers");
        nb::object index = nb::steal(PyNumber_Index(value.ptr()));
        if (!index.is_valid()) throw nb::python_error();
        if (!nb::try_cast(index, result))
            throw std::invalid_argument(name + " does not fit into 64 bits");
        return result;
    };
    for (auto [key, value] : dict) {
        const std::string name = nb::cast<std::string>(key);
        Attributes::Value& target = values[name];
        if (value.is_none())
            target = std::monostate{};
        else if (PyBool_Check(value.ptr()))
            target = value.ptr() == Py_True;
        else if (PyFloat_Check(value.ptr()))
            target = nb::cast<double>(value);
        else if (PyUnicode_Check(value.ptr()))
            target = nb::cast<std::string>(value);
        else if (PyIndex_Check(value.ptr()))
            target = integer(value, name);
        else if (PySequence_Check(value.ptr())) {
            std::vector<Index> list;
            std::vector<double> numbers;
            bool real = false;
            for (nb::handle item : nb::borrow<nb::iterable>(value)) {
                real = real || PyFloat_Check(item.ptr());
                if (!PyFloat_Check(item.ptr()))
                    list.push_back(item.is_none() ? -1 : integer(item, name));
                numbers.push_back(PyFloat_Check(item.ptr()) ? nb::cast<double>(item)
                                                            : double(list.back()));
            }
            if (real)
                target = std::move(numbers);
            else
                target = std::move(list);
        } else
            throw_type_error(name + " must be a number, a flag, a string or a list of numbers");
    }
    return Attributes(std::move(values));
}

std::shared_ptr<WeightSet> weights_from(nb::iterable arrays, bool copy) {
    std::vector<std::optional<Constant>> weights;
    for (nb::handle array : arrays) {
        if (array.is_none())
            weights.emplace_back();
        else if (nb::isinstance<Halves>(array))
            weights.emplace_back(nb::cast<const Halves&>(array).constant());
        else
            weights.emplace_back(Array(array).keep(copy));
    }
    return std::make_shared<WeightSet>(std::move(weights));
}

}  // namespace ai3
