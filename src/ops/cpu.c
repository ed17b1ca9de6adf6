#include "ops/cpu.h"

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* ---- GENARM_CPU ------------------------------------------------------------------------------------------------- */

/* Of this architecture, each with those before it that the processor has. */
#if defined(__x86_64__)
enum set { PLAIN, AVX2, AVXVNNI, AVX512, AVX512VNNI, AVX512BF16, AMX, N_SETS };
static const char *const set_names[N_SETS] = {"plain", "avx2", "avxvnni", "avx512", "avx512vnni", "avx512bf16", "amx"};
#elif defined(__aarch64__)
enum set { PLAIN, NEON, DOTPROD, N_SETS };
static const char *const set_names[N_SETS] = {"plain", "neon", "dotprod"};
#else
enum set { PLAIN, N_SETS };
static const char *const set_names[N_SETS] = {"plain"};
#endif

/* The last set that may be used; N_SETS when GENARM_CPU names none. */
static enum set limit(void) {
    const char *name = getenv("GENARM_CPU");
    enum set s = PLAIN;
    while (s < N_SETS && !(name && strcmp(name, set_names[s]) == 0)) {
        s++;
    }
    return s;
}

int cpu_check_limit(struct genarm_error *err) {
    const char *name = getenv("GENARM_CPU");
    if (!name || limit() != N_SETS) {
        return GENARM_OK;
    }
    char known[64] = "";
    for (int s = 0; s < N_SETS; s++) {
        strcat(strcat(known, s ? ", " : ""), set_names[s]);
    }
    error_set(err, GENARM_EINVAL, "the variable GENARM_CPU is '%s', which is no instruction set", name);
    return error_hint(err, GENARM_EINVAL, "unset it, or use one of %s", known);
}

/* ---- what there is ---------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)

/* Asking the processor itself takes a virtual machine tens of microseconds; the compiler's library keeps what it knows. */
static bool has_f16c(void) {
    static _Atomic int known = -1;
    if (known < 0) {
        unsigned a, b, c, d;
        known = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
    }
    return known;
}

/* These functions ask for all that cmake/GenarmKernels.cmake lets the compiler use. */
static bool has_avx2(void) {
    __builtin_cpu_init();
    return limit() >= AVX2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi2") && has_f16c();
}

static bool has_avxvnni(void) {
    unsigned a, b, c, d;
    return has_avx2() && limit() >= AVXVNNI && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

static bool has_avx512(void) {
    return has_avx2() && limit() >= AVX512 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd");
}

static bool has_vnni(void) {
    return has_avx512() && limit() >= AVX512VNNI && __builtin_cpu_supports("avx512vnni");
}

static bool has_bf16(void) {
    unsigned a, b, c, d;
    return has_vnni() && limit() >= AVX512BF16 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
}

/* The matrix unit: in the processor, and granted by the kernel, which saves its registers only for those who asked. */
static bool has_amx(void) {
#if defined(__linux__)
    enum { ARCH_REQUEST_PERMISSION = 0x1023, STATE_TILE_DATA = 18 };
    unsigned a, b, c, d;
    if (!has_bf16() || limit() < AMX || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        return false;
    }
    const unsigned bf16 = d >> 22 & 1, tile = d >> 24 & 1;
    return bf16 && tile && syscall(SYS_arch_prctl, ARCH_REQUEST_PERMISSION, STATE_TILE_DATA) == 0;
#else
    return false;
#endif
}

#elif defined(__aarch64__)

static bool has_dotprod(void) {
    if (limit() < DOTPROD) {
        return false;
    }
#if defined(__ARM_FEATURE_DOTPROD) /* as compilers for Apple's processors assume */
    return true;
#elif defined(__linux__)
    enum { HWCAP_DOT_PRODUCT = 1 << 20 };
    return getauxval(AT_HWCAP) & HWCAP_DOT_PRODUCT;
#else
    return false;
#endif
}

#endif

static bool is_asked_for(const char *name, const char *asked) { return !asked || strcmp(name, asked) == 0; }

const struct kernels *cpu_kernels(const char *name) {
#if defined(__x86_64__)
    if (has_avx512() && is_asked_for(kernels_avx512.name, name)) {
        return &kernels_avx512;
    }
    if (has_avx2() && is_asked_for(kernels_avx2.name, name)) {
        return &kernels_avx2;
    }
#endif
    return is_asked_for(kernels_plain.name, name) ? &kernels_plain : NULL;
}

const struct gemm_kernel *cpu_gemm(const struct kernels *kernels, enum ops_precision precision) {
#if defined(__x86_64__)
    if (kernels == &kernels_avx512) {
        if (has_amx()) {
            return precision == OPS_BF16 ? &gemm_bf16_amx : &gemm_bf16x3_amx;
        }
        if (precision == OPS_BF16 && cpu_bf16_is_fast()) {
            return &gemm_bf16_avx512;
        }
    }
#else
    (void)precision;
#endif
    return &kernels->gemm;
}

const struct many_kernel *cpu_many(const char *name) {
#if defined(__x86_64__)
    if (has_vnni() && is_asked_for(many_int16_avx512vnni.name, name)) {
        return &many_int16_avx512vnni;
    }
    if (has_avxvnni() && is_asked_for(many_int16_avxvnni.name, name)) {
        return &many_int16_avxvnni;
    }
    return has_avx2() && is_asked_for(many_int16_avx2.name, name) ? &many_int16_avx2 : NULL;
#else
    (void)name;
    return NULL;
#endif
}

const struct many_kernel *cpu_gemm_quantised(const struct kernels *kernels, enum ops_precision precision) {
    const bool faster = cpu_gemm(kernels, precision) != &kernels->gemm; /* a matrix unit, or bf16 */
    if (precision == OPS_F32 || faster) {
        return NULL;
    }
    const struct many_kernel *many = cpu_many(kernels == cpu_kernels(NULL) ? NULL : kernels->name);
#if defined(__x86_64__)
    if (kernels == &kernels_avx512 && many != &many_int16_avx512vnni) { /* f32 in 512 bits is faster */
        return NULL;
    }
#endif
    return many;
}

const struct few_int16 *cpu_few_int16(const char *name) {
#if defined(__x86_64__)
    if (has_vnni() && is_asked_for(few_int16_avx512vnni.name, name)) {
        return &few_int16_avx512vnni;
    }
    if (has_avxvnni() && is_asked_for(few_int16_avxvnni.name, name)) {
        return &few_int16_avxvnni;
    }
    return has_avx2() && is_asked_for(few_int16_avx2.name, name) ? &few_int16_avx2 : NULL;
#elif defined(__aarch64__)
    if (has_dotprod() && is_asked_for(few_int16_dotprod.name, name)) {
        return &few_int16_dotprod;
    }
    return limit() >= NEON && is_asked_for(few_int16_neon.name, name) ? &few_int16_neon : NULL;
#else
    (void)name;
    return NULL;
#endif
}

/* Intel's vector units do 16 multiply-adds of bf16 a cycle, 32 of f32 and 64 of 16-bit whole numbers (measured on an Emerald
 * Rapids core; its bf16 is fast in the matrix unit), AMD's 32 of bf16 or more. */
bool cpu_bf16_is_fast(void) {
#if defined(__x86_64__)
    return has_bf16() && (limit() == AVX512BF16 || !__builtin_cpu_is("intel"));
#else
    return false;
#endif
}

const struct few_bf16 *cpu_few_bf16(void) {
#if defined(__x86_64__)
    return has_bf16() ? &few_bf16_avx512 : NULL;
#else
    return NULL;
#endif
}
