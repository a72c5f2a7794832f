/* The selective scan as a custom operator of onnxruntime, videossp.SelectiveScan of version 1.
 *
 *     cc -O3 -shared -fPIC -o selective_scan.so selective_scan.c
 *
 * Register the library with the options of a session before the session is made. It needs onnxruntime 1.17 or
 * newer; to compile it, gcc or clang is enough.
 *
 * For each clip and channel, with softplus(x) = log(1 + exp(x)):
 *
 *     dt = softplus(delta + delta_bias),  h = exp(dt A) h + dt u B,  y = C h + D u
 *
 * Inputs, float32: u, delta (batch, length, channels); A (channels, states), not above zero; B, C (batch, length,
 * states); and, each may be absent: D, delta_bias (channels), h0 (batch, channels, states). Output: y, in the
 * shape of u. Attribute `reverse`, 0 or 1: scan from the end.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The functions of onnxruntime that are used. Each has a fixed place in a table, in all versions since 1.17. */
typedef struct Status Status;
typedef void (*Unused)(void);
typedef struct {
    Status *(*create_status)(int code, const char *message);
    Unused from_1[25];
    Status *(*create_domain)(const char *name, void **domain);
    Status *(*add_to_domain)(void *domain, const void *op);
    Status *(*add_domain)(void *options, void *domain);
    Unused from_29[22];
    Status *(*tensor_data)(void *value, void **data);
    Unused from_52[9];
    Status *(*dimension_count)(const void *shape, size_t *count);
    Status *(*dimensions)(const void *shape, int64_t *sizes, size_t count);
    Unused from_63[2];
    Status *(*tensor_shape)(const void *value, void **shape);
    Unused from_66[20];
    Status *(*attribute)(const void *info, const char *name, int64_t *value);
    Unused from_87[3];
    Status *(*input)(const void *context, size_t index, void **value);
    Status *(*output)(void *context, size_t index, const int64_t *sizes, size_t rank, void **value);
    Unused from_92[7];
    void (*release_shape)(void *shape);
    Unused from_100[174];
    Status *(*parallel_for)(
        const void *context, void (*job)(void *data, size_t index), size_t jobs, size_t batches, void *data);
} Api;
typedef struct {
    const Api *(*get_api)(uint32_t version);
    const char *(*version)(void);
} ApiBase;
enum { API_VERSION = 17, FLOAT = 1, FAIL = 1, INVALID_ARGUMENT = 2, REQUIRED = 0, OPTIONAL = 1, CPU = 0 };

/* The arithmetic. gcc turns a choice between two values into vector code only without "trapping math". */
#ifndef __clang__
#pragma GCC optimize("O3", "no-trapping-math")
#endif
#define INLINE static inline __attribute__((always_inline))
enum {
    BLOCK = 96, /* channels of a job: (2, states, BLOCK) floats fit into the L1 cache */
    AHEAD = 2,  /* steps between the prefetch of a row and its use */
    LINE = 16,  /* floats in a cache line */
};
static const float LOG2E = 1.4426950408889634f;
static const float SHIFT = 12582912.0f; /* 1.5 * 2**23: a float of this size has no fractional bits */

/* 2**x for x <= 0, relative error 1e-7; for x below -126 it is 2**-126. */
INLINE float power_of_two(float x) {
    x = x < -126.0f ? -126.0f : x;
    float shifted = x + SHIFT;
    float r = x - (shifted - SHIFT);
    float q = 1.333353844e-03f;
    q = q * r + 9.666245633e-03f;
    q = q * r + 5.550500215e-02f;
    q = q * r + 2.402235134e-01f;
    q = q * r + 6.931471435e-01f;
    q = 1.0f + r * q;
    union {
        float number;
        uint32_t bits;
    } power = {q}, exponent = {shifted};
    power.bits += exponent.bits << 23;
    return power.number;
}

/* log(1 + exp(x)), relative error 2e-7. */
INLINE float softplus(float x) {
    float e = power_of_two((x < 0.0f ? x : -x) * LOG2E);
    float q = 5.232690697e-03f; /* log(1 + e) / e */
    q = q * e - 2.950522892e-02f;
    q = q * e + 7.822594433e-02f;
    q = q * e - 1.366324604e-01f;
    q = q * e + 1.910600743e-01f;
    q = q * e - 2.484298259e-01f;
    q = q * e + 3.331909690e-01f;
    q = q * e - 4.999949315e-01f;
    q = q * e + 9.999999699e-01f;
    return e * q + (x < 0.0f ? 0.0f : x);
}

typedef struct {
    const float *u, *delta, *A, *B, *C, *D, *delta_bias, *h0;
    float *y;
    int64_t length, channels, states;
    int reverse, out_of_memory;
} Scan;

