// Discrete Fourier transforms of real images, one channel in each lane of a vector.
//
// A complex number is two vectors, the real part first. Lengths are powers of 2 from 4 to
// longest_fft. Nothing is scaled: forward_image gives twice the transform, and inverse_image of a
// transform gives the image times its number of pixels.
#pragma once

#include <array>
#include <cmath>
#include <numbers>

#include "core/simd.hpp"

namespace ai3 {

constexpr Index longest_fft = 128;

// cos and sin of -2 pi k / longest_fft.
template <typename T>
struct Twiddles {
    std::array<T, std::size_t(longest_fft)> re, im;

    Twiddles() {
        for (Index k = 0; k < longest_fft; ++k) {
            const double angle = -2 * std::numbers::pi * double(k) / double(longest_fft);
            re[std::size_t(k)] = T(std::cos(angle)), im[std::size_t(k)] = T(std::sin(angle));
        }
    }
};

template <typename T>
struct Complex {
    Vec<T> re, im;

    static Complex at(const T* p) { return {load(p), load(p + lanes<T>)}; }
    void put(T* p) const { store(p, re), store(p + lanes<T>, im); }
    Complex operator+(const Complex& b) const { return {re + b.re, im + b.im}; }
    Complex operator-(const Complex& b) const { return {re - b.re, im - b.im}; }
    Complex operator*(const Complex& b) const {
        return {re * b.re - im * b.im, re * b.im + im * b.re};
    }
};

// The transform of n complex numbers, `stride` elements apart, by Stockham's passes of radix 4;
// `inverse` with the conjugate factors. `work` holds 2 n numbers, in which the result lies at the
// place that is returned, side by side.
//
// Van Loan, "Computational Frameworks for the Fast Fourier Transform", 1992, section 1.7.
template <bool inverse, typename T>
const T* fft(const Twiddles<T>& twiddles, Index n, const T* from, Index stride, T* work) {
    constexpr Index one = 2 * lanes<T>;
    const auto factor = [&](Index k) {
        const T im = twiddles.im[std::size_t(k)];
        return Complex<T>{broadcast(twiddles.re[std::size_t(k)]), broadcast(inverse ? -im : im)};
    };
    T* to = work;
    T* other = work + n * one;
    const Index total = n;
    Index s = 1;
    for (; n >= 4; n /= 4, s *= 4) {
        const Index m = n / 4, step = longest_fft / n, quarter = total / 4 * stride;
        for (Index p = 0; p < m; ++p) {
            const Complex<T> w1 = factor(p * step), w2 = factor(2 * p * step),
                             w3 = factor(3 * p * step);
            const T* in = from + s * p * stride;
            T* out = to + 4 * s * p * one;
            for (Index q = 0; q < s; ++q, in += stride, out += one) {
                const auto a = Complex<T>::at(in), b = Complex<T>::at(in + quarter),
                           c = Complex<T>::at(in + 2 * quarter),
                           d = Complex<T>::at(in + 3 * quarter);
                const auto sum = a + c, difference = a - c, even = b + d, odd = b - d;
                // -i times `odd`, or i times it.
                const Complex<T> turned =
                    inverse ? Complex<T>{-odd.im, odd.re} : Complex<T>{odd.im, -odd.re};
                (sum + even).put(out);
                if (p == 0) {
                    (difference + turned).put(out + s * one);
                    (sum - even).put(out + 2 * s * one);
                    (difference - turned).put(out + 3 * s * one);
                } else {
                    (w1 * (difference + turned)).put(out + s * one);
                    (w2 * (sum - even)).put(out + 2 * s * one);
                    (w3 * (difference - turned)).put(out + 3 * s * one);
                }
            }
        }
        from = to, stride = one;
        std::swap(to, other);
    }
    if (n == 2) {
        for (Index q = 0; q < s; ++q) {
            const auto a = Complex<T>::at(from + q * stride);
            const auto b = Complex<T>::at(from + (q + s) * stride);
            (a + b).put(to + q * one);
            (a - b).put(to + (q + s) * one);
        }
        from = to;
    }
    return from;
}

// Of an image of H x W real numbers per lane the W/2 + 1 columns of its transform that are not the
// conjugates of others.
template <typename T>
class ImageFft {
    static constexpr Index one = 2 * lanes<T>;

  public:
    ImageFft(Index height, Index width) : H(height), W(width), columns(W / 2 + 1) {}

    Index frequencies() const { return columns * H; }
    // Elements of the image in pairs of rows: (H / 2, W, 2, lanes).
    Index image_size() const { return H / 2 * W * one; }
    Index columns_size() const { return columns * H * one; }
    Index work_size() const { return 2 * std::max(H, W) * one; }

    // Calls put(column, its H complex numbers) for each column. `half` has room for columns_size().
    template <typename Put>
    void forward(const T* image, T* half, T* work, Put&& put) const {
        for (Index y = 0; y < H; y += 2) {
            // Two rows at once, as real and imaginary part.
            const T* z = fft<false>(twiddles, W, image + y / 2 * W * one, one, work);
            for (Index k = 0; k < columns; ++k) {
                const auto a = Complex<T>::at(z + k * one);
                const auto b = Complex<T>::at(z + (k == 0 ? 0 : W - k) * one);
                T* to = half + (k * H + y) * one;
                Complex<T>{a.re + b.re, a.im - b.im}.put(to);
                Complex<T>{a.im + b.im, b.re - a.re}.put(to + one);
            }
        }
        for (Index k = 0; k < columns; ++k)
            put(k, fft<false>(twiddles, H, half + k * H * one, one, work));
    }

    // Column k of the transform, of numbers `stride` apart, back to `half`, for the first `rows`
    // rows of the image.
    void inverse_column(Index k, const T* from, Index stride, Index rows, T* half, T* work) const {
        const T* z = fft<true>(twiddles, H, from, stride, work);
        for (Index y = 0; y < rows; ++y)
            Complex<T>::at(z + y * one).put(half + (y * columns + k) * one);
    }

    // From all columns in `half` rows y and y + 1 of the image as (W, 2, lanes).
    const T* inverse_rows(Index y, const T* half, T* pair, T* work) const {
        const T* a = half + y * columns * one;
        const T* b = a + columns * one;
        for (Index k = 0; k < columns; ++k) {
            const auto p = Complex<T>::at(a + k * one), q = Complex<T>::at(b + k * one);
            Complex<T>{p.re - q.im, p.im + q.re}.put(pair + k * one);
            if (k > 0) Complex<T>{p.re + q.im, q.re - p.im}.put(pair + (W - k) * one);
        }
        return fft<true>(twiddles, W, pair, one, work);
    }

  private:
    Index H, W, columns;
    Twiddles<T> twiddles;
};

}  // namespace ai3
