// Reduction of every window of every plane, for a largest or a sum: over each window's rows first,
// by whole vectors, then over the columns that remain. How depends on the plane:
//
//   whole    the window is the plane; as many planes at a time as a vector has lanes
//   narrow   at most two vectors of columns: they stay in registers, shuffled once for each tap
//   wide     rows of columns in L1; for stride 2 even and odd columns lie apart, so that
//   neighbouring
//            outputs read neighbouring columns there too
//
// A Rule<T> says what a reduction is: neutral(), combine(a, b), finish(v, oh, ow), which makes the
// outputs (oh, ow + lane) of the reduced lanes, and uniform(), whether it does so everywhere alike.
#pragma once

#include "core/simd.hpp"
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
};

struct Axes {
    Axis h, w;
};

inline Axes axes(const Pooling2d& p) {
    return {{p.IH, p.OH, p.KH, p.dilation_h, p.stride_h, p.pad_h},
            {p.IW, p.OW, p.KW, p.dilation_w, p.stride_w, p.pad_w}};
}

template <typename T, typename Rule>
class SlidingPlan final : public Plan {
    static constexpr Index W = lanes<T>;

    // Rows of columns under `outputs` neighbouring windows, as the wide path keeps them. A place
    // counts columns from the first window's start, padding included.
    struct Columns {
        Index phases, outputs, places, pitch, rows;

        explicit Columns(const Axis& w) {
            const Index reach = (w.most - 1) * w.step + 1;
            const Index many = std::max<Index>(2048, reach);
            phases = w.stride == 2 ? 2 : 1;
            outputs = w.stride ? std::min(w.outputs, many / w.stride + 1) : w.outputs;
            places = w.stride ? (outputs - 1) * w.stride + reach : w.extent;
            pitch = places / phases + 3 * W;
            rows = std::clamp<Index>(4096 / row(), 1, 64);
        }
        Index at(Index place) const {
            return phases == 2 ? (place & 1) * pitch + place / 2 : place;
        }
        Index row() const { return pitch * phases; }
        std::size_t bytes() const { return align_up(std::size_t(rows * row()) * sizeof(T)); }
    };

    // One element of each of W neighbouring windows: the column that its lane is shuffled from, and
    // which windows have it.
    struct Tap {
        VecIndex<T> from;
        LaneMask<T> inside;
    };

    // What one row of the output is made of: `count` rows of a plane.
    struct Rows {
        const T* first;
        Index count, oh;
    };

    // Goes through the rows of the output from `row` on, which counts over all planes.
    class Cursor {
      public:
        Cursor(const SlidingPlan& plan, const T* in, Index row)
            : spans(plan.row_spans.data()),
              outputs(plan.h.outputs),
              pitch(plan.w.extent),
              size(plan.plane_size()),
              plane(in + row / outputs * size),
              oh(row % outputs) {}

        Rows next() {
            const Rows rows{plane + spans[oh].begin * pitch, spans[oh].count, oh};
            if (++oh == outputs) oh = 0, plane += size;
            return rows;
        }

      private:
        const Span* spans;
        Index outputs, pitch, size;
        const T* plane;
        Index oh;
    };

  public:
    SlidingPlan(Index planes, const Axes& axes, int threads, Rule rule)
        : planes(planes),
          h(axes.h),
          w(axes.w),
          row_spans(h.spans()),
          column_spans(w.spans()),
          columns(w),
          threads(threads),
          rule(std::move(rule)) {
        whole = h.outputs == 1 && row_spans[0].count == h.extent && w.outputs == 1 &&
                column_spans[0].count == w.extent;
        narrow = w.extent <= 2 * W;
        disjoint_pairs = w.stride == 2 && w.most == 2 && w.step == 1 && w.pad == 0;
        pairs = w.extent <= W && 2 * w.outputs <= W && this->rule.uniform();
        most = 1;
        for (const Span& span : column_spans) most = std::max(most, span.count);
        if (narrow) find_taps();
        for (Index k = 0; k < w.most; ++k) offsets.push_back(columns.at(k * w.step));
    }

