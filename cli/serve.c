/* genarm serve: an HTTP server with OpenAI's API, llama.cpp's, and a page. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "commands.h"
#include "drafts.h"
#include "guide/guide.h"
#include "serve/server.h"
#include "tell.h"

struct serve_args {
    struct model_args model;
    struct guide_args guide;
    struct sampling_args sampling;
    struct draft_args draft;
    struct shift_args shift;
    const char *host, *keys, *key_file, *alias, *cors, *log_file;
    int32_t port, n_parallel, n_predict, queue, timeout, max_connections, grace, log_format;
    double time_limit, max_body;
    bool metrics, no_slots, no_page;
};

static const struct option serve_options[] = {
    {OPTION_GROUP, .help = "Server"},
    {OPTION_TEXT, "--host", "HOST", offsetof(struct serve_args, host), .fallback = "127.0.0.1", .env = "LLAMA_ARG_HOST",
     .help = "address to listen at; 0.0.0.0: all of this machine's, which should have --api-key"},
    {OPTION_INT, "--port", "N", offsetof(struct serve_args, port), 0, 65535, .fallback = "8080", .env = "LLAMA_ARG_PORT",
     .help = "port to listen at; 0: a free one, which is said"},
    {OPTION_INT, "-np --parallel", "N", offsetof(struct serve_args, n_parallel), 1, 1024, .fallback = "4",
     .also = "-1", .env = "LLAMA_ARG_N_PARALLEL",
     .help = "answers given at once, each with a context of its own (-c); -1: the default"},
    {OPTION_TEXT, "-a --alias", "NAME", offsetof(struct serve_args, alias), .env = "LLAMA_ARG_ALIAS",
     .help = "name of the model in the API; without it its file's"},
    {OPTION_TEXT, "--api-key", "KEY,...", offsetof(struct serve_args, keys), .env = "LLAMA_API_KEY",
     .help = "answer only requests with one of these keys, as Authorization: Bearer KEY; the page, /health and "
             "/openapi.json are open"},
    {OPTION_FILE, "--api-key-file", "FILE", offsetof(struct serve_args, key_file), .help = "further keys, one in a line"},
    {OPTION_TEXT, "--cors", "ORIGIN", offsetof(struct serve_args, cors),
     .help = "let pages of this origin, such as https://example.org, use the API, and a proxy of this name hand requests on; *: "
             "any, with --api-key only"},
    {OPTION_FLAG, "--metrics", "", offsetof(struct serve_args, metrics), .env = "LLAMA_ARG_ENDPOINT_METRICS",
     .help = "serve /metrics for Prometheus"},
    {OPTION_FLAG, "--no-slots", "", offsetof(struct serve_args, no_slots), .help = "do not serve /slots"},
    {OPTION_FLAG, "--no-ui --no-webui", "", offsetof(struct serve_args, no_page), .help = "do not serve the page"},
    {OPTION_GROUP, .help = "Limits"},
    {OPTION_INT, "--queue", "N", offsetof(struct serve_args, queue), 0, 1000000, .fallback = "64",
     .help = "requests that may wait for a slot; further ones are told when to try again (503)"},
    {OPTION_NUMBER, "--time-limit", "SECONDS", offsetof(struct serve_args, time_limit), 0, 1e6, .fallback = "600",
     .help = "an answer ends after so long, its wait for a slot included, as if at its most tokens; 0: no limit"},
    {OPTION_INT, "-to --timeout", "SECONDS", offsetof(struct serve_args, timeout), 1, 86400, .fallback = "60",
     .env = "LLAMA_ARG_TIMEOUT", .help = "a connection that neither takes nor gives anything for so long is closed"},
    {OPTION_NUMBER, "--max-body", "BYTES", offsetof(struct serve_args, max_body), 1024, 1e9, .fallback = "4194304",
     .help = "size of a request, at most; larger ones get a 413"},
    {OPTION_INT, "--max-connections", "N", offsetof(struct serve_args, max_connections), 1, 10000, .fallback = "256",
     .help = "connections at once; the one that is idle longest makes room for a new one"},
    {OPTION_INT, "--grace", "SECONDS", offsetof(struct serve_args, grace), 0, 86400, .fallback = "30",
     .help = "after SIGTERM or Ctrl-C answers that run may go on for so long; a second one ends them at once"},
    {OPTION_GROUP, .help = "Log"},
    {OPTION_FILE, "--log-file", "FILE", offsetof(struct serve_args, log_file), .env = "LLAMA_LOG_FILE",
     .help = "append the log to a file, which SIGHUP opens anew, instead of writing to stderr"},
    {OPTION_CHOICE, "--log-format", "FORMAT", offsetof(struct serve_args, log_format), .choices = "text|json", .fallback = "text",
     .help = "json: an object in each line"},
    {OPTION_GROUP, .help = "Answers, unless a request says otherwise"},
    {OPTION_INT, "-n --predict --n-predict", "N", offsetof(struct serve_args, n_predict), -1, INT32_MAX, .fallback = "-1",
     .env = "LLAMA_ARG_N_PREDICT", .help = "tokens at most; -1: until the model ends its answer or the context is full"},
    OPTIONS_DRAW(struct serve_args, 0, "temperature; 0: always the likeliest token"),
    OPTIONS_GUIDE(struct serve_args),
    OPTIONS_SHIFT(struct serve_args),
    OPTIONS_DRAFT(struct serve_args),
    OPTIONS_MODEL(struct serve_args),
};

struct serving {
    const struct serve_args *args;
    struct setup setup;
    struct serve_model model;
    struct serve_arm *arms; /* [n_arms] */
    char **keys;            /* [n_keys] */
    size_t n_keys;
    struct serve_log *log;
    struct server *server;
    sigset_t signals;       /* that end it or open the log anew */
};

