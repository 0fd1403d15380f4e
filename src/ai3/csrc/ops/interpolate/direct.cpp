// Rows of the input are stretched along the image's width when they are first needed, and kept
// while output rows are made of them: neighbours are mostly made of the same.

#include "kernels/remap.hpp"
#include "ops/interpolate/op.hpp"

namespace ai3 {
namespace {

template <typename T, int taps>
class StretchPlan final : public Plan {
    using Sum = Lane<T>;

  public:
    explicit StretchPlan(const Interpolate& problem) : p(problem) {
        for (Index i : p.columns.index) index.push_back(std::int32_t(i));
        for (double w : p.columns.weight) weight.push_back(Sum(w));
        // An image's rows are shared out while there are too few images for all threads.
        parts = std::clamp<Index>(4 * p.threads / std::max<Index>(p.N * p.C, 1), 1, p.OH);
    }

    static std::size_t workspace_bytes(const Interpolate& p) {
        return std::size_t(p.threads) * align_up(std::size_t(taps * p.OW) * sizeof(Sum));
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const T* in = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        const std::size_t share = workspace_bytes(p) / std::size_t(p.threads);
        parallel_for(p.threads, p.N * p.C * parts, [&](Index task, int thread) {
            const Index plane = task / parts, part = task % parts;
            stretch(in + plane * p.IH * p.IW, p.OH * part / parts, p.OH * (part + 1) / parts,
                    reinterpret_cast<Sum*>(workspace + std::size_t(thread) * share),
                    out + plane * p.OH * p.OW);
        });
    }

  private:
    // The output's rows [begin, end) of one plane.
    void stretch(const T* in, Index begin, Index end, Sum* kept, T* out) const {
        Index held[taps];
        std::fill(held, held + taps, Index(-1));
        for (Index oh = begin; oh < end; ++oh) {
            const Sum* row[taps];
            Sum factor[taps];
            for (int k = 0; k < taps; ++k) {
                const std::size_t at = std::size_t(oh * taps + k);
                const Index ih = p.rows.index[at];
                const Index slot = ih % taps;
                if (held[slot] != ih) {
                    widen(in + ih * p.IW, kept + slot * p.OW);
                    held[slot] = ih;
                }
                row[k] = kept + slot * p.OW;
                factor[k] = Sum(p.rows.weight[at]);
            }
            constexpr Index W = lanes<T>;
            for (Index i = 0; i < p.OW; i += W) {
                const auto live = LaneMask<Sum>::first(std::min(W, p.OW - i));
                Vec<T> total = live.load(row[0] + i) * factor[0];
                for (int k = 1; k < taps; ++k) total += live.load(row[k] + i) * factor[k];
                LaneMask<T>(live.bits()).store(out + oh * p.OW + i, total);
            }
        }
    }

    void widen(const T* in, Sum* out) const {
        const std::int32_t* at = index.data();
        const Sum* factor = weight.data();
        for (Index i = 0; i < p.OW; ++i, at += taps, factor += taps) {
            Sum total = Sum(in[at[0]]) * factor[0];
            for (int k = 1; k < taps; ++k) total += Sum(in[at[k]]) * factor[k];
            out[i] = total;
        }
    }

    Interpolate p;
    std::vector<std::int32_t> index;
    std::vector<Sum> weight;
    Index parts;
};

template <typename T>
std::unique_ptr<Plan> nearest_plan(const Interpolate& p) {
    Remap remap({p.N, p.C, p.IH, p.IW});
    remap.source[2] = p.rows.index;
    remap.source[3] = p.columns.index;
    return std::make_unique<RemapPlan<T>>(remap, p.dtype, p.threads);
}

class Direct final : public Algorithm<Interpolate> {
  public:
    std::string_view name() const override { return "direct"; }
    bool takes_bfloat16() const override { return true; }

    std::string refusal(const Interpolate& p) const override {
        return p.IW > std::numeric_limits<std::int32_t>::max() ? "its rows are too long"
                                                               : std::string{};
    }

    std::size_t workspace_bytes(const Interpolate& p) const override {
        return with_real(p.dtype, [&](auto zero) -> std::size_t {
            using T = decltype(zero);
            return p.taps == 1   ? 0
                   : p.taps == 2 ? StretchPlan<T, 2>::workspace_bytes(p)
                                 : StretchPlan<T, 4>::workspace_bytes(p);
        });
    }

    std::unique_ptr<Plan> plan(const Interpolate& p, const WeightSet&) const override {
        return with_real(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            using T = decltype(zero);
            if (p.taps == 1) return nearest_plan<T>(p);
            if (p.taps == 2) return std::make_unique<StretchPlan<T, 2>>(p);
            return std::make_unique<StretchPlan<T, 4>>(p);
        });
    }
};

const Register<Interpolate, Direct> registered;

}  // namespace
}  // namespace ai3
