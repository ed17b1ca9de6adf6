/* genarm info: what a model or an adapter file is. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <ggml.h>

#include "base/json.h"
#include "base/utf8.h"
#include "commands.h"
#include "model/adapter.h"
#include "model/gguf_check.h"
#include "model/objectives.h"
#include "models.h"
#include "tell.h"

struct info_args {
    struct model_args model;
    struct option_list files;
    bool json;
};

static const struct option info_options[] = {
    {OPTION_GROUP, .help = "Files"},
    {OPTION_FILES, "FILE", "", offsetof(struct info_args, files),
     .help = "models or adapters, GGUF files; without one the model of -m or the default model"},
    {OPTION_FLAG, "--json", "", offsetof(struct info_args, json), .help = "print a JSON record for each file"},
    OPTIONS_MODEL(struct info_args),
};

/* "1792", "134.5 million" */
static const char *count_text(int64_t n, char *text, size_t max) {
    if (n < 1000000) {
        snprintf(text, max, "%lld", (long long)n);
    } else {
        snprintf(text, max, "%.1f million", (double)n / 1e6);
    }
    return text;
}

/* ---- models ---- */

enum { MAX_PARTS = 16, MAX_SYSTEM = 120 };

static json_t *parts_json(const struct genarm_model *model) {
    struct genarm_model_part parts[MAX_PARTS];
    json_t *list = json_array();
    const int n = genarm_model_get_parts(model, parts, MAX_PARTS);
    for (int i = 0; i < n && i < MAX_PARTS && list; i++) {
        const struct genarm_model_part *p = &parts[i];
        json_t *part = json_pack("{s:o, s:o, s:i, s:i, s:b, s:b, s:I}", "device", text_json(p->device), "description",
                                 text_json(p->description), "first_layer", p->first_layer, "layers", p->n_layers,
                                 "embeddings", (int)p->embeddings, "head", (int)p->head, "bytes", (json_int_t)p->size);
        json_array_append_new(list, part);
    }
    return list;
}

static const char *engine_name(const struct genarm_model_info *i) {
    return i->engine == GENARM_ENGINE_LLAMA ? "llama" : "genarm";
}

static json_t *model_json(const struct genarm_model *model) {
    struct genarm_model_info i;
    genarm_model_get_info(model, &i);
    return json_pack("{s:s, s:o, s:o, s:o, s:s, s:s, s:I, s:I, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:o, s:o}", "type",
                     "model", "path", text_json(i.path), "name", text_json(i.name), "architecture",
                     text_json(i.architecture), "engine", engine_name(&i), "file_type", i.file_type, "parameters",
                     (json_int_t)i.n_params, "bytes",
                     (json_int_t)i.size, "layers", i.n_layer, "embedding", i.n_embd, "heads", i.n_head, "kv_heads",
                     i.n_head_kv, "feed_forward", i.n_ff, "vocabulary", i.n_vocab, "context", i.n_ctx_train,
                     "fingerprint", i.fingerprint, "chat_template",
                     i.chat_template ? text_json(i.chat_template) : json_null(), "parts", parts_json(model));
}

/* The beginning of what a template of ChatML says for the system where no message does; 0 bytes: nothing. */
static int default_system(const char **out, const char *chat_template) {
    static const char mark[] = "<|im_start|>system";
    const char *at = chat_template;
    while ((at = strstr(at, mark)) != NULL) {
        at += sizeof mark - 1;
        const char *from = *at == '\n' ? at + 1 : strncmp(at, "\\n", 2) == 0 ? at + 2 : "";
        if ((*from >= 'A' && *from <= 'Z') || (*from >= 'a' && *from <= 'z')) {
            const size_t n = strcspn(from, "<{'\"\\\n");
            *out = from;
            return (int)(n < MAX_SYSTEM ? n : MAX_SYSTEM);
        }
    }
    return 0;
}