/* ---- keys ---- */

static int add_key(struct serving *s, const char *key, size_t n, struct genarm_error *err) {
    char **keys = realloc(s->keys, (s->n_keys + 1) * sizeof(char *));
    s->keys = keys ? keys : s->keys;
    char *copy = keys ? strndup(key, n) : NULL;
    if (!copy) {
        return error_nomem(err, "keys");
    }
    s->keys[s->n_keys++] = copy;
    return 0;
}

/* Keys that are separated by any of these; blanks around one are not of it. */
static int add_keys(struct serving *s, const char *text, const char *separators, struct genarm_error *err) {
    int code = 0;
    while (*text && code == 0) {
        size_t n = strcspn(text, separators);
        const char *next = text + n + (text[n] != '\0');
        while (n > 0 && strchr(" \t\r", *text)) {
            text++;
            n--;
        }
        while (n > 0 && strchr(" \t\r", text[n - 1])) {
            n--;
        }
        code = n > 0 ? add_key(s, text, n, err) : 0;
        text = next;
    }
    return code;
}

static int read_keys(struct serving *s, struct genarm_error *err) {
    const struct serve_args *args = s->args;
    struct buf text;
    int code = args->keys ? add_keys(s, args->keys, ",", err) : 0;
    if (args->key_file && code == 0) {
        buf_init(&text, 1 << 20);
        code = file_read(&text, args->key_file, err);
        code = code == 0 && text.data ? add_keys(s, text.data, "\n", err) : code;
        buf_deinit(&text);
    }
    if (code == 0 && (args->keys || args->key_file) && s->n_keys == 0) {
        return usage_error(err, args->keys ? "--api-key" : "--api-key-file", "there is no key: everybody would be let in");
    }
    return code;
}

/* ---- the model ---- */

