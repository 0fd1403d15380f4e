// Blocks of elements that stay in the first-level cache go through all steps. A step is the loop of
// one function, or a chain of cheap ones, in which values stay in registers. An input that runs
// along with the output is read where it lies; one that is repeated, of a narrow integer type or
// bfloat16 is first written out for the block. Right in place on the first input.

#include "kernels/convert.hpp"
#include "kernels/elementwise.hpp"
#include "ops/pointwise/chain.hpp"
#include "ops/pointwise/op.hpp"
#include "ops/pointwise/vectors.hpp"

namespace ai3 {
namespace {

constexpr Index block = 1024;
// Not a multiple of a page, as equal places of pages look to the processor like one.
constexpr std::size_t register_bytes = block * 8 + 5 * cache_line;
// Blocks worth another thread.
constexpr Index grain = 8;
// Operands of a step, or results.
constexpr std::size_t most_places = 16;

// What a value is while it is computed with: integers in 64 bits, bfloat16 as float32.
constexpr DType computed_as(DType dtype) {
    if (dtype == DType::bf16) return DType::f32;
    return dtype == DType::i32 || dtype == DType::u8 ? DType::i64 : dtype;
}

using Kernel = void (*)(const void* const* operands, void* result, Index n);

// Flattened, as the compiler would not inline all of so many.
template <Function F, typename T, typename R>
[[gnu::flatten]] void apply(const void* const* operands, void* result, Index n) {
    constexpr FunctionRow row = function_rows[std::size_t(F)];
    using First = std::conditional_t<row.kind == Kind::select, std::uint8_t, T>;
    const auto* x = static_cast<const First*>(operands[0]);
    [[maybe_unused]] const T* y = static_cast<const T*>(operands[row.operands > 1]);
    [[maybe_unused]] const T* z = static_cast<const T*>(operands[row.operands > 2 ? 2 : 0]);
    R* out = static_cast<R*>(result);
    if constexpr (has_vectors<F, T>()) {
        compute_elements(out, 0, n, false, [&](auto at) { return vectors<F, T>(at(x), at(y)); });
    } else {
#pragma GCC ivdep
        for (Index i = 0; i < n; ++i) {
            if constexpr (row.operands == 1)
                out[i] = R(formula<F, T>(x[i], T{}, T{}));
            else if constexpr (row.operands == 2)
                out[i] = R(formula<F, T>(x[i], y[i], T{}));
            else
                out[i] = R(formula<F, T>(x[i], y[i], z[i]));
        }
    }
}

// The kernel of a function for operands of a computed dtype.
template <Function F>
Kernel kernel_of(DType dtype) {
    constexpr Kind kind = function_rows[std::size_t(F)].kind;
    constexpr bool truth = kind == Kind::compare || kind == Kind::test;
    if constexpr (kind == Kind::logic) return apply<F, std::uint8_t, std::uint8_t>;
    if constexpr (kind == Kind::bits)
        return dtype == DType::boolean ? Kernel(apply<F, std::uint8_t, std::uint8_t>)
                                       : Kernel(apply<F, std::int64_t, std::int64_t>);
    if constexpr (kind != Kind::logic && kind != Kind::bits) {
        const auto typed = [](auto zero) -> Kernel {
            using T = decltype(zero);
            return apply<F, T, std::conditional_t<truth, std::uint8_t, T>>;
        };
        if (is_real(dtype)) return with_type(dtype, typed);
        if constexpr (kind != Kind::real) return typed(std::int64_t{});
    }
    return nullptr;
}

using KernelOf = Kernel (*)(DType);
#define AI3_ROW(name, operands, kind, value) kernel_of<Function::name##_>,
constexpr KernelOf kernels[] = {AI3_POINTWISE_FUNCTIONS(AI3_ROW)};
#undef AI3_ROW

// The dtype in which a function of bool, if it has no kernel for that, computes: the integers'.
DType operand_dtype(const Instruction& step) {
    const DType dtype = computed_as(step.takes.back());
    const Kind kind = function_rows[std::size_t(*step.function)].kind;
    const bool keeps = kind == Kind::logic || kind == Kind::bits;
    return dtype == DType::boolean && !keeps ? DType::i64 : dtype;
}

// Between dtypes as they lie in memory, which computed ones are among.
template <typename From, typename To, bool truth>
void convert(const void* const* operands, void* result, Index n) {
    const From* x = static_cast<const From*>(operands[0]);
    To* out = static_cast<To*>(result);
    constexpr double most = 9223372036854774784.0;
#pragma GCC ivdep
    for (Index i = 0; i < n; ++i) {
        if constexpr (truth)
            out[i] = To(x[i] != From(0));
        else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>)
            out[i] = To(double(x[i]) >= -most && double(x[i]) <= most
                            ? std::int64_t(x[i])
                            : std::numeric_limits<std::int64_t>::min());
        else
            out[i] = To(x[i]);
    }
}

template <typename From, typename To>
void round(const void* const* operands, void* result, Index n) {
    ai3::convert(static_cast<const From*>(operands[0]), static_cast<To*>(result), n, 1);
}

// bfloat16 is converted from and to float32 alone.
Kernel conversion(DType from, DType to) {
    if (from == DType::bf16) return round<bfloat16, float>;
    if (to == DType::bf16) return round<float, bfloat16>;
    return with_value(from, [&](auto f) {
        return with_value(to, [&](auto t) -> Kernel {
            using From = decltype(f);
            using To = decltype(t);
            if constexpr (std::is_same_v<To, std::uint8_t>)
                if (to == DType::boolean) return convert<From, To, true>;
            return convert<From, To, false>;
        });
    });
}

// A dimension of the output's memory, from the innermost out, and the steps of each input.
struct Dimension {
    Index extent;
    std::vector<Index> steps;
};

std::vector<Dimension> merged(const Pointwise& p) {
    std::vector<Dimension> dims;
    for (std::size_t d = p.held.size(); d-- > 0;) {
        if (p.held[d] == 1) continue;
        Dimension dim{p.held[d], {}};
        for (const Shape& strides : p.strides) dim.steps.push_back(strides[d]);
        const auto runs_on = [&] {
            for (std::size_t i = 0; i < dim.steps.size(); ++i)
                if (dim.steps[i] != dims.back().steps[i] * dims.back().extent) return false;
            return true;
        };
        if (!dims.empty() && runs_on())
            dims.back().extent *= dim.extent;
        else
            dims.push_back(std::move(dim));
    }
    if (dims.empty()) dims.push_back({1, std::vector<Index>(p.strides.size(), 1)});
    return dims;
}

// A block's worth of numbers: of an input, where it lies, or what a register holds; the registers
// are numbered after the inputs.
using Value = std::size_t;

struct Step {
    Kernel kernel;
    std::vector<Value> operands;
    std::vector<Value> results;  // registers
    // Where links are more than one, they are computed instead.
    Chain chain = nullptr;
    std::vector<Link> links = {};
};

class PointwisePlan final : public Plan {
  public:
    explicit PointwisePlan(const Pointwise& p)
        : dims_(merged(p)),
          dtypes_(p.dtypes),
          values_(dtypes_.size()),
          size_(p.size),
          threads_(p.threads) {
        for (std::size_t i = 0; i < dtypes_.size(); ++i) {
            uniform_.push_back(std::all_of(dims_.begin(), dims_.end(), [&](const Dimension& dim) {
                return dim.steps[i] == 0;
            }));
            written_.push_back(0);
        }
        std::vector<Value> results;
        for (const Instruction& made : p.program.instructions) {
            const DType takes = made.function ? operand_dtype(made) : made.takes[0];
            std::vector<Value> operands;
            for (std::size_t o = 0; o < made.operands.size(); ++o) {
                const bool condition = made.takes.size() == 3 && o == 0;
                operands.push_back(
                    as(condition ? DType::boolean : takes, made.operands[o], results, p.program));
            }
            const DType type = made.type.dtype, kept = computed_as(type);
            if (!made.function) {
                // A conversion that narrows integers does so, and widens them again.
                Value value = operands[0];
                DType from = takes == DType::boolean ? takes : computed_as(takes);
                if (type != kept) value = step(conversion(from, type), {value}), from = type;
                results.push_back(from == kept ? value : step(conversion(from, kept), {value}));
                continue;
            }
            if (is_real(takes) && is_cheap(*made.function)) {
                results.push_back(link(*made.function, takes, operands));
                continue;
            }
            Value value = step(kernels[std::size_t(*made.function)](takes), std::move(operands));
            const bool truth = type == DType::boolean && takes == DType::i64;
            const Kind kind = function_rows[std::size_t(*made.function)].kind;
            if (truth && (kind == Kind::same || kind == Kind::select))
                value = step(conversion(DType::i64, type), {value});
            if (type != kept)
                value = step(conversion(type, kept), {step(conversion(kept, type), {value})});
            results.push_back(value);
        }
        const DType kept = computed_as(p.spec.dtype);
        last_ = results.back();
        if (kept != p.spec.dtype) last_ = step(conversion(kept, p.spec.dtype), {last_});
        if (is_input(last_)) last_ = step(conversion(p.spec.dtype, p.spec.dtype), {last_});
        element_ = size_of(p.spec.dtype);
        drop_unread();
        // The register of the result is its own last step's, unless that result is used elsewhere.
        direct_ = !steps_.empty() && steps_.back().results.back() == last_;
        share_registers();
    }