/* What of the template in the file its look-alike does not say. */
static void print_left_out(const struct genarm_model *model, const char *chat_template) {
    const struct genarm_message hello = {"user", "Hello"};
    const char *system;
    char *text = NULL, said[MAX_SYSTEM + 1];
    const int n = chat_template ? default_system(&system, chat_template) : 0;
    if (n > 0 && genarm_template_apply(&text, model, NULL, &hello, 1, NULL) == 0) {
        snprintf(said, sizeof said, "%.*s", n, system);
        if (!strstr(text, said)) {
            utf8_clean(said);
            printf("                 its system message \"%s\" is not added: -sys gives one\n", said);
        }
    }
    free(text);
}

/* Known by the template that libllama recognises in the file. */
static const char *template_note(const struct genarm_model *model, const char *chat_template) {
    struct genarm_message hello = {"user", "Hello"};
    char *text = NULL;
    struct genarm_error err;
    if (!chat_template) {
        return "none in the file";
    }
    if (genarm_template_apply(&text, model, NULL, &hello, 1, &err) != 0) {
        return "in the file, but not one that is known: give one with --chat-template";
    }
    free(text);
    return "in the file";
}

/* What lies where, if not all on the CPU. */
static void print_parts(const struct genarm_model *model) {
    struct genarm_model_part parts[MAX_PARTS];
    const int n = genarm_model_get_parts(model, parts, MAX_PARTS);
    for (int i = 0; i < n && n > 1 && i < MAX_PARTS; i++) {
        const struct genarm_model_part *p = &parts[i];
        char layers[64] = "no layer";
        if (p->n_layers > 0) {
            snprintf(layers, sizeof layers, "layers %d to %d", p->first_layer, p->first_layer + p->n_layers - 1);
        }
        printf("  %-14s %s%s%s, %.1f MiB (%s)\n", p->device, layers, p->embeddings ? ", embeddings" : "",
               p->head ? ", head" : "", (double)p->size / (1024.0 * 1024.0), p->description);
    }
}

static void print_model(const struct genarm_model *model) {
    struct genarm_model_info i;
    char count[32];
    genarm_model_get_info(model, &i);
    printf("%s\n", i.path);
    printf("  type           model\n");
    if (*i.name) {
        printf("  name           %s\n", i.name);
    }
    printf("  architecture   %s\n", i.architecture);
    printf("  engine         %s%s\n", engine_name(&i),
           i.engine == GENARM_ENGINE_LLAMA ? " (libllama: generates, chats, scores; no training)" : "");
    printf("  weights        %s of type %s, %.1f MiB\n", count_text(i.n_params, count, sizeof count), i.file_type,
           (double)i.size / (1024.0 * 1024.0));
    printf("  layers         %d\n", i.n_layer);
    printf("  embedding      %d\n", i.n_embd);
    printf("  heads          %d, for keys and values %d\n", i.n_head, i.n_head_kv);
    printf("  feed-forward   %d\n", i.n_ff);
    printf("  vocabulary     %d tokens\n", i.n_vocab);
    printf("  context        %d tokens\n", i.n_ctx_train);
    printf("  chat template  %s\n", template_note(model, i.chat_template));
    print_left_out(model, i.chat_template);
    printf("  fingerprint    %s\n", i.fingerprint);
    print_parts(model);
}

static int show_model(const struct info_args *args, const char *path, struct genarm_error *err) {
    struct genarm_model *model = NULL;
    struct model_args named = args->model;
    if (path) {
        named.path = path;
    }
    int code = load_model_mapped(&model, &named, err);
    if (code == 0 && args->json) {
        code = print_json(stdout, model_json(model), err);
    } else if (code == 0) {
        print_model(model);
    }
    genarm_model_free(model);
    return code;
}

/* ---- adapters ---- */

/* What an adapter's file says, without the model that it is for. */
struct adapter_facts {
    const char *architecture, *loss, *template_name, *base, *data; /* NULL when unknown */
    float alpha, beta;
    int64_t rank, n_params;
    char targets[128]; /* "q,k,v" */
    int layers;
    bool has_head;
    struct objectives objectives;
};

