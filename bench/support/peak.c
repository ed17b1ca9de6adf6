#include "peak.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/progress.h"

enum { STEPS = 400000, CHAINS = 12, MAX_THREADS = 64, TILE_CALLS = 4000, TILE_DEPTH = 256 };

struct job {
    const struct gemm_kernel *kernel;
    double flop;
    float sink; /* so that no compiler drops the loop */
};

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static void multiply_avx512(struct job *job) {
    __m512 a[CHAINS];
    const __m512 x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(1e-3f);
    for (int i = 0; i < CHAINS; i++) {
        a[i] = _mm512_set1_ps((float)i);
    }
    for (int n = 0; n < STEPS; n++) {
        for (int i = 0; i < CHAINS; i++) {
            a[i] = _mm512_fmadd_ps(a[i], x, y);
        }
    }
    for (int i = 0; i < CHAINS; i++) {
        job->sink += _mm512_reduce_add_ps(a[i]);
    }
    job->flop = 32.0 * STEPS * CHAINS;
}

__attribute__((target("avx512f,avx512bf16"))) static void multiply_avx512bf16(struct job *job) {
    __m512 a[CHAINS];
    const __m512bh x = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5f), _mm512_set1_ps(-0.5f));
    const __m512bh y = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.25f), _mm512_set1_ps(0.125f));
    for (int i = 0; i < CHAINS; i++) {
        a[i] = _mm512_set1_ps((float)i);
    }
    for (int n = 0; n < STEPS; n++) {
        for (int i = 0; i < CHAINS; i++) {
            a[i] = _mm512_dpbf16_ps(a[i], x, y);
        }
    }
    for (int i = 0; i < CHAINS; i++) {
        job->sink += _mm512_reduce_add_ps(a[i]);
    }
    job->flop = 64.0 * STEPS * CHAINS;
}

__attribute__((target("avx2,fma"))) static void multiply_avx2(struct job *job) {
    __m256 a[CHAINS];
    const __m256 x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(1e-3f);
    for (int i = 0; i < CHAINS; i++) {
        a[i] = _mm256_set1_ps((float)i);
    }
    for (int n = 0; n < STEPS; n++) {
        for (int i = 0; i < CHAINS; i++) {
            a[i] = _mm256_fmadd_ps(a[i], x, y);
        }
    }
    for (int i = 0; i < CHAINS; i++) {
        job->sink += _mm256_cvtss_f32(a[i]);
    }
    job->flop = 16.0 * STEPS * CHAINS;
}
#endif

static void multiply_plain(struct job *job) {
    typedef float quad __attribute__((vector_size(16)));
    quad a[CHAINS];
    for (int i = 0; i < CHAINS; i++) {
        a[i] = (quad){(float)i, 1, 2, 3};
    }
    for (int n = 0; n < STEPS; n++) {
        for (int i = 0; i < CHAINS; i++) {
            a[i] = a[i] * 0.999f + 1e-3f;
        }
    }
    for (int i = 0; i < CHAINS; i++) {
        job->sink += a[i][0];
    }
    job->flop = 8.0 * STEPS * CHAINS;
}

static void multiply_tile(struct job *job) {
    const struct gemm_kernel *k = job->kernel;
    _Alignas(GEMM_ALIGN) static _Thread_local unsigned char a[GEMM_MAX_MR * TILE_DEPTH * 4], b[GEMM_MAX_NR * TILE_DEPTH * 4];
    _Alignas(GEMM_ALIGN) float c[GEMM_MAX_MR * GEMM_MAX_NR];
    _Alignas(GEMM_ALIGN) unsigned char state[GEMM_ALIGN];
    if (k->begin) {
        k->begin(state);
    }
    for (int i = 0; i < TILE_CALLS; i++) {
        k->tile(TILE_DEPTH, a, b, c, (size_t)k->nr, k->mr, k->nr, false);
    }
    if (k->end) {
        k->end(state);
    }
    job->sink = c[0];
    job->flop = 2.0 * k->mr * k->nr * TILE_DEPTH * TILE_CALLS;
}

static void *thread(void *user) {
    struct job *job = user;
    const struct {
        const char *name;
        void (*multiply)(struct job *job);
    } loops[] = {
#if defined(__x86_64__)
        {"avx512", multiply_avx512},
        {"avx512bf16", multiply_avx512bf16},
        {"avx2", multiply_avx2},
#endif
        {"plain", multiply_plain},
    };
    for (size_t i = 0; i < sizeof loops / sizeof *loops; i++) {
        if (strcmp(job->kernel->name, loops[i].name) == 0) {
            loops[i].multiply(job);
            return NULL;
        }
    }
    multiply_tile(job);
    return NULL;
}

/* ---- arithmetic ---- */

double peak_gflops(const struct gemm_kernel *kernel, int n_threads) {
    pthread_t threads[MAX_THREADS];
    struct job jobs[MAX_THREADS];
    double flop = 0;
    const double start = clock_seconds();
    for (int i = 0; i < n_threads; i++) {
        jobs[i] = (struct job){.kernel = kernel};
        pthread_create(&threads[i], NULL, thread, &jobs[i]);
    }
    for (int i = 0; i < n_threads; i++) {
        pthread_join(threads[i], NULL);
        flop += jobs[i].flop;
    }
    return 1e-9 * flop / (clock_seconds() - start);
}
