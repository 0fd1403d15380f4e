#include "core/tensor.hpp"

#include <cstring>
#include <numeric>

#include "core/fork.hpp"
#include "core/parallel.hpp"

namespace ai3 {

Index checked_product(Index a, Index b) {
    Index product = 0;
    if (__builtin_mul_overflow(a, b, &product))
        throw std::invalid_argument("the number of elements overflows 64 bits");
    return product;
}

std::string to_string(const Shape& shape) {
    std::string text = "(";
    for (std::size_t i = 0; i < shape.size(); ++i)
        text += (i ? ", " : "") + std::to_string(shape[i]);
    return text + (shape.size() == 1 ? ",)" : ")");
}

std::string to_string(const Spec& spec) {
    const std::string text = std::string(name_of(spec.dtype)) + to_string(spec.shape);
    return spec.layout == Layout::dense ? text : text + " " + std::string(name_of(spec.layout));
}

Index elements(const Shape& shape) {
    for (Index extent : shape)
        if (extent == 0) return 0;
    return std::accumulate(shape.begin(), shape.end(), Index{1}, checked_product);
}

Index Spec::held() const {
    if (layout != Layout::blocked) return elements(shape);
    const Index block = channel_block(dtype);
    Shape filled = shape;
    Index& channels = filled[filled.size() - 3];
    channels = checked_product((channels - 1) / block + 1, block);
    return elements(filled);
}

std::size_t Spec::bytes() const {
    return std::size_t(checked_product(held(), Index(size_of(dtype))));
}

Layout layout_from(std::string_view name, const Shape& shape) {
    for (Layout layout : {Layout::dense, Layout::channels_last, Layout::blocked})
        if (name == name_of(layout)) {
            if (layout != Layout::dense && shape.size() != 3 && shape.size() != 4)
                throw std::invalid_argument("only images, (N, C, H, W) or (C, H, W), can be " +
                                            std::string(name) + ", not " + to_string(shape));
            return layout;
        }
    throw std::invalid_argument("layout must be 'dense', 'channels_last' or 'blocked', not '" +
                                std::string(name) + "'");
}

bool is_dense(const Shape& shape, const Index* strides) {
    Index expected = 1;
    for (std::size_t i = shape.size(); i-- > 0;) {
        if (shape[i] == 0) return true;
        if (shape[i] != 1 && strides[i] != expected) return false;
        expected *= shape[i];
    }
    return true;
}

namespace {

// Copies one slice of the outermost dimension; `dims` counts the dimensions that are left.
template <typename T>
void copy_slice(const Index* shape, const Index* strides, std::size_t dims, const T* from, T*& to) {
    if (dims == 0) {
        *to++ = *from;
    } else if (dims == 1 && strides[0] == 1) {
        std::memcpy(to, from, std::size_t(shape[0]) * sizeof(T));
        to += shape[0];
    } else if (dims == 1) {
        for (Index i = 0; i < shape[0]; ++i) *to++ = from[i * strides[0]];
    } else {
        for (Index i = 0; i < shape[0]; ++i)
            copy_slice(shape + 1, strides + 1, dims - 1, from + i * strides[0], to);
    }
}

}  // namespace

void copy_strided(DType dtype, const Shape& shape, const Index* strides, const void* from,
                  void* to) {
    const Index count = elements(shape);
    if (count == 0) return;
    if (is_dense(shape, strides)) {
        std::memcpy(to, from, std::size_t(count) * size_of(dtype));
        return;
    }
    with_storage(dtype, [&](auto zero) {
        using T = decltype(zero);
        // The first two dimensions give enough slices for every thread.
        const std::size_t dims = shape.size();
        const Index outer = shape[0], inner = dims > 1 ? shape[1] : 1;
        const Index slice = count / (outer * inner);
        parallel_ranges(usable_threads(), outer * inner, std::max<Index>(1, 16384 / slice),
                        [&](Index begin, Index end) {
                            T* target = static_cast<T*>(to) + begin * slice;
                            for (Index i = begin; i < end; ++i) {
                                const Index o = i / inner, k = i % inner;
                                const T* source = static_cast<const T*>(from) + o * strides[0] +
                                                  (dims > 1 ? k * strides[1] : 0);
                                if (dims > 2)
                                    copy_slice(shape.data() + 2, strides + 2, dims - 2, source,
                                               target);
                                else
                                    *target++ = *source;
                            }
                        });
    });
}

}  // namespace ai3
