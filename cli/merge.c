/* genarm merge: adapters into a model, or into one adapter; a model without some of its layers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/progress.h"
#include "commands.h"
#include "convert/prune.h"
#include "model/adapter.h"
#include "models.h"
#include "preferences.h"
#include "tell.h"
#include "terminal.h"

struct merge_args {
    struct model_args model;
    struct option_list adapters;
    const char *output, *preference, *prune;
    int32_t into, type;
    bool average_factors, json;
};

enum { INTO_MODEL, INTO_ADAPTER };

#define ARGS(member) offsetof(struct merge_args, member)
#define TYPES "auto|keep|F32|F16|BF16|Q8_0|Q4_0|Q4_1|Q4_K|Q5_K|Q6_K"

static const struct option merge_options[] = {
    {OPTION_FILES, "--adapter", "FILE.gguf[:WEIGHT]", ARGS(adapters),
     .help = "an adapter and how much of it, 1 if not given; may be negative; repeatable"},
    {OPTION_FILE, "-o --output", "FILE.gguf", ARGS(output), .help = "what to write"},
    {OPTION_CHOICE, "--into", "WHAT", ARGS(into), .choices = "model|adapter", .fallback = "model",
     .help = "model: the base of -m with the adapters added to its weights; adapter: one adapter that does what they do "
             "together"},
    {OPTION_CHOICE, "--type", "TYPE", ARGS(type), .choices = TYPES, .fallback = "auto",
     .help = "into a model: type of the weights that change, all others are copied as they are; keep: the one each has; "
             "auto: F16 for a quantised one, else the one it has"},
    {OPTION_TEXT, "--prune-layers", "LIST", ARGS(prune),
     .help = "into a model: leave these layers out, such as 3,10-19 (counted from 0); needs no --adapter, and adapters are "
             "those for the whole model"},
    {OPTION_FLAG, "--average-factors", "", ARGS(average_factors),
     .help = "into an adapter: average A and B apart, as Rewarded Soups was published, instead of adding up the changes "
             "B A exactly; needs equal ranks, scales and targets"},
    {OPTION_TEXT, "--preference", "WEIGHTS", ARGS(preference),
     .help = "of the adapters that have objectives: NAME=X,NAME=X or X,X in their order; all alike if not given"},
    {OPTION_FLAG, "--json", "", ARGS(json), .help = "print what was written as a JSON record"},
    OPTIONS_MODEL(struct merge_args),
};

/* ---- adapters and weights ---- */

/* FILE[:WEIGHT]; a file whose name ends so wins. The path is malloc'ed. */
static int read_part(struct genarm_merge_part *part, const char *text, struct genarm_error *err) {
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    double weight = colon && colon[1] ? strtod(colon + 1, &end) : 1;
    const bool split = end && *end == '\0' && !file_exists(text);
    if (split && !isfinite(weight)) {
        return usage_error(err, "--adapter", "the weight of \"%s\" is not a finite number", text);
    }
    if (colon == text || !*text) {
        return usage_error(err, "--adapter", "a path is missing in \"%s\"", text);
    }
    if (!split && colon && !file_exists(text)) {
        char *path = strndup(text, (size_t)(colon - text));
        const bool meant = path && file_exists(path);
        free(path);
        if (meant) {
            return usage_error(err, "--adapter", "\"%s\" is no weight of %.*s", colon + 1, (int)(colon - text), text);
        }
    }
    part->path = split ? strndup(text, (size_t)(colon - text)) : strdup(text);
    part->weight = split ? weight : 1;
    return part->path ? 0 : error_nomem(err, "arguments");
}

static void free_parts(struct genarm_merge_part *parts, size_t n) {
    for (size_t i = 0; parts && i < n; i++) {
        free((void *)(uintptr_t)parts[i].path);
        free((void *)(uintptr_t)parts[i].preference);
    }
    free(parts);
}