    static std::size_t registers(const Pointwise& p) { return PointwisePlan(p).registers(); }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const Index blocks = (size_ + block - 1) / block;
        const Index ranges = always_threads
                                 ? std::min<Index>(blocks, threads_)
                                 : std::clamp<Index>(blocks / grain, 1, std::max(threads_, 1));
        parallel_for(threads_, ranges, [&](Index r, int thread) {
            std::byte* memory = workspace + std::size_t(thread) * registers() * register_bytes;
            run_blocks(inputs, static_cast<std::byte*>(output), memory, blocks * r / ranges,
                       blocks * (r + 1) / ranges);
        });
    }

  private:
    bool is_input(Value value) const { return value < dtypes_.size(); }
    std::size_t registers() const { return values_ - dtypes_.size(); }

    bool is_number(Value value) const {
        return is_input(value) ? bool(uniform_[value])
                               : std::any_of(constants_.begin(), constants_.end(),
                                             [&](const Constant& c) { return c.at == value; });
    }

    Value step(Kernel kernel, std::vector<Value> operands) {
        steps_.push_back({kernel, std::move(operands), {values_}});
        return values_++;
    }

    // Whether the last step is a chain of the dtype that goes on with a function of these operands:
    // one is what it gives at last, the other nothing that it writes.
    bool goes_on(Chain chain, const std::vector<Value>& operands) const {
        if (steps_.empty() || steps_.back().chain != chain) return false;
        const Step& last = steps_.back();
        const auto written = [&](Value operand) {
            return std::find(last.results.begin(), last.results.end(), operand) !=
                   last.results.end();
        };
        return std::count(operands.begin(), operands.end(), last.results.back()) == 1 &&
               std::count_if(operands.begin(), operands.end(), written) == 1 &&
               last.operands.size() < most_places && last.results.size() < most_places;
    }