static int check_adapter(const struct adapter_facts *f, const struct gguf_file *file, struct genarm_error *err) {
    const char *kind;
    int code = gguf_opt_str(&kind, file->gguf, "adapter.type", "", err);
    if (code == 0 && strcmp(kind, "lora") != 0) {
        code = error_set(err, GENARM_EUNSUPPORTED, "not a LoRA adapter: adapter.type is \"%s\"", kind);
    }
    if (code == 0 && !isfinite(f->alpha)) {
        code = error_set(err, GENARM_EFORMAT, "adapter.lora.alpha is not a finite number");
    }
    if (code == 0 && f->rank == 0) {
        code = error_set(err, GENARM_EFORMAT, "the adapter has no tensors of LoRA");
    }
    return code;
}

static int read_adapter(struct adapter_facts *f, const struct gguf_file *file, struct genarm_error *err) {
    const struct {
        const char *key, **out;
    } strings[] = {
        {"general.architecture", &f->architecture},
        {"genarm.loss", &f->loss},
        {"genarm.template", &f->template_name},
        {"genarm.base", &f->base},
        {"genarm.data", &f->data},
    };
    int code = gguf_opt_f32(&f->alpha, file->gguf, "adapter.lora.alpha", 0, err);
    if (code == 0) {
        code = gguf_opt_f32(&f->beta, file->gguf, "genarm.beta", 0, err);
    }
    for (size_t i = 0; i < sizeof strings / sizeof *strings && code == 0; i++) {
        code = gguf_opt_str(strings[i].out, file->gguf, strings[i].key, NULL, err);
    }
    if (code == 0) {
        code = objectives_read(&f->objectives, file->gguf, err);
    }
    const int64_t head = gguf_find_key(file->gguf, "genarm.head");
    f->has_head = head >= 0 && gguf_get_kv_type(file->gguf, head) == GGUF_TYPE_ARRAY;
    f->n_params = f->has_head ? (int64_t)gguf_get_arr_n(file->gguf, head) : 0;
    adapter_name_targets(f->targets, sizeof f->targets, file->tensors);
    for (struct ggml_tensor *t = ggml_get_first_tensor(file->tensors); t; t = ggml_get_next_tensor(file->tensors, t)) {
        int layer;
        if (strstr(t->name, ".lora_")) {
            f->n_params += ggml_nelements(t);
            f->layers = sscanf(t->name, "blk.%8d.", &layer) == 1 && layer >= f->layers ? layer + 1 : f->layers;
        }
        if (strstr(t->name, ".lora_b")) {
            f->rank = t->ne[0] > f->rank ? t->ne[0] : f->rank;
        }
    }
    return code ? code : check_adapter(f, file, err);
}

static json_t *text_or_null(const char *text) {
    return text ? text_json(text) : json_null();
}

static json_t *objectives_json(const struct objectives *o) {
    json_t *list = json_array();
    for (int32_t i = 0; i < o->n && list; i++) {
        json_array_append_new(list, json_string(o->names[i]));
    }
    return list;
}

static json_t *adapter_json(const struct adapter_facts *f, const char *path) {
    return json_pack("{s:s, s:o, s:o, s:I, s:o, s:s, s:i, s:b, s:o, s:I, s:o, s:o, s:o, s:o, s:o}", "type", "adapter", "path",
                     text_json(path), "architecture", text_or_null(f->architecture), "rank", (json_int_t)f->rank,
                     "alpha", json_rounded((double)f->alpha, 6), "targets", f->targets, "layers", f->layers,
                     "reward_head", (int)f->has_head, "objectives", objectives_json(&f->objectives), "parameters",
                     (json_int_t)f->n_params, "loss", text_or_null(f->loss), "beta",
                     f->beta > 0 ? json_rounded((double)f->beta, 6) : json_null(), "chat_template",
                     text_or_null(f->template_name), "base_fingerprint", text_or_null(f->base), "data",
                     text_or_null(f->data));
}

