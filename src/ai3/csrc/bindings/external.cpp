// Algorithms written in Python, or compiled while the program runs.
#include "core/external.hpp"

#include <dlfcn.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>

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

// How an image (..., C, H, W) of which the channels are last, or in blocks, is seen: as
// (..., C, H, W) with strides, or as the memory's (..., blocks, H, W, channels of a block).
struct Extents {
    std::vector<std::size_t> shape;
    std::vector<std::int64_t> strides;

    explicit Extents(const Spec& spec) : shape(spec.shape.begin(), spec.shape.end()) {
        if (spec.layout == Layout::dense) return;
        const std::size_t channels = shape.size() - 3;
        if (spec.layout == Layout::blocked) {
            const auto block = std::size_t(channel_block(spec.dtype));
            shape[channels] = (shape[channels] + block - 1) / block;
            shape.push_back(block);
            return;
        }
        std::vector<std::size_t> inner_first{channels, channels + 2, channels + 1};
        for (std::size_t dim = channels; dim-- > 0;) inner_first.push_back(dim);
        strides.resize(shape.size());
        std::int64_t stride = 1;
        for (const std::size_t dim : inner_first) {
            strides[dim] = stride;
            stride *= std::int64_t(shape[dim]);
        }
    }
};

// The memory as an array, which `owner`, where there is one, keeps alive.
template <typename Framework>
nb::object view(const void* data, const Spec& spec, bool writable, nb::handle owner) {
    const Extents extents(spec);
    const auto& shape = extents.shape;
    const std::int64_t* strides = extents.strides.empty() ? nullptr : extents.strides.data();
    void* memory = const_cast<void*>(data);
    const auto cast = [](auto array) { return nb::cast(array, nb::rv_policy::reference); };
    if (writable)
        return cast(nb::ndarray<Framework>(memory, shape.size(), shape.data(), owner, strides,
                                           dlpack_dtype(spec.dtype)));
    return cast(nb::ndarray<Framework, nb::ro>(memory, shape.size(), shape.data(), owner, strides,
                                               dlpack_dtype(spec.dtype)));
}

nb::object view(bool torch, const void* data, const Spec& spec, bool writable,
                nb::handle owner = nb::handle()) {
    return torch ? view<nb::pytorch>(data, spec, writable, owner)
                 : view<nb::numpy>(data, spec, writable, owner);
}

class InPython final : public External {
  public:
    InPython(std::string name, bool torch, std::vector<Layout> layouts, nb::object answers)
        : name_(std::move(name)),
          torch_(torch),
          layouts_(std::move(layouts)),
          answers_(std::move(answers)),
          estimates_(!answers_.attr("cost").is_none()) {}
    // It lives as long as the process, beyond the interpreter.
    ~InPython() override { answers_.release(); }

    std::string_view name() const override { return name_; }

    bool takes(Layout layout) const override {
        return layout == Layout::dense ||
               std::find(layouts_.begin(), layouts_.end(), layout) != layouts_.end();
    }
    std::string refusal(const Problem& problem) const override {
        nb::gil_scoped_acquire acquire;
        return nb::cast<std::string>(answers_.attr("refusal")(description_of(problem)));
    }
    std::size_t workspace_bytes(const Problem& problem) const override {
        nb::gil_scoped_acquire acquire;
        return nb::cast<std::size_t>(answers_.attr("workspace_bytes")(description_of(problem)));
    }
    double cost(const Problem& problem) const override {
        if (!estimates_) return std::numeric_limits<double>::infinity();
        nb::gil_scoped_acquire acquire;
        return nb::cast<double>(answers_.attr("cost")(description_of(problem)));
    }
    std::unique_ptr<Plan> plan(const Problem& problem) const override;

  private:
    std::string name_;
    bool torch_;
    std::vector<Layout> layouts_;
    nb::object answers_;
    bool estimates_;
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
        [](const std::string& op, const std::string& name, bool torch,
           const std::vector<std::string>& layouts, nb::object answers) {
            std::vector<Layout> taken;
            for (const std::string& layout : layouts)
                taken.push_back(layout_from(layout, Shape{1, 1, 1, 1}));
            operation(op).add(
                std::make_unique<InPython>(name, torch, std::move(taken), std::move(answers)));
        },
        nb::arg("op"), nb::arg("name"), nb::arg("torch"), nb::arg("layouts"), nb::arg("answers"),
        "Adds an algorithm, or puts it in the place of one that was added under that name.\n"
        "`answers` has refusal, workspace_bytes and cost (or None) of a description, and plan of "
        "that "
        "and the\nweights, which makes a function of inputs, output and workspace. Arrays are "
        "torch's "
        "or NumPy's,\nimages dense or in these layouts.");
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
