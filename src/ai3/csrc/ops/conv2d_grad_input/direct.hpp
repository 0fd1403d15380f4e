// The derivative by the input, directly, from each pixel of the gradient to those that it came
// from: its product with the kernels is one of matrices, (elements of the kernels of all input
// channels, OC) times (OC, pixels), for which weight and gradient are read as they are. A tile of
// elements x pixels stays in registers while the output channels go by; the sums are then added to
// the places of the image that the elements meet.
#pragma once

#include "kernels/channel_tile.hpp"
#include "ops/conv2d/op.hpp"
#include "ops/conv2d_grad_input/op.hpp"

namespace ai3 {

template <typename T>
class DirectGradInput final : public Plan {
    static constexpr Index W = lanes<T>;
    static constexpr Index width = max_vectors * W;

    static constexpr Index divide(Index n, Index by) { return (n + by - 1) / by; }

    // A task owns some input channels of some rows of one image.
    struct Schedule {
        Index span, spans;         // input channels of a task, and how many such there are
        Index part_rows, parts;    // rows of the image, with all that adds to them
        Index chunk_rows, pixels;  // of the gradient, whose sums are kept at a time
        Index depth;               // output channels whose weights are
        bool pointwise;            // sums are the output

        explicit Schedule(const Conv2d& p) {
            const Index taps = p.KH * p.KW, group_ic = p.group_ic();
            pointwise = taps == 1 && p.stride_h == 1 && p.stride_w == 1 && !p.padded();

            // Of the spans that leave enough tasks the one whose elements fill vectors best.
            const Index channels = std::max<Index>(1, p.N) * p.IC;
            const Index least = std::clamp<Index>(divide(9 * W, taps), 1, width);
            const Index most =
                std::min(std::clamp<Index>(channels / (4 * p.threads), least, width), group_ic);
            const auto waste = [&](Index n) {
                return double(divide(n * taps, W)) / double(n * taps);
            };
            span = most;
            for (Index n = most; 2 * n > most; --n)
                if (waste(n) < waste(span)) span = n;
            spans = divide(group_ic, span);

            // Rows between two parts are computed for both.
            const Index tasks = std::max<Index>(1, p.N) * p.groups * spans;
            const Index reach = (p.KH - 1) * p.dilation_h + p.stride_h;
            parts = 1;
            if (p.padding_mode == PaddingMode::zeros)
                parts = std::clamp<Index>(divide(4 * p.threads, tasks), 1,
                                          std::max<Index>(1, p.IH / (4 * reach)));
            part_rows = divide(p.IH, parts);
            parts = divide(p.IH, part_rows);

            // What a chunk reads of the gradient stays in the second-level cache, as do the
            // weights.
            constexpr Index near_bytes = Index{256} << 10;
            const Index most_pixels = std::clamp<Index>(
                near_bytes / (p.group_oc() * Index(sizeof(T))), 4 * max_pixels(max_vectors), 1024);
            chunk_rows = std::clamp<Index>(most_pixels / std::max<Index>(1, p.OW), 1,
                                           std::max<Index>(1, p.OH));
            pixels = chunk_rows * p.OW;
            depth = std::min<Index>(near_bytes / (width * Index(sizeof(T))), p.group_oc());
        }

        std::size_t weights_bytes() const { return std::size_t(depth * width) * sizeof(T); }
        std::size_t sums_bytes() const { return align_up(std::size_t(pixels * width) * sizeof(T)); }
        std::size_t thread_bytes() const { return weights_bytes() + 2 * sums_bytes(); }
    };

  public:
    DirectGradInput(const Conv2dGradInput& problem, const WeightSet& weights)
        : p(problem.forward), s(p), weight(*weights.get(0)) {
        const auto places = [&](Index outputs, Index kernel, Index stride, Index dilation,
                                Index pad, Index size) {
            std::vector<Index> found;
            for (Index k = 0; k < kernel; ++k)
                for (Index o = 0; o < outputs; ++o)
                    found.push_back(
                        padded_source(o * stride + k * dilation - pad, size, p.padding_mode));
            return found;
        };
        rows = places(p.OH, p.KH, p.stride_h, p.dilation_h, p.pad_top, p.IH);
        columns = places(p.OW, p.KW, p.stride_w, p.dilation_w, p.pad_left, p.IW);
    }

