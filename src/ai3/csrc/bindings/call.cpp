#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <cstring>
#include <list>

#include "bindings/array.hpp"
#include "core/executor.hpp"
#include "core/fork.hpp"
#include "core/workspace.hpp"

namespace ai3 {

namespace {

// One layer called with arrays of any shape: plans are made at the first call with a shape and
// kept.
class Call {
  public:
    Call(const std::string& op, nb::dict attributes, std::string algorithm, std::string name)
        : attributes_(attributes_from(attributes)),
          algorithm_(std::move(algorithm)),
          name_(std::move(name)) {
        operation_ = &operation(op);
        reads_channels_last_ = op == "conv2d" && !attributes_.has("output_layout");
        if (reads_channels_last_) attributes_.set("output_layout", std::string("dense"));
    }

    void set_weights(std::shared_ptr<WeightSet> weights) {
        weights_ = std::move(weights);
        sources_.clear();
        entries_.clear();
    }

    nb::object run(nb::args arrays) { return run_arrays(arrays.begin(), arrays.end()); }

    // The same, after taking the weights from arrays that their owner may change between calls.
    // They count as unchanged while their memory, `stamp` and, unless they are `frozen`, their
    // elements are; a stamp of None never does.
    nb::object run_with(nb::handle input, nb::handle weight, nb::handle bias, nb::handle stamp,
                        bool frozen) {
        refresh(weight, bias, stamp, frozen);
        const nb::handle inputs[] = {input};
        return run_arrays(std::begin(inputs), std::end(inputs));
    }

  private:
    std::string named(const char* what) const { return name_.empty() ? what : name_ + ": " + what; }

    static constexpr std::size_t kept_plans = 16;

    struct Entry {
        int threads;
        std::vector<Spec> offered;
        std::shared_ptr<const Planned> planned;
    };
    // What an array of weights was: of a small one every byte, of a large one a checksum.
    class Source {
      public:
        explicit Source(const Array& array) : data_(array.data()) {
            if (small(array)) {
                auto* from = static_cast<const std::byte*>(data_);
                bytes_.assign(from, from + array.spec().bytes());
            } else {
                checksum_ = array.checksum();
            }
        }
        bool lies_in(const Array& array) const { return array.data() == data_; }
        bool holds(const Array& array) const {
            if (!small(array)) return bytes_.empty() && array.checksum() == checksum_;
            return bytes_.size() == array.spec().bytes() &&
                   (bytes_.empty() || std::memcmp(bytes_.data(), data_, bytes_.size()) == 0);
        }

      private:
        static bool small(const Array& array) {
            return array.dense() && elements(array.shape()) <= 4096;
        }
        const void* data_;
        std::uint64_t checksum_ = 0;
        std::vector<std::byte> bytes_;
    };

    void refresh(nb::handle weight, nb::handle bias, nb::handle stamp, bool frozen) {
        std::vector<Array> arrays;
        for (nb::handle array : {weight, bias})
            if (!array.is_none()) arrays.emplace_back(array);
        const long long now = stamp.is_none() ? -1 : nb::cast<long long>(stamp);
        if (now >= 0 && now == stamp_ &&
            std::equal(
                sources_.begin(), sources_.end(), arrays.begin(), arrays.end(),
                [](const Source& source, const Array& array) { return source.lies_in(array); }) &&
            (frozen || std::equal(sources_.begin(), sources_.end(), arrays.begin(),
                                  [](const Source& source, const Array& array) {
                                      return source.holds(array);
                                  })))
            return;
        std::vector<std::optional<Constant>> weights;
        for (const Array& array : arrays) weights.emplace_back(array.keep(false));
        set_weights(std::make_shared<WeightSet>(std::move(weights)));
        stamp_ = now;
        if (now < 0) return;
        for (const Array& array : arrays) sources_.emplace_back(array);
    }

    template <typename Iterator>
    nb::object run_arrays(Iterator begin, Iterator end) {
        std::vector<Array> inputs;
        for (auto it = begin; it != end; ++it) inputs.emplace_back(nb::handle(*it));
        const std::shared_ptr<const Planned> planned = plan_for(inputs);
        Result result(planned->problem->output(), inputs.empty() ? nullptr : inputs[0].exchange());
        {
            nb::gil_scoped_release release;
            const void* data[8];
            std::size_t count = 0, copied = 0;
            const auto fits = [&](std::size_t i) {
                return inputs[i].dense() ||
                       planned->problem->inputs()[i].layout == Layout::channels_last;
            };
            for (std::size_t i = 0; i < inputs.size(); ++i)
                if (!fits(i)) copied += align_up(inputs[i].spec().bytes());
            Scratch scratch(planned->workspace_bytes + copied);
            std::byte* copy = scratch.data() + align_up(planned->workspace_bytes);
            for (const Array& input : inputs) {
                data[count] = input.data();
                if (!fits(count)) {
                    input.copy_to(copy);
                    data[count] = copy;
                    copy += align_up(input.spec().bytes());
                }
                ++count;
            }
            planned->plan->run(data, result.data(), scratch.data());
        }
        return result.release();
    }

