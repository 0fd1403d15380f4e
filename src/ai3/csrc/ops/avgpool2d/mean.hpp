// The rule of SlidingPlan for means.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/simd.hpp"

namespace ai3 {

// Sums, divided in the end by divisor_h(oh) * divisor_w(ow).
template <typename T>
class Mean {
  public:
    template <typename H, typename V>
    Mean(Index OH, Index OW, H divisor_h, V divisor_w) {
        for (Index oh = 0; oh < OH; ++oh) rows.push_back(T(divisor_h(oh)));
        for (Index ow = 0; ow < OW; ++ow) columns.push_back(T(divisor_w(ow)));
        columns.resize(columns.size() + lanes<T>, columns.back());
        inverted = invertible(rows) && invertible(columns);
        if (inverted) {
            for (T& x : rows) x = 1 / x;
            for (T& x : columns) x = 1 / x;
        }
    }

    static Vec<T> neutral() { return Vec<T>{}; }
    static Vec<T> combine(Vec<T> a, Vec<T> b) { return a + b; }
    Vec<T> finish(Vec<T> v, Index oh, Index ow) const {
        const Vec<T> divisor = rows[std::size_t(oh)] * load(&columns[std::size_t(ow)]);
        return inverted ? v * divisor : v / divisor;
    }
    Vec<T> finish_channels(Vec<T> v, Index oh, Index ow) const {
        const T divisor = rows[std::size_t(oh)] * columns[std::size_t(ow)];
        return inverted ? v * divisor : v / divisor;
    }

    bool uniform() const {
        const auto same = [](const std::vector<T>& v) {
            return std::all_of(v.begin(), v.end(), [&](T x) { return x == v[0]; });
        };
        return same(rows) && same(columns);
    }

  private:
    // Powers of two: dividing by them is multiplying by their inverse, which is many times faster.
    static bool invertible(const std::vector<T>& divisors) {
        return std::all_of(divisors.begin(), divisors.end(), [](T x) {
            int exponent;
            return std::abs(std::frexp(x, &exponent)) == T(0.5);
        });
    }

    std::vector<T> rows, columns;
    bool inverted;
};

}  // namespace ai3
