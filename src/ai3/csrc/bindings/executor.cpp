#include "core/executor.hpp"

#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "bindings/array.hpp"
#include "core/workspace.hpp"

namespace ai3 {

namespace {

using Location = std::tuple<std::string, std::size_t, std::size_t>;
using Step = std::tuple<std::shared_ptr<Problem>, std::string, std::vector<Location>, Location>;

Executor::Location location(const Location& location) {
    const auto& [place, index, offset] = location;
    if (place == "input") return {Executor::Place::input, index, offset};
    if (place == "output") return {Executor::Place::output, index, offset};
    if (place == "constant") return {Executor::Place::constant, index, offset};
    if (place == "arena") return {Executor::Place::arena, index, offset};
    throw std::invalid_argument("a place is 'input', 'output', 'constant' or 'arena', not '" +
                                place + "'");
}

nb::list run(const Executor& self, nb::sequence arrays, bool own,
             std::vector<double>* milliseconds) {
    const auto& specs = self.inputs();
    if (nb::len(arrays) != specs.size())
        throw std::invalid_argument("the model takes " + std::to_string(specs.size()) + " inputs");
    std::vector<Array> inputs;
    std::size_t copied = 0;
    for (std::size_t i = 0; i < specs.size(); ++i) {
        const Array& input = inputs.emplace_back(nb::object(arrays[i]));
        if (input.spec() != specs[i])
            throw std::invalid_argument("the input is " + to_string(input.spec()) +
                                        ", but the executor was made for " + to_string(specs[i]));
        if (!input.dense()) copied += align_up(specs[i].bytes());
    }
    const DLPackExchange* exchange = own || inputs.empty() ? nullptr : inputs[0].exchange();
    std::vector<Result> results;
    std::vector<void*> outputs;
    for (const Spec& spec : self.outputs()) {
        results.emplace_back(spec, exchange);
        outputs.push_back(results.back().data());
    }
    {
        nb::gil_scoped_release release;
        Scratch scratch(copied);
        std::byte* copy = scratch.data();
        std::vector<const void*> data;
        for (const Array& input : inputs) {
            data.push_back(input.dense() ? input.data() : copy);
            if (input.dense()) continue;
            input.copy_to(copy);
            copy += align_up(input.spec().bytes());
        }
        self.run(data.data(), outputs.data(), milliseconds);
    }
    nb::list released;
    for (Result& result : results) released.append(result.release());
    return released;
}

}  // namespace

void bind_executor(nb::module_& module) {
    module.def(
        "specs_of",
        [](nb::sequence arrays) {
            nb::list specs;
            for (nb::handle array : arrays) specs.append(nb::cast(Array(array).spec()));
            return nb::tuple(specs);
        },
        nb::arg("arrays"), nb::sig("def specs_of(arrays: Sequence[object]) -> tuple[Spec, ...]"),
        "The Spec of each array; TypeError for what the core cannot read.");

    nb::class_<Executor>(module, "Executor",
                         "A graph compiled for one set of input shapes; safe to call from any "
                         "thread.")
        .def(
            "__init__",
            [](Executor* self, std::vector<Spec> inputs, std::vector<Spec> outputs,
               nb::iterable constants, const std::vector<Step>& steps, std::size_t arena_bytes) {
                std::vector<Constant> kept;
                for (nb::handle array : constants) kept.push_back(Array(array).keep(false));
                std::vector<Executor::Step> compiled;
                for (const auto& [problem, algorithm, from, to] : steps) {
                    std::vector<Executor::Location> locations;
                    for (const Location& input : from) locations.push_back(location(input));
                    compiled.push_back(
                        {Planned(problem, algorithm), std::move(locations), location(to)});
                }
                new (self) Executor(std::move(inputs), std::move(outputs), std::move(kept),
                                    std::move(compiled), arena_bytes);
            },
            nb::arg("inputs"), nb::arg("outputs"), nb::arg("constants"), nb::arg("steps"),
            nb::arg("arena_bytes"),
            nb::sig("def __init__(self, inputs: Sequence[Spec], outputs: Sequence[Spec], "
                    "constants: typing.Iterable[object], steps: Sequence[tuple[Problem, str, "
                    "Sequence[tuple[str, int, int]], tuple[str, int, int]]], "
                    "arena_bytes: int) -> None"),
            "Steps are (problem, algorithm, input locations, output location); a location is a\n"
            "place ('input', 'output', 'constant' or 'arena'), which of them, and a byte in it.")
        .def_prop_ro(
            "algorithms",
            [](const Executor& self) {
                nb::list names;
                for (const auto& step : self.steps()) names.append(step.planned.algorithm);
                return names;
            },
            nb::sig("def algorithms(self) -> list[str]"),
            "The algorithm that each step runs, 'default' resolved.")
        .def_prop_ro("arena_bytes", &Executor::arena_bytes)
        .def_prop_ro("workspace_bytes", &Executor::workspace_bytes)
        .def(
            "__call__",
            [](const Executor& self, nb::sequence inputs, bool own) {
                return run(self, inputs, own, nullptr);
            },
            nb::arg("inputs"), nb::arg("own") = false,
            nb::sig("def __call__(self, inputs: Sequence[object], own: bool = False) -> "
                    "list[typing.Any]"),
            "The outputs, as arrays of the first input's library or, with `own`, as Tensors.")
        .def(
            "profile",
            [](const Executor& self, nb::sequence inputs) {
                std::vector<double> milliseconds;
                run(self, inputs, true, &milliseconds);
                return milliseconds;
            },
            nb::arg("inputs"),
            nb::sig("def profile(self, inputs: Sequence[object]) -> list[float]"),
            "Runs once; the time of each step in ms.");
}

}  // namespace ai3
