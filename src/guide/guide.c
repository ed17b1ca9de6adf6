#include "guide/guide.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "guide/share.h"

enum { DEFAULT_CTX_MAX = 4096 };

struct genarm_guide_params genarm_guide_default_params(void) {
    return (struct genarm_guide_params){.n_slots = 1, .n_ctx = 0, .n_batch = 512, .n_threads = 0, .template_name = NULL};
}

static int copy_string(char **out, const char *s, struct genarm_error *err) {
    *out = s ? strdup(s) : NULL;
    return s && !*out ? error_nomem(err, "a name") : GENARM_OK;
}

int guide_check_weight(float weight, struct genarm_error *err) {
    if (!isfinite(weight)) {
        return error_set(err, GENARM_EINVAL, "weight %g is not a finite number", (double)weight);
    }
    return GENARM_OK;
}

int guide_check_template(const struct genarm_model *model, const char *name, struct genarm_error *err) {
    const struct genarm_message hello = {.role = "user", .content = "Hello"};
    char *text = NULL;
    const int rc = genarm_template_apply(&text, model, name, &hello, 1, err);
    free(text);
    return rc;
}

int guide_add_policy(struct genarm_guide *g, const struct genarm_arm_params *arm, enum policy_use use, struct genarm_error *err) {
    const bool hidden = use == POLICY_AHEAD_HIDDEN;
    struct policy p = {.model = arm->model, .adapter = arm->adapter, .weight = arm->weight,
                       .minus_reference = arm->minus_reference, .reference = -1, .ahead = use != POLICY_MIXED,
                       .adapter_index = ENGINE_NO_ADAPTER};
    int rc = copy_string(&p.name, arm->name, err);
    if (rc == GENARM_OK) {
        rc = copy_string(&p.template_name, arm->template_name, err);
    }
    if (rc != GENARM_OK) {
        free(p.name);
        return rc;
    }
    for (p.engine = 0; p.engine < g->n_engines; p.engine++) {
        if (g->engines[p.engine].model == p.model && g->engines[p.engine].hidden == hidden) {
            break;
        }
    }
    if (p.engine == g->n_engines) {
        g->engines[g->n_engines++] = (struct guide_engine){.model = p.model, .hidden = hidden};
    }
    p.first_seq = g->engines[p.engine].n_policies++;
    if (policy_objectives(&p)) {
        objectives_prefer_evenly(&p.preference, policy_objectives(&p));
    }
    g->policies[g->n_policies++] = p;
    return GENARM_OK;
}

static int check_base_adapter(const struct genarm_model *base, const struct genarm_adapter *adapter, struct genarm_error *err) {
    if (adapter && adapter->model != base) {
        return error_set(err, GENARM_EINVAL, "the base's adapter was loaded for another model");
    }
    if (adapter && adapter->info.head) {
        const int rc = error_set(err, GENARM_EINVAL, "the adapter is a reward model of whole responses: it generates nothing");
        return error_at(err, rc, "%s", adapter->path);
    }
    return GENARM_OK;
}

