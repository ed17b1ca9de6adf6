/* genarm rl: a policy by online reinforcement learning. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/progress.h"
#include "commands.h"
#include "prompts.h"
#include "rewards.h"
#include "tell.h"
#include "terminal.h"
#include "training.h"

struct rl_args {
    struct model_args model;
    struct training_args training;
    struct sampling_args sampling;
    struct reward_args rewards;
    const char *prompts, *system, *output;
    int32_t method, average, scale, group_size, num_iterations, max_new_tokens, n_parallel, steps;
    double kl_coef, missing_eos_penalty, clip_eps;
    bool mask_truncated, json;
};

#define METHOD_NAME(id, name, text) name "|"
#define ARGS(member) offsetof(struct rl_args, member)

static const struct option rl_options[] = {
    {OPTION_GROUP, .help = "Data"},
    {OPTION_FILE, "--prompts", "FILE", ARGS(prompts), .dash = DASH_STDIN,
     .help = "what is answered, -: from stdin: JSON lines or a JSON array, plain, gzip, xz or zstd, of {\"prompt\"} or "
             "{\"messages\"}, with \"system\" if wanted, or, in a file .txt, a prompt a line"},
    {OPTION_TEXT, "-sys --system-prompt", "TEXT", ARGS(system), .help = "system message of prompts without their own"},
    {OPTION_FILE, "-o --output", "FILE.gguf", ARGS(output), .help = OUTPUT_HELP},
    {OPTION_INT, "--max-length", "N", ARGS(training.max_length), 2, 1 << 20, .fallback = "1024",
     .help = "tokens of prompt and response; longer prompts are left out"},
    {OPTION_TEXT, "--chat-template", "TEMPLATE", ARGS(training.chat_template), .env = "LLAMA_ARG_CHAT_TEMPLATE",
     .help = TEMPLATE_HELP},
    {OPTION_GROUP, .help = "Rewards"},
    OPTIONS_REWARDS(struct rl_args, REWARD_FORM, "what is maximised, WEIGHT times each reward added up: "),
    {OPTION_NUMBER, "--missing-eos-penalty", "X", ARGS(missing_eos_penalty), 0, 1e9, .fallback = "0",
     .help = "subtracted from the reward of responses that do not end within -n tokens"},
    {OPTION_GROUP, .help = "Method"},
    {OPTION_CHOICE, "--method", "NAME", ARGS(method), .choices = GENARM_RL_METHODS(METHOD_NAME), .fallback = "rloo",
     .help = "rloo: leave-one-out baseline, KL in the reward; grpo: rewards normalised within a group, KL by token"},
    {OPTION_NUMBER, "--kl-coef", "X", ARGS(kl_coef), 0, 1e6, .fallback = "0.05",
     .help = "weight of the KL divergence to the base"},
    {OPTION_FILE, "--reference-adapter", "FILE.gguf", ARGS(training.reference_adapter),
     .help = "the KL divergence is to the base with this adapter; without it to the base alone, whatever --init-adapter says"},
    {OPTION_INT, "--group-size", "N", ARGS(group_size), 2, 1 << 16, .fallback = "8",
     .help = "responses sampled to each prompt, an even number"},
    {OPTION_FLAG, "--mask-truncated", "", ARGS(mask_truncated),
     .help = "leave responses that do not end within -n tokens out of the loss"},
    {OPTION_INT, "--num-iterations", "N", ARGS(num_iterations), 1, 1024, .fallback = "1",
     .help = "updates on the responses of a step"},
    {OPTION_NUMBER, "--clip-eps", "X", ARGS(clip_eps), 1e-6, 1e6, .fallback = "0.2",
     .help = "how far such updates may move a probability ratio from 1"},
    {OPTION_CHOICE, "--scale-rewards", "HOW", ARGS(scale), .choices = "group|none", .fallback = "group",
     .help = "for grpo: divide advantages by the standard deviation within the group, or not"},
    {OPTION_CHOICE, "--loss-type", "NAME", ARGS(average), .choices = GENARM_RL_AVERAGES(METHOD_NAME), .fallback = "dapo",
     .help = "for grpo, what the terms of tokens are averaged over: all tokens of a step (dapo), a response's own, then "
             "responses (grpo), or the largest number that there can be (dr-grpo)"},
    {OPTION_GROUP, .help = "Sampling"},
    {OPTION_INT, "-n --max-new-tokens --predict --n-predict", "N", ARGS(max_new_tokens), 1, 1 << 20, .fallback = "256",
     .env = "LLAMA_ARG_N_PREDICT", .help = "tokens of a response at most"},
    {OPTION_INT, "-np --parallel", "N", ARGS(n_parallel), 1, 4096, .fallback = "16", .also = "-1",
     .env = "LLAMA_ARG_N_PARALLEL", .help = "responses sampled at once; -1: the default"},
    OPTIONS_DRAW(struct rl_args, 0.01, "temperature, 0.01 at least: responses must differ to learn from them"),
    OPTIONS_ADAPTER(struct rl_args),
    OPTIONS_OPTIMISER(struct rl_args, "1e-4", "linear", "0"),
    OPTIONS_BATCHES(struct rl_args, "8", "prompts"),
    {OPTION_INT, "--steps", "N", ARGS(steps), 0, INT32_MAX, .fallback = "0",
     .help = "steps to do, through the prompts as often as it takes; 0: as --epochs says"},
    OPTIONS_RUN(struct rl_args, "the responses, the order, the dropout and the adapter's start"),
    {OPTION_FLAG, "--json", "", ARGS(json), .help = "print the result as a JSON record"},
    OPTIONS_MODEL(struct rl_args),
};

static struct genarm_rl_params params_from(const struct rl_args *args) {
    struct genarm_rl_params p = genarm_rl_default_params();
    p.method = (enum genarm_rl_method)args->method;
    p.kl_coef = args->kl_coef;
    p.missing_eos_penalty = args->missing_eos_penalty;
    p.mask_truncated = args->mask_truncated;
    p.group_size = args->group_size;
    p.num_iterations = args->num_iterations;
    p.clip_eps = args->clip_eps;
    p.scale_rewards = args->scale == 0;
    p.average = (enum genarm_rl_average)args->average;
    p.max_new_tokens = args->max_new_tokens;
    p.temperature = args->sampling.temperature;
    p.top_k = args->sampling.top_k;
    p.top_p = args->sampling.top_p;
    p.min_p = args->sampling.min_p;
    p.n_parallel = args->n_parallel;
    p.steps = args->steps;
    training_apply(&p.training, &args->training, &args->model);
    return p;
}

/* What a run is made of. */
struct job {
    const struct rl_args *args;
    struct genarm_model *model;
    struct prompt_list prompts;
    struct reward_set rewards;
    struct genarm_rl_reward *parts;   /* [rewards.n] */
    struct genarm_rl_prompt *messages; /* [prompts.n] */
};

