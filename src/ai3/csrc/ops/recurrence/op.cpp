#include "ops/recurrence/op.hpp"

#include <cmath>

#include "core/custom.hpp"
#include "core/shape.hpp"
#include "custom/recurrence.hpp"

namespace ai3 {

namespace {

[[noreturn]] void refuse(const std::string& what) {
    throw std::invalid_argument("recurrence: " + what);
}

Recurrence::Cell cell_of(const std::string& name) {
    if (name == "lstm") return Recurrence::Cell::lstm;
    if (name == "gru") return Recurrence::Cell::gru;
    if (name == "tanh") return Recurrence::Cell::tanh;
    if (name == "relu") return Recurrence::Cell::relu;
    refuse("cell must be 'lstm', 'gru', 'tanh' or 'relu', not '" + name + "'");
}

void expect(const char* what, const Spec& spec, DType dtype, const Shape& shape) {
    if (spec.dtype != dtype || spec.shape != shape)
        refuse(std::string(what) + " must be " + to_string(Spec{dtype, shape}) + ", not " +
               to_string(spec));
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

Recurrence::Recurrence(const std::vector<Spec>& inputs, const WeightSet& weights,
                       const Attributes& attributes, int threads)
    : cell(cell_of(attributes.text("cell", ""))),
      reverse(attributes.flag("reverse", false)),
      threads(threads) {
    const bool is_lstm = cell == Cell::lstm;
    given = inputs.size();
    if (given < 1 || given > (is_lstm ? 3u : 2u) || !weights.get(0) || weights.size() > 3)
        refuse("takes what the input adds to the gates, first states, and one to three weights");
    dtype = inputs[0].dtype;
    const Shape& shape = inputs[0].shape;
    const Shape& weight = weights.get(0)->spec.shape;
    G = is_lstm ? 4 : cell == Cell::gru ? 3 : 1;
    if (shape.size() != 3 || weight.size() != 2 || shape[2] != weight[0] || weight[0] % G)
        refuse("input (T, N, G * H) and weight (G * H, P) do not go together: " +
               to_string(inputs[0]) + ", " + to_string(weight) + " with " + std::to_string(G) +
               " gates");
    T = shape[0], N = shape[1], H = shape[2] / G, P = weight[1];
    expect("the weight", weights.get(0)->spec, dtype, {G * H, P});
    has_bias = weights.get(1);
    has_projection = weights.get(2);
    if (has_bias) expect("the bias", weights.get(1)->spec, dtype, {G * H});
    if (has_projection) {
        if (!is_lstm) refuse("only lstm has a projection");
        if (P > H) refuse("a projection gives at most as many elements as it takes");
        expect("the projection", weights.get(2)->spec, dtype, {P, H});
    } else if (P != H) {
        refuse("the weight " + to_string(weight) + " is for another state than it gives");
    }
    if (given > 1) expect("the first h", inputs[1], dtype, {N, P});
    if (given > 2) expect("the first c", inputs[2], dtype, {N, H});
    elements(shape);
    elements(output().shape);
}

void Recurrence::reference(const void* const* inputs, const WeightSet& weights,
                           void* output) const {
    with_type(dtype, [&](auto zero) {
        using S = decltype(zero);
        const S* x = static_cast<const S*>(inputs[0]);
        const S* weight = weights.data<S>(0);
        const S* bias = weights.data<S>(1);
        const S* projection = weights.data<S>(2);
        S* out = static_cast<S*>(output);
        const Index row = N * width();
        for (Index n = 0; n < N; ++n) {
            std::vector<double> h(std::size_t(P), 0), c(std::size_t(H), 0);
            if (given > 1)
                for (Index j = 0; j < P; ++j)
                    h[std::size_t(j)] = double(static_cast<const S*>(inputs[1])[n * P + j]);
            if (given > 2)
                for (Index j = 0; j < H; ++j)
                    c[std::size_t(j)] = double(static_cast<const S*>(inputs[2])[n * H + j]);
            for (Index i = 0; i < T; ++i) {
                const Index t = step(i);
                std::vector<double> next(std::size_t(H), 0);
                for (Index j = 0; j < H; ++j) {
                    double from_input[4], from_state[4];
                    for (Index g = 0; g < G; ++g) {
                        from_input[g] = double(x[((t * N + n) * G + g) * H + j]);
                        from_state[g] = bias ? double(bias[g * H + j]) : 0;
                        for (Index k = 0; k < P; ++k)
                            from_state[g] +=
                                double(weight[(g * H + j) * P + k]) * h[std::size_t(k)];
                    }
                    const auto sum = [&](int g) { return from_input[g] + from_state[g]; };
                    double& state = c[std::size_t(j)];
                    switch (cell) {
                        case Cell::lstm:
                            state = sigmoid(sum(1)) * state + sigmoid(sum(0)) * std::tanh(sum(2));
                            next[std::size_t(j)] = sigmoid(sum(3)) * std::tanh(state);
                            break;
                        case Cell::gru: {
                            const double r = sigmoid(sum(0)), z = sigmoid(sum(1));
                            const double fresh = std::tanh(from_input[2] + r * from_state[2]);
                            next[std::size_t(j)] = (1 - z) * fresh + z * h[std::size_t(j)];
                            break;
                        }
                        case Cell::tanh:
                            next[std::size_t(j)] = std::tanh(sum(0));
                            break;
                        case Cell::relu:
                            next[std::size_t(j)] = sum(0) < 0 ? 0 : sum(0);
                    }
                }
                if (projection) {
                    for (Index k = 0; k < P; ++k) {
                        h[std::size_t(k)] = 0;
                        for (Index j = 0; j < H; ++j)
                            h[std::size_t(k)] +=
                                double(projection[k * H + j]) * next[std::size_t(j)];
                    }
                } else {
                    h = next;
                }
                for (Index j = 0; j < width(); ++j)
                    out[t * row + n * width() + j] = j < P ? S(h[std::size_t(j)]) : S(0);
            }
            if (cell == Cell::lstm)
                for (Index j = 0; j < H; ++j) out[T * row + n * H + j] = S(c[std::size_t(j)]);
        }
    });
}

namespace {
const OperationOf<Recurrence> operation;
AI3_REGISTER_CUSTOM(recurrence, Recurrence, 3, 3);
}  // namespace

}  // namespace ai3
