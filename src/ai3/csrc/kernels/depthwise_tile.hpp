// The register tile of a depthwise convolution with vectors along channels: PX neighbouring pixels
// of one vector of channels. Each loaded input vector serves all elements of a kernel's row. What
// of the kernel lies beside the image is left out.
#pragma once

#include "kernels/epilogue.hpp"

namespace ai3 {

constexpr int most_depthwise_pixels = accumulators / 2;

// What the tiles of a row of outputs share.
template <typename T>
struct DepthwiseRow {
    const T* const* rows;  // for each row of the kernel column 0 of the input row under it
    Index begin, end;      // rows of the kernel that lie on the image
    Index columns;         // of the image
    Index pixel;           // from an input pixel to the next
    Index KW;
    Index step, dilation;  // in input pixels: between outputs, between elements of the kernel
    const T* weights;      // (KH, KW, lanes), after the bias (lanes)
    Index out_pixel;
    LaneMask<T> live;  // what is stored
    bool relu;         // whether what is negative becomes zero first
};

// Writes neighbouring pixels of one vector of channels, whose kernels begin at input column
// `column`.
template <typename T>
using DepthwiseTile = void (*)(const DepthwiseRow<T>& r, Index column, T* out,
                               const Epilogue<T>& epilogue);

// The tile of `pixels`, at most most_depthwise_pixels, for kernels of width KW.
template <typename T>
DepthwiseTile<T> find_depthwise_tile(Index KW, Index step, Index dilation, Index pixels);

}  // namespace ai3
