// A few queries at a time meet all keys, a block of keys at a time: their scores never leave the
// nearest caches. With several blocks the largest score and the sum so far are corrected from block
// to block.
//
// Dao et al., "FlashAttention", arXiv 2205.14135, algorithm 1; Milakov, Gimelshein, "Online
// normalizer calculation for softmax", arXiv 1805.02867.

#include <cmath>

#include "kernels/product_tile.hpp"
#include "kernels/softmax_row.hpp"
#include "ops/scaled_dot_product_attention/op.hpp"

namespace ai3 {
namespace {

template <typename T>
class AttentionPlan final : public Plan {
    using Tile = ProductTile<T>;
    using P = ScaledDotProductAttention;
    static constexpr Index W = lanes<T>;
    static constexpr Index panel = Tile::columns;
    // Keys in a block, and queries that a transposed block of keys is made for.
    static constexpr Index block = 2048 / sizeof(T);
    static constexpr Index block_queries = 512;

    // In elements of a thread's workspace: a block of keys, transposed in panels (panel, E,
    // columns) and the scores of a tile of queries.
    static Index key_elements(const P& p) { return block_keys(p) * p.E; }
    static Index score_elements(const P& p) { return Tile::max_rows * block_keys(p); }
    static Index block_keys(const P& p) {
        return (std::min(block, p.S) + panel - 1) / panel * panel;
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
        return std::size_t(p.threads) *
               align_up(std::size_t(key_elements(p) + score_elements(p)) * sizeof(T));
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const std::size_t share = workspace_bytes(p) / std::size_t(p.threads);
        parallel_for(p.threads, p.batch * parts, [&](Index task, int thread) {
            const Index i = task / parts, part = task % parts;
            T* keys = reinterpret_cast<T*>(workspace + std::size_t(thread) * share);
            attend(inputs, i, p.L * part / parts, p.L * (part + 1) / parts, keys,
                   keys + key_elements(p), static_cast<T*>(output) + i * p.L * p.EV);
        });
    }

  private:
    // What is known of queries after some blocks of keys: the largest score, the sum of weights.
    struct States {
        T most[block_queries], total[block_queries];
    };

    // The queries [first, last) of item i.
    void attend(const void* const* inputs, Index i, Index first, Index last, T* keys, T* scores,
                T* out) const {
        const T* query = static_cast<const T*>(inputs[0]) + i * p.L * p.E;
        const T* key = static_cast<const T*>(inputs[1]) + i * p.S * p.E;
        const T* value = static_cast<const T*>(inputs[2]) + i * p.S * p.EV;
        const T* mask =
            p.has_mask() ? static_cast<const T*>(inputs[3]) + p.mask_offset(i) : nullptr;
        States states;
        for (Index s = 0; s == 0 || s < p.keys(last - 1); s += block) {
            const Index n = std::min(block, p.S - s);
            transpose_keys(key + s * p.E, n, keys);
            for_row_tiles<T>(last - first, [&](Index row, Index rows) {
                T *most = states.most + row, *total = states.total + row;
                row += first;
                score(query + row * p.E, keys, rows, n, scores);
                for (Index r = 0; r < rows; r += W)
                    weigh(scores + r * pitch, mask, row + r, std::min(W, rows - r), s, n, most + r,
                          total + r, out + (row + r) * p.EV);
                for (Index e = 0; e < p.EV; e += panel)
                    Tile{scores, pitch, value + s * p.EV + e, p.EV, n, out + row * p.EV + e,
                         p.EV,   s > 0}
                        .compute(rows, std::min(panel, p.EV - e));
                if (s + block >= p.keys(last - 1))
                    for (Index r = 0; r < rows; ++r)
                        scale_row(out + (row + r) * p.EV, p.EV,
                                  total[r] == 0 ? T(0) : T(1) / total[r]);
            });
        }
    }

