/* Steering beyond weights: what else changes the distribution that a session draws from. All of it counts from the next token
 * on and belongs to one session. In this order:
 *
 *   1. schedule   the weight of an ARM, times a factor that depends on the position in the answer
 *   2. gate       where the base is sure, the base alone
 *   3. mixture    log pi = log pi_base + sum_i alpha_i log pi_ARM,i, normalised (genarm/guide.h); with minus_reference,
 *                 log pi_ARM,i - log pi_reference,i takes the place of log pi_ARM,i
 *   4. bias       added to the log-probabilities of single tokens
 *   5. grammar    tokens that the grammar does not allow get no probability; what is left is normalised
 *   6. value      of a guide that looks ahead (genarm/value.h): candidates by their value, and nothing else
 *   7. sampling   temperature, then top-k, top-p, min-p (genarm_sampling)
 *
 * Functions that can fail leave the session as it was.
 */
#ifndef GENARM_STEER_H
#define GENARM_STEER_H

#include "genarm/guide.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- schedule ---- */

struct genarm_knot {
    int32_t position; /* of an answer token, 0 for the first */
    float factor;     /* finite; multiplies the weight */
};

/* The factor of ARM i as a piecewise linear function of the position: constant before the first knot and after the last one.
 * Positions ascend; two knots at one position are a jump, and the second one counts there. {0, 1}, {32, 0}: fades out over 32
 * tokens; {31, 1}, {32, 0}: the first 32 tokens only. n 0: always 1. At most 32 knots, which are copied. An ARM whose weight
 * is 0 at a position is not run for it and catches up. */
int genarm_session_set_schedule(struct genarm_session *s, int32_t i, const struct genarm_knot *knots, size_t n,
                                struct genarm_error *err);

/* ---- gate ---- */

/* ARMs steer only where the entropy of the base's own distribution is at least so many nats; elsewhere the mixture is the
 * base. 0, the default: everywhere; infinity: nowhere. */
int genarm_session_set_min_entropy(struct genarm_session *s, float nats, struct genarm_error *err);

/* ---- bias ---- */

struct genarm_token_bias {
    int32_t token;
    float bias; /* nats; -infinity forbids the token */
};
/* Replaces the biases, which are copied; n 0: none. GENARM_EINVAL: NaN, +infinity, a token outside the vocabulary. */
int genarm_session_set_bias(struct genarm_session *s, const struct genarm_token_bias *biases, size_t n,
                            struct genarm_error *err);

/* ---- grammar ---- */

struct genarm_grammar;

/* Reads a grammar in GBNF, llama.cpp's notation: rules NAME ::= ..., of which `root` is the whole answer; "literals",
 * [classes], ".", (groups), | for alternatives, the repetitions ? * + {m} {m,} {m,n}, # comments. Escapes are \n \r \t \\ \"
 * \[ \] \- \xHH \uHHHH and \UHHHHHHHH. Token literals, <name>, are not supported. `model`, whose vocabulary is meant, must
 * outlive it. GENARM_EFORMAT names line and column; GENARM_EINVAL: it can be read in too many ways at once. It belongs to one
 * thread at a time, with the sessions that use it. */
int genarm_grammar_new(struct genarm_grammar **out, const struct genarm_model *model, const char *text,
                       struct genarm_error *err);
void genarm_grammar_free(struct genarm_grammar *grammar); /* after the sessions that use it; NULL is fine */

/* A JSON schema as a grammar for genarm_grammar_new: every text that it allows is one JSON value that satisfies the schema.
 * The caller frees *out with free().
 *
 *     char *gbnf;
 *     if (genarm_schema_to_gbnf(&gbnf, "{\"type\": \"array\", \"items\": {\"type\": \"integer\"}}", &err) == GENARM_OK)
 *         ...genarm_grammar_new(&grammar, model, gbnf, &err)...; free(gbnf);
 *
 * Read are the keywords of JSON Schema 2020-12, with the older names of OpenAPI 3.0 and drafts 4 to 7 where there are any:
 *   any value    {}, true, type (also a list), nullable, enum, const; $ref to # and #/..., also recursive; allOf, anyOf; oneOf
 *                where it is clear that no value satisfies two alternatives
 *   objects      properties, required, additionalProperties; minProperties and maxProperties where names decide them;
 *                unevaluatedProperties. Properties come in the order of the schema
 *   arrays       items, prefixItems, additionalItems, minItems, maxItems; uniqueItems up to one item
 *   strings      minLength, maxLength; pattern; format: date, time, date-time, duration, email, hostname, ipv4, ipv6, uuid,
 *                uuid1 to uuid8, uri
 *   numbers      minimum, maximum, exclusiveMinimum, exclusiveMaximum, also of numbers that are no integers; multipleOf of
 *                whole numbers, between bounds or for powers of ten; format: int32, int64, float, double
 *   notes        title, description, default, examples and the like, and names that begin with "x-", have no effect
 *
 * All else is refused and never skipped, names that are no keywords too: not, if, patternProperties, contains, ... .
 *
 * A grammar allows less than the schema where that is of use to an answer: objects whose `properties` are listed have no others
 * unless additionalProperties allows them, tuples (prefixItems) are whole unless minItems says otherwise and end with their
 * last item unless `items` says what follows; a schema without `type` means the types that its other keywords are about;
 * white space is a space or a line end with indentation, numbers have up to 16 digits, and strings no zero character.
 *
 * GENARM_EFORMAT: no JSON, no schema, or one that nothing satisfies; GENARM_EUNSUPPORTED: it asks for what cannot be enforced,
 * or is too large. The error begins with the JSON pointer of the place, as in "/properties/a/not: ...". Thread-safe. */
int genarm_schema_to_gbnf(char **out, const char *schema, struct genarm_error *err);

/* What is answered from the next token on, and every answer after a new prompt, follows the grammar: the turn can end only
 * where the grammar is complete. NULL: anything goes again. A step fails with GENARM_EINVAL where the grammar allows no token
 * that the mixture gives any probability, and where the states of one answer are more than there is room for (65536). */
int genarm_session_set_grammar(struct genarm_session *s, struct genarm_grammar *grammar, struct genarm_error *err);

/* ---- log-probabilities of the tokens drawn ---- */

/* A token and its log-probabilities in nats, before temperature. */
struct genarm_token_logprob {
    int32_t token;
    float guided;      /* of the distribution after step 6 */
    float base;        /* log pi_base */
    const float *arms; /* [n_arms] log pi_ARM,i */
};

/* From the next step on keeps, for the token that a step gives, its log-probabilities and the n likeliest tokens', n <= 1000;
 * -1: nothing, the default. Costs a pass over each part's logits; ARMs of weight 0 are run as well. */
int genarm_session_keep_logprobs(struct genarm_session *s, int32_t n, struct genarm_error *err);

/* Of the last step: [0] is the token drawn, then the n likeliest, best first (the one drawn may be among them). *n: how many
 * there are, 0 when nothing was kept. Valid until the next call that changes the session. */
const struct genarm_token_logprob *genarm_session_logprobs(const struct genarm_session *s, size_t *n);

#ifdef __cplusplus
}
#endif
#endif
