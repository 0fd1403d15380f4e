// Measured times, and what they are measured with.
#include "core/measured.hpp"

#include <nanobind/stl/map.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>

#include "bindings/array.hpp"
#include "core/trial.hpp"
#include "kernels.hpp"

namespace ai3 {

namespace {

// An object of Python that lives as long as the process may plan, beyond the interpreter.
class Kept {
  public:
    explicit Kept(nb::object object) : object_(std::move(object)) {}
    Kept(Kept&&) = default;
    ~Kept() {
        if (!nb::is_alive()) {
            object_.release();
            return;
        }
        nb::gil_scoped_acquire acquire;
        object_.reset();
    }
    const nb::object& operator*() const { return object_; }

  private:
    nb::object object_;
};

class InPython final : public MeasuredTimes {
  public:
    explicit InPython(nb::object times)
        : scales_(nb::cast<std::map<std::pair<std::string, int>, double>>(times.attr("scales"))),
          times_(std::move(times)) {}

    double scale(std::string_view op, int threads) const override {
        const auto found = scales_.find({std::string(op), threads});
        return found == scales_.end() ? 0 : found->second;
    }

    Measurements of(const std::string& key) const override {
        nb::gil_scoped_acquire acquire;
        Measurements times;
        using Row = std::pair<double, bool>;
        for (const auto& [algorithm, row] :
             nb::cast<std::map<std::string, Row>>((*times_).attr("of")(key)))
            times.emplace(algorithm, Measured{row.first, row.second});
        return times;
    }

  private:
    std::map<std::pair<std::string, int>, double> scales_;
    Kept times_;
};

}  // namespace

void bind_measured(nb::module_& module) {
    module.attr("kernels") = AI3_KERNELS;
    module.def(
        "measure_by",
        [](nb::object open) {
            if (open.is_none()) return measure_by(nullptr);
            const auto kept = std::make_shared<Kept>(std::move(open));
            measure_by([kept]() -> std::shared_ptr<const MeasuredTimes> {
                nb::gil_scoped_acquire acquire;
                nb::object times = (**kept)();
                if (times.is_none()) return nullptr;
                return std::make_shared<InPython>(std::move(times));
            });
        },
        nb::arg("open").none(),
        nb::sig("def measure_by(open: typing.Callable[[], typing.Any] | None) -> None"),
        "Plan from now on by the measured times that open() gives when the first problem is "
        "planned,\nNone where there are none: an object with `scales`, by operation and threads "
        "what estimates\nare to be multiplied with, and of(key), by algorithm the cycles of the "
        "problem of that key and\nwhether 'default' may stand for it.");
    module.def(
        "estimates_only", [](bool only) { return std::exchange(estimates_only, only); },
        nb::arg("only"),
        "Whether this thread plans by estimates alone from now on; what it did before.");
    module.def(
        "times_in_use", &times_in_use,
        "A number that tells apart the measured times by which this thread plans; 0 where it "
        "plans by\nestimates alone.");
    nb::class_<Trial>(module, "Trial",
                      "One algorithm on one problem with arrays of its own, timed as it would run "
                      "inside of a\nnetwork. Not to be used by two threads at a time.")
        .def(nb::init<std::shared_ptr<Problem>, std::string>(), nb::arg("problem"),
             nb::arg("algorithm"), nb::call_guard<nb::gil_scoped_release>())
        .def("seconds", &Trial::seconds, nb::arg("flushed"),
             nb::call_guard<nb::gil_scoped_release>(),
             "Of one run, after as many bytes have gone through the threads' caches and the inputs "
             "have\nbeen written.")
        .def_prop_ro("workspace_bytes", &Trial::workspace_bytes);
}

}  // namespace ai3
