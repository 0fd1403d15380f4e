#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include "bindings/array.hpp"
#include "core/fork.hpp"
#include "core/peak.hpp"
#include "kernels/dot_pairs.hpp"

NB_MODULE(AI3_ISA, module) {
    using namespace ai3;
    // A network that lives as long as the interpreter is no leak.
    nb::set_leak_warnings(false);
    // Whichever copy is loaded, its classes are ai3._core's to Python: in messages and in pickles.
    const nb::object name = module.attr("__name__");
    module.attr("__name__") = "ai3._core";
    module.attr("isa") = AI3_ISA_NAME;
    bind_tensor(module);
    bind_halves(module);
    bind_problem(module);
    bind_call(module);
    bind_executor(module);
    bind_external(module);
    bind_probe(module);
    bind_measured(module);
    module.def("max_threads", &usable_threads, "Threads that a call from this thread will use.");
    module.def(
        "fma_peak",
        [](const std::string& dtype, int threads) {
            const DType type = dtype_from(dtype);
            nb::gil_scoped_release release;
            return fma_peak(type, threads);
        },
        nb::arg("dtype") = "float32", nb::arg("threads") = 1,
        "Measured peak of multiply-adds from registers, GFLOP/s; of bfloat16 those of pairs,\n0 "
        "where the processor has none.");
    module.def(
        "force_pairs", &force_pairs, nb::arg("pairs").none(),
        "Plan from now on as on a processor that multiplies bfloat16 by pairs twice as fast as "
        "float32, if\nthis one can at all, or as on one that does not; None: by what was "
        "measured.");
    module.attr("__name__") = name;
}
