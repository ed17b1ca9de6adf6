/* `genarm serve`, unguided and under one ARM, beside llama-server unguided on the same model: tokens a second and the time to
 * the first token for 1, 4 and 8 streams at once, then how long small requests take while 8 streams are being answered.
 *
 *     bench_serve [OPTIONS] [MODEL.gguf ...]
 *
 *     --genarm PROGRAM|URL, --llama-server PROGRAM|URL   other ones than those of this checkout, or servers that run already
 *     --arm FILE       a trained ARM; without it one of random numbers is made, which costs the same
 *     --rounds N       rounds (5);  --tokens N: tokens of an answer (100);  --threads N: threads of each server (all cores)
 *     --json           a JSON object instead of tables
 *
 * All servers run during the whole measurement; the sides take turns, run by run, in the other order in every other round. A
 * run is a list of chats with long and short prompts, of which so many are in flight at once. Each side gets the same prompts
 * but for one letter in front, so that nobody finds an answer of another side in its cache. All take the likeliest token, and
 * tokens that end an answer are forbidden, so that all answers are equally long; tokens are those that the servers report.
 */
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cores.h"
#include "base/progress.h"
#include "bench/machine.h"
#include "bench/random_adapter.h"
#include "bench/samples.h"
#include "chat_load.h"
#include "server_process.h"
#include "support/temp.h"

enum { N_SIZES = 3, MAX_STREAMS = 8, MIN_REQUESTS = 4, MAX_REQUESTS = 3 * MAX_STREAMS, MAX_ROUNDS = 50, CTX = 2048 };
enum { SETTLE_US = 200000 /* until the threads of the side before have stopped polling */ };
enum side { LLAMA, UNGUIDED, GUIDED, N_SIDES };
static const int sizes[N_SIZES] = {1, 4, MAX_STREAMS};
static const char *const side_names[N_SIDES] = {"llama-server", "genarm serve", "genarm serve + 1 ARM"};
static const double BAR_RATE = 0.9, BAR_FIRST = 1.3; /* under an ARM, to llama-server unguided */
static const double BAR_SMALL_MS = 50;               /* of small requests, 99th percentile */

struct settings {
    const char *genarm, *llama, *arm;
    int n_rounds, n_tokens, n_threads;
    bool json;
};

/* What a side did at one number of streams. */
struct cell {
    double rates[MAX_ROUNDS];                  /* tokens a second, a run each */
    double first[MAX_ROUNDS * MAX_REQUESTS];   /* ms, a request each */
    size_t n_rates, n_first;
    int64_t n_prompt, n_answer;                /* tokens of all runs */
};

struct subject {
    const struct settings *settings;
    const char *name;
    struct server_process genarm, llama;
    json_t *arms;       /* names of genarm's */
    json_t *logit_bias; /* that forbids to end an answer */
    struct machine machine;
    unsigned n_asked; /* prompts so far */
    bool has_side[N_SIDES];
    struct cell cells[N_SIDES][N_SIZES];
};

static void die(const char *what, const char *why) {
    fprintf(stderr, "bench_serve: %s: %s\n", what, why);
    exit(1);
}

static void must(int rc, const struct genarm_error *err) {
    if (rc != GENARM_OK) {
        die(err->where, err->what);
    }
}

/* ---- what is asked ---- */

static const char *const topics[] = {"lighthouses", "sourdough bread", "glaciers",     "bicycles",     "violins",  "tides",
                                     "compost",     "steam engines",   "honey bees",   "suspension bridges", "chess", "volcanoes",
                                     "paper",       "migrating birds", "sailing boats", "telescopes"};
static const char *const questions[] = {"How do %s work?", "What should a child know about %s?",
                                        "Write a short paragraph about %s.", "Give three facts about %s and explain each.",
                                        "Why do people care about %s?", "Tell me a story that has to do with %s.",
                                        "What is the history of %s?", "Name a mistake that many make about %s.",
                                        "Compare %s with something else that is similar.",
                                        "Which questions about %s are still open?"};
