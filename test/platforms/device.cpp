// A type of devices for torch whose memory is the CPU's, under torch's name for what others bring:
// what is done there is done by CPU kernels on copies, and nothing else may read it.
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <cstdlib>
#include <cstring>

namespace {

constexpr auto type = c10::DeviceType::PrivateUse1;
bool available = false;
thread_local c10::DeviceIndex current = 0;

struct Memory final : c10::Allocator {
    c10::DataPtr allocate(std::size_t bytes) override {
        void* data = bytes ? std::malloc(bytes) : nullptr;
        return {data, data, &std::free, c10::Device(type, current)};
    }
    c10::DeleterFnPtr raw_deleter() const override { return &std::free; }
    void copy_data(void* to, const void* from, std::size_t bytes) const override {
        std::memcpy(to, from, bytes);
    }
};
Memory memory;

struct Guard final : c10::impl::DeviceGuardImplInterface {
    c10::DeviceType type() const override { return ::type; }
    c10::Device exchangeDevice(c10::Device device) const override {
        const auto before = getDevice();
        setDevice(device);
        return before;
    }
    c10::Device getDevice() const override { return {::type, current}; }
    void setDevice(c10::Device device) const override {
        if (device.has_index()) current = device.index();
    }
    void uncheckedSetDevice(c10::Device device) const noexcept override {
        if (device.has_index()) current = device.index();
    }
    c10::Stream getStream(c10::Device device) const override {
        return c10::Stream(c10::Stream::DEFAULT, device);
    }
    c10::Stream getNewStream(c10::Device device, int) const override { return getStream(device); }
    c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
    c10::DeviceIndex deviceCount() const noexcept override { return available ? 2 : 0; }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Hooks final : at::PrivateUse1HooksInterface {
    bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
    bool isBuilt() const override { return true; }
    bool isAvailable() const override { return available; }
};

at::Tensor empty(c10::IntArrayRef size, std::optional<at::ScalarType> dtype,
                 std::optional<at::Layout>, std::optional<at::Device> device, std::optional<bool>,
                 std::optional<at::MemoryFormat> format) {
    const c10::OptionalDeviceGuard guard(device);
    return at::detail::empty_generic(size, &memory, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                     c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride,
                         std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                         std::optional<at::Device> device, std::optional<bool>) {
    const c10::OptionalDeviceGuard guard(device);
    return at::detail::empty_strided_generic(size, stride, &memory,
                                             c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                             c10::dtype_or_default(dtype));
}

// The same memory as a tensor of the CPU's.
at::Tensor on_cpu(const at::Tensor& tensor) {
    if (tensor.is_cpu()) return tensor;
    at::Storage storage(at::Storage::use_byte_size_t{}, tensor.storage().nbytes(),
                        at::DataPtr(tensor.storage().mutable_data(), c10::kCPU), nullptr, false);
    auto made = at::detail::make_tensor<at::TensorImpl>(
        std::move(storage), c10::DispatchKeySet(c10::DispatchKey::CPU), tensor.dtype());
    made.unsafeGetTensorImpl()->set_sizes_and_strides(tensor.sizes(), tensor.strides(),
                                                      tensor.storage_offset());
    return made;
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
    on_cpu(to).copy_(on_cpu(from));
    return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
    to.resize_(from.sizes());
    return copy_from(from, to, false);
}

const at::Tensor& resize(const at::Tensor& tensor, c10::SymIntArrayRef size,
                         std::optional<at::MemoryFormat>) {
    const auto sizes = C10_AS_INTARRAYREF_SLOW(size);
    if (tensor.sizes() == sizes) return tensor;
    const std::size_t bytes = at::detail::computeStorageNbytesContiguous(
        sizes, tensor.dtype().itemsize(), tensor.storage_offset());
    if (bytes > tensor.storage().nbytes()) {
        auto* storage = tensor.storage().unsafeGetStorageImpl();
        storage->set_data_ptr(memory.allocate(bytes));
        storage->set_nbytes(bytes);
    }
    tensor.unsafeGetTensorImpl()->set_sizes_contiguous(sizes);
    return tensor;
}

at::Scalar local_scalar(const at::Tensor& tensor) { return on_cpu(tensor).item(); }

at::Tensor convolution(const at::Tensor& input, const at::Tensor& weight,
                       const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                       at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                       at::IntArrayRef output_padding, std::int64_t groups) {
    std::optional<at::Tensor> own;
    if (bias && bias->defined()) own = on_cpu(*bias);
    return at::convolution(on_cpu(input), on_cpu(weight), own, stride, padding, dilation, transposed,
                           output_padding, groups)
        .to(input.device());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& grad, const at::Tensor& input, const at::Tensor& weight,
    at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
    at::IntArrayRef output_padding, std::int64_t groups, std::array<bool, 3> wanted) {
    const std::array<std::int64_t, 1> channels{grad.size(1)};
    const auto found = at::convolution_backward(
        on_cpu(grad), on_cpu(input), on_cpu(weight), at::IntArrayRef(channels), stride, padding,
        dilation, transposed, output_padding, groups, wanted);
    const auto moved = [&](const at::Tensor& x) { return x.defined() ? x.to(grad.device()) : x; };
    return {moved(std::get<0>(found)), moved(std::get<1>(found)), moved(std::get<2>(found))};
}

void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
    at::native::cpu_fallback(op, stack);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
    m.impl("empty.memory_format", empty);
    m.impl("empty_strided", empty_strided);
    m.impl("as_strided", at::native::as_strided_tensorimpl);
    m.impl("_reshape_alias", at::native::_reshape_alias);
    m.impl("view", at::native::view);
    m.impl("resize_", resize);
    m.impl("_copy_from", copy_from);
    m.impl("_copy_from_and_resize", copy_from_and_resize);
    m.impl("convolution_overrideable", convolution);
    m.impl("convolution_backward_overrideable", convolution_backward);
    m.impl("_local_scalar_dense", local_scalar);
    m.impl("set_.source_Storage_storage_offset", at::native::set_storage_cpu_);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>()); }
TORCH_LIBRARY_IMPL(_, AutogradPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }
TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }

const bool registered = [] {
    c10::SetAllocator(type, &memory);
    at::RegisterPrivateUse1HooksInterface(new Hooks());
    return true;
}();

}  // namespace

extern "C" void set_available(int value) { available = value; }
extern "C" int current_device() { return current; }
extern "C" void set_device(int index) { current = c10::DeviceIndex(index); }
