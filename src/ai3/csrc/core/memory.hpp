// Where the values of a graph lie: those that live at different times share memory.
#pragma once

#include <span>
#include <utility>
#include <vector>

#include "core/operation.hpp"

namespace ai3 {

// Where a value's memory is: at byte `offset` of the caller's input or output or of the constant
// number `index`, or of the arena.
enum class Place { input, output, constant, arena };
struct Location {
    Place place;
    std::size_t index, offset;
};

// A node of a graph as its memory depends on it. Values are numbered: the graph's inputs, then the
// output of each node.
struct Flow {
    std::vector<std::size_t> inputs;
    const Attributes* attributes = nullptr;  // nullptr: a constant
    enum class Kind { other, view, reorder, permute, slice, concat } kind = Kind::other;
    // Whether "direct" does it, whose ways with memory are known, and may write over its input.
    bool direct = false, in_place = false;

    // Of an operation by its name; `view`: its output is its input's memory under another shape.
    static Kind kind_of(std::string_view op, bool view);
};

// Whether an image has the same memory in the layouts of both.
bool same_memory(const Spec& a, const Spec& b);

struct Memory {
    std::vector<Location> locations;  // by value
    std::vector<std::size_t> steps;   // the nodes that have something to do
    // The outputs to be copied from where they lie: (value, output).
    std::vector<std::pair<std::size_t, std::size_t>> copies;
    std::size_t arena_bytes = 0;
};

// Values share memory where nothing has to be computed or copied then: views and dense slices with
// what they show, what is concatenated with the result, the input of an operation that works in
// place with its output. `specs` are those of all values, of which the first `given` are inputs.
Memory place_values(std::size_t given, std::span<const Spec> specs, std::span<const Flow> nodes,
                    std::span<const std::size_t> outputs);

// A value of `bytes` that is written by step `first` and last read by step `last`.
struct Lifetime {
    std::size_t bytes, first, last;
};

// Offsets such that no two values that live at the same time overlap, and the arena's size.
//
// Greedy by size (Pisarchyk, Lee, "Efficient Memory Management for Deep Neural Net Inference",
// arXiv 2001.03288): the largest value first, each at the lowest offset that is free during its
// life.
std::pair<std::vector<std::size_t>, std::size_t> plan_memory(std::span<const Lifetime> lifetimes);

}  // namespace ai3
