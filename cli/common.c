/* See common.h. */
#include "common.h"

#include <errno.h>
#include <ggml.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "model/gguf_check.h"
#include "preferences.h"

/* ---- reporting ---- */

int usage_error(struct genarm_error *err, const char *option, const char *fmt, ...) {
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return error_at(err, error_set(err, CLI_USAGE, "%s", text), "%s", option);
}

int as_usage(struct genarm_error *err, int code, const char *option) {
    if (code != GENARM_EINVAL) {
        return code;
    }
    err->code = CLI_USAGE;
    return option ? error_at(err, CLI_USAGE, "%s", option) : CLI_USAGE;
}

static int32_t speaking;      /* rank */
static char speaker[24] = ""; /* "rank 3: " */

void report_as_rank(int32_t rank) {
    speaking = rank;
    if (rank > 0) {
        snprintf(speaker, sizeof speaker, "rank %d: ", rank);
    }
}

void report_error(const struct genarm_error *err) {
    const bool said = strncmp(err->where, "rank ", 5) == 0; /* of ranks that agreed on an error */
    fprintf(stderr, "genarm: %serror: %s%s%s\n", said ? "" : speaker, err->where, *err->where ? ": " : "", err->what);
    if (*err->hint) {
        fprintf(stderr, "%shint: %s\n", speaker, err->hint);
    }
}

void note(const char *fmt, ...) {
    va_list args;
    if (speaking > 0) {
        return;
    }
    va_start(args, fmt);
    fputs("genarm: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
}

static void log_callback(enum genarm_log_level level, const char *line, void *user) {
    static const char *const labels[] = {"", "", "warning: ", "error: "};
    const bool *verbose = user;
    if (*verbose || level >= (speaking > 0 ? GENARM_LOG_ERROR : GENARM_LOG_WARN)) {
        fprintf(stderr, "genarm: %s%s%s\n", speaker, labels[level], line);
    }
}

void log_to_stderr(bool verbose) {
    static bool wanted;
    wanted = verbose;
    genarm_log_set(log_callback, &wanted);
}

int flush_output(FILE *out, struct genarm_error *err) {
    errno = 0;
    if (fflush(out) == 0 && !ferror(out)) {
        return 0;
    }
    int code = error_set(err, GENARM_EIO, "the output could not be written%s%s", errno ? ": " : "",
                         errno ? strerror(errno) : "");
    return out == stdout ? error_at(err, code, "stdout") : code;
}

int json_line(char **out, json_t *value, struct genarm_error *err) {
    /* Nine digits: what a float needs, without the noise of a double that stands for one. */
    *out = value ? json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(value);
    return *out ? 0 : error_nomem(err, "a record");
}

int print_json(FILE *out, json_t *value, struct genarm_error *err) {
    char *line;
    const int code = json_line(&line, value, err);
    if (code) {
        return code;
    }
    fprintf(out, "%s\n", line);
    free(line);
    return flush_output(out, err);
}

json_t *json_rounded(double x, int digits) {
    char text[64];
    if (!isfinite(x)) {
        return json_null();
    }
    snprintf(text, sizeof text, "%.*f", digits, x);
    return json_real(strtod(text, NULL));
}

/* ---- models ---- */

const char *find_default_model(char *path, size_t max) {
    static const char *const folders[] = {GENARM_MODEL_DIR, GENARM_DATA_DIR};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        snprintf(path, max, "%s/%s-Q4_1.gguf", folders[i], DEFAULT_MODEL_NAME);
        if (access(path, R_OK) == 0) {
            return path;
        }
    }
    return NULL;
}

/* ggml ends the process when the connection to a server breaks, or the server does: in words instead of a core dump. */
static void on_abort(const char *message) {
    const char *text = strstr(message, ": "); /* behind a file and a line of ggml's source */
    fprintf(stderr, "genarm: error: ggml gave up: %s\n", text ? text + 2 : message);
    fprintf(stderr, "hint: did an RPC server end, or the connection to it? training goes on from its last checkpoint "
                    "with --resume\n");
    _exit(1);
}

