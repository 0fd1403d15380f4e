#include "ops/interpolate/op.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/custom.hpp"
#include "custom/interpolate.hpp"
#include "kernels/remap.hpp"

namespace ai3 {

namespace {

[[noreturn]] void refuse(const std::string& what) {
    throw std::invalid_argument("interpolate: " + what);
}

// The kernel of cubic convolution at the distance x.
double cubic(double x) {
    constexpr double a = -0.75;
    x = std::abs(x);
    if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

// `step` is how many input elements one output element is.
AxisTaps taps_of(const std::string& mode, DType dtype, Index in, Index out, double step,
                 bool align_corners) {
    AxisTaps axis;
    const auto add = [&](Index i, double weight) {
        axis.index.push_back(std::clamp<Index>(i, 0, in - 1));
        axis.weight.push_back(weight);
    };
    const std::size_t taps = mode == "bilinear" ? 2 : mode == "bicubic" ? 4 : 1;
    axis.index.reserve(taps * std::size_t(out)), axis.weight.reserve(taps * std::size_t(out));
    for (Index o = 0; o < out; ++o) {
        if (mode == "nearest" || mode == "nearest-exact") {
            // Where rounding decides, it is that of what the image's dtype is computed with.
            const double offset = mode == "nearest" ? 0 : 0.5;
            const double at = dtype == DType::f64
                                  ? std::floor((double(o) + offset) * step)
                                  : double(std::floor((float(o) + float(offset)) * float(step)));
            add(Index(at), 1);
            continue;
        }
        double at = align_corners ? double(o) * step : (double(o) + 0.5) * step - 0.5;
        if (mode == "bilinear") {
            at = std::max(at, 0.0);
            const double first = std::floor(at);
            add(Index(first), 1 - (at - first));
            add(Index(first) + 1, at - first);
        } else {
            const double first = std::floor(at);
            for (int k = -1; k <= 2; ++k) add(Index(first) + k, cubic(at - first - k));
        }
    }
    return axis;
}

}  // namespace

Interpolate::Interpolate(const std::vector<Spec>& inputs, const WeightSet& weights,
                         const Attributes& attributes, int threads)
    : threads(threads) {
    if (inputs.size() != 1 || weights.size() != 0) refuse("takes one input and no weights");
    dtype = inputs[0].dtype;
    const Shape& shape = inputs[0].shape;
    if (shape.size() != 4) refuse("input must be (N, C, H, W), not " + to_string(shape));
    N = shape[0], C = shape[1], IH = shape[2], IW = shape[3];
    elements(shape);

    const std::string mode = attributes.text("mode", "nearest");
    constexpr std::array<std::string_view, 4> modes{"nearest", "nearest-exact", "bilinear",
                                                    "bicubic"};
    if (std::find(modes.begin(), modes.end(), mode) == modes.end())
        refuse("mode must be 'nearest', 'nearest-exact', 'bilinear' or 'bicubic', not '" + mode +
               "'");
    taps = mode == "bilinear" ? 2 : mode == "bicubic" ? 4 : 1;
    const bool align_corners = attributes.flag("align_corners", false);
    if (align_corners && taps == 1) refuse("align_corners is for 'bilinear' and 'bicubic'");
    if (attributes.has("size") == attributes.has("scale_factor"))
        refuse("needs either size or scale_factor");

    std::vector<double> factors;
    if (attributes.has("size")) {
        const auto size = attributes.integers("size", 2, {});
        OH = size[0], OW = size[1];
    } else {
        factors = attributes.reals("scale_factor", 2);
        const auto scaled = [](Index extent, double factor) {
            const double result = std::floor(double(extent) * factor);
            if (!(result >= 0 && result < 1e15))
                refuse("scale_factor " + std::to_string(factor) + " is out of range");
            return Index(result);
        };
        OH = scaled(IH, factors[0]), OW = scaled(IW, factors[1]);
        if (attributes.flag("recompute_scale_factor", false)) factors.clear();
    }
    if (OH < 1 || OW < 1 || IH < 1 || IW < 1)
        refuse("sizes must be at least 1, but the input is " + to_string({IH, IW}) +
               " and the output " + to_string({OH, OW}));
    elements(output().shape);
    check_places(op, OH, IH), check_places(op, OW, IW);
    // More than any memory holds: no tables are made for it.
    constexpr Index most = Index{1} << 42;
    if (elements({N, C, OH, OW}) > most)
        refuse("an output of " + to_string(Shape{N, C, OH, OW}) + " has more than 2^42 elements");
    const auto step = [&](Index in, Index out, std::size_t axis) {
        if (align_corners) return out > 1 ? double(in - 1) / double(out - 1) : 0.0;
        return factors.empty() ? double(in) / double(out) : 1 / factors[axis];
    };
    rows = taps_of(mode, dtype, IH, OH, step(IH, OH, 0), align_corners);
    columns = taps_of(mode, dtype, IW, OW, step(IW, OW, 1), align_corners);
}

void Interpolate::reference(const void* const* inputs, const WeightSet&, void* output) const {
    with_type(dtype, [&](auto zero) {
        using T = decltype(zero);
        const T* plane = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        for (Index i = 0; i < N * C; ++i, plane += IH * IW)
            for (Index oh = 0; oh < OH; ++oh)
                for (Index ow = 0; ow < OW; ++ow) {
                    double total = 0;
                    for (Index h = oh * taps; h < (oh + 1) * taps; ++h)
                        for (Index w = ow * taps; w < (ow + 1) * taps; ++w)
                            total += double(plane[rows.index[std::size_t(h)] * IW +
                                                  columns.index[std::size_t(w)]]) *
                                     rows.weight[std::size_t(h)] * columns.weight[std::size_t(w)];
                    *out++ = T(total);
                }
    });
}

namespace {
const OperationOf<Interpolate> operation;
AI3_REGISTER_CUSTOM(interpolate, Interpolate, 1, 0);
}  // namespace

}  // namespace ai3
