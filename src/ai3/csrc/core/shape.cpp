#include "core/shape.hpp"

#include <algorithm>

namespace ai3 {

std::size_t dimension(std::string_view op, const std::string& name, Index dim, std::size_t rank) {
    const Index n = Index(rank);
    if (n == 0) throw std::invalid_argument(std::string(op) + ": an input must have a dimension");
    if (dim < -n || dim >= n)
        throw std::invalid_argument(std::string(op) + ": " + name + " must be from " +
                                    std::to_string(-n) + " to " + std::to_string(n - 1) + ", not " +
                                    std::to_string(dim));
    return std::size_t(dim < 0 ? dim + n : dim);
}

std::vector<std::size_t> dimensions(std::string_view op, const Attributes& attributes,
                                    const std::string& name, std::size_t rank,
                                    const std::vector<std::size_t>& otherwise) {
    if (!attributes.has(name)) return otherwise;
    std::vector<std::size_t> dims;
    for (Index dim : attributes.integers(name, attributes.count(name), {})) {
        dims.push_back(dimension(op, name, dim, rank));
        if (std::count(dims.begin(), dims.end(), dims.back()) > 1)
            throw std::invalid_argument(std::string(op) + ": " + name + " names dimension " +
                                        std::to_string(dims.back()) + " twice");
    }
    return dims;
}

Shape dense_strides(const Shape& shape) {
    Shape strides(shape.size());
    Index stride = 1;
    for (std::size_t i = shape.size(); i-- > 0; stride *= shape[i]) strides[i] = stride;
    return strides;
}

Shape broadcast_shape(std::string_view op, const Shape& a, const Shape& b) {
    Shape shape(std::max(a.size(), b.size()));
    for (std::size_t i = 1; i <= shape.size(); ++i) {
        const Index from_a = i <= a.size() ? a[a.size() - i] : 1;
        const Index from_b = i <= b.size() ? b[b.size() - i] : 1;
        if (from_a != from_b && from_a != 1 && from_b != 1)
            throw std::invalid_argument(std::string(op) + ": shapes " + to_string(a) + " and " +
                                        to_string(b) +
                                        " cannot be broadcast: extents must be equal or 1");
        shape[shape.size() - i] = from_a == 1 ? from_b : from_a;
    }
    return shape;
}

Shape broadcast_strides(const Shape& from, const Shape& to) {
    Shape strides(to.size(), 0);
    Index stride = 1;
    for (std::size_t i = 1; i <= from.size(); ++i) {
        const Index extent = from[from.size() - i];
        if (extent != 1) strides[to.size() - i] = stride;
        stride *= extent;
    }
    return strides;
}

}  // namespace ai3
