// Blocks of elements that stay in the first-level cache go through all instructions, each of which
// is one loop over vectors. An input that runs along with the output is read where it lies; one
// that is repeated or of a narrow integer type is first written out for the block. Right in place
// on the first input.

#include "kernels/elementwise.hpp"
#include "ops/pointwise/op.hpp"

namespace ai3 {
namespace {

constexpr Index block = 512;
// Not a multiple of a page, as equal places of pages look to the processor like one.
constexpr std::size_t register_bytes = block * 8 + 5 * cache_line;
// Blocks worth another thread.
constexpr Index grain = 16;

// What a value is while it is computed with: integers in 64 bits.
constexpr DType computed_as(DType dtype) {
    return dtype == DType::i32 || dtype == DType::u8 ? DType::i64 : dtype;
}

using Kernel = void (*)(const void* const* operands, void* result, Index n);

// The functions that have vectors of their own.
template <Function F, typename T>
constexpr bool has_vectors() {
    switch (F) {
        case Function::exp_:
        case Function::expm1_:
        case Function::tanh_:
        case Function::sigmoid_:
        case Function::silu_:
        case Function::gelu_:
        case Function::gelu_tanh_:
        case Function::hardswish_:
        case Function::hardsigmoid_:
        case Function::relu6_:
        case Function::elu_:
            return std::is_floating_point_v<T>;
        case Function::erf_:
            return std::is_same_v<T, double>;
        default:
            return false;
    }
}

template <Function F, typename T>
Vec<T> vectors(Vec<T> x, Vec<T> y) {
    switch (F) {
        case Function::exp_:
            return exp<T>(x);
        case Function::expm1_:
            return expm1<T>(x);
        case Function::tanh_:
            return tanh<T>(x);
        case Function::sigmoid_:
            return activate<Activation::sigmoid>(T(1), x);
        case Function::silu_:
            return activate<Activation::silu>(T(1), x);
        case Function::gelu_:
            return gelu<T>(x);
        case Function::gelu_tanh_:
            return activate<Activation::gelu_tanh>(T(1), x);
        case Function::hardswish_:
            return activate<Activation::hardswish>(T(1), x);
        case Function::hardsigmoid_:
            return activate<Activation::hardsigmoid>(T(1), x);
        case Function::relu6_:
            return activate<Activation::relu6>(T(1), x);
        case Function::elu_:
            return x < T(0) ? y * expm1<T>(x) : x;
        case Function::erf_:
            if constexpr (std::is_same_v<T, double>) return erf(x);
            return x;
        default:
            return x;
    }
}

template <Function F, typename T, typename R>
void apply(const void* const* operands, void* result, Index n) {
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

Kernel conversion(DType from, DType to) {
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

// A block's worth of one value: in a register, or of an input where it lies.
struct Place {
    enum class In : std::uint8_t { memory, registers } in;
    std::size_t index;
};

struct Step {
    Kernel kernel;
    std::vector<Place> operands;
    std::size_t result;  // a register
};

class PointwisePlan final : public Plan {
  public:
    explicit PointwisePlan(const Pointwise& p)
        : dims_(merged(p)), dtypes_(p.dtypes), size_(p.size), threads_(p.threads) {
        for (std::size_t i = 0; i < dtypes_.size(); ++i) {
            uniform_.push_back(std::all_of(dims_.begin(), dims_.end(), [&](const Dimension& dim) {
                return dim.steps[i] == 0;
            }));
            written_.push_back(0);
        }
        std::vector<Place> results;
        for (const Instruction& made : p.program.instructions) {
            const DType takes = made.function ? operand_dtype(made) : made.takes[0];
            std::vector<Place> operands;
            for (std::size_t o = 0; o < made.operands.size(); ++o) {
                const bool condition = made.takes.size() == 3 && o == 0;
                operands.push_back(
                    as(condition ? DType::boolean : takes, made.operands[o], results, p.program));
            }
            const DType type = made.type.dtype, kept = computed_as(type);
            if (!made.function) {
                // A conversion that narrows integers does so, and widens them again.
                Place value = operands[0];
                DType from = takes == DType::boolean ? takes : computed_as(takes);
                if (type != kept) value = step(conversion(from, type), {value}), from = type;
                results.push_back(from == kept ? value : step(conversion(from, kept), {value}));
                continue;
            }
            Place value = step(kernels[std::size_t(*made.function)](takes), std::move(operands));
            const bool truth = type == DType::boolean && takes == DType::i64;
            const Kind kind = function_rows[std::size_t(*made.function)].kind;
            if (truth && (kind == Kind::same || kind == Kind::select))
                value = step(conversion(DType::i64, type), {value});
            if (type != kept)
                value = step(conversion(type, kept), {step(conversion(kept, type), {value})});
            results.push_back(value);
        }
        const DType kept = computed_as(p.spec.dtype);
        Place last = results.back();
        if (kept != p.spec.dtype) last = step(conversion(kept, p.spec.dtype), {last});
        if (last.in == Place::In::memory)
            last = step(conversion(p.spec.dtype, p.spec.dtype), {last});
        element_ = size_of(p.spec.dtype);
        // The register of the result is its own last step's, unless that result is used elsewhere.
        direct_ = !steps_.empty() && steps_.back().result == last.index;
        last_ = last.index;
        share_registers();
    }

    static std::size_t registers(const Pointwise& p) { return PointwisePlan(p).registers_; }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const Index blocks = (size_ + block - 1) / block;
        const Index ranges = always_threads
                                 ? std::min<Index>(blocks, threads_)
                                 : std::clamp<Index>(blocks / grain, 1, std::max(threads_, 1));
        parallel_for(threads_, ranges, [&](Index r, int thread) {
            std::byte* memory = workspace + std::size_t(thread) * registers_ * register_bytes;
            run_blocks(inputs, static_cast<std::byte*>(output), memory, blocks * r / ranges,
                       blocks * (r + 1) / ranges);
        });
    }

  private:
    Place step(Kernel kernel, std::vector<Place> operands) {
        steps_.push_back({kernel, std::move(operands), registers_});
        return {Place::In::registers, registers_++};
    }

    // An operand as a value of a computed dtype.
    Place as(DType takes, const Operand& operand, const std::vector<Place>& results,
             const Program& program) {
        if (operand.from == Operand::From::number) {
            constants_.push_back({registers_, takes, operand.real, operand.integer});
            return {Place::In::registers, registers_++};
        }
        Place place{Place::In::memory, operand.index};
        DType from;
        if (operand.from == Operand::From::result) {
            place = results[operand.index];
            from = computed_as(program.instructions[operand.index].type.dtype);
        } else {
            from = dtypes_[operand.index];
        }
        takes = computed_as(takes);
        return from == takes ? place : step(conversion(from, takes), {place});
    }

    // Registers whose values are no longer read are written again. What is the same for all blocks
    // keeps its own.
    void share_registers() {
        std::vector<std::size_t> last_read(registers_, 0), now(registers_), free;
        for (std::size_t s = 0; s < steps_.size(); ++s)
            for (const Place& operand : steps_[s].operands)
                if (operand.in == Place::In::registers) last_read[operand.index] = s;
        last_read[last_] = steps_.size();
        std::size_t count = 0;
        for (Constant& constant : constants_) {
            last_read[constant.at] = steps_.size();
            now[constant.at] = count;
            constant.at = count++;
        }
        for (std::size_t& at : written_) at = count++;
        for (std::size_t s = 0; s < steps_.size(); ++s) {
            std::vector<std::size_t> done;
            for (Place& operand : steps_[s].operands)
                if (operand.in == Place::In::registers) {
                    const std::size_t was = operand.index;
                    operand.index = now[was];
                    if (last_read[was] == s &&
                        std::find(done.begin(), done.end(), now[was]) == done.end())
                        done.push_back(now[was]);
                }
            const std::size_t was = steps_[s].result;
            if (free.empty()) free.push_back(count++);
            now[was] = free.back();
            steps_[s].result = free.back();
            free.pop_back();
            free.insert(free.end(), done.begin(), done.end());
        }
        last_ = now[last_];
        registers_ = count;
    }

    void run_blocks(const void* const* inputs, std::byte* output, std::byte* memory, Index first,
                    Index end) const {
        const auto at = [&](std::size_t index) { return memory + index * register_bytes; };
        for (const Constant& constant : constants_)
            with_value(constant.dtype, [&](auto zero) {
                using T = decltype(zero);
                std::fill_n(reinterpret_cast<T*>(at(constant.at)), block,
                            is_real(constant.dtype) ? T(constant.real) : T(constant.integer));
            });
        for (std::size_t i = 0; i < dtypes_.size(); ++i)
            if (uniform_[i]) write_out(i, inputs[i], 0, block, at(written_[i]));
        std::vector<const void*> here(dtypes_.size());
        const bool past_cache = size_ * Index(element_) >= cached_bytes && output != inputs[0] &&
                                reinterpret_cast<std::uintptr_t>(output) % AI3_VECTOR_BYTES == 0;
        for (; first < end; ++first) {
            const Index begin = first * block, n = std::min(block, size_ - begin);
            for (std::size_t i = 0; i < dtypes_.size(); ++i)
                here[i] = uniform_[i] ? at(written_[i])
                                      : elements_of(i, inputs[i], begin, n, at(written_[i]));
            std::byte* out = output + std::size_t(begin) * element_;
            const bool into_output = direct_ && !past_cache;
            for (std::size_t s = 0; s < steps_.size(); ++s) {
                const Step& step = steps_[s];
                const void* operands[3] = {};
                for (std::size_t o = 0; o < step.operands.size(); ++o)
                    operands[o] = step.operands[o].in == Place::In::memory
                                      ? here[step.operands[o].index]
                                      : at(step.operands[o].index);
                const bool last = into_output && s + 1 == steps_.size();
                step.kernel(operands, last ? out : at(step.result), n);
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
        std::size_t at;
        DType dtype;
        double real;
        std::int64_t integer;
    };

    std::vector<Dimension> dims_;
    std::vector<DType> dtypes_;
    // Of each input: whether it is one element, and the register that it is written out to.
    std::vector<bool> uniform_;
    std::vector<std::size_t> written_;
    std::vector<Constant> constants_;
    std::vector<Step> steps_;
    std::size_t registers_ = 0, last_ = 0, element_ = 0;
    // Whether the last step writes the result.
    bool direct_ = false;
    Index size_;
    int threads_;
};

class Direct final : public Algorithm<Pointwise> {
  public:
    std::string_view name() const override { return "direct"; }

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
