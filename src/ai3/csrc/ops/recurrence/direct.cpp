// A step is one product of a matrix and a few vectors, limited by reading the matrix: packed so
// that a block of units, one to a lane, reads its gates' weights from beginning to end. Threads
// have the same blocks in every step, whose weights stay in their caches.

#include "kernels/activation.hpp"
#include "ops/recurrence/op.hpp"

namespace ai3 {
namespace {

using Cell = Recurrence::Cell;

template <typename T>
Vec<T> sigmoid(Vec<T> x) {
    return activate<Activation::sigmoid>(T(0), x);
}

// sums[r][g] = for a block of units what gate g adds up of the K elements of row r; `weight` is
// (K, G, lanes). Even and odd elements are added up apart, as each sum waits for the one before.
template <typename T, int G, int R>
void products(const T* weight, const T* const* rows, Index K, Vec<T> (*sums)[G]) {
    constexpr Index W = lanes<T>;
    constexpr int apart = G * R * 2 <= accumulators ? 2 : 1;
    Vec<T> total[apart][R][G] = {};
    Index k = 0;
    for (; k + apart <= K; k += apart)
        for (int a = 0; a < apart; ++a, weight += G * W)
            for (int r = 0; r < R; ++r) {
                const Vec<T> x = broadcast(rows[r][k + a]);
                for (int g = 0; g < G; ++g) total[a][r][g] += load(weight + g * W) * x;
            }
    for (; k < K; ++k, weight += G * W)
        for (int r = 0; r < R; ++r) {
            const Vec<T> x = broadcast(rows[r][k]);
            for (int g = 0; g < G; ++g) total[0][r][g] += load(weight + g * W) * x;
        }
    for (int r = 0; r < R; ++r)
        for (int g = 0; g < G; ++g) {
            sums[r][g] = total[0][r][g];
            if constexpr (apart == 2) sums[r][g] += total[1][r][g];
        }
}

// The rows (G * U, K) of a matrix as (blocks of units, K, G, lanes), lanes that are left over zero.
template <typename T>
std::shared_ptr<const Buffer> packed(const WeightSet& weights, std::size_t which, Index G, Index U,
                                     Index K) {
    constexpr Index W = lanes<T>;
    const Index blocks = (U + W - 1) / W;
    return weights.packed("recurrence " + std::to_string(which) + " " + std::to_string(G),
                          std::size_t(blocks * K * G * W) * sizeof(T), [&](Buffer& buffer) {
                              const T* from = weights.data<T>(which);
                              T* to = buffer.as<T>();
                              for (Index b = 0; b < blocks; ++b)
                                  for (Index k = 0; k < K; ++k)
                                      for (Index g = 0; g < G; ++g)
                                          for (Index l = 0; l < W; ++l) {
                                              const Index unit = b * W + l;
                                              *to++ =
                                                  unit < U ? from[(g * U + unit) * K + k] : T(0);
                                          }
                          });
}

template <typename T, Cell cell>
class RecurrencePlan final : public Plan {
    static constexpr Index W = lanes<T>;
    static constexpr int G = cell == Cell::lstm ? 4 : cell == Cell::gru ? 3 : 1;
    static constexpr int most_rows = std::max(1, std::min(4, accumulators / G));

  public:
    RecurrencePlan(const Recurrence& problem, const WeightSet& weights)
        : p(problem),
          weight(packed<T>(weights, 0, G, p.H, p.P)),
          bias(weights.data<T>(1)),
          projection(p.has_projection ? packed<T>(weights, 2, 1, p.P, p.H) : nullptr) {
        constexpr double least = 1 << 15;  // multiply-adds
        threads = threads_worth(double(G * p.H) * double(p.P) * double(p.N), least, p.threads);
    }

    // c, h before its projection, and zeros.
    static std::size_t workspace_bytes(const Recurrence& p) {
        return (2 * align_up(std::size_t(p.N * p.H) * sizeof(T))) +
               align_up(std::size_t(p.P) * sizeof(T));
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const std::size_t states = align_up(std::size_t(p.N * p.H) * sizeof(T));
        const Index width = p.width(), row = p.N * width;
        const T* x = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        T* c = cell == Cell::lstm ? out + p.T * row : nullptr;
        T* whole = reinterpret_cast<T*>(workspace + states);
        T* zeros = reinterpret_cast<T*>(workspace + 2 * states);
        std::fill(zeros, zeros + p.P, T(0));
        if (c) {
            if (p.given > 2)
                std::copy_n(static_cast<const T*>(inputs[2]), p.N * p.H, c);
            else
                std::fill(c, c + p.N * p.H, T(0));
        }
        // h before a step: of each sample `pitch` elements after that of the one before.
        const T* h = p.given > 1 ? static_cast<const T*>(inputs[1]) : zeros;
        Index pitch = p.given > 1 ? p.P : 0;
        for (Index i = 0; i < p.T; ++i) {
            const Index t = p.step(i);
            T* next = out + t * row;
            const Index blocks = (p.H + W - 1) / W;
            T* fresh = p.has_projection ? whole : next;
            parallel_for(threads, blocks, [&](Index b, int) {
                units(b, x + t * p.N * G * p.H, h, pitch, c, fresh, p.has_projection ? p.H : width);
            });
            if (p.has_projection) project(whole, next);
            h = next;
            pitch = width;
        }
    }

