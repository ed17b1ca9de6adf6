/* A request for answers: its fields as they are read, and the job that they ask for. */
#ifndef SERVE_REQUEST_H
#define SERVE_REQUEST_H

#include <math.h>

#include "serve/api.h"
#include "serve/fields.h"

enum {
    REQUEST_MAX_CHOICES = 128,
    REQUEST_MAX_LOGPROBS = 20,
    REQUEST_MAX_STOPS = 16,
    REQUEST_MAX_STOP_LENGTH = 1024,
    REQUEST_MAX_PROBS = 1000,
    REQUEST_MAX_FACTS = 1 << 19 /* tokens with log-probabilities, alternatives among them: 2 kB each while a reply is written */
};

struct request {
    const char *grammar, *suffix;
    const json_t *messages, *prompt, *stop, *logit_bias, *response_format, *json_schema, *stream_options, *arms, *preferences,
        *schedules;
    bool stream, echo, logprobs, return_tokens, timings_per_token;
    int64_t n, best_of, max_tokens, max_completion_tokens, n_predict, n_logprobs, top_k, seed; /* n_logprobs -1: none */
    double temperature, top_p, min_p, min_entropy;
    bool include_usage;
};

#define REQUEST_FIELD(TYPE, NAME, MEMBER) {.type = TYPE, .name = NAME, .offset = offsetof(struct request, MEMBER)}
#define REQUEST_RANGE(TYPE, NAME, MEMBER, MIN, MAX)                                                                           \
    {.type = TYPE, .name = NAME, .offset = offsetof(struct request, MEMBER), .min = MIN, .max = MAX}
#define REQUEST_IGNORED(NAME) {.type = FIELD_IGNORED, .name = NAME}
#define REQUEST_NEUTRAL(NAME, VALUES) {.type = FIELD_NEUTRAL, .name = NAME, .neutral = VALUES}

/* What OpenAI's API and llama.cpp's have and what changes no answer here: clients of one send it to the other, and with samplers
 * that are switched off also those samplers' parameters. */
#define REQUEST_WITHOUT_EFFECT                                                                                                \
    REQUEST_IGNORED("model"), REQUEST_IGNORED("user"), REQUEST_IGNORED("metadata"), REQUEST_IGNORED("store"),                 \
        REQUEST_IGNORED("service_tier"), REQUEST_IGNORED("parallel_tool_calls"), REQUEST_IGNORED("reasoning_effort"),         \
        REQUEST_IGNORED("verbosity"), REQUEST_IGNORED("prompt_cache_key"), REQUEST_IGNORED("prompt_cache_retention"),         \
        REQUEST_IGNORED("safety_identifier"), REQUEST_IGNORED("cache_prompt"), REQUEST_IGNORED("n_cache_reuse"),              \
        REQUEST_IGNORED("id_slot"), REQUEST_IGNORED("n_keep"), REQUEST_IGNORED("n_discard"), REQUEST_IGNORED("samplers"),     \
        REQUEST_IGNORED("min_keep"), REQUEST_IGNORED("repeat_last_n"), REQUEST_IGNORED("dynatemp_exponent"),                  \
        REQUEST_IGNORED("mirostat_tau"), REQUEST_IGNORED("mirostat_eta"), REQUEST_IGNORED("dry_base"),                        \
        REQUEST_IGNORED("dry_allowed_length"), REQUEST_IGNORED("dry_penalty_last_n"),                                         \
        REQUEST_IGNORED("dry_sequence_breakers"), REQUEST_IGNORED("xtc_threshold"), REQUEST_IGNORED("adaptive_decay"),        \
        REQUEST_IGNORED("reasoning_format"), REQUEST_IGNORED("backend_sampling"), REQUEST_IGNORED("return_progress"),         \
        REQUEST_NEUTRAL("frequency_penalty", "0"), REQUEST_NEUTRAL("presence_penalty", "0"),                                  \
        REQUEST_NEUTRAL("repeat_penalty", "1"), REQUEST_NEUTRAL("typical_p", "1"), REQUEST_NEUTRAL("typ_p", "1"),             \
        REQUEST_NEUTRAL("top_n_sigma", "-1"), REQUEST_NEUTRAL("chat_template_kwargs", "{}"),                                  \
        REQUEST_NEUTRAL("mirostat", "0"), REQUEST_NEUTRAL("dynatemp_range", "0"), REQUEST_NEUTRAL("dry_multiplier", "0"),     \
        REQUEST_NEUTRAL("xtc_probability", "0"), REQUEST_NEUTRAL("adaptive_target", "-1"),                                    \
        REQUEST_NEUTRAL("ignore_eos", "false"), REQUEST_NEUTRAL("n_indent", "0"),                                             \
        REQUEST_NEUTRAL("t_max_predict_ms", "[0, -1]"), REQUEST_NEUTRAL("response_fields", "[]"),                             \
        REQUEST_NEUTRAL("post_sampling_probs", "false"), REQUEST_NEUTRAL("lora", "[]"), REQUEST_NEUTRAL("tools", "[]"),       \
        REQUEST_NEUTRAL("tool_choice", "[\"none\", \"auto\"]"), REQUEST_NEUTRAL("functions", "[]"),                           \
        REQUEST_NEUTRAL("function_call", "[\"none\", \"auto\"]"), REQUEST_NEUTRAL("modalities", "[[\"text\"]]"),              \
        REQUEST_NEUTRAL("audio", "null"), REQUEST_NEUTRAL("prediction", "null"),                                              \
        REQUEST_NEUTRAL("web_search_options", "null")