static const char *const notes[] = {
    "Somebody told me that %s were much more common a hundred years ago, but I could not find out where they got this from.",
    "My neighbour has read two books about %s and says that they disagree on nearly everything of importance.",
    "In our school there was a whole week about %s, with visits, drawings and an exhibition for the parents at its end.",
    "I am not an expert, so please avoid technical terms when you write about %s, or explain them where they come up."};

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Prompt number n; every third has notes in front of its question, some of them long. */
static void write_prompt(char *text, size_t size, unsigned n, enum side side) {
    const char *const topic = topics[n % COUNT(topics)];
    const unsigned n_notes = n % 3 ? 0 : 2 + n % 7;
    size_t at = (size_t)snprintf(text, size, "%c%u. ", "LUG"[side], n);
    for (unsigned i = 0; i < n_notes && at < size; i++) {
        at += (size_t)snprintf(text + at, size - at, notes[(n + i) % COUNT(notes)], topic);
        at += at < size ? (size_t)snprintf(text + at, size - at, " ") : 0;
    }
    if (at < size) {
        snprintf(text + at, size - at, questions[n / COUNT(topics) % COUNT(questions)], topic);
    }
}

/* The weights that make a side of genarm. */
static json_t *weights_of(const struct subject *s, enum side side) {
    json_t *weights = json_object(), *name = NULL;
    size_t i;
    json_array_foreach(s->arms, i, name) {
        json_object_set_new(weights, json_string_value(name), json_real(side == GUIDED && i == 0 ? 1 : 0));
    }
    return weights;
}

static char *write_body(const struct subject *s, enum side side, unsigned n) {
    char prompt[4096];
    write_prompt(prompt, sizeof prompt, n, side);
    json_t *body = json_pack("{s:s, s:[{s:s, s:s}, {s:s, s:s}], s:b, s:{s:b}, s:i, s:i, s:O}", "model", "model", "messages",
                             "role", "system", "content", "You are a helpful assistant.", "role", "user", "content", prompt,
                             "stream", 1, "stream_options", "include_usage", 1, "temperature", 0, "max_tokens",
                             s->settings->n_tokens, "logit_bias", s->logit_bias);
    if (side != LLAMA && json_array_size(s->arms)) {
        json_object_set_new(body, "arms", weights_of(s, side));
    }
    char *text = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    return text;
}

/* ---- runs ---- */

static const char *url_of(const struct subject *s, enum side side) { return side == LLAMA ? s->llama.url : s->genarm.url; }

/* n_requests prompts from number `from` on, n_streams at once; into `cell` unless that is NULL. */
static void run_side(struct subject *s, enum side side, unsigned from, size_t n_requests, size_t n_streams, struct cell *cell) {
    struct chat_request requests[MAX_REQUESTS] = {0};
    int64_t n_answer = 0;
    for (size_t i = 0; i < n_requests; i++) {
        requests[i].body = write_body(s, side, from + (unsigned)i);
    }
    const double seconds = chat_load_run(url_of(s, side), requests, n_requests, n_streams);
    for (size_t i = 0; i < n_requests; i++) {
        if (requests[i].problem[0]) {
            die(side_names[side], requests[i].problem);
        }
        n_answer += requests[i].n_answer;
        if (cell) {
            cell->first[cell->n_first++] = 1e3 * requests[i].first;
            cell->n_prompt += requests[i].n_prompt;
        }
        free(requests[i].body);
    }
    if (cell) {
        cell->rates[cell->n_rates++] = (double)n_answer / seconds;
        cell->n_answer += n_answer;
    }
}

static void run_rounds(struct subject *s) {
    struct progress progress;
    int64_t n_done = 0;
    progress_start(&progress, s->name, "runs", N_SIDES * (N_SIZES * s->settings->n_rounds + 1), 0);
    for (int r = -1; r < s->settings->n_rounds; r++) { /* one round to warm up */
        for (int i = r < 0 ? N_SIZES - 1 : 0; i < N_SIZES; i++) {
            const size_t n = 2 * sizes[i] < MIN_REQUESTS ? MIN_REQUESTS : 2 * (size_t)sizes[i];
            for (int turn = 0; turn < N_SIDES; turn++) {
                const int side = r % 2 ? N_SIDES - 1 - turn : turn;
                if (s->has_side[side]) {
                    usleep(SETTLE_US);
                    run_side(s, (enum side)side, s->n_asked, n, (size_t)sizes[i], r < 0 ? NULL : &s->cells[side][i]);
                }
                progress_update(&progress, ++n_done, NULL);
            }
            s->n_asked += (unsigned)n;
        }
    }
    progress_end(&progress);
}

/* ---- servers ---- */

static bool is_url(const char *text) { return strncmp(text, "http://", 7) == 0; }