static int read_parts(struct genarm_merge_part **out, const struct option_list *list, struct genarm_error *err) {
    struct genarm_merge_part *parts = calloc(list->n + 1, sizeof *parts);
    int code = parts ? 0 : error_nomem(err, "arguments");
    for (size_t i = 0; i < list->n && code == 0; i++) {
        code = read_part(&parts[i], list->items[i], err);
    }
    if (code) {
        free_parts(parts, list->n);
        return code;
    }
    *out = parts;
    return 0;
}

/* The weights of --preference for one adapter, if it has objectives: then *any is set. */
static int prefer(struct genarm_merge_part *part, const char *text, bool *any, struct genarm_error *err) {
    struct genarm_adapter *adapter = NULL;
    struct genarm_adapter_info i;
    int code = adapter_load_alone(&adapter, part->path, err);
    if (code) {
        return code;
    }
    genarm_adapter_get_info(adapter, &i);
    const size_t n = (size_t)i.n_objectives;
    float *weights = n ? calloc(n, sizeof *weights) : NULL;
    if (n && !weights) {
        code = error_nomem(err, "arguments");
    }
    if (n && code == 0) {
        code = error_at(err, preference_parse(weights, i.objectives, n, text, err), "--preference");
        part->preference = weights;
        part->n_preference = n;
        *any = true;
    }
    genarm_adapter_free(adapter);
    return code;
}

static int prefer_all(struct genarm_merge_part *parts, const struct merge_args *args, struct genarm_error *err) {
    bool any = !args->preference;
    int code = 0;
    for (size_t i = 0; i < args->adapters.n && args->preference && code == 0; i++) {
        code = prefer(&parts[i], args->preference, &any, err);
    }
    return code || any ? code : usage_error(err, "--preference", "none of the adapters has objectives");
}

/* ---- layers ---- */

enum { MAX_LAYERS = 1024 };

/* A whole number at *text, which is moved behind it; -1 if there is none below MAX_LAYERS. */
static int32_t read_layer(const char **text) {
    char *end = NULL;
    const long n = **text >= '0' && **text <= '9' ? strtol(*text, &end, 10) : -1;
    *text = end ? end : *text;
    return n < MAX_LAYERS ? (int32_t)n : -1;
}

/* "3,10-19": layers [*n], each at most once. */
static int read_layers(int32_t layers[MAX_LAYERS], size_t *n, const char *list, struct genarm_error *err) {
    bool seen[MAX_LAYERS] = {false};
    *n = 0;
    for (const char *text = list; *text; text += *text == ',' && text[1]) {
        const int32_t first = read_layer(&text);
        const bool range = *text == '-';
        text += range;
        const int32_t last = range ? read_layer(&text) : first;
        if (first < 0 || last < first || (*text && (*text != ',' || !text[1]))) {
            return usage_error(err, "--prune-layers", "\"%s\" is no list of layers such as 3,10-19", list);
        }
        for (int32_t l = first; l <= last; l++) {
            if (!seen[l]) {
                layers[(*n)++] = l;
            }
            seen[l] = true;
        }
    }
    return 0;
}

static int check_layers(int32_t n_layer, const int32_t *layers, size_t n, struct genarm_error *err) {
    struct prune prune;
    return as_usage(err, prune_init(&prune, n_layer, layers, n, err), "--prune-layers");
}

/* ---- into a model ---- */

static int on_weights(int64_t done, int64_t total, void *user) {
    struct progress *p = user;
    if (total > 0 && p->total == 0) {
        progress_start(p, "merging", "weights", total, 0);
    }
    if (total > 0) {
        progress_update(p, done, NULL);
    }
    return interrupt_signal();
}

static int print_model(const struct merge_args *args, struct genarm_error *err) {
    struct genarm_model *model = NULL;
    struct genarm_model_info i;
    const struct model_args written = {.path = args->output, .n_gpu_layers = -1};
    int code = load_model_mapped(&model, &written, err);
    if (code) {
        return code;
    }
    genarm_model_get_info(model, &i);
    if (args->json) {
        code = print_json(stdout,
                          json_pack("{s:o, s:s, s:s, s:i, s:I, s:I}", "output", text_json(args->output), "kind", "model",
                                    "file_type", i.file_type, "layers", i.n_layer, "parameters", (json_int_t)i.n_params, "bytes",
                                    (json_int_t)i.size),
                          err);
    } else {
        printf("%s: model, most weights of type %s, layers %d, %.1f MiB\n", args->output, i.file_type, i.n_layer,
               (double)i.size / (1024.0 * 1024.0));
        code = flush_output(stdout, err);
    }
    genarm_model_free(model);
    return code;
}

