// What a tensor is to the core: a dtype, a shape and dense row-major memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <numeric>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace ai3 {

using Index = std::int64_t;
using Shape = std::vector<Index>;

enum class DType : std::uint8_t { f32, f64 };

constexpr std::size_t size_of(DType dtype) { return dtype == DType::f32 ? 4 : 8; }
constexpr std::string_view name_of(DType dtype) {
    return dtype == DType::f32 ? "float32" : "float64";
}

template <typename T>
constexpr DType dtype_of = sizeof(T) == 4 ? DType::f32 : DType::f64;

// Calls `f` with a zero of the C++ type that `dtype` names.
template <typename F>
decltype(auto) with_type(DType dtype, F&& f) {
    return dtype == DType::f32 ? f(float{}) : f(double{});
}

inline std::string to_string(const Shape& shape) {
    std::string text = "(";
    for (std::size_t i = 0; i < shape.size(); ++i)
        text += (i ? ", " : "") + std::to_string(shape[i]);
    return text + (shape.size() == 1 ? ",)" : ")");
}

inline Index checked_product(Index a, Index b) {
    Index product = 0;
    if (__builtin_mul_overflow(a, b, &product))
        throw std::invalid_argument("the number of elements overflows 64 bits");
    return product;
}

// Number of elements; throws std::invalid_argument where it passes 2^63.
inline Index elements(const Shape& shape) {
    for (Index extent : shape)
        if (extent == 0) return 0;
    return std::accumulate(shape.begin(), shape.end(), Index{1}, checked_product);
}

struct Spec {
    DType dtype = DType::f32;
    Shape shape;

    std::size_t bytes() const {
        return std::size_t(checked_product(elements(shape), Index(size_of(dtype))));
    }
    bool operator==(const Spec&) const = default;
};

inline std::string to_string(const Spec& spec) {
    return std::string(name_of(spec.dtype)) + to_string(spec.shape);
}

constexpr std::size_t cache_line = 64;

constexpr std::size_t align_up(std::size_t bytes, std::size_t to = cache_line) {
    return (bytes + to - 1) / to * to;
}

// Uninitialised memory on a cache line's boundary. Throws std::bad_alloc.
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(std::size_t bytes)
        : size_(bytes),
          data_(bytes ? static_cast<std::byte*>(
                            ::operator new(align_up(bytes), std::align_val_t(cache_line)))
                      : nullptr) {}

    std::byte* data() { return data_.get(); }
    const std::byte* data() const { return data_.get(); }
    template <typename T>
    T* as() {
        return reinterpret_cast<T*>(data_.get());
    }
    template <typename T>
    const T* as() const {
        return reinterpret_cast<const T*>(data_.get());
    }
    std::size_t size() const { return size_; }

  private:
    struct Free {
        void operator()(std::byte* p) const { ::operator delete(p, std::align_val_t(cache_line)); }
    };
    std::size_t size_ = 0;
    std::unique_ptr<std::byte, Free> data_;
};

// Copies elements of any strides (in elements) into dense row-major memory.
void copy_strided(DType dtype, const Shape& shape, const Index* strides, const void* from,
                  void* to);
bool is_dense(const Shape& shape, const Index* strides);

}  // namespace ai3
