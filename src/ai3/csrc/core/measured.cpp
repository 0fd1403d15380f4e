#include "core/measured.hpp"

#include <atomic>
#include <mutex>

namespace ai3 {

namespace {

// Times that were asked for, kept so that a problem has the same as long as the process lives.
class Table {
  public:
    explicit Table(std::shared_ptr<const MeasuredTimes> source) : source_(std::move(source)) {}

    double scale(const Problem& problem) const {
        return source_->scale(problem.op(), problem.threads());
    }

    // No lock is held while the source is asked, which may wait for another one.
    std::shared_ptr<const Measurements> of(const Problem& problem) {
        const std::string key = key_of(problem);
        {
            std::lock_guard lock(mutex_);
            if (const auto found = known_.find(key); found != known_.end()) return found->second;
        }
        Measurements times = source_->of(key);
        // Sizes that come and go were hardly measured: what is not known is not kept without end.
        constexpr std::size_t most_unknown = 1 << 14;
        std::lock_guard lock(mutex_);
        if (times.empty() && known_.size() >= most_unknown) return {};
        return known_.emplace(key, std::make_shared<const Measurements>(std::move(times)))
            .first->second;
    }

  private:
    std::shared_ptr<const MeasuredTimes> source_;
    std::mutex mutex_;
    std::map<std::string, std::shared_ptr<const Measurements>> known_;
};

std::atomic<bool> may_be_known{false};
std::atomic<std::int64_t> generation{0};
std::mutex opening;
std::function<std::shared_ptr<const MeasuredTimes>()> open_times;
std::shared_ptr<Table> table;

std::shared_ptr<Table> opened() {
    if (!may_be_known.load(std::memory_order_acquire)) return nullptr;
    std::function<std::shared_ptr<const MeasuredTimes>()> open;
    {
        std::lock_guard lock(opening);
        if (table || !open_times) return table;
        open = open_times;
    }
    auto source = open();
    std::lock_guard lock(opening);
    if (table || !open_times) return table;
    open_times = nullptr;
    if (source)
        table = std::make_shared<Table>(std::move(source));
    else
        may_be_known.store(false, std::memory_order_release);
    return table;
}

bool is_convolution(std::string_view op) { return op.starts_with("conv"); }

// A list as the shortest that means the same: (3, 3) and (3, 3, 3, 3) are 3 of a convolution.
std::vector<Index> shortest(std::vector<Index> values) {
    if (values.size() == 4 && values[0] == values[1] && values[2] == values[3])
        values = {values[0], values[2]};
    if (values.size() == 2 && values[0] == values[1]) values.pop_back();
    return values;
}

// What says nothing that a convolution without the attribute would not be.
bool says_nothing(std::string_view name, const Attributes::Value& value, Layout input) {
    static const std::map<std::string_view, Index> usual{
        {"stride", 1}, {"dilation", 1}, {"padding", 0}, {"groups", 1}};
    if (const auto* list = std::get_if<std::vector<Index>>(&value)) {
        const auto found = usual.find(name);
        return found != usual.end() && *list == std::vector<Index>{found->second};
    }
    if (const auto* text = std::get_if<std::string>(&value))
        return (name == "padding_mode" && *text == "zeros") ||
               (name == "activation" && *text == "none") ||
               (name == "output_layout" && *text == name_of(input));
    if (const auto* real = std::get_if<double>(&value))
        return name == "activation_parameter" && *real == 0;
    return std::holds_alternative<std::monostate>(value);
}

}  // namespace

void measure_by(std::function<std::shared_ptr<const MeasuredTimes>()> open) {
    std::lock_guard lock(opening);
    const bool any = bool(open);
    open_times = std::move(open);
    table = nullptr;
    ++generation;
    may_be_known.store(any, std::memory_order_release);
}

std::int64_t times_in_use() {
    const bool any = !estimates_only && may_be_known.load(std::memory_order_acquire);
    return any ? generation.load(std::memory_order_relaxed) : 0;
}

std::string key_of(const Problem& problem) {
    std::string key(problem.op());
    const auto add = [&key](std::string_view text) { key.append(" ").append(text); };
    for (const Spec& input : problem.inputs()) add(to_string(input));
    const WeightSet& weights = *problem.shared_weights();
    if (weights.size()) add("by");
    for (std::size_t i = 0; i < weights.size(); ++i)
        if (const Constant* weight = weights.get(i)) add(to_string(weight->spec));
    const bool shortened = is_convolution(problem.op()) && !problem.inputs().empty();
    Attributes::Map kept;
    for (auto [name, value] : problem.attributes().values()) {
        if (shortened) {
            if (const auto* one = std::get_if<Index>(&value)) value = std::vector<Index>{*one};
            if (auto* list = std::get_if<std::vector<Index>>(&value)) *list = shortest(*list);
            if (says_nothing(name, value, problem.inputs()[0].layout)) continue;
        }
        kept.emplace(name, std::move(value));
    }
    if (!kept.empty()) add(to_string(Attributes(std::move(kept))));
    add(std::to_string(problem.threads()));
    add("threads");
    return key;
}

Known::Known(const Problem& problem) {
    const auto from = estimates_only ? nullptr : opened();
    const double scale = from ? from->scale(problem) : 0;
    if (!(scale > 0)) return;
    scale_ = scale;
    times_ = from->of(problem);
}

double Known::cycles(std::string_view algorithm, double estimate) const {
    if (times_)
        if (const auto found = times_->find(algorithm); found != times_->end())
            return found->second.cycles;
    return scale_ * estimate;
}

}  // namespace ai3
