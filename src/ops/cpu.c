#include "ops/cpu.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ARCH_REQUEST_PERMISSION = 0x1023, STATE_TILE_DATA = 18 };

static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}

static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd");
}

static bool has_bf16(void) {
    unsigned a, b, c, d;
    return has_avx512() && __builtin_cpu_supports("avx512vnni") && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
}

/* The matrix unit: in the processor, and granted by the kernel, which saves its registers only for those who asked. */
static bool has_amx(void) {
    unsigned a, b, c, d;
    if (!has_bf16() || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        return false;
    }
    const unsigned bf16 = d >> 22 & 1, tile = d >> 24 & 1;
    return bf16 && tile && syscall(SYS_arch_prctl, ARCH_REQUEST_PERMISSION, STATE_TILE_DATA) == 0;
}
#endif

const struct kernels *cpu_kernels(const char *name) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (has_avx512() && (!name || strcmp(name, kernels_avx512.name) == 0)) {
        return &kernels_avx512;
    }
    if (has_avx2() && (!name || strcmp(name, kernels_avx2.name) == 0)) {
        return &kernels_avx2;
    }
#endif
    return !name || strcmp(name, kernels_plain.name) == 0 ? &kernels_plain : NULL;
}

const struct gemm_kernel *cpu_gemm(const struct kernels *kernels, enum ops_precision precision) {
#if defined(__x86_64__)
    if (kernels == &kernels_avx512) {
        if (has_amx()) {
            return precision == OPS_BF16 ? &gemm_bf16_amx : &gemm_bf16x3_amx;
        }
        if (precision == OPS_BF16 && has_bf16()) {
            return &gemm_bf16_avx512;
        }
    }
#else
    (void)precision;
#endif
    return &kernels->gemm;
}

const struct few_int16 *cpu_few_int16(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    return has_avx512() ? &few_int16_avx512 : NULL;
#else
    return NULL;
#endif
}

const struct few_bf16 *cpu_few_bf16(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    return has_bf16() ? &few_bf16_avx512 : NULL;
#else
    return NULL;
#endif
}