    std::shared_ptr<const Planned> plan_for(const std::vector<Array>& inputs) {
        const int threads = usable_threads();
        for (auto it = entries_.begin(); it != entries_.end(); ++it) {
            bool same = it->threads == threads && it->offered.size() == inputs.size();
            for (std::size_t i = 0; same && i < inputs.size(); ++i)
                same = it->offered[i].dtype == inputs[i].dtype() &&
                       it->offered[i].shape == inputs[i].shape() &&
                       it->offered[i].layout == layout_of(inputs[i]);
            if (!same) continue;
            if (it != entries_.begin()) entries_.splice(entries_.begin(), entries_, it);
            return entries_.front().planned;
        }
        if (inputs.size() > 8) throw std::invalid_argument("a layer takes at most 8 inputs");
        std::vector<Spec> offered;
        for (const Array& input : inputs) {
            offered.push_back(input.spec());
            offered.back().layout = layout_of(input);
        }
        std::shared_ptr<const Planned> planned;
        try {
            auto weights = weights_;
            if (!weights)
                weights = std::make_shared<WeightSet>(std::vector<std::optional<Constant>>{});
            // The core takes weights in float32 for an input in bfloat16, and the reverse.
            const auto narrow = [](DType dtype) { return dtype == DType::bf16; };
            for (std::size_t i = 0; i < weights->size(); ++i)
                if (const Constant* weight = weights->get(i);
                    !inputs.empty() && is_real(inputs[0].dtype()) && weight &&
                    narrow(inputs[0].dtype()) != narrow(weight->spec.dtype))
                    throw std::invalid_argument(std::string(operation_->name()) +
                                                ": input and weights must be of one dtype, not " +
                                                std::string(name_of(inputs[0].dtype())) + " and " +
                                                std::string(name_of(weight->spec.dtype)));
            std::vector<Spec> dense = offered;
            for (Spec& spec : dense) spec.layout = Layout::dense;
            std::shared_ptr<const Problem> problem =
                operation_->problem(dense, weights, attributes_, threads);
            // The algorithm does not depend on the layout, which it reads or has copied.
            const std::string algorithm = problem->resolve(algorithm_);
            if (dense != offered) {
                std::shared_ptr<const Problem> as_offered =
                    operation_->problem(offered, weights, attributes_, threads);
                if (as_offered->refusal(algorithm).empty()) problem = std::move(as_offered);
            }
            planned = std::make_shared<Planned>(std::move(problem), algorithm);
        } catch (const DTypeError& error) {
            throw DTypeError(named(error.what()));
        } catch (const std::invalid_argument& error) {
            throw std::invalid_argument(named(error.what()));
        }
        entries_.push_front({threads, std::move(offered), planned});
        if (entries_.size() > kept_plans) entries_.pop_back();
        return planned;
    }

    Layout layout_of(const Array& input) const {
        return reads_channels_last_ && input.channels_last() ? Layout::channels_last
                                                             : Layout::dense;
    }

    const Operation* operation_;
    Attributes attributes_;
    bool reads_channels_last_ = false;
    std::string algorithm_, name_;
    std::shared_ptr<const WeightSet> weights_;
    std::vector<Source> sources_;
    long long stamp_ = -1;
    std::list<Entry> entries_;
};

}  // namespace

void bind_call(nb::module_& module) {
    nb::class_<Call>(
        module, "Call",
        "One layer, callable with arrays of any shape that it fits; plans are kept.\n\n"
        "Results are made by the library of the first input.")
        .def(nb::init<const std::string&, nb::dict, std::string, std::string>(), nb::arg("op"),
             nb::arg("attributes"), nb::arg("algorithm"), nb::arg("name") = "",
             nb::sig("def __init__(self, op: str, attributes: dict[str, typing.Any], "
                     "algorithm: str, name: str = '') -> None"))
        .def(
            "set_weights",
            [](Call& self, std::shared_ptr<WeightSet> weights) {
                self.set_weights(std::move(weights));
            },
            nb::arg("weights"))
        .def("__call__", &Call::run, nb::sig("def __call__(self, *inputs: object) -> typing.Any"))
        .def("run_with", &Call::run_with, nb::arg("input"), nb::arg("weight"),
             nb::arg("bias").none(), nb::arg("stamp").none(), nb::arg("frozen") = false,
             nb::sig("def run_with(self, input: object, weight: object, bias: object | None, "
                     "stamp: int | None, frozen: bool = False) -> typing.Any"),
             "The same with the weights of somebody who may change them between calls. They count "
             "as\nunchanged while their memory, `stamp` and, unless they are frozen, their "
             "elements are; a stamp of None never does.");
}

}  // namespace ai3
