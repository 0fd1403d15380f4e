// A few queries at a time meet all keys, a block of keys at a time: their scores never leave the
// nearest caches. With several blocks the largest score and the sum so far are corrected from block
// to block.
//
// Dao et al., "FlashAttention", arXiv 2205.14135, algorithm 1; Milakov, Gimelshein, "Online
// normalizer calculation for softmax", arXiv 1805.02867.

#include <cmath>
#include <utility>

#include "kernels/convert.hpp"
#include "kernels/product_tile.hpp"
#include "kernels/softmax_row.hpp"
#include "ops/scaled_dot_product_attention/op.hpp"

namespace ai3 {
namespace {

// In T, or in float of what is bfloat16: a task converts what it reads before, and its result
// after.
template <typename T>
class AttentionPlan final : public Plan {
    using Sum = Lane<T>;
    using Tile = ProductTile<Sum>;
    using P = ScaledDotProductAttention;
    static constexpr bool converted = !std::is_same_v<T, Sum>;
    static constexpr Index W = lanes<T>;
    static constexpr Index panel = Tile::columns;
    // Keys in a block, and queries that a transposed block of keys is made for.
    static constexpr Index block = 2048 / sizeof(Sum);
    static constexpr Index block_queries = 512;
    // A weight of less than the smallest normal number beside the largest, which is 1, is 0: the
    // products with it would take some processors a hundred times as long.
    static constexpr Sum negligible = detail::Elementary<Sum>::exp_normal;

    // In elements of a thread's workspace: a block of keys, transposed in panels (panel, E,
    // columns), the scores of a tile of queries, and what is converted.
    static Index key_elements(const P& p) { return block_keys(p) * p.E; }
    static Index score_elements(const P& p) { return Tile::max_rows * block_keys(p); }
    static Index block_keys(const P& p) {
        return (std::min(block, p.S) + panel - 1) / panel * panel;
    }
    static Index converted_elements(const P& p) {
        return converted ? (p.S + std::min(p.L, block_queries)) * (p.E + p.EV) : 0;
    }
    static std::size_t thread_bytes(const P& p) {
        return align_up(std::size_t(key_elements(p) + score_elements(p) + converted_elements(p)) *
                        sizeof(Sum));
    }
    // Of the mask as it is given.
    static Index mask_elements(const P& p) {
        if (!p.has_mask()) return 0;
        Index last = 0;
        for (std::size_t d = 0; d < p.mask_strides.size(); ++d)
            last += (p.scores_shape[d] - 1) * p.mask_strides[d];
        return last + 1;
    }
    static std::size_t mask_bytes(const P& p) {
        return converted ? align_up(std::size_t(mask_elements(p)) * sizeof(Sum)) : 0;
    }

  public:
    explicit AttentionPlan(const P& problem) : p(problem), pitch(block_keys(problem)) {
        constexpr double least_work = 1 << 17;
        const double work = double(p.batch) * double(p.L) * double(p.S) * double(p.E + p.EV + 32);
        p.threads = threads_worth(work, least_work, p.threads);
        // Queries of an item are shared out while there are fewer items than threads can use.
        const Index most = (p.L + Tile::max_rows - 1) / Tile::max_rows;
        parts = p.batch % p.threads == 0 || p.batch >= 4 * p.threads
                    ? 1
                    : std::min<Index>(p.threads, most);
        parts = std::max(parts, (p.L + block_queries - 1) / block_queries);
    }

