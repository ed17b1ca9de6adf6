#include "train/data.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "model/model.h"
#include "model/spell.h"
#include "ops/attention.h"

/* One pair file being read. */
struct reader {
    struct data *data;
    const struct genarm_model *model;
    const char *template_name;
    int32_t max_length;
    bool chosen_alone; /* the rejected response decides nothing */
    int32_t file, objective;
    struct pref_reader *records;
    struct genarm_message *messages; /* [n_messages] of the record at hand */
    size_t n_messages, cap_messages;
};

/* Tokens of one text. */
struct tokens {
    int32_t *ids;
    int32_t n;
};

/* ---- tokens ---- */

/* Whether the prompt begins with a system message, which stays when the rest is cut. */
static bool has_system(const struct reader *r) { return strcmp(r->messages[0].role, "system") == 0; }

/* The prompt as a policy sees it, without its turns before message `from`. */
static int tokenize_prompt(struct tokens *t, struct reader *r, size_t from, struct genarm_error *err) {
    struct genarm_message *first = r->messages + from;
    const struct genarm_message hidden = from > 0 ? first[-1] : *first;
    if (from > 0 && has_system(r)) {
        *--first = r->messages[0];
    }
    struct tokens prompt = {0};
    const int rc = template_tokens(&prompt.ids, &prompt.n, r->model, r->template_name, first,
                                   r->n_messages - (size_t)(first - r->messages), err);
    if (from > 0) {
        r->messages[from - 1] = hidden;
    }
    if (rc == GENARM_OK) {
        free(t->ids);
        *t = prompt;
    }
    return rc;
}

/* ---- cutting ---- */

/* Bytes of `text` that its first n tokens take, moved on to the start of a character. `ids` are the text's tokens. */
static size_t bytes_of(const struct genarm_model *model, const char *text, const struct tokens *ids, int32_t n) {
    size_t bytes = 0;
    for (int32_t i = 0; i < n && i < ids->n; i++) {
        const int32_t length = genarm_token_bytes(model, ids->ids[i], true, NULL, 0);
        bytes += (size_t)(length < 0 ? -length : length);
    }
    const size_t n_text = strlen(text);
    if (n >= ids->n || bytes > n_text) {
        return n_text;
    }
    while (((unsigned char)text[bytes] & 0xC0) == 0x80) {
        bytes++;
    }
    return bytes;
}

