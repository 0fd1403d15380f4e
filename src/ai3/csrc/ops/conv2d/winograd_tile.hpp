// What the algorithms by Winograd's minimal filtering share, whatever they compute: their names,
// the convolutions they are for, and the extents of the work. A tile is m of F(m x m, r x r); as a
// name's, 0 is the best for the shape.
#pragma once

#include <cmath>

#include "ops/conv2d/op.hpp"

namespace ai3 {

constexpr std::string_view winograd_name(Index tile) {
    return tile == 2   ? "winograd f2"
           : tile == 4 ? "winograd f4"
           : tile == 6 ? "winograd f6"
                       : "winograd";
}

// `most_5x5` is the largest tile for kernels of 5x5.
inline std::string winograd_refusal(const Conv2d& p, Index tile, Index most_5x5) {
    const bool takes_5x5 = tile <= most_5x5;
    if (p.KH != p.KW || (p.KH != 3 && (p.KH != 5 || !takes_5x5)))
        return "the kernel is " + std::to_string(p.KH) + "x" + std::to_string(p.KW) +
               (takes_5x5 ? ", not 3x3 or 5x5" : ", not 3x3");
    if (p.stride_h != 1 || p.stride_w != 1) return "the stride is above 1";
    if (p.dilation_h != 1 || p.dilation_w != 1) return "the dilation is above 1";
    return {};
}

// Of one group, in vectors of W channels; positions are those of a transformed tile.
struct WinogradExtents {
    double W, positions, tiles, ic, oc;

    WinogradExtents(const Conv2d& p, Index m)
        : W(double(channel_block(p.dtype))),
          positions(double((m + p.KH - 1) * (m + p.KH - 1))),
          tiles(double(p.N) * double((p.OH + m - 1) / m) * double((p.OW + m - 1) / m)),
          ic(std::ceil(double(p.group_ic()) / W)),
          oc(std::ceil(double(p.group_oc()) / W)) {}
};

}  // namespace ai3