    // A cheap function as the next link of the last step's chain, or of a new one.
    Value link(Function function, DType dtype, const std::vector<Value>& operands) {
        const Chain chain = chain_of(dtype);
        const bool next = goes_on(chain, operands);
        const bool through_second = next && operands[0] != steps_.back().results.back();
        if (!next)
            steps_.push_back({kernels[std::size_t(function)](dtype), {operands[0]}, {}, chain});
        Step& step = steps_.back();
        // What the chain is by then is written, unless drop_unread finds no use for it.
        if (next) step.links.push_back({});
        Beside beside = Beside::nothing;
        if (operands.size() == 2) {
            const Value other = operands[!through_second];
            beside = is_number(other) ? through_second ? Beside::number_before : Beside::number
                     : through_second ? Beside::array_before
                                      : Beside::array;
            step.operands.push_back(other);
        }
        step.links.push_back({function, beside});
        step.results.push_back(values_);
        return values_++;
    }

    // An operand as a value of a computed dtype.
    Value as(DType takes, const Operand& operand, const std::vector<Value>& results,
             const Program& program) {
        if (operand.from == Operand::From::number) {
            const bool truth = takes == DType::boolean;
            constants_.push_back(
                {values_, takes, operand.real, truth ? operand.real != 0 : operand.integer});
            return values_++;
        }
        Value value = operand.index;
        DType from;
        if (operand.from == Operand::From::result) {
            value = results[operand.index];
            from = computed_as(program.instructions[operand.index].type.dtype);
        } else {
            from = dtypes_[operand.index];
            if (from == DType::bf16) {
                from = DType::f32;
                value = step(conversion(DType::bf16, from), {value});
            }
        }
        takes = computed_as(takes);
        return from == takes ? value : step(conversion(from, takes), {value});
    }

