/* adapter_config.json: which of PEFT's options a LoRA file can say, and what the rest do.
 *
 * The names are those of PEFT's LoraConfig (0.21). Options that only say how the adapter was trained are passed over,
 * among them fan_in_fan_out: PEFT stores A and B in the same shapes either way, and turns it off for the linear maps of
 * the models that are read here. */
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "convert/peft.h"

enum { MAX_CONFIG = 16 << 20 /* bytes */, MAX_RANK = 1 << 16 };

/* Options that change what is computed. Not given, null, false, "none" and empty, they change nothing. */
static const struct {
    const char *key, *what, *hint;
} refused[] = {
    {"use_dora", "DoRA, which also rescales the weights", "merge the adapter into its model with PEFT instead"},
    {"bias", "biases that were trained", "train with bias=\"none\""},
    {"modules_to_save", "modules that were trained whole",
     "train with LoRA alone, without modules_to_save; only the head of a reward model (\"" PEFT_HEAD_MODULE "\") can be one"},
    {"lora_bias", "a bias of B", "train with lora_bias=False"},
    {"trainable_token_indices", "trained token embeddings", "train with LoRA on the linear maps alone"},
    {"target_parameters", "adapted parameters that are no linear map", NULL},
    {"layer_replication", "a model with repeated layers", NULL},
    {"alora_invocation_tokens", "activated LoRA", NULL},
    {"use_qalora", "QALoRA", NULL},
    {"use_bdlora", "block-diagonal LoRA", NULL},
    {"arrow_config", "a router over adapters", NULL},
    {"kasa_config", "KaSA", NULL},
    {"monteclora_config", "Monte Carlo LoRA", NULL},
    {"megatron_config", "an adapter split for Megatron", NULL},
};

static const char *const passed_over[] = {
    "peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "target_modules",
    "base_model_name_or_path", "init_lora_weights", "task_type", "peft_version", "auto_mapping", "revision",
    "inference_mode", "lora_dropout", "fan_in_fan_out", "exclude_modules", "layers_to_transform", "layers_pattern",
    "megatron_core", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "velora_config", "runtime_config",
    "qalora_group_size", "ensure_weight_tying",
};

/* ---- options ---- */

static bool says_nothing(const json_t *value) {
    return !value || json_is_null(value) || json_is_false(value) ||
           (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0) ||
           (json_is_string(value) && strcmp(json_string_value(value), "none") == 0);
}

/* Whether modules_to_save names heads of classifiers alone: PEFT adds both names to what is trained for SEQ_CLS. */
static bool saves_heads_only(const json_t *modules) {
    bool heads = json_array_size(modules) > 0;
    for (size_t i = 0; i < json_array_size(modules); i++) {
        const char *name = json_string_value(json_array_get(modules, i));
        heads = heads && name && (strcmp(name, PEFT_HEAD_MODULE) == 0 || strcmp(name, "classifier") == 0);
    }
    return heads;
}

static int check_refused(const struct peft_config *c, struct genarm_error *err) {
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        const json_t *value = json_object_get(c->root, refused[i].key);
        const bool head = strcmp(refused[i].key, "modules_to_save") == 0 && saves_heads_only(value);
        if (!head && !says_nothing(value)) {
            const int rc = error_set(err, GENARM_EUNSUPPORTED, "the adapter has %s: %s, which a LoRA file cannot say",
                                     refused[i].key, refused[i].what);
            return refused[i].hint ? error_hint(err, rc, "%s", refused[i].hint) : rc;
        }
    }
    return GENARM_OK;
}

/* Initialisations such as PiSSA's change the base model: the adapter alone means nothing then. */
static int check_init(const struct peft_config *c, struct genarm_error *err) {
    static const char *const harmless[] = {"gaussian", "eva", "orthogonal"};
    const json_t *value = json_object_get(c->root, "init_lora_weights");
    if (!json_is_string(value)) {
        return GENARM_OK;
    }
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++) {
        if (strcmp(json_string_value(value), harmless[i]) == 0) {
            return GENARM_OK;
        }
    }
    const int rc = error_set(err, GENARM_EUNSUPPORTED,
                             "the adapter has init_lora_weights \"%.40s\", which changes the base model",
                             json_string_value(value));
    return error_hint(err, rc, "save it with path_initial_model_for_weight_conversion, for the unchanged base model");
}

