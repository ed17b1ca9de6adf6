/* See request.h. */
#include "serve/request.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/utf8.h"
#include "model/model.h"
#include "model/spell.h"

struct request request_default(const struct serve_model *m) {
    return (struct request){.n = 1,
                            .max_tokens = -1,
                            .max_completion_tokens = -1,
                            .n_predict = -1,
                            .n_logprobs = -1,
                            .seed = -1,
                            .top_k = m->sampling.top_k,
                            .temperature = (double)m->sampling.temperature,
                            .top_p = (double)m->sampling.top_p,
                            .min_p = (double)m->sampling.min_p};
}

int request_stream_options(struct request *r, struct genarm_error *err) {
    struct {
        bool include_usage;
    } in = {false};
    static const struct field options[] = {{.type = FIELD_BOOL, .name = "include_usage", .offset = 0},
                                           {.type = FIELD_IGNORED, .name = "include_obfuscation"}};
    if (!r->stream_options) {
        return GENARM_OK;
    }
    if (!r->stream) {
        return field_error(err, "stream_options", "'stream_options' is for streams: \"stream\": true");
    }
    const int rc = fields_read(r->stream_options, options, sizeof options / sizeof *options, &in, err);
    r->include_usage = in.include_usage;
    return rc;
}

/* ---- messages ---- */

/* The text of a content of several parts takes its place in the message. */
static int join_parts(json_t *message, const json_t *parts, struct genarm_error *err) {
    struct buf text;
    buf_init(&text, 1 << 26);
    int rc = buf_puts(&text, "", err);
    for (size_t i = 0; i < json_array_size(parts) && rc == GENARM_OK; i++) {
        const json_t *part = json_array_get(parts, i);
        const char *type = json_string_value(json_object_get(part, "type")),
                   *piece = json_string_value(json_object_get(part, "text"));
        if (!type || strcmp(type, "text") != 0 || !piece) {
            rc = field_error(err, "messages",
                             "a part of a message must be {\"type\": \"text\", \"text\": ...}: others are not supported");
        } else {
            rc = buf_puts(&text, piece, err);
        }
    }
    if (rc == GENARM_OK && json_object_set_new(message, "content", json_stringn(text.data, text.len)) != 0) {
        rc = error_nomem(err, "messages");
    }
    buf_deinit(&text);
    return rc;
}

static int read_message(struct genarm_message *out, json_t *message, size_t i, struct genarm_error *err) {
    static const struct {
        const char *name, *role;
    } roles[] = {{"system", "system"}, {"developer", "system"}, {"user", "user"}, {"assistant", "assistant"}};
    static const char *const known[] = {"role", "content", "name", "refusal", "reasoning_content"};
    const char *role = json_string_value(json_object_get(message, "role")), *member;
    json_t *value;
    if (!json_is_object(message)) {
        return field_error(err, "messages", "messages[%zu] must be an object", i);
    }
    for (size_t k = 0; k < sizeof roles / sizeof *roles && role; k++) {
        out->role = strcmp(role, roles[k].name) == 0 ? roles[k].role : out->role;
    }
    if (!out->role) {
        return field_error(err, "messages", "messages[%zu].role must be system, developer, user or assistant", i);
    }
    json_object_foreach(message, member, value) {
        bool found = strcmp(member, "type") == 0 && json_is_string(value) && strcmp(json_string_value(value), "text") == 0;
        for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
            found = found || strcmp(member, known[k]) == 0;
        }
        const bool none = json_is_null(value) || (json_is_array(value) && json_array_size(value) == 0);
        if (!found && !none) {
            return field_error(err, "messages", "messages[%zu].%.60s is not supported", i, member);
        }
    }
    const json_t *content = json_object_get(message, "content");
    if (json_is_array(content)) {
        const int rc = join_parts(message, content, err);
        if (rc != GENARM_OK) {
            return rc;
        }
        content = json_object_get(message, "content");
    }
    const bool refused = (!content || json_is_null(content)) && strcmp(out->role, "assistant") == 0 &&
                         json_is_string(json_object_get(message, "refusal"));
    out->content = refused ? "" : json_string_value(content);
    return out->content ? GENARM_OK
                        : field_error(err, "messages", "messages[%zu].content must be a string or an array of texts", i);
}

