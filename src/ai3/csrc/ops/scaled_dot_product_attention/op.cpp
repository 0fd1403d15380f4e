#include "ops/scaled_dot_product_attention/op.hpp"

#include <cmath>

#include "core/custom.hpp"
#include "core/shape.hpp"
#include "custom/scaled_dot_product_attention.hpp"

namespace ai3 {

ScaledDotProductAttention::ScaledDotProductAttention(const std::vector<Spec>& inputs,
                                                     const WeightSet& weights,
                                                     const Attributes& attributes, int threads)
    : is_causal(attributes.flag("is_causal", false)), threads(threads) {
    const auto refuse = [](const std::string& what) {
        throw std::invalid_argument(std::string(op) + ": " + what);
    };
    if (inputs.size() < 3 || inputs.size() > 4 || weights.size() != 0)
        refuse("takes query, key, value, an optional mask, and no weights");
    const Shape &query = inputs[0].shape, &key = inputs[1].shape, &value = inputs[2].shape;
    dtype = inputs[0].dtype;
    for (const Spec& input : inputs)
        if (input.dtype != dtype)
            refuse("all inputs must be " + std::string(name_of(dtype)) + ", unlike " +
                   to_string(input));
    const std::size_t rank = query.size();
    const auto fits = [&](const Shape& other) {
        return other.size() == rank && std::equal(query.begin(), query.end() - 2, other.begin());
    };
    if (rank < 2 || !fits(key) || !fits(value) || key.back() != query.back() ||
        value[rank - 2] != key[rank - 2])
        refuse("query (*, L, E), key (*, S, E) and value (*, S, EV) do not go together: " +
               to_string(inputs[0]) + ", " + to_string(inputs[1]) + ", " + to_string(inputs[2]));
    L = query[rank - 2], S = key[rank - 2], E = query.back(), EV = value.back();
    batch = elements({query.begin(), query.end() - 2});
    shape = query;
    shape.back() = EV;
    elements(shape), elements(query), elements(key), elements(value);
    scale = attributes.real("scale", E ? 1 / std::sqrt(double(E)) : 0);

    scores_shape = query;
    scores_shape.back() = S;
    given = inputs.size();
    if (has_mask()) {
        if (is_causal) refuse("takes a mask or is_causal, not both");
        if (inputs[3].shape.size() > rank ||
            broadcast_shape(op, inputs[3].shape, scores_shape) != scores_shape)
            refuse("the mask " + to_string(inputs[3]) + " cannot be broadcast to " +
                   to_string(scores_shape));
        mask_strides = broadcast_strides(inputs[3].shape, scores_shape);
    }
}

Index ScaledDotProductAttention::mask_offset(Index i) const {
    Index at = 0;
    for (std::size_t d = scores_shape.size() - 2; d-- > 0; i /= scores_shape[d])
        at += i % scores_shape[d] * mask_strides[d];
    return at;
}

void ScaledDotProductAttention::reference(const void* const* inputs, const WeightSet&,
                                          void* output) const {
    with_type(dtype, [&](auto zero) {
        using T = decltype(zero);
        const auto input = [&](std::size_t i) { return static_cast<const T*>(inputs[i]); };
        T* out = static_cast<T*>(output);
        std::vector<double> weights(static_cast<std::size_t>(S));
        for (Index i = 0; i < batch; ++i)
            for (Index l = 0; l < L; ++l) {
                const T* query = input(0) + (i * L + l) * E;
                const T* mask = nullptr;
                if (has_mask())
                    mask = input(3) + mask_offset(i) + l * mask_strides[mask_strides.size() - 2];
                double most = -INFINITY, total = 0;
                for (Index s = 0; s < keys(l); ++s) {
                    double score = 0;
                    for (Index e = 0; e < E; ++e)
                        score += double(query[e]) * double(input(1)[(i * S + s) * E + e]);
                    score = score * scale + (mask ? double(mask[s * mask_strides.back()]) : 0);
                    weights[std::size_t(s)] = score;
                    most = score > most || std::isnan(score) ? score : most;
                }
                for (Index s = 0; s < keys(l); ++s) {
                    double& weight = weights[std::size_t(s)];
                    weight = most == -INFINITY ? 0 : std::exp(weight - most);
                    total += weight;
                }
                for (Index e = 0; e < EV; ++e) {
                    double sum = 0;
                    for (Index s = 0; s < keys(l); ++s)
                        sum += weights[std::size_t(s)] * double(input(2)[(i * S + s) * EV + e]);
                    *out++ = T(total == 0 ? 0 : sum / total);
                }
            }
    });
}

namespace {
const OperationOf<ScaledDotProductAttention> operation;
AI3_REGISTER_CUSTOM(scaled_dot_product_attention, ScaledDotProductAttention, 4, 0);
}  // namespace

}  // namespace ai3
