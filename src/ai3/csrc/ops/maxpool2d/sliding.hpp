// Reduction of every window of every plane, to its largest element or its sum: over the window's
// rows first, by whole vectors, then over the columns that remain. How depends on the plane:
//
//   whole     the window is the plane; as many planes at a time as a vector has lanes
//   narrow    at most two vectors of columns: they stay in registers, shuffled once for each tap
//   halving   windows of two neighbouring columns that do not overlap: even and odd lanes
//   wide      rows of columns in L1; for stride 2 even and odd columns lie apart, so that
//             neighbouring outputs read neighbouring columns there too
//
// Planes of bfloat16 are reduced in float. A Rule, of what T is computed with, says what a
// reduction is: neutral(), combine(a, b), finish(v, oh, ow), which makes the outputs (oh, ow +
// lane) of the reduced lanes, finish_channels(v, oh, ow), which makes the outputs (oh, ow) of as
// many channels, and uniform(), whether it does so everywhere alike.
#pragma once

#include "core/simd.hpp"
#include "kernels/elementwise.hpp"
#include "ops/maxpool2d/axis.hpp"

namespace ai3 {

template <typename T, typename Rule>
class SlidingPlan final : public Plan {
    using Sum = Lane<T>;
    static constexpr Index W = lanes<T>;

    enum class Path { whole, narrow, halving, wide };

    static Path path_for(const Axes& axes) {
        const Axis& w = axes.w;
        if (axes.h.whole() && w.whole()) return Path::whole;
        if (w.extent <= 2 * W) return Path::narrow;
        if (w.stride == 2 && w.most == 2 && w.step == 1 && w.pad == 0) return Path::halving;
        return Path::wide;
    }

    // Rows of columns under `outputs` neighbouring windows, as the wide path keeps them. A place
    // counts columns from the first window's start, padding included.
    struct Columns {
        Index phases, outputs, places, pitch, rows;

        explicit Columns(const Axis& w) {
            const Index reach = (w.most - 1) * w.step + 1, many = std::max<Index>(2048, reach);
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
        std::size_t bytes() const { return align_up(std::size_t(rows * row()) * sizeof(Sum)); }
    };

    // One element of each of W neighbouring windows: the lane that it is shuffled from, and which
    // windows have it.
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
          path(path_for(axes)),
          row_step(h.step * w.extent),
          row_spans(h.spans()),
          column_spans(w.spans()),
          columns(w),
          threads(threads),
          rule(std::move(rule)) {
        constexpr Index near_bytes = 8 << 20;
        far = planes * plane_size() * Index(sizeof(T)) > near_bytes;
        past_cache = planes * h.outputs * w.outputs * Index(sizeof(T)) >= cached_bytes;
        if (path == Path::narrow) find_taps();
        if (path == Path::wide)
            for (Index k = 0; k < w.most; ++k) offsets.push_back(columns.at(k * w.step));
    }

    static std::size_t workspace_bytes(const Axes& axes, int threads) {
        return path_for(axes) == Path::wide ? std::size_t(threads) * Columns(axes.w).bytes() : 0;
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        constexpr Index task_elements = 1 << 15;
        const T* in = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        const Index rows = planes * h.outputs;
        const Index row_work = std::max<Index>(h.extent / h.outputs, 1) * w.extent;
        const Index tasks = std::clamp<Index>(rows / (task_elements / row_work + 1), 1, rows);
        parallel_for(threads, tasks, [&](Index i, int thread) {
            const Index row = rows * i / tasks, end = rows * (i + 1) / tasks;
            Sum* memory = reinterpret_cast<Sum*>(workspace + std::size_t(thread) * columns.bytes());
            switch (path) {
                case Path::whole:
                    reduce_planes(in, out, row, end);
                    break;
                case Path::narrow:
                    if (two_rows)
                        reduce_narrow<true>(in, out, row, end);
                    else
                        reduce_narrow<false>(in, out, row, end);
                    break;
                case Path::halving:
                    reduce_halving(in, out, row, end);
                    break;
                case Path::wide:
                    reduce_wide(in, out, row, end, memory);
                    break;
            }
            if (past_cache) stream_fence();
        });
    }

  private:
    Index plane_size() const { return h.extent * w.extent; }