  private:
    void units(Index block, const T* x, const T* h, Index pitch, T* c, T* next, Index width) const {
        Index n = 0;
        if constexpr (most_rows >= 4)
            for (; n + 4 <= p.N; n += 4) rows<4>(block, n, x, h, pitch, c, next, width);
        if constexpr (most_rows >= 2)
            for (; n + 2 <= p.N; n += 2) rows<2>(block, n, x, h, pitch, c, next, width);
        for (; n < p.N; ++n) rows<1>(block, n, x, h, pitch, c, next, width);
    }

    // The units of a block, of samples from n on.
    template <int R>
    void rows(Index block, Index n, const T* x, const T* h, Index pitch, T* c, T* next,
              Index width) const {
        const Index unit = block * W;
        const auto live = LaneMask<T>::first(std::min(W, p.H - unit));
        const T* states[R];
        for (int r = 0; r < R; ++r) states[r] = h + (n + r) * pitch;
        Vec<T> sums[R][G];
        products<T, G, R>(weight->as<T>() + block * p.P * G * W, states, p.P, sums);
        for (int r = 0; r < R; ++r) {
            Vec<T> in[G];
            for (int g = 0; g < G; ++g) {
                in[g] = live.load(x + ((n + r) * G + g) * p.H + unit);
                if (bias) sums[r][g] += live.load(bias + g * p.H + unit);
            }
            T* to = next + (n + r) * width + unit;
            if constexpr (cell == Cell::lstm) {
                T* state = c + (n + r) * p.H + unit;
                const Vec<T> kept = sigmoid<T>(in[1] + sums[r][1]) * live.load(state);
                const Vec<T> added = sigmoid<T>(in[0] + sums[r][0]) * tanh<T>(in[2] + sums[r][2]);
                live.store(state, kept + added);
                live.store(to, sigmoid<T>(in[3] + sums[r][3]) * tanh<T>(kept + added));
            } else if constexpr (cell == Cell::gru) {
                const Vec<T> reset = sigmoid<T>(in[0] + sums[r][0]);
                const Vec<T> stays = sigmoid<T>(in[1] + sums[r][1]);
                const Vec<T> fresh = tanh<T>(in[2] + reset * sums[r][2]);
                live.store(to, (T(1) - stays) * fresh + stays * live.load(states[r] + unit));
            } else if constexpr (cell == Cell::tanh) {
                live.store(to, tanh<T>(in[0] + sums[r][0]));
            } else {
                live.store(to, activate<Activation::relu>(T(0), in[0] + sums[r][0]));
            }
        }
    }

    // h of all samples, and zeros after it.
    void project(const T* whole, T* next) const {
        const Index blocks = (p.P + W - 1) / W;
        parallel_for(threads, blocks, [&](Index b, int) {
            const auto live = LaneMask<T>::first(std::min(W, p.P - b * W));
            for (Index n = 0; n < p.N; ++n) {
                const T* row = whole + n * p.H;
                Vec<T> sums[1][1];
                products<T, 1, 1>(projection->as<T>() + b * p.H * W, &row, p.H, sums);
                live.store(next + n * p.H + b * W, sums[0][0]);
            }
        });
        for (Index n = 0; n < p.N; ++n) std::fill(next + n * p.H + p.P, next + (n + 1) * p.H, T(0));
    }

    Recurrence p;
    std::shared_ptr<const Buffer> weight;
    const T* bias;
    std::shared_ptr<const Buffer> projection;
    int threads;
};

class Direct final : public Algorithm<Recurrence> {
  public:
    std::string_view name() const override { return "direct"; }

    std::size_t workspace_bytes(const Recurrence& p) const override {
        return with_type(p.dtype, [&](auto zero) {
            return RecurrencePlan<decltype(zero), Cell::lstm>::workspace_bytes(p);
        });
    }

    std::unique_ptr<Plan> plan(const Recurrence& p, const WeightSet& weights) const override {
        return with_type(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            using T = decltype(zero);
            switch (p.cell) {
                case Cell::lstm:
                    return std::make_unique<RecurrencePlan<T, Cell::lstm>>(p, weights);
                case Cell::gru:
                    return std::make_unique<RecurrencePlan<T, Cell::gru>>(p, weights);
                case Cell::tanh:
                    return std::make_unique<RecurrencePlan<T, Cell::tanh>>(p, weights);
                default:
                    return std::make_unique<RecurrencePlan<T, Cell::relu>>(p, weights);
            }
        });
    }
};

const Register<Recurrence, Direct> registered;

}  // namespace
}  // namespace ai3