static int into_model(const struct merge_args *args, const struct genarm_merge_part *parts, struct genarm_error *err) {
    static const char *const types[] = {NULL, "keep", "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q5_K", "Q6_K"};
    struct genarm_model *model = NULL;
    struct progress progress = {0};
    int32_t layers[MAX_LAYERS];
    struct genarm_merge_params params = {.type = types[args->type],
                                         .n_threads = args->model.n_threads > 0 ? args->model.n_threads : 0,
                                         .prune = args->prune ? layers : NULL,
                                         .each = on_weights,
                                         .user = &progress};
    int code = args->prune ? read_layers(layers, &params.n_prune, args->prune, err) : 0;
    code = code == 0 ? load_model_mapped(&model, &args->model, err) : code;
    if (code == 0) {
        struct genarm_model_info info;
        genarm_model_get_info(model, &info);
        code = keep_input("-o", args->output, info.path, err);
        code = code || !args->prune ? code : check_layers(info.n_layer, layers, params.n_prune, err);
    }
    if (code) {
        genarm_model_free(model);
        return code;
    }
    interrupt_catch();
    code = genarm_merge_into_model(model, parts, args->adapters.n, &params, args->output, err);
    if (progress.total > 0) {
        progress_end(&progress);
    }
    genarm_model_free(model);
    if (code == GENARM_ECANCELED && interrupt_signal()) {
        note("stopped; nothing was written");
        return 128 + interrupt_signal();
    }
    return code ? code : print_model(args, err);
}

/* ---- into an adapter ---- */

/* With a base at hand, the adapters are checked against it as well. */
static int check_adapters(const struct merge_args *args, const struct genarm_merge_part *parts,
                          struct genarm_error *err) {
    struct genarm_model *model = NULL;
    int code = load_model_mapped(&model, &args->model, err);
    for (size_t i = 0; i < args->adapters.n && code == 0; i++) {
        struct genarm_adapter *adapter = NULL;
        code = genarm_adapter_load(&adapter, model, parts[i].path, err);
        genarm_adapter_free(adapter);
    }
    genarm_model_free(model);
    return code;
}

static int print_adapter(const struct merge_args *args, struct genarm_error *err) {
    struct genarm_adapter *adapter = NULL;
    struct genarm_adapter_info i;
    int code = adapter_load_alone(&adapter, args->output, err);
    if (code) {
        return code;
    }
    genarm_adapter_get_info(adapter, &i);
    if (args->json) {
        code = print_json(stdout,
                          json_pack("{s:o, s:s, s:i, s:o, s:s, s:I}", "output", text_json(args->output), "kind",
                                    "adapter", "rank", i.rank, "alpha", json_rounded((double)i.alpha, 6), "targets",
                                    i.targets, "parameters", (json_int_t)i.n_params),
                          err);
    } else {
        printf("%s: adapter, rank %d, alpha %g, targets %s\n", args->output, i.rank, (double)i.alpha, i.targets);
        code = flush_output(stdout, err);
    }
    genarm_adapter_free(adapter);
    return code;
}

static int into_adapter(const struct merge_args *args, const struct genarm_merge_part *parts,
                        struct genarm_error *err) {
    const enum genarm_merge_how how = args->average_factors ? GENARM_MERGE_AVERAGE : GENARM_MERGE_STACK;
    int code = keep_input("-o", args->output, args->model.path, err);
    code = code == 0 && args->model.path ? check_adapters(args, parts, err) : code;
    if (code == 0) {
        code = genarm_merge_adapters(parts, args->adapters.n, how, args->output, err);
    }
    return code ? code : print_adapter(args, err);
}

