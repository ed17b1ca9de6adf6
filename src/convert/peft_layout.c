/* How PEFT names what GGUF calls blk.N.attn_q.weight, and in which order each keeps rows. */
#include <stdio.h>
#include <string.h>

#include "convert/peft.h"

static const char *const modules[LINEAR_COUNT] = {
    [LINEAR_Q] = "self_attn.q_proj",  [LINEAR_K] = "self_attn.k_proj", [LINEAR_V] = "self_attn.v_proj",
    [LINEAR_O] = "self_attn.o_proj",  [LINEAR_GATE] = "mlp.gate_proj", [LINEAR_UP] = "mlp.up_proj",
    [LINEAR_DOWN] = "mlp.down_proj",
};

const char *peft_module_path(enum linear l) { return modules[l]; }
const char *peft_module_name(enum linear l) { return strchr(modules[l], '.') + 1; }

static bool skip(const char **text, const char *prefix) {
    const size_t n = strlen(prefix);
    if (strncmp(*text, prefix, n) != 0) {
        return false;
    }
    *text += n;
    return true;
}

bool peft_parse_name(struct peft_place *p, char *module, const char *name) {
    int layer = -1, used = 0;
    const char *at = name;
    if (!skip(&at, "base_model.model.")) {
        return false;
    }
    const char *path = at;
    skip(&at, "model.");
    if (sscanf(at, "layers.%8d.%n", &layer, &used) != 1 || used == 0 || layer < 0) {
        return false;
    }
    at += used;
    int l = 0;
    while (l < LINEAR_COUNT && !skip(&at, modules[l])) {
        l++;
    }
    const bool is_b = strcmp(at, ".lora_B.weight") == 0;
    if (l == LINEAR_COUNT || (!is_b && strcmp(at, ".lora_A.weight") != 0) || at - path >= PEFT_NAME_MAX) {
        return false;
    }
    *p = (struct peft_place){.layer = layer, .linear = (enum linear)l, .is_b = is_b};
    if (module) {
        snprintf(module, PEFT_NAME_MAX, "%.*s", (int)(at - path), path);
    }
    return true;
}

void peft_tensor_name(char *name, const struct peft_place *p) {
    snprintf(name, PEFT_NAME_MAX, "base_model.model.model.layers.%d.%s.lora_%c.weight", p->layer, modules[p->linear],
             p->is_b ? 'B' : 'A');
}

/* ---- rows ---- */

int32_t peft_permuted_heads(const struct hparams *hp, enum linear l) {
    if (hp->arch != ARCH_LLAMA) {
        return 0;
    }
    return l == LINEAR_Q ? hp->n_head : l == LINEAR_K ? hp->n_head_kv : 0;
}

/* Row of PyTorch that is GGUF's row `row`: pair p of a head is (2p, 2p + 1) there and (p, p + half) here. */
static int64_t pytorch_row(int64_t row, int64_t head_size) {
    const int64_t in_head = row % head_size;
    return row - in_head + in_head / 2 + in_head % 2 * (head_size / 2);
}

void peft_rows_to_gguf(float *to, const float *from, int64_t n_rows, int64_t width, int32_t n_heads) {
    for (int64_t i = 0; i < n_rows; i++) {
        memcpy(to + i * width, from + pytorch_row(i, n_rows / n_heads) * width, (size_t)width * sizeof *to);
    }
}

void peft_rows_from_gguf(float *to, const float *from, int64_t n_rows, int64_t width, int32_t n_heads) {
    for (int64_t i = 0; i < n_rows; i++) {
        memcpy(to + pytorch_row(i, n_rows / n_heads) * width, from + i * width, (size_t)width * sizeof *to);
    }
}