    static std::size_t workspace_bytes(const Axes& axes, int threads) {
        return axes.w.extent <= 2 * W ? 0 : std::size_t(threads) * Columns(axes.w).bytes();
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        constexpr Index task_elements = 1 << 15;
        const T* in = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        const Index rows = planes * h.outputs;
        const Index row_work = std::max<Index>(h.extent / h.outputs, 1) * w.extent;
        const Index tasks = std::clamp<Index>(rows / (task_elements / row_work + 1), 1, rows);
        parallel_for(threads, tasks, [&](Index i, int thread) {
            const Index begin = rows * i / tasks, end = rows * (i + 1) / tasks;
            if (whole)
                reduce_planes(in, out, begin, end);
            else if (narrow)
                pairs ? reduce_narrow<true>(in, out, begin, end)
                      : reduce_narrow<false>(in, out, begin, end);
            else
                reduce_wide(in, out, begin, end, workspace + std::size_t(thread) * columns.bytes());
        });
    }

  private:
    Index plane_size() const { return h.extent * w.extent; }

    Vec<T> fold_rows(Vec<T>* rows) const {
        return fold<T>(rows, [&](Vec<T> a, Vec<T> b) { return rule.combine(a, b); });
    }

    void reduce_planes(const T* in, T* out, Index plane, Index end) const {
        for (; plane < end; plane += W) {
            const Index count = std::min(W, end - plane);
            Vec<T> lane[W];
            for (Index l = 0; l < W; ++l)
                lane[l] =
                    l < count ? reduce_plane(in + (plane + l) * plane_size()) : rule.neutral();
            LaneMask<T>::first(count).store(out + plane, rule.finish(fold_rows(lane), 0, 0));
        }
    }

    Vec<T> reduce_plane(const T* in) const {
        const Index n = plane_size();
        Vec<T> a = rule.neutral(), b = a, c = a, d = a;
        Index i = 0;
        for (; i + 4 * W <= n; i += 4 * W) {
            a = rule.combine(a, load(in + i));
            b = rule.combine(b, load(in + i + W));
            c = rule.combine(c, load(in + i + 2 * W));
            d = rule.combine(d, load(in + i + 3 * W));
        }
        for (; i + W <= n; i += W) a = rule.combine(a, load(in + i));
        const auto rest = LaneMask<T>::first(n - i);
        b = rule.combine(b, rest.select(rest.load(in + i), rule.neutral()));
        return rule.combine(rule.combine(a, b), rule.combine(c, d));
    }

    // One vector of columns; `load` reads W elements of a row.
    template <typename Load>
    Vec<T> reduce_rows(const T* from, Index count, Index step, Load load) const {
        if (count == 0) return rule.neutral();
        Vec<T> v = load(from);
        while (--count) v = rule.combine(v, load(from += step));
        return v;
    }

    // The same for at most the first `n` of the lanes, the others neutral.
    Vec<T> rest_of_row(const T* from, Index n, Index count) const {
        const auto mask = LaneMask<T>::first(std::clamp<Index>(n, 0, W));
        const Vec<T> v =
            reduce_rows(from, count, h.step * w.extent, [&](const T* p) { return mask.load(p); });
        return mask.select(v, rule.neutral());
    }

