// Results computed element by element, limited by memory.
#pragma once

#include "core/parallel.hpp"
#include "core/simd.hpp"

namespace ai3 {

// Fewer elements than this are not worth another thread.
constexpr Index elementwise_grain = 1 << 15;

// Whether `size` results are written past the caches, in runs of `run`; not in place, as then they
// have been read.
template <typename T>
bool written_past_cache(Index size, Index run, const T* in, const T* out) {
    return size * Index(sizeof(T)) >= cached_bytes && run >= 1 << 12 && in != out;
}

// out[i] for i in [begin, end) by whole vectors: value(at) is the vector of elements from `i` on,
// where at(p) reads that of the array p, which may be of T or what T is computed with.
template <typename T, typename Value>
void compute_elements(T* out, Index begin, Index end, bool past_cache, Value value) {
    constexpr Index W = lanes<T>;
    Index i = begin;
    const auto some = [&](Index n) {
        const auto mask = LaneMask<T>::first(n);
        mask.store(out + i, value([&]<typename From>(const From* p) {
                       return LaneMask<From>(mask.bits()).load(p + i);
                   }));
        i += n;
    };
    const auto at = [&](const auto* p) { return load(p + i); };
    if (std::is_same_v<T, Lane<T>> && past_cache) {
        const Index ahead = Index(reinterpret_cast<std::uintptr_t>(out + i) / sizeof(T)) % W;
        some(std::min((W - ahead) % W, end - i));
        if constexpr (std::is_same_v<T, Lane<T>>)
            for (; i + W <= end; i += W) stream(out + i, value(at));
        stream_fence();
    } else {
        for (; i + W <= end; i += W) store(out + i, value(at));
    }
    some(end - i);
}

// out[i] = f(in[i]) for `size` elements; f is of vectors. Right in place too.
template <typename T, typename F>
void map_elements(const T* in, T* out, Index size, int threads, F f) {
    const bool past_cache = written_past_cache(size, size, in, out);
    parallel_ranges(threads, size, elementwise_grain, [&](Index begin, Index end) {
        compute_elements(out, begin, end, past_cache, [&](auto at) { return f(at(in)); });
    });
}

}  // namespace ai3
