// The transforms of Winograd's minimal filtering, from interpolation points (Toom-Cook):
//
//   Y = AT [ (G g GT) . (BT d B) ] A
//
// with points 0, 1, -1, 2, -2, 1/2, -1/2 (as many as are needed) and infinity. Points come in pairs
// of opposite sign, whose rows have the same even terms and opposite odd ones; both transforms of
// the data use that.
#pragma once

#include <array>

#include "core/simd.hpp"

namespace ai3 {

template <int M, int R>
struct Winograd {
    static constexpr int alpha = M + R - 1;
    static_assert(alpha % 2 == 0 && alpha <= 8);
    template <int Rows, int Columns>
    using Matrix = std::array<std::array<double, Columns>, Rows>;

    static constexpr std::array<double, 7> points{0, 1, -1, 2, -2, 0.5, -0.5};

    // Row j: the coefficients of the product of (x - a_l) over the finite points l other than j.
    static constexpr Matrix<alpha, alpha> make_input() {
        Matrix<alpha, alpha> rows{};
        for (int j = 0; j < alpha; ++j) {
            rows[j][0] = 1;
            int degree = 0;
            for (int l = 0; l < alpha - 1; ++l) {
                if (l == j) continue;
                ++degree;
                for (int k = degree; k >= 0; --k)
                    rows[j][k] = (k > 0 ? rows[j][k - 1] : 0) - points[l] * rows[j][k];
            }
        }
        return rows;
    }

    static constexpr Matrix<alpha, R> make_weight() {
        Matrix<alpha, R> rows{};
        for (int j = 0; j < alpha - 1; ++j) {
            double scale = 1, power = 1;
            for (int l = 0; l < alpha - 1; ++l)
                if (l != j) scale *= points[j] - points[l];
            for (int k = 0; k < R; ++k, power *= points[j]) rows[j][k] = power / scale;
        }
        rows[alpha - 1][R - 1] = 1;
        return rows;
    }

    static constexpr Matrix<M, alpha> make_output() {
        Matrix<M, alpha> rows{};
        for (int j = 0; j < alpha - 1; ++j) {
            double power = 1;
            for (int i = 0; i < M; ++i, power *= points[j]) rows[i][j] = power;
        }
        rows[M - 1][alpha - 1] = 1;
        return rows;
    }

    static constexpr Matrix<alpha, alpha> BT = make_input();
    static constexpr Matrix<alpha, R> G = make_weight();
    static constexpr Matrix<M, alpha> AT = make_output();

    // Vectors of kernels: (R, R) vectors at `in` to (alpha, alpha) at `out` that are `stride`
    // apart, u = G g GT. In double precision, as what the rounding of weights adds is not small.
    template <typename T>
    static void weight(const T* in, T* out, Index stride, bool streamed) {
        constexpr int W = lanes<double>;
        // Whole lines go out, as those of all positions may share a cache set.
        alignas(cache_line) T u[alpha * alpha * lanes<T>];
        typedef T Part __attribute__((vector_size(W * sizeof(T)), aligned(sizeof(T)), may_alias));
        for (int part = 0; part < lanes<T>; part += W) {
            Vec<double> g[R][R], half[alpha][R];
#pragma GCC unroll 25
            for (int i = 0; i < R * R; ++i)
                g[i / R][i % R] = __builtin_convertvector(
                    *reinterpret_cast<const Part*>(in + i * lanes<T> + part), Vec<double>);
#pragma GCC unroll 8
            for (int i = 0; i < alpha; ++i)
#pragma GCC unroll 5
                for (int j = 0; j < R; ++j) {
                    half[i][j] = G[i][0] * g[0][j];
#pragma GCC unroll 5
                    for (int k = 1; k < R; ++k) half[i][j] += G[i][k] * g[k][j];
                }
#pragma GCC unroll 8
            for (int i = 0; i < alpha; ++i)
#pragma GCC unroll 8
                for (int j = 0; j < alpha; ++j) {
                    Vec<double> total = half[i][0] * G[j][0];
#pragma GCC unroll 5
                    for (int k = 1; k < R; ++k) total += half[i][k] * G[j][k];
                    *reinterpret_cast<Part*>(u + (i * alpha + j) * lanes<T> + part) =
                        __builtin_convertvector(total, Part);
                }
        }
        for (int i = 0; i < alpha * alpha; ++i)
            if (streamed)
                stream(out + i * stride, load(u + i * lanes<T>));
            else
                store(out + i * stride, load(u + i * lanes<T>));
    }

