// One layer and direction of a recurrent network, given what its input adds to the gates. For each
// of T steps, of which `reverse` takes the last first, with a = W_hh h + b_hh of the state h
// before:
//
//   lstm  i, f, o = sigmoid(x + a), g = tanh(x + a), c = f c + i g, h = o tanh(c)
//         (Hochreiter, Schmidhuber, "Long short-term memory", 1997; gates in the order i, f, g, o)
//   gru   r, z = sigmoid(x + a), n = tanh(x + r a), h = (1 - z) n + z h
//         (Cho et al., arXiv 1406.1078, as cuDNN has it; gates in the order r, z, n)
//   tanh, relu  h = that of x + a
//
// Inputs: x (T, N, G * H), gate by gate; the first h (N, P); for lstm the first c (N, H); zeros
// where they are not given. Weights: W_hh (G * H, P), b_hh (G * H) or none, and for lstm W_hr (P,
// H) or none, by which h is multiplied before it is given away; without it P is H. Output (T, N,
// P): h after each step. For lstm (T + 1, N, H), zeros beside h, the last row c.
#pragma once

#include "core/operation.hpp"

namespace ai3 {

struct Recurrence {
    static constexpr std::string_view op = "recurrence";
    enum class Cell { lstm, gru, tanh, relu };

    // Attributes: cell, reverse.
    Recurrence(const std::vector<Spec>& inputs, const WeightSet& weights,
               const Attributes& attributes, int threads);

    Spec output() const { return {dtype, {T + (cell == Cell::lstm), N, width()}}; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const Recurrence&) { return "direct"; }

    Index width() const { return cell == Cell::lstm ? H : P; }
    // The step that is done as number `i`.
    Index step(Index i) const { return reverse ? T - 1 - i : i; }

    DType dtype;
    Cell cell;
    bool reverse, has_bias, has_projection;
    std::size_t given;  // how many inputs
    Index T, N, G, H, P;
    int threads;
};

}  // namespace ai3
