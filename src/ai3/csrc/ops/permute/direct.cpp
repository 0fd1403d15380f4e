// Where the last dimension stays the last, its rows are copied; else squares of the plane of the
// input's last dimension and the output's are transposed in registers. Dimensions that stay
// neighbours are one.

#include <array>

#include "core/simd.hpp"
#include "ops/permute/op.hpp"

namespace ai3 {
namespace {

struct Dimension {
    Index extent, in, out;
};

// From the innermost out.
std::vector<Dimension> merged(const Permute& p) {
    std::vector<Dimension> dims;
    Index out = 1;
    for (std::size_t i = p.shape.size(); i-- > 0; out *= p.shape[i]) {
        if (p.shape[i] == 1) continue;
        if (!dims.empty() && p.strides[i] == dims.back().in * dims.back().extent)
            dims.back().extent *= p.shape[i];
        else
            dims.push_back({p.shape[i], p.strides[i], out});
    }
    if (dims.empty()) dims.push_back({1, 1, 1});
    return dims;
}

// Where piece `i` of the given dimensions is.
struct Place {
    Index in = 0, out = 0;
    Place(Index i, const std::vector<Dimension>& dims) {
        for (const Dimension& dim : dims) {
            in += i % dim.extent * dim.in;
            out += i % dim.extent * dim.out;
            i /= dim.extent;
        }
    }
};

Index count(const std::vector<Dimension>& dims) {
    Index n = 1;
    for (const Dimension& dim : dims) n *= dim.extent;
    return n;
}

// Elements moved that are worth another thread.
constexpr Index grain = 1 << 14;

template <typename T>
class CopyRows final : public Plan {
  public:
    CopyRows(std::vector<Dimension> dims, int threads)
        : row(dims[0].extent), outer(dims.begin() + 1, dims.end()), threads(threads) {
        if (outer.empty()) outer.push_back({1, 0, 0});
        rows = outer[0];
        outer.erase(outer.begin());
    }

    void run(const void* const* inputs, void* output, std::byte*) const override {
        const T* in = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        const Index pieces = rows.extent * count(outer);
        parallel_ranges(
            threads, pieces, std::max<Index>(grain / row, 1), [&](Index begin, Index end) {
                while (begin < end) {
                    const Index first = begin % rows.extent;
                    const Index n = std::min(rows.extent - first, end - begin);
                    const Place at(begin / rows.extent, outer);
                    copy(in + at.in + first * rows.in, out + at.out + first * rows.out, n);
                    begin += n;
                }
            });
    }

  private:
    void copy(const T* in, T* out, Index n) const {
        constexpr Index W = lanes<T>;
        if (row > 16 * W) {
            for (; n > 0; --n, in += rows.in, out += rows.out)
                std::memcpy(out, in, std::size_t(row) * sizeof(T));
            return;
        }
        const auto rest = LaneMask<T>::first(row % W);
        for (; n > 0; --n, in += rows.in, out += rows.out) {
            Index i = 0;
            for (; i + W <= row; i += W) store(out + i, load(in + i));
            if (i < row) rest.store(out + i, rest.load(in + i));
        }
    }

    Index row;
    Dimension rows;
    std::vector<Dimension> outer;
    int threads;
};

template <typename T>
class TransposePlanes final : public Plan {
    static constexpr Index W = lanes<T>;
    // Edge of the part of a plane that is transposed at a time: whole cache lines of both arrays.
    static constexpr Index edge = 4 * cache_line / Index(sizeof(T));

  public:
    TransposePlanes(std::vector<Dimension> dims, int threads) : threads(threads) {
        to = dims[0];
        dims.erase(dims.begin());
        const auto last = std::find_if(dims.begin(), dims.end(),
                                       [](const Dimension& dim) { return dim.in == 1; });
        from = *last;
        dims.erase(last);
        outer = std::move(dims);
    }

    void run(const void* const* inputs, void* output, std::byte*) const override {
        const T* in = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        const Index across = (from.extent + edge - 1) / edge, down = (to.extent + edge - 1) / edge;
        const Index part = std::min(edge, from.extent) * std::min(edge, to.extent);
        parallel_ranges(threads, count(outer) * across * down, std::max<Index>(grain / part, 1),
                        [&](Index i, Index end) {
                            for (; i < end; ++i) {
                                const Place at(i / (across * down), outer);
                                transpose_part(in + at.in, out + at.out, i % across * edge,
                                               i / across % down * edge);
                            }
                        });
    }

  private:
    // The part from elements (f, t) of `from` and `to` on.
    void transpose_part(const T* in, T* out, Index f, Index t) const {
        const Index f_end = std::min(f + edge, from.extent), t_end = std::min(t + edge, to.extent);
        for (; f < f_end; f += W)
            for (Index k = t; k < t_end; k += W)
                square(in + f + k * to.in, out + f * from.out + k, std::min(W, f_end - f),
                       std::min(W, t_end - k));
    }

    void square(const T* in, T* out, Index columns, Index rows) const {
        Vec<T> square[W];
        if (columns == W && rows == W) {
#pragma GCC unroll 16
            for (Index i = 0; i < W; ++i) square[i] = load(in + i * to.in);
            transpose<T>(square);
#pragma GCC unroll 16
            for (Index i = 0; i < W; ++i) store(out + i * from.out, square[i]);
            return;
        }
        const auto wide = LaneMask<T>::first(columns), high = LaneMask<T>::first(rows);
        for (Index i = 0; i < W; ++i) square[i] = i < rows ? wide.load(in + i * to.in) : Vec<T>{};
        transpose<T>(square);
        for (Index i = 0; i < columns; ++i) high.store(out + i * from.out, square[i]);
    }

    Dimension from, to;
    std::vector<Dimension> outer;
    int threads;
};

class Direct final : public Algorithm<Permute> {
  public:
    std::string_view name() const override { return "direct"; }

    // As for a reorder; nothing where the memory stays as it is.
    double cost(const Permute& p) const override {
        if (merged(p).size() == 1) return 0;
        return 6.0 * double(p.output().held()) / double(channel_block(p.dtype)) / p.threads;
    }

    std::unique_ptr<Plan> plan(const Permute& p, const WeightSet&) const override {
        return with_storage(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            using T = decltype(zero);
            if constexpr (sizeof(T) == 1) {
                // Masks are small, and registers transpose no bytes.
                return make_plan([p](const void* const* inputs, void* output, std::byte*) {
                    p.reference(inputs, WeightSet({}), output);
                });
            } else {
                std::vector<Dimension> dims = merged(p);
                if (dims[0].in == 1)
                    return std::make_unique<CopyRows<T>>(std::move(dims), p.threads);
                return std::make_unique<TransposePlanes<T>>(std::move(dims), p.threads);
            }
        });
    }
};

const Register<Permute, Direct> registered;

}  // namespace
}  // namespace ai3