    // One vector of columns of `count` rows; `load` reads W elements of a row.
    template <typename Load>
    Vec<T> reduce_rows(const T* from, Index count, Index step, Load load) const {
        if (count == 0) return rule.neutral();
        Vec<T> v = load(from);
        while (--count) v = rule.combine(v, load(from += step));
        return v;
    }
    Vec<T> reduce_rows(const T* from, Index count) const {
        return reduce_rows(from, count, row_step, [](const T* p) { return load(p); });
    }
    // Lanes from `n` on are neutral, whatever lies there.
    Vec<T> reduce_rows(const T* from, Index count, Index n) const {
        const auto mask = LaneMask<T>::first(std::clamp<Index>(n, 0, W));
        const auto load = [&](const T* p) { return mask.load(p); };
        return mask.select(reduce_rows(from, count, row_step, load), rule.neutral());
    }

    // Lane l of the result is the reduction of vectors[l].
    Vec<T> fold_lanes(Vec<T>* vectors) const {
        return fold<T>(vectors, [&](Vec<T> a, Vec<T> b) { return rule.combine(a, b); });
    }

    void put(Vec<T> v, Index n, T* out) const {
        if (n < W) return LaneMask<T>::first(n).store(out, v);
        if constexpr (std::is_same_v<T, Sum>)
            if (past_cache && reinterpret_cast<std::uintptr_t>(out) % sizeof(v) == 0)
                return stream(out, v);
        store(out, v);
    }