    // Chains need not write what only their own next link reads.
    void drop_unread() {
        std::vector<bool> read(values_);
        read[last_] = true;
        for (const Step& step : steps_)
            for (Value operand : step.operands) read[operand] = true;
        for (Step& step : steps_) {
            std::vector<Value> results;
            std::vector<Link> links;
            auto result = step.results.begin();
            for (const Link link : step.links)
                if (link.code != Link::keep)
                    links.push_back(link);
                else if (read[*result++])
                    links.push_back(link), results.push_back(result[-1]);
            results.push_back(*result);
            step.results = std::move(results);
            step.links = std::move(links);
        }
    }

    // Registers whose values are no longer read are written again. What is the same for all blocks
    // keeps its own.
    void share_registers() {
        std::vector<std::size_t> last_read(values_, 0);
        std::vector<Value> now(values_), free;
        for (std::size_t s = 0; s < steps_.size(); ++s)
            for (Value operand : steps_[s].operands) last_read[operand] = s;
        last_read[last_] = steps_.size();
        Value count = 0;
        for (; is_input(count); ++count) now[count] = count, last_read[count] = steps_.size();
        for (Constant& constant : constants_) {
            last_read[constant.at] = steps_.size();
            now[constant.at] = count;
            constant.at = count++;
        }
        for (Value& at : written_) at = count++;
        for (std::size_t s = 0; s < steps_.size(); ++s) {
            std::vector<Value> done;
            for (Value& operand : steps_[s].operands) {
                const Value was = operand;
                operand = now[was];
                if (last_read[was] == s &&
                    std::find(done.begin(), done.end(), operand) == done.end())
                    done.push_back(operand);
            }
            for (Value& result : steps_[s].results) {
                if (free.empty()) free.push_back(count++);
                now[result] = free.back();
                result = free.back();
                free.pop_back();
            }
            free.insert(free.end(), done.begin(), done.end());
        }
        last_ = now[last_];
        values_ = count;
    }

    void run_blocks(const void* const* inputs, std::byte* output, std::byte* memory, Index first,
                    Index end) const {
        const auto at = [&](Value value) {
            return memory + (value - dtypes_.size()) * register_bytes;
        };
        const Index most = std::min(block, size_);
        for (const Constant& constant : constants_)
            with_value(constant.dtype, [&](auto zero) {
                using T = decltype(zero);
                std::fill_n(reinterpret_cast<T*>(at(constant.at)), most,
                            is_real(constant.dtype) ? T(constant.real) : T(constant.integer));
            });
        for (std::size_t i = 0; i < dtypes_.size(); ++i)
            if (uniform_[i]) write_out(i, inputs[i], 0, most, at(written_[i]));
        std::vector<const void*> places(values_);
        for (Value value = 0; value < values_; ++value)
            places[value] = at(is_input(value) ? written_[value] : value);
        const bool past_cache = size_ * Index(element_) >= cached_bytes && output != inputs[0] &&
                                reinterpret_cast<std::uintptr_t>(output) % AI3_VECTOR_BYTES == 0;
        const bool into_output = direct_ && !past_cache;
        for (; first < end; ++first) {
            const Index begin = first * block, n = std::min(block, size_ - begin);
            for (std::size_t i = 0; i < dtypes_.size(); ++i)
                if (!uniform_[i]) places[i] = elements_of(i, inputs[i], begin, n, at(written_[i]));
            std::byte* out = output + std::size_t(begin) * element_;
            for (const Step& step : steps_) {
                const void* operands[most_places] = {};
                void* results[most_places];
                for (std::size_t o = 0; o < step.operands.size(); ++o)
                    operands[o] = places[step.operands[o]];
                for (std::size_t r = 0; r < step.results.size(); ++r)
                    results[r] = at(step.results[r]);
                if (into_output && &step == &steps_.back()) results[step.results.size() - 1] = out;
                if (step.links.size() > 1)
                    step.chain(step.links, operands, results, n);
                else
                    step.kernel(operands, results[0], n);
            }
            if (!into_output) copy_out(at(last_), out, std::size_t(n) * element_, past_cache);
        }
        if (past_cache) stream_fence();
    }