struct genarm_model_params model_params_from(const struct model_args *args) {
    struct genarm_model_params params = genarm_model_default_params();
    params.device = args->device;
    params.n_gpu_layers = args->n_gpu_layers;
    params.tensor_split = args->tensor_split;
    params.rpc = args->rpc;
    params.engine = (enum genarm_engine)args->engine;
    params.load_mode = (enum genarm_load_mode)args->load_mode;
    if (args->rpc) {
        signal(SIGPIPE, SIG_IGN); /* a server that is gone is to be said, not died of */
        ggml_set_abort_callback(on_abort);
    }
    return params;
}

int load_model(struct genarm_model **out, const struct model_args *args, struct genarm_error *err) {
    char found[4096];
    const char *path = args->path;
    if (!path) {
        path = find_default_model(found, sizeof found);
        if (!path) {
            return error_hint(err,
                              error_set(err, GENARM_EIO, "no model is given, and the default one is not installed"),
                              "name one with -m FILE or LLAMA_ARG_MODEL");
        }
        note("using the default model %s", path);
    }
    const struct genarm_model_params params = model_params_from(args);
    return genarm_model_load(out, path, &params, err);
}

int load_model_mapped(struct genarm_model **out, const struct model_args *args, struct genarm_error *err) {
    struct model_args mapped = *args;
    mapped.load_mode = args->load_mode == GENARM_LOAD_AUTO ? GENARM_LOAD_MMAP : args->load_mode;
    return load_model(out, &mapped, err);
}

/* ---- guides ---- */

/* Facts of the folder that `path` is in. */
static bool stat_folder(const char *path, struct stat *st) {
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    const bool ok = folder && stat(folder, st) == 0;
    free(folder);
    return ok;
}

static const char *last_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool same_inode(const struct stat *x, const struct stat *y) {
    return x->st_dev == y->st_dev && x->st_ino == y->st_ino;
}

bool same_file(const char *a, const char *b) {
    struct stat x, y;
    const bool have_a = stat(a, &x) == 0, have_b = stat(b, &y) == 0;
    if (have_a || have_b) {
        return have_a && have_b && same_inode(&x, &y);
    }
    char *new_a = file_target(a), *new_b = file_target(b);
    const bool same = new_a && new_b &&
                      (strcmp(new_a, new_b) == 0 || /* in a folder that is not there yet, too */
                       (strcmp(last_name(new_a), last_name(new_b)) == 0 && stat_folder(new_a, &x) && stat_folder(new_b, &y) &&
                        same_inode(&x, &y)));
    free(new_a);
    free(new_b);
    return same;
}

int keep_input(const char *option, const char *output, const char *input, struct genarm_error *err) {
    if (!output || !input || !same_file(output, input)) {
        return 0;
    }
    return error_hint(err, usage_error(err, option, "%s is read as well and would be lost", output), "name another file");
}

struct genarm_model *setup_find_model(const struct setup *s, const char *path) {
    struct genarm_model_info info;
    genarm_model_get_info(s->base, &info);
    if (same_file(info.path, path)) {
        return s->base;
    }
    for (size_t i = 0; i < s->n_arms; i++) {
        if (s->models[i] && same_file(s->arms[i].path, path)) {
            return s->models[i];
        }
    }
    return NULL;
}

/* The model of ARM i: one loaded before where it is the same file, else newly loaded. */
static int arm_model(const struct genarm_model **out, struct setup *s, size_t i, const struct model_args *args,
                     struct genarm_error *err) {
    *out = setup_find_model(s, s->arms[i].path);
    if (*out) {
        return 0;
    }
    const struct genarm_model_params params = model_params_from(args);
    int code = genarm_model_load(&s->models[i], s->arms[i].path, &params, err);
    *out = s->models[i];
    return code;
}

/* TEMPLATE of --arm-template NAME=TEMPLATE, or NULL. */
static const char *arm_template(const struct guide_args *args, const char *name) {
    const char *found = NULL;
    size_t n = strlen(name);
    for (size_t i = 0; i < args->arm_templates.n; i++) {
        if (strncmp(args->arm_templates.items[i], name, n) == 0 && args->arm_templates.items[i][n] == '=') {
            found = args->arm_templates.items[i] + n + 1;
        }
    }
    return found;
}

