// check FILE: every algorithm of every operation that the core has against the operation's
// reference, for the cases of a file that `runners.aarch64` wrote. Prints what is wrong, and for
// each algorithm how many cases were right and refused; the status tells whether all were right.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>

#include "core/operation.hpp"
#include "core/workspace.hpp"

using namespace ai3;

namespace {

class Reader {
  public:
    explicit Reader(const char* path) : file_(path, std::ios::binary) {
        if (!file_) throw std::runtime_error(std::string("cannot read ") + path);
    }
    bool more() { return file_.peek() != EOF; }

    template <typename T>
    T number() {
        T value;
        bytes(&value, sizeof value);
        return value;
    }
    std::string text() {
        std::string value(number<std::uint32_t>(), ' ');
        bytes(value.data(), value.size());
        return value;
    }
    template <typename T>
    std::vector<T> numbers() {
        std::vector<T> values(number<std::uint32_t>());
        for (T& value : values) value = number<T>();
        return values;
    }
    void bytes(void* to, std::size_t count) {
        if (!file_.read(static_cast<char*>(to), std::streamsize(count)))
            throw std::runtime_error("the file of cases ends early");
    }

  private:
    std::ifstream file_;
};

DType dtype_of(const std::string& name) {
    for (const DType dtype : dtypes)
        if (name_of(dtype) == name) return dtype;
    throw std::runtime_error("there is no dtype " + name);
}

// A dtype, "" for none, then shape and elements.
std::optional<Constant> array_from(Reader& reader) {
    const std::string dtype = reader.text();
    if (dtype.empty()) return std::nullopt;
    Constant made{{dtype_of(dtype), reader.numbers<Index>()}, nullptr, nullptr};
    auto memory = std::make_shared<Buffer>(made.spec.bytes());
    reader.bytes(memory->data(), made.spec.bytes());
    made.data = memory->data();
    made.owner = memory;
    return made;
}

std::vector<std::optional<Constant>> arrays_from(Reader& reader) {
    std::vector<std::optional<Constant>> arrays(reader.number<std::uint32_t>());
    for (auto& array : arrays) array = array_from(reader);
    return arrays;
}

Attributes::Value value_from(Reader& reader) {
    switch (reader.number<char>()) {
        case 'b':
            return bool(reader.number<char>());
        case 'i':
            return reader.number<Index>();
        case 'd':
            return reader.number<double>();
        case 's':
            return reader.text();
        case 'I':
            return reader.numbers<Index>();
        case 'D':
            return reader.numbers<double>();
        default:
            return std::monostate{};
    }
}

struct Case {
    std::string op, name;
    double reduction;
    std::vector<std::optional<Constant>> inputs, weights;
    Attributes::Map attributes;

    explicit Case(Reader& reader)
        : op(reader.text()),
          name(reader.text()),
          reduction(reader.number<double>()),
          inputs(arrays_from(reader)),
          weights(arrays_from(reader)) {
        for (auto left = reader.number<std::uint32_t>(); left; --left) {
            const std::string key = reader.text();
            attributes[key] = value_from(reader);
        }
    }
};

struct Result {
    Spec spec;
    std::shared_ptr<Buffer> memory;
};

Result run(const Problem& problem, const std::string& algorithm,
           const std::vector<const void*>& inputs) {
    Result result{problem.output(), std::make_shared<Buffer>(problem.output().bytes() + 64)};
    std::memset(result.memory->data(), 0xff, problem.output().bytes() + 64);
    if (algorithm == "reference") {
        problem.reference(inputs.data(), result.memory->data());
        return result;
    }
    const std::size_t bytes = problem.workspace_bytes(algorithm);
    Buffer workspace(bytes + 64);
    std::memset(workspace.data(), 0xff, bytes + 64);
    problem.plan(algorithm)->run(inputs.data(), result.memory->data(),
                                 reinterpret_cast<std::byte*>(workspace.data()));
    for (int i = 0; i < 64; ++i)
        if (reinterpret_cast<unsigned char*>(workspace.data())[bytes + i] != 0xff ||
            reinterpret_cast<unsigned char*>(result.memory->data())[problem.output().bytes() + i] !=
                0xff)
            throw std::runtime_error("writes out of bounds");
    return result;
}

// The array in another layout.
Result reordered(const Spec& spec, const void* data, const std::string& layout) {
    const auto problem = Operation::all().at("reorder")->problem(
        {spec}, std::make_shared<WeightSet>(std::vector<std::optional<Constant>>{}),
        Attributes({{"layout", layout}}), 1);
    return run(*problem, "reference", {data});
}

// The largest difference over what rounding may come to; 0 or infinite of what is not computed.
double error(const Result& actual, const Result& expected, double reduction) {
    return with_value(actual.spec.dtype, [&](auto zero) {
        using T = decltype(zero);
        const T* a = reinterpret_cast<const T*>(actual.memory->data());
        const T* b = reinterpret_cast<const T*>(expected.memory->data());
        double largest = 1, worst = 0;
        const Index count = elements(actual.spec.shape);
        for (Index i = 0; i < count; ++i) largest = std::max(largest, std::abs(double(b[i])));
        for (Index i = 0; i < count; ++i) {
            const double apart = std::abs(double(a[i]) - double(b[i]));
            worst = apart >= 0 ? std::max(worst, apart) : INFINITY;
        }
        const double epsilon = std::numeric_limits<T>::epsilon();
        if (reduction == 0 || epsilon == 0) return worst ? INFINITY : 0.0;
        return worst / (epsilon * std::sqrt(reduction) * largest);
    });
}

struct Count {
    int right = 0, refused = 0, wrong = 0;
    double worst = 0;
};

class Check {
  public:
    explicit Check(std::map<std::string, double> factors) : factors_(std::move(factors)) {}

