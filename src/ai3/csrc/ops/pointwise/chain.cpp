#include "ops/pointwise/chain.hpp"

#include "ops/pointwise/vectors.hpp"

namespace ai3 {

namespace {

// Vectors that go through a chain together.
constexpr int together = accumulators > 16 ? 16 : 8;

// Whole vectors from an address on, or the elements of one that are in `mask`.
template <typename T>
struct Whole {
    Vec<T> load(const T* p, int v) const { return ai3::load(p + v * lanes<T>); }
    void store(T* p, int v, Vec<T> x) const { ai3::store(p + v * lanes<T>, x); }
};
template <typename T>
struct Part {
    LaneMask<T> mask;
    Vec<T> load(const T* p, int) const { return mask.load(p); }
    void store(T* p, int, Vec<T> x) const { mask.store(p, x); }
};

template <Function F, Beside beside, typename T, int N, typename Access>
[[gnu::always_inline]] inline void apply(Vec<T> (&x)[N], const void* const*& operand, Index at,
                                         Access access) {
    constexpr bool binary = function_rows[std::size_t(F)].operands == 2;
    if constexpr (is_cheap(F) && binary == (beside != Beside::nothing)) {
        constexpr bool is_array = beside == Beside::array || beside == Beside::array_before;
        const T* y = binary ? static_cast<const T*>(*operand++) : nullptr;
        if constexpr (is_array) y = read_anew(y + at);
        const Vec<T> number = binary && !is_array ? broadcast(*y) : Vec<T>{};
#pragma GCC unroll 16
        for (int v = 0; v < N; ++v) {
            Vec<T> other = number;
            if constexpr (is_array) other = access.load(y, v);
            if constexpr (beside == Beside::number_before || beside == Beside::array_before)
                x[v] = vectors<F, T>(other, x[v]);
            else
                x[v] = vectors<F, T>(x[v], other);
        }
    }
}

template <typename T, int N, typename Access>
[[gnu::always_inline]] inline void run(const std::vector<Link>& links, const void* const* operand,
                                       void* const* result, Index at, Access access) {
    Vec<T> x[N];
    const T* const first = static_cast<const T*>(*operand++) + at;
#pragma GCC unroll 16
    for (int v = 0; v < N; ++v) x[v] = access.load(first, v);
    const auto write = [&] {
        T* const to = static_cast<T*>(*result++) + at;
#pragma GCC unroll 16
        for (int v = 0; v < N; ++v) access.store(to, v, x[v]);
    };
    for (const Link link : links) switch (link.code) {
#define AI3_CASE(name, beside)                                                  \
    case Link(Function::name##_, Beside::beside).code:                          \
        apply<Function::name##_, Beside::beside, T, N>(x, operand, at, access); \
        break;
#define AI3_ROW(name, operands, kind, formula) \
    AI3_CASE(name, nothing)                    \
    AI3_CASE(name, number)                     \
    AI3_CASE(name, array)                      \
    AI3_CASE(name, number_before)              \
    AI3_CASE(name, array_before)
            AI3_POINTWISE_FUNCTIONS(AI3_ROW)
#undef AI3_ROW
#undef AI3_CASE
            default:
                write();
        }
    write();
}

template <typename T>
void chain(const std::vector<Link>& links, const void* const* operands, void* const* results,
           Index n) {
    constexpr Index W = lanes<T>;
    Index i = 0;
    const auto by = [&]<int N>(std::integral_constant<int, N>) {
        for (; i + N * W <= n; i += N * W) run<T, N>(links, operands, results, i, Whole<T>{});
    };
    by(std::integral_constant<int, together>{});
    by(std::integral_constant<int, 4>{});
    by(std::integral_constant<int, 1>{});
    if (i < n) run<T, 1>(links, operands, results, i, Part<T>{LaneMask<T>::first(n - i)});
}

}  // namespace

Chain chain_of(DType dtype) {
    return with_type(dtype, [](auto zero) -> Chain { return chain<decltype(zero)>; });
}

}  // namespace ai3
