// Convolution as a product of matrices, neither of which is formed: the weights (OC, K) times what
// the kernel reaches (K, N * OH * OW), K = KH * KW * IC / groups. A threadgroup gathers DEPTH rows
// of the second at a time for 64 pixels and multiplies them with those of 64 output channels.
//
// Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", arXiv 1410.0759, section 3.

// The k-th term of a sum: the kernel's row and column, times dilation, and the channel of x.
struct Term {
    int h;
    int w;
    int channel;
};

struct ByDivision {
    Term operator()(int k, constant Convolution &p) const {
        const int channels = p.IC / p.groups, tap = k / channels;
        return Term{tap / p.KW * p.dilation_h, tap % p.KW * p.dilation_w, k % channels};
    }
};

// Where the host has counted the terms out once.
struct ByTable {
    device const int *terms;

    Term operator()(int k, constant Convolution &) const {
        return Term{terms[3 * k], terms[3 * k + 1], terms[3 * k + 2]};
    }
};

inline float gathered(device const SCALAR *x, int3 place, int channel, Term term,
                      constant Convolution &p) {
    const int h = reached(place.y, term.h, p.stride_h, p.IH, p);
    const int w = reached(place.z, term.w, p.stride_w, p.IW, p);
    if (h < 0 || w < 0) return 0;
    return float(x[place.x * p.x_n + (channel + term.channel) * p.x_c + h * p.x_h + w * p.x_w]);
}

// The pixel's image, and where its kernel begins; image -1 beyond the last one.
inline int3 place_of(int pixel, constant Convolution &p) {
    if (pixel >= p.N * p.OH * p.OW) return int3(-1, 0, 0);
    const int ow = pixel % p.OW, oh = pixel / p.OW % p.OH;
    return int3(pixel / (p.OW * p.OH), first_row(oh, p), first_column(ow, p));
}

