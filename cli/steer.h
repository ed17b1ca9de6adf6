/* The options that steer an answer beyond the weights of reward models (genarm/steer.h), and what ends it (genarm/stop.h). */
#ifndef CLI_STEER_H
#define CLI_STEER_H

#include "genarm/genarm.h"
#include "options.h"

struct steer_args {
    struct option_list schedules, biases, stops;
    double min_entropy;
    const char *grammar, *grammar_file, *json_schema, *json_schema_file;
};

/* Rows of a command's option table; its arguments have the member `steer`. */
#define OPTIONS_STEER(ARGS)                                                                                           \
    {OPTION_GROUP, .help = "Steering"},                                                                               \
    {OPTION_TEXTS, "--arm-schedule", "NAME=POS:X,...", offsetof(ARGS, steer.schedules),                               \
     .help = "factor of a reward model's weight by the position in the answer, from 0 on, straight lines between: "   \
             "0:1,32:0 fades out over 32 tokens, 31:1,32:0 steers the first 32; repeatable"},                         \
    {OPTION_NUMBER, "--min-entropy", "X", offsetof(ARGS, steer.min_entropy), 0, 1000, .fallback = "0",                \
     .help = "steer only where the base's entropy is at least X nats: where it is surer, it answers alone"},          \
    {OPTION_TEXTS, "-l --logit-bias", "TOKEN_ID(+/-)BIAS", offsetof(ARGS, steer.biases),                              \
     .help = "add to the log-probability of a token, such as 15043+1 or 15043-1; 15043-inf forbids it; repeatable"},  \
    {OPTION_TEXT, "--grammar", "GRAMMAR", offsetof(ARGS, steer.grammar),                                              \
     .help = "the answer follows this grammar, in llama.cpp's GBNF"},                                                 \
    {OPTION_FILE, "--grammar-file", "FILE", offsetof(ARGS, steer.grammar_file), .help = "read the grammar from a file"}, \
    {OPTION_TEXT, "-j --json-schema", "SCHEMA", offsetof(ARGS, steer.json_schema),                                    \
     .help = "the answer is JSON that satisfies this schema; {} is any JSON"},                                        \
    {OPTION_FILE, "-jf --json-schema-file", "FILE", offsetof(ARGS, steer.json_schema_file),                           \
     .help = "read the schema from a file"},                                                                          \
    {OPTION_TEXTS, "-r --reverse-prompt --stop", "TEXT", offsetof(ARGS, steer.stops),                                 \
     .help = "end the answer before this text; repeatable"}

struct steer_schedule {
    int32_t arm;
    struct genarm_knot *knots; /* [n] */
    size_t n;
};

/* The options as they are given to every session. */
struct steer {
    struct steer_schedule *schedules; /* [n_schedules] */
    struct genarm_token_bias *biases; /* [n_biases] */
    size_t n_schedules, n_biases;
    float min_entropy;
    struct genarm_grammar *grammar; /* NULL: none */
    struct genarm_stop *stop;       /* NULL: none */
    int32_t n_logprobs;             /* likeliest tokens that are kept; -1: no log-probabilities */
};

/* Reads the options for a guide and its base. steer_free in every case. */
int steer_load(struct steer *out, const struct steer_args *args, int32_t n_logprobs, const struct genarm_guide *guide,
               const struct genarm_model *base, struct genarm_error *err);
void steer_free(struct steer *s); /* safe on a zeroed struct */

int steer_session(const struct steer *s, struct genarm_session *session, struct genarm_error *err);

/* The two texts of options that need reading: NAME=POS:X,POS:X (the part after NAME=) and TOKEN_ID(+/-)BIAS. CLI_USAGE if they
 * cannot be read; *knots is malloc'ed. */
int steer_read_knots(struct genarm_knot **knots, size_t *n, const char *text, struct genarm_error *err);
int steer_read_bias(struct genarm_token_bias *out, const char *text, struct genarm_error *err);

#endif
