/* genarm train: a reward model, or a policy, from preference pairs. */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/cores.h"
#include "base/json.h"
#include "base/progress.h"
#include "commands.h"
#include "formats.h"
#include "models.h"
#include "objectives.h"
#include "ranks.h"
#include "tell.h"
#include "terminal.h"
#include "train/options.h"
#include "train/start.h"
#include "train/team.h"
#include "training.h"

struct train_args {
    struct model_args model;
    struct option_list data, objectives;
    struct format_args formats;
    struct training_args training;
    const char *output;
    int32_t loss, preference_rank, preference_draws;
    double beta, margin, label_smoothing, val_split, preference_concentration;
    bool length_normalize, save_epochs, resume_changed, json;
};

#define LOSS_NAME(id, name, text) name "|"
#define ARGS(member) offsetof(struct train_args, member)

static const struct option train_options[] = {
    {OPTION_GROUP, .help = "Data"},
    {OPTION_FILES, "-d --data", "PAIRS", ARGS(data),
     .help = PAIRS_HELP "; for sft the rejected response may be missing; repeatable"},
    {OPTION_TEXTS, "--objective", OBJECTIVE_FORM, ARGS(objectives),
     .help = "instead of -d: pairs of one of several objectives, among which a preference is given when the adapter is used "
             "(--preference). A step takes --batch-size pairs of each. LABEL, better or safer, takes the place of --label; a "
             "name given again adds a file; repeatable"},
    OPTIONS_FORMAT(struct train_args),
    {OPTION_FILE, "-o --output", "FILE.gguf", ARGS(output),
     .help = OUTPUT_HELP},
    {OPTION_INT, "--max-length", "N", ARGS(training.max_length), 2, 1 << 20, .fallback = "1024",
     .help = "tokens of prompt and longer response; longer prompts lose their beginning"},
    {OPTION_NUMBER, "--val-split", "X", ARGS(val_split), 0, 0.5, .fallback = "0.05",
     .help = "share of the pairs held out to measure loss, accuracy and margin"},
    {OPTION_TEXT, "--chat-template", "TEMPLATE", ARGS(training.chat_template), .env = "LLAMA_ARG_CHAT_TEMPLATE",
     .help = TEMPLATE_HELP},
    {OPTION_GROUP, .help = "Loss"},
    {OPTION_CHOICE, "--loss", "NAME", ARGS(loss), .choices = GENARM_LOSSES(LOSS_NAME), .fallback = "arm",
     .help =
         "what is minimised: arm, hinge and simpo train an autoregressive reward model, sft, dpo and ipo a policy, bt a "
         "reward model of whole responses (genarm score --reward)"},
    {OPTION_NUMBER, "--beta", "X", ARGS(beta), 0, 1000, .fallback = "0",
     .help = "scale of the difference of log-probabilities or, for dpo and ipo, of log-ratios to the reference; 0: 0.05, "
             "for simpo 2, for dpo and ipo 0.1; not for sft and bt"},
    {OPTION_NUMBER, "--margin", "X", ARGS(margin), -1000, 1000, .fallback = "0",
     .help = "how much larger the chosen response's scaled reward should be; 0: no more than that, for simpo half of beta; not "
             "for sft and ipo"},
    {OPTION_NUMBER, "--label-smoothing", "X", ARGS(label_smoothing), 0, 0.5, .fallback = "0",
     .help = "share of pairs that are taken to be labelled wrongly; for arm, simpo and dpo"},
    {OPTION_FLAG, "--length-normalize", "", ARGS(length_normalize),
     .help = "rewards are means over a response's tokens, not sums; simpo, sft and ipo always do so"},
    {OPTION_FILE, "--reference-adapter", "FILE.gguf", ARGS(training.reference_adapter),
     .help = "for dpo and ipo: the reference is the model with this adapter; without it the model alone, whatever "
             "--init-adapter says"},
    {OPTION_GROUP, .help = "Objectives"},
    {OPTION_INT, "--preference-rank", "N", ARGS(preference_rank), 0, 4096, .fallback = "0",
     .help = "with --objective: how much of the rank depends on the preference; 0: half"},
    {OPTION_NUMBER, "--preference-concentration", "X", ARGS(preference_concentration), 0.001, 1000, .fallback = "0.5",
     .help = "with --objective: of the Dirichlet distribution that preferences are drawn from; 1: uniform, less: nearer to "
             "single objectives"},
    {OPTION_INT, "--preference-draws", "N", ARGS(preference_draws), 1, 1 << 20, .fallback = "8",
     .help = "with --objective: preferences of one step, each for a share of its pairs"},
    OPTIONS_ADAPTER(struct train_args),
    OPTIONS_OPTIMISER(struct train_args, "5e-4", "cosine", "0.05"),
    OPTIONS_BATCHES(struct train_args, "32", "pairs"),
    OPTIONS_RUN(struct train_args, "the order, the split, the dropout and the adapter's start"),
    {OPTION_FLAG, "--save-epochs", "", ARGS(save_epochs), .free = true,
     .help = "keep the adapter of every epoch, after its validation: FILE.epochN.gguf beside FILE.gguf, which is the last one's"},
    {OPTION_FLAG, "--resume-changed", "", ARGS(resume_changed),
     .help = "as --resume, with other optimiser options from here on: -lr, --lr-schedule, --warmup, --weight-decay, "
             "--max-grad-norm, --adam-*, --lora-dropout, --label-smoothing, --micro-batch, --bf16, --preference-concentration"},
    {OPTION_FLAG, "--json", "", ARGS(json), .help = "print the result as a JSON record"},
    OPTIONS_MODEL(struct train_args),
};

