/* Products of a few rows with one weight matrix and the adapters of the rows. */
#include <ggml-cpu.h>

#include "engine/fused_parts.h"

enum { INT16_AGAIN = 16384 /* bytes of weights that further rows find in a cache, where nothing is made for many rows */ };

struct input fused_input(const struct fused *f, const struct work *w, const float *x, int64_t n_in, bool outputs_only) {
    const struct fused_batch *b = f->batch;
    struct input in = {.x = x,
                       .n_in = n_in,
                       .n = outputs_only ? b->n_outputs : b->n_rows,
                       .packed = w->packed,
                       .packed_as = PACKED_NOT,
                       .low = w->low,
                       .many = w->many};
    for (int32_t i = 0; i < in.n; i++) {
        const struct row *row = &b->rows[outputs_only ? b->outputs[i] : i];
        in.adapters[i] = row->adapter;
        in.factors[i] = row->factors;
    }
    return in;
}

/* Whether x is not yet packed so; notes that it will be. */
static bool packs_anew(struct input *in, int as) {
    const bool anew = in->packed_as != as;
    in->packed_as = as;
    return anew;
}

static void pack_int16(const struct few_int16 *few, enum few_int16_form form, struct input *in) {
    if (packs_anew(in, PACKED_INT16 + (int)form)) {
        for (int32_t r = 0; r < in->n; r++) {
            few->pack(form, (char *)in->packed + (size_t)r * few->packed_bytes(in->n_in), in->x + r * in->n_in, in->n_in);
        }
    }
}

static void pack_bf16(const struct few_bf16 *few, struct input *in) {
    if (packs_anew(in, PACKED_BF16)) {
        for (int32_t r = 0; r < in->n; r++) {
            few->pack((uint16_t *)in->packed + r * in->n_in, in->x + r * in->n_in, in->n_in);
        }
    }
}

/* For ggml's dot product with weights of a type. */
static void pack_dot(enum ggml_type type, struct input *in) {
    if (type == GGML_TYPE_F32 || !packs_anew(in, (int)type)) {
        return;
    }
    const size_t row = ggml_row_size(type, in->n_in);
    for (int32_t r = 0; r < in->n; r++) {
        ggml_get_type_traits_cpu(type)->from_float(in->x + r * in->n_in, (char *)in->packed + (size_t)r * row, in->n_in);
    }
}

/* The kernel for a few rows with f32 or F16 weights; NULL for other types, and where there is none. */
static few_product_t few_product(const struct fused *f, enum ggml_type type) {
    return type == GGML_TYPE_F16 ? f->kernels->few_product_f16 : type == GGML_TYPE_F32 ? f->kernels->few_product_f32 : NULL;
}

/* low[r][s] = A_s x_r for n rows of an adapter, `step` rows apart from r on, and its rank slots s */
static void shrink_rows(const struct fused *f, const struct ggml_tensor *a, struct input *in, int32_t r, int32_t step,
                        int32_t n) {
    const int32_t *ends = f->params.bank->first_rank + in->adapters[r], total = lora_bank_rank(f->params.bank);
    const few_product_t product = few_product(f, GGML_TYPE_F32);
    if (product) {
        product(in->low + r * total, (int64_t)step * total, a->data, a->nb[1], in->x + r * in->n_in, step * in->n_in, in->n_in, n,
                ends[0], ends[1], NULL);
        return;
    }
    const ggml_vec_dot_t dot = ggml_get_type_traits_cpu(GGML_TYPE_F32)->vec_dot;
    for (int32_t i = r; i < r + n * step; i += step) {
        for (int32_t s = ends[0]; s < ends[1]; s++) {
            dot((int)in->n_in, in->low + i * total + s, 0, (const float *)a->data + s * in->n_in, 0, in->x + i * in->n_in, 0, 1);
        }
    }
}

/* low[r] = mask_r * (A x_r) on the rank slots of row r's adapter. Rows of one adapter meet it together where they are equally far
 * apart, as the policies of several answers are. */
static void shrink(const struct fused *f, const struct lora_stack *stack, struct input *in) {
    const int32_t total = lora_bank_rank(f->params.bank);
    bool done[FUSED_MAX_ROWS] = {false};
    for (int32_t r = 0; r < in->n; r++) {
        const int32_t a = in->adapters[r];
        int32_t step = 1, n = 1;
        if (a < 0 || done[r]) {
            continue;
        }
        while (r + step < in->n && in->adapters[r + step] != a) {
            step++;
        }
        while (r + n * step < in->n && in->adapters[r + n * step] == a) {
            done[r + n++ * step] = true;
        }
        shrink_rows(f, stack->a, in, r, step, n);
        for (int32_t i = r; i < r + n * step; i += step) {
            lora_bank_weigh(f->params.bank, a, in->factors[i], in->low + i * total + f->params.bank->first_rank[a]);
        }
    }
}

