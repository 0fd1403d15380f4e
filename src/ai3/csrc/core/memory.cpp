#include "core/memory.hpp"

#include <algorithm>
#include <numeric>

namespace ai3 {

namespace {

constexpr std::size_t none = std::size_t(-1);

// For each value the one whose memory it lies in, its root, and the byte at which.
class Aliases {
  public:
    struct Found {
        std::size_t root, offset;
        bool operator==(const Found&) const = default;
    };

    explicit Aliases(std::size_t values) : parents_(values, {none, 0}) {}

    Found of(std::size_t value) const {
        std::size_t offset = 0;
        while (parents_[value].root != none) {
            offset += parents_[value].offset;
            value = parents_[value].root;
        }
        return {value, offset};
    }
    // Puts a root, and all that lies in it, into another value's memory.
    void join(std::size_t root, std::size_t other, std::size_t offset = 0) {
        parents_[root] = {other, offset};
    }

  private:
    std::vector<Found> parents_;
};

// The dimensions from the outermost in memory to the innermost.
std::vector<std::size_t> memory_order(const Spec& spec) {
    std::vector<std::size_t> order(spec.shape.size());
    std::iota(order.begin(), order.end(), std::size_t(0));
    if (spec.layout == Layout::channels_last)
        std::rotate(order.end() - 3, order.end() - 2, order.end());
    return order;
}

std::size_t dimension(const Attributes& attributes, const Spec& spec) {
    const Index rank = Index(spec.shape.size()), dim = attributes.integer("dim", 0);
    return std::size_t(dim < 0 ? dim + rank : dim);
}

class Placing {
  public:
    Placing(std::size_t given, std::span<const Spec> specs, std::span<const Flow> nodes,
            std::span<const std::size_t> outputs)
        : given_(given), specs_(specs), nodes_(nodes), outputs_(outputs), aliases_(specs.size()) {
        for (const Spec& spec : specs) bytes_.push_back(spec.bytes());
    }

    Memory operator()() {
        std::vector<Location> fixed(specs_.size());
        std::vector<bool> is_fixed(specs_.size());
        const auto fix = [&](std::size_t value, Location location) {
            fixed[value] = location;
            is_fixed[value] = true;
        };
        for (std::size_t i = 0; i < given_; ++i) fix(i, {Place::input, i, 0});
        std::size_t constants = 0;
        for (std::size_t i = 0; i < nodes_.size(); ++i)
            if (!nodes_[i].attributes) fix(given_ + i, {Place::constant, constants++, 0});

        place_views();
        place_concatenations();
        work_in_place(is_fixed);

        Memory memory;
        for (std::size_t i = 0; i < outputs_.size(); ++i) {
            const auto [root, offset] = aliases_.of(outputs_[i]);
            if (is_fixed[root] || offset || bytes_[root] != bytes_[outputs_[i]])
                memory.copies.emplace_back(outputs_[i], i);
            else
                fix(root, {Place::output, i, 0});
        }
        memory.arena_bytes = fill_arena(fix, is_fixed);
        for (std::size_t value = 0; value < specs_.size(); ++value) {
            const auto [root, offset] = aliases_.of(value);
            memory.locations.push_back(fixed[root]);
            memory.locations.back().offset += offset;
        }
        memory.steps = std::move(steps_);
        return memory;
    }

  private:
    std::size_t value_of(std::size_t node) const { return given_ + node; }

    void place_views() {
        for (std::size_t i = 0; i < nodes_.size(); ++i) {
            if (!nodes_[i].attributes) continue;
            const std::size_t offset = view_offset(i);
            if (offset == none)
                steps_.push_back(i);
            else
                aliases_.join(value_of(i), nodes_[i].inputs[0], offset);
        }
    }

    // At which byte of its input's memory the node's output lies as it is; none: nowhere.
    std::size_t view_offset(std::size_t i) const {
        const Flow& node = nodes_[i];
        if (!node.direct || node.inputs.empty()) return none;
        const Spec& whole = specs_[node.inputs[0]];
        const Spec& part = specs_[value_of(i)];
        switch (node.kind) {
            case Flow::Kind::view:
                return 0;
            case Flow::Kind::reorder:
                return same_memory(whole, part) ? 0 : none;
            case Flow::Kind::permute:
                return moves_nothing(*node.attributes, whole, part) ? 0 : none;
            case Flow::Kind::slice:
                return slice_offset(*node.attributes, whole, part);
            default:
                return none;
        }
    }