/* Scan one block of channels of one clip, from channel `first` on. `memory`: 2 * states * BLOCK zeros. */
INLINE void scan_block(const Scan *scan, int64_t clip, int64_t first, float *memory) {
    int64_t channels = scan->channels, states = scan->states;
    int64_t width = channels - first < BLOCK ? channels - first : BLOCK;
    float D[BLOCK] = {0}, bias[BLOCK] = {0}, dt[BLOCK] = {0}, dtu[BLOCK] = {0}, out[BLOCK];
    float(*restrict decay)[BLOCK] = (float(*)[BLOCK])memory;
    float(*restrict state)[BLOCK] = decay + states;
    for (int64_t c = 0; c < width; c++) {
        D[c] = scan->D ? scan->D[first + c] : 0.0f;
        bias[c] = scan->delta_bias ? scan->delta_bias[first + c] : 0.0f;
        for (int64_t n = 0; n < states; n++) {
            decay[n][c] = scan->A[(first + c) * states + n] * LOG2E;
            state[n][c] = scan->h0 ? scan->h0[(clip * channels + first + c) * states + n] : 0.0f;
        }
    }
    for (int64_t step = 0; step < scan->length; step++) {
        int64_t row = clip * scan->length + (scan->reverse ? scan->length - 1 - step : step);
        const float *u = scan->u + row * channels + first, *delta = scan->delta + row * channels + first;
        const float *B = scan->B + row * states, *C = scan->C + row * states;
        float *y = scan->y + row * channels + first;
        if (step + AHEAD < scan->length) {
            int64_t ahead = (scan->reverse ? -AHEAD : AHEAD) * channels;
            for (int64_t c = 0; c < width; c += LINE) {
                __builtin_prefetch(u + ahead + c);
                __builtin_prefetch(delta + ahead + c);
                __builtin_prefetch(y + ahead + c, 1);
            }
        }
        memcpy(dt, delta, width * sizeof(float));
        memcpy(dtu, u, width * sizeof(float));
        for (int c = 0; c < BLOCK; c++) {
            out[c] = D[c] * dtu[c];
            dt[c] = softplus(dt[c] + bias[c]);
            dtu[c] *= dt[c];
        }
        for (int64_t n = 0; n < states; n++) {
            float b = B[n], k = C[n];
            for (int c = 0; c < BLOCK; c++) {
                float h = power_of_two(dt[c] * decay[n][c]) * state[n][c] + dtu[c] * b;
                state[n][c] = h;
                out[c] += h * k;
            }
        }
        memcpy(y, out, width * sizeof(float));
    }
}

/* The same for each set of vector instructions; the processor decides when the library runs. */
typedef void (*ScanBlock)(const Scan *scan, int64_t clip, int64_t first, float *memory);

static void scan_block_plain(const Scan *scan, int64_t clip, int64_t first, float *memory) {
    scan_block(scan, clip, first, memory);
}

#ifdef __x86_64__
__attribute__((target("avx2,fma"))) static void scan_block_avx2(
    const Scan *scan, int64_t clip, int64_t first, float *memory) {
    scan_block(scan, clip, first, memory);
}

__attribute__((target("avx512f"))) static void scan_block_avx512(
    const Scan *scan, int64_t clip, int64_t first, float *memory) {
    scan_block(scan, clip, first, memory);
}
#endif

static ScanBlock fastest(void) {
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f")) return scan_block_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return scan_block_avx2;
#endif
    return scan_block_plain;
}

static void scan_job(void *data, size_t index) {
    Scan *scan = data;
    size_t blocks = (scan->channels + BLOCK - 1) / BLOCK;
    float *memory = calloc(2 * scan->states * BLOCK + 1, sizeof(float));
    if (memory)
        fastest()(scan, index / blocks, index % blocks * BLOCK, memory);
    else
        scan->out_of_memory = 1;
    free(memory);
}

/* The operator. */
typedef struct {
    const Api *api;
    int64_t reverse;
} Kernel;

/* Get an input, NULL if it is absent. `sizes` are those that it must have; -1 stands for any size, and is set to the
 * one that was found. */
static Status *read_input(
    const Api *api, const void *context, size_t index, int64_t *sizes, size_t rank, const float **data) {
    void *value, *shape;
    size_t found_rank = 0;
    int64_t found[3] = {0};
    *data = NULL;
    Status *status = api->input(context, index, &value);
    if (status || !value) return status;
    if ((status = api->tensor_shape(value, &shape))) return status;
    status = api->dimension_count(shape, &found_rank);
    if (!status && found_rank == rank) status = api->dimensions(shape, found, rank);
    api->release_shape(shape);
    if (status) return status;
    for (size_t i = 0; i < rank; i++) {
        if (sizes[i] < 0) sizes[i] = found[i];
        if (found_rank != rank || found[i] != sizes[i])
            return api->create_status(INVALID_ARGUMENT, "SelectiveScan: an input does not fit the shape of u");
    }
    return api->tensor_data(value, (void **)data);
}

