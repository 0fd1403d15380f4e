// Arrays made of another's elements, dimension by dimension:
//   output[i0, i1, ...] = input[source[0][i0], source[1][i1], ...]
// or `fill` where one of the sources is negative.
#pragma once

#include <algorithm>
#include <cstring>

#include "core/operation.hpp"
#include "core/shape.hpp"
#include "core/simd.hpp"

namespace ai3 {

// Throws std::invalid_argument, in the name of `op`, for an output's dimension that is longer than
// the input's and than what is tabulated when it is planned.
inline void check_places(std::string_view op, Index places, Index extent) {
    constexpr Index most = Index{1} << 25;
    if (places > std::max(most, extent))
        throw std::invalid_argument(std::string(op) + ": " + std::to_string(places) +
                                    " elements along a dimension of " + std::to_string(extent) +
                                    ", where at most " + std::to_string(most) + " can be made");
}

struct Remap {
    Shape input;
    std::vector<std::vector<Index>> source;
    double fill = 0;

    // Every element stays where it is.
    explicit Remap(const Shape& shape) : input(shape), source(shape.size()) {
        for (std::size_t d = 0; d < shape.size(); ++d) {
            source[d].resize(std::size_t(shape[d]));
            for (Index i = 0; i < shape[d]; ++i) source[d][std::size_t(i)] = i;
        }
    }

    Shape output() const {
        Shape shape;
        for (const auto& indices : source) shape.push_back(Index(indices.size()));
        return shape;
    }
};

// A number as an element of the dtype, held in a T of its size.
template <typename T>
T stored(DType dtype, double number) {
    T held;
    const auto hold = [&](auto value) {
        std::memcpy(static_cast<void*>(&held), &value, std::min(sizeof(held), sizeof(value)));
    };
    if (dtype == DType::bf16)
        hold(bfloat16(float(number)));
    else
        with_value(dtype, [&](auto zero) {
            hold(dtype == DType::boolean ? decltype(zero)(number != 0) : decltype(zero)(number));
        });
    return held;
}

// Rows of the output, as long as they are one run of the input, or made of few. Each thread writes
// an even share of the output.
template <typename T>
class RemapPlan final : public Plan {
  public:
    // Elements are moved as they are: T need only have the dtype's size.
    RemapPlan(const Remap& remap, DType dtype, int threads)
        : fill(stored<T>(dtype, remap.fill)), threads(threads) {
        const Shape strides = dense_strides(remap.input);
        // The last dimensions that stay as they are make up one run of elements.
        std::size_t dims = remap.input.size();
        Index run = 1;
        while (dims > 0 && stays(remap, dims - 1)) run *= remap.input[--dims];
        if (dims == 0) {
            segments.push_back({0, run, 0, Kind::copy});
        } else {
            --dims;
            set_segments(remap.source[dims], run);
        }
        row = segments.back().end;
        size = row;
        for (std::size_t d = dims; d-- > 0;) {
            std::vector<Index> offsets = remap.source[d];
            for (Index& at : offsets) at = at < 0 ? -1 : at * strides[d];
            size *= Index(offsets.size());
            outer.push_back(std::move(offsets));
        }
    }

    void run(const void* const* inputs, void* output, std::byte*) const override {
        constexpr Index grain = (1 << 16) / Index(sizeof(T));
        const T* in = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        parallel_ranges(threads, size, grain, [&](Index i, Index end) {
            while (i < end) {
                const Index column = i % row, n = std::min(row - column, end - i);
                Index rest = i / row, from = 0;
                for (const auto& offsets : outer) {
                    const Index offset = offsets[std::size_t(rest % Index(offsets.size()))];
                    from = offset < 0 || from < 0 ? -1 : from + offset;
                    rest /= Index(offsets.size());
                }
                if (from < 0)
                    std::fill_n(out + i, n, fill);
                else
                    copy_row(in + from, column, column + n, out + i - column);
                i += n;
            }
        });
    }

  private:
    enum class Kind : std::uint8_t { copy, repeat, fill, gather };
    // Elements [begin, end) of a row: from element `from` of the input's on, or, gathered, from
    // those of the table.
    struct Segment {
        Index begin, end, from;
        Kind kind;
    };

    static bool stays(const Remap& remap, std::size_t d) {
        const auto& indices = remap.source[d];
        if (Index(indices.size()) != remap.input[d]) return false;
        for (std::size_t i = 0; i < indices.size(); ++i)
            if (indices[i] != Index(i)) return false;
        return true;
    }

    void set_segments(const std::vector<Index>& indices, Index run) {
        for (std::size_t i = 0; i < indices.size(); ++i) {
            const Index at = Index(i) * run, from = indices[i] < 0 ? 0 : indices[i] * run;
            Kind kind = indices[i] < 0 ? Kind::fill : Kind::copy;
            if (!segments.empty()) {
                Segment& last = segments.back();
                const bool alone = last.end - last.begin == 1;
                if (run == 1 && kind == Kind::copy && last.from == from &&
                    (last.kind == Kind::repeat || (alone && last.kind == Kind::copy)))
                    kind = last.kind = Kind::repeat;
                else if (!(last.kind == kind &&
                           (kind == Kind::fill || last.from + last.end - last.begin == from)))
                    segments.push_back({at, at, from, kind});
            } else {
                segments.push_back({at, at, from, kind});
            }
            segments.back().end = at + run;
        }
        // Many short pieces are gathered element by element.
        if (run == 1 && segments.size() * 4 > indices.size() &&
            *std::min_element(indices.begin(), indices.end()) >= 0) {
            table.assign(indices.begin(), indices.end());
            segments = {{0, Index(indices.size()), 0, Kind::gather}};
        }
    }

    // Elements [begin, end) of a row that starts at `out`.
    void copy_row(const T* in, Index begin, Index end, T* out) const {
        auto segment = std::upper_bound(segments.begin(), segments.end(), begin,
                                        [](Index at, const Segment& s) { return at < s.end; });
        for (; begin < end; begin = segment->end, ++segment) {
            const Index stop = std::min(segment->end, end), n = stop - begin;
            switch (segment->kind) {
                case Kind::copy:
                    copy(in + segment->from + begin - segment->begin, out + begin, n);
                    break;
                case Kind::repeat:
                    std::fill_n(out + begin, n, in[segment->from]);
                    break;
                case Kind::fill:
                    std::fill_n(out + begin, n, fill);
                    break;
                case Kind::gather:
                    for (Index i = begin; i < stop; ++i) out[i] = in[table[std::size_t(i)]];
                    break;
            }
        }
    }

    static void copy(const T* in, T* out, Index n) {
        if constexpr (sizeof(T) > 1) {
            constexpr Index W = lanes<T>;
            if (n <= 8 * W) {
                for (; n >= W; n -= W, in += W, out += W) store(out, load(in));
                const auto rest = LaneMask<T>::first(n);
                if (n > 0) rest.store(out, rest.load(in));
                return;
            }
        }
        std::memcpy(out, in, std::size_t(n) * sizeof(T));
    }

    T fill;
    int threads;
    std::vector<Segment> segments;
    std::vector<Index> table;
    // Of the dimensions before the row's, from the innermost out, where in the input they are.
    std::vector<std::vector<Index>> outer;
    Index row = 1, size = 1;
};

}  // namespace ai3
