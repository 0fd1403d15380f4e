#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include "bindings/array.hpp"
#include "core/schedule.hpp"
#include "core/workspace.hpp"

namespace ai3 {

namespace {

using Where = std::tuple<std::string, std::size_t, std::size_t>;
using Step = std::tuple<std::shared_ptr<Problem>, std::string, std::vector<Where>, Where>;
using Values = std::vector<std::size_t>;
using Node = std::tuple<Values, std::shared_ptr<Problem>, std::string, bool, bool, std::string,
                        Values, nb::object>;

Location location(const Where& where) {
    const auto& [place, index, offset] = where;
    if (place == "input") return {Place::input, index, offset};
    if (place == "output") return {Place::output, index, offset};
    if (place == "constant") return {Place::constant, index, offset};
    if (place == "arena") return {Place::arena, index, offset};
    throw std::invalid_argument("a place is 'input', 'output', 'constant' or 'arena', not '" +
                                place + "'");
}

std::vector<Constant> constants_from(nb::iterable arrays) {
    std::vector<Constant> kept;
    for (nb::handle array : arrays) kept.push_back(Array(array).keep(false));
    return kept;
}

Schedule::Node node_from(const Node& node) {
    const auto& [inputs, problem, algorithm, view, in_place, role, reads, attributes] = node;
    using Role = Schedule::Node::Role;
    const Role as = role == "step"       ? Role::step
                    : role == "probe"    ? Role::probe
                    : role == "identity" ? Role::identity
                                         : throw std::invalid_argument(
                                               "a node is a 'step', a 'probe' or an "
                                               "'identity', not '" +
                                               role + "'");
    Schedule::Node made{inputs, problem, algorithm, view, in_place, as, reads, {}};
    if (!attributes.is_none())
        made.attributes = [attributes](const std::vector<Shape>& shapes) {
            nb::list given;
            for (const Shape& shape : shapes) given.append(to_tuple(shape));
            return attributes_from(nb::cast<nb::dict>(attributes(*given)));
        };
    return made;
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
                std::vector<Executor::Step> compiled;
                for (const auto& [problem, algorithm, from, to] : steps) {
                    std::vector<Location> locations;
                    for (const Where& input : from) locations.push_back(location(input));
                    compiled.push_back({std::make_shared<const Planned>(problem, algorithm),
                                        std::move(locations), location(to)});
                }
                new (self) Executor(std::move(inputs), std::move(outputs),
                                    constants_from(constants), std::move(compiled), arena_bytes);
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
                for (const auto& step : self.steps()) names.append(step.planned->algorithm);
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

    nb::class_<Schedule>(module, "Schedule",
                         "The nodes of a graph in the order in which they run, for inputs of "
                         "certain sizes.\n\n"
                         "Values are numbered: the inputs, then the output of each node.")
        .def(
            "__init__",
            [](Schedule* self, std::vector<Spec> inputs, const std::vector<Node>& nodes,
               nb::iterable constants, Values outputs) {
                std::vector<Schedule::Node> made;
                for (const Node& node : nodes) made.push_back(node_from(node));
                new (self) Schedule(std::move(inputs), std::move(made), constants_from(constants),
                                    std::move(outputs));
            },
            nb::arg("inputs"), nb::arg("nodes"), nb::arg("constants"), nb::arg("outputs"),
            nb::sig("def __init__(self, inputs: Sequence[Spec], nodes: "
                    "Sequence[tuple[Sequence[int], Problem | None, str, bool, bool, str, "
                    "Sequence[int], typing.Callable[..., dict[str, typing.Any]] | None]], "
                    "constants: "
                    "typing.Iterable[object], outputs: Sequence[int]) -> None"),
            "Nodes are (inputs, problem, algorithm, view, in_place, role, reads, attributes): a "
            "problem\nof None is the next constant; `view` and `in_place` as in ai3.ops; "
            "`attributes` gives those\nfor other shapes of the values that it `reads`. The role is "
            "'step'; or 'probe', which only\nhas a shape, or 'identity', whose shape must also be "
            "its input's.")
        .def(
            "resized",
            [](const Schedule& self, const std::vector<Spec>& inputs,
               std::size_t most) -> std::optional<Schedule> {
                try {
                    return self.resized(inputs, most);
                } catch (const std::invalid_argument&) {
                    return std::nullopt;
                } catch (const nb::python_error& error) {
                    if (!error.matches(PyExc_Exception)) throw;
                    return std::nullopt;
                }
            },
            nb::arg("inputs"), nb::arg("most"),
            "The same nodes for inputs of other sizes; None where one of them cannot be done then "
            "or\nits arrays are not alike: of other ranks, other extents are 1 or 0, or others of "
            "them are\nof one shape; or an output is as large as `most` bytes.")
        .def("spec", &Schedule::spec, nb::arg("value"), "The spec of a value.")
        .def("resolved", &Schedule::resolved, nb::arg("node"),
             "The algorithm that a node runs, 'default' resolved; empty for a constant.")
        .def(
            "executor",
            [](Schedule& self) {
                Values steps;
                auto executor = self.executor(&steps);
                return std::make_pair(std::move(executor), std::move(steps));
            },
            nb::sig("def executor(self) -> tuple[Executor, list[int]]"),
            "An executor with every value placed and every node planned, and the node of each "
            "step.");

    module.def("same_memory", &same_memory, nb::arg("a"), nb::arg("b"),
               "Whether an image has the same memory in the layouts of both specs.");
    module.def(
        "plan_memory",
        [](const std::vector<std::tuple<std::size_t, std::size_t, std::size_t>>& lifetimes) {
            std::vector<Lifetime> lives;
            for (const auto& [bytes, first, last] : lifetimes)
                lives.push_back({bytes, first, last});
            return plan_memory(lives);
        },
        nb::arg("lifetimes"),
        "Offsets such that no two values that live at the same time overlap, and the bytes that "
        "they\ntake. A lifetime is (bytes, first step, last step).");
}

}  // namespace ai3
