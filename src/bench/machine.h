/* What a measurement was made on and with: without it a number says nothing. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <stdbool.h>

#include "genarm/model.h"

struct machine {
    char cpu[128];      /* "AMD EPYC 9654" */
    char kernels[128];  /* of genarm's engine: "avx512, few rows by avx512vnni and bf16, many by avx512bf16"; "libllama's" */
    char llama[96];     /* version and commit of libllama and ggml */
    char features[512]; /* what libllama was compiled to use: "SSE3 AVX AVX2 ..." */
    char devices[256];  /* that hold layers: "CUDA0,RPC0"; "CPU" */
    bool has_amx;       /* this processor has a matrix unit that may be used */
    bool llama_has_amx; /* libllama was compiled to use one */
};

/* Bytes of this process that are in memory, mapped files included; 0 where the system does not tell. */
double machine_resident(void);

void machine_describe(struct machine *m, const struct genarm_model *model);

/* Whether no other build of libllama could be faster here for what we know: it uses the matrix unit if there is one. */
static inline bool machine_llama_is_fastest(const struct machine *m) { return !m->has_amx || m->llama_has_amx; }

#endif