    static std::size_t workspace_bytes(const P& p) {
        return mask_bytes(p) + std::size_t(p.threads) * thread_bytes(p);
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const auto array = [&](int i) { return static_cast<const T*>(inputs[i]); };
        const Sum* mask = nullptr;
        if constexpr (converted) {
            Sum* own = reinterpret_cast<Sum*>(workspace);
            if (p.has_mask()) convert(array(3), own, mask_elements(p), p.threads), mask = own;
            workspace += mask_bytes(p);
        } else if (p.has_mask()) {
            mask = array(3);
        }
        parallel_for(p.threads, p.batch * parts, [&](Index task, int thread) {
            const Index i = task / parts, part = task % parts;
            const Index first = p.L * part / parts, last = p.L * (part + 1) / parts;
            const T* query = array(0) + (i * p.L + first) * p.E;
            const T* key = array(1) + i * p.S * p.E;
            const T* value = array(2) + i * p.S * p.EV;
            T* out = static_cast<T*>(output) + (i * p.L + first) * p.EV;
            const Sum* own_mask = mask ? mask + p.mask_offset(i) : nullptr;
            Sum* keys = reinterpret_cast<Sum*>(workspace + std::size_t(thread) * thread_bytes(p));
            Sum* scores = keys + key_elements(p);
            if constexpr (converted) {
                Sum* memory = scores + score_elements(p);
                const auto widened = [&](const T* from, Index n) {
                    convert(from, memory, n, 1);
                    return std::exchange(memory, memory + n);
                };
                const Sum *q = widened(query, (last - first) * p.E), *k = widened(key, p.S * p.E),
                          *v = widened(value, p.S * p.EV);
                attend(q, k, v, own_mask, first, last, keys, scores, memory);
                convert(memory, out, (last - first) * p.EV, 1);
            } else {
                attend(query, key, value, own_mask, first, last, keys, scores, out);
            }
        });
    }

  private:
    // What is known of queries after some blocks of keys: the largest score, the sum of weights.
    struct States {
        Sum most[block_queries], total[block_queries];
    };

    // The queries [first, last) of an item: `query` and `out` are those of the first.
    void attend(const Sum* query, const Sum* key, const Sum* value, const Sum* mask, Index first,
                Index last, Sum* keys, Sum* scores, Sum* out) const {
        States states;
        for (Index s = 0; s == 0 || s < p.keys(last - 1); s += block) {
            const Index n = std::min(block, p.S - s);
            transpose_keys(key + s * p.E, n, keys);
            for_row_tiles<Sum>(last - first, [&](Index row, Index rows) {
                Sum *most = states.most + row, *total = states.total + row;
                score(query + row * p.E, keys, rows, n, scores);
                for (Index r = 0; r < rows; r += W)
                    weigh(scores + r * pitch, mask, first + row + r, std::min(W, rows - r), s, n,
                          most + r, total + r, out + (row + r) * p.EV);
                for (Index e = 0; e < p.EV; e += panel)
                    Tile{scores, pitch, value + s * p.EV + e, p.EV, n, out + row * p.EV + e,
                         p.EV,   s > 0}
                        .compute(rows, std::min(panel, p.EV - e));
                if (s + block >= p.keys(last - 1))
                    for (Index r = 0; r < rows; ++r)
                        scale_row(out + (row + r) * p.EV, p.EV,
                                  total[r] == 0 ? Sum(0) : Sum(1) / total[r]);
            });
        }
    }

    // n keys (n, E) to panels (E, panel); columns past the last are zeros.
    void transpose_keys(const Sum* key, Index n, Sum* to) const {
        for (Index s = 0; s < n; s += W) {
            Sum* column = to + s / panel * panel * p.E + s % panel;
            for (Index e = 0; e < p.E; e += W) {
                const Index depth = std::min(W, p.E - e);
                const auto live = LaneMask<Sum>::first(depth);
                Vec<Sum> square[W];
                for (Index l = 0; l < W; ++l)
                    square[l] = s + l < n ? live.load(key + (s + l) * p.E + e) : Vec<Sum>{};
                transpose<Sum>(square);
                for (Index l = 0; l < depth; ++l) store(column + (e + l) * panel, square[l]);
            }
        }
    }

    // Products of queries and keys.
    void score(const Sum* query, const Sum* keys, Index rows, Index n, Sum* scores) const {
        for (Index s = 0; s < n; s += panel)
            Tile{query, p.E, keys + s * p.E, panel, p.E, scores + s, pitch}.compute(
                rows, n - s > W ? panel : W);
    }

