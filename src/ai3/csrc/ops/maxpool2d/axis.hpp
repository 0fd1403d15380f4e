// Where windows lie along the dimensions of a plane.
#pragma once

#include "ops/maxpool2d/window.hpp"

namespace ai3 {

// The windows along one dimension of a plane: `most` elements from o * stride - pad on, `step`
// apart, or, where stride is 0, bins that cover the plane evenly.
struct Axis {
    Index extent, outputs, most, step = 1, stride = 0, pad = 0;

    static Axis bins(Index extent, Index outputs) {
        const Index each = extent / outputs;
        if (extent % outputs == 0) return {extent, outputs, each, 1, each, 0};
        return {extent, outputs, each + 2};
    }

    Span span(Index o) const {
        if (stride == 0) return bin(o, extent, outputs);
        const Index start = o * stride - pad, skipped = start < 0 ? (-start + step - 1) / step : 0;
        const Index end = std::min(most, (extent - start + step - 1) / step);
        return {start + skipped * step, std::max<Index>(end - skipped, 0)};
    }

    std::vector<Span> spans() const {
        std::vector<Span> spans;
        for (Index o = 0; o < outputs; ++o) spans.push_back(span(o));
        return spans;
    }

    bool whole() const { return outputs == 1 && span(0).count == extent; }
};

struct Axes {
    Axis h, w;
};

inline Axes axes(const Pooling2d& p) {
    return {{p.IH, p.OH, p.KH, p.dilation_h, p.stride_h, p.pad_h},
            {p.IW, p.OW, p.KW, p.dilation_w, p.stride_w, p.pad_w}};
}

}  // namespace ai3
