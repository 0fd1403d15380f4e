// The functions of cuDNN 9, cuBLASLt and CUDA's driver that ai3 calls, on memory of the CPU, by plain
// loops; kernels that are launched compute nothing. What is called is written down; any function can
// be made to fail, and any algorithm to be unsupported.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char notes[1 << 16];
static size_t noted;
static char failing[128];
static int failing_status;
static char refused[64][32];
static int refusals;
static int alive;
static size_t workspace = 64;
static int without_last;

const char* calls(void) { return notes; }
void forget(void) { noted = 0, notes[0] = 0, failing[0] = 0, refusals = 0, workspace = 64, without_last = 0; }
void fail(const char* function, int status) {
    snprintf(failing, sizeof failing, "%s", function), failing_status = status;
}
void refuse(const char* algorithm) { snprintf(refused[refusals++], 32, "%s", algorithm); }
void need(size_t bytes) { workspace = bytes; }
int objects(void) { return alive; }
// Images with their channels last are unsupported.
void refuse_last(void) { without_last = 1; }

static int note(const char* function, const char* more) {
    if (noted < sizeof notes - 256)
        noted += (size_t)snprintf(notes + noted, 256, "%s%s\n", function, more);
    return strcmp(function, failing) ? 0 : failing_status;
}
#define NOTE()                                        \
    do {                                              \
        const int status = note(__func__, "");        \
        if (status) return status;                    \
    } while (0)

typedef struct {
    int dtype, format, n[4], stride[4];            // tensors and filters
    int pad[2], step[2], dilation[2], groups, math, compute;  // convolutions
    int mode;                                       // activations
    int trans, epilogue, rows, columns, ld, batch;  // of cuBLASLt
    int64_t apart;
    const void* bias;
    void* stream;
    size_t most;
} Object;

static int make(void** made) { return *made = calloc(1, sizeof(Object)), ++alive, 0; }
static int destroy(void* object) { return free(object), --alive, 0; }

