// The algorithms of one operation by name, as far as the operation's type does not matter.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ai3 {

class External;

class NamedAlgorithm {
  public:
    virtual ~NamedAlgorithm() = default;
    virtual std::string_view name() const = 0;
    // Whether passes may give it more to do than the operation itself, in whatever layout.
    virtual bool built_in() const { return true; }
    // Whether "default" stands for it wherever it can do the problem.
    virtual bool preferred() const { return false; }
    // Whether "default" may stand for it by its estimate.
    virtual bool elected() const { return true; }
    // Whether it computes with bfloat16 itself, as the operation's type describes it; else it is
    // given float32.
    virtual bool takes_bfloat16() const { return false; }
    // The algorithm where it is of no operation's type, see core/external.hpp.
    virtual const External* external() const { return nullptr; }
};

class AlgorithmTable {
  public:
    using Pointer = std::unique_ptr<const NamedAlgorithm>;

    explicit AlgorithmTable(std::string_view op) : op_(op) {}

    std::string_view op() const { return op_; }

    // Takes the place of one of the same name. What `at` gave out stays valid.
    void add(Pointer algorithm);
    void remove(std::string_view name);
    // The table's algorithms are those of `source`, each made by `make` when first asked for.
    void derive(const AlgorithmTable& source, std::function<Pointer(const NamedAlgorithm&)> make);

    std::vector<std::string> names() const;
    // Throws std::invalid_argument where there is none of that name.
    const NamedAlgorithm& at(std::string_view name) const;
    // Those that are not built in.
    std::vector<const NamedAlgorithm*> added() const;
    // Those of finite cost, the least first; by estimates, `cost` has to leave out what is not
    // elected.
    std::vector<std::pair<std::string_view, double>> ranking(
        const std::function<double(const NamedAlgorithm&)>& cost) const;

  private:
    std::string_view op_;
    const AlgorithmTable* source_ = nullptr;
    std::function<Pointer(const NamedAlgorithm&)> make_;
    mutable std::mutex mutex_;
    mutable std::map<std::string, Pointer, std::less<>> algorithms_;
    std::vector<Pointer> replaced_;
};

}  // namespace ai3