    void reduce_planes(const T* in, T* out, Index plane, Index end) const {
        for (; plane < end; plane += W) {
            const Index count = std::min(W, end - plane);
            Vec<T> lane[W];
            for (Index l = 0; l < W; ++l)
                lane[l] = l < count ? reduce_plane(in + (plane + l) * plane_size()) : Vec<T>{};
            put(rule.finish(fold_lanes(lane), 0, 0), count, out + plane);
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

    // `two`: two rows of the output at a time, from one vector of columns each.
    template <bool two>
    void reduce_narrow(const T* in, T* out, Index row, Index end) const {
        const Index outputs = (two ? 2 : 1) * w.outputs, width = w.extent, step = row_step;
        // Whole vectors may run over a row's end, but not over the array's.
        const Index reach = (h.most - 1) * step + W;
        const T* const in_end = in + planes * plane_size();
        T* const out_end = out + end * w.outputs;
        const auto columns_at = [=, this](const T* from, Index count, Index n) {
            if (in_end - from >= reach)
                return reduce_rows(from, count, step, [](const T* p) { return load(p); });
            return reduce_rows(from, count, n);
        };
        const Tap* const first_tap = taps.data();
        const Index taps_each = most_taps;
        const bool all_inside = taps_inside;
        Cursor cursor(*this, in, row);
        for (T* to = out + row * w.outputs; row < end; row += two ? 2 : 1, to += outputs) {
            const Rows rows = cursor.next();
            const Vec<T> a = columns_at(rows.first, rows.count, width);
            Vec<T> b = a;
            if (two) {
                const Rows second = row + 1 < end ? cursor.next() : rows;
                b = columns_at(second.first, second.count, width);
            } else if (width > W) {
                b = columns_at(rows.first + W, rows.count, width - W);
            }
            const auto element = [&](const Tap& tap) {
                const Vec<T> v = shuffle<T>(a, b, tap.from);
                return all_inside ? v : tap.inside.select(v, rule.neutral());
            };
            const Tap* tap = first_tap;
            for (Index ow = 0; ow < outputs; ow += W, tap += taps_each) {
                Vec<T> v = element(tap[0]);
                for (Index k = 1; k < taps_each; ++k) v = rule.combine(v, element(tap[k]));
                v = rule.finish(v, rows.oh, ow);
                // What runs over the row's end the next row writes again.
                put(v, out_end - to - ow, to + ow);
            }
        }
    }

    void find_taps() {
        two_rows = w.extent <= W && 2 * w.outputs <= W && rule.uniform();
        for (const Span& span : column_spans) most_taps = std::max(most_taps, span.count);
        const Index outputs = (two_rows ? 2 : 1) * w.outputs;
        for (Index first = 0; first < outputs; first += W)
            for (Index k = 0; k < most_taps; ++k) {
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
                taps_inside &= inside == LaneMask<T>::all;
                taps.push_back(tap);
            }
    }

    // Fetches what is new in rows some way ahead. Windows of several rows confuse the hardware's
    // own prefetching: without this a large array is read at half of the memory's speed.
    [[gnu::always_inline]] void fetch_ahead(const Rows& rows) const {
        constexpr Index ahead = (1 << 14) / sizeof(T);
        const Index fresh = h.stride ? std::min(h.stride, rows.count) : rows.count;
        if (far) fetch(rows.first + ahead, fresh * w.extent);
    }

    void reduce_halving(const T* in, T* out, Index row, Index end) const {
        Cursor cursor(*this, in, row);
        for (; row < end; ++row) {
            const Rows rows = cursor.next();
            fetch_ahead(rows);
            T* to = out + row * w.outputs;
            for (Index ow = 0; ow < w.outputs; ow += W) {
                const T* from = rows.first + 2 * ow;
                const Index n = w.extent - 2 * ow;
                const bool full = n >= 2 * W;
                Vec<T> a = full ? reduce_rows(from, rows.count) : reduce_rows(from, rows.count, n);
                Vec<T> b = full ? reduce_rows(from + W, rows.count)
                                : reduce_rows(from + W, rows.count, n - W);
                deinterleave<T>(a, b);
                put(rule.finish(rule.combine(a, b), rows.oh, ow), w.outputs - ow, to + ow);
            }
        }
    }

    void reduce_wide(const T* in, T* out, Index row, Index end, Sum* memory) const {
        for (Index ow = 0; ow < w.outputs; ow += columns.outputs) {
            const Index stop = std::min(ow + columns.outputs, w.outputs);
            const Index start = ow * w.stride - w.pad, first = std::max<Index>(start, 0);
            const Index n = std::min(w.extent, start + columns.places) - first;
            const Index held = std::min(columns.rows, end - row);
            for (Index i = 0; i < held * columns.row(); i += W) store(memory + i, rule.neutral());
            for (Index begin = row; begin < end; begin += held) {
                const Index count = std::min(held, end - begin);
                Cursor reader(*this, in, begin), writer = reader;
                for (Index i = 0; i < count; ++i) {
                    const Rows rows = reader.next();
                    if (n == w.extent) fetch_ahead(rows);
                    put_columns(rows, first, n, first - start, memory + i * columns.row());
                }
                for (Index i = 0; i < count; ++i) {
                    const Sum* from = memory + i * columns.row();
                    T* to = out + (begin + i) * w.outputs;
                    const Index oh = writer.next().oh;
                    if (w.stride == 1 || w.stride == 2)
                        reduce_columns(from, oh, ow, stop, to);
                    else
                        reduce_spans(from - start, oh, ow, stop, to);
                }
            }
        }
    }

    // Reduces the columns [first, first + n) of the plane; they begin at `place`.
    void put_columns(const Rows& rows, Index first, Index n, Index place, Sum* to) const {
        const bool split = columns.phases == 2;
        const T* from = rows.first + first;
        Sum* even = to + columns.at(place);
        Sum* odd = split ? to + columns.at(place + 1) : even + W;
        const Index advance = split ? W : 2 * W;
        const auto put_pair = [&](Vec<T> a, Vec<T> b) {
            if (split) deinterleave<T>(a, b);
            store(even, a), store(odd, b);
            even += advance, odd += advance;
        };
        for (; n >= 2 * W; n -= 2 * W, from += 2 * W)
            put_pair(reduce_rows(from, rows.count), reduce_rows(from + W, rows.count));
        if (n > 0)
            put_pair(reduce_rows(from, rows.count, n), reduce_rows(from + W, rows.count, n - W));
    }

    void reduce_columns(const Sum* from, Index oh, Index ow, Index end, T* out) const {
        const Index* const offset = offsets.data();
        for (const Index taps = w.most; ow < end; ow += W, from += W) {
            Vec<T> v = load(from);
            for (Index k = 1; k < taps; ++k) v = rule.combine(v, load(from + offset[k]));
            put(rule.finish(v, oh, ow), end - ow, out + ow);
        }
    }

    // `row`: where the plane's column 0 is or would be.
    void reduce_spans(const Sum* row, Index oh, Index ow, Index end, T* out) const {
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
            put(rule.finish(fold_lanes(lane), oh, ow), count, out + ow);
        }
    }

    // The first `n` elements of a window from `p` on, then neutral ones.
    Vec<T> elements(const Sum* p, Index n) const {
        const auto mask = LaneMask<Sum>::first(n);
        if (w.step == 1) return mask.select(mask.load(p), rule.neutral());
        Vec<T> v = rule.neutral();
        for (Index i = 0; i < n; ++i) v[i] = p[i * w.step];
        return v;
    }

    Index planes;
    Axis h, w;
    Path path;
    Index row_step;
    std::vector<Span> row_spans, column_spans;
    Columns columns;
    int threads;
    Rule rule;
    bool far, past_cache;
    // The narrow path's.
    bool two_rows = false, taps_inside = true;
    Index most_taps = 1;
    std::vector<Tap> taps;
    // Where the wide path finds the elements of a window.
    std::vector<Index> offsets;
};

}  // namespace ai3