    // The scores of at most W queries from l on and the keys [s, s + n) become weights, by each
    // one's largest score so far; the results so far, and their state, are brought to that too.
    void weigh(Sum* scores, const Sum* mask, Index l, Index queries, Index s, Index n, Sum* most,
               Sum* total, Sum* out) const {
        const auto live = LaneMask<Sum>::first(queries);
        const Vec<Sum> nothing = broadcast(-std::numeric_limits<Sum>::infinity());
        // By query and lane, then folded to a lane for each query.
        Vec<Sum> rows[W];
        for (Index r = 0; r < W; ++r)
            rows[r] = r < queries ? scale_scores(scores + r * pitch, mask, l + r, s, n) : nothing;
        const Vec<Sum> before = s > 0 ? live.load(most) : nothing;
        const Vec<Sum> largest = larger<Sum>(
            before, fold<Sum>(rows, [](Vec<Sum> a, Vec<Sum> b) { return larger<Sum>(a, b); }));
        const Vec<Sum> centre = largest == nothing ? Vec<Sum>{} : largest;
        for (Index r = 0; r < W; ++r)
            rows[r] = r < queries
                          ? exponentials(scores + r * pitch, scores + r * pitch,
                                         keys_of(l + r, s, n), Sum(1), Sum(centre[r]), negligible)
                          : Vec<Sum>{};
        Vec<Sum> sums = fold<Sum>(rows, [](Vec<Sum> a, Vec<Sum> b) { return a + b; });
        if (s > 0) {
            const Vec<Sum> correction = exp<Sum>(before - centre);
            sums += live.load(total) * correction;
            for (Index r = 0; r < queries; ++r)
                if (correction[r] != Sum(1)) scale_row(out + r * p.EV, p.EV, Sum(correction[r]));
        }
        live.store(most, largest);
        live.store(total, sums);
    }

    // How many of the keys [s, s + n) query l attends to.
    Index keys_of(Index l, Index s, Index n) const {
        return std::clamp<Index>(p.keys(l) - s, 0, n);
    }

    // Scales a query's scores and adds its mask; those that do not count become zeros. The largest
    // by lanes.
    Vec<Sum> scale_scores(Sum* scores, const Sum* mask, Index l, Index s, Index n) const {
        const Index live = keys_of(l, s, n), along = mask ? p.mask_strides.back() : 0;
        std::fill(scores + live, scores + n, Sum(0));
        const Sum scale = Sum(p.scale);
        const Sum* row =
            mask ? mask + l * p.mask_strides[p.mask_strides.size() - 2] + s * along : nullptr;
        const Vec<Sum> least = broadcast(-std::numeric_limits<Sum>::infinity());
        const Vec<Sum> all = mask && !along ? broadcast(*row) : Vec<Sum>{};
        Vec<Sum> most = least;
        for (Index k = 0; k < live; k += W) {
            const auto lane = LaneMask<Sum>::first(std::min(W, live - k));
            const Vec<Sum> score =
                lane.load(scores + k) * scale + (along ? lane.load(row + k) : all);
            lane.store(scores + k, score);
            most = larger<Sum>(most, lane.select(score, least));
        }
        return most;
    }

    P p;
    // Elements between the scores of one query and the next.
    Index pitch;
    Index parts;
};

class Direct final : public Algorithm<ScaledDotProductAttention> {
  public:
    std::string_view name() const override { return "direct"; }
    bool takes_bfloat16() const override { return true; }

    std::size_t workspace_bytes(const ScaledDotProductAttention& p) const override {
        return with_real(
            p.dtype, [&](auto zero) { return AttentionPlan<decltype(zero)>::workspace_bytes(p); });
    }

    std::unique_ptr<Plan> plan(const ScaledDotProductAttention& p,
                               const WeightSet&) const override {
        return with_real(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            return std::make_unique<AttentionPlan<decltype(zero)>>(p);
        });
    }
};

const Register<ScaledDotProductAttention, Direct> registered;

}  // namespace
}  // namespace ai3
