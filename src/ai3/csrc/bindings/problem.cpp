#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "bindings/array.hpp"
#include "core/executor.hpp"
#include "core/fork.hpp"
#include "core/measured.hpp"
#include "core/workspace.hpp"
#include "ops/pointwise/functions.hpp"

namespace ai3 {

const Operation& operation(const std::string& name) {
    const auto& all = Operation::all();
    auto found = all.find(name);
    if (found == all.end()) throw std::invalid_argument("there is no operation '" + name + "'");
    return *found->second;
}

namespace {

std::vector<const void*> data_of(const Problem& problem, std::vector<Constant>& kept,
                                 nb::args arrays) {
    const auto& specs = problem.inputs();
    if (arrays.size() != specs.size())
        throw std::invalid_argument("the problem takes " + std::to_string(specs.size()) +
                                    " inputs");
    std::vector<const void*> data;
    for (std::size_t i = 0; i < specs.size(); ++i) {
        Array array(arrays[i]);
        if (array.spec() != specs[i])
            throw std::invalid_argument("the problem's input is " + to_string(specs[i]) + ", not " +
                                        to_string(array.spec()));
        kept.push_back(array.keep(false));
        data.push_back(kept.back().data);
    }
    return data;
}

}  // namespace

void bind_problem(nb::module_& module) {
    nb::exception<DTypeError>(module, "DTypeError", PyExc_TypeError);
    module.def(
        "pointwise_functions",
        [] {
            std::map<std::string, int> operands;
            for (const FunctionRow& row : function_rows)
                operands[std::string(row.name)] = row.operands;
            return operands;
        },
        "The functions of pointwise programs, and how many operands each takes.");
    nb::class_<Spec>(module, "Spec", "The dtype, shape and layout of an array.")
        .def(
            "__init__",
            [](Spec* self, const std::string& dtype, const Shape& shape,
               const std::string& layout) {
                for (Index extent : shape)
                    if (extent < 0) throw std::invalid_argument("a shape has no negative extent");
                new (self) Spec{dtype_from(dtype), shape, layout_from(layout, shape)};
            },
            nb::arg("dtype"), nb::arg("shape"), nb::arg("layout") = "dense",
            "The layout is 'dense', 'channels_last' or 'blocked'.")
        .def_prop_ro("dtype", [](const Spec& self) { return std::string(name_of(self.dtype)); })
        .def_prop_ro(
            "shape", [](const Spec& self) { return to_tuple(self.shape); },
            nb::sig("def shape(self) -> tuple[int, ...]"))
        .def_prop_ro("layout", [](const Spec& self) { return std::string(name_of(self.layout)); })
        .def_prop_ro("bytes", &Spec::bytes)
        .def("__eq__",
             [](const Spec& self, nb::handle other) {
                 return nb::isinstance<Spec>(other) && self == nb::cast<const Spec&>(other);
             })
        .def("__hash__", [](const Spec& self) { return std::hash<std::string>{}(to_string(self)); })
        .def("__repr__", [](const Spec& self) { return to_string(self); });

    nb::class_<WeightSet>(module, "Weights",
                          "The weights of one layer and what algorithms have packed of them.")
        .def_static(
            "of", &weights_from, nb::arg("arrays"), nb::arg("copy") = true,
            nb::sig("def of(arrays: typing.Iterable[object], copy: bool = True) -> Weights"),
            "The arrays; None stands for an absent one.")
        .def_prop_ro("packed_bytes", &WeightSet::packed_bytes);

    nb::class_<Problem>(module, "Problem",
                        "Everything that defines an operation's work: shapes, dtype, "
                        "hyper-parameters, threads.")
        .def_prop_ro("op", [](const Problem& self) { return std::string(self.op()); })
        .def_prop_ro("inputs", &Problem::inputs)
        .def_prop_ro("output", &Problem::output)
        .def_prop_ro("threads", &Problem::threads)
        .def_prop_ro("key", &key_of, "A text that tells problems apart which take different time.")
        .def("resolve", &Problem::resolve, nb::arg("algorithm"),
             "The algorithm that a name stands for: 'default' and 'guess' differ by problem.")
        .def("ranking", &Problem::ranking,
             "The algorithms that can do the problem with their cost in cycles, measured or "
             "estimated, the\nleast first; nothing is run.")
        .def("refusal", &Problem::refusal, nb::arg("algorithm"),
             "Why the algorithm cannot do this problem; empty where it can.")
        .def(
            "measured",
            [](const Problem& self, std::string_view algorithm) -> std::optional<double> {
                const Known known(self);
                if (!known.any() || !known.times().contains(algorithm)) return std::nullopt;
                return known.cycles(algorithm, 0);
            },
            nb::arg("algorithm"),
            "The cycles that an algorithm was measured to take; None where it was not.")
        .def("cost", &Problem::cost, nb::arg("algorithm"),
             "The cost in cycles, measured or estimated; infinite where there is neither.")
        .def("takes_bfloat16", &Problem::takes_bfloat16, nb::arg("algorithm"),
             "Whether the algorithm computes with what is bfloat16 itself, not by way of float32.")
        .def("fusible", &Problem::fusible, nb::arg("algorithm"),
             "Whether passes may fuse the problem with others when this algorithm does it.")
        .def("workspace_bytes", &Problem::workspace_bytes, nb::arg("algorithm"))
        .def(
            "reference",
            [](const Problem& self, nb::args inputs) {
                std::vector<Constant> kept;
                const auto data = data_of(self, kept, inputs);
                Result result(self.output(), nullptr);
                {
                    nb::gil_scoped_release release;
                    self.reference(data.data(), result.data());
                }
                return result.release();
            },
            nb::sig("def reference(self, *inputs: object) -> Tensor"),
            "The result by plain loops with a float64 accumulator.")
        .def(
            "run",
            [](std::shared_ptr<Problem> self, const std::string& algorithm, nb::args inputs) {
                std::vector<Constant> kept;
                const auto data = data_of(*self, kept, inputs);
                Result result(self->output(), nullptr);
                {
                    nb::gil_scoped_release release;
                    const Planned planned(self, algorithm);
                    Scratch scratch(planned.workspace_bytes);
                    planned.plan->run(data.data(), result.data(), scratch.data());
                }
                return result.release();
            },
            nb::arg("algorithm"), nb::arg("inputs"),
            nb::sig("def run(self, algorithm: str, *inputs: object) -> Tensor"),
            "Plans and runs the algorithm once.");

    module.def(
        "problem",
        [](const std::string& op, std::vector<Spec> inputs, std::shared_ptr<WeightSet> weights,
           nb::dict attributes, int threads) {
            if (!weights)
                weights = std::make_shared<WeightSet>(std::vector<std::optional<Constant>>{});
            return std::shared_ptr<Problem>(operation(op).problem(
                std::move(inputs), std::move(weights), attributes_from(attributes),
                threads > 0 ? threads : usable_threads()));
        },
        nb::arg("op"), nb::arg("inputs"), nb::arg("weights").none() = nb::none(),
        nb::arg("attributes") = nb::dict(), nb::arg("threads") = 0,
        nb::sig("def problem(op: str, inputs: Sequence[Spec], weights: Weights | None = None, "
                "attributes: dict[str, typing.Any] = {}, threads: int = 0) -> Problem"),
        "The problem of an operation; ValueError says what does not fit. threads=0: as now set.");

    module.def(
        "algorithms",
        [] {
            nb::dict table;
            for (const auto& [name, op] : Operation::all())
                table[nb::cast(name)] = nb::cast(op->algorithms());
            return table;
        },
        nb::sig("def algorithms() -> dict[str, list[str]]"),
        "Every operation with the names of its algorithms.");
}

}  // namespace ai3
