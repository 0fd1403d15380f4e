// Runs that are watched: what an algorithm does to the memory around it.
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <cstring>

#include "bindings/array.hpp"
#include "core/executor.hpp"

namespace ai3 {

namespace {

// Memory of `bytes` filled with one byte, `offset` beyond a cache line's boundary, between two
// zones of a byte that nobody may change.
class Guarded {
  public:
    static constexpr std::size_t zone = 4096;
    static constexpr auto canary = std::byte(0xA5);

    Guarded(std::size_t bytes, std::byte fill, std::byte around = canary, std::size_t offset = 0)
        : bytes_(bytes),
          around_(around),
          begin_(zone + offset),
          buffer_(bytes + offset + 2 * zone) {
        std::memset(buffer_.data(), int(around), buffer_.size());
        std::memset(data(), int(fill), bytes);
    }

    std::byte* data() { return buffer_.data() + begin_; }

    // Where the first byte that was changed lies, or an empty text.
    std::string damage(const std::string& what) const {
        const std::byte* memory = buffer_.data();
        const auto is_changed = [&](std::byte byte) { return byte != around_; };
        for (std::size_t i = begin_; i-- > 0;)
            if (is_changed(memory[i]))
                return std::to_string(begin_ - i) + " bytes before " + what + " were written";
        for (std::size_t i = begin_ + bytes_; i < buffer_.size(); ++i)
            if (is_changed(memory[i]))
                return "byte " + std::to_string(i - begin_) + " of " + what + ", which has " +
                       std::to_string(bytes_) + ", was written";
        return {};
    }

  private:
    std::size_t bytes_;
    std::byte around_;
    std::size_t begin_;
    Buffer buffer_;
};

// The outputs of a run for each fill, as bytes, and what the runs did that they must not.
nb::tuple probe(std::shared_ptr<Problem> problem, const std::string& algorithm, nb::sequence arrays,
                const std::vector<int>& fills) {
    const auto& specs = problem->inputs();
    std::vector<Constant> inputs;
    for (nb::handle array : arrays) inputs.push_back(Array(array).keep(true));
    if (inputs.size() != specs.size())
        throw std::invalid_argument("the problem takes " + std::to_string(specs.size()) +
                                    " inputs");
    for (std::size_t i = 0; i < specs.size(); ++i)
        if (inputs[i].spec.bytes() != specs[i].bytes())
            throw std::invalid_argument("the memory of " + to_string(specs[i]) + " has " +
                                        std::to_string(specs[i].bytes()) + " bytes");
    const Spec output = problem->output();
    const Spec bytes{DType::u8, {Index(output.bytes())}};
    nb::list outputs;
    std::vector<std::string> complaints;
    const auto complain = [&](std::string what) {
        if (!what.empty()) complaints.push_back(std::move(what));
    };
    std::unique_ptr<Planned> planned;
    for (const int fill : fills) {
        Result result(bytes, nullptr);
        {
            nb::gil_scoped_release release;
            if (!planned) planned = std::make_unique<Planned>(problem, algorithm);
            std::vector<Guarded> held;
            std::vector<const void*> data;
            for (const Constant& input : inputs) {
                // Dense, and as little aligned as a part of another array may be.
                const std::size_t size = input.spec.bytes();
                Guarded& copy = held.emplace_back(size, std::byte(fill), std::byte(fill),
                                                  size_of(input.spec.dtype));
                if (size) std::memcpy(copy.data(), input.data, size);
                data.push_back(copy.data());
            }
            Guarded written(output.bytes(), std::byte(fill));
            Guarded workspace(planned->workspace_bytes, std::byte(fill));
            planned->plan->run(data.data(), written.data(), workspace.data());
            complain(written.damage("the output"));
            complain(workspace.damage("the workspace"));
            for (std::size_t i = 0; i < inputs.size(); ++i) {
                complain(held[i].damage("input " + std::to_string(i)));
                const std::size_t size = inputs[i].spec.bytes();
                if (size && std::memcmp(held[i].data(), inputs[i].data, size))
                    complain("input " + std::to_string(i) + " was written");
            }
            if (output.bytes()) std::memcpy(result.data(), written.data(), output.bytes());
        }
        outputs.append(result.release());
    }
    return nb::make_tuple(outputs, complaints);
}

}  // namespace

void bind_probe(nb::module_& module) {
    module.def(
        "probe", &probe, nb::arg("problem"), nb::arg("algorithm"), nb::arg("inputs"),
        nb::arg("fills"),
        nb::sig("def probe(problem: Problem, algorithm: str, inputs: Sequence[object], fills: "
                "Sequence[int]) -> tuple[list[Tensor], list[str]]"),
        "Plans once and runs for each fill, a byte that output, workspace and what lies around "
        "the\n"
        "inputs are full of before. Inputs are dense arrays of the memory in the problem's "
        "layouts.\nGives the outputs' memory, as bytes, and what was written that is not the "
        "output's or the\nworkspace's.");
    module.def(
        "threads_of",
        [](int threads) {
            nb::gil_scoped_release release;
            std::atomic<int> count{0};
            on_threads(threads, [&](int) { ++count; });
            return count.load();
        },
        nb::arg("threads"), "How many threads share a loop that asks for so many.");
}

}  // namespace ai3
