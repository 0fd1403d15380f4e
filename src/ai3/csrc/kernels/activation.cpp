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

template Vec<float> activate_smoothly<float>(Activation, float, Vec<float>);
template Vec<double> activate_smoothly<double>(Activation, double, Vec<double>);

}  // namespace ai3
