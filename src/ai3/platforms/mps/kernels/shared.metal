// What the kernels share: the problem, where its elements lie, the tile product, the epilogue.
//
// SCALAR is the type of images and weights, float or half; sums are float. SHARED declares memory
// of a threadgroup. The package's files are joined, this one first.
#include <metal_stdlib>
using namespace metal;

#ifndef SCALAR
#define SCALAR float
#endif
#ifndef SHARED
#define SHARED threadgroup
#endif
#ifdef __METAL_VERSION__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL
#endif

// A convolution of x (N, IC, IH, IW) to y (N, OC, OH, OW), whose elements lie strides x_n, x_c, ...
// apart. Weights are packed (groups, KH, KW, IC / groups, OC / groups). A transposed one is the
// gradient of a convolution by its input: x is of the size of that one's output.
struct Convolution {
    int N;
    int IC;
    int IH;
    int IW;
    int OC;
    int OH;
    int OW;
    int KH;
    int KW;
    int groups;
    int stride_h;
    int stride_w;
    int dilation_h;
    int dilation_w;
    int pad_top;
    int pad_left;
    int padding_mode;
    int transposed;
    int x_n;
    int x_c;
    int x_h;
    int x_w;
    int y_n;
    int y_c;
    int y_h;
    int y_w;
    int addend_n;
    int addend_c;
    int addend_h;
    int addend_w;
    int has_bias;
    int has_addend;
    int activation;
    int parameter;    // of the activation, the bits of a float
    int tile_log;     // output tiles are 1 << tile_log columns wide
    int taps_h;       // kernel rows, columns and input channels of one step
    int taps_w;
    int channels;
    int patch_h;      // what one step reads of a channel, its rows step_h apart
    int patch_w;
    int step_h;
    int step_w;
    int at_h;         // rows of the patch between those of neighbouring outputs
    int at_w;
    int tiles_h;      // of Winograd's output tiles, for each image
    int tiles_w;
    int splits;       // of a reduction, each summed by itself
};

enum PaddingMode { ZEROS, REFLECT, REPLICATE, CIRCULAR };

enum Activation {
    NONE,
    RELU,
    RELU6,
    LEAKY_RELU,
    SILU,
    HARDSWISH,
    HARDSIGMOID,
    SIGMOID,
    TANH,
    GELU,
    GELU_TANH,
    ELU
};

// Of a row (or column) that may be in the padding, the row of the image that stands there, -1 for
// none.
inline int source(int i, int extent, int mode) {
    if (i < 0 || i >= extent) {
        if (mode == REFLECT) {
            i = abs(i);
            i = i < extent ? i : 2 * (extent - 1) - i;
        } else if (mode == REPLICATE) {
            i = clamp(i, 0, extent - 1);
        } else if (mode == CIRCULAR) {
            i %= extent;
            i = i < 0 ? i + extent : i;
        }
    }
    return i >= 0 && i < extent ? i : -1;
}

// Of a row of the output, scaled and shifted, the row of x that a kernel's row reaches, -1 for none.
inline int reached(int at, int step, int stride, int extent, constant Convolution &p) {
    if (!p.transposed) return source(at + step, extent, p.padding_mode);
    const int i = at - step;
    return i >= 0 && i % stride == 0 && i / stride < extent ? i / stride : -1;
}

inline int first_row(int oh, constant Convolution &p) {
    return p.transposed ? oh + p.pad_top : oh * p.stride_h - p.pad_top;
}

inline int first_column(int ow, constant Convolution &p) {
    return p.transposed ? ow + p.pad_left : ow * p.stride_w - p.pad_left;
}

// The Gauss error function: Abramowitz and Stegun, 7.1.26, off by at most 1.5e-7.
inline float error_function(float x) {
    const float t = 1 / (1 + 0.3275911f * abs(x));
    const float sum =
        t * (0.254829592f +
             t * (-0.284496736f +
                  t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
    const float y = 1 - sum * exp(-x * x);
    return x < 0 ? -y : y;
}

// NaN stays NaN, as in torch.
inline float activated(float v, int activation, float parameter) {
    switch (activation) {
        case RELU:
            return v < 0 ? 0 : v;
        case RELU6:
            return v < 0 ? 0 : v > 6 ? 6 : v;
        case LEAKY_RELU:
            return v < 0 ? parameter * v : v;
        case SILU:
            return v / (1 + exp(-v));
        case HARDSWISH:
            return v < -3 ? 0 : v > 3 ? v : v * (v + 3) / 6;
        case HARDSIGMOID:
            return v < -3 ? 0 : v > 3 ? 1 : (v + 3) / 6;
        case SIGMOID:
            return 1 / (1 + exp(-v));
        case TANH:
            return precise::tanh(v);
        case GELU:
            return 0.5f * v * (1 + error_function(v * 0.70710678f));
        case GELU_TANH:
            return 0.5f * v * (1 + precise::tanh(0.79788456f * (v + 0.044715f * v * v * v)));
        case ELU:
            return v < 0 ? parameter * (exp(v) - 1) : v;
        default:
            return v;
    }
}

// The sum of one output element, finished: bias, addend, activation.
inline void finish(float sum, int n, int oc, int oh, int ow, device const SCALAR *bias,
                   device const SCALAR *addend, device SCALAR *y, constant Convolution &p) {
    if (p.has_bias) sum += float(bias[oc]);
    if (p.has_addend)
        sum += float(
            addend[n * p.addend_n + oc * p.addend_c + oh * p.addend_h + ow * p.addend_w]);
    sum = activated(sum, p.activation, as_type<float>(p.parameter));
    y[n * p.y_n + oc * p.y_c + oh * p.y_h + ow * p.y_w] = SCALAR(sum);
}

// The product of tiles: 128 threads add up ROWS x COLUMNS sums, each 8 rows by 4 columns that are
// 16 apart, over DEPTH terms at a time. Rows of memory are an element longer, so that what lies in a
// column is in different banks.
constant constexpr int ROWS = 64;
constant constexpr int COLUMNS = 64;
constant constexpr int DEPTH = 16;
constant constexpr int THREADS = 128;

inline int first_of_rows(uint t) { return int(t) / 16 * 8; }

inline void clear(thread float (&sums)[8][4]) {
    UNROLL
    for (int i = 0; i < 8; ++i) {
        UNROLL
        for (int j = 0; j < 4; ++j) sums[i][j] = 0;
    }
}

inline void multiply(thread float (&sums)[8][4],
                     threadgroup const float (&a)[DEPTH][ROWS + 1],
                     threadgroup const float (&b)[DEPTH][COLUMNS + 1], uint t) {
    const int row = first_of_rows(t), column = int(t) % 16;
    for (int k = 0; k < DEPTH; ++k) {
        float left[8], right[4];
        UNROLL
        for (int i = 0; i < 8; ++i) left[i] = a[k][row + i];
        UNROLL
        for (int j = 0; j < 4; ++j) right[j] = b[k][column + 16 * j];
        UNROLL
        for (int i = 0; i < 8; ++i) {
            UNROLL
            for (int j = 0; j < 4; ++j) sums[i][j] = fma(left[i], right[j], sums[i][j]);
        }
    }
}