static void warn_unknown(const struct peft_config *c) {
    const char *key;
    json_t *value;
    json_object_foreach(c->root, key, value) {
        bool known = says_nothing(value);
        for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
            known = known || strcmp(key, refused[i].key) == 0;
        }
        for (size_t i = 0; i < sizeof passed_over / sizeof *passed_over; i++) {
            known = known || strcmp(key, passed_over[i]) == 0;
        }
        if (!known) {
            log_line(GENARM_LOG_WARN, "%s: the option %.60s is not known and has no effect", c->where, key);
        }
    }
}

static int wrong(struct genarm_error *err, const char *key, const char *want) {
    return error_set(err, GENARM_EFORMAT, "\"%s\" must be %s", key, want);
}

/* A pattern's key is a regular expression in PEFT; names and what PEFT writes are all that is read here. */
static int check_pattern(const struct peft_config *c, const char *option, const json_t **out, bool whole,
                         struct genarm_error *err) {
    const char *key;
    json_t *value, *object = json_object_get(c->root, option);
    if (says_nothing(object)) {
        return GENARM_OK;
    }
    if (!json_is_object(object)) {
        return wrong(err, option, "an object");
    }
    json_object_foreach(object, key, value) {
        if (strpbrk(key[0] == '^' ? key + 1 : key, "^$*+?()[]{}|\\")) {
            const int rc = error_set(err, GENARM_EUNSUPPORTED, "%s: \"%.80s\" is a regular expression", option, key);
            return error_hint(err, rc, "name the modules instead");
        }
        if (whole ? !json_is_integer(value) : !json_is_number(value)) {
            return error_set(err, GENARM_EFORMAT, "%s: \"%.80s\" must be a %s", option, key,
                             whole ? "whole number" : "number");
        }
    }
    *out = object;
    return GENARM_OK;
}

static int read_targets(struct peft_config *c, struct genarm_error *err) {
    const json_t *targets = json_object_get(c->root, "target_modules");
    for (size_t i = 0; i < json_array_size(targets); i++) {
        if (!json_is_string(json_array_get(targets, i))) {
            return wrong(err, "target_modules", "a list of names");
        }
    }
    /* A text is a regular expression or "all-linear": the tensors say what came of it. */
    c->targets = json_array_size(targets) > 0 ? targets : NULL;
    return GENARM_OK;
}

static int check_type(const struct peft_config *c, struct genarm_error *err) {
    const char *type;
    int rc = json_get_string(&type, c->root, "peft_type", c->where, err);
    if (rc == GENARM_OK && strcmp(type, "LORA") != 0) {
        rc = error_set(err, GENARM_EUNSUPPORTED, "a PEFT adapter of type %.40s, not LORA", type);
    }
    return rc;
}

static int read_numbers(struct peft_config *c, struct genarm_error *err) {
    const json_t *rslora = json_object_get(c->root, "use_rslora");
    int rc = json_opt_integer(&c->rank, c->root, "r", 8, c->where, err); /* 8: PEFT's defaults */
    rc = rc == GENARM_OK ? json_opt_number(&c->alpha, c->root, "lora_alpha", 8, c->where, err) : rc;
    if (rc == GENARM_OK && (c->rank < 1 || c->rank > MAX_RANK)) {
        rc = error_set(err, GENARM_EFORMAT, "r is %lld", c->rank);
    }
    if (rc == GENARM_OK && rslora && !json_is_boolean(rslora) && !json_is_null(rslora)) {
        rc = wrong(err, "use_rslora", "true or false");
    }
    c->rslora = json_is_true(rslora);
    return rc;
}