    void operator()(const Case& given) {
        const Operation& operation = *Operation::all().at(given.op);
        for (const std::string layout : {"dense", "channels_last", "blocked"}) {
            if (layout != "dense" && !operation.traits().takes_layouts) break;
            std::vector<Spec> specs;
            std::vector<const void*> data;
            std::vector<Result> kept;
            for (const auto& input : given.inputs) {
                const auto rank = input->spec.shape.size();
                specs.push_back(input->spec);
                data.push_back(input->data);
                if (layout == "dense" || (rank != 3 && rank != 4)) continue;
                kept.push_back(reordered(input->spec, input->data, layout));
                specs.back() = kept.back().spec;
                data.back() = kept.back().memory->data();
            }
            if (layout != "dense" && kept.empty()) break;
            compare(given, operation, layout, specs, data);
        }
    }

    int report() const {
        int wrong = 0;
        for (const auto& [key, count] : counts_) {
            std::printf("%-30s %-24s right %5d  refused %5d  wrong %3d  error %.2g\n",
                        key.first.c_str(), key.second.c_str(), count.right, count.refused,
                        count.wrong, count.worst);
            wrong += count.wrong;
        }
        return wrong != 0;
    }

  private:
    void compare(const Case& given, const Operation& operation, const std::string& layout,
                 const std::vector<Spec>& specs, const std::vector<const void*>& data) {
        std::unique_ptr<Problem> problem;
        try {
            problem = operation.problem(specs, std::make_shared<WeightSet>(given.weights),
                                        Attributes(given.attributes), 2);
        } catch (const std::invalid_argument&) {
            return;  // not a problem in this layout
        }
        // Of dense arrays, as references know layouts by their operation's word alone.
        std::vector<Spec> plain;
        std::vector<const void*> arrays;
        for (const auto& input : given.inputs) {
            plain.push_back(input->spec);
            arrays.push_back(input->data);
        }
        const auto same = operation.problem(plain, std::make_shared<WeightSet>(given.weights),
                                            Attributes(given.attributes), 1);
        const Result expected = dense(run(*same, "reference", arrays));
        for (const std::string& name : operation.algorithms()) {
            Count& count = counts_[{given.op, name}];
            if (!problem->refusal(name).empty()) {
                ++count.refused;
                continue;
            }
            double found = INFINITY;
            std::string why = "wrong";
            try {
                found = error(dense(run(*problem, name, data)), expected, given.reduction);
            } catch (const std::exception& raised) {
                why = raised.what();
            }
            const double allowed = 8 * factor(problem->resolve(name));
            if (found <= allowed) {
                ++count.right;
                count.worst = std::max(count.worst, found);
                continue;
            }
            ++count.wrong;
            std::printf("%s '%s', %s, %s %s: %s, error %.3g where %.3g is allowed\n",
                        given.op.c_str(), name.c_str(), given.name.c_str(), layout.c_str(),
                        std::string(name_of(specs[0].dtype)).c_str(), why.c_str(), found, allowed);
        }
    }

    static Result dense(const Result& result) {
        if (result.spec.layout == Layout::dense) return result;
        return reordered(result.spec, result.memory->data(), "dense");
    }

    double factor(const std::string& name) const {
        const bool narrow = name.ends_with(" bf16");
        const auto found = factors_.find(narrow ? name.substr(0, name.size() - 5) : name);
        return (found == factors_.end() ? 1 : found->second) * (narrow ? factors_.at("bf16") : 1);
    }

    std::map<std::string, double> factors_;
    std::map<std::pair<std::string, std::string>, Count> counts_;
};

}  // namespace

int main(int count, char** arguments) {
    if (count != 2) return std::fprintf(stderr, "usage: check FILE\n"), 2;
    try {
        Reader reader(arguments[1]);
        std::map<std::string, double> factors;
        for (auto left = reader.number<std::uint32_t>(); left; --left) {
            const std::string name = reader.text();
            factors[name] = reader.number<double>();
        }
        Check check(std::move(factors));
        while (reader.more()) check(Case(reader));
        return check.report();
    } catch (const std::exception& error) {
        return std::fprintf(stderr, "check: %s\n", error.what()), 2;
    }
}