    static std::size_t workspace_bytes(const Conv2dGradInput& problem) {
        const Conv2d& p = problem.forward;
        return Schedule(p).thread_bytes() * std::size_t(p.threads);
    }

    // In cycles: a multiply-add of a vector each, what becomes of the sums, and the weights'
    // copies.
    static double cost(const Conv2dGradInput& problem) {
        const Conv2d& p = problem.forward;
        const Schedule s(p);
        const double P = double(p.N * p.OH * p.OW), oc = double(p.group_oc());
        const double vectors = double(p.groups * s.spans) * double(divide(s.span * p.KH * p.KW, W));
        const double chunks = double(p.N) * double(divide(p.OH, s.chunk_rows));
        const double halo = 1 + double((s.parts - 1) * (p.KH - 1) * p.dilation_h) / double(p.IH);
        return vectors * (halo * P * (1.05 * oc + (s.pointwise ? 6 : 14)) + 3 * chunks * oc) /
               p.threads;
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const T* grad = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        const Index tasks = p.groups * s.spans * p.N * s.parts;
        parallel_for(p.threads, tasks, [&](Index i, int thread) {
            const Index part = i % s.parts, n = i / s.parts % p.N, span = i / s.parts / p.N;
            const Index group = span / s.spans, ic = span % s.spans * s.span;
            Task task;
            task.channels = std::min(s.span, p.group_ic() - ic);
            task.begin = part * s.part_rows;
            task.end = std::min(task.begin + s.part_rows, p.IH);
            task.grad = grad + (n * p.OC + group * p.group_oc()) * p.OH * p.OW;
            task.weight = weight.as<T>() + (group * p.group_oc() * p.group_ic() + ic) * p.KH * p.KW;
            task.out = out + (n * p.IC + group * p.group_ic() + ic) * p.IH * p.IW;
            std::byte* own = workspace + std::size_t(thread) * s.thread_bytes();
            task.panel = reinterpret_cast<T*>(own);
            task.sums = reinterpret_cast<T*>(own + s.weights_bytes());
            task.turned = reinterpret_cast<T*>(own + s.weights_bytes() + s.sums_bytes());
            run_task(task);
        });
    }

  private:
    struct Task {
        Index channels;          // input channels
        Index begin, end;        // rows of the image
        const T *grad, *weight;  // of the group; of the first channel
        T* out;
        T *panel, *sums, *turned;
    };

    void run_task(const Task& task) const {
        const Index elements = task.channels * p.KH * p.KW;
        if (!s.pointwise)
            for (Index c = 0; c < task.channels; ++c)
                std::fill(task.out + c * p.IH * p.IW + task.begin * p.IW,
                          task.out + c * p.IH * p.IW + task.end * p.IW, T(0));
        Index first = 0, last = p.OH;
        if (s.parts > 1) {
            const Index reach = (p.KH - 1) * p.dilation_h;
            first = std::max<Index>(0, divide(task.begin + p.pad_top - reach, p.stride_h));
            last = std::min(p.OH, (task.end - 1 + p.pad_top) / p.stride_h + 1);
        }
        // Chunks begin at the same rows in every part, so that sums are added in the same order.
        for (Index row = first; row < last;) {
            const Index end = std::min((row / s.chunk_rows + 1) * s.chunk_rows, last);
            const Index pixels = (end - row) * p.OW;
            for (Index e = 0; e < elements; e += width) {
                const Index count = std::min(width, elements - e);
                const Index vectors = divide(count, W);
                multiply(task, row * p.OW, pixels, e, count);
                if (s.pointwise) {
                    for (Index v = 0; v < vectors; ++v)
                        turn(task.sums + v * W, vectors * W, pixels, std::min(W, count - v * W),
                             task.out + (e + v * W) * p.IH * p.IW + row * p.IW, p.IH * p.IW);
                } else {
                    for (Index v = 0; v < vectors; ++v)
                        turn(task.sums + v * W, vectors * W, pixels, std::min(W, count - v * W),
                             task.turned + v * W * pixels, pixels);
                    add(task, row, end, e, count);
                }
            }
            row = end;
        }
    }

