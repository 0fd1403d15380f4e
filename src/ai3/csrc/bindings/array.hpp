// Arrays of other libraries at the border of the core.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "core/operation.hpp"

namespace ai3 {

namespace nb = nanobind;

struct DLPackExchange;

// A CPU array, of one of the core's dtypes, that somebody else owns, valid while this object lives.
// Throws nb::type_error for what is no such array.
class Array {
  public:
    explicit Array(nb::handle object);
    Array(Array&&) = default;

    DType dtype() const { return dtype_; }
    const void* data() const { return data_; }
    const Shape& shape() const { return shape_; }
    Spec spec() const { return {dtype_, shape_}; }
    bool dense() const { return dense_; }
    // (N, C, H, W) whose channels lie side by side, without gaps, and that is not dense.
    bool channels_last() const;
    // The library's own functions, where it has them: then results are made by the same library.
    const DLPackExchange* exchange() const { return exchange_; }

    void copy_to(void* dense) const;
    // Of all elements: tells every change made in place, see core/checksum.hpp.
    std::uint64_t checksum() const;
    // Dense memory that lives on without this object: shared where it is dense, else a copy.
    Constant keep(bool copy) const;

  private:
    nb::handle object_;
    const DLPackExchange* exchange_ = nullptr;
    DType dtype_;
    const void* data_;
    Shape shape_;
    std::vector<Index> strides_;
    bool dense_;
    nb::ndarray<nb::ro> holder_;
};

// New memory for a result, made by the library that `like` came from (else an ai3 Tensor).
class Result {
  public:
    Result(const Spec& spec, const DLPackExchange* exchange);
    ~Result();
    Result(Result&& other) noexcept;
    void* data() const { return data_; }
    nb::object release();

  private:
    const DLPackExchange* exchange_;
    void* managed_ = nullptr;
    nb::object tensor_;
    void* data_ = nullptr;
};

// The owned tensor that Python sees as ai3.Tensor.
struct Tensor {
    Spec spec;
    Buffer memory;
};

// A weight of float32 that Python holds in halves.
struct Halves {
    explicit Halves(const Array& numbers);

    Constant constant() const { return {{DType::bf16, shape}, upper->data(), upper, lower}; }

    Shape shape;
    std::shared_ptr<Buffer> upper;
    std::shared_ptr<const LowerHalf> lower;
};

// Throws std::invalid_argument where there is none of that name.
const Operation& operation(const std::string& name);
Attributes attributes_from(nb::dict dict);
// Throws std::invalid_argument for a name that is no dtype's.
DType dtype_from(const std::string& name);
std::string dtype_names();  // "float32, float64, ... or bool"
nanobind::dlpack::dtype dlpack_dtype(DType dtype);
nb::tuple to_tuple(const Shape& shape);
std::shared_ptr<WeightSet> weights_from(nb::iterable arrays, bool copy);

void bind_tensor(nb::module_& module);
void bind_halves(nb::module_& module);
void bind_problem(nb::module_& module);
void bind_call(nb::module_& module);
void bind_executor(nb::module_& module);
void bind_external(nb::module_& module);
void bind_probe(nb::module_& module);
void bind_measured(nb::module_& module);

}  // namespace ai3