static double get(const void* data, int dtype, long i) {
    if (dtype == 0) return ((const float*)data)[i];
    if (dtype == 1) return ((const double*)data)[i];
    if (dtype == 2) return (double)((const _Float16*)data)[i];
    const uint32_t bits = (uint32_t)((const uint16_t*)data)[i] << 16;
    float value;
    return memcpy(&value, &bits, 4), value;
}
static void put(void* data, int dtype, long i, double value) {
    if (dtype == 0) ((float*)data)[i] = (float)value;
    if (dtype == 1) ((double*)data)[i] = value;
    if (dtype == 2) ((_Float16*)data)[i] = (_Float16)value;
    if (dtype == 9 || dtype == 14) {
        const float given = (float)value;
        uint32_t bits;
        memcpy(&bits, &given, 4);
        ((uint16_t*)data)[i] = (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    }
}
static long at(const Object* o, int a, int b, int c, int d) {
    return (long)a * o->stride[0] + (long)b * o->stride[1] + (long)c * o->stride[2] +
           (long)d * o->stride[3];
}

size_t cudnnGetVersion(void) { return 92400; }
const char* cudnnGetErrorString(int status) {
    static char text[64];
    return snprintf(text, sizeof text, "CUDNN_STATUS_%d", status), text;
}
void cudnnGetLastErrorString(char* text, size_t most) { snprintf(text, most, "it was asked to"); }
int cudnnCreate(void** handle) { NOTE(); return make(handle); }
int cudnnSetStream(void* handle, void* stream) {
    char more[32];
    snprintf(more, sizeof more, " %ld", (long)stream);
    ((Object*)handle)->stream = stream;
    return note(__func__, more);
}

#define OBJECT(name)                                                              \
    int cudnnCreate##name##Descriptor(void** made) { return make(made); }         \
    int cudnnDestroy##name##Descriptor(void* object) { return destroy(object); }
OBJECT(Tensor)
OBJECT(Filter)
OBJECT(Convolution)
OBJECT(Activation)

int cudnnSetTensor4dDescriptorEx(Object* o, int dtype, int n, int c, int h, int w, int sn, int sc,
                                 int sh, int sw) {
    NOTE();
    const int sizes[] = {n, c, h, w}, strides[] = {sn, sc, sh, sw};
    o->dtype = dtype, memcpy(o->n, sizes, sizeof sizes), memcpy(o->stride, strides, sizeof strides);
    return 0;
}
int cudnnSetFilter4dDescriptor(Object* o, int dtype, int format, int k, int c, int h, int w) {
    NOTE();
    const int sizes[] = {k, c, h, w}, nchw[] = {c * h * w, h * w, w, 1}, nhwc[] = {c * h * w, 1, w * c, c};
    o->dtype = dtype, o->format = format, memcpy(o->n, sizes, sizeof sizes);
    return memcpy(o->stride, format ? nhwc : nchw, sizeof nchw), 0;
}
int cudnnSetConvolution2dDescriptor(Object* o, int ph, int pw, int sh, int sw, int dh, int dw,
                                    int mode, int compute) {
    NOTE();
    if (mode != 1) return 2000;
    o->pad[0] = ph, o->pad[1] = pw, o->step[0] = sh, o->step[1] = sw;
    return o->dilation[0] = dh, o->dilation[1] = dw, o->compute = compute, o->groups = 1, 0;
}
int cudnnSetConvolutionGroupCount(Object* o, int groups) { return o->groups = groups, 0; }
int cudnnSetConvolutionMathType(Object* o, int math) {
    char more[32];
    snprintf(more, sizeof more, " %d", math);
    return o->math = math, note(__func__, more);
}
int cudnnSetActivationDescriptor(Object* o, int mode, int nan, double coefficient) {
    NOTE();
    (void)coefficient;
    return o->mode = mode, nan == 1 ? 0 : 2000;
}

static int unsupported(const char* way, int algorithm) {
    char name[32];
    snprintf(name, sizeof name, "%s %d", way, algorithm);
    for (int i = 0; i < refusals; ++i)
        if (!strcmp(refused[i], name)) return 3000;
    return 0;
}

// The sum at one place of the result of `way`: of x, w and y the one that is null.
static void convolve(const Object* xd, const void* x, const Object* wd, const void* w,
                     const Object* yd, const void* y, const Object* g, void* out) {
    const Object* od = !x ? xd : !w ? wd : yd;
    double* sums = calloc((size_t)od->n[0] * od->n[1] * od->n[2] * od->n[3] + 1, sizeof(double));
#define PLACE(o, a, b, c, d) ((((long)(a) * (o)->n[1] + (b)) * (o)->n[2] + (c)) * (o)->n[3] + (d))
    const int outs = wd->n[0] / g->groups;
    for (int n = 0; n < yd->n[0]; ++n)
        for (int k = 0; k < yd->n[1]; ++k)
            for (int oh = 0; oh < yd->n[2]; ++oh)
                for (int ow = 0; ow < yd->n[3]; ++ow)
                    for (int c = 0; c < wd->n[1]; ++c)
                        for (int kh = 0; kh < wd->n[2]; ++kh)
                            for (int kw = 0; kw < wd->n[3]; ++kw) {
                                const int ih = oh * g->step[0] + kh * g->dilation[0] - g->pad[0];
                                const int iw = ow * g->step[1] + kw * g->dilation[1] - g->pad[1];
                                if (ih < 0 || ih >= xd->n[2] || iw < 0 || iw >= xd->n[3]) continue;
                                const int ic = k / outs * wd->n[1] + c;
                                const double a = x ? get(x, xd->dtype, at(xd, n, ic, ih, iw)) : 1;
                                const double b = w ? get(w, wd->dtype, at(wd, k, c, kh, kw)) : 1;
                                const double d = y ? get(y, yd->dtype, at(yd, n, k, oh, ow)) : 1;
                                const long to = !x   ? PLACE(xd, n, ic, ih, iw)
                                                : !w ? PLACE(wd, k, c, kh, kw)
                                                     : PLACE(yd, n, k, oh, ow);
                                sums[to] += a * b * d;
                            }
    for (int a = 0; a < od->n[0]; ++a)
        for (int b = 0; b < od->n[1]; ++b)
            for (int c = 0; c < od->n[2]; ++c)
                for (int d = 0; d < od->n[3]; ++d)
                    put(out, od->dtype, at(od, a, b, c, d), sums[PLACE(od, a, b, c, d)]);
    free(sums);
}

typedef struct {
    int algo, status;
    float time;
    size_t memory;
    int determinism, math, reserved[3];
} Performance;

// Last comes first, those that are unsupported with their status.
static int rank(const char* way, int count, int most, int* found, Performance* rows) {
    *found = count < most ? count : most;
    for (int i = 0; i < *found; ++i) {
        memset(&rows[i], 0, sizeof rows[i]);
        rows[i].algo = count - 1 - i, rows[i].status = unsupported(way, rows[i].algo);
    }
    return 0;
}

#define CHECK_MEMORY(memory, size) \
    if (size < workspace || (workspace && !memory)) return 2000
#define CHECK_ALIGNED(a, b, c) \
    if (((uintptr_t)(a) | (uintptr_t)(b) | (uintptr_t)(c)) & 15) return 2001

#define WAY(name, count, first, second, third, X, W, Y, XD, WD, YD)                               \
    int cudnnGetConvolution##name##WorkspaceSize(void* handle, Object* first, Object* second,     \
                                                 Object* g, Object* third, int algo,              \
                                                 size_t* size) {                                  \
        NOTE();                                                                                   \
        (void)handle, (void)first, (void)second, (void)g;                                         \
        if (without_last && third->n[1] > 1 && third->stride[1] == 1) return 3000;                \
        return *size = workspace, unsupported(#name, algo);                                       \
    }                                                                                             \
    int cudnnGetConvolution##name##Algorithm_v7(void* handle, Object* first, Object* second,      \
                                                Object* g, Object* third, int most, int* found,   \
                                                Performance* rows) {                              \
        NOTE();                                                                                   \
        (void)handle, (void)first, (void)second, (void)g, (void)third;                            \
        return rank(#name, count, most, found, rows);                                             \
    }                                                                                             \
    int cudnnConvolution##name(void* handle, const void* alpha, Object* first, const void* a,     \
                               Object* second, const void* b, Object* g, int algo, void* memory,  \
                               size_t size, const void* beta, Object* third, void* out) {         \
        char more[64];                                                                            \
        snprintf(more, sizeof more, " %d on %ld", algo, (long)((Object*)handle)->stream);         \
        const int status = note(__func__, more);                                                  \
        if (status) return status;                                                                \
        CHECK_MEMORY(memory, size);                                                               \
        CHECK_ALIGNED(a, b, out);                                                                 \
        const int compute = g->compute == 1;                                                      \
        if (get(alpha, compute, 0) != 1 || get(beta, compute, 0) != 0) return 2000;               \
        if (unsupported(#name, algo)) return 3000;                                                \
        convolve(XD, X, WD, W, YD, Y, g, out);                                                    \
        return 0;                                                                                 \
    }
WAY(Forward, 8, xd, wd, yd, a, b, NULL, xd, wd, yd)
WAY(BackwardData, 6, wd, yd, xd, NULL, a, b, xd, wd, yd)
WAY(BackwardFilter, 7, xd, yd, wd, a, NULL, b, xd, wd, yd)

int cudnnAddTensor(void* handle, const void* alpha, Object* ad, const void* a, const void* beta,
                   Object* cd, void* c) {
    NOTE();
    (void)handle, (void)alpha, (void)beta;
    for (int i = 0; i < cd->n[0]; ++i)
        for (int j = 0; j < cd->n[1]; ++j)
            for (int k = 0; k < cd->n[2]; ++k)
                for (int l = 0; l < cd->n[3]; ++l) {
                    const long place = at(cd, i, j, k, l);
                    const double sum = get(c, cd->dtype, place) + get(a, ad->dtype, at(ad, 0, j, 0, 0));
                    put(c, cd->dtype, place, sum);
                }
    return 0;
}
int cudnnConvolutionBiasActivationForward(void* handle, const void* alpha, Object* xd,
                                          const void* x, Object* wd, const void* w, Object* g,
                                          int algo, void* memory, size_t size, const void* alpha2,
                                          Object* zd, const void* z, Object* bd, const void* bias,
                                          Object* activation, Object* yd, void* y) {
    char more[64];
    snprintf(more, sizeof more, " %d", algo);
    const int status = note(__func__, more);
    if (status) return status;
    CHECK_MEMORY(memory, size);
    CHECK_ALIGNED(x, w, y);
    (void)handle, (void)alpha;
    if (activation->mode == 5 && algo != 1) return 3000;
    const double added = get(alpha2, g->compute == 1, 0);
    const size_t bytes = (size_t)yd->n[0] * yd->n[1] * yd->n[2] * yd->n[3] * 8;
    void* residual = malloc(bytes + 8);
    if (added != 0) {
        for (long i = 0; i < (long)(bytes / 8); ++i) ((double*)residual)[i] = get(z, zd->dtype, i);
    }
    convolve(xd, x, wd, w, yd, NULL, g, y);
    for (int i = 0; i < yd->n[0]; ++i)
        for (int j = 0; j < yd->n[1]; ++j)
            for (int k = 0; k < yd->n[2]; ++k)
                for (int l = 0; l < yd->n[3]; ++l) {
                    const long place = at(yd, i, j, k, l);
                    double sum = get(y, yd->dtype, place) + get(bias, bd->dtype, at(bd, 0, j, 0, 0));
                    if (added != 0) sum += added * ((double*)residual)[place];
                    if (activation->mode == 1 && sum < 0) sum = 0;
                    put(y, yd->dtype, place, sum);
                }
    free(residual);
    return 0;
}

int cublasLtCreate(void** handle) { NOTE(); return make(handle); }
int cublasLtMatmulDescCreate(void** made, int compute, int scale) {
    make(made);
    char more[32];
    snprintf(more, sizeof more, " %d", compute);
    ((Object*)*made)->compute = scale;
    return note(__func__, more);
}
int cublasLtMatmulDescDestroy(void* o) { return destroy(o); }
int cublasLtMatmulDescSetAttribute(Object* o, int attribute, const void* value, size_t size) {
    if (attribute == 3 && size == 4) return memcpy(&o->trans, value, 4), 0;
    if (attribute == 7 && size == 4) return memcpy(&o->epilogue, value, 4), 0;
    if (attribute == 8 && size == 8) return memcpy(&o->bias, value, 8), 0;
    return 7;
}
int cublasLtMatrixLayoutCreate(void** made, int dtype, uint64_t rows, uint64_t columns, int64_t ld) {
    make(made);
    Object* o = *made;
    o->dtype = dtype, o->rows = (int)rows, o->columns = (int)columns, o->ld = (int)ld;
    return 0;
}
int cublasLtMatrixLayoutSetAttribute(Object* o, int attribute, const void* value, size_t size) {
    if (attribute == 5 && size == 4) return memcpy(&o->batch, value, 4), 0;
    if (attribute == 6 && size == 8) return memcpy(&o->apart, value, 8), 0;
    return 7;
}
int cublasLtMatrixLayoutDestroy(void* o) { return destroy(o); }
int cublasLtMatmulPreferenceCreate(void** made) { return make(made); }
int cublasLtMatmulPreferenceDestroy(void* o) { return destroy(o); }
int cublasLtMatmulPreferenceSetAttribute(Object* o, int attribute, const void* value, size_t size) {
    if (attribute >= 5 && attribute <= 8) return *(const uint32_t*)value == 16 && size == 4 ? 0 : 7;
    return attribute == 1 && size == 8 ? memcpy(&o->most, value, 8), 0 : 7;
}
typedef struct {
    uint64_t algo[8];
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
} Heuristic;
int cublasLtMatmulAlgoGetHeuristic(void* handle, Object* o, Object* a, Object* b, Object* c,
                                   Object* d, Object* preference, int most, Heuristic* found,
                                   int* count) {
    NOTE();
    (void)handle, (void)o, (void)a, (void)b, (void)c, (void)d, (void)most;
    memset(found, 0, sizeof *found);
    found->algo[0] = 42, found->workspace = workspace;
    *count = workspace <= preference->most;
    return 0;
}
int cublasLtMatmul(void* handle, Object* o, const void* alpha, const void* a, Object* ad,
                   const void* b, Object* bd, const void* beta, const void* c, Object* cd, void* d,
                   Object* dd, const uint64_t* algo, void* memory, size_t size, void* stream) {
    char more[64];
    snprintf(more, sizeof more, " %d on %ld", o->epilogue, (long)stream);
    const int status = note(__func__, more);
    if (status) return status;
    CHECK_MEMORY(memory, size);
    CHECK_ALIGNED(a, b, d);
    (void)handle, (void)alpha, (void)beta, (void)c, (void)cd;
    const int terms = o->trans ? ad->rows : ad->columns;
    if (algo[0] != 42 || terms != bd->rows) return 7;
    const int batch = dd->batch ? dd->batch : 1;
    for (int z = 0; z < batch; ++z)
        for (int j = 0; j < dd->columns; ++j)
            for (int i = 0; i < dd->rows; ++i) {
                double sum = o->epilogue & 4 ? get(o->bias, dd->dtype, i) : 0;
                for (int k = 0; k < terms; ++k) {
                    const long left = o->trans ? (long)i * ad->ld + k : (long)k * ad->ld + i;
                    sum += get(a, ad->dtype, z * ad->apart + left) *
                           get(b, bd->dtype, z * bd->apart + (long)j * bd->ld + k);
                }
                if (o->epilogue & 2 && sum < 0) sum = 0;
                put(d, dd->dtype, z * dd->apart + (long)j * dd->ld + i, sum);
            }
    return 0;
}

static void* context;
static char types[64];

void parameters(const char* of_kernels) { snprintf(types, sizeof types, "%s", of_kernels); }
void leave(void) { context = NULL; }

int cuDeviceGet(int* device, int index) { return *device = 100 + index, 0; }
int cuDevicePrimaryCtxRetain(void** made, int device) {
    NOTE();
    return *made = (void*)(long)device, 0;
}
int cuCtxGetCurrent(void** found) { return *found = context, 0; }
int cuCtxSetCurrent(void* given) { return context = given, 0; }
int cuModuleLoadData(void** module, const char* image) {
    char more[64];
    snprintf(more, sizeof more, " %s", image);
    return *module = (void*)7, note(__func__, more);
}
int cuModuleGetFunction(void** function, void* module, const char* name) {
    char more[64];
    snprintf(more, sizeof more, " %s", name);
    return *function = (char*)module + 1, note(__func__, more);
}
int cuFuncSetAttribute(void* function, int attribute, int value) {
    char more[64];
    snprintf(more, sizeof more, " %ld %d %d", (long)function, attribute, value);
    return note(__func__, more);
}
int cuGetErrorString(int status, const char** words) {
    static char text[64];
    snprintf(text, sizeof text, "error %d", status);
    return *words = text, 0;
}
int cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void* stream, void** given, void** extra) {
    char more[256];
    int n = snprintf(more, sizeof more, " %ld of %u %u %u by %u %u %u, %u on %ld:", (long)function, gx,
                     gy, gz, bx, by, bz, shared, (long)stream);
    if (!context || extra) return 201;
    for (const char* type = types; *type; ++type, ++given) {
        if (!*given) return 1;
        if (*type == 'p') n += snprintf(more + n, sizeof more - n, " %ld", *(long*)*given);
        if (*type == 'i') n += snprintf(more + n, sizeof more - n, " %d", *(int*)*given);
        if (*type == 'f') n += snprintf(more + n, sizeof more - n, " %g", *(float*)*given);
        if (*type == 'd') n += snprintf(more + n, sizeof more - n, " %g", *(double*)*given);
    }
    return *given ? 1 : note(__func__, more);
}
