// Algorithms written in Python, or compiled while the program runs.
#include "core/external.hpp"

#include <dlfcn.h>
#include <nanobind/stl/string.h>

#include "bindings/array.hpp"

namespace ai3 {

namespace {

nb::object value_of(const Attributes::Value& value) {
    return std::visit(
        [](const auto& held) -> nb::object {
            using T = std::decay_t<decltype(held)>;
            if constexpr (std::is_same_v<T, std::monostate>) {
                return nb::none();
            } else if constexpr (std::is_same_v<T, std::vector<Index>> ||
                                 std::is_same_v<T, std::vector<double>>) {
                nb::list items;
                for (const auto item : held) items.append(item);
                return nb::tuple(items);
            } else {
                return nb::cast(held);
            }
        },
        value);
}

// (op, inputs, weights, output, attributes, threads)
nb::tuple description_of(const Problem& problem) {
    nb::list inputs, weights;
    for (const Spec& spec : problem.inputs()) inputs.append(nb::cast(spec));
    const WeightSet& held = *problem.shared_weights();
    for (std::size_t i = 0; i < held.size(); ++i) {
        const Constant* weight = held.get(i);
        weights.append(weight ? nb::cast(weight->spec) : nb::none());
    }
    nb::dict attributes;
    for (const auto& [name, value] : problem.attributes().values())
        attributes[nb::cast(name)] = value_of(value);
    return nb::make_tuple(std::string(problem.op()), nb::tuple(inputs), nb::tuple(weights),
                          problem.output(), attributes, problem.threads());
}

// The memory as an array, which `owner`, where there is one, keeps alive.
template <typename Framework>
nb::object view(const void* data, const Spec& spec, bool writable, nb::handle owner) {
    const std::vector<std::size_t> shape(spec.shape.begin(), spec.shape.end());
    void* memory = const_cast<void*>(data);
    const auto cast = [](auto array) { return nb::cast(array, nb::rv_policy::reference); };
    if (writable)
        return cast(nb::ndarray<Framework>(memory, shape.size(), shape.data(), owner, nullptr,
                                           dlpack_dtype(spec.dtype)));
    return cast(nb::ndarray<Framework, nb::ro>(memory, shape.size(), shape.data(), owner, nullptr,
                                               dlpack_dtype(spec.dtype)));
}

nb::object view(bool torch, const void* data, const Spec& spec, bool writable,
                nb::handle owner = nb::handle()) {
    return torch ? view<nb::pytorch>(data, spec, writable, owner)
                 : view<nb::numpy>(data, spec, writable, owner);
}

class InPython final : public External {
  public:
    InPython(std::string name, bool torch, nb::object answers)
        : name_(std::move(name)), torch_(torch), answers_(std::move(answers)) {}
    // It lives as long as the process, beyond the interpreter.
    ~InPython() override { answers_.release(); }

    std::string_view name() const override { return name_; }

    std::string refusal(const Problem& problem) const override {
        nb::gil_scoped_acquire acquire;
        return nb::cast<std::string>(answers_.attr("refusal")(description_of(problem)));
    }
    std::size_t workspace_bytes(const Problem& problem) const override {
        nb::gil_scoped_acquire acquire;
        return nb::cast<std::size_t>(answers_.attr("workspace_bytes")(description_of(problem)));
    }
    double cost(const Problem& problem) const override {
        nb::gil_scoped_acquire acquire;
        return nb::cast<double>(answers_.attr("cost")(description_of(problem)));
    }
    std::unique_ptr<Plan> plan(const Problem& problem) const override;

  private:
    std::string name_;
    bool torch_;
    nb::object answers_;
};

class PlanInPython final : public Plan {
  public:
    PlanInPython(const Problem& problem, bool torch, std::size_t workspace_bytes, nb::object run)
        : inputs_(problem.inputs()),
          output_(problem.output()),
          workspace_{DType::u8, {Index(workspace_bytes)}},
          torch_(torch),
          run_(std::move(run)) {}
    ~PlanInPython() override {
        nb::gil_scoped_acquire acquire;
        run_.reset();
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        nb::gil_scoped_acquire acquire;
        nb::list views;
        for (std::size_t i = 0; i < inputs_.size(); ++i)
            views.append(view(torch_, inputs[i], inputs_[i], false));
        run_(views, view(torch_, output, output_, true), view(torch_, workspace, workspace_, true));
    }

  private:
    std::vector<Spec> inputs_;
    Spec output_, workspace_;
    bool torch_;
    nb::object run_;
};

std::unique_ptr<Plan> InPython::plan(const Problem& problem) const {
    nb::gil_scoped_acquire acquire;
    nb::list weights;
    const WeightSet& held = *problem.shared_weights();
    for (std::size_t i = 0; i < held.size(); ++i) {
        const Constant* weight = held.get(i);
        if (!weight) {
            weights.append(nb::none());
            continue;
        }
        using Owner = std::shared_ptr<const WeightSet>;
        nb::capsule owner(new Owner(problem.shared_weights()),
                          [](void* p) noexcept { delete static_cast<Owner*>(p); });
        weights.append(view(torch_, weight->data, weight->spec, false, owner));
    }
    nb::object run = answers_.attr("plan")(description_of(problem), weights);
    return std::make_unique<PlanInPython>(problem, torch_, workspace_bytes(problem),
                                          std::move(run));
}

}  // namespace

void bind_external(nb::module_& module) {
    module.def(
        "add_algorithm",
        [](const std::string& op, const std::string& name, bool torch, nb::object answers) {
            operation(op).add(std::make_unique<InPython>(name, torch, std::move(answers)));
        },
        nb::arg("op"), nb::arg("name"), nb::arg("torch"), nb::arg("answers"),
        "Adds an algorithm, or puts it in the place of one that was added under that name.\n"
        "`answers` has refusal, workspace_bytes and cost of a description, and plan of that and "
        "the\nweights, which makes a function of inputs, output and workspace. Arrays are torch's "
        "or NumPy's.");
    module.def(
        "load_algorithm",
        [](const std::string& op, const std::string& name, const std::string& path) {
            // It stays loaded: plans may live as long as the process.
            void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
            if (!library) throw std::runtime_error(dlerror());
            using Make = NamedAlgorithm* (*)(const char*);
            const auto make = reinterpret_cast<Make>(dlsym(library, "ai3_make_algorithm"));
            if (!make) throw std::runtime_error(dlerror());
            operation(op).add(AlgorithmTable::Pointer(make(name.c_str())));
        },
        nb::arg("op"), nb::arg("name"), nb::arg("path"),
        "The same for one in a library that was compiled with plugin/library.cpp at this level.");
    module.def(
        "remove_algorithm",
        [](const std::string& op, const std::string& name) { operation(op).remove(name); },
        nb::arg("op"), nb::arg("name"), "Removes an algorithm that was added.");
}

}  // namespace ai3
