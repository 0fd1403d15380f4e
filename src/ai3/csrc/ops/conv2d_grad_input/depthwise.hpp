// The derivative by the input where each channel is convolved by itself with a stride, vectors
// along the columns. A row of the image meets the elements of the kernel of its phase alone; its
// columns are computed for each phase of theirs, from a copy of the gradient with zeros around it,
// and put side by side.
#pragma once

#include "core/simd.hpp"
#include "ops/conv2d_grad_input/op.hpp"

namespace ai3 {

template <typename T>
class DepthwiseGradInput final : public Plan {
    static constexpr Index W = lanes<T>;

    // Along one axis, the positions stride * i + remainder of the image, from the first on: what
    // they sum up of the gradient. No taps: nothing.
    struct Phase {
        Index first, step, taps;  // elements of the kernel
        Index from, dilation;     // of the first, and how far before it that of the next lies
    };
    struct Axis {
        Index stride, before, after;  // zeros around the gradient
        std::vector<Phase> phases;    // by remainder

        Axis(const std::vector<AxisPhase>& found, Index stride, Index dilation, Index pad,
             Index extent, Index outputs)
            : stride(stride), before(0), after(0), phases(std::size_t(stride), Phase{}) {
            for (const AxisPhase& phase : found) {
                const Index begin = phase.residue + phase.needed_begin * stride - pad;
                if (begin >= extent) continue;
                const Index from = phase.needed_begin - phase.first * dilation / stride;
                const Index last = from + (extent - 1 - begin) / stride;
                phases[std::size_t(begin)] = {phase.first, phase.step, phase.taps, from,
                                              phase.dilation};
                before = std::max(before, (phase.taps - 1) * phase.dilation - from);
                after = std::max(after, last + 1 - outputs);
            }
        }
    };

  public:
    DepthwiseGradInput(const Conv2dGradInput& problem, const WeightSet& weights)
        : p(problem.forward),
          rows(problem.rows, p.stride_h, p.dilation_h, p.pad_top, p.IH, p.OH),
          columns(problem.columns, p.stride_w, p.dilation_w, p.pad_left, p.IW, p.OW),
          width(width_of(columns, p)) {
        const T* from = weights.data<T>(0);
        kernels.assign(from, from + p.OC * p.KH * p.KW);
    }

    static std::size_t workspace_bytes(const Conv2dGradInput& problem) {
        const Conv2d& p = problem.forward;
        const Axis rows(problem.rows, p.stride_h, p.dilation_h, p.pad_top, p.IH, p.OH);
        const Axis columns(problem.columns, p.stride_w, p.dilation_w, p.pad_left, p.IW, p.OW);
        return std::size_t(p.threads) * thread_bytes(rows, width_of(columns, p), p);
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const T* grad = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        parallel_for(p.threads, p.N * p.IC, [&](Index plane, int thread) {
            T* copy = reinterpret_cast<T*>(workspace +
                                           std::size_t(thread) * thread_bytes(rows, width, p));
            surround(grad + plane * p.OH * p.OW, copy);
            const T* from = copy + rows.before * width + columns.before;
            const T* kernel = kernels.data() + plane % p.IC * p.KH * p.KW;
            T* to = out + plane * p.IH * p.IW;
            for (Index ih = 0; ih < p.IH; ++ih, to += p.IW) {
                const Phase& row = rows.phases[std::size_t(ih % rows.stride)];
                const T* line = from + (row.from + ih / rows.stride) * width;
                if (row.taps == 0)
                    std::fill(to, to + p.IW, T(0));
                else if (columns.stride == 1)
                    every_column(row, kernel, line, to);
                else if (columns.stride == 2)
                    pairs_of_columns(row, kernel, line, to);
                else
                    strided_columns(row, kernel, line, to);
            }
        });
    }

  private:
    // Vectors are read whole.
    static Index width_of(const Axis& columns, const Conv2d& p) {
        return columns.before + p.OW + columns.after + W;
    }
    static std::size_t thread_bytes(const Axis& rows, Index width, const Conv2d& p) {
        return align_up(std::size_t((rows.before + p.OH + rows.after) * width) * sizeof(T));
    }

    void surround(const T* grad, T* to) const {
        std::fill(to, to + rows.before * width, T(0));
        to += rows.before * width;
        for (Index oh = 0; oh < p.OH; ++oh, to += width) {
            const T* row = grad + oh * p.OW;
            T* inside = to + columns.before;
            for (Index w = 0; w < columns.before; w += W) store(to + w, Vec<T>{});
            for (Index w = 0; w < p.OW + columns.after; w += W)
                store(inside + w,
                      LaneMask<T>::first(std::clamp<Index>(p.OW - w, 0, W)).load(row + w));
        }
        std::fill(to, to + rows.after * width, T(0));
    }

    // A vector of the positions of one phase of the columns.
    Vec<T> sum_of(const Phase& row, const Phase& column, const T* kernel, const T* line) const {
        Vec<T> total{};
        kernel += row.first * p.KW + column.first;
        line += column.from;
        for (Index t = 0; t < row.taps; ++t) {
            const T* weights = kernel + t * row.step * p.KW;
            const T* from = line - t * row.dilation * width;
            for (Index u = 0; u < column.taps; ++u)
                total += broadcast(weights[u * column.step]) * load(from - u * column.dilation);
        }
        return total;
    }

    void every_column(const Phase& row, const T* kernel, const T* line, T* to) const {
        const Phase& column = columns.phases[0];
        for (Index i = 0; i < p.IW; i += W)
            LaneMask<T>::first(std::min(W, p.IW - i))
                .store(to + i, sum_of(row, column, kernel, line + i));
    }

    void pairs_of_columns(const Phase& row, const T* kernel, const T* line, T* to) const {
        const Phase &even = columns.phases[0], &odd = columns.phases[1];
        for (Index i = 0; 2 * i < p.IW; i += W) {
            Vec<T> low = sum_of(row, even, kernel, line + i);
            Vec<T> high = sum_of(row, odd, kernel, line + i);
            interleave(low, high, std::make_integer_sequence<int, W>{});
            const Index left = p.IW - 2 * i;
            LaneMask<T>::first(std::min(W, left)).store(to + 2 * i, low);
            if (left > W) LaneMask<T>::first(std::min(W, left - W)).store(to + 2 * i + W, high);
        }
    }

    void strided_columns(const Phase& row, const T* kernel, const T* line, T* to) const {
        for (Index s = 0; s < std::min(columns.stride, p.IW); ++s) {
            const Phase& column = columns.phases[std::size_t(s)];
            const Index count = (p.IW - s + columns.stride - 1) / columns.stride;
            for (Index i = 0; i < count; i += W) {
                alignas(cache_line) T sums[W];
                store(sums, sum_of(row, column, kernel, line + i));
                for (Index l = 0; l < std::min(W, count - i); ++l)
                    to[(i + l) * columns.stride + s] = sums[l];
            }
        }
    }

    // a0 b0 a1 b1 ..., the first half to `a`, the second to `b`.
    template <int... L>
    static void interleave(Vec<T>& a, Vec<T>& b, std::integer_sequence<int, L...>) {
        const Vec<T> first = __builtin_shufflevector(a, b, (L / 2 + (L & 1) * int(W))...);
        b = __builtin_shufflevector(a, b, ((L + int(W)) / 2 + (L & 1) * int(W))...);
        a = first;
    }

    Conv2d p;
    Axis rows, columns;
    Index width;
    std::vector<T> kernels;
};

}  // namespace ai3