static struct genarm_train_params params_from(const struct train_args *args) {
    struct genarm_train_params p = genarm_train_default_params();
    p.loss = (enum genarm_loss)args->loss;
    p.beta = (float)args->beta;
    p.margin = (float)args->margin;
    p.label_smoothing = (float)args->label_smoothing;
    p.length_normalize = args->length_normalize;
    p.preference_rank = args->preference_rank;
    p.preference_concentration = (float)args->preference_concentration;
    p.preference_draws = args->preference_draws;
    p.val_split = (float)args->val_split;
    p.format = (enum genarm_data_format)args->formats.format;
    p.label = (enum genarm_data_label)args->formats.label;
    training_apply(&p, &args->training, &args->model);
    p.save_epochs = args->save_epochs;
    p.resume = p.resume || args->resume_changed;
    p.resume_changed = args->resume_changed;
    return p;
}

static void say_data(const struct genarm_data_report *r, const struct train_args *args, const struct genarm_model *model) {
    char limit[64];
    note("%lld of %lld pairs are used", (long long)r->kept, (long long)r->read);
    if (r->dropped_equal) {
        note("dropped: chosen equals rejected in %lld", (long long)r->dropped_equal);
    }
    if (r->dropped_empty) {
        note("dropped: a response is empty in %lld", (long long)r->dropped_empty);
    }
    if (r->dropped_unlabelled) {
        note("dropped: no response is labelled as the better one in %lld", (long long)r->dropped_unlabelled);
    }
    if (r->dropped_turns) {
        note("dropped: no two answers to one prompt in %lld", (long long)r->dropped_turns);
    }
    if (r->dropped_large) {
        note("dropped: responses together leave no room for a prompt within 8192 tokens in %lld", (long long)r->dropped_large);
    }
    if (r->dropped_long) {
        note("dropped: responses leave no room for a prompt within %s in %lld",
             training_limit(limit, sizeof limit, &args->training, model), (long long)r->dropped_long);
    }
    if (r->cut) {
        note("cut: the prompt loses its beginning in %lld", (long long)r->cut);
    }
    if (r->prefixes) {
        note("kept: one response is the beginning of the other in %lld", (long long)r->prefixes);
    }
    if (!args->model.verbose && r->read - r->kept + r->prefixes > 0) {
        note("-v names them by file and line, as genarm data does");
    }
}

struct watch {
    struct progress progress;
    struct genarm_train_status last, validation; /* the last step, and the last one that was validated */
    bool started, quiet; /* quiet: another rank shows the progress */
    double start;
};

static int on_step(const struct genarm_train_status *status, void *user) {
    struct watch *w = user;
    char text[128];
    if (!w->started && !w->quiet) {
        progress_start(&w->progress, "training", "pairs", status->pairs_total, status->pairs_before);
    }
    w->started = !w->quiet;
    w->last = *status;
    if (status->has_validation) {
        w->validation = *status;
    }
    if (isnan(status->accuracy)) {
        snprintf(text, sizeof text, "loss %.3f", status->loss);
    } else {
        snprintf(text, sizeof text, "loss %.3f acc %.2f margin %.2f", status->loss, status->accuracy, status->margin);
    }
    if (!w->quiet) {
        progress_update(&w->progress, status->pairs_done, text);
    }
    return interrupt_signal();
}

