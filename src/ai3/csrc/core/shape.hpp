// What operations on arrays of any number of dimensions have in common.
#pragma once

#include "core/attributes.hpp"
#include "core/tensor.hpp"

namespace ai3 {

// A dimension counted from the end where negative. Throws std::invalid_argument, in the name of
// `op`, for one that there is not.
std::size_t dimension(std::string_view op, const std::string& name, Index dim, std::size_t rank);

// The dimensions that an attribute lists, each at most once; `otherwise` where it is absent.
std::vector<std::size_t> dimensions(std::string_view op, const Attributes& attributes,
                                    const std::string& name, std::size_t rank,
                                    const std::vector<std::size_t>& otherwise = {});

// Elements between neighbours along each dimension of dense memory.
Shape dense_strides(const Shape& shape);

// The shape of two arrays that are computed with together, by numpy's rule. Throws
// std::invalid_argument, in the name of `op`, where they do not go together.
Shape broadcast_shape(std::string_view op, const Shape& a, const Shape& b);

// Elements between neighbours of a dense array along each dimension of the shape it is broadcast
// to: 0 where it is repeated.
Shape broadcast_strides(const Shape& from, const Shape& to);

}  // namespace ai3
