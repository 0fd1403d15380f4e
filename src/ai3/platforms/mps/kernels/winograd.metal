// Winograd's minimal filtering F(2x2, 3x3) and F(4x4, 3x3): the weights and the tiles of the input
// are transformed, multiplied element by element, which over all tiles are 16 or 36 products of
// matrices, and the sums are transformed back. What lies between is float whatever SCALAR is, as
// the transforms' values outgrow half.
//
// Lavin, Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR'16, arXiv 1509.09308,
// sections 4.1 to 4.3.

// The one-dimensional transforms, from and to places that are `d` apart.

template <int M>
struct Winograd;

template <>
struct Winograd<2> {
    static void input(thread float *v, int d) {
        const float a = v[0], b = v[d], c = v[2 * d], e = v[3 * d];
        v[0] = a - c;
        v[d] = b + c;
        v[2 * d] = c - b;
        v[3 * d] = b - e;
    }
    static void filter(thread float *v, int d) {
        const float a = v[0], b = v[d], c = v[2 * d];
        v[d] = 0.5f * (a + b + c);
        v[2 * d] = 0.5f * (a - b + c);
        v[3 * d] = c;
    }
    static void output(thread float *v, int d) {
        const float a = v[0], b = v[d], c = v[2 * d], e = v[3 * d];
        v[0] = a + b + c;
        v[d] = b - c - e;
    }
};

template <>
struct Winograd<4> {
    static void input(thread float *v, int d) {
        const float a = v[0], b = v[d], c = v[2 * d], e = v[3 * d], f = v[4 * d], g = v[5 * d];
        v[0] = 4 * a - 5 * c + f;
        v[d] = (f - 4 * c) + (e - 4 * b);
        v[2 * d] = (f - 4 * c) - (e - 4 * b);
        v[3 * d] = (f - c) + 2 * (e - b);
        v[4 * d] = (f - c) - 2 * (e - b);
        v[5 * d] = 4 * b - 5 * e + g;
    }
    static void filter(thread float *v, int d) {
        const float a = v[0], b = v[d], c = v[2 * d];
        v[0] = 0.25f * a;
        v[d] = (a + b + c) * (-1.0f / 6);
        v[2 * d] = (a - b + c) * (-1.0f / 6);
        v[3 * d] = (a + 2 * b + 4 * c) * (1.0f / 24);
        v[4 * d] = (a - 2 * b + 4 * c) * (1.0f / 24);
        v[5 * d] = c;
    }
    static void output(thread float *v, int d) {
        const float a = v[0], b = v[d], c = v[2 * d], e = v[3 * d], f = v[4 * d], g = v[5 * d];
        v[0] = a + (b + c) + (e + f);
        v[d] = (b - c) + 2 * (e - f);
        v[2 * d] = (b + c) + 4 * (e + f);
        v[3 * d] = (b - c) + 8 * (e - f) + g;
    }
};

// From packed weights to (T * T, groups, IC / groups, OC / groups). Grid: its last three, a thread
// each.
template <int M>
inline void winograd_filter_of(device const SCALAR *w, device float *u, constant Convolution &p,
                               uint place) {
    constexpr int T = M + 2;
    const int ic = p.IC / p.groups, oc = p.OC / p.groups, matrices = p.groups * ic * oc;
    if (int(place) >= matrices) return;
    const int o = int(place) % oc, c = int(place) / oc % ic, g = int(place) / (oc * ic);
    float v[T * T];
    UNROLL
    for (int kh = 0; kh < 3; ++kh) {
        UNROLL
        for (int kw = 0; kw < 3; ++kw)
            v[kh * T + kw] = float(w[(((g * 3 + kh) * 3 + kw) * ic + c) * oc + o]);
    }
    UNROLL
    for (int i = 0; i < 3; ++i) Winograd<M>::filter(v + i, T);
    UNROLL
    for (int i = 0; i < T; ++i) Winograd<M>::filter(v + i * T, 1);
    UNROLL
    for (int e = 0; e < T * T; ++e) u[e * matrices + int(place)] = v[e];
}

// To (T * T, IC, tiles), tiles those of all images. Grid: tiles, IC, a thread each.
template <int M>
inline void winograd_input_of(device const SCALAR *x, device float *v, constant Convolution &p,
                              uint2 place) {
    constexpr int T = M + 2;
    const int tiles = p.N * p.tiles_h * p.tiles_w, tile = int(place.x), c = int(place.y);
    if (tile >= tiles) return;
    const int top = tile / p.tiles_w % p.tiles_h * M - p.pad_top;
    const int left = tile % p.tiles_w * M - p.pad_left;
    device const SCALAR *plane = x + tile / (p.tiles_w * p.tiles_h) * p.x_n + c * p.x_c;
    float d[T * T];
    UNROLL
    for (int i = 0; i < T; ++i) {
        const int h = source(top + i, p.IH, p.padding_mode);
        UNROLL
        for (int j = 0; j < T; ++j) {
            const int w = source(left + j, p.IW, p.padding_mode);
            d[i * T + j] = h < 0 || w < 0 ? 0.0f : float(plane[h * p.x_h + w * p.x_w]);
        }
    }
    UNROLL
    for (int i = 0; i < T; ++i) Winograd<M>::input(d + i, T);
    UNROLL
    for (int i = 0; i < T; ++i) Winograd<M>::input(d + i * T, 1);
    UNROLL
    for (int e = 0; e < T * T; ++e) v[(e * p.IC + c) * tiles + tile] = d[e];
}