/* Leaves out as few of the earliest turns as makes the prompt fit, at most all but the last message. */
static int cut_turns(struct tokens *prompt, struct reader *r, int32_t budget, struct genarm_error *err) {
    size_t low = has_system(r) ? 2 : 1, high = r->n_messages - 1;
    if (low > high) {
        return GENARM_OK; /* one turn */
    }
    int rc = GENARM_OK;
    while (low < high && rc == GENARM_OK) {
        const size_t middle = low + (high - low) / 2;
        rc = tokenize_prompt(prompt, r, middle, err);
        if (prompt->n <= budget) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    while (strcmp(r->messages[high].role, "user") != 0) { /* the last one is */
        high++;
    }
    return rc == GENARM_OK ? tokenize_prompt(prompt, r, high, err) : rc;
}

/* Shortens the user's last text from the left until the prompt has at most `budget` tokens. */
static int cut_text(struct tokens *prompt, struct reader *r, int32_t budget, struct genarm_error *err) {
    struct genarm_message *last = &r->messages[r->n_messages - 1];
    const char *text = last->content;
    struct tokens user = {0};
    int rc = spell_append(&user.ids, &user.n, r->model, text, strlen(text), SPELL_REST, false, err);
    for (int32_t skip = 0; rc == GENARM_OK && prompt->n > budget && skip < user.n;) {
        const int32_t excess = prompt->n - budget;
        skip = excess < user.n - skip ? skip + excess : user.n;
        last->content = text + bytes_of(r->model, text, &user, skip);
        rc = tokenize_prompt(prompt, r, r->n_messages - 1, err);
    }
    last->content = text;
    free(user.ids);
    return rc;
}

/* *fits: whether the prompt now has at most `budget` tokens. */
static int cut_prompt(struct tokens *prompt, struct reader *r, int32_t budget, bool *fits, struct genarm_error *err) {
    int rc = cut_turns(prompt, r, budget, err);
    if (rc == GENARM_OK) {
        rc = cut_text(prompt, r, budget, err);
    }
    *fits = prompt->n <= budget;
    return rc;
}

/* ---- pairs ---- */

/* Tokens of a prompt, at most: either response follows it within the maximum length, and both are one tree of rows, which is the
 * lower limit where *together. */
static int32_t room_for_prompt(const struct reader *r, const struct tokens responses[SIDES], bool both, bool *together) {
    const int32_t chosen = responses[CHOSEN].n, rejected = both ? responses[REJECTED].n : 0;
    const int32_t in_length = r->max_length - (chosen > rejected ? chosen : rejected);
    const int32_t in_tree = ATTENTION_MAX_TREE - chosen - rejected;
    *together = in_tree < in_length;
    return *together ? in_tree : in_length;
}

static int append_tokens(struct data *d, const struct tokens *t, struct genarm_error *err) {
    const size_t needed = d->n_tokens + (size_t)t->n;
    if (needed > d->cap_tokens) {
        const size_t cap = needed + needed / 2;
        int32_t *grown = realloc(d->tokens, cap * sizeof *grown);
        if (!grown) {
            return error_nomem(err, "the training data");
        }
        d->tokens = grown;
        d->cap_tokens = cap;
    }
    memcpy(d->tokens + d->n_tokens, t->ids, (size_t)t->n * sizeof *t->ids);
    d->n_tokens = needed;
    return GENARM_OK;
}

static int append_pair(struct data *d, const struct pair *pair, const struct tokens *prompt,
                       const struct tokens *responses, struct genarm_error *err) {
    if (d->n_pairs == d->cap_pairs) {
        const size_t cap = 64 + 2 * d->cap_pairs;
        struct pair *grown = realloc(d->pairs, cap * sizeof *grown);
        if (!grown) {
            return error_nomem(err, "the training data");
        }
        d->pairs = grown;
        d->cap_pairs = cap;
    }
    struct pair p = *pair;
    p.first = d->n_tokens;
    p.n_prompt = prompt->n;
    int rc = append_tokens(d, prompt, err);
    for (int side = 0; side < SIDES && rc == GENARM_OK; side++) {
        p.n_response[side] = responses[side].n;
        rc = append_tokens(d, &responses[side], err);
    }
    if (rc == GENARM_OK) {
        const int32_t lengths[] = {p.n_prompt, p.n_response[CHOSEN], p.n_response[REJECTED]};
        d->hash = hash_bytes(d->hash, lengths, sizeof lengths);
        d->hash = hash_bytes(d->hash, d->tokens + p.first, (d->n_tokens - p.first) * sizeof *d->tokens);
        d->pairs[d->n_pairs++] = p;
    }
    return rc;
}

/* Counts a pair that cannot be used. */
static void drop(const struct reader *r, int64_t *counter, const char *why) {
    log_line(++*counter <= PREF_NAMED ? GENARM_LOG_INFO : GENARM_LOG_DEBUG, "%s: dropped: %s", pref_where(r->records),
             why);
}

static bool equal_tokens(const struct tokens *a, const struct tokens *b) {
    return a->n == b->n && memcmp(a->ids, b->ids, (size_t)a->n * sizeof *a->ids) == 0;
}

static int take_messages(struct reader *r, const struct preference *p, struct genarm_error *err) {
    if (p->n_messages > r->cap_messages) {
        struct genarm_message *grown = realloc(r->messages, p->n_messages * sizeof *grown);
        if (!grown) {
            return error_nomem(err, "a prompt");
        }
        r->messages = grown;
        r->cap_messages = p->n_messages;
    }
    r->n_messages = p->n_messages;
    for (size_t i = 0; i < p->n_messages; i++) {
        r->messages[i] = (struct genarm_message){.role = p->messages[i].role, .content = p->messages[i].content};
    }
    return GENARM_OK;
}

/* Whether a text of the pair spells control tokens that are text there. */
static bool spells_controls(const struct reader *r, const struct preference *p) {
    const struct controls *c = &r->model->controls;
    bool spelled = controls_spelled(c, p->chosen) || (!r->chosen_alone && controls_spelled(c, p->rejected));
    for (size_t i = 0; i < r->n_messages && template_is_format(r->model, r->template_name); i++) {
        spelled |= controls_spelled(c, r->messages[i].content);
    }
    return spelled;
}

/* Leaves out a rejected response that decides nothing and cannot be compared with the chosen one. */
static void fit_rejected(const struct reader *r, const struct tokens *prompt, struct tokens responses[SIDES]) {
    bool together;
    if (r->chosen_alone && (responses[REJECTED].n < 2 || equal_tokens(&responses[CHOSEN], &responses[REJECTED]) ||
                            prompt->n > room_for_prompt(r, responses, true, &together))) {
        responses[REJECTED].n = 0;
    }
}

/* Tokenises a record and keeps it or drops it. */
static int take_record(struct reader *r, const struct preference *p, struct genarm_error *err) {
    struct genarm_data_report *report = &r->data->report;
    struct tokens prompt = {0}, responses[SIDES] = {{0}, {0}};
    struct pair pair = {.file = r->file, .objective = r->objective, .line = p->line, .record = p->record};
    int rc = take_messages(r, p, err);
    if (rc == GENARM_OK) {
        rc = tokenize_prompt(&prompt, r, 0, err);
    }
    for (int side = 0; side < SIDES && rc == GENARM_OK; side++) {
        rc = response_tokens(&responses[side].ids, &responses[side].n, r->model, r->template_name, r->messages, r->n_messages,
                             side == CHOSEN ? p->chosen : p->rejected, true, err);
    }
    if (rc != GENARM_OK) {
        goto done;
    }
    if (responses[CHOSEN].n < 2 || (responses[REJECTED].n < 2 && !r->chosen_alone)) {
        drop(r, &report->dropped_empty, "a response is empty");
        goto done;
    }
    if (equal_tokens(&responses[CHOSEN], &responses[REJECTED]) && !r->chosen_alone) {
        drop(r, &report->dropped_equal, "chosen equals rejected");
        goto done;
    }
    pair.prompt_hash = hash_bytes(HASH_START, prompt.ids, (size_t)prompt.n * sizeof *prompt.ids);
    bool together;
    const int32_t room = room_for_prompt(r, responses, !r->chosen_alone, &together);
    if (prompt.n > room) {
        bool fits;
        rc = cut_prompt(&prompt, r, room, &fits, err);
        if (rc != GENARM_OK) {
            goto done;
        }
        if (!fits) {
            drop(r, together ? &report->dropped_large : &report->dropped_long,
                 together ? "the responses together leave no room for a prompt" : "the responses leave no room for a prompt");
            goto done;
        }
        report->cut++;
    }
    fit_rejected(r, &prompt, responses);
    rc = append_pair(r->data, &pair, &prompt, responses, err);
    report->kept += rc == GENARM_OK;
    report->spelled += rc == GENARM_OK && spells_controls(r, p);
done:
    free(prompt.ids);
    free(responses[CHOSEN].ids);
    free(responses[REJECTED].ids);
    return rc;
}

/* ---- files ---- */

/* Adds what the records of one file came to; those kept are counted as they are tokenised. */
static void report_file(struct genarm_data_report *report, const struct pref_counts *c) {
    report->read += c->read;
    report->dropped_equal += c->n[PREF_EQUAL];
    report->dropped_empty += c->n[PREF_EMPTY];
    report->dropped_unlabelled += c->n[PREF_UNLABELLED];
    report->dropped_turns +=
        c->n[PREF_TURNS] + c->n[PREF_NO_QUESTION] + c->n[PREF_NO_PROMPT] + c->n[PREF_OTHER_PROMPT];
    report->prefixes += c->n[PREF_PREFIX];
}

static int read_file(struct reader *r, const char *path, const struct pref_params *params, struct genarm_error *err) {
    struct preference *p;
    const int64_t spelled = r->data->report.spelled;
    int rc = pref_open(&r->records, path, params, err);
    while (rc == GENARM_OK && (rc = pref_next(r->records, &p, err)) > 0) {
        rc = error_at(err, take_record(r, p, err), "%s", pref_where(r->records));
    }
    if (rc == GENARM_OK) {
        const struct pref_counts *counts = pref_counts(r->records);
        report_file(&r->data->report, counts);
        if (counts->n[PREF_REPEATS] > counts->kept / 2) {
            log_line(GENARM_LOG_WARN,
                     "%s: both responses begin with the prompt in %lld of %lld pairs; where they are the whole text, "
                     "--format trl-standard takes the prompt off them",
                     path, (long long)counts->n[PREF_REPEATS], (long long)counts->kept);
        }
        if (r->data->report.spelled > spelled) {
            log_line(GENARM_LOG_WARN,
                     "%s: texts of %lld of %lld pairs spell control tokens, which are trained on as text; where they are in "
                     "a template already, give --chat-template 'raw:{prompt}' and take the token that ends a turn off the "
                     "responses",
                     path, (long long)(r->data->report.spelled - spelled), (long long)counts->kept);
        }
    }
    pref_close(r->records);
    r->records = NULL;
    return rc;
}

static int add_path(struct data *d, const char *path, struct genarm_error *err) {
    char **grown = realloc(d->paths, (d->n_paths + 1) * sizeof *grown);
    char *copy = strdup(path);
    if (grown) {
        d->paths = grown;
    }
    if (!grown || !copy) {
        free(copy);
        return error_nomem(err, "the names of pair files");
    }
    d->paths[d->n_paths++] = copy;
    return GENARM_OK;
}

static int read_files(struct reader *r, const char *const *paths, size_t n_paths, const struct pref_params *params,
                      struct genarm_error *err) {
    int rc = n_paths > 0 ? GENARM_OK : error_set(err, GENARM_EINVAL, "no file of pairs is given");
    for (size_t i = 0; i < n_paths && rc == GENARM_OK; i++) {
        r->file = (int32_t)r->data->n_paths;
        rc = add_path(r->data, paths[i], err);
        rc = rc == GENARM_OK ? read_file(r, paths[i], params, err) : rc;
    }
    return rc;
}

/* What may help when no pair can be used. */
static int look(int rc, const struct reader *r, struct genarm_error *err) {
    if (r->data->report.dropped_large > 0) {
        return error_hint(err, rc, "a prompt and both responses to it are one tree, of %d tokens at most: shorten the responses",
                          ATTENTION_MAX_TREE);
    }
    if (r->max_length < r->model->hp.n_ctx_train) {
        return error_hint(err, rc, "look at the data with genarm data, or raise the maximum length");
    }
    return error_hint(err, rc, "look at the data with genarm data; the model's context of %d tokens is the limit", r->max_length);
}

static int check_some_left(const struct reader *reader, struct genarm_error *err) {
    const struct genarm_data_report *r = &reader->data->report;
    if (reader->data->n_pairs > 0) {
        return GENARM_OK;
    }
    const struct {
        int64_t n;
        const char *what;
    } reasons[] = {{r->dropped_empty, "with an empty response"},
                   {r->dropped_equal, "with equal responses"},
                   {r->dropped_unlabelled, "without a label"},
                   {r->dropped_turns, "that are no two answers to one prompt"},
                   {r->dropped_large, "whose responses are too long together"},
                   {r->dropped_long, "longer than"}};
    char text[400] = "";
    for (size_t i = 0, at = 0; i < sizeof reasons / sizeof *reasons; i++) {
        if (reasons[i].n > 0 && at < sizeof text) {
            at += (size_t)snprintf(text + at, sizeof text - at, "%s%lld %s", at ? ", " : ": ", (long long)reasons[i].n,
                                   reasons[i].what);
        }
    }
    const int rc = r->dropped_long > 0 ? error_set(err, GENARM_EFORMAT, "none of %lld pairs can be used%s %d tokens",
                                                   (long long)r->read, text, reader->max_length)
                                       : error_set(err, GENARM_EFORMAT, "none of %lld pairs can be used%s", (long long)r->read,
                                                   text);
    return look(rc, reader, err);
}

/* A reader into an empty *d. */
static int start(struct reader *r, struct data *d, const struct genarm_model *model, const struct pref_params *params,
                 const char *template_name, int32_t max_length, struct genarm_error *err) {
    *d = (struct data){.hash = HASH_START};
    *r = (struct reader){.data = d,
                         .model = model,
                         .template_name = template_name,
                         .max_length = max_length,
                         .chosen_alone = params && params->use == PREF_CHOSEN};
    return genarm_token_eos(model) >= 0
               ? GENARM_OK
               : error_set(err, GENARM_EUNSUPPORTED, "the model has no token that ends a turn");
}

int data_read(struct data *d, const struct genarm_model *model, const char *const *paths, size_t n_paths,
              const struct pref_params *params, const char *template_name, int32_t max_length,
              struct genarm_error *err) {
    struct reader r;
    int rc = start(&r, d, model, params, template_name, max_length, err);
    rc = rc == GENARM_OK ? read_files(&r, paths, n_paths, params, err) : rc;
    free(r.messages);
    if (rc == GENARM_OK) {
        rc = check_some_left(&r, err);
    }
    if (rc != GENARM_OK) {
        data_deinit(d);
    }
    return rc;
}

static int read_objective(struct reader *r, const struct genarm_objective *objective, const struct pref_params *params,
                          struct genarm_error *err) {
    struct data *d = r->data;
    struct pref_params own = params ? *params : (struct pref_params){0};
    own.label = objective->label;
    const size_t before = d->n_pairs;
    int rc = objectives_add(&d->objectives, objective->name, err);
    if (rc == GENARM_OK) {
        d->hash = hash_bytes(d->hash, objective->name, strlen(objective->name) + 1);
        r->objective = d->objectives.n - 1;
        rc = read_files(r, objective->paths, objective->n_paths, &own, err);
    }
    if (rc == GENARM_OK && d->n_pairs == before) {
        rc = look(error_set(err, GENARM_EFORMAT, "none of its pairs can be used"), r, err);
    }
    return error_at(err, rc, "objective %s", objective->name);
}

int data_read_objectives(struct data *d, const struct genarm_model *model, const struct genarm_objective *objectives,
                         size_t n_objectives, const struct pref_params *params, const char *template_name,
                         int32_t max_length, struct genarm_error *err) {
    struct reader r;
    int rc = start(&r, d, model, params, template_name, max_length, err);
    for (size_t i = 0; i < n_objectives && rc == GENARM_OK; i++) {
        rc = read_objective(&r, &objectives[i], params, err);
    }
    free(r.messages);
    if (rc != GENARM_OK) {
        data_deinit(d);
    }
    return rc;
}

void data_deinit(struct data *d) {
    objectives_deinit(&d->objectives);
    for (size_t i = 0; i < d->n_paths; i++) {
        free(d->paths[i]);
    }
    free(d->paths);
    free(d->tokens);
    free(d->pairs);
    *d = (struct data){0};
}