    // `pairs`: two rows of the output at a time, from one vector of columns each.
    template <bool pairs>
    void reduce_narrow(const T* in, T* out, Index row, Index end) const {
        const Index step = h.step * w.extent, reach = (h.most - 1) * step + W;
        const Index outputs = (pairs ? 2 : 1) * w.outputs, taps_each = most, width = w.extent;
        // Whole vectors may run over a row's end, but not over the array's.
        const T* const in_end = in + planes * plane_size();
        T* const out_end = out + end * w.outputs;
        const Tap* const first_tap = taps.data();
        const bool full = this->full;
        const auto columns_at = [=, this](const T* from, Index count, Index n) {
            if (in_end - from >= reach)
                return reduce_rows(from, count, step, [](const T* p) { return load(p); });
            const auto mask = LaneMask<T>::first(std::min(W, n));
            return reduce_rows(from, count, step, [&](const T* p) { return mask.load(p); });
        };
        Cursor cursor(*this, in, row);
        for (T* to = out + row * w.outputs; row < end; row += pairs ? 2 : 1, to += outputs) {
            const Rows rows = cursor.next();
            const Vec<T> a = columns_at(rows.first, rows.count, width);
            Vec<T> b = a;
            if (pairs) {
                const Rows second = row + 1 < end ? cursor.next() : rows;
                b = columns_at(second.first, second.count, width);
            } else if (width > W) {
                b = columns_at(rows.first + W, rows.count, width - W);
            }
            const Tap* tap = first_tap;
            const auto element = [&](const Tap& tap) {
                const Vec<T> v = shuffle<T>(a, b, tap.from);
                return full ? v : tap.inside.select(v, rule.neutral());
            };
            for (Index ow = 0; ow < outputs; ow += W, tap += taps_each) {
                Vec<T> v = element(tap[0]);
                for (Index k = 1; k < taps_each; ++k) v = rule.combine(v, element(tap[k]));
                v = rule.finish(v, rows.oh, ow);
                if (out_end - to - ow >= W)
                    store(to + ow, v);
                else
                    LaneMask<T>::first(out_end - to - ow).store(to + ow, v);
            }
        }
    }

    void find_taps() {
        full = true;
        const Index outputs = (pairs ? 2 : 1) * w.outputs;
        for (Index first = 0; first < outputs; first += W)
            for (Index k = 0; k < most; ++k) {
                Tap tap{};
                unsigned inside = 0;
                for (Index l = 0; l < W; ++l) {
                    const Index o = std::min(first + l, outputs - 1);
                    const Span& span = column_spans[std::size_t(o % w.outputs)];
                    if (k >= span.count) continue;
                    tap.from[l] = span.begin + k * w.step + o / w.outputs * W;
                    inside |= 1u << l;
                }
                tap.inside = LaneMask<T>(inside);
                full &= inside == LaneMask<T>::all;
                taps.push_back(tap);
            }
    }

    void reduce_wide(const T* in, T* out, Index row, Index end, std::byte* workspace) const {
        T* const memory = reinterpret_cast<T*>(workspace);
        for (Index ow = 0; ow < w.outputs; ow += columns.outputs) {
            const Index stop = std::min(ow + columns.outputs, w.outputs);
            const Index start = ow * w.stride - w.pad, first = std::max<Index>(start, 0);
            const Index n = std::min(w.extent, start + columns.places) - first;
            const bool entire = n == w.extent;
            const Index held = std::min(columns.rows, end - row);
            for (Index i = 0; i < held * columns.row(); i += W) store(memory + i, rule.neutral());
            for (Index begin = row; begin < end; begin += columns.rows) {
                const Index count = std::min(columns.rows, end - begin);
                Cursor reader(*this, in, begin), writer = reader;
                if (disjoint_pairs) {
                    for (Index i = 0; i < count; ++i) {
                        const Rows rows = reader.next();
                        if (entire && distant) prefetch(rows);
                        reduce_pairs(rows, ow, stop, out + (begin + i) * w.outputs);
                    }
                    continue;
                }
                T* to = memory;
                for (Index i = 0; i < count; ++i, to += columns.row()) {
                    const Rows rows = reader.next();
                    if (entire && distant) prefetch(rows);
                    put_columns(rows, first, n, first - start, to);
                }
                to = memory;
                for (Index i = 0; i < count; ++i, to += columns.row()) {
                    const Index oh = writer.next().oh;
                    T* output = out + (begin + i) * w.outputs;
                    if (w.stride == 1 || w.stride == 2)
                        reduce_columns(to, oh, ow, stop, output);
                    else
                        reduce_spans(to - start, oh, ow, stop, output);
                }
            }
        }
    }

    // Fetches what is new in rows some way ahead. Windows of several rows confuse the hardware's
    // own prefetching: without this a large plane is read at half of the memory's speed.
    void prefetch(const Rows& rows) const {
        constexpr Index ahead = (1 << 14) / sizeof(T), line = cache_line / sizeof(T);
        const Index fresh = (h.stride ? std::min(h.stride, rows.count) : rows.count) * w.extent;
        for (Index i = 0; i < fresh; i += line) __builtin_prefetch(rows.first + ahead + i, 0, 2);
    }

