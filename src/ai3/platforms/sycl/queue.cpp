// Kernels in SPIR-V on a queue of SYCL's that somebody else has made, such as torch's: a C
// interface to what SYCL has in C++ only. It is compiled on the computer where it runs, with the
// headers of the runtime that is there. Each function gives the text of an error, or null.
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <sycl/sycl.hpp>

namespace exp = sycl::ext::oneapi::experimental;

namespace {

thread_local std::string message;

struct Made {
    sycl::context context;
    sycl::kernel kernel;
};
// What was compiled, by the kernel's name, one for each context. It stays: at the process's end
// SYCL may be gone before.
auto& kernels = *new std::map<std::string, std::vector<std::unique_ptr<Made>>>;
std::mutex mutex;

sycl::kernel compiled(const sycl::context& context, const char* module, std::size_t size,
                      const char* name) {
    std::vector<std::byte> bytes(size);
    std::memcpy(bytes.data(), module, size);
    auto source =
        exp::create_kernel_bundle_from_source(context, exp::source_language::spirv, bytes);
    return exp::build(source).ext_oneapi_get_kernel(name);
}

template <typename Call>
const char* told(Call call) {
    try {
        call();
        return nullptr;
    } catch (const std::exception& error) {
        message = error.what();
        return message.c_str();
    }
}

}  // namespace

extern "C" {

// The kernel of a name, of a module of `size` bytes, for the queue's context.
const char* ai3_sycl_kernel(const sycl::queue* queue, const char* module, std::size_t size,
                            const char* name, const sycl::kernel** found) {
    return told([&] {
        const sycl::context context = queue->get_context();
        const std::lock_guard lock(mutex);
        auto& known = kernels[name];
        for (const auto& made : known)
            if (made->context == context) return void(*found = &made->kernel);
        known.push_back(
            std::make_unique<Made>(Made{context, compiled(context, module, size, name)}));
        *found = &known.back()->kernel;
    });
}

// Arguments of no size are addresses; dimensions come with that of neighbours last.
const char* ai3_sycl_launch(sycl::queue* queue, const sycl::kernel* kernel, int dimensions,
                            const std::size_t* global, const std::size_t* local, int count,
                            void* const* arguments, const std::size_t* sizes) {
    return told([&] {
        queue->submit([&](sycl::handler& handler) {
            for (int i = 0; i < count; ++i)
                if (sizes[i])
                    handler.set_arg(i, exp::raw_kernel_arg(arguments[i], sizes[i]));
                else
                    handler.set_arg(i, arguments[i]);
            if (dimensions == 1)
                handler.parallel_for(sycl::nd_range<1>(global[0], local[0]), *kernel);
            else
                handler.parallel_for(sycl::nd_range<3>({global[0], global[1], global[2]},
                                                       {local[0], local[1], local[2]}),
                                     *kernel);
        });
    });
}

}  // extern "C"
