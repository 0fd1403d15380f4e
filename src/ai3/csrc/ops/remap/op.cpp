#include "ops/remap/op.hpp"

namespace ai3 {

namespace {

[[noreturn]] void refuse(std::string_view op, const std::string& what) {
    throw std::invalid_argument(std::string(op) + ": " + what);
}

enum class Border : std::uint8_t { constant, reflect, replicate, circular };

Border border_from(const std::string& mode) {
    if (mode == "constant") return Border::constant;
    if (mode == "reflect") return Border::reflect;
    if (mode == "replicate") return Border::replicate;
    if (mode == "circular") return Border::circular;
    refuse(Pad::op,
           "mode must be 'constant', 'reflect', 'replicate' or 'circular', not '" + mode + "'");
}

// Where element i comes from, counted from the input's first.
Index source_of(Index i, Index extent, Border border) {
    if (i >= 0 && i < extent) return i;
    switch (border) {
        case Border::constant:
            return -1;
        case Border::reflect:
            return i < 0 ? -i : 2 * (extent - 1) - i;
        case Border::replicate:
            return i < 0 ? 0 : extent - 1;
        case Border::circular:
            return i < 0 ? i + extent : i - extent;
    }
    return -1;
}

}  // namespace

RemapProblem::RemapProblem(std::string_view op, const std::vector<Spec>& inputs,
                           const WeightSet& weights, int threads)
    : remap(Shape{}), threads(threads) {
    if (inputs.size() != 1 || weights.size() != 0) refuse(op, "takes one input and no weights");
    dtype = inputs[0].dtype;
    shape = inputs[0].shape;
    elements(shape);
}

void RemapProblem::set(Remap made) {
    shape = made.output();
    remap = std::move(made);
}

void RemapProblem::reference(const void* const* inputs, const WeightSet&, void* output) const {
    with_storage(dtype, [&](auto zero) {
        using T = decltype(zero);
        const T* input = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        const Shape strides = dense_strides(remap.input);
        for (Index i = 0; i < elements(shape); ++i) {
            Index rest = i, at = 0;
            for (std::size_t d = shape.size(); d-- > 0; rest /= shape[d]) {
                const Index from = remap.source[d][std::size_t(rest % shape[d])];
                at = from < 0 || at < 0 ? -1 : at + from * strides[d];
            }
            out[i] = at < 0 ? stored<T>(dtype, remap.fill) : input[at];
        }
    });
}

Slice::Slice(const std::vector<Spec>& inputs, const WeightSet& weights,
             const Attributes& attributes, int threads)
    : RemapProblem(op, inputs, weights, threads) {
    const std::size_t dim = dimension(op, "dim", attributes.integer("dim", 0), shape.size());
    const Index extent = shape[dim], step = attributes.integer("step", 1);
    if (step < 1) refuse(op, "step must be at least 1, not " + std::to_string(step));
    const auto place = [&](const std::string& name, Index otherwise) {
        const Index at = attributes.integer(name, otherwise);
        return std::clamp<Index>(at < 0 ? at + extent : at, 0, extent);
    };
    const Index start = place("start", 0), end = std::max(place("end", extent), start);
    shape[dim] = (end - start + step - 1) / step;
    if (elements(shape) == 0) return;
    Remap made(inputs[0].shape);
    made.source[dim].clear();
    for (Index i = start; i < end; i += step) made.source[dim].push_back(i);
    set(std::move(made));
}

Roll::Roll(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
           int threads)
    : RemapProblem(op, inputs, weights, threads), rolled(shape) {
    const std::vector<Index> shifts = attributes.integers("shifts", attributes.count("shifts"), {});
    std::vector<std::size_t> dims = dimensions(op, attributes, "dims", shape.size());
    const bool flat = dims.empty();
    if (flat) shape = {elements(shape)}, dims = {0};
    if (shifts.size() != dims.size())
        refuse(op, "needs as many shifts as dims, not " + std::to_string(shifts.size()) + " for " +
                       std::to_string(flat ? 0 : dims.size()));
    if (elements(shape) == 0) return;
    Remap made(shape);
    for (std::size_t i = 0; i < dims.size(); ++i) {
        auto& source = made.source[dims[i]];
        const Index extent = Index(source.size()), shift = shifts[i] % extent;
        std::rotate(source.begin(), source.begin() + (shift > 0 ? extent - shift : -shift),
                    source.end());
    }
    set(std::move(made));
}

Pad::Pad(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
         int threads)
    : RemapProblem(op, inputs, weights, threads) {
    const std::vector<Index> pad = attributes.integers("pad", attributes.count("pad"), {});
    if (pad.size() % 2 != 0 || pad.size() > 2 * shape.size())
        refuse(op, "pad must be pairs for at most " + std::to_string(shape.size()) +
                       " dimensions of the input " + to_string(inputs[0]) + ", not " +
                       std::to_string(pad.size()) + " integers");
    const Border border = border_from(attributes.text("mode", "constant"));
    for (std::size_t i = 0; i < pad.size() / 2; ++i) {
        const std::size_t dim = shape.size() - 1 - i;
        const Index extent = shape[dim], before = pad[2 * i], after = pad[2 * i + 1];
        const Index most = border == Border::reflect    ? extent - 1
                           : border == Border::circular ? extent
                           : border == Border::replicate && extent == 0
                               ? 0
                               : std::numeric_limits<Index>::max() / 4;
        if (std::max(before, after) > most)
            refuse(op, "padding of " + std::to_string(std::max(before, after)) +
                           " is more than the extent " + std::to_string(extent) + " of dimension " +
                           std::to_string(dim) + " allows");
        if (std::min(before, after) < -extent || extent + before + after < 0)
            refuse(op, "padding of " + std::to_string(before) + " and " + std::to_string(after) +
                           " removes more than the extent " + std::to_string(extent) +
                           " of dimension " + std::to_string(dim));
        shape[dim] += before + after;
        check_places(op, shape[dim], extent);
    }
    if (elements(shape) == 0) return;
    Remap made(inputs[0].shape);
    made.fill = attributes.real("value", 0);
    for (std::size_t i = 0; i < pad.size() / 2; ++i) {
        const std::size_t dim = shape.size() - 1 - i;
        made.source[dim].resize(std::size_t(shape[dim]));
        for (Index k = 0; k < shape[dim]; ++k)
            made.source[dim][std::size_t(k)] =
                source_of(k - pad[2 * i], inputs[0].shape[dim], border);
    }
    set(std::move(made));
}

Expand::Expand(const std::vector<Spec>& inputs, const WeightSet& weights,
               const Attributes& attributes, int threads)
    : RemapProblem(op, inputs, weights, threads) {
    Shape size = attributes.integers("shape", attributes.count("shape"), {}), from = shape;
    if (size.size() < from.size())
        refuse(op, "shape " + to_string(size) + " has fewer dimensions than the input " +
                       to_string(inputs[0]));
    from.insert(from.begin(), size.size() - from.size(), 1);
    for (std::size_t d = 0; d < size.size(); ++d) {
        const bool added = d < size.size() - shape.size();
        if (size[d] == -1 && !added) size[d] = from[d];
        if (size[d] < 0 || (from[d] != 1 && from[d] != size[d]))
            refuse(op, "the input " + to_string(inputs[0]) + " cannot be expanded to " +
                           to_string(size) + ": only extents of 1 can");
        check_places(op, size[d], from[d]);
    }
    shape = size;
    if (elements(shape) == 0) return;
    Remap made(from);
    for (std::size_t d = 0; d < size.size(); ++d)
        if (from[d] != size[d]) made.source[d].assign(std::size_t(size[d]), 0);
    set(std::move(made));
}

Flip::Flip(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
           int threads)
    : RemapProblem(op, inputs, weights, threads) {
    const std::vector<std::size_t> dims = dimensions(op, attributes, "dims", shape.size());
    if (elements(shape) == 0) return;
    Remap made(shape);
    for (std::size_t d : dims) std::reverse(made.source[d].begin(), made.source[d].end());
    set(std::move(made));
}

Take::Take(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
           int threads)
    : RemapProblem(op, inputs, weights, threads) {
    const std::size_t dim = dimension(op, "dim", attributes.integer("dim", 0), shape.size());
    std::vector<Index> indices = attributes.integers("indices", attributes.count("indices"), {});
    const Index extent = shape[dim];
    for (Index& i : indices) {
        if (i < -extent || i >= extent)
            refuse(op, "index " + std::to_string(i) + " is out of range for dimension " +
                           std::to_string(dim) + " of the input " + to_string(inputs[0]));
        if (i < 0) i += extent;
    }
    shape[dim] = Index(indices.size());
    if (elements(shape) == 0) return;
    Remap made(inputs[0].shape);
    made.source[dim] = std::move(indices);
    set(std::move(made));
}

namespace {
const OperationOf<Flip> flip;
const OperationOf<Take> take;
const OperationOf<Slice> slice;
const OperationOf<Roll> roll;
const OperationOf<Pad> pad;
const OperationOf<Expand> expand;
}  // namespace

}  // namespace ai3