int request_messages(struct job_prompt *out, const json_t *messages, struct genarm_error *err) {
    const size_t n = json_array_size(messages);
    if (n == 0) {
        return field_error(err, "messages", "'messages' must be an array of at least one message");
    }
    out->messages = calloc(n, sizeof *out->messages);
    if (!out->messages) {
        return error_nomem(err, "messages");
    }
    out->n_messages = n;
    for (size_t i = 0; i < n; i++) {
        const int rc = read_message(&out->messages[i], json_array_get(messages, i), i, err);
        if (rc != GENARM_OK) {
            return rc;
        }
    }
    if (strcmp(out->messages[n - 1].role, "assistant") == 0) {
        return field_error(err, "messages", "the last message is the assistant's: answers are not continued");
    }
    return GENARM_OK;
}

/* ---- prompts ---- */

static int add_prompt(struct job_params *out, const struct serve_model *m, const json_t *prompt, struct genarm_error *err) {
    struct genarm_model_info info;
    struct job_prompt *p = &out->prompts[out->n_prompts++];
    const char *text = json_string_value(prompt);
    genarm_model_get_info(m->base, &info);
    p->n_tokens = vocab_at_least(&m->base->measure, text ? text : "", text ? strlen(text) : 0);
    if (p->n_tokens >= (size_t)m->n_ctx) {
        return GENARM_OK;
    }
    int rc = text ? spell_tokens(&p->tokens, &p->n_tokens, m->base, text, true, true, err)
                  : fields_tokens(&p->tokens, &p->n_tokens, prompt, "prompt", info.n_vocab, err);
    if (rc == GENARM_OK && p->n_tokens == 0) {
        const int32_t bos = genarm_token_eos(m->base); /* of models that begin with nothing: a text begins where another ended */
        free(p->tokens);
        p->tokens = malloc(sizeof *p->tokens);
        if (!p->tokens) {
            return error_nomem(err, "a prompt");
        }
        p->tokens[0] = bos < 0 ? 0 : bos;
        p->n_tokens = 1;
    }
    return rc;
}

int request_prompts(struct job_params *out, const struct serve_model *m, const json_t *prompt, struct genarm_error *err) {
    const json_t *first = json_array_get(prompt, 0);
    const bool several = json_is_string(first) || json_is_array(first);
    const size_t n = several ? json_array_size(prompt) : 1;
    if (!json_is_string(prompt) && !json_is_array(prompt)) {
        return field_error(err, "prompt", "'prompt' must be a string, an array of tokens, or an array of either");
    }
    if (n > REQUEST_MAX_CHOICES) {
        return field_error(err, "prompt", "'prompt' has %zu prompts: at most %d", n, REQUEST_MAX_CHOICES);
    }
    out->prompts = calloc(n, sizeof *out->prompts);
    if (!out->prompts) {
        return error_nomem(err, "prompts");
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *each = several ? json_array_get(prompt, i) : prompt;
        if (!json_is_string(each) && !json_is_array(each)) {
            return field_error(err, "prompt", "'prompt' must be a string, an array of tokens, or an array of either");
        }
        const int rc = add_prompt(out, m, each, err);
        if (rc != GENARM_OK) {
            return rc;
        }
    }
    return GENARM_OK;
}

/* ---- sampling and what ends an answer ---- */

