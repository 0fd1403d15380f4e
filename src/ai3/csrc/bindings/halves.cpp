#include "bindings/array.hpp"
#include "core/fork.hpp"

namespace ai3 {

Halves::Halves(const Array& numbers) : shape(numbers.shape()) {
    if (numbers.dtype() != DType::f32)
        throw nb::type_error(("weights of float32 are held in halves, not of " +
                              std::string(name_of(numbers.dtype())))
                                 .c_str());
    const Constant dense = numbers.keep(false);
    const Index n = dense.spec.held();
    upper = std::make_shared<Buffer>(std::size_t(n) * sizeof(bfloat16));
    lower = std::make_shared<const LowerHalf>(dense.as<float>(), n, upper->as<bfloat16>(),
                                              usable_threads());
}

void bind_halves(nb::module_& module) {
    nb::class_<Halves>(module, "Halves",
                       "An array of float32 held as the bfloat16 to which its elements are rounded "
                       "and what that leaves.\nTo the core it is the rounded one, wherever that is "
                       "computed with, and elsewhere itself.")
        .def(
            "__init__", [](Halves* self, nb::handle array) { new (self) Halves(Array(array)); },
            nb::arg("array"))
        .def_prop_ro(
            "shape", [](const Halves& self) { return to_tuple(self.shape); },
            nb::sig("def shape(self) -> tuple[int, ...]"))
        .def_prop_ro("nbytes",
                     [](const Halves& self) { return self.upper->size() + self.lower->bytes(); })
        .def(
            "restored",
            [](const Halves& self) {
                Result result(Spec{DType::f32, self.shape}, nullptr);
                self.lower->restore(self.upper->as<bfloat16>(), static_cast<float*>(result.data()),
                                    usable_threads());
                return result.release();
            },
            nb::sig("def restored(self) -> Tensor"), "The array that it was made of.");
}

}  // namespace ai3