/* ---- progress and result ---- */

struct watch {
    struct progress progress;
    struct genarm_rl_status last;
    bool started;
};

static int on_status(const struct genarm_rl_status *s, void *user) {
    struct watch *w = user;
    char text[96];
    if (!w->started) {
        progress_start(&w->progress, "training", "steps", s->n_steps, s->first_step);
    }
    w->started = true;
    w->last = *s;
    if (isnan(s->reward)) {
        snprintf(text, sizeof text, "sampling %lld/%lld", (long long)s->sampled, (long long)s->to_sample);
    } else {
        snprintf(text, sizeof text, "reward %.3f kl %.2f length %.0f", s->reward, s->kl, s->length);
    }
    progress_update(&w->progress, s->step, text);
    return interrupt_signal();
}

static json_t *means_json(const struct job *job, const struct genarm_rl_status *s) {
    json_t *object = json_object();
    for (size_t i = 0; i < s->n_rewards && s->rewards && object; i++) {
        json_object_set_new(object, rewards_name(&job->rewards, i), json_rounded(s->rewards[i], 6));
    }
    return object;
}

static int print_result(const struct job *job, const struct genarm_rl_status *s, const json_t *means,
                        struct genarm_error *err) {
    const struct rl_args *args = job->args;
    if (args->json) {
        json_t *record = json_pack(
            "{s:o, s:I, s:o, s:O, s:o, s:o, s:o, s:o, s:o}", "output", text_json(args->output), "steps",
            (json_int_t)s->step, "reward", json_rounded(s->reward, 6), "rewards", means, "kl", json_rounded(s->kl, 6),
            "length", json_rounded(s->length, 3), "finished", json_rounded(s->finished, 6), "loss",
            json_rounded(s->loss, 6), "tokens_per_second", json_rounded(s->tokens_per_second, 3));
        return print_json(stdout, record, err);
    }
    if (isnan(s->reward)) { /* resumed when all was done but writing the adapter */
        printf("%s: %lld steps, done before\n", args->output, (long long)s->step);
    } else {
        printf("%s: %lld steps, last step: reward %.4f, KL %.3f, %.1f tokens, %.0f %% finished\n", args->output,
               (long long)s->step, s->reward, s->kl, s->length, 100 * s->finished);
    }
    return flush_output(stdout, err);
}

/* ---- the command ---- */

static int check_outputs(const struct job *job, struct genarm_error *err) {
    const struct rl_args *args = job->args;
    int code = training_check_outputs(&args->training, args->output, job->model, err);
    code = code ? code : training_keep_input(&args->training, args->output, args->prompts, err);
    code = code ? code : keep_rewards("-o", args->output, &args->rewards.specs, err);
    return code ? code : keep_rewards("--log", args->training.log, &args->rewards.specs, err);
}

