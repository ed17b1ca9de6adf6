/* See models.h. */
#include "models.h"

#include <ggml.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "tell.h"

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

/* ---- files that are one ---- */

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