static int read_sampling(struct job_params *out, const struct request *r, struct genarm_error *err) {
    uint32_t drawn = 0; /* short enough to type */
    if (r->seed == -1 && getrandom(&drawn, sizeof drawn, 0) != (ssize_t)sizeof drawn) {
        return error_set(err, GENARM_EIO, "no random numbers");
    }
    out->sampling = genarm_sampling_default();
    out->sampling.temperature = (float)r->temperature;
    out->sampling.top_p = fmaxf((float)r->top_p, FLT_MIN); /* 0: the likeliest token, as llama.cpp takes it */
    out->sampling.min_p = (float)r->min_p;
    out->sampling.top_k = r->top_k < 0 ? 0 : (int32_t)r->top_k;
    out->sampling.seed = r->seed == -1 ? drawn : (uint64_t)r->seed;
    return GENARM_OK;
}

static int read_stop(struct job_params *out, const json_t *stop, struct genarm_error *err) {
    const char *texts[REQUEST_MAX_STOPS];
    const size_t n = json_is_array(stop) ? json_array_size(stop) : stop ? 1 : 0;
    if (n > REQUEST_MAX_STOPS) {
        return field_error(err, "stop", "'stop' has %zu texts: at most %d", n, REQUEST_MAX_STOPS);
    }
    for (size_t i = 0; i < n; i++) {
        texts[i] = json_string_value(json_is_array(stop) ? json_array_get(stop, i) : stop);
        if (!texts[i] || !*texts[i]) {
            return field_error(err, "stop", "'stop' must be a text that is not empty, or up to %d of them", REQUEST_MAX_STOPS);
        }
        if (utf8_length(texts[i], strlen(texts[i])) > REQUEST_MAX_STOP_LENGTH) { /* it is looked for with every token */
            return field_error(err, "stop", "a stop text is longer than %d characters", REQUEST_MAX_STOP_LENGTH);
        }
    }
    return n ? genarm_stop_new(&out->stop, texts, n, err) : GENARM_OK;
}

/* ---- biases ---- */

/* A number, or false for what is forbidden, as is what is as low as OpenAI's API goes. */
static int read_bias(struct genarm_token_bias *out, const json_t *value, struct genarm_error *err) {
    const double bias = json_number_value(value);
    if (!json_is_false(value) && (!json_is_number(value) || !(fabs(bias) <= 100))) {
        return field_error(err, "logit_bias", "a bias must be a number from -100 to 100, or false");
    }
    out->bias = json_is_false(value) || bias <= -100 ? -INFINITY : (float)bias;
    return GENARM_OK;
}

static int read_bias_token(struct genarm_token_bias *out, const char *text, const json_t *id, int32_t n_vocab,
                           struct genarm_error *err) {
    char *end = NULL;
    int64_t token = text ? strtoll(text, &end, 10) : -1;
    if ((text && (!*text || *end || *text < '0' || *text > '9')) || (!text && !field_whole(id, &token)) || token < 0 ||
        token >= n_vocab) {
        return field_error(err, "logit_bias", "'logit_bias' is by token: ids from 0 to %d", n_vocab - 1);
    }
    out->token = (int32_t)token;
    return GENARM_OK;
}

static int read_biases(struct job_params *out, const struct serve_model *m, const json_t *biases, struct genarm_error *err) {
    struct genarm_model_info info;
    const char *key;
    json_t *value;
    size_t i;
    int rc = GENARM_OK;
    if (!json_is_object(biases) && !json_is_array(biases)) {
        return field_error(err, "logit_bias",
                           "'logit_bias' must be an object, such as {\"1234\": -100}, or an array of [token, bias]");
    }
    genarm_model_get_info(m->base, &info);
    const size_t n = json_is_object(biases) ? json_object_size(biases) : json_array_size(biases);
    out->biases = calloc(n ? n : 1, sizeof *out->biases);
    if (!out->biases) {
        return error_nomem(err, "biases");
    }
    json_object_foreach((json_t *)biases, key, value) { /* only read */
        struct genarm_token_bias *b = &out->biases[out->n_biases++];
        rc = rc == GENARM_OK ? read_bias_token(b, key, NULL, info.n_vocab, err) : rc;
        rc = rc == GENARM_OK ? read_bias(b, value, err) : rc;
    }
    json_array_foreach(biases, i, value) {
        struct genarm_token_bias *b = &out->biases[out->n_biases++];
        if (rc == GENARM_OK && (!json_is_array(value) || json_array_size(value) != 2)) {
            rc = field_error(err, "logit_bias", "each of an array must be [token, bias]");
        }
        rc = rc == GENARM_OK ? read_bias_token(b, NULL, json_array_get(value, 0), info.n_vocab, err) : rc;
        rc = rc == GENARM_OK ? read_bias(b, json_array_get(value, 1), err) : rc;
    }
    return rc;
}