int peft_config_read(struct peft_config *c, const char *path, struct genarm_error *err) {
    struct peft_config read = {.where = path};
    const char *task = NULL;
    struct buf text;
    buf_init(&text, MAX_CONFIG);
    int rc = file_read(&text, path, err);
    rc = rc == GENARM_OK ? json_parse(&read.root, text.data, text.len, path, err) : rc;
    buf_deinit(&text);
    rc = rc == GENARM_OK ? check_type(&read, err) : rc;
    rc = rc == GENARM_OK ? check_refused(&read, err) : rc;
    rc = rc == GENARM_OK ? check_init(&read, err) : rc;
    rc = rc == GENARM_OK ? read_numbers(&read, err) : rc;
    rc = rc == GENARM_OK ? json_opt_string(&read.base_model, read.root, "base_model_name_or_path", NULL, path, err) : rc;
    rc = rc == GENARM_OK ? json_opt_string(&task, read.root, "task_type", NULL, path, err) : rc;
    rc = rc == GENARM_OK ? read_targets(&read, err) : rc;
    rc = rc == GENARM_OK ? check_pattern(&read, "rank_pattern", &read.ranks, true, err) : rc;
    rc = rc == GENARM_OK ? check_pattern(&read, "alpha_pattern", &read.alphas, false, err) : rc;
    if (rc != GENARM_OK) {
        peft_config_deinit(&read);
        return error_at(err, rc, "%s", path);
    }
    read.classifies = task && strcmp(task, "SEQ_CLS") == 0;
    warn_unknown(&read);
    *c = read;
    return GENARM_OK;
}

void peft_config_deinit(struct peft_config *c) {
    json_decref(c->root);
    *c = (struct peft_config){0};
}

/* ---- modules ---- */

/* Whether re.match(r"(.*\.)?(KEY)$", module), as PEFT asks, for a key of names and dots. */
static bool key_matches(const char *key, const char *module) {
    const bool anchored = *key == '^';
    key += anchored;
    const size_t n_key = strlen(key), n = strlen(module);
    if (n_key > n || (anchored && n_key != n) || (n_key < n && module[n - n_key - 1] != '.')) {
        return false;
    }
    for (size_t i = 0; i < n_key; i++) {
        if (key[i] != '.' && key[i] != module[n - n_key + i]) {
            return false;
        }
    }
    return true;
}

static const json_t *find_pattern(const json_t *patterns, const char *module) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)patterns, key, value) {
        if (key_matches(key, module)) {
            return value;
        }
    }
    return NULL;
}

/* As PEFT takes a list: a module is meant by its whole path or the end of it. */
static bool is_target(const struct peft_config *c, const char *module) {
    const size_t n = strlen(module);
    for (size_t i = 0; i < json_array_size(c->targets); i++) {
        const char *target = json_string_value(json_array_get(c->targets, i));
        const size_t n_target = strlen(target);
        if (n_target <= n && strcmp(module + n - n_target, target) == 0 &&
            (n_target == n || module[n - n_target - 1] == '.')) {
            return true;
        }
    }
    return !c->targets;
}

int peft_config_module(const struct peft_config *c, const char *module, long long *rank, double *alpha,
                       struct genarm_error *err) {
    const json_t *own_rank = find_pattern(c->ranks, module), *own_alpha = find_pattern(c->alphas, module);
    if (!is_target(c, module)) {
        const int rc = error_set(err, GENARM_EMISMATCH, "%s is adapted, but target_modules does not name it", module);
        return error_at(err, rc, "%s", c->where);
    }
    *rank = own_rank ? json_integer_value(own_rank) : c->rank;
    *alpha = own_alpha ? json_number_value(own_alpha) : c->alpha;
    if (*rank < 1 || *rank > MAX_RANK) {
        return error_at(err, error_set(err, GENARM_EFORMAT, "the rank of %s is %lld", module, *rank), "%s", c->where);
    }
    if (!(fabs(*alpha) > 1e-30 && fabs(*alpha) < 1e30)) { /* as a float, times a root */
        const int rc = error_set(err, GENARM_EUNSUPPORTED, "lora_alpha of %s is %g, which gives no usable scale",
                                 module, *alpha);
        return error_at(err, rc, "%s", c->where);
    }
    return GENARM_OK;
}