/* ---- the command ---- */

static int check_use(const struct merge_args *args, struct genarm_error *err) {
    if (args->into == INTO_ADAPTER && args->prune) {
        return usage_error(err, "--prune-layers", "this is for --into model");
    }
    if (args->adapters.n == 0 && !args->prune) {
        return usage_error(err, "--adapter", "the adapters to merge are missing: --adapter FILE.gguf:WEIGHT");
    }
    if (args->adapters.n == 0 && args->type != 0) {
        return usage_error(err, "--type", "no weights change without --adapter");
    }
    if (!args->output) {
        return usage_error(err, "-o", "the file to write is missing: -o FILE.gguf");
    }
    if (args->into == INTO_MODEL && args->average_factors) {
        return usage_error(err, "--average-factors", "this is for --into adapter");
    }
    if (args->into == INTO_ADAPTER && args->type != 0) {
        return usage_error(err, "--type", "adapters are F32; this is for --into model");
    }
    return 0;
}

static int keep_adapters(const struct merge_args *args, const struct genarm_merge_part *parts, struct genarm_error *err) {
    int code = 0;
    for (size_t i = 0; i < args->adapters.n && code == 0; i++) {
        code = keep_input("-o", args->output, parts[i].path, err);
    }
    return code;
}

static int merge_run(const void *arguments, struct genarm_error *err) {
    const struct merge_args *args = arguments;
    struct genarm_merge_part *parts = NULL;
    log_to_stderr(args->model.verbose);
    int code = check_use(args, err);
    if (code == 0) {
        code = read_parts(&parts, &args->adapters, err);
    }
    if (code == 0) {
        code = keep_adapters(args, parts, err);
    }
    if (code == 0) {
        code = prefer_all(parts, args, err);
    }
    if (code == 0) {
        code = args->into == INTO_MODEL ? into_model(args, parts, err) : into_adapter(args, parts, err);
    }
    free_parts(parts, args->adapters.n);
    return code;
}

const struct command command_merge = {
    .name = "merge",
    .summary = "add adapters to a model's weights, make one adapter of several, or leave layers out",
    .usage = "[options] --adapter FILE.gguf[:WEIGHT] ... -o FILE.gguf",
    .details =
        "Into a model: writes the base with W + the sum of WEIGHT alpha / rank B A in the place of each adapted weight "
        "matrix W. Those are decoded, added to in F32 and written in the type of --type: by default F16 where W was "
        "quantised, as rounding to four bits again would lose most of a small change, and W's own type otherwise. All "
        "other tensors and all metadata are copied. The result needs no adapter.\n"
        "Into an adapter: writes the weighted sum of the adapters' changes as one adapter (Rewarded Soups), exact to the "
        "rounding of F32: the As lie above one another and the Bs, scaled, side by side; the rank is the sum of the ranks. "
        "Adapters for different bases are refused; -m is not needed, but is checked against where it is given.\n"
        "With --prune-layers the model that is written lacks those layers, and the others are numbered anew: a smaller, "
        "weaker model with the same vocabulary. Adapters for the whole model do not fit it.\n"
        "An adapter with objectives is merged as what it is at the preference; the result has none.",
    .examples = "genarm merge -m model.gguf --adapter kind.gguf:0.5 -o kind-model.gguf\n"
                "genarm merge -m model.gguf --adapter kind.gguf --adapter short.gguf:0.3 -o both.gguf --type Q8_0\n"
                "genarm merge --into adapter --adapter kind.gguf:0.3 --adapter short.gguf:0.7 -o soup.gguf\n"
                "genarm merge -m model.gguf --prune-layers 10-14,20 -o small.gguf\n"
                "genarm merge --into adapter --adapter both.gguf --preference kind=0.8,safe=0.2 -o kind.gguf",
    .options = merge_options,
    .n_options = sizeof merge_options / sizeof *merge_options,
    .args_size = sizeof(struct merge_args),
    .run = merge_run,
};