/* ---- grammar ---- */

static json_t *given_schema(const json_t *object) {
    json_t *schema = json_object_get(object, "schema");
    return json_is_null(schema) ? NULL : schema;
}

/* The schema that a response_format stands for: *schema stays NULL where anything goes. New reference. */
static int format_schema(json_t **schema, const json_t *format, struct genarm_error *err) {
    const char *type = json_string_value(json_object_get(format, "type"));
    const json_t *described = json_object_get(format, "json_schema");
    json_t *given = given_schema(described);
    if (!type) {
        return field_error(err, "response_format", "'response_format' must be an object with a \"type\"");
    }
    if (strcmp(type, "text") == 0) {
        return GENARM_OK;
    }
    if (strcmp(type, "json_schema") == 0) {
        *schema = json_incref(given);
        return given ? GENARM_OK
                     : field_error(err, "response_format", "a json_schema must be {\"name\": ..., \"schema\": {...}}");
    }
    if (strcmp(type, "json_object") == 0) {
        given = given_schema(format);
        *schema = given ? json_incref(given) : json_pack("{s:s}", "type", "object");
        return *schema ? GENARM_OK : error_nomem(err, "a schema");
    }
    return field_error(err, "response_format", "response_format.type must be text, json_object or json_schema");
}

static int schema_grammar(struct job_params *out, const struct serve_model *m, const json_t *schema, const char *where,
                          struct genarm_error *err) {
    char *text = json_dumps(schema, JSON_COMPACT | JSON_ENCODE_ANY), *gbnf = NULL;
    int rc = text ? genarm_schema_to_gbnf(&gbnf, text, err) : error_nomem(err, "a schema");
    rc = rc == GENARM_OK ? genarm_grammar_new(&out->grammar, m->base, gbnf, err) : rc;
    if (rc != GENARM_OK && err->where[0]) { /* where in the schema */
        const struct genarm_error found = *err;
        rc = field_error(err, where, "%s: %s", found.where, found.what);
    }
    free(text);
    free(gbnf);
    return error_at(err, rc, "%s", where);
}

static int read_grammar(struct job_params *out, const struct serve_model *m, const struct request *r, struct genarm_error *err) {
    json_t *schema = NULL;
    int rc = r->response_format ? format_schema(&schema, r->response_format, err) : GENARM_OK;
    if (rc == GENARM_OK && r->json_schema && schema) {
        rc = field_error(err, "json_schema", "'json_schema' cannot be given with a response_format of JSON as well");
    } else if (rc == GENARM_OK && r->json_schema) {
        schema = json_incref((json_t *)r->json_schema); /* only read */
    }
    if (rc == GENARM_OK && r->grammar && *r->grammar && schema) {
        rc = field_error(err, "grammar", "'grammar' cannot be given with a JSON schema as well");
    }
    if (rc == GENARM_OK && schema) {
        rc = schema_grammar(out, m, schema, r->json_schema ? "json_schema" : "response_format", err);
    } else if (rc == GENARM_OK && r->grammar && *r->grammar) {
        rc = genarm_grammar_new(&out->grammar, m->base, r->grammar, err);
        if (rc != GENARM_OK) { /* its place is a line of the grammar */
            const struct genarm_error found = *err;
            rc = error_at(err, error_set(err, rc, "%s%s%s", found.where, *found.where ? ": " : "", found.what), "grammar");
        }
    }
    json_decref(schema);
    return rc;
}

