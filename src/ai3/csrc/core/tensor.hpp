// What a tensor is to the core: a dtype, a shape and the layout of its memory.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#if defined(__AVX512F__)
#define AI3_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define AI3_VECTOR_BYTES 32
#else
#define AI3_VECTOR_BYTES 16
#endif

namespace ai3 {

using Index = std::int64_t;
using Shape = std::vector<Index>;

enum class DType : std::uint8_t { f32, f64, bf16, i64, i32, u8, boolean };

constexpr DType dtypes[] = {DType::f32, DType::f64, DType::bf16,   DType::i64,
                            DType::i32, DType::u8,  DType::boolean};

constexpr std::size_t size_of(DType dtype) {
    constexpr std::size_t sizes[] = {4, 8, 2, 8, 4, 1, 1};
    return sizes[std::size_t(dtype)];
}
constexpr std::string_view name_of(DType dtype) {
    constexpr std::string_view names[] = {"float32", "float64", "bfloat16", "int64",
                                          "int32",   "uint8",   "bool"};
    return names[std::size_t(dtype)];
}
// Whether it is one of the floating-point types.
constexpr bool is_real(DType dtype) { return dtype <= DType::bf16; }

// The upper half of a float, to which it is rounded to nearest, ties to even; every NaN becomes the
// same. Sums of it are made in float.
struct bfloat16 {
    std::uint16_t bits = 0;

    bfloat16() = default;
    explicit bfloat16(float value) {
        const auto whole = std::bit_cast<std::uint32_t>(value);
        bits = value != value ? 0x7fc0 : std::uint16_t((whole + 0x7fff + (whole >> 16 & 1)) >> 16);
    }
    operator float() const { return std::bit_cast<float>(std::uint32_t{bits} << 16); }
};

// Calls `f` with a zero of the C++ type that float32 or float64 is.
template <typename F>
decltype(auto) with_type(DType dtype, F&& f) {
    return dtype == DType::f32 ? f(float{}) : f(double{});
}

// The same, for what takes bfloat16 too.
template <typename F>
decltype(auto) with_real(DType dtype, F&& f) {
    return dtype == DType::bf16 ? f(bfloat16{}) : with_type(dtype, std::forward<F>(f));
}

// Calls `f` with a zero of a C++ type of the dtype's size: for what only moves elements.
template <typename F>
decltype(auto) with_storage(DType dtype, F&& f) {
    switch (size_of(dtype)) {
        case 1:
            return f(std::uint8_t{});
        case 2:
            return f(bfloat16{});
        case 4:
            return f(float{});
        default:
            return f(double{});
    }
}

// Calls `f` with a zero of the C++ type of the dtype's values, which is not bfloat16; bool's is
// uint8_t.
template <typename F>
decltype(auto) with_value(DType dtype, F&& f) {
    switch (dtype) {
        case DType::f32:
            return f(float{});
        case DType::f64:
            return f(double{});
        case DType::i64:
            return f(std::int64_t{});
        case DType::i32:
            return f(std::int32_t{});
        default:
            return f(std::uint8_t{});
    }
}

// An array of a dtype that an operation does not take.
struct DTypeError : std::invalid_argument {
    using std::invalid_argument::invalid_argument;
};

std::string to_string(const Shape& shape);

// Throws std::invalid_argument where the product passes 2^63.
Index checked_product(Index a, Index b);

// Number of elements; throws std::invalid_argument where it passes 2^63.
Index elements(const Shape& shape);

// The order of a tensor's elements in memory. The last two are for images, (N, C, H, W) or
// (C, H, W).
enum class Layout : std::uint8_t {
    dense,          // row-major
    channels_last,  // (N, H, W, C)
    blocked,  // (N, C / B, H, W, B): blocks of B channels, a vector's lanes. What fills up the
              // last block is finite.
};

constexpr std::string_view name_of(Layout layout) {
    return layout == Layout::dense           ? "dense"
           : layout == Layout::channels_last ? "channels_last"
                                             : "blocked";
}

// Throws std::invalid_argument for another name, and for a layout of images where `shape` is none.
Layout layout_from(std::string_view name, const Shape& shape);

// Channels in a block of the blocked layout. Those of bfloat16 are as many as of float32: a vector
// of the sums.
constexpr Index channel_block(DType dtype) {
    return Index(AI3_VECTOR_BYTES / (dtype == DType::bf16 ? 4 : size_of(dtype)));
}

struct Spec {
    DType dtype = DType::f32;
    Shape shape;
    Layout layout = Layout::dense;

    // Elements in memory, those that fill up a last block included.
    Index held() const;
    std::size_t bytes() const;
    bool operator==(const Spec&) const = default;
};

std::string to_string(const Spec& spec);

// Where the elements of an image tensor lie.
struct ImageStrides {
    Index block;         // neighbouring channels
    Index block_stride;  // from such a block of channels to the next
    Index pixel, row, image;

    ImageStrides(Layout layout, DType dtype, Index C, Index H, Index W) {
        const Index lanes = channel_block(dtype);
        block = layout == Layout::dense ? 1 : layout == Layout::blocked ? lanes : C;
        pixel = block;
        row = W * pixel;
        block_stride = H * row;
        image = (C + block - 1) / block * block_stride;
    }

    Index channel(Index c) const { return c / block * block_stride + c % block; }
    Index at(Index n, Index c, Index h, Index w) const {
        return n * image + channel(c) + h * row + w * pixel;
    }
};

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
