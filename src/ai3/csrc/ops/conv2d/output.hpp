// Where the output of a convolution is better written past the caches.
#pragma once

#include "core/simd.hpp"
#include "ops/conv2d/op.hpp"

namespace ai3 {

// Whether an output is so large that its first lines have left the caches before the last is
// written. Writing past them saves reading each line before it is overwritten. Also needs planes
// that begin on a vector's boundary.
template <typename T>
bool streams(const Conv2d& p, const T* out) {
    constexpr Index bytes = Index{24} << 20;
    return elements(p.output().shape) * Index(sizeof(T)) > bytes && p.OH * p.OW % lanes<T> == 0 &&
           reinterpret_cast<std::uintptr_t>(out) % sizeof(Vec<T>) == 0;
}

}  // namespace ai3
