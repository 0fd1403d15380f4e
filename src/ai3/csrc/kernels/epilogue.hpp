// What a kernel does to its sums while they are in registers: adds a residual, then activates.
#pragma once

#include "core/parallel.hpp"
#include "core/simd.hpp"
#include "kernels/activation.hpp"

namespace ai3 {

template <typename T>
struct Epilogue {
    Activation activation = Activation::none;
    Lane<T> parameter = 0;
    // Laid out as the output is, or null.
    const T* residual = nullptr;
    const T* output = nullptr;

    bool empty() const { return !residual && activation == Activation::none; }
    // Whether it is relu and nothing else, which kernels do while they still hold the sums.
    bool relu() const { return !residual && activation == Activation::relu; }

    // Of the sums that will be stored to `at`, a place in the output.
    Vec<T> operator()(Vec<T> sums, const T* at) const {
        if (residual) sums += load(residual + (at - output));
        return activate(activation, parameter, sums);
    }
    Vec<T> operator()(Vec<T> sums, const T* at, LaneMask<T> live) const {
        if (residual) sums += live.load(residual + (at - output));
        return activate(activation, parameter, sums);
    }
};

// Applies it to the live ones of a vector of sums at `out`.
template <typename T>
inline void apply(const Epilogue<T>& epilogue, T* out, LaneMask<T> live) {
    live.store(out, epilogue(live.load(out), out, live));
}

// Applies it to `n` vectors of sums, `stride` elements apart, from `out` on.
template <typename T>
inline void apply_to_vectors(const Epilogue<T>& epilogue, T* out, Index stride, Index n) {
    if (epilogue.empty()) return;
    const T* addend = epilogue.residual ? epilogue.residual + (out - epilogue.output) : nullptr;
    activate_vectors(epilogue.activation, epilogue.parameter, out, stride, n, addend);
}

// Applies it to `count` sums at `out`, for kernels that cannot do so in registers.
template <typename T>
void apply(const Epilogue<T>& epilogue, T* out, Index count, int threads) {
    if (epilogue.empty()) return;
    parallel_ranges(threads, count, 1 << 14, [&](Index begin, Index end) {
        for (Index i = begin; i < end; i += lanes<T>)
            apply(epilogue, out + i, LaneMask<T>::first(std::min<Index>(lanes<T>, end - i)));
    });
}

}  // namespace ai3