    // n keys (n, E) to panels (E, panel); columns past the last are zeros.
    void transpose_keys(const T* key, Index n, T* to) const {
        for (Index s = 0; s < n; s += W) {
            T* column = to + s / panel * panel * p.E + s % panel;
            for (Index e = 0; e < p.E; e += W) {
                const Index depth = std::min(W, p.E - e);
                const auto live = LaneMask<T>::first(depth);
                Vec<T> square[W];
                for (Index l = 0; l < W; ++l)
                    square[l] = s + l < n ? live.load(key + (s + l) * p.E + e) : Vec<T>{};
                transpose<T>(square);
                for (Index l = 0; l < depth; ++l) store(column + (e + l) * panel, square[l]);
            }
        }
    }

    // Products of queries and keys.
    void score(const T* query, const T* keys, Index rows, Index n, T* scores) const {
        for (Index s = 0; s < n; s += panel)
            Tile{query, p.E, keys + s * p.E, panel, p.E, scores + s, pitch}.compute(
                rows, n - s > W ? panel : W);
    }

    // The scores of at most W queries from l on and the keys [s, s + n) become weights, by each
    // one's largest score so far; the results so far, and their state, are brought to that too.
    void weigh(T* scores, const T* mask, Index l, Index queries, Index s, Index n, T* most,
               T* total, T* out) const {
        const auto live = LaneMask<T>::first(queries);
        const Vec<T> nothing = broadcast(-std::numeric_limits<T>::infinity());
        // By query and lane, then folded to a lane for each query.
        Vec<T> rows[W];
        for (Index r = 0; r < W; ++r)
            rows[r] = r < queries ? scale_scores(scores + r * pitch, mask, l + r, s, n) : nothing;
        const Vec<T> before = s > 0 ? live.load(most) : nothing;
        const Vec<T> largest =
            larger<T>(before, fold<T>(rows, [](Vec<T> a, Vec<T> b) { return larger<T>(a, b); }));
        const Vec<T> centre = largest == nothing ? Vec<T>{} : largest;
        for (Index r = 0; r < W; ++r)
            rows[r] = r < queries ? exponentials(scores + r * pitch, scores + r * pitch,
                                                 keys_of(l + r, s, n), T(1), T(centre[r]))
                                  : Vec<T>{};
        Vec<T> sums = fold<T>(rows, [](Vec<T> a, Vec<T> b) { return a + b; });
        if (s > 0) {
            const Vec<T> correction = exp<T>(before - centre);
            sums += live.load(total) * correction;
            for (Index r = 0; r < queries; ++r)
                if (correction[r] != T(1)) scale_row(out + r * p.EV, p.EV, T(correction[r]));
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
    Vec<T> scale_scores(T* scores, const T* mask, Index l, Index s, Index n) const {
        const Index live = keys_of(l, s, n), along = mask ? p.mask_strides.back() : 0;
        std::fill(scores + live, scores + n, T(0));
        const T scale = T(p.scale);
        const T* row =
            mask ? mask + l * p.mask_strides[p.mask_strides.size() - 2] + s * along : nullptr;
        const Vec<T> least = broadcast(-std::numeric_limits<T>::infinity());
        const Vec<T> all = mask && !along ? broadcast(*row) : Vec<T>{};
        Vec<T> most = least;
        for (Index k = 0; k < live; k += W) {
            const auto lane = LaneMask<T>::first(std::min(W, live - k));
            const Vec<T> score = lane.load(scores + k) * scale + (along ? lane.load(row + k) : all);
            lane.store(scores + k, score);
            most = larger<T>(most, lane.select(score, least));
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

    std::size_t workspace_bytes(const ScaledDotProductAttention& p) const override {
        return with_type(
            p.dtype, [&](auto zero) { return AttentionPlan<decltype(zero)>::workspace_bytes(p); });
    }

    std::unique_ptr<Plan> plan(const ScaledDotProductAttention& p,
                               const WeightSet&) const override {
        return with_type(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            return std::make_unique<AttentionPlan<decltype(zero)>>(p);
        });
    }
};

const Register<ScaledDotProductAttention, Direct> registered;

}  // namespace
}  // namespace ai3