/* y_r[j] = w_j x_r by ggml's dot product of the type */
static void dot_product(const struct ggml_tensor *w, struct input *in, float *y, int64_t stride, int64_t first, int64_t end) {
    const struct ggml_type_traits_cpu *traits = ggml_get_type_traits_cpu(w->type);
    const size_t row = ggml_row_size(traits->vec_dot_type, in->n_in);
    pack_dot(traits->vec_dot_type, in);
    const char *x = traits->vec_dot_type == GGML_TYPE_F32 ? (const char *)in->x : in->packed;
    for (int64_t j = first; j < end; j++) {
        const char *wj = (const char *)w->data + (size_t)j * w->nb[1];
        for (int32_t r = 0; r < in->n; r++) {
            traits->vec_dot((int)in->n_in, &y[r * stride + j], 0, wj, 0, x + (size_t)r * row, 0, 1);
        }
    }
}

/* y_r[j] = w_j x_r of any number of rows, some at a time, which find the weights in a cache that those before have read. */
static void int16_product(const struct few_int16 *few, enum few_int16_form form, const struct ggml_tensor *w, struct input *in,
                          float *y, int64_t stride, int64_t first, int64_t end) {
    const size_t packed = few->packed_bytes(in->n_in);
    const int64_t again = INT16_AGAIN / (int64_t)w->nb[1] / 4 * 4, chunk = again > 4 ? again : 4;
    pack_int16(few, form, in);
    for (int64_t j = first, stop; j < end; j = stop) {
        stop = end - j < chunk || in->n <= FEW_INT16_MAX_ROWS ? end : j + chunk;
        for (int32_t r = 0; r < in->n; r += FEW_INT16_MAX_ROWS) {
            const int32_t n = in->n - r < FEW_INT16_MAX_ROWS ? in->n - r : FEW_INT16_MAX_ROWS;
            few->product(y + r * stride, stride, w->data, w->type, w->nb[1], (const char *)in->packed + (size_t)r * packed,
                         in->n_in, n, j, stop);
        }
    }
}

/* The same of more rows, for which it pays to unpack weights into a panel. */
static void many_product(const struct many_kernel *kernel, const struct ggml_tensor *w, struct input *in, float *y,
                         int64_t stride, int64_t first, int64_t end) {
    const struct many_product p = {
        .w = (const char *)w->data + (size_t)first * w->nb[1], .type = w->type, .w_stride = w->nb[1], .n_w = end - first,
        .n = in->n_in, .n_rows = in->n,
        .x = in->x, .y = y + first, .x_stride = (size_t)in->n_in, .y_stride = (size_t)stride,
        .same_x = !packs_anew(in, PACKED_MANY),
    };
    many_run(kernel, &p, in->many, 0, 1);
}

/* y_r[j] = w_j x_r in the way that suits the type and the number of rows */
static void weigh(const struct fused *f, const struct ggml_tensor *w, struct input *in, float *y, int64_t stride, int64_t first,
                  int64_t end) {
    if (first == end) {
        return;
    }
    const bool more = in->n > FEW_INT16_MAX_ROWS, bf16 = f->few_bf16 && f->few_bf16->reads(w->type, in->n_in);
    const bool bf16_is_best = bf16 && more && f->bf16_is_fast;
    const enum few_int16_form form = f->few_int16 ? f->few_int16->form(w->type, in->n_in) : FEW_INT16_NONE;
    if (more && !bf16_is_best && many_reads(f->many, w->type, in->n_in)) {
        many_product(f->many, w, in, y, stride, first, end);
    } else if (few_product(f, w->type)) {
        few_product(f, w->type)(y, stride, w->data, w->nb[1], in->x, in->n_in, in->n_in, in->n, first, end, NULL);
    } else if (form != FEW_INT16_NONE && !bf16_is_best) {
        int16_product(f->few_int16, form, w, in, y, stride, first, end);
    } else if (bf16) {
        pack_bf16(f->few_bf16, in);
        f->few_bf16->product(y, stride, w->data, w->type, w->nb[1], in->packed, in->n_in, in->n_in, in->n, first, end);
    } else {
        dot_product(w, in, y, stride, first, end);
    }
}

void fused_product(const struct fused *f, const struct ggml_tensor *w, const struct ggml_tensor *bias,
                   const struct lora_stack *stack, struct input *in, float *y, int64_t stride, int64_t first, int64_t end) {
    const bool lora = stack && stack->a;
    const int32_t total = lora ? lora_bank_rank(f->params.bank) : 0;
    if (lora) {
        shrink(f, stack, in);
    }
    weigh(f, w, in, y, stride, first, end);
    for (int32_t r = 0; r < in->n; r++) {
        float *yr = y + r * stride;
        for (int64_t j = first; bias && j < end; j++) {
            yr[j] += ((const float *)bias->data)[j];
        }
        const int32_t a = lora ? in->adapters[r] : ENGINE_NO_ADAPTER;
        if (a >= 0) {
            const int64_t slot = f->params.bank->first_rank[a], n_out = stack->b_slots->ne[0];
            f->kernels->add_scaled(yr + first, in->low + r * total + slot,
                                   (const float *)stack->b_slots->data + slot * n_out + first, n_out, end - first,
                                   f->params.bank->first_rank[a + 1] - slot);
        }
    }
}