static int load(struct job *job, struct genarm_error *err) {
    const struct rl_args *args = job->args;
    const struct guide_args guide = {.n_batch = 512, .chat_template = args->training.chat_template};
    int code = prompts_read(&job->prompts, args->prompts, args->system, err);
    code = code ? code : load_model(&job->model, &args->model, err);
    code = code ? code : check_outputs(job, err);
    code = code ? code : rewards_load(&job->rewards, &args->rewards, true, NULL, job->model, &args->model, &guide, err);
    job->parts = calloc(job->rewards.n + 1, sizeof *job->parts);
    job->messages = calloc(job->prompts.n + 1, sizeof *job->messages);
    if (code == 0 && (!job->parts || !job->messages)) {
        code = error_nomem(err, "prompts");
    }
    for (size_t i = 0; i < job->rewards.n && code == 0; i++) {
        struct genarm_source *source = job->rewards.sources[i];
        job->parts[i] = (struct genarm_rl_reward){.weight = (double)genarm_source_weight(source), .source = source};
    }
    for (size_t i = 0; i < job->prompts.n && code == 0; i++) {
        const struct prompt *p = &job->prompts.items[i];
        job->messages[i] =
            (struct genarm_rl_prompt){.messages = p->messages, .n_messages = p->n_messages, .where = p->where};
    }
    return code;
}

static int train(struct job *job, struct genarm_error *err) {
    const struct rl_args *args = job->args;
    struct genarm_rl_params params = params_from(args);
    struct genarm_rl_report report;
    struct genarm_rl *rl = NULL;
    struct watch watch = {0};
    char limit[64];
    params.rewards = job->parts;
    params.n_rewards = job->rewards.n;
    int code = genarm_rl_new(&rl, job->model, job->messages, job->prompts.n, args->output, &params, &report, err);
    if (code) {
        return code;
    }
    note("%lld of %lld prompts are used", (long long)report.kept, (long long)report.read);
    if (report.dropped_long) {
        note("dropped: no room for -n %d within %s in %lld", params.max_new_tokens,
             training_limit(limit, sizeof limit, &args->training, job->model), (long long)report.dropped_long);
    }
    const double start = clock_seconds();
    code = genarm_rl_run(rl, on_status, &watch, err);
    if (watch.started) {
        progress_end(&watch.progress);
    }
    json_t *means = means_json(job, &watch.last); /* the status points into the run */
    genarm_rl_free(rl);
    if (code == GENARM_ECANCELED && interrupt_signal()) {
        note("stopped after step %lld of %lld; the same command with --resume goes on from %s.ckpt",
             (long long)watch.last.step, (long long)watch.last.n_steps, args->output);
        code = 128 + interrupt_signal();
    } else if (code == 0) {
        note("%.1f tokens a second, %.0f seconds", watch.last.tokens_per_second, clock_seconds() - start);
        code = print_result(job, &watch.last, means, err);
    }
    json_decref(means);
    return code;
}

static int check_usage(const struct rl_args *args, struct genarm_error *err) {
    if (!args->prompts) {
        return usage_error(err, "--prompts", "the prompts are missing: --prompts FILE");
    }
    if (!args->rewards.specs.n) {
        return usage_error(err, "--reward", "a reward is missing: --reward " REWARD_FORM);
    }
    if (!args->output) {
        return usage_error(err, "-o", "the file to write is missing: -o FILE.gguf");
    }
    if (args->group_size % 2) {
        return usage_error(err, "--group-size", "%d is odd: responses are trained on in pairs", args->group_size);
    }
    if (args->max_new_tokens >= args->training.max_length) {
        return usage_error(err, "-n", "%d leaves no room for a prompt within --max-length %d", args->max_new_tokens,
                           args->training.max_length);
    }
    return training_check_targets(&args->training, err);
}

static int rl_run(const void *arguments, struct genarm_error *err) {
    struct job job = {.args = arguments};
    log_to_stderr(job.args->model.verbose);
    int code = check_usage(job.args, err);
    if (code) {
        return code;
    }
    interrupt_catch();
    code = load(&job, err);
    code = code ? code : train(&job, err);
    rewards_free(&job.rewards);
    genarm_model_free(job.model);
    prompts_free(&job.prompts);
    free(job.parts);
    free(job.messages);
    return code;
}

const struct command command_rl = {
    .name = "rl",
    .summary = "train a policy on its own responses, for a sum of rewards",
    .usage = "[options] --prompts FILE --reward [KIND:]PATH[:WEIGHT] -o FILE.gguf",
    .details =
        "Trains a policy, a LoRA adapter on a frozen model, by online reinforcement learning: it samples a group of "
        "responses to each prompt, asks for their rewards, and makes those likelier that have more than others of their "
        "group, while the KL divergence to the base costs. Several rewards are added up with their weights: one policy for "
        "each preference, which an ARM does not need. genarm generate --lora FILE.gguf answers with the policy. "
        "Ctrl-C writes a checkpoint and stops; the same command with --resume goes on and ends with the same adapter, to "
        "the bit, if the rewards are the same when asked again.",
    .examples = "genarm rl --prompts prompts.jsonl --reward reward.gguf -o policy.gguf\n"
                "genarm rl --prompts p.jsonl --reward kind.gguf:0.7 --reward safe.gguf:0.3 -o both.gguf\n"
                "genarm rl --prompts p.txt --reward 'cmd:python3 cheer.py' --method grpo -o joy.gguf\n"
                "genarm rl --prompts p.txt --reward ratio:arm.gguf -o policy.gguf --steps 200 --resume",
    .options = rl_options,
    .n_options = sizeof rl_options / sizeof *rl_options,
    .args_size = sizeof(struct rl_args),
    .run = rl_run,
};