    // Whether a permutation only gives the memory's dimensions other names.
    static bool moves_nothing(const Attributes& attributes, const Spec& whole, const Spec& part) {
        const auto order = memory_order(whole);
        const Index rank = Index(order.size());
        const auto dims = attributes.integers("dims", order.size(), {});
        std::vector<std::size_t> read;
        for (std::size_t dim : memory_order(part))
            read.push_back(std::size_t(dims[dim] < 0 ? dims[dim] + rank : dims[dim]));
        return order == read;
    }

    static std::size_t slice_offset(const Attributes& attributes, const Spec& whole,
                                    const Spec& part) {
        if (whole.layout != Layout::dense || elements(part.shape) == 0 ||
            attributes.integer("step", 1) != 1)
            return none;
        const std::size_t dim = dimension(attributes, whole);
        for (std::size_t outer = 0; outer < dim; ++outer)
            if (whole.shape[outer] != 1) return none;
        const Index extent = whole.shape[dim], start = attributes.integer("start", 0);
        const Index first = std::clamp<Index>(start < 0 ? start + extent : start, 0, extent);
        return std::size_t(first) * (whole.bytes() / std::size_t(extent));
    }

    // Lets inputs of concatenations be written where the result has them. From the last to the
    // first: where a network concatenates ever more of the same values, as DenseNet does, the
    // earlier results are parts of the last one.
    void place_concatenations() {
        std::vector<bool> written(specs_.size()), vanished(nodes_.size());
        for (std::size_t i : steps_) written[value_of(i)] = true;
        for (std::size_t at = steps_.size(); at-- > 0;) {
            const std::size_t i = steps_[at];
            const Flow& node = nodes_[i];
            if (node.kind != Flow::Kind::concat || !node.direct || !is_dense(i)) continue;
            std::vector<Aliases::Found> places, wanted;
            std::vector<std::size_t> starts, roots;
            std::size_t start = 0;
            bool whole = true;
            for (std::size_t input : node.inputs) {
                const auto place = aliases_.of(input);
                places.push_back(place);
                roots.push_back(place.root);
                starts.push_back(start);
                whole = whole && place.offset == 0 && written[place.root] &&
                        bytes_[place.root] == bytes_[input];
                start += bytes_[input];
            }
            const auto [root, first] = places[0];
            for (std::size_t from : starts) wanted.push_back({root, first + from});
            const auto own = aliases_.of(value_of(i));
            if (places == wanted) {
                if (own == Aliases::Found{value_of(i), 0}) {
                    aliases_.join(value_of(i), root, first);
                    vanished[i] = true;
                }
                continue;
            }
            auto sorted = roots;
            std::sort(sorted.begin(), sorted.end());
            const bool distinct = std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end();
            if (!whole || !distinct || std::binary_search(sorted.begin(), sorted.end(), own.root))
                continue;
            for (std::size_t k = 0; k < roots.size(); ++k)
                aliases_.join(roots[k], value_of(i), starts[k]);
            vanished[i] = true;
        }
        std::erase_if(steps_, [&](std::size_t i) { return vanished[i]; });
    }

    // Whether the inputs lie one after the other in the output.
    bool is_dense(std::size_t i) const {
        const Spec& spec = specs_[value_of(i)];
        const std::size_t along = dimension(*nodes_[i].attributes, spec);
        for (std::size_t dim : memory_order(spec)) {
            if (dim == along) break;
            if (spec.shape[dim] != 1) return false;
        }
        std::size_t total = 0;
        for (std::size_t input : nodes_[i].inputs) total += bytes_[input];
        return total == bytes_[value_of(i)];
    }