    // Transforms the vectors d[alpha][alpha] at `in`, rows `pitch` apart and columns one vector,
    // to (alpha, alpha) vectors at `out` that are `stride` apart; ROUNDED to bfloat16, in float.
    template <typename T, bool ROUNDED = false, typename To>
    static void input(const T* in, Index pitch, To* out, Index stride) {
        Vec<T> half[alpha][alpha];
#pragma GCC unroll 8
        for (int j = 0; j < alpha; ++j) {
            Vec<T> column[alpha], result[alpha];
#pragma GCC unroll 8
            for (int i = 0; i < alpha; ++i) column[i] = load(in + i * pitch + j * lanes<T>);
            apply_input<T>(column, result);
#pragma GCC unroll 8
            for (int i = 0; i < alpha; ++i) half[i][j] = result[i];
        }
#pragma GCC unroll 8
        for (int i = 0; i < alpha; ++i) {
            Vec<T> result[alpha];
            apply_input<T>(half[i], result);
#pragma GCC unroll 8
            for (int j = 0; j < alpha; ++j) {
                if constexpr (ROUNDED) result[j] = widened(narrowed(result[j]));
                store(out + (i * alpha + j) * stride, result[j]);
            }
        }
    }

    // Transforms (alpha, alpha) vectors that are `stride` apart, adds `bias`, and writes M x M
    // vectors to `out`, rows `pitch` and columns `step` apart.
    template <typename T>
    static void output(const T* in, Index stride, Vec<T> bias, T* out, Index pitch, Index step) {
        Vec<T> half[M][alpha];
#pragma GCC unroll 8
        for (int j = 0; j < alpha; ++j) {
            Vec<T> column[alpha], result[M];
#pragma GCC unroll 8
            for (int i = 0; i < alpha; ++i) column[i] = load(in + (i * alpha + j) * stride);
            apply_output<T>(column, result);
#pragma GCC unroll 8
            for (int i = 0; i < M; ++i) half[i][j] = result[i];
        }
#pragma GCC unroll 8
        for (int i = 0; i < M; ++i) {
            Vec<T> result[M];
            apply_output<T>(half[i], result);
#pragma GCC unroll 8
            for (int j = 0; j < M; ++j) store(out + i * pitch + j * step, result[j] + bias);
        }
    }

    // The reverse of `output`, for gradients: M x M vectors at `in`, rows `pitch` apart and columns
    // one vector, to (alpha, alpha) vectors at `out` that are `stride` apart, A y AT.
    template <typename T>
    static void gradient(const T* in, Index pitch, T* out, Index stride) {
        Vec<T> half[M][alpha];
#pragma GCC unroll 8
        for (int i = 0; i < M; ++i) {
            Vec<T> row[M];
#pragma GCC unroll 8
            for (int j = 0; j < M; ++j) row[j] = load(in + i * pitch + j * lanes<T>);
            apply_gradient<T>(row, half[i]);
        }
#pragma GCC unroll 8
        for (int j = 0; j < alpha; ++j) {
            Vec<T> column[M], result[alpha];
#pragma GCC unroll 8
            for (int i = 0; i < M; ++i) column[i] = half[i][j];
            apply_gradient<T>(column, result);
#pragma GCC unroll 8
            for (int i = 0; i < alpha; ++i) store(out + (i * alpha + j) * stride, result[i]);
        }
    }

    // The reverse of `weight`: (alpha, alpha) vectors that are `stride` apart to (R, R) vectors at
    // `out` that are `step` apart, GT u G.
    template <typename T>
    static void kernel(const T* in, Index stride, T* out, Index step) {
        Vec<T> half[R][alpha];
#pragma GCC unroll 8
        for (int j = 0; j < alpha; ++j) {
            Vec<T> column[alpha];
#pragma GCC unroll 8
            for (int i = 0; i < alpha; ++i) column[i] = load(in + (i * alpha + j) * stride);
#pragma GCC unroll 5
            for (int r = 0; r < R; ++r) half[r][j] = kernel_terms<T>(column, r);
        }
#pragma GCC unroll 5
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 5
            for (int c = 0; c < R; ++c)
                store(out + (r * R + c) * step, kernel_terms<T>(half[r], c));
    }