    void reduce_pairs(const Rows& rows, Index ow, Index end, T* out) const {
        const Index step = h.step * w.extent;
        for (; ow < end; ow += W) {
            const T* from = rows.first + 2 * ow;
            const Index n = w.extent - 2 * ow;
            Vec<T> a, b;
            if (n >= 2 * W) {
                const auto all = [](const T* p) { return load(p); };
                a = reduce_rows(from, rows.count, step, all);
                b = reduce_rows(from + W, rows.count, step, all);
            } else {
                a = rest_of_row(from, n, rows.count);
                b = rest_of_row(from + W, n - W, rows.count);
            }
            deinterleave<T>(a, b);
            const Vec<T> v = rule.finish(rule.combine(a, b), rows.oh, ow);
            if (end - ow >= W)
                store(out + ow, v);
            else
                LaneMask<T>::first(end - ow).store(out + ow, v);
        }
    }

    // The columns [first, first + n) of the plane; they begin at `place`.
    void put_columns(const Rows& rows, Index first, Index n, Index place, T* to) const {
        const bool split = columns.phases == 2;
        const Index step = h.step * w.extent, advance = split ? W : 2 * W;
        const T* from = rows.first + first;
        T* even = to + columns.at(place);
        T* odd = split ? to + columns.at(place + 1) : even + W;
        const auto put = [&](Vec<T> a, Vec<T> b) {
            if (split) deinterleave<T>(a, b);
            store(even, a), store(odd, b);
            even += advance, odd += advance;
        };
        for (; n >= 2 * W; n -= 2 * W, from += 2 * W) {
            const auto all = [](const T* p) { return load(p); };
            put(reduce_rows(from, rows.count, step, all),
                reduce_rows(from + W, rows.count, step, all));
        }
        if (n > 0) put(rest_of_row(from, n, rows.count), rest_of_row(from + W, n - W, rows.count));
    }

    void reduce_columns(const T* from, Index oh, Index ow, Index end, T* out) const {
        const Index* const offset = offsets.data();
        for (const Index taps = w.most; ow < end; ow += W, from += W) {
            Vec<T> v = load(from);
            for (Index k = 1; k < taps; ++k) v = rule.combine(v, load(from + offset[k]));
            v = rule.finish(v, oh, ow);
            if (end - ow >= W)
                store(out + ow, v);
            else
                LaneMask<T>::first(end - ow).store(out + ow, v);
        }
    }

    // `row`: where the column 0 of the plane is or would be.
    void reduce_spans(const T* row, Index oh, Index ow, Index end, T* out) const {
        for (; ow < end; ow += W) {
            const Index count = std::min(W, end - ow);
            Vec<T> lane[W];
            for (Index l = 0; l < W; ++l) {
                lane[l] = rule.neutral();
                if (l >= count) continue;
                const Span& span = column_spans[std::size_t(ow + l)];
                for (Index k = 0; k < span.count; k += W)
                    lane[l] = rule.combine(lane[l], elements(row + span.begin + k * w.step,
                                                             std::min(W, span.count - k)));
            }
            LaneMask<T>::first(count).store(out + ow, rule.finish(fold_rows(lane), oh, ow));
        }
    }

    // The first `n` elements of a window from `p` on.
    Vec<T> elements(const T* p, Index n) const {
        const auto mask = LaneMask<T>::first(n);
        if (w.step == 1) return mask.select(mask.load(p), rule.neutral());
        Vec<T> v = rule.neutral();
        for (Index i = 0; i < n; ++i) v[i] = p[i * w.step];
        return v;
    }

    Index planes;
    Axis h, w;
    std::vector<Span> row_spans, column_spans;
    Columns columns;
    int threads;
    Rule rule;
    bool whole, narrow, pairs, disjoint_pairs,
        full = false, distant = planes * plane_size() * Index(sizeof(T)) > 1 << 23;
    Index most;
    std::vector<Tap> taps;
    std::vector<Index> offsets;
};

}  // namespace ai3