    void work_in_place(const std::vector<bool>& is_fixed) {
        std::vector<std::size_t> last_read(specs_.size(), none);
        for (std::size_t value : outputs_) last_read[aliases_.of(value).root] = steps_.size();
        for (std::size_t at = steps_.size(); at-- > 0;)
            for (std::size_t input : nodes_[steps_[at]].inputs) {
                std::size_t& last = last_read[aliases_.of(input).root];
                if (last == none) last = at;
            }
        for (std::size_t at = 0; at < steps_.size(); ++at) {
            const Flow& node = nodes_[steps_[at]];
            const std::size_t own = value_of(steps_[at]);
            if (node.inputs.empty() || !node.in_place || !node.direct) continue;
            const std::size_t first = aliases_.of(node.inputs[0]).root;
            const bool read_apart =
                std::none_of(node.inputs.begin() + 1, node.inputs.end(),
                             [&](std::size_t input) { return aliases_.of(input).root == first; });
            if (!is_fixed[first] && last_read[first] == at && read_apart &&
                specs_[node.inputs[0]] == specs_[own] && bytes_[first] == bytes_[own] &&
                aliases_.of(own).root != first)
                aliases_.join(first, own);
        }
    }

    template <typename Fix>
    std::size_t fill_arena(const Fix& fix, const std::vector<bool>& is_fixed) {
        std::vector<std::size_t> roots, index(specs_.size(), none);
        std::vector<Lifetime> lifetimes;
        const auto live = [&](std::size_t value, std::size_t at) {
            const std::size_t root = aliases_.of(value).root;
            if (is_fixed[root]) return;
            if (index[root] == none) {
                index[root] = roots.size();
                roots.push_back(root);
                lifetimes.push_back({bytes_[root], at, at});
            }
            lifetimes[index[root]].last = at;
        };
        for (std::size_t at = 0; at < steps_.size(); ++at) {
            live(value_of(steps_[at]), at);
            for (std::size_t input : nodes_[steps_[at]].inputs) live(input, at);
        }
        for (std::size_t value : outputs_) live(value, steps_.size());
        const auto [offsets, size] = plan_memory(lifetimes);
        for (std::size_t k = 0; k < roots.size(); ++k) fix(roots[k], {Place::arena, 0, offsets[k]});
        return size;
    }

    const std::size_t given_;
    const std::span<const Spec> specs_;
    const std::span<const Flow> nodes_;
    const std::span<const std::size_t> outputs_;
    std::vector<std::size_t> bytes_;
    std::vector<std::size_t> steps_;
    Aliases aliases_;
};

}  // namespace

Flow::Kind Flow::kind_of(std::string_view op, bool view) {
    if (view) return Kind::view;
    if (op == "reorder") return Kind::reorder;
    if (op == "permute") return Kind::permute;
    if (op == "slice") return Kind::slice;
    return op == "concat" ? Kind::concat : Kind::other;
}

bool same_memory(const Spec& a, const Spec& b) {
    if (a == b) return true;
    if (a.dtype != b.dtype) return false;
    const std::size_t rank = a.shape.size();
    return rank > 2 && a.shape[rank - 1] * a.shape[rank - 2] == 1 && a.bytes() == b.bytes();
}

Memory place_values(std::size_t given, std::span<const Spec> specs, std::span<const Flow> nodes,
                    std::span<const std::size_t> outputs) {
    return Placing(given, specs, nodes, outputs)();
}

std::pair<std::vector<std::size_t>, std::size_t> plan_memory(std::span<const Lifetime> lifetimes) {
    std::vector<std::size_t> offsets(lifetimes.size()), order(lifetimes.size()), placed;
    std::iota(order.begin(), order.end(), std::size_t(0));
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        return lifetimes[a].bytes > lifetimes[b].bytes;
    });
    std::vector<std::pair<std::size_t, std::size_t>> taken;  // (start, bytes)
    std::size_t size = 0;
    for (std::size_t i : order) {
        const Lifetime& life = lifetimes[i];
        taken.clear();
        for (std::size_t other : placed)
            if (lifetimes[other].first <= life.last && life.first <= lifetimes[other].last)
                taken.emplace_back(offsets[other], lifetimes[other].bytes);
        std::sort(taken.begin(), taken.end());
        std::size_t offset = 0;
        for (const auto& [start, bytes] : taken) {
            if (offset + life.bytes <= start) break;
            offset = std::max(offset, align_up(start + bytes));
        }
        offsets[i] = offset;
        placed.push_back(i);
        size = std::max(size, offset + life.bytes);
    }
    return {std::move(offsets), align_up(size)};
}

}  // namespace ai3