/* The tokens that end an answer, what the machine is, and an ARM where none is given. */
static void look_at_model(struct subject *s, const char *path, const char *arm) {
    struct genarm_model *model = NULL;
    struct genarm_model_info info;
    struct genarm_error err = {0};
    must(genarm_model_load(&model, path, NULL, &err), &err);
    genarm_model_get_info(model, &info);
    machine_describe(&s->machine, model);
    s->logit_bias = json_object();
    for (int32_t token = 0; token < info.n_vocab; token++) {
        if (genarm_token_ends(model, token)) {
            char id[16];
            snprintf(id, sizeof id, "%d", token);
            json_object_set_new(s->logit_bias, id, json_integer(-100));
        }
    }
    if (!s->settings->arm) {
        const unsigned qkv = 1u << LINEAR_Q | 1u << LINEAR_K | 1u << LINEAR_V;
        must(random_adapter_write(arm, model, 8, qkv, 0.01f, 1, &err), &err);
    }
    genarm_model_free(model);
}

static void start_genarm(struct subject *s, const char *path, const char *arm) {
    char named[4096 + 8], ctx[16], threads[16], streams[16];
    snprintf(named, sizeof named, "arm=%s:1", arm);
    snprintf(ctx, sizeof ctx, "%d", CTX);
    snprintf(threads, sizeof threads, "%d", s->settings->n_threads);
    snprintf(streams, sizeof streams, "%d", MAX_STREAMS);
    const char *const argv[] = {s->settings->genarm, "serve", "-m", path, "--arm", named, "-c", ctx,
                                "-t",  threads, "-np", streams, NULL};
    if (is_url(s->settings->genarm)) {
        snprintf(s->genarm.url, sizeof s->genarm.url, "%s", s->settings->genarm);
    } else if (!server_process_start(&s->genarm, argv)) {
        exit(1);
    }
}

/* As fast as it goes: only the likeliest token is looked at, and no prompt is kept for later, since none comes twice. */
static void start_llama(struct subject *s, const char *path) {
    char ctx[16], threads[16], streams[16];
    snprintf(ctx, sizeof ctx, "%d", CTX * MAX_STREAMS); /* of all streams together */
    snprintf(threads, sizeof threads, "%d", s->settings->n_threads);
    snprintf(streams, sizeof streams, "%d", MAX_STREAMS);
    const char *const argv[] = {s->settings->llama, "-m", path, "-c", ctx, "-t", threads, "-np", streams, "--samplers", "top_k",
                                "--top-k", "1", "--cache-ram", "0", "--offline", NULL};
    if (is_url(s->settings->llama)) {
        snprintf(s->llama.url, sizeof s->llama.url, "%s", s->settings->llama);
        s->has_side[LLAMA] = true;
    } else if (access(s->settings->llama, X_OK) != 0) {
        fprintf(stderr, "bench_serve: no llama-server at %s: run scripts/deps.sh llama-server to have it measured too\n",
                s->settings->llama);
    } else {
        s->has_side[LLAMA] = server_process_start(&s->llama, argv);
    }
}

/* Which ARMs it has: one without any is measured unguided only. */
static void ask_for_arms(struct subject *s) {
    long status = 0;
    char *text = chat_load_get(s->genarm.url, "/arms", &status);
    json_t *list = text && status == 200 ? json_loads(text, 0, NULL) : NULL, *arm = NULL;
    size_t i;
    s->arms = json_array();
    json_array_foreach(list, i, arm) {
        json_array_append(s->arms, json_object_get(arm, "name"));
    }
    s->has_side[UNGUIDED] = true;
    s->has_side[GUIDED] = json_array_size(s->arms) > 0;
    if (!s->has_side[GUIDED]) {
        fprintf(stderr, "bench_serve: %s has no ARM\n", s->genarm.url);
    }
    json_decref(list);
    free(text);
}

/* ---- what came of it ---- */

static const char *met(bool is) { return is ? "" : " (missed)"; }

