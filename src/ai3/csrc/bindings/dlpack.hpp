// The DLPack C exchange API (DLPack 1.3, `__dlpack_c_exchange_api__`): an array's library hands out
// function pointers, so that a call needs no Python capsule.
#pragma once

#include <nanobind/ndarray.h>

#include <cstdint>

namespace ai3 {

struct DLPackManaged {
    std::uint32_t major, minor;
    void* context;
    void (*deleter)(DLPackManaged*);
    std::uint64_t flags;
    nanobind::dlpack::dltensor tensor;
};

struct DLPackExchange {
    std::uint32_t major, minor;
    DLPackExchange* previous;
    int (*allocate)(nanobind::dlpack::dltensor* prototype, DLPackManaged** out, void* context,
                    void (*set_error)(void* context, const char* kind, const char* message));
    int (*managed_from_object)(void* object, DLPackManaged** out);
    int (*managed_to_object)(DLPackManaged* tensor, void** out);
    int (*view_from_object)(void* object, nanobind::dlpack::dltensor* out);
    int (*current_stream)(std::int32_t device_type, std::int32_t device_id, void** out);
};

}  // namespace ai3