/* Rows that all kinds of requests have. Integers are exact up to 2^53 in JSON. */
#define REQUEST_FIELDS                                                                                                        \
    REQUEST_FIELD(FIELD_BOOL, "stream", stream), REQUEST_FIELD(FIELD_ANY, "stop", stop),                                      \
        REQUEST_FIELD(FIELD_ANY, "logit_bias", logit_bias), REQUEST_FIELD(FIELD_STRING, "grammar", grammar),                  \
        REQUEST_FIELD(FIELD_ANY, "json_schema", json_schema),                                                                 \
        REQUEST_RANGE(FIELD_INTEGER, "max_tokens", max_tokens, -1, INT32_MAX),                                                \
        REQUEST_RANGE(FIELD_INTEGER, "max_completion_tokens", max_completion_tokens, -1, INT32_MAX),                          \
        REQUEST_RANGE(FIELD_INTEGER, "n_predict", n_predict, -1, INT32_MAX),                                                  \
        REQUEST_RANGE(FIELD_NUMBER, "temperature", temperature, 0, 100), REQUEST_RANGE(FIELD_NUMBER, "top_p", top_p, 0, 1),   \
        REQUEST_RANGE(FIELD_NUMBER, "min_p", min_p, 0, 0.999999), REQUEST_RANGE(FIELD_INTEGER, "top_k", top_k, -1, INT32_MAX),\
        REQUEST_RANGE(FIELD_INTEGER, "seed", seed, -9223372036854775808.0, 9223372036854775807.0),                            \
        REQUEST_FIELD(FIELD_OBJECT, "arms", arms), REQUEST_FIELD(FIELD_OBJECT, "preferences", preferences),                   \
        REQUEST_FIELD(FIELD_OBJECT, "arm_schedules", schedules),                                                              \
        REQUEST_RANGE(FIELD_NUMBER, "min_entropy", min_entropy, 0, 1000),                                                     \
        REQUEST_FIELD(FIELD_BOOL, "timings_per_token", timings_per_token), REQUEST_WITHOUT_EFFECT

/* What OpenAI's two kinds have beside. */
#define REQUEST_OPENAI_FIELDS                                                                                                 \
    REQUEST_RANGE(FIELD_INTEGER, "n", n, 1, REQUEST_MAX_CHOICES),                                                             \
        REQUEST_FIELD(FIELD_OBJECT, "stream_options", stream_options),                                                        \
        REQUEST_FIELD(FIELD_OBJECT, "response_format", response_format), REQUEST_NEUTRAL("n_probs", "0"),                     \
        REQUEST_NEUTRAL("return_tokens", "false")

/* The values of a request that says nothing. */
struct request request_default(const struct serve_model *m);

/* Messages as the templates take them: "developer" is the system, and texts of several parts are joined, in the request too,
 * which owns all strings. */
int request_messages(struct job_prompt *out, const json_t *messages, struct genarm_error *err);

/* Reads "stream_options". */
int request_stream_options(struct request *r, struct genarm_error *err);

/* Everything but prompts, for a job: sampling, weights, steering, what ends an answer. */
int request_params(struct job_params *out, struct server *s, const struct serve_model *m, const struct request *r,
                   struct genarm_error *err);

/* Whether the log-probabilities that a job would keep have room; `field` is how its kind of request calls them. One answer that
 * has no other limit ends when it is used up. After request_params. */
int request_logprobs_fit(struct job_params *out, const struct serve_model *m, const char *field, struct genarm_error *err);

/* Appends prompts that a text, tokens, or a list of either stands for. */
int request_prompts(struct job_params *out, const struct serve_model *m, const json_t *prompt, struct genarm_error *err);

#endif