static int print_result(const struct watch *w, const struct train_args *args, struct genarm_error *err) {
    const struct genarm_train_status *l = &w->last, *v = &w->validation;
    if (args->json) {
        json_t *record = json_pack("{s:o, s:I, s:I, s:o, s:o, s:o, s:o}", "output", text_json(args->output), "steps",
                                   (json_int_t)l->step, "pairs", (json_int_t)l->pairs_done, "loss",
                                   json_rounded(l->loss, 6), "accuracy", json_rounded(l->accuracy, 6), "margin",
                                   json_rounded(l->margin, 6), "pairs_per_second",
                                   json_rounded(l->pairs_per_second, 3));
        if (record && v->has_validation) {
            json_object_set_new(record, "val_loss", json_rounded(v->val_loss, 6));
            json_object_set_new(record, "val_accuracy", json_rounded(v->val_accuracy, 6));
            json_object_set_new(record, "val_margin", json_rounded(v->val_margin, 6));
        }
        return print_json(stdout, record, err);
    }
    bool held_out = v->has_validation;
    double accuracy = held_out ? v->val_accuracy : l->accuracy;
    if (!held_out && isnan(l->loss)) { /* resumed when all was done but writing the adapter */
        printf("%s: %lld steps, done before\n", args->output, (long long)l->step);
        return flush_output(stdout, err);
    }
    printf("%s: %lld steps, %s: loss %.4f", args->output, (long long)l->step, held_out ? "held-out pairs" : "last step",
           held_out ? v->val_loss : l->loss);
    if (!isnan(accuracy)) {
        printf(", accuracy %.3f, margin %.3f", accuracy, held_out ? v->val_margin : l->margin);
    }
    printf("\n");
    return flush_output(stdout, err);
}

/* Says who trains together. */
static int say_ranks(const struct genarm_team *team, int32_t n_threads, struct genarm_error *err) {
    const int32_t mine = n_threads > 0 ? n_threads : cores_usable();
    int32_t least = INT32_MAX, most = 0;
    if (!team_works(team)) {
        return 0;
    }
    int32_t *all = malloc((size_t)team->size * sizeof *all);
    int code = all ? team->gather(&mine, all, sizeof mine, team->user, err) : error_nomem(err, "the ranks");
    for (int32_t i = 0; i < team->size && code == 0; i++) {
        least = all[i] < least ? all[i] : least;
        most = all[i] > most ? all[i] : most;
    }
    free(all);
    if (code == 0 && least == most) {
        note("%d ranks train together, each with %d thread%s", team->size, most, most > 1 ? "s" : "");
    } else if (code == 0) {
        note("%d ranks train together, each with %d to %d threads", team->size, least, most);
    }
    return code;
}

/* The signal that a rank got, the same on all ranks; 0: none. */
static int find_signal(const struct genarm_team *team) {
    const int32_t mine = interrupt_signal();
    int32_t *all = team_works(team) ? malloc((size_t)team->size * sizeof *all) : NULL;
    int32_t found = mine;
    if (all && team->gather(&mine, all, sizeof mine, team->user, NULL) == 0) {
        for (int32_t i = team->size; i-- > 0;) {
            found = all[i] ? all[i] : found;
        }
    }
    free(all);
    return found;
}

static int run_trainer(struct genarm_trainer *trainer, const struct train_args *args, const struct genarm_team *team,
                       struct genarm_error *err) {
    struct watch watch = {.quiet = !team_leads(team), .start = clock_seconds()};
    interrupt_catch();
    if (team_works(team)) {
        interrupt_catch_also(SIGUSR1); /* mpirun passes it on, and unlike after SIGTERM it kills nobody soon after */
    }
    const int code = genarm_trainer_run(trainer, on_step, &watch, err);
    if (watch.started) {
        progress_end(&watch.progress);
    }
    const int number = code == GENARM_ECANCELED ? find_signal(team) : 0;
    if (number) {
        note("stopped after step %lld of %lld; the same command with --resume goes on from %s.ckpt",
             (long long)watch.last.step, (long long)watch.last.n_steps, args->output);
        return 128 + number;
    }
    if (code || !team_leads(team)) {
        return code;
    }
    note("%.1f pairs a second, %.0f seconds", watch.last.pairs_per_second, clock_seconds() - watch.start);
    return print_result(&watch, args, err);
}

static int train(const struct train_args *args, const struct objective_set *objectives, struct genarm_model *model,
                 const struct genarm_team *team, struct genarm_error *err) {
    struct genarm_train_params params = params_from(args);
    struct genarm_data_report report;
    struct genarm_trainer *trainer = NULL;
    params.objectives = objectives->items;
    params.n_objectives = objectives->n;
    params.team = team;
    int code = genarm_trainer_new(&trainer, model, args->data.items, args->data.n, args->output, &params, &report, err);
    if (code == 0) {
        say_data(&report, args, model);
        code = say_ranks(team, params.n_threads, err);
    }
    if (code == 0) {
        code = run_trainer(trainer, args, team, err);
    }
    genarm_trainer_free(trainer);
    return code;
}