/* A text from the file, which must not drive the terminal. */
static const char *clean(const char *text, char *out, size_t max) {
    snprintf(out, max, "%s", text);
    utf8_clean(out);
    return out;
}

static void print_adapter(const struct adapter_facts *f, const char *path) {
    char count[32], text[1024];
    printf("%s\n  type           LoRA adapter\n", path);
    if (f->architecture) {
        printf("  architecture   %s\n", clean(f->architecture, text, sizeof text));
    }
    printf("  targets        %s of %d layers\n", f->targets, f->layers);
    printf("  rank           %lld, alpha %g\n", (long long)f->rank, (double)f->alpha);
    printf("  weights        %s\n", count_text(f->n_params, count, sizeof count));
    if (f->has_head) {
        printf("  rewards        whole responses, by a scalar head\n");
    }
    for (int32_t i = 0; i < f->objectives.n; i++) {
        printf("%s%s", i ? ", " : "  objectives     ", f->objectives.names[i]);
    }
    if (f->objectives.n > 0) {
        printf("; --preference weighs them, rank %d each\n", f->objectives.rank);
    }
    if (f->loss && f->beta > 0) {
        printf("  trained with   loss %s, beta %g\n", clean(f->loss, text, sizeof text), (double)f->beta);
    } else if (f->loss) {
        printf("  trained with   loss %s\n", clean(f->loss, text, sizeof text));
    }
    if (f->template_name) {
        printf("  chat template  %s\n",
               *f->template_name ? clean(f->template_name, text, sizeof text) : "the model's own");
    }
    if (f->base) {
        printf("  made for       a model with fingerprint %s\n", clean(f->base, text, sizeof text));
    }
    if (f->data) {
        printf("  data           %s\n", clean(f->data, text, sizeof text));
    }
}

static int show_adapter(const struct info_args *args, const char *path, struct genarm_error *err) {
    struct gguf_file file = {0};
    struct adapter_facts facts = {0};
    int code = gguf_file_open(&file, path, err);
    if (code == 0) {
        code = error_at(err, read_adapter(&facts, &file, err), "%s", path);
    }
    if (code == 0 && args->json) {
        code = print_json(stdout, adapter_json(&facts, path), err);
    } else if (code == 0) {
        print_adapter(&facts, path);
    }
    objectives_deinit(&facts.objectives);
    gguf_file_close(&file);
    return code;
}

/* ---- the command ---- */

static int info_run(const void *arguments, struct genarm_error *err) {
    const struct info_args *args = arguments;
    int code = 0;
    log_to_stderr(args->model.verbose);
    if (args->files.n == 0) {
        code = show_model(args, NULL, err);
    }
    for (size_t i = 0; i < args->files.n && code == 0; i++) {
        const char *path = args->files.items[i];
        bool is_adapter = false;
        code = file_is_adapter(path, &is_adapter, err);
        if (code == 0 && i > 0 && !args->json) {
            printf("\n");
        }
        if (code == 0) {
            code = is_adapter ? show_adapter(args, path, err) : show_model(args, path, err);
        }
    }
    return code ? code : flush_output(stdout, err);
}

const struct command command_info = {
    .name = "info",
    .summary = "what a model or an adapter file is",
    .usage = "[options] [FILE ...]",
    .details =
        "Checks GGUF files and prints what they are: a model's shape, an adapter's rank and targets and what it was "
        "trained with. With devices it also says which layers each of them would hold.",
    .examples = "genarm info\n"
                "genarm info model.gguf cheerful.gguf\n"
                "genarm info model.gguf --rpc 192.168.1.20:50052,192.168.1.21:50052\n"
                "genarm info cheerful.gguf --json",
    .options = info_options,
    .n_options = sizeof info_options / sizeof *info_options,
    .args_size = sizeof(struct info_args),
    .run = info_run,
};