int genarm_guide_new(struct genarm_guide **out, const struct genarm_model *base, const struct genarm_guide_params *params,
                     struct genarm_error *err) {
    const struct genarm_guide_params p = params ? *params : genarm_guide_default_params();
    if (p.n_slots < 1 || p.n_ctx < 0 || p.n_batch < 1 || p.n_threads < 0) {
        return error_set(err, GENARM_EINVAL, "%d slots, context %d, batch %d, %d threads: out of range", p.n_slots, p.n_ctx,
                         p.n_batch, p.n_threads);
    }
    int rc = check_base_adapter(base, p.base_adapter, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    const char *recorded = p.base_adapter ? p.base_adapter->info.template_ : NULL;
    const struct genarm_arm_params policy = {.name = "base", .model = base, .adapter = p.base_adapter, .weight = 1.0f,
                                             .template_name = p.template_name ? p.template_name : recorded};
    struct genarm_guide *g = calloc(1, sizeof *g);
    if (!g) {
        return error_nomem(err, "a guide");
    }
    g->params = p;
    g->slots = calloc((size_t)p.n_slots, sizeof *g->slots);
    rc = g->slots ? guide_check_template(base, policy.template_name, err) : error_nomem(err, "a guide");
    if (rc == GENARM_OK) {
        rc = guide_add_policy(g, &policy, POLICY_MIXED, err);
    }
    if (rc != GENARM_OK) {
        genarm_guide_free(g);
        return rc;
    }
    *out = g;
    return GENARM_OK;
}

const char *guide_template(const struct genarm_guide *g, const struct genarm_arm_params *arm) {
    if (arm->template_name) {
        return arm->template_name;
    }
    if (arm->adapter && arm->adapter->info.template_) {
        return arm->adapter->info.template_;
    }
    return g->policies[0].template_name;
}

int genarm_guide_add_arm(struct genarm_guide *g, const struct genarm_arm_params *arm, struct genarm_error *err) {
    if (!arm->name || !*arm->name || genarm_guide_find_arm(g, arm->name) >= 0) {
        return error_set(err, GENARM_EINVAL, "an ARM needs a name of its own, not \"%s\"", arm->name ? arm->name : "");
    }
    if (g->n_arms == GUIDE_MAX_ARMS || g->engines[0].engine) {
        return error_set(err, GENARM_EINVAL, g->engines[0].engine ? "ARMs are added before the first session"
                                                                  : "more than 64 ARMs");
    }
    if (arm->adapter && arm->adapter->model != arm->model) {
        return error_set(err, GENARM_EINVAL, "adapter of ARM \"%s\" was loaded for another model", arm->name);
    }
    int rc = guide_check_weight(arm->weight, err);
    if (rc == GENARM_OK && arm->minus_reference && !arm->adapter) {
        rc = error_set(err, GENARM_EINVAL, "it is a model without an adapter: it has no reference to be counted relative to");
        error_hint(err, rc, "make the model that it was trained from another ARM, with the opposite weight");
    }
    if (rc == GENARM_OK && arm->adapter && arm->adapter->info.head) {
        rc = error_set(err, GENARM_EINVAL, "its adapter is a reward model of whole responses: it gives tokens no rewards");
        error_hint(err, rc, "train an ARM with --loss arm; whole responses are rewarded by genarm score --reward");
    }
    if (rc == GENARM_OK && arm->model != g->policies[0].model) {
        int32_t n_common = 0;
        rc = model_vocab_compare(g->policies[0].model, arm->model, &n_common, err);
    }
    struct genarm_arm_params resolved = *arm;
    resolved.template_name = guide_template(g, arm);
    rc = rc == GENARM_OK ? guide_check_template(arm->model, resolved.template_name, err) : rc;
    rc = rc == GENARM_OK ? guide_add_policy(g, &resolved, POLICY_MIXED, err) : error_at(err, rc, "ARM %s", arm->name);
    g->n_arms += rc == GENARM_OK;
    return rc;
}

static bool same_text(const char *a, const char *b) { return a == b || (a && b && strcmp(a, b) == 0); }

/* A policy that is the model without an adapter under the same template; -1: there is none. */
static int32_t find_reference(const struct genarm_guide *g, const struct policy *arm) {
    for (int32_t i = 0; i < g->n_policies; i++) {
        const struct policy *p = &g->policies[i];
        if (p->model == arm->model && !p->adapter && !p->ahead && same_text(p->template_name, arm->template_name)) {
            return i;
        }
    }
    return -1;
}

/* Every reference that is needed: a policy that is run anyway, or one more. */
static int add_references(struct genarm_guide *g, struct genarm_error *err) {
    for (int32_t i = 1; i <= g->n_arms; i++) {
        struct policy *arm = &g->policies[i];
        if (!arm->minus_reference) {
            continue;
        }
        arm->reference = find_reference(g, arm);
        if (arm->reference < 0) {
            const struct genarm_arm_params params = {
                .name = arm->name, .model = arm->model, .template_name = arm->template_name};
            const int rc = guide_add_policy(g, &params, POLICY_MIXED, err);
            if (rc != GENARM_OK) {
                return rc;
            }
            arm->reference = g->n_policies - 1;
        }
    }
    return GENARM_OK;
}

static int32_t smallest_context(const struct genarm_guide *g) {
    int32_t n = DEFAULT_CTX_MAX;
    for (int32_t i = 0; i < g->n_engines; i++) {
        n = g->engines[i].model->hp.n_ctx_train < n ? g->engines[i].model->hp.n_ctx_train : n;
    }
    return n;
}

static int start_engines(struct genarm_guide *g, struct genarm_error *err) {
    g->params.n_ctx = g->params.n_ctx ? g->params.n_ctx : smallest_context(g);
    int rc = engine_threads_new(&g->threads, g->params.n_threads, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    for (int32_t i = 0; i < g->n_engines; i++) {
        const struct genarm_model *model = g->engines[i].model;
        if (g->params.n_ctx > model->hp.n_ctx_train) {
            log_line(GENARM_LOG_WARN, "%s was trained for %d tokens, not for a context of %d: beyond them its text loses its "
                     "sense",
                     model->path, model->hp.n_ctx_train, g->params.n_ctx);
        }
        const int32_t n_seq = g->engines[i].n_policies + g->engines[i].n_branches; /* of a slot */
        const struct engine_params params = {.n_seq = g->params.n_slots * n_seq, .n_ctx = g->params.n_ctx,
                                             .hidden = g->engines[i].hidden, .n_batch = g->params.n_batch,
                                             .n_threads = g->threads->n,
                                             .threads = g->threads, .kv_type = g->params.kv_type};
        rc = engine_new(&g->engines[i].engine, g->engines[i].model, &params, err);
        if (rc != GENARM_OK) {
            return error_at(err, rc, "%s", g->engines[i].model->path);
        }
    }
    for (int32_t i = 0; i < g->n_policies; i++) {
        struct policy *p = &g->policies[i];
        if (p->adapter) {
            int index = engine_add_adapter(g->engines[p->engine].engine, p->adapter, err);
            if (index < 0) {
                return error_at(err, index, "%s", p->adapter->path);
            }
            p->adapter_index = index;
        }
    }
    return GENARM_OK;
}

static void stop_engines(struct genarm_guide *g) {
    for (int32_t i = 0; i < g->n_engines; i++) {
        engine_free(g->engines[i].engine);
        g->engines[i].engine = NULL;
    }
    engine_threads_free(g->threads);
    g->threads = NULL;
}

int guide_start(struct genarm_guide *g, struct genarm_error *err) {
    if (g->engines[0].engine) {
        return GENARM_OK;
    }
    int rc = add_references(g, err);
    if (rc == GENARM_OK && g->lookahead) {
        rc = g->lookahead->vtable->start(g->lookahead, g, err);
    }
    rc = rc == GENARM_OK ? start_engines(g, err) : rc;
    if (rc != GENARM_OK) {
        stop_engines(g);
    }
    return rc;
}

int guide_refresh_adapters(struct genarm_guide *g, struct genarm_error *err) {
    int rc = GENARM_OK;
    slots_forget(g);
    for (int32_t i = 0; i < g->n_engines && rc == GENARM_OK; i++) {
        rc = g->engines[i].engine ? engine_refresh_adapters(g->engines[i].engine, err) : GENARM_OK;
    }
    return rc;
}

int guide_forward(struct genarm_guide *g, int32_t engine, size_t n_rows, float *logits, struct genarm_error *err) {
    g->stats.n_evaluated += (int64_t)n_rows;
    return engine_forward(g->engines[engine].engine, g->rows, (int32_t)n_rows, logits, err);
}

void genarm_guide_get_stats(const struct genarm_guide *g, struct genarm_guide_stats *stats) { *stats = g->stats; }

int guide_reserve(struct genarm_guide *g, size_t n_rows, size_t n_logits, struct genarm_error *err) {
    if (n_rows > g->rows_max) {
        struct row *rows = realloc(g->rows, n_rows * sizeof *rows);
        if (!rows) {
            return error_nomem(err, "a batch");
        }
        g->rows = rows;
        g->rows_max = n_rows;
    }
    if (n_logits > g->logits_max) {
        float *logits = realloc(g->logits, n_logits * sizeof *logits);
        if (!logits) {
            return error_nomem(err, "logits");
        }
        g->logits = logits;
        g->logits_max = n_logits;
    }
    return GENARM_OK;
}

void genarm_guide_free(struct genarm_guide *g) {
    if (!g) {
        return;
    }
    stop_engines(g);
    if (g->lookahead) {
        g->lookahead->vtable->free(g->lookahead);
    }
    for (int32_t i = 0; i < g->n_policies; i++) {
        free(g->policies[i].name);
        free(g->policies[i].template_name);
    }
    slots_free(g);
    free(g->rows);
    free(g->logits);
    free(g);
}

int32_t genarm_guide_n_arms(const struct genarm_guide *g) { return g->n_arms; }

const char *genarm_guide_arm_name(const struct genarm_guide *g, int32_t i) { return g->policies[i + 1].name; }

int32_t genarm_guide_find_arm(const struct genarm_guide *g, const char *name) {
    for (int32_t i = 1; i <= g->n_arms; i++) {
        if (strcmp(g->policies[i].name, name) == 0) {
            return i - 1;
        }
    }
    return -1;
}

int genarm_guide_set_weight(struct genarm_guide *g, int32_t i, float weight, struct genarm_error *err) {
    if (i < 0 || i >= genarm_guide_n_arms(g)) {
        return error_set(err, GENARM_EINVAL, "there is no ARM %d", i);
    }
    int rc = guide_check_weight(weight, err);
    if (rc == GENARM_OK) {
        g->policies[i + 1].weight = weight;
    }
    return rc;
}

int guide_read_preference(const struct genarm_guide *g, int32_t i, const float *weights, size_t n, struct objective_weights *p,
                          struct genarm_error *err) {
    static const struct objectives none = {0};
    if (i < 0 || i >= genarm_guide_n_arms(g)) {
        return error_set(err, GENARM_EINVAL, "there is no ARM %d", i);
    }
    const struct objectives *o = policy_objectives(&g->policies[i + 1]);
    return objectives_prefer(p, o ? o : &none, weights, n, err);
}

int genarm_guide_set_preference(struct genarm_guide *g, int32_t i, const float *weights, size_t n, struct genarm_error *err) {
    struct objective_weights p;
    const int rc = guide_read_preference(g, i, weights, n, &p, err);
    if (rc == GENARM_OK) {
        g->policies[i + 1].preference = p;
    }
    return rc;
}

const float *genarm_guide_preference(const struct genarm_guide *g, int32_t i) {
    return policy_objectives(&g->policies[i + 1]) ? g->policies[i + 1].preference.weights : NULL;
}