    static void copy_out(const std::byte* from, std::byte* to, std::size_t bytes, bool past_cache) {
        constexpr std::size_t W = AI3_VECTOR_BYTES;
        std::size_t i = 0;
        if (past_cache)
            for (; i + W <= bytes; i += W)
                stream(reinterpret_cast<float*>(to + i),
                       load(reinterpret_cast<const float*>(from + i)));
        std::memcpy(to + i, from + i, bytes - i);
    }

    // Where elements [begin, begin + n) of an input are: in its memory if they lie there one after
    // the other, else written out to `buffer`.
    const void* elements_of(std::size_t i, const void* input, Index begin, Index n,
                            std::byte* buffer) const {
        const Dimension& inner = dims_[0];
        const Index column = begin % inner.extent;
        if (inner.steps[i] == 1 && column + n <= inner.extent)
            return static_cast<const std::byte*>(input) +
                   std::size_t(row_start(i, begin / inner.extent) + column) * size_of(dtypes_[i]);
        write_out(i, input, begin, n, buffer);
        return buffer;
    }

    Index row_start(std::size_t i, Index row) const {
        Index start = 0;
        for (std::size_t d = 1; d < dims_.size(); ++d) {
            start += row % dims_[d].extent * dims_[d].steps[i];
            row /= dims_[d].extent;
        }
        return start;
    }

    void write_out(std::size_t i, const void* input, Index begin, Index n,
                   std::byte* buffer) const {
        with_storage(dtypes_[i], [&](auto zero) {
            using T = decltype(zero);
            const T* in = static_cast<const T*>(input);
            T* out = reinterpret_cast<T*>(buffer);
            const Dimension& inner = dims_[0];
            if (uniform_[i]) {
                std::fill_n(out, n, in[0]);
                return;
            }
            Index column = begin % inner.extent, row = begin / inner.extent;
            while (n > 0) {
                const Index run = std::min(n, inner.extent - column);
                const T* from = in + row_start(i, row);
                if (inner.steps[i])
                    std::memcpy(out, from + column, std::size_t(run) * sizeof(T));
                else
                    std::fill_n(out, run, *from);
                out += run, n -= run, column = 0, ++row;
            }
        });
    }

    struct Constant {
        Value at;
        DType dtype;
        double real;
        std::int64_t integer;
    };

    std::vector<Dimension> dims_;
    std::vector<DType> dtypes_;
    std::vector<Constant> constants_;
    std::vector<Step> steps_;
    // Of each input: whether it is one element, and the register that it is written out to.
    std::vector<bool> uniform_;
    std::vector<Value> written_;
    // How many there are, and the result.
    Value values_, last_ = 0;
    std::size_t element_ = 0;
    // Whether the last step writes the result.
    bool direct_ = false;
    Index size_;
    int threads_;
};

class Direct final : public Algorithm<Pointwise> {
  public:
    std::string_view name() const override { return "direct"; }
    bool takes_bfloat16() const override { return true; }

    std::size_t workspace_bytes(const Pointwise& p) const override {
        return PointwisePlan::registers(p) * register_bytes * std::size_t(std::max(p.threads, 1));
    }
    std::unique_ptr<Plan> plan(const Pointwise& p, const WeightSet&) const override {
        return std::make_unique<PointwisePlan>(p);
    }
};

const Register<Pointwise, Direct> registered;

}  // namespace
}  // namespace ai3