// Grid: tiles of pixels, tiles of a group's output channels, groups.
template <typename Terms>
inline void implicit_gemm_by(device const SCALAR *x, device const SCALAR *w,
                             device const SCALAR *bias, device const SCALAR *addend,
                             device SCALAR *y, constant Convolution &p, Terms terms,
                             threadgroup float (&a)[DEPTH][ROWS + 1],
                             threadgroup float (&b)[DEPTH][COLUMNS + 1],
                             threadgroup int (&places)[3][COLUMNS], uint3 group, uint t) {
    const int ic = p.IC / p.groups, oc = p.OC / p.groups, depth = p.KH * p.KW * ic;
    const int g = int(group.z), first = int(group.y) * ROWS, pixel = int(group.x) * COLUMNS;
    const bool channels_lie_together = p.x_c == 1;
    if (int(t) < COLUMNS) {
        const int3 place = place_of(pixel + int(t), p);
        places[0][t] = place.x;
        places[1][t] = place.y;
        places[2][t] = place.z;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);

    float sums[8][4];
    clear(sums);
    for (int k0 = 0; k0 < depth; k0 += DEPTH) {
        for (int e = int(t); e < DEPTH * COLUMNS; e += THREADS) {
            // Neighbouring threads read what lies together.
            const int k = channels_lie_together ? e % DEPTH : e / COLUMNS;
            const int column = channels_lie_together ? e / DEPTH : e % COLUMNS;
            const int3 place(places[0][column], places[1][column], places[2][column]);
            float value = 0;
            if (k0 + k < depth && place.x >= 0) {
                value = gathered(x, place, g * ic, terms(k0 + k, p), p);
            }
            b[k][column] = value;
        }
        for (int e = int(t); e < DEPTH * ROWS; e += THREADS) {
            const int k = e / ROWS, row = e % ROWS;
            const bool inside = k0 + k < depth && first + row < oc;
            a[k][row] = inside ? float(w[(g * depth + k0 + k) * oc + first + row]) : 0.0f;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        multiply(sums, a, b, t);
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }

    const int row = first + first_of_rows(t);
    UNROLL
    for (int j = 0; j < 4; ++j) {
        const int at = pixel + int(t) % 16 + 16 * j;
        if (at >= p.N * p.OH * p.OW) continue;
        const int ow = at % p.OW, oh = at / p.OW % p.OH, n = at / (p.OW * p.OH);
        UNROLL
        for (int i = 0; i < 8; ++i) {
            if (row + i < oc) finish(sums[i][j], n, g * oc + row + i, oh, ow, bias, addend, y, p);
        }
    }
}

kernel void implicit_gemm(device const SCALAR *x [[buffer(0)]], device const SCALAR *w [[buffer(1)]],
                          device const SCALAR *bias [[buffer(2)]],
                          device const SCALAR *addend [[buffer(3)]],
                          device SCALAR *y [[buffer(4)]], constant Convolution &p [[buffer(5)]],
                          uint3 group [[threadgroup_position_in_grid]],
                          uint t [[thread_index_in_threadgroup]]) {
    SHARED float a[DEPTH][ROWS + 1];
    SHARED float b[DEPTH][COLUMNS + 1];
    SHARED int places[3][COLUMNS];
    implicit_gemm_by(x, w, bias, addend, y, p, ByDivision{}, a, b, places, group, t);
}

kernel void implicit_precomp_gemm(device const SCALAR *x [[buffer(0)]],
                                  device const SCALAR *w [[buffer(1)]],
                                  device const SCALAR *bias [[buffer(2)]],
                                  device const SCALAR *addend [[buffer(3)]],
                                  device SCALAR *y [[buffer(4)]],
                                  constant Convolution &p [[buffer(5)]],
                                  device const int *terms [[buffer(6)]],
                                  uint3 group [[threadgroup_position_in_grid]],
                                  uint t [[thread_index_in_threadgroup]]) {
    SHARED float a[DEPTH][ROWS + 1];
    SHARED float b[DEPTH][COLUMNS + 1];
    SHARED int places[3][COLUMNS];
    implicit_gemm_by(x, w, bias, addend, y, p, ByTable{terms}, a, b, places, group, t);
}

// The gradient of a convolution by its weight, (OC, N * OH * OW) times (N * OH * OW, K): partial
// sums (splits, groups, K, OC / groups), each of every splits-th DEPTH pixels, in float.
// Grid: tiles of K, tiles of a group's output channels, groups * splits.
kernel void grad_weight(device const SCALAR *x [[buffer(0)]], device const SCALAR *grad [[buffer(1)]],
                        device float *partial [[buffer(2)]], constant Convolution &p [[buffer(3)]],
                        uint3 group [[threadgroup_position_in_grid]],
                        uint t [[thread_index_in_threadgroup]]) {
    SHARED float a[DEPTH][ROWS + 1];
    SHARED float b[DEPTH][COLUMNS + 1];
    const int ic = p.IC / p.groups, oc = p.OC / p.groups, depth = p.KH * p.KW * ic;
    const int g = int(group.z) % p.groups, split = int(group.z) / p.groups;
    const int first = int(group.y) * ROWS, column0 = int(group.x) * COLUMNS;
    const int pixels = p.N * p.OH * p.OW;

    float sums[8][4];
    clear(sums);
    for (int k0 = split * DEPTH; k0 < pixels; k0 += p.splits * DEPTH) {
        for (int e = int(t); e < DEPTH * COLUMNS; e += THREADS) {
            const int k = e % DEPTH, column = e / DEPTH;
            float value = 0;
            if (k0 + k < pixels && column0 + column < depth) {
                const Term term = ByDivision{}(column0 + column, p);
                value = gathered(x, place_of(k0 + k, p), g * ic, term, p);
            }
            b[k][column] = value;
        }
        for (int e = int(t); e < DEPTH * ROWS; e += THREADS) {
            const int k = e % DEPTH, row = e / DEPTH, at = k0 + k;
            float value = 0;
            if (at < pixels && first + row < oc) {
                const int ow = at % p.OW, oh = at / p.OW % p.OH, n = at / (p.OW * p.OH);
                const int channel = g * oc + first + row;
                value = float(grad[n * p.y_n + channel * p.y_c + oh * p.y_h + ow * p.y_w]);
            }
            a[k][row] = value;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        multiply(sums, a, b, t);
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }

    const int row = first + first_of_rows(t);
    UNROLL
    for (int j = 0; j < 4; ++j) {
        const int column = column0 + int(t) % 16 + 16 * j;
        if (column >= depth) continue;
        UNROLL
        for (int i = 0; i < 8; ++i) {
            if (row + i < oc)
                partial[((split * p.groups + g) * depth + column) * oc + row + i] = sums[i][j];
        }
    }
}