/* ---- ARMs ---- */

static int read_preference(struct job_preference *out, const struct serve_arm *a, const json_t *object,
                           struct genarm_error *err) {
    const char *name;
    json_t *value;
    if (a->n_objectives == 0 || !json_is_object(object)) {
        return field_error(err, "preferences",
                           a->n_objectives ? "the preference of '%.60s' must be an object of numbers by objective"
                                           : "'%.60s' has no objectives to prefer",
                           a->name);
    }
    out->weights = calloc((size_t)a->n_objectives, sizeof *out->weights);
    if (!out->weights) {
        return error_nomem(err, "a preference");
    }
    out->n = (size_t)a->n_objectives;
    json_object_foreach((json_t *)object, name, value) { /* only read */
        int32_t i = 0;
        while (i < a->n_objectives && strcmp(a->objectives[i], name) != 0) {
            i++;
        }
        if (i == a->n_objectives || !json_is_number(value)) {
            return field_error(err, "preferences", "'%.60s' has no objective '%.60s', or its weight is no number", a->name, name);
        }
        out->weights[i] = (float)json_number_value(value);
    }
    float sum = 0;
    for (size_t i = 0; i < out->n; i++) {
        if (!(out->weights[i] >= 0 && out->weights[i] <= 1e6f)) {
            return field_error(err, "preferences", "weights of objectives must be 0 or more");
        }
        sum += out->weights[i];
    }
    return sum > 0 ? GENARM_OK : field_error(err, "preferences", "one objective of '%.60s' must have a weight above 0", a->name);
}

static int read_schedule(struct job_schedule *out, const json_t *knots, struct genarm_error *err) {
    const size_t n = json_array_size(knots);
    if (!json_is_array(knots) || n == 0 || n > 32) {
        return field_error(err, "arm_schedules", "a schedule must be 1 to 32 of [position, factor]");
    }
    out->knots = calloc(n, sizeof *out->knots);
    if (!out->knots) {
        return error_nomem(err, "a schedule");
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *knot = json_array_get(knots, i), *at = json_array_get(knot, 0), *factor = json_array_get(knot, 1);
        const double x = json_number_value(factor);
        int64_t position;
        if (json_array_size(knot) != 2 || !field_whole(at, &position) || position < 0 || position > 1000000000 ||
            !json_is_number(factor) || !(fabs(x) <= API_WEIGHT_MAX) ||
            (i > 0 && (int32_t)position < out->knots[i - 1].position)) {
            return field_error(err, "arm_schedules", "a schedule must be [position, factor], of positions from 0 that ascend");
        }
        out->knots[i] = (struct genarm_knot){.position = (int32_t)position, .factor = (float)x};
    }
    out->n = n;
    return GENARM_OK;
}

/* Reads an object by ARM: preferences or schedules. */
static int read_by_arm(struct job_params *out, const struct serve_model *m, const json_t *object, const char *where,
                       struct genarm_error *err) {
    const char *name;
    json_t *value;
    const bool schedules = strcmp(where, "arm_schedules") == 0;
    json_object_foreach((json_t *)object, name, value) { /* only read */
        const int32_t i = api_find_arm(m, name);
        if (i < 0) {
            return field_error(err, where, "there is no ARM '%.60s'; GET /arms lists them", name);
        }
        const int rc = schedules ? read_schedule(&out->schedules[i], value, err)
                                 : read_preference(&out->preferences[i], &m->arms[i], value, err);
        if (rc != GENARM_OK) {
            return rc;
        }
    }
    return GENARM_OK;
}

