// Pooling over planes (N * C, IH, IW). A work-item has one pixel of the output, neighbouring lanes
// have neighbouring ones; windows overlap in what caches hold.
#include "tile.hpp"

using namespace ai3;

struct Window {
    int in, out, kernel, stride, dilation, pad;
};

struct Pooling {
    int divisor;  // of averages: 0 for the number of elements
    int counts_padding;
    Window h, w;
};

namespace {

// The rows or columns of a window, begin + i * step for i in [first, last).
struct Range {
    int begin, step, first, last;

    // Of those inside of the image.
    Range(const Window& p, int o) : begin(o * p.stride - p.pad), step(p.dilation) {
        first = begin < 0 ? ceil_div(-begin, step) : 0;
        last = sycl::min(p.kernel, begin < p.in ? ceil_div(p.in - begin, step) : 0);
    }
    // Of adaptive pooling: floor(o * in / out) to ceil((o + 1) * in / out).
    Range(int in, int out, int o) : step(1), first(0) {
        begin = int(long(o) * in / out);
        last = int((long(o + 1) * in + out - 1) / out) - begin;
    }
    int size() const { return last - first; }
};

int counted(const Window& p, int o, bool padding) {
    const int margin = padding ? p.pad : 0, start = o * p.stride - p.pad;
    return sycl::min(start + p.kernel, p.in + margin) - sycl::max(start, -margin);
}

template <typename Add>
void each(const float* plane, int width, const Range& h, const Range& w, Add add) {
    for (int kh = h.first; kh < h.last; ++kh) {
        const float* row = plane + long(h.begin + kh * h.step) * width;
        for (int kw = w.first; kw < w.last; ++kw) add(row[w.begin + kw * w.step]);
    }
}

float sum(const float* plane, int width, const Range& h, const Range& w) {
    float total = 0;
    each(plane, width, h, w, [&](float value) { total += value; });
    return total;
}

// The output's pixel of this work-item, (plane, row, column).
struct Pixel {
    int plane, oh, ow;
    bool valid;

    explicit Pixel(const Pooling& p) {
        const auto item = here::get_nd_item<3>();
        plane = item.get_global_id(0), oh = item.get_global_id(1), ow = item.get_global_id(2);
        valid = oh < p.h.out && ow < p.w.out;
    }
    long input(const Pooling& p) const { return long(plane) * p.h.in * p.w.in; }
    long output(const Pooling& p) const { return (long(plane) * p.h.out + oh) * p.w.out + ow; }
};

}  // namespace

AI3_KERNEL(3)
maxpool2d_direct(const float* x, float* y, Pooling p) {
    const Pixel at(p);
    if (!at.valid) return;
    float largest = -std::numeric_limits<float>::infinity();
    each(x + at.input(p), p.w.in, Range(p.h, at.oh), Range(p.w, at.ow), [&](float value) {
        // NaN wins.
        if (value > largest || sycl::isnan(value)) largest = value;
    });
    y[at.output(p)] = largest;
}

AI3_KERNEL(3)
avgpool2d_direct(const float* x, float* y, Pooling p) {
    const Pixel at(p);
    if (!at.valid) return;
    const float total = sum(x + at.input(p), p.w.in, Range(p.h, at.oh), Range(p.w, at.ow));
    const float divisor = p.divisor ? float(p.divisor)
                                    : float(counted(p.h, at.oh, p.counts_padding)) *
                                          float(counted(p.w, at.ow, p.counts_padding));
    y[at.output(p)] = total / divisor;
}

AI3_KERNEL(3)
adaptiveavgpool2d_direct(const float* x, float* y, Pooling p) {
    const Pixel at(p);
    if (!at.valid) return;
    const Range h(p.h.in, p.h.out, at.oh), w(p.w.in, p.w.out, at.ow);
    y[at.output(p)] = sum(x + at.input(p), p.w.in, h, w) / (float(h.size()) * float(w.size()));
}
