#include "ops/ops.h"

#include <ggml-backend.h>
#include <stdlib.h>

#include "ops/cpu.h"
#include "ops/node.h"

struct ops_params ops_default_params(void) { return (struct ops_params){.n_threads = 1}; }

static size_t scratch_bytes(void) {
    const size_t sizes[] = {gemm_scratch_bytes(), many_scratch_bytes(), attention_scratch_bytes(ATTENTION_MAX_HEAD)};
    size_t most = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        most = sizes[i] > most ? sizes[i] : most;
    }
    return (most + GEMM_ALIGN - 1) / GEMM_ALIGN * GEMM_ALIGN;
}

int ops_new(struct ops **out, const struct ops_params *params, struct genarm_error *err) {
    const struct ops_params p = params ? *params : ops_default_params();
    if (p.n_threads < 1) {
        return error_set(err, GENARM_EINVAL, "%d threads", p.n_threads);
    }
    const int rc = cpu_check_limit(err);
    if (rc != GENARM_OK) {
        return rc;
    }
    const struct kernels *kernels = cpu_kernels(p.instructions);
    if (!kernels) {
        return error_set(err, GENARM_EUNSUPPORTED, "this processor has no %s instructions", p.instructions);
    }
    struct ops *ops = calloc(1, sizeof(*ops));
    if (!ops) {
        return error_nomem(err, "compute operations");
    }
    ops->params = p;
    ops->kernels = kernels;
    ops->gemm = cpu_gemm(kernels, p.precision);
    ops->many = cpu_gemm_quantised(kernels, p.precision);
    ops->scratch = calloc((size_t)p.n_threads, sizeof(*ops->scratch));
    for (int i = 0; ops->scratch && i < p.n_threads; i++) {
        ops->scratch[i] = aligned_alloc(GEMM_ALIGN, scratch_bytes()); /* pages count only once they are touched */
        if (!ops->scratch[i]) {
            ops_free(ops);
            return error_nomem(err, "the scratch of compute threads");
        }
    }
    if (!ops->scratch) {
        ops_free(ops);
        return error_nomem(err, "compute operations");
    }
    *out = ops;
    return GENARM_OK;
}

void ops_free(struct ops *ops) {
    if (!ops) {
        return;
    }
    for (int i = 0; ops->scratch && i < ops->params.n_threads; i++) {
        free(ops->scratch[i]);
    }
    free(ops->scratch);
    free(ops);
}

const char *ops_gemm_name(const struct ops *ops) { return ops->gemm->name; }

bool ops_reads_weight(const struct ggml_tensor *w) {
    const bool convertible = w->type == GGML_TYPE_F32 || ggml_get_type_traits(w->type)->to_float != NULL;
    const bool laid_out = w->nb[0] == ggml_type_size(w->type) && w->ne[2] == 1 && w->ne[3] == 1;
    return convertible && laid_out && (!w->buffer || ggml_backend_buffer_is_host(w->buffer));
}

struct ggml_tensor *op_part(struct ggml_context *ctx, struct ggml_tensor *t, int64_t first, int64_t n) {
    GGML_ASSERT(first >= 0 && n > 0 && first + n <= t->ne[0]);
    return ggml_view_2d(ctx, t, n, t->ne[1], t->nb[1], (size_t)first * sizeof(float));
}