static json_t *report_cell(struct subject *s, enum side side, int i) {
    struct cell *c = &s->cells[side][i], *peer = &s->cells[LLAMA][i];
    const double rate = samples_median(c->rates, c->n_rates), first = samples_median(c->first, c->n_first);
    const double late = samples_quantile(c->first, c->n_first, 0.95);
    json_t *row = json_pack("{s:s, s:s, s:i, s:f, s:f, s:f, s:f, s:I, s:I}", "model", s->name, "server", side_names[side],
                            "streams", sizes[i], "tokens_per_second", rate, "deviation",
                            samples_deviation(c->rates, c->n_rates), "first_token_ms", first, "first_token_ms_p95", late,
                            "prompt_tokens", (json_int_t)c->n_prompt, "answer_tokens", (json_int_t)c->n_answer);
    if (!s->settings->json) {
        printf("| %s | %d | %s | %.1f ± %.1f |", s->name, sizes[i], side_names[side], rate,
               samples_deviation(c->rates, c->n_rates));
    }
    char rates[48] = "", firsts[48] = "";
    if (side != LLAMA && s->has_side[LLAMA]) {
        const double of_rate = rate / samples_median(peer->rates, peer->n_rates);
        const double of_first = first / samples_median(peer->first, peer->n_first);
        json_object_set_new(row, "tokens_per_second_ratio", json_real(of_rate));
        json_object_set_new(row, "first_token_ratio", json_real(of_first));
        snprintf(rates, sizeof rates, "%.2fx%s", of_rate, met(side != GUIDED || of_rate >= BAR_RATE));
        snprintf(firsts, sizeof firsts, "%.2fx%s", of_first, met(side != GUIDED || of_first <= BAR_FIRST));
    }
    if (!s->settings->json) {
        printf(" %s | %.0f | %.0f | %s |\n", rates, first, late, firsts);
    }
    return row;
}

/* The comparison is of equals only if all sides counted the same tokens. */
static void check_tokens(const struct subject *s) {
    for (int i = 0; i < N_SIZES; i++) {
        const struct cell *expected = &s->cells[s->has_side[LLAMA] ? LLAMA : UNGUIDED][i];
        for (int side = 0; side < N_SIDES; side++) {
            const struct cell *c = &s->cells[side][i];
            if (s->has_side[side] && (c->n_prompt != expected->n_prompt || c->n_answer != expected->n_answer)) {
                fprintf(stderr, "bench_serve: not the same work: %s had %lld tokens of prompts and %lld of answers, %s %lld "
                        "and %lld\n", side_names[side], (long long)c->n_prompt, (long long)c->n_answer,
                        side_names[s->has_side[LLAMA] ? LLAMA : UNGUIDED], (long long)expected->n_prompt,
                        (long long)expected->n_answer);
            }
        }
    }
}

/* Small requests to a server while MAX_STREAMS streams are being answered. */
static void report_small(struct subject *s, enum side side, json_t *rows) {
    static const char *const paths[] = {"/health", "/"};
    const size_t n_paths = side == LLAMA ? 1 : COUNT(paths); /* our llama-server has no page */
    double *seconds[COUNT(paths)];
    size_t n[COUNT(paths)], n_failed[COUNT(paths)];
    usleep(SETTLE_US);
    struct prober *prober = prober_start(url_of(s, side), paths, n_paths);
    run_side(s, side, s->n_asked, MAX_REQUESTS, MAX_STREAMS, NULL);
    prober_stop(prober, seconds, n, n_failed);
    for (size_t i = 0; i < n_paths; i++) {
        const double p50 = 1e3 * samples_quantile(seconds[i], n[i], 0.5), p99 = 1e3 * samples_quantile(seconds[i], n[i], 0.99);
        json_array_append_new(rows, json_pack("{s:s, s:s, s:s, s:f, s:f, s:I, s:I}", "model", s->name, "server",
                                              side_names[side], "path", paths[i], "ms_p50", p50, "ms_p99", p99, "requests",
                                              (json_int_t)n[i], "failed", (json_int_t)n_failed[i]));
        if (!s->settings->json) {
            printf("| %s | %s | `%s` | %.1f | %.1f%s | %zu | %zu |\n", s->name, side_names[side], paths[i], p50, p99,
                   met(side == LLAMA || p99 < BAR_SMALL_MS), n[i], n_failed[i]);
        }
        free(seconds[i]);
    }
}