// From (T * T, OC, tiles). Grid: tiles, OC, a thread each.
template <int M>
inline void winograd_output_of(device const float *m, device const SCALAR *bias,
                               device const SCALAR *addend, device SCALAR *y,
                               constant Convolution &p, uint2 place) {
    constexpr int T = M + 2;
    const int tiles = p.N * p.tiles_h * p.tiles_w, tile = int(place.x), o = int(place.y);
    if (tile >= tiles) return;
    const int n = tile / (p.tiles_w * p.tiles_h);
    const int oh0 = tile / p.tiles_w % p.tiles_h * M, ow0 = tile % p.tiles_w * M;
    float d[T * T];
    UNROLL
    for (int e = 0; e < T * T; ++e) d[e] = m[(e * p.OC + o) * tiles + tile];
    UNROLL
    for (int i = 0; i < T; ++i) Winograd<M>::output(d + i, T);
    UNROLL
    for (int i = 0; i < M; ++i) Winograd<M>::output(d + i * T, 1);
    UNROLL
    for (int i = 0; i < M; ++i) {
        UNROLL
        for (int j = 0; j < M; ++j) {
            if (oh0 + i < p.OH && ow0 + j < p.OW)
                finish(d[i * T + j], n, o, oh0 + i, ow0 + j, bias, addend, y, p);
        }
    }
}

kernel void winograd_filter_2(device const SCALAR *w [[buffer(0)]], device float *u [[buffer(1)]],
                              constant Convolution &p [[buffer(2)]],
                              uint place [[thread_position_in_grid]]) {
    winograd_filter_of<2>(w, u, p, place);
}

kernel void winograd_filter_4(device const SCALAR *w [[buffer(0)]], device float *u [[buffer(1)]],
                              constant Convolution &p [[buffer(2)]],
                              uint place [[thread_position_in_grid]]) {
    winograd_filter_of<4>(w, u, p, place);
}

kernel void winograd_input_2(device const SCALAR *x [[buffer(0)]], device float *v [[buffer(1)]],
                             constant Convolution &p [[buffer(2)]],
                             uint2 place [[thread_position_in_grid]]) {
    winograd_input_of<2>(x, v, p, place);
}

kernel void winograd_input_4(device const SCALAR *x [[buffer(0)]], device float *v [[buffer(1)]],
                             constant Convolution &p [[buffer(2)]],
                             uint2 place [[thread_position_in_grid]]) {
    winograd_input_of<4>(x, v, p, place);
}

kernel void winograd_output_2(device const float *m [[buffer(0)]],
                              device const SCALAR *bias [[buffer(1)]],
                              device const SCALAR *addend [[buffer(2)]],
                              device SCALAR *y [[buffer(3)]],
                              constant Convolution &p [[buffer(4)]],
                              uint2 place [[thread_position_in_grid]]) {
    winograd_output_of<2>(m, bias, addend, y, p, place);
}

kernel void winograd_output_4(device const float *m [[buffer(0)]],
                              device const SCALAR *bias [[buffer(1)]],
                              device const SCALAR *addend [[buffer(2)]],
                              device SCALAR *y [[buffer(3)]],
                              constant Convolution &p [[buffer(4)]],
                              uint2 place [[thread_position_in_grid]]) {
    winograd_output_of<4>(m, bias, addend, y, p, place);
}

// For each element of a tile and each group (OC, tiles) = (IC, OC) transposed times (IC, tiles).
// Grid: tiles of tiles, tiles of a group's output channels, T * T * groups.
kernel void winograd_product(device const float *u [[buffer(0)]], device const float *v [[buffer(1)]],
                             device float *m [[buffer(2)]], constant Convolution &p [[buffer(3)]],
                             uint3 group [[threadgroup_position_in_grid]],
                             uint t [[thread_index_in_threadgroup]]) {
    SHARED float a[DEPTH][ROWS + 1];
    SHARED float b[DEPTH][COLUMNS + 1];
    const int ic = p.IC / p.groups, oc = p.OC / p.groups, tiles = p.N * p.tiles_h * p.tiles_w;
    // The element's and the group's matrices: u, v and m have them in the same order.
    const int matrix = int(group.z), first = int(group.y) * ROWS;
    const int column0 = int(group.x) * COLUMNS;
    u += matrix * ic * oc;
    v += matrix * ic * tiles;
    m += matrix * oc * tiles;

    float sums[8][4];
    clear(sums);
    for (int k0 = 0; k0 < ic; k0 += DEPTH) {
        for (int e = int(t); e < DEPTH * COLUMNS; e += THREADS) {
            const int k = e / COLUMNS, column = e % COLUMNS;
            const bool inside = k0 + k < ic && column0 + column < tiles;
            b[k][column] = inside ? v[(k0 + k) * tiles + column0 + column] : 0.0f;
        }
        for (int e = int(t); e < DEPTH * ROWS; e += THREADS) {
            const int k = e / ROWS, row = e % ROWS;
            const bool inside = k0 + k < ic && first + row < oc;
            a[k][row] = inside ? u[(k0 + k) * oc + first + row] : 0.0f;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        multiply(sums, a, b, t);
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }

    const int row = first + first_of_rows(t);
    UNROLL
    for (int j = 0; j < 4; ++j) {
        const int column = column0 + int(t) % 16 + 16 * j;
        if (column >= tiles) continue;
        UNROLL
        for (int i = 0; i < 8; ++i) {
            if (row + i < oc) m[(row + i) * tiles + column] = sums[i][j];
        }
    }
}
