#include "kernels/activation.hpp"

namespace ai3 {

template <typename T>
Vec<T> activate_smoothly(Activation activation, T parameter, Vec<T> x) {
    switch (activation) {
        case Activation::silu:
            return activate<Activation::silu>(parameter, x);
        case Activation::sigmoid:
            return activate<Activation::sigmoid>(parameter, x);
        case Activation::tanh:
            return activate<Activation::tanh>(parameter, x);
        case Activation::gelu:
            return activate<Activation::gelu>(parameter, x);
        case Activation::gelu_tanh:
            return activate<Activation::gelu_tanh>(parameter, x);
        default:
            return activate<Activation::elu>(parameter, x);
    }
}

namespace {

template <Activation F, typename T>
void activate_each(T parameter, T* x, Index stride, Index n, const T* addend) {
    if (addend)
        for (Index i = 0; i < n * stride; i += stride)
            store(x + i, activate<F>(parameter, load(x + i) + load(addend + i)));
    else
        for (Index i = 0; i < n * stride; i += stride)
            store(x + i, activate<F>(parameter, load(x + i)));
}

}  // namespace

template <typename T>
void activate_vectors(Activation activation, T parameter, T* x, Index stride, Index n,
                      const T* addend) {
    switch (activation) {
        case Activation::none:
            return activate_each<Activation::none>(parameter, x, stride, n, addend);
        case Activation::relu:
            return activate_each<Activation::relu>(parameter, x, stride, n, addend);
        case Activation::relu6:
            return activate_each<Activation::relu6>(parameter, x, stride, n, addend);
        case Activation::leaky_relu:
            return activate_each<Activation::leaky_relu>(parameter, x, stride, n, addend);
        case Activation::silu:
            return activate_each<Activation::silu>(parameter, x, stride, n, addend);
        case Activation::hardswish:
            return activate_each<Activation::hardswish>(parameter, x, stride, n, addend);
        case Activation::hardsigmoid:
            return activate_each<Activation::hardsigmoid>(parameter, x, stride, n, addend);
        case Activation::sigmoid:
            return activate_each<Activation::sigmoid>(parameter, x, stride, n, addend);
        case Activation::tanh:
            return activate_each<Activation::tanh>(parameter, x, stride, n, addend);
        case Activation::gelu:
            return activate_each<Activation::gelu>(parameter, x, stride, n, addend);
        case Activation::gelu_tanh:
            return activate_each<Activation::gelu_tanh>(parameter, x, stride, n, addend);
        case Activation::elu:
            return activate_each<Activation::elu>(parameter, x, stride, n, addend);
    }
}

template void activate_vectors(Activation, float, float*, Index, Index, const float*);
template void activate_vectors(Activation, double, double*, Index, Index, const double*);

template Vec<float> activate_smoothly<float>(Activation, float, Vec<float>);
template Vec<double> activate_smoothly<double>(Activation, double, Vec<double>);

}  // namespace ai3