  private:
    // Always inline: vectors are to stay in registers however much else a file compiles.
    // The terms of row `Row` of BT whose columns are First, First + 2, ...
    template <typename T, int Row, int First>
    [[gnu::always_inline]] static Vec<T> terms(const Vec<T>* in) {
        Vec<T> total{};
        bool begun = false;
#pragma GCC unroll 8
        for (int k = First; k < alpha; k += 2) {
            if (BT[Row][k] == 0) continue;
            total = begun ? total + in[k] * T(BT[Row][k]) : in[k] * T(BT[Row][k]);
            begun = true;
        }
        return total;
    }

    template <typename T>
    [[gnu::always_inline]] static void apply_input(const Vec<T>* in, Vec<T>* out) {
        // The rows of 0 and of infinity have terms of one parity only.
        out[0] = terms<T, 0, 0>(in);
        out[alpha - 1] = terms<T, alpha - 1, 1>(in);
        apply_pairs<T>(in, out, std::make_integer_sequence<int, (alpha - 2) / 2>{});
    }

    template <typename T, int... I>
    [[gnu::always_inline]] static void apply_pairs(const Vec<T>* in, Vec<T>* out,
                                                   std::integer_sequence<int, I...>) {
        (apply_pair<T, 2 * I + 1>(in, out), ...);
    }

    template <typename T, int Row>
    [[gnu::always_inline]] static void apply_pair(const Vec<T>* in, Vec<T>* out) {
        const Vec<T> even = terms<T, Row, 0>(in), odd = terms<T, Row, 1>(in);
        out[Row] = even + odd;
        out[Row + 1] = even - odd;
    }

    template <typename T>
    [[gnu::always_inline]] static void apply_output(const Vec<T>* in, Vec<T>* out) {
        constexpr int pairs = (alpha - 2) / 2;
        Vec<T> sum[pairs], difference[pairs];
#pragma GCC unroll 4
        for (int k = 0; k < pairs; ++k) {
            sum[k] = in[2 * k + 1] + in[2 * k + 2];
            difference[k] = in[2 * k + 1] - in[2 * k + 2];
        }
#pragma GCC unroll 8
        for (int i = 0; i < M; ++i) {
            Vec<T> total = i % 2 ? difference[0] : sum[0];
#pragma GCC unroll 4
            for (int k = 1; k < pairs; ++k)
                total += (i % 2 ? difference[k] : sum[k]) * T(AT[i][2 * k + 1]);
            if (i == 0) total += in[0];
            if (i == M - 1) total += in[alpha - 1];
            out[i] = total;
        }
    }

    template <typename T>
    [[gnu::always_inline]] static void apply_gradient(const Vec<T>* in, Vec<T>* out) {
        out[0] = in[0];
        out[alpha - 1] = in[M - 1];
#pragma GCC unroll 4
        for (int k = 1; k < alpha - 1; k += 2) {
            Vec<T> even = in[0], odd = in[1] * T(AT[1][k]);
#pragma GCC unroll 8
            for (int i = 2; i < M; ++i) (i % 2 ? odd : even) += in[i] * T(AT[i][k]);
            out[k] = even + odd;
            out[k + 1] = even - odd;
        }
    }

    // Column r of G times the vectors.
    template <typename T>
    [[gnu::always_inline]] static Vec<T> kernel_terms(const Vec<T>* in, int r) {
        Vec<T> total = in[r == R - 1 ? alpha - 1 : 0] * T(G[r == R - 1 ? alpha - 1 : 0][r]);
#pragma GCC unroll 8
        for (int i = 0; i < alpha - 1; ++i) {
            if (G[i][r] == 0 || (i == 0 && r != R - 1)) continue;
            total += in[i] * T(G[i][r]);
        }
        return total;
    }
};

}  // namespace ai3
