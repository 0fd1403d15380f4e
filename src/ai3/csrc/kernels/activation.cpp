#include "kernels/activation.hpp"

namespace ai3 {

namespace {

// Calls f<activation>().
template <typename F>
auto with_activation(Activation activation, F f) {
    switch (activation) {
        case Activation::relu:
            return f.template operator()<Activation::relu>();
        case Activation::relu6:
            return f.template operator()<Activation::relu6>();
        case Activation::leaky_relu:
            return f.template operator()<Activation::leaky_relu>();
        case Activation::silu:
            return f.template operator()<Activation::silu>();
        case Activation::hardswish:
            return f.template operator()<Activation::hardswish>();
        case Activation::hardsigmoid:
            return f.template operator()<Activation::hardsigmoid>();
        case Activation::sigmoid:
            return f.template operator()<Activation::sigmoid>();
        case Activation::tanh:
            return f.template operator()<Activation::tanh>();
        case Activation::gelu:
            return f.template operator()<Activation::gelu>();
        case Activation::gelu_tanh:
            return f.template operator()<Activation::gelu_tanh>();
        case Activation::elu:
            return f.template operator()<Activation::elu>();
        case Activation::none:
            break;
    }
    return f.template operator()<Activation::none>();
}

}  // namespace

template <typename T>
Vec<T> activate_smoothly(Activation activation, T parameter, Vec<T> x) {
    return with_activation(activation, [&]<Activation F>() { return activate<F>(parameter, x); });
}

template <typename T>
void activate_vectors(Activation activation, T parameter, T* x, Index stride, Index n,
                      const T* addend) {
    with_activation(activation, [=]<Activation F>() {
        if (addend)
            for (Index i = 0; i < n * stride; i += stride)
                store(x + i, activate<F>(parameter, load(x + i) + load(addend + i)));
        else
            for (Index i = 0; i < n * stride; i += stride)
                store(x + i, activate<F>(parameter, load(x + i)));
    });
}

template void activate_vectors(Activation, float, float*, Index, Index, const float*);
template void activate_vectors(Activation, double, double*, Index, Index, const double*);

template Vec<float> activate_smoothly<float>(Activation, float, Vec<float>);
template Vec<double> activate_smoothly<double>(Activation, double, Vec<double>);

}  // namespace ai3