bool minus_reference(const struct guide_args *args, const char *name) {
    for (size_t i = 0; i < args->minus_references.n; i++) {
        const char *text = args->minus_references.items[i];
        if (strcmp(text, name) == 0 || strcmp(text, "all") == 0) {
            return true;
        }
    }
    return false;
}

static int load_arm(struct setup *s, size_t i, const struct model_args *model, const struct guide_args *args,
                    struct genarm_error *err) {
    const struct arm_spec *spec = &s->arms[i];
    struct genarm_arm_params params = {
        .name = spec->name, .weight = spec->weight, .template_name = arm_template(args, spec->name),
        .minus_reference = minus_reference(args, spec->name)};
    bool is_adapter = false;
    int code = file_is_adapter(spec->path, &is_adapter, err);
    if (code) {
        if (!file_exists(spec->path)) { /* what is no path may be meant for another part of the form */
            err->hint[0] = '\0';
        }
        return error_hint(err, code, "is the path right? --arm takes " ARM_FORM);
    }
    if (is_adapter && spec->adapter) {
        return usage_error(err, spec->path, "this is an adapter, before '+' there must be a model");
    }
    if (is_adapter) {
        params.model = s->base;
    } else {
        code = arm_model(&params.model, s, i, model, err);
    }
    const char *adapter = is_adapter ? spec->path : spec->adapter;
    if (code == 0 && adapter) {
        code = genarm_adapter_load(&s->adapters[i], params.model, adapter, err);
    }
    params.adapter = s->adapters[i];
    if (code == 0) {
        code = genarm_guide_add_arm(s->guide, &params, err);
    }
    return error_at(err, code, "--arm %s", spec->name);
}

static bool is_arm(const struct setup *s, const char *name, size_t n) {
    for (size_t j = 0; j < s->n_arms; j++) {
        if (strncmp(s->arms[j].name, name, n) == 0 && strlen(s->arms[j].name) == n) {
            return true;
        }
    }
    return false;
}

/* Those that --arm-template and --minus-reference speak of. */
static int check_arm_names(const struct setup *s, const struct guide_args *args, struct genarm_error *err) {
    for (size_t i = 0; i < args->arm_templates.n; i++) {
        const char *text = args->arm_templates.items[i], *equals = strchr(text, '=');
        if (!equals) {
            return usage_error(err, "--arm-template", "\"%s\" is not NAME=TEMPLATE", text);
        }
        if (!is_arm(s, text, (size_t)(equals - text))) {
            return usage_error(err, "--arm-template", "no --arm is called \"%.*s\"", (int)(equals - text), text);
        }
    }
    for (size_t i = 0; i < args->minus_references.n; i++) {
        const char *text = args->minus_references.items[i];
        if (strcmp(text, "all") != 0 && !is_arm(s, text, strlen(text))) {
            return usage_error(err, "--minus-reference", "no --arm is called \"%s\"", text);
        }
    }
    return 0;
}

/* Reads --arm and the names of others, before anything is loaded. */
static int read_arms(struct setup *s, const struct guide_args *args, struct genarm_error *err) {
    size_t n = args->arms.n;
    s->arms = calloc(n + 1, sizeof *s->arms);
    s->models = calloc(n + 1, sizeof(struct genarm_model *));
    s->adapters = calloc(n + 1, sizeof(struct genarm_adapter *));
    if (!s->arms || !s->models || !s->adapters) {
        return error_nomem(err, "reward models");
    }
    for (size_t i = 0; i < n; i++) {
        int code = arm_spec_parse(&s->arms[i], args->arms.items[i], file_exists, err);
        if (code) {
            return error_at(err, code, "--arm %s", args->arms.items[i]);
        }
        s->n_arms = i + 1;
        for (size_t j = 0; j < i; j++) {
            if (strcmp(s->arms[i].name, s->arms[j].name) == 0) {
                return error_hint(err,
                                  usage_error(err, "--arm", "two reward models are called \"%s\"", s->arms[i].name),
                                  "give each a name: --arm NAME=PATH");
            }
        }
    }
    return check_arm_names(s, args, err);
}

