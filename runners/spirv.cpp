// spirv SOURCE [HEADER ...]: builds a SYCL source, which may include the headers by their names, as
// the runtime's own just-in-time compiler does for programs that bring sources. With
// SYCL_DUMP_IMAGES=1 in the environment the runtime leaves the SPIR-V in the working folder.
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sycl/sycl.hpp>

namespace exp = sycl::ext::oneapi::experimental;

std::string text_of(const char* path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

int main(int count, char** paths) {
    try {
        const sycl::queue queue;
        exp::include_files headers;
        for (int i = 2; i < count; ++i)
            headers.add(std::filesystem::path(paths[i]).filename(), text_of(paths[i]));
        auto source =
            exp::create_kernel_bundle_from_source(queue.get_context(), exp::source_language::sycl,
                                                  text_of(paths[1]), exp::properties{headers});
        std::string log;
        exp::build(source, exp::properties{exp::build_options{"-O3"}, exp::save_log{&log}});
        std::cerr << log;
    } catch (const std::exception& error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
}