static void report(struct subject *s, json_t *out) {
    const bool tables = !s->settings->json;
    json_t *rows = json_object_get(out, "streams"), *small = json_object_get(out, "small_requests");
    if (tables) {
        printf("\n%s, %d threads, genarm's kernels: %s\n\n", s->machine.cpu, s->settings->n_threads, s->machine.kernels);
        printf("| model | streams | server | tokens/s | to llama-server's (>= %.2f) | first token, ms | 95 %% within | to "
               "llama-server's (<= %.2f) |\n|---|---|---|---|---|---|---|---|\n", BAR_RATE, BAR_FIRST);
    }
    for (int i = 0; i < N_SIZES; i++) {
        for (int side = 0; side < N_SIDES; side++) {
            if (s->has_side[side]) {
                json_array_append_new(rows, report_cell(s, (enum side)side, i));
            }
        }
    }
    if (tables) {
        printf("\n| model | server, %d streams | path | ms, median | 99 %% within (< %.0f) | requests | failed |\n"
               "|---|---|---|---|---|---|---|\n", MAX_STREAMS, BAR_SMALL_MS);
    }
    for (int side = 0; side < N_SIDES; side++) {
        if (s->has_side[side] && (side != UNGUIDED || !s->has_side[GUIDED])) {
            report_small(s, (enum side)side, small);
        }
    }
    json_object_set_new(out, "cpu", json_string(s->machine.cpu));
    json_object_set_new(out, "kernels", json_string(s->machine.kernels));
    fflush(stdout);
}

static void bench(const char *path, const struct settings *settings, json_t *out) {
    struct subject *s = calloc(1, sizeof *s);
    char arm[4096];
    if (!s) {
        die("memory", "there is not enough");
    }
    s->settings = settings;
    s->name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    snprintf(arm, sizeof arm, "%s", settings->arm ? settings->arm : temp_path("arm.gguf"));
    look_at_model(s, path, arm);
    start_genarm(s, path, arm);
    start_llama(s, path);
    ask_for_arms(s);
    run_rounds(s);
    report(s, out);
    check_tokens(s);
    const int status = server_process_stop(&s->genarm);
    if (status != 0) {
        fprintf(stderr, "bench_serve: genarm serve ended with status %d\n", status);
    }
    server_process_stop(&s->llama);
    json_decref(s->arms);
    json_decref(s->logit_bias);
    free(s);
}

static int number(const char *option, const char *text, int min, int max) {
    char *end = NULL;
    const long value = strtol(text, &end, 10);
    if (end == text || *end || value < min || value > max) {
        fprintf(stderr, "bench_serve: --%s: \"%s\" is no number from %d to %d\n", option, text, min, max);
        exit(2);
    }
    return (int)value;
}

static void read_options(struct settings *s, int argc, char **argv) {
    static const struct option options[] = {
        {"genarm", required_argument, NULL, 'g'}, {"llama-server", required_argument, NULL, 'l'},
        {"arm", required_argument, NULL, 'a'},    {"rounds", required_argument, NULL, 'r'},
        {"tokens", required_argument, NULL, 'n'}, {"threads", required_argument, NULL, 't'},
        {"json", no_argument, NULL, 'j'},         {0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'g': s->genarm = optarg; break;
        case 'l': s->llama = optarg; break;
        case 'a': s->arm = optarg; break;
        case 'r': s->n_rounds = number("rounds", optarg, 1, MAX_ROUNDS); break;
        case 'n': s->n_tokens = number("tokens", optarg, 2, CTX / 2); break;
        case 't': s->n_threads = number("threads", optarg, 1, 512); break;
        case 'j': s->json = true; break;
        default: exit(2);
        }
    }
}

int main(int argc, char **argv) {
    const char *const defaults[] = {GENARM_MODEL_DIR "/SmolLM2-135M-Instruct-F16.gguf",
                                    GENARM_MODEL_DIR "/SmolLM2-135M-Instruct-Q8_0.gguf"};
    struct settings settings = {
        .genarm = GENARM_PROGRAM, .llama = GENARM_LLAMA_SERVER, .n_rounds = 5, .n_tokens = 100, .n_threads = cores_usable()};
    read_options(&settings, argc, argv);
    json_t *out = json_pack("{s:i, s:i, s:i, s:[], s:[]}", "rounds", settings.n_rounds, "threads", settings.n_threads, "tokens",
                            settings.n_tokens, "streams", "small_requests");
    if (!settings.json) {
        printf("Servers, %d streams at most, answers of %d tokens: tokens a second of all streams together, medians of %d rounds "
               "± their deviation;\nmilliseconds from a request to the first text of its answer.\n", MAX_STREAMS,
               settings.n_tokens, settings.n_rounds);
        fflush(stdout);
    }
    for (int i = optind; i < argc; i++) {
        bench(argv[i], &settings, out);
    }
    for (size_t i = 0; optind == argc && i < COUNT(defaults); i++) {
        bench(defaults[i], &settings, out);
    }
    if (settings.json) {
        json_dumpf(out, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
        printf("\n");
    }
    json_decref(out);
    return 0;
}