static Status *create_kernel(const void *op, const Api *api, const void *info, void **out) {
    (void)op;
    Kernel *kernel = malloc(sizeof(Kernel));
    if (!kernel) return api->create_status(FAIL, "SelectiveScan: out of memory");
    kernel->api = api;
    Status *status = api->attribute(info, "reverse", &kernel->reverse);
    if (status)
        free(kernel);
    else
        *out = kernel;
    return status;
}

static Status *compute(void *data, void *context) {
    const Kernel *kernel = data;
    const Api *api = kernel->api;
    Scan scan = {.reverse = kernel->reverse != 0};
    Status *status;
    int64_t u[3] = {-1, -1, -1}, A[2];
    if ((status = read_input(api, context, 0, u, 3, &scan.u))) return status;
    if ((status = read_input(api, context, 1, u, 3, &scan.delta))) return status;
    A[0] = u[2], A[1] = -1;
    if ((status = read_input(api, context, 2, A, 2, &scan.A))) return status;
    int64_t states[3] = {u[0], u[1], A[1]}, h0[3] = {u[0], u[2], A[1]};
    if ((status = read_input(api, context, 3, states, 3, &scan.B))) return status;
    if ((status = read_input(api, context, 4, states, 3, &scan.C))) return status;
    if ((status = read_input(api, context, 5, u + 2, 1, &scan.D))) return status;
    if ((status = read_input(api, context, 6, u + 2, 1, &scan.delta_bias))) return status;
    if ((status = read_input(api, context, 7, h0, 3, &scan.h0))) return status;
    void *y;
    if ((status = api->output(context, 0, u, 3, &y))) return status;
    if ((status = api->tensor_data(y, (void **)&scan.y))) return status;
    scan.length = u[1], scan.channels = u[2], scan.states = A[1];
    size_t jobs = u[0] * ((scan.channels + BLOCK - 1) / BLOCK);
    if (jobs > 0 && (status = api->parallel_for(context, scan_job, jobs, 0, &scan))) return status;
    return scan.out_of_memory ? api->create_status(FAIL, "SelectiveScan: out of memory") : NULL;
}

static const char *name(const void *op) { return (void)op, "SelectiveScan"; }
static const char *provider(const void *op) { return (void)op, NULL; }
static int type(const void *op, size_t i) { return (void)op, (void)i, FLOAT; }
static size_t input_count(const void *op) { return (void)op, 8; }
static size_t output_count(const void *op) { return (void)op, 1; }
static int input_kind(const void *op, size_t i) { return (void)op, i < 5 ? REQUIRED : OPTIONAL; }
static int output_kind(const void *op, size_t i) { return (void)op, (void)i, REQUIRED; }
static int memory_kind(const void *op, size_t i) { return (void)op, (void)i, CPU; }
static int one(const void *op) { return (void)op, 1; }

/* The description of an operator as onnxruntime reads it. */
static const struct {
    uint32_t version;
    void *create_kernel_v1;
    const char *(*name)(const void *);
    const char *(*provider)(const void *);
    int (*input_type)(const void *, size_t);
    size_t (*input_count)(const void *);
    int (*output_type)(const void *, size_t);
    size_t (*output_count)(const void *);
    void *compute_v1;
    void (*destroy_kernel)(void *);
    int (*input_kind)(const void *, size_t);
    int (*output_kind)(const void *, size_t);
    int (*input_memory_kind)(const void *, size_t);
    int (*variadic[4])(const void *);
    Status *(*create_kernel)(const void *, const Api *, const void *, void **);
    Status *(*compute)(void *, void *);
    void *infer_shape;
    int (*first_version)(const void *);
    int (*last_version)(const void *);
    void *in_place[4];
} SELECTIVE_SCAN = {
    .version = API_VERSION,
    .name = name,
    .provider = provider,
    .input_type = type,
    .input_count = input_count,
    .output_type = type,
    .output_count = output_count,
    .destroy_kernel = free,
    .input_kind = input_kind,
    .output_kind = output_kind,
    .input_memory_kind = memory_kind,
    .variadic = {one, one, one, one},
    .create_kernel = create_kernel,
    .compute = compute,
    .first_version = one,
    .last_version = one,
};

/* onnxruntime calls this when the library is registered. A session keeps the domain, so it is never released. */
__attribute__((visibility("default"))) Status *RegisterCustomOps(void *options, const ApiBase *base) {
    void *domain;
    Status *status;
    const Api *api = base->get_api(API_VERSION);
    if (!api) {
        api = base->get_api(1);
        return api->create_status(FAIL, "SelectiveScan needs onnxruntime 1.17 or newer");
    }
    if ((status = api->create_domain("videossp", &domain))) return status;
    if ((status = api->add_to_domain(domain, &SELECTIVE_SCAN))) return status;
    return api->add_domain(options, domain);
}