    // The sums (pixels, vectors of elements) of the pixels from `first` on.
    void multiply(const Task& task, Index first, Index pixels, Index element, Index count) const {
        alignas(cache_line) static constexpr T zeros[width] = {};
        const Index plane = p.OH * p.OW, row = p.group_ic() * p.KH * p.KW;
        const Index vectors = divide(count, W), tiles = divide(pixels, max_pixels(int(vectors)));
        constexpr Index ahead = 16;
        for (Index oc = 0; oc < p.group_oc(); oc += s.depth) {
            const Index depth = std::min(s.depth, p.group_oc() - oc);
            const T* from = task.weight + oc * row + element;
            for (Index i = 0; i < depth; ++i, from += row) {
                // Too short a row for the processor to foresee the next.
                if (i + ahead < depth) fetch(from + ahead * row, count);
                for (Index v = 0; v < vectors; ++v)
                    store(task.panel + (i * vectors + v) * W,
                          LaneMask<T>::first(std::min(W, count - v * W)).load(from + v * W));
            }
            const auto reduction = TileReduction<T>::of_rows(depth, plane);
            for (Index t = 0; t < tiles; ++t) {
                const Index begin = pixels * t / tiles, end = pixels * (t + 1) / tiles;
                find_channel_tile(reduction, int(vectors), end - begin)(
                    reduction, task.grad + oc * plane + first + begin, task.panel,
                    oc ? nullptr : zeros, task.sums + begin * vectors * W);
            }
        }
    }

    // One vector of elements of the pixels to rows of pixels.
    static void turn(const T* sums, Index stride, Index pixels, Index elements, T* out,
                     Index plane) {
        for (Index i = 0; i < pixels; i += W)
            store_channels(sums + i * stride, stride, std::min(W, pixels - i), elements, out + i,
                           plane);
    }

    // Adds the elements' rows where they belong, those of the task.
    void add(const Task& task, Index begin, Index end, Index element, Index count) const {
        const Index taps = p.KH * p.KW, pixels = (end - begin) * p.OW;
        for (Index e = 0; e < count; ++e) {
            const Index channel = (element + e) / taps, tap = (element + e) % taps;
            const Index* places = rows.data() + tap / p.KW * p.OH;
            const Index* line = columns.data() + tap % p.KW * p.OW;
            // Those that do not lie in a padding of zeros.
            Index first = 0, last = p.OW;
            while (first < last && line[first] < 0) ++first;
            while (first < last && line[last - 1] < 0) --last;
            if (first == last) continue;
            T* out = task.out + channel * p.IH * p.IW;
            for (Index row = begin; row < end; ++row) {
                const Index ih = places[row];
                if (ih < task.begin || ih >= task.end) continue;
                const T* from = task.turned + e * pixels + (row - begin) * p.OW;
                if (p.padding_mode == PaddingMode::zeros)
                    add_row(from + first, last - first, out + ih * p.IW + line[first]);
                else
                    for (Index ow = first; ow < last; ++ow) out[ih * p.IW + line[ow]] += from[ow];
            }
        }
    }

    void add_row(const T* from, Index n, T* to) const {
        if (p.stride_w == 1) {
            for (Index i = 0; i < n; i += W) {
                const auto live = LaneMask<T>::first(std::min(W, n - i));
                live.store(to + i, live.load(to + i) + live.load(from + i));
            }
        } else if (p.stride_w == 2) {
            VecIndex<T> low, high;  // every other lane, from a vector and from nothing
            for (Index l = 0; l < W; ++l) {
                low[l] = l % 2 ? W : l / 2;
                high[l] = l % 2 ? W : W / 2 + l / 2;
            }
            for (Index i = 0; i < n; i += W) {
                const Index some = std::min(W, n - i), places = 2 * some - 1;
                const Vec<T> v = LaneMask<T>::first(some).load(from + i);
                const auto put = [&](Index at, Index lanes, VecIndex<T> order) {
                    const auto live = LaneMask<T>::first(lanes);
                    T* place = to + 2 * i + at;
                    live.store(place, live.load(place) + shuffle<T>(v, Vec<T>{}, order));
                };
                put(0, std::min(W, places), low);
                if (places > W) put(W, places - W, high);
            }
        } else {
            for (Index i = 0; i < n; ++i) to[i * p.stride_w] += from[i];
        }
    }

    Conv2d p;
    Schedule s;
    Constant weight;
    // For each of the kernel's rows (columns) and each of the gradient's, the image's that they
    // meet, or -1.
    std::vector<Index> rows, columns;
};

}  // namespace ai3
