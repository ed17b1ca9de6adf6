/* Times of a guide against libllama on the same model: the contestants take turns, so that a machine that drifts drifts under
 * all of them, and on a change of sides the threads of the other are given the time to fall asleep.
 *
 * Contestants are libllama unguided, and the guide with its first 0, 1, 2, ... ARMs. All take the likeliest token and
 * feed it; the time of a guide is that of genarm_session_step, the mixture and the choice of the token included. Texts, tokens
 * of texts, and loading are left out, as llama-bench leaves them out. Prompts are random tokens, the same for all.
 */
#ifndef BENCH_CONTEST_H
#define BENCH_CONTEST_H

#include "bench/rival.h"
#include "guide/session.h"

enum { CONTEST_LIBLLAMA = -1 /* else a contestant is a number of ARMs */ };

/* Either n_prompt or n_gen is 0. */
struct contest_test {
    int32_t n_prompt; /* tokens to process at once */
    int32_t n_gen;    /* tokens to generate, one after the other */
    int32_t n_depth;  /* tokens before, not timed */
};

struct contest {
    struct genarm_guide *guide;
    struct genarm_session *session;
    struct rival rival;
    int32_t *tokens;  /* [n_ctx] of the prompt at hand */
    int32_t n_vocab;  /* that all models have */
    int32_t n_kept;   /* leading tokens of n_depth that the rival holds */
    int32_t last;     /* who was timed last */
    uint64_t n_turns; /* so that no prompt is one that a cache holds */
    int (*stop)(void);
    double guide_bytes, rival_bytes; /* of the process's memory that each came to hold, once it had computed */
};

/* Tokens of context that a test needs. */
int32_t contest_context(const struct contest_test *test);

/* Takes a slot of the guide, which must outlive the contest and whose context must be enough for all tests. Evaluates a prompt
 * of n_prompt >= 1 tokens on both sides, to see the memory that they need: `before` is what machine_resident said before the
 * guide's model was loaded. `stop` is asked before each batch and each token, here and in rounds, and a return other than 0 ends
 * them with GENARM_ECANCELED; NULL: nobody asks. contest_close frees also after failure. */
int contest_open(struct contest *c, struct genarm_guide *guide, int32_t n_prompt, double before, int (*stop)(void),
                 struct genarm_error *err);
void contest_close(struct contest *c); /* safe on a zeroed struct */

/* Rounds in which all have their turn: libllama, and the guide with 0, 1, ... ARMs. Stores the seconds that each needed for
 * all tokens of the test, [contest_n(c)][n_rounds]. Before the clock runs, the tokens before are seen to, and one token is
 * generated where some are to be. `warm_up` more rounds come first and are not kept. `each`, unless NULL, is called after every
 * turn. */
int contest_rounds(struct contest *c, const struct contest_test *test, int32_t warm_up, int32_t n_rounds, double *seconds,
                   void (*each)(void *user), void *user, struct genarm_error *err);

/* Contestants; that of index i is `who` i - 1. */
static inline int32_t contest_n(const struct contest *c) { return genarm_guide_n_arms(c->guide) + 2; }

/* Bytes that must be read for one token of a test that generates: weights of the models at work, adapters, and the keys and
 * values of the tokens before, on average. 0: not known, as for a model that libllama runs for the guide too; it may be one of
 * experts, or forget. */
double contest_bytes(const struct contest *c, int32_t who, const struct contest_test *test);

#endif
