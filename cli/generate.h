/* genarm generate: what its files share. generate.c has the options and what is around the answers, generate_jobs.c answers. */
#ifndef CLI_GENERATE_H
#define CLI_GENERATE_H

#include "answer_record.h"
#include "drafts.h"
#include "estimate.h"
#include "partial.h"
#include "prompts.h"

struct generate_args {
    struct model_args model;
    struct guide_args guide;
    struct sampling_args sampling;
    struct steer_args steer;
    struct draft_args draft;
    struct shift_args shift;
    const char *prompt, *file, *prompts, *system, *output, *cache;
    int32_t n_predict, n_parallel, n_logprobs;
    bool json, cache_read_only, restart;
};

/* A prompt on its way: waiting, running (session), ended (answer kept until those before it are written). */
struct job {
    struct answer_record answer;
    struct genarm_session *session;
    uint64_t seed;
    json_t *record; /* the finished one, until it is written */
};

struct generation {
    const struct generate_args *args;
    struct setup setup;
    struct prompt_list prompts;
    struct job *jobs; /* [prompts.n] */
    size_t n_started, n_written, n_failed;
    size_t n_done;          /* with those of an earlier process */
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

/* The error of a write says where to. */
int generate_written(const struct generation *g, int code, struct genarm_error *err);

/* Answers all prompts, several at once, until that is done or a signal asks for a stop. What is shown while they run, text of
 * one or records of many, goes to g->out; records that are kept (g->partial) stay there. */
int generate_jobs(struct generation *g, struct genarm_error *err);

#endif
