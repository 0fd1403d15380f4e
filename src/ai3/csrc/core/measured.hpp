// Measured times, which take the place of estimates where there are some.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "core/operation.hpp"

namespace ai3 {

struct Measured {
    double cycles;
    bool unasked;  // whether "default" may stand for the algorithm
};

// Those of one problem, by algorithm.
using Measurements = std::map<std::string, Measured, std::less<>>;

// Where measured times come from. What it says of a problem stays so.
class MeasuredTimes {
  public:
    virtual ~MeasuredTimes() = default;
    // What the estimates of an operation are to be multiplied with, to be on the scale of what was
    // measured; 0 where nothing was measured of it.
    virtual double scale(std::string_view op, int threads) const = 0;
    virtual Measurements of(const std::string& key) const = 0;
};

// From now on times are those of open(), which is called when they are first asked for; null where
// there are none.
void measure_by(std::function<std::shared_ptr<const MeasuredTimes>()> open);

// Whether this thread is to see estimates alone.
inline thread_local bool estimates_only = false;

// Tells apart the measured times by which this thread plans; 0 where it sees estimates alone.
std::int64_t times_in_use();

// Tells problems apart that take different time: operation, specs, attributes, threads.
std::string key_of(const Problem& problem);

// What is known of a problem's time.
class Known {
  public:
    explicit Known(const Problem& problem);

    // Whether anything was measured of this very problem.
    bool any() const { return times_ && !times_->empty(); }
    // The algorithm's cycles: as measured or, where it was not, by its estimate.
    double cycles(std::string_view algorithm, double estimate) const;
    const Measurements& times() const { return *times_; }

  private:
    std::shared_ptr<const Measurements> times_;
    double scale_ = 1;
};

}  // namespace ai3