int setup_load(struct setup *s, const struct model_args *model, const struct guide_args *args, int32_t n_slots,
               struct genarm_error *err) {
    struct genarm_guide_params params = genarm_guide_default_params();
    *s = (struct setup){0};
    if (args->keys != args->values) {
        return usage_error(err, "-ctk", "keys and values are stored alike: the type of -ctv must be the same (or that of "
                           "LLAMA_ARG_CACHE_TYPE_K and LLAMA_ARG_CACHE_TYPE_V, where an option is not given)");
    }
    int code = read_arms(s, args, err);
    if (code == 0) {
        code = load_model(&s->base, model, err);
    }
    params.n_slots = n_slots;
    params.n_ctx = args->n_ctx;
    params.n_batch = args->n_batch;
    params.n_threads = model->n_threads > 0 ? model->n_threads : 0;
    params.kv_type = (enum genarm_kv_type)args->keys;
    params.no_sharing = args->no_sharing;
    params.template_name = args->chat_template;
    if (code == 0 && args->lora) {
        code = error_at(err, genarm_adapter_load(&s->lora, s->base, args->lora, err), "--lora");
    }
    params.base_adapter = s->lora;
    if (code == 0) {
        code = genarm_guide_new(&s->guide, s->base, &params, err);
    }
    for (size_t i = 0; i < s->n_arms && code == 0; i++) {
        code = load_arm(s, i, model, args, err);
    }
    return code ? code : preferences_set(s, &args->preferences, err);
}

int setup_steer(struct setup *s, const struct steer_args *args, int32_t n_logprobs, struct genarm_error *err) {
    return steer_load(&s->steer, args, n_logprobs, s->guide, s->base, err);
}

int setup_session(struct genarm_session **out, const struct setup *s, const struct genarm_sampling *sampling,
                  struct genarm_error *err) {
    struct genarm_session *session;
    int code = genarm_session_new(&session, s->guide, sampling, err);
    if (code) {
        return code;
    }
    code = steer_session(&s->steer, session, err);
    if (code == 0 && s->drafts) {
        code = genarm_session_set_draft(session, &s->draft, err);
    }
    if (code) {
        genarm_session_free(session);
        return code;
    }
    *out = session;
    return 0;
}

void setup_free(struct setup *s) {
    steer_free(&s->steer);
    genarm_guide_free(s->guide);
    for (size_t i = s->n_arms; i-- > 0;) {
        genarm_adapter_free(s->adapters[i]);
    }
    for (size_t i = s->n_arms; i-- > 0;) {
        genarm_model_free(s->models[i]);
        arm_spec_deinit(&s->arms[i]);
    }
    genarm_model_free(s->draft_model);
    genarm_adapter_free(s->lora);
    genarm_model_free(s->base);
    free(s->draft_weights);
    free(s->adapters);
    free(s->models);
    free(s->arms);
    *s = (struct setup){0};
}

const char *setup_model_name(const struct setup *s) {
    struct genarm_model_info info;
    genarm_model_get_info(s->base, &info);
    const char *slash = strrchr(info.path, '/');
    return slash ? slash + 1 : info.path;
}

struct pref_params formats_from(const struct format_args *args) {
    return (struct pref_params){.format = (enum genarm_data_format)args->format,
                                .label = (enum genarm_data_label)args->label};
}

struct genarm_sampling sampling_from(const struct sampling_args *args) {
    struct genarm_sampling sampling = genarm_sampling_default();
    sampling.temperature = (float)args->temperature;
    sampling.top_k = args->top_k;
    sampling.top_p = (float)args->top_p;
    sampling.min_p = (float)args->min_p;
    sampling.seed = (uint64_t)args->seed;
    if (args->seed < 0) {
        uint32_t drawn = 0; /* short enough to type */
        if (getrandom(&drawn, sizeof drawn, 0) != (ssize_t)sizeof drawn) {
            drawn = (uint32_t)getpid();
        }
        sampling.seed = drawn;
    }
    return sampling;
}