/* What the loss has no use for, say. */
static int check_options(const struct train_args *args, const struct objective_set *objectives, struct genarm_error *err) {
    struct genarm_train_params params = params_from(args);
    params.n_objectives = objectives->n;
    const int code = training_check_targets(&args->training, err);
    return code ? code : as_usage(err, options_check(&params, err), NULL);
}

/* What is read must not be written over. */
static int check_output(const struct train_args *args, const char *output, const struct objective_set *objectives,
                        const struct genarm_model *model, struct genarm_error *err) {
    const struct training_args *t = &args->training;
    int code = training_check_outputs(t, output, model, err);
    for (size_t i = 0; i < args->data.n && code == 0; i++) {
        code = training_keep_input(t, output, args->data.items[i], err);
    }
    for (size_t i = 0; i < objectives->n; i++) {
        for (size_t j = 0; j < objectives->items[i].n_paths && code == 0; j++) {
            code = training_keep_input(t, output, objectives->items[i].paths[j], err);
        }
    }
    return code;
}

static int check_outputs(const struct train_args *args, const struct objective_set *objectives,
                         const struct genarm_model *model, struct genarm_error *err) {
    int code = check_output(args, args->output, objectives, model, err);
    for (int32_t epoch = 1; args->save_epochs && epoch < args->training.epochs && code == 0; epoch++) {
        char *path = start_epoch_output(args->output, epoch);
        code = path ? check_output(args, path, objectives, model, err) : error_nomem(err, "a file name");
        free(path);
    }
    return code;
}

static int train_run(const void *arguments, struct genarm_error *err) {
    const struct train_args *args = arguments;
    const struct genarm_team *team = NULL;
    struct genarm_model *model = NULL;
    struct objective_set objectives = {0};
    log_to_stderr(args->model.verbose);
    if (!args->data.n && !args->objectives.n) {
        return usage_error(err, "-d", "training pairs are missing: -d PAIRS");
    }
    if (args->data.n && args->objectives.n) {
        return usage_error(err, "-d", "with --objective all pairs belong to an objective: --objective " OBJECTIVE_FORM);
    }
    if (!args->output) {
        return usage_error(err, "-o", "the file to write is missing: -o FILE.gguf");
    }
    int code = ranks_open(&team, err);
    if (code == 0) {
        code = objectives_parse(&objectives, &args->objectives, (enum genarm_data_label)args->formats.label, err);
    }
    code = code ? code : check_options(args, &objectives, err);
    if (code == 0) {
        code = load_model(&model, &args->model, err);
    }
    if (code == 0) {
        code = check_outputs(args, &objectives, model, err);
    }
    code = team_agree(team, code, err);
    if (code == 0) {
        code = train(args, &objectives, model, team, err);
    }
    genarm_model_free(model);
    objectives_free(&objectives);
    return ranks_close(team, code, err);
}

const struct command command_train = {
    .name = "train",
    .summary = "train a reward model from preference pairs",
    .usage = "[options] (-d PAIRS | --objective NAME=PAIRS ...) -o FILE.gguf",
    .details =
        "Trains an autoregressive reward model: a LoRA adapter on a frozen model, such that the summed log-probability "
        "of the chosen response exceeds that of the rejected one. Other losses train a policy (DPO, IPO, SFT) or a "
        "reward model that gives a whole response one number. With several --objective the adapter weighs them by a "
        "preference that is given when it is used. Ctrl-C writes a checkpoint and stops; the same "
        "command with --resume goes on and ends with the same adapter, to the bit. Started by mpirun, on one machine or "
        "many, all processes train the one adapter together.",
    .examples = "genarm train -d pairs.jsonl -o cheerful.gguf\n"
                "genarm train -m model.gguf -d a.jsonl -d b.jsonl -o arm.gguf --beta 0.1 -lr 2e-4 --epochs 2\n"
                "genarm train -d pairs.jsonl -o policy.gguf --loss dpo -lr 1e-4\n"
                "genarm train --objective kind=pku.jsonl@better --objective safe=pku.jsonl@safer -o both.gguf\n"
                "genarm train -d harmless.jsonl.gz -o harmless.gguf --max-length 512\n"
                "genarm train -d pairs.jsonl -o cheerful.gguf --resume\n"
                "mpirun -n 2 --host one,two --bind-to none genarm train -d pairs.jsonl -o cheerful.gguf",
    .options = train_options,
    .n_options = sizeof train_options / sizeof *train_options,
    .args_size = sizeof(struct train_args),
    .ranks = true,
    .run = train_run,
};
