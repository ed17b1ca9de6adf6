/* genarm generate: what its files share. generate.c has the options and what is around the answers, generate_jobs.c answers,
 * generate_records.c makes records of what was answered, and generate_best.c chooses one of several answers. */
#ifndef CLI_GENERATE_H
#define CLI_GENERATE_H

#include "answer_record.h"
#include "drafts.h"
#include "estimate.h"
#include "methods.h"
#include "partial.h"
#include "prompts.h"

struct generate_args {
    struct model_args model;
    struct guide_args guide;
    struct sampling_args sampling;
    struct steer_args steer;
    struct draft_args draft;
    struct shift_args shift;
    struct method_args method;
    struct reward_args rewards;
    const char *prompt, *file, *prompts, *system, *output, *cache;
    int32_t n_predict, n_parallel, n_logprobs, skip, limit;
    bool json, cache_read_only, restart;
};

/* One answer to a prompt: running (session), ended (facts), or failed (answer.failure, and nothing else of it). */
struct sample {
    struct answer_record answer; /* first: sample_of */
    struct genarm_session *session;
    size_t job, index; /* which prompt's, and which of its samples */
    uint64_t seed;
    json_t *facts; /* what its record would say */
};

/* A prompt on its way: waiting, under way (samples), ended (record kept until those before it are written). */
struct job {
    struct sample *samples; /* [method.n_samples] */
    size_t n_begun, n_ended;
    struct genarm_work work; /* of the samples that ended, and of their rewards */
    double seconds;
    json_t *record;
};

struct generation {
    const struct generate_args *args;
    struct setup setup;
    struct method method;
    struct prompt_list prompts;
    struct job *jobs; /* [prompts.n] */
    size_t n_started; /* whose samples all have begun */
    size_t n_written, n_failed;
    size_t n_done;          /* with those of an earlier process */
    size_t n_waiting;       /* samples that ended, of prompts that have not */
    struct partial partial; /* of --prompts with -o */
    uint64_t seed;
    struct estimate estimate;
    double started;
    struct answer_record **running; /* [n_running], room for n_parallel */
    size_t n_running;
    FILE *out;
    bool records;      /* JSON rather than text */
    size_t n_streamed; /* bytes of the text that are printed */
    struct genarm_error first_failure;
};

static inline bool generate_many(const struct generate_args *args) { return args->prompts != NULL; }

/* Whether an answer is one of several to choose from, even if there is but one. */
static inline bool generate_chooses(const struct generation *g) { return g->method.kind == METHOD_BEST_OF_N; }

/* The error of a write says where to. */
int generate_written(const struct generation *g, int code, struct genarm_error *err);

/* Answers all prompts, several at once, until that is done or a signal asks for a stop. What is shown while they run, text of
 * one or records of many, goes to g->out; records that are kept (g->partial) stay there. */
int generate_jobs(struct generation *g, struct genarm_error *err);

/* ---- generate_records.c ---- */

/* g->partial has the records of prompts.n prompts, and behind them those of samples among which is chosen. */
size_t generate_n_kept(const struct generation *g);

/* Whether an earlier process has kept the sample; and reads it, as if it had ended now. */
bool generate_has_sample(const struct generation *g, const struct sample *s);
int generate_take_kept(struct generation *g, struct sample *s, struct genarm_error *err);

/* A sample that ended, with FINISH_FAILED as answer.failure says: it is kept. Frees what it does not need any more. */
int generate_keep_sample(struct generation *g, struct sample *s, struct genarm_error *err);

/* Ends its job when it was the last one; not before all that ended with it are kept, which a source's failure stops. */
int generate_count_in(struct generation *g, const struct sample *s, struct genarm_error *err);

/* After an interruption: the jobs whose samples have not all ended get a record of what there is. */
int generate_cut_jobs(struct generation *g, struct genarm_error *err);

void generate_free_jobs(struct generation *g);

/* ---- generate_best.c ---- */

/* The facts of a job whose samples have ended: those of the one with the highest reward, with what all of them took. *facts is
 * NULL, and *failure says why, where none has a reward. GENARM_ECANCELED after an interruption; a source's own failure is one of
 * the run: there is nothing wrong with the samples. */
int generate_choose(struct generation *g, size_t index, json_t **facts, struct genarm_error *failure, struct genarm_error *err);

/* The same without rewards, after an interruption: the first one that there is. */
int generate_choose_none(struct generation *g, size_t index, json_t **facts, struct genarm_error *failure,
                         struct genarm_error *err);

#endif
