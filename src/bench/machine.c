#include "bench/machine.h"

#include <ggml-backend.h>
#include <llama.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "model/model.h"
#include "ops/cpu.h"

/* "CPU : SSE3 = 1 | AVX = 1 | AMX_INT8 = 0 | " -> "SSE3 AVX" */
static void list_features(char *out, size_t max, const char *info) {
    size_t n = 0;
    out[0] = '\0';
    for (const char *at = info; (at = strstr(at, " = 1")) != NULL; at++) {
        const char *name = at;
        while (name > info && name[-1] != ' ') {
            name--;
        }
        const int wrote = snprintf(out + n, max - n, "%s%.*s", n ? " " : "", (int)(at - name), name);
        if (wrote < 0 || (size_t)wrote >= max - n) {
            out[n] = '\0';
            return;
        }
        n += (size_t)wrote;
    }
}

static void list_devices(char *out, size_t max, const struct placement *where) {
    size_t n = 0;
    snprintf(out, max, "CPU");
    for (int i = 0; i < where->n_devices && n < max; i++) {
        n += (size_t)snprintf(out + n, max - n, "%s%s", i ? "," : "", ggml_backend_dev_name(where->devices[i]));
    }
}

static void describe_kernels(struct machine *m, const struct genarm_model *model) {
    const struct kernels *kernels = cpu_kernels(NULL);
    const struct few_int16 *few = cpu_few_int16(NULL);
    const struct many_kernel *quantised = cpu_gemm_quantised(kernels, OPS_BF16);
    const char *product = cpu_gemm(kernels, OPS_BF16)->name;
    char of_quantised[48] = "";
    if (quantised) {
        snprintf(of_quantised, sizeof of_quantised, ", of quantised weights by %s", quantised->name);
    }
    m->has_amx = strstr(product, "amx") != NULL;
    if (model->engine == GENARM_ENGINE_LLAMA) {
        snprintf(m->kernels, sizeof m->kernels, "libllama's");
    } else {
        snprintf(m->kernels, sizeof m->kernels, "%s, few rows by %s%s, many by %s%s", kernels->name,
                 few ? few->name : kernels->name, cpu_bf16_is_fast() ? " and bf16" : "", product, of_quantised);
    }
}

double machine_resident(void) {
    FILE *f = fopen("/proc/self/statm", "r");
    double pages = 0;
    if (f && fscanf(f, "%*s %lf", &pages) != 1) {
        pages = 0;
    }
    if (f) {
        fclose(f);
    }
    return pages * (double)sysconf(_SC_PAGESIZE);
}

void machine_describe(struct machine *m, const struct genarm_model *model) {
    *m = (struct machine){0};
    const ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    snprintf(m->cpu, sizeof m->cpu, "%s", cpu ? ggml_backend_dev_description(cpu) : "unknown processor");
    describe_kernels(m, model);
    snprintf(m->llama, sizeof m->llama, "%s (ggml %s, %s)", llama_version(), ggml_version(), ggml_commit());
    list_features(m->features, sizeof m->features, llama_print_system_info());
    m->llama_has_amx = strstr(m->features, "AMX") != NULL;
    list_devices(m->devices, sizeof m->devices, &model->placement);
}