static const char *without_folders(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int describe_arms(struct serving *s, struct genarm_error *err) {
    const struct setup *setup = &s->setup;
    s->arms = calloc(setup->n_arms + 1, sizeof *s->arms);
    if (!s->arms) {
        return error_nomem(err, "reward models");
    }
    for (size_t i = 0; i < setup->n_arms; i++) {
        const struct policy *policy = &setup->guide->policies[i + 1];
        struct genarm_adapter_info info = {0};
        if (setup->adapters[i]) {
            genarm_adapter_get_info(setup->adapters[i], &info);
        }
        s->arms[i] = (struct serve_arm){.name = setup->arms[i].name, .file = without_folders(setup->arms[i].path),
                                        .weight = setup->arms[i].weight, .minus_reference = policy->minus_reference,
                                        .objectives = info.objectives, .n_objectives = info.n_objectives};
    }
    return 0;
}

static int load_models(struct serving *s, struct genarm_error *err) {
    const struct serve_args *args = s->args;
    struct setup *setup = &s->setup;
    int code = setup_load(setup, &args->model, &args->guide, args->n_parallel, err);
    code = code ? code : drafts_load(setup, &args->model, &args->guide, &args->draft, err);
    code = code ? code : describe_arms(s, err);
    if (code) {
        return code;
    }
    code = guide_start(setup->guide, err);
    s->model = (struct serve_model){.guide = setup->guide,
                                    .base = setup->base,
                                    .file = setup_model_name(setup),
                                    .template_name = setup->guide->policies[0].template_name,
                                    .n_slots = args->n_parallel,
                                    .n_ctx = setup->guide->params.n_ctx,
                                    .n_batch = args->guide.n_batch,
                                    .arms = s->arms,
                                    .n_arms = setup->n_arms,
                                    .sampling = sampling_from(&args->sampling),
                                    .n_predict = args->n_predict,
                                    .shift = args->shift.on,
                                    .keep = args->shift.keep,
                                    .draft = setup->drafts ? &setup->draft : NULL};
    return code ? code : server_load(s->server, &s->model, err);
}

/* ---- running ---- */

/* The signals that end it or open the log anew are waited for by one thread; all others have them blocked. */
static void block_signals(struct serving *s) {
    sigemptyset(&s->signals);
    sigaddset(&s->signals, SIGINT);
    sigaddset(&s->signals, SIGTERM);
    sigaddset(&s->signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &s->signals, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* Until there is something to be ended in peace a signal does what it does to any program. */
static void *end_at_once(void *user) {
    struct serving *s = user;
    sigset_t signals;
    int number = 0;
    while (sigwait(&s->signals, &number) == 0 && number == SIGHUP) {
        serve_log_reopen(s->log);
    }
    signal(number, SIG_DFL);
    sigemptyset(&signals);
    sigaddset(&signals, number);
    pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
    raise(number);
    return NULL;
}

static void log_callback(enum genarm_log_level level, const char *line, void *user) {
    if (level >= GENARM_LOG_WARN) {
        serve_log_line(user, level, NULL, "%s", line);
    }
}

/* Where it listens, as an address for browsers. */
static void put_address(const struct serving *s, char *out, size_t size) {
    const char *host = s->args->host;
    const bool bare_v6 = strchr(host, ':') != NULL && host[0] != '[';
    snprintf(out, size, "http://%s%s%s:%d", bare_v6 ? "[" : "", host, bare_v6 ? "]" : "", server_port(s->server));
}

static void say_listening(const struct serving *s) {
    char address[300];
    put_address(s, address, sizeof address);
    serve_log_line(s->log, GENARM_LOG_INFO, NULL, "listening at %s while the model is loaded", address);
    if (s->n_keys == 0 && !server_is_local(s->server)) {
        serve_log_line(s->log, GENARM_LOG_WARN, NULL, "other machines reach this server, and there is no --api-key");
    }
}

static void say_ready(const struct serving *s) {
    char address[300];
    put_address(s, address, sizeof address);
    serve_log_line(s->log, GENARM_LOG_INFO, NULL, "serving %s with %zu ARM%s at %s", setup_model_name(&s->setup), s->setup.n_arms,
                   s->setup.n_arms == 1 ? "" : "s", address);
}

static int load(struct serving *s, struct genarm_error *err) {
    pthread_t waiting;
    if (pthread_create(&waiting, NULL, end_at_once, s) != 0) {
        return error_set(err, GENARM_ENOMEM, "no thread for signals");
    }
    const int code = load_models(s, err);
    pthread_cancel(waiting); /* sigwait ends by it */
    pthread_join(waiting, NULL);
    return code;
}

static void wait_for_end(struct serving *s) {
    int number = 0;
    while (sigwait(&s->signals, &number) == 0 && number == SIGHUP) {
        serve_log_reopen(s->log);
    }
    serve_log_line(s->log, GENARM_LOG_INFO, NULL, "shutting down: answers that run have %d s", s->args->grace);
    sigset_t again = s->signals;
    sigdelset(&again, SIGHUP);
    signal(SIGINT, SIG_DFL); /* the second one ends it at once */
    signal(SIGTERM, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &again, NULL);
    server_stop(s->server, s->args->grace);
}

static int listen_at(struct serving *s, struct genarm_error *err) {
    const struct serve_args *args = s->args;
    const struct server_params params = {.host = args->host,
                                         .port = args->port,
                                         .keys = (const char *const *)s->keys,
                                         .n_keys = s->n_keys,
                                         .alias = args->alias,
                                         .cors = args->cors,
                                         .max_body = (size_t)args->max_body,
                                         .max_connections = args->max_connections,
                                         .timeout = args->timeout,
                                         .max_queue = args->queue,
                                         .time_limit = args->time_limit,
                                         .metrics = args->metrics,
                                         .slots = !args->no_slots,
                                         .page = !args->no_page,
                                         .log = s->log};
    return server_new(&s->server, &params, err);
}

static int run_serve(const void *args, struct genarm_error *err) {
    struct serving s = {.args = args};
    const struct serve_log_params log = {.path = s.args->log_file,
                                         .json = s.args->log_format == 1,
                                         .verbose = s.args->model.verbose};
    int code = read_keys(&s, err);
    if (code == 0 && s.args->cors && strcmp(s.args->cors, "*") == 0 && s.n_keys == 0) {
        code = usage_error(err, "--cors", "* lets every page in: it needs --api-key");
    }
    code = code ? code : serve_log_new(&s.log, &log, err);
    if (code == 0) {
        genarm_log_set(log_callback, s.log);
        block_signals(&s);
        code = listen_at(&s, err);
    }
    if (code == 0) {
        say_listening(&s);
        code = load(&s, err);
    }
    if (code == 0) {
        say_ready(&s);
        wait_for_end(&s);
    }
    server_free(s.server);
    genarm_log_set(NULL, NULL);
    serve_log_free(s.log);
    setup_free(&s.setup);
    for (size_t i = 0; i < s.n_keys; i++) {
        free(s.keys[i]);
    }
    free(s.keys);
    free(s.arms);
    return code;
}

const struct command command_serve = {
    .name = "serve",
    .summary = "an HTTP server: OpenAI's API, llama.cpp's, and a page with a slider for every reward model",
    .usage = "[options]",
    .details = "It listens at once and answers 503 until the models are loaded. Endpoints and what requests may say are in "
               "docs/serve.md and, for machines, at /openapi.json.",
    .examples = "genarm serve -m model.gguf --arm helpful=a.gguf:1 --arm harmless=b.gguf:0.5\n"
                "curl http://127.0.0.1:8080/v1/chat/completions -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], "
                "\"arms\": {\"helpful\": 1.5}}'\n",
    .options = serve_options,
    .n_options = sizeof serve_options / sizeof *serve_options,
    .args_size = sizeof(struct serve_args),
    .run = run_serve,
};