static int read_arms(struct job_params *out, struct server *s, const struct serve_model *m, const struct request *r,
                     struct genarm_error *err) {
    out->weights = calloc(m->n_arms + 1, sizeof *out->weights);
    out->preferences = calloc(m->n_arms + 1, sizeof *out->preferences);
    out->schedules = calloc(m->n_arms + 1, sizeof *out->schedules);
    if (!out->weights || !out->preferences || !out->schedules) {
        return error_nomem(err, "a request");
    }
    api_weights(s, out->weights);
    int rc = r->arms ? api_read_weights(m, r->arms, "arms", out->weights, err) : GENARM_OK;
    rc = rc == GENARM_OK ? read_by_arm(out, m, r->preferences, "preferences", err) : rc;
    return rc == GENARM_OK ? read_by_arm(out, m, r->schedules, "arm_schedules", err) : rc;
}

int request_params(struct job_params *out, struct server *s, const struct serve_model *m, const struct request *r,
                   struct genarm_error *err) {
    out->n_each = (size_t)r->n;
    const int64_t most = r->max_completion_tokens >= 0 ? r->max_completion_tokens
                         : r->max_tokens >= 0          ? r->max_tokens
                                                       : r->n_predict;
    out->n_predict = most >= 0 ? (int32_t)most : m->n_predict;
    out->n_logprobs = (int32_t)r->n_logprobs;
    out->min_entropy = (float)r->min_entropy;
    int rc = read_arms(out, s, m, r, err);
    rc = rc == GENARM_OK ? read_sampling(out, r, err) : rc;
    rc = rc == GENARM_OK ? read_stop(out, r->stop, err) : rc;
    rc = rc == GENARM_OK && r->logit_bias ? read_biases(out, m, r->logit_bias, err) : rc;
    return rc == GENARM_OK ? read_grammar(out, m, r, err) : rc;
}

/* ---- room for log-probabilities ---- */

/* Tokens that may have log-probabilities, of all answers and of the prompts that are scored. */
static int64_t n_with_logprobs(const struct job_params *p, const struct serve_model *m) {
    int64_t n = 0;
    for (size_t i = 0; i < p->n_prompts; i++) {
        const int64_t n_scored = p->score_prompt ? (int64_t)p->prompts[i].n_tokens : 0;
        const int64_t n_asked = n_scored + (p->n_predict < 0 ? m->n_ctx : p->n_predict);
        n += (int64_t)p->n_each * (n_asked < m->n_ctx || (m->shift && p->n_predict >= 0) ? n_asked : m->n_ctx);
    }
    return n;
}

int request_logprobs_fit(struct job_params *out, const struct serve_model *m, const char *field, struct genarm_error *err) {
    const int64_t n_each = (int64_t)out->n_logprobs + 1, n_answers = (int64_t)(out->n_prompts * out->n_each);
    if (out->n_logprobs < 0) {
        return GENARM_OK;
    }
    const int64_t most = REQUEST_MAX_FACTS / n_each / n_answers; /* tokens of an answer */
    if (out->n_predict < 0 && !out->score_prompt && (n_answers == 1 || most >= m->n_ctx)) {
        out->n_predict = (int32_t)most; /* a context that forgets would let it go on and on */
        return GENARM_OK;
    }
    const int64_t n = n_with_logprobs(out, m);
    if (n * n_each > REQUEST_MAX_FACTS) {
        return field_error(err, field,
                           "log-probabilities of %lld tokens with %d alternatives each are too many: in all at most %d",
                           (long long)n, out->n_logprobs, REQUEST_MAX_FACTS);
    }
    if (out->n_predict < 0 && m->shift) { /* what the longest prompt that is scored leaves of it, again */
        int64_t longest = 0;
        for (size_t i = 0; i < out->n_prompts; i++) {
            const int64_t n_scored = out->score_prompt ? (int64_t)out->prompts[i].n_tokens : 0;
            longest = n_scored > longest ? n_scored : longest;
        }
        out->n_predict = (int32_t)(most > longest ? most - longest : 0);
    }
    return GENARM_OK;
}
