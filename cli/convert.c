/* genarm convert: adapters from and to Hugging Face PEFT. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/json.h"
#include "commands.h"
#include "convert/peft.h"
#include "models.h"
#include "tell.h"

struct convert_args {
    struct model_args model;
    struct option_list inputs;
    const char *output, *base_model;
    bool json;
};

#define ARGS(member) offsetof(struct convert_args, member)

static const struct option convert_options[] = {
    {OPTION_FILES, "ADAPTER", "", ARGS(inputs),
     .help = "a GGUF adapter, which becomes a PEFT adapter, or a PEFT adapter's folder, which becomes a GGUF adapter"},
    {OPTION_FILE, "-o --output", "PATH", ARGS(output), .help = "the GGUF file or the PEFT folder to write"},
    {OPTION_TEXT, "--base-model", "NAME", ARGS(base_model),
     .help = "of the PEFT adapter to write: the name or folder of its base model, by which PEFT's Auto classes find it"},
    {OPTION_FLAG, "--json", "", ARGS(json), .help = "print what was written as a JSON record"},
    OPTIONS_MODEL(struct convert_args),
};

static bool ends_with(const char *text, const char *end) {
    const size_t n = strlen(text), n_end = strlen(end);
    return n >= n_end && strcmp(text + n - n_end, end) == 0;
}

/* The folder of a PEFT adapter, malloc'ed, when the input is one or a file in one; else NULL. */
static char *peft_folder(const char *input) {
    struct stat st;
    if (stat(input, &st) == 0 && S_ISDIR(st.st_mode)) {
        return strdup(input);
    }
    if (!ends_with(input, ".safetensors") && !ends_with(input, "adapter_config.json")) {
        return NULL;
    }
    const char *slash = strrchr(input, '/');
    return slash ? strndup(input, slash == input ? 1 : (size_t)(slash - input)) : strdup(".");
}

static int print_result(const struct convert_args *args, const struct genarm_adapter *adapter, const char *format,
                        struct genarm_error *err) {
    struct genarm_adapter_info i;
    genarm_adapter_get_info(adapter, &i);
    if (args->json) {
        return print_json(stdout,
                          json_pack("{s:o, s:s, s:i, s:o, s:s, s:I}", "output", text_json(args->output), "format",
                                    format, "rank", i.rank, "alpha", json_rounded((double)i.alpha, 6), "targets",
                                    i.targets, "parameters", (json_int_t)i.n_params),
                          err);
    }
    printf("%s: %s adapter, rank %d, alpha %g, targets %s\n", args->output, format, i.rank, (double)i.alpha, i.targets);
    return flush_output(stdout, err);
}

static int convert(const struct convert_args *args, const struct genarm_model *model, const char *folder,
                   struct genarm_error *err) {
    const char *input = args->inputs.items[0];
    struct genarm_adapter *adapter = NULL;
    int code = folder ? genarm_adapter_from_peft(model, folder, args->output, err)
                      : genarm_adapter_to_peft(model, input, args->output, args->base_model, err);
    if (code == 0) { /* the GGUF side, read as any command would read it */
        code = genarm_adapter_load(&adapter, model, folder ? args->output : input, err);
    }
    if (code == 0) {
        code = print_result(args, adapter, folder ? "GGUF" : "PEFT", err);
    }
    genarm_adapter_free(adapter);
    return code;
}

static int check_use(const struct convert_args *args, const char *folder, struct genarm_error *err) {
    if (args->inputs.n != 1) {
        return usage_error(err, "ADAPTER", args->inputs.n ? "one adapter at a time" : "the adapter to convert is missing");
    }
    if (!args->output) {
        return usage_error(err, "-o", "what to write is missing: -o PATH");
    }
    if (!folder && ends_with(args->output, ".gguf")) {
        return usage_error(err, "-o", "%s becomes a PEFT adapter, which is a folder, not a .gguf file",
                           args->inputs.items[0]);
    }
    if (folder && args->base_model) {
        return usage_error(err, "--base-model", "a GGUF adapter takes it from adapter_config.json");
    }
    return 0;
}

/* The output must be no file of the folder that is read; NULL: none is. */
static int keep_folder(const char *output, const char *folder, struct genarm_error *err) {
    static const char *const files[] = {PEFT_CONFIG, PEFT_TENSORS};
    int code = 0;
    for (size_t i = 0; folder && i < sizeof files / sizeof *files && code == 0; i++) {
        struct buf path;
        buf_init(&path, 1 << 16);
        code = buf_printf(&path, err, "%s/%s", folder, files[i]);
        code = code ? code : keep_input("-o", output, path.data, err);
        buf_deinit(&path);
    }
    return code;
}

static int convert_run(const void *arguments, struct genarm_error *err) {
    const struct convert_args *args = arguments;
    struct genarm_model *model = NULL;
    log_to_stderr(args->model.verbose);
    char *folder = args->inputs.n ? peft_folder(args->inputs.items[0]) : NULL;
    int code = check_use(args, folder, err);
    if (code == 0) {
        code = load_model_mapped(&model, &args->model, err);
    }
    if (code == 0) {
        struct genarm_model_info info;
        genarm_model_get_info(model, &info);
        code = keep_input("-o", args->output, info.path, err);
        code = code ? code : keep_folder(args->output, folder, err);
    }
    if (code == 0) {
        code = convert(args, model, folder, err);
    }
    genarm_model_free(model);
    free(folder);
    return code;
}

const struct command command_convert = {
    .name = "convert",
    .summary = "turn adapters into PEFT's format and back",
    .usage = "[options] ADAPTER -o PATH",
    .details =
        "Reads a LoRA adapter in llama.cpp's GGUF format and writes one for Hugging Face PEFT (adapter_config.json and "
        "adapter_model.safetensors), or the other way; the input says which. The base model given with -m tells how "
        "rows are ordered: GGUF permutes those of q and k in models of the llama architecture. Numbers are written as "
        "F32. From GGUF to PEFT and back gives the same file.\n"
        "A reward model's head is PEFT's module score of a sequence classifier (task type SEQ_CLS, one label), both ways.\n"
        "A PEFT adapter with DoRA, biases, other modules_to_save or an initialisation that changes its base is refused, as a "
        "LoRA file cannot say it; with alpha_pattern, the scales are multiplied into B.",
    .examples = "genarm convert -m model.gguf arm.gguf -o arm-peft --base-model org/model\n"
                "genarm convert -m model.gguf arm-peft -o arm.gguf",
    .options = convert_options,
    .n_options = sizeof convert_options / sizeof *convert_options,
    .args_size = sizeof(struct convert_args),
    .run = convert_run,
};
