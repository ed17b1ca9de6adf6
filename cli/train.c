/* genarm train: a reward model, or a policy, from preference pairs. */
#include <math.h>
#include <string.h>

#include "base/progress.h"
#include "commands.h"
#include "common.h"
#include "terminal.h"
#include "text.h"

struct train_args {
    struct model_args model;
    struct option_list data;
    struct format_args formats;
    const char *output, *chat_template, *init_adapter, *reference_adapter, *lora_targets, *log;
    int32_t loss, schedule;
    double beta, margin, label_smoothing, lora_alpha, lora_dropout, learning_rate, weight_decay, max_grad_norm,
        val_split;
    double adam_beta1, adam_beta2, adam_eps;
    bool length_normalize, no_shuffle, bf16, resume, resume_changed, json;
    int32_t lora_rank, warmup, batch_size, micro_batch, checkpoint_layers, epochs, max_length, save_every;
    int64_t seed;
};

#define LOSS_NAME(id, name, text) name "|"
#define ARGS(member) offsetof(struct train_args, member)

static const struct option train_options[] = {
    {OPTION_GROUP, .help = "Data"},
    {OPTION_FILES, "-d --data", "PAIRS", ARGS(data), .help = PAIRS_HELP "; repeatable"},
    OPTIONS_FORMAT(struct train_args),
    {OPTION_FILE, "-o --output", "FILE.gguf", ARGS(output),
     .help =
         "the result: a LoRA adapter that llama.cpp can load as well; checkpoints are in FILE.gguf.ckpt until it is "
         "done"},
    {OPTION_INT, "--max-length", "N", ARGS(max_length), 2, 1 << 20, .fallback = "1024",
     .help = "tokens of prompt and longer response; longer prompts lose their beginning"},
    {OPTION_NUMBER, "--val-split", "X", ARGS(val_split), 0, 0.5, .fallback = "0.05",
     .help = "share of the pairs held out to measure loss, accuracy and margin"},
    {OPTION_FLAG, "--no-shuffle", "", ARGS(no_shuffle), .help = "keep the pairs in their order"},
    {OPTION_TEXT, "--chat-template", "TEMPLATE", ARGS(chat_template), .env = "LLAMA_ARG_CHAT_TEMPLATE",
     .help = "a name that llama.cpp knows, or raw:TEXT with {system} and {prompt}; without it the model's own"},
    {OPTION_GROUP, .help = "Loss"},
    {OPTION_CHOICE, "--loss", "NAME", ARGS(loss), .choices = GENARM_LOSSES(LOSS_NAME), .fallback = "arm",
     .help =
         "what is minimised: arm, hinge and simpo train an autoregressive reward model, sft, dpo and ipo a policy, bt a "
         "reward model of whole responses (genarm score --reward)"},
    {OPTION_NUMBER, "--beta", "X", ARGS(beta), 0, 1000, .fallback = "0",
     .help = "scale of the difference of log-probabilities or, for dpo and ipo, of log-ratios to the reference; 0: 0.05, "
             "for dpo and ipo 0.1; bt has none"},
    {OPTION_NUMBER, "--margin", "X", ARGS(margin), -1000, 1000, .fallback = "0",
     .help = "how much larger the chosen response's scaled reward should be; not for sft and ipo"},
    {OPTION_NUMBER, "--label-smoothing", "X", ARGS(label_smoothing), 0, 0.5, .fallback = "0",
     .help = "share of pairs that are taken to be labelled wrongly; for arm, simpo and dpo"},
    {OPTION_FLAG, "--length-normalize", "", ARGS(length_normalize),
     .help = "rewards are means over a response's tokens, not sums; simpo, sft and ipo always do so"},
    {OPTION_FILE, "--reference-adapter", "FILE.gguf", ARGS(reference_adapter),
     .help = "for dpo and ipo: the reference is the model with this adapter; without it the model alone, whatever "
             "--init-adapter says"},
    {OPTION_GROUP, .help = "Adapter"},
    {OPTION_INT, "--lora-rank", "N", ARGS(lora_rank), 1, 4096, .fallback = "8", .help = "rank"},
    {OPTION_NUMBER, "--lora-alpha", "X", ARGS(lora_alpha), 0, 65536, .fallback = "16", .help = "scale times rank"},
    {OPTION_TEXT, "--lora-targets", "LIST", ARGS(lora_targets), .fallback = "q,k,v",
     .help = "what is adapted: any of q,k,v,o,gate,up,down"},
    {OPTION_NUMBER, "--lora-dropout", "X", ARGS(lora_dropout), 0, 0.99, .fallback = "0",
     .help = "share of the adapter's inputs dropped while training"},
    {OPTION_FILE, "--init-adapter", "FILE.gguf", ARGS(init_adapter),
     .help = "start from this adapter, with its rank, alpha and targets"},
    {OPTION_GROUP, .help = "Optimiser"},
    {OPTION_NUMBER, "-lr --learning-rate", "X", ARGS(learning_rate), 0, 10, .fallback = "5e-4",
     .help = "largest learning rate"},
    {OPTION_CHOICE, "--lr-schedule", "NAME", ARGS(schedule), .choices = "constant|linear|cosine", .fallback = "cosine",
     .help = "how the learning rate goes on after the warm-up"},
    {OPTION_INT, "--warmup", "N", ARGS(warmup), 0, INT32_MAX, .fallback = "0",
     .help = "steps over which the learning rate rises"},
    {OPTION_NUMBER, "--weight-decay", "X", ARGS(weight_decay), 0, 10, .fallback = "0.05",
     .help = "decoupled weight decay"},
    {OPTION_NUMBER, "--max-grad-norm", "X", ARGS(max_grad_norm), 0, 1e6, .fallback = "1",
     .help = "clip the gradient to this norm; 0: never"},
    {OPTION_NUMBER, "--adam-beta1", "X", ARGS(adam_beta1), 0, 1, .fallback = "0.9",
     .help = "decay of the mean gradient"},
    {OPTION_NUMBER, "--adam-beta2", "X", ARGS(adam_beta2), 0, 1, .fallback = "0.999", .help = "decay of its square"},
    {OPTION_NUMBER, "--adam-eps", "X", ARGS(adam_eps), 0, 1, .fallback = "1e-8",
     .help = "added to the root of the square"},
    {OPTION_INT, "--batch-size", "N", ARGS(batch_size), 1, 1 << 20, .fallback = "32", .help = "pairs of one step"},
    {OPTION_INT, "--micro-batch", "N", ARGS(micro_batch), 0, 1 << 20, .fallback = "0",
     .help = "pairs computed at once; 0: as many as make about 1024 rows"},
    {OPTION_INT, "-epochs --epochs", "N", ARGS(epochs), 1, 10000, .fallback = "1",
     .help = "times that all pairs are seen"},
    {OPTION_SEED, "-s --seed", "N", ARGS(seed), 0, 9007199254740991.0, .fallback = "0",
     .help = "of the order, the split, the dropout and the adapter's start"},
    {OPTION_GROUP, .help = "Run"},
    {OPTION_FLAG, "--bf16", "", ARGS(bf16),
     .help = "multiply with the model's weights in bf16: less exact, faster where the processor has it"},
    {OPTION_INT, "--checkpoint-layers", "N", ARGS(checkpoint_layers), 0, INT32_MAX, .fallback = "0",
     .help = "keep only the input of every Nth layer for the backward pass and compute the rest again: a fraction of the "
             "memory, about a third more time, the same result; 0: keep all"},
    {OPTION_INT, "--save-every", "N", ARGS(save_every), 0, INT32_MAX, .fallback = "10",
     .help = "steps between checkpoints; 0: only when stopped"},
    {OPTION_FLAG, "--resume", "", ARGS(resume), .help = "go on from the checkpoint if there is one"},
    {OPTION_FLAG, "--resume-changed", "", ARGS(resume_changed),
     .help = "as --resume, with other optimiser options from here on: -lr, --lr-schedule, --warmup, --weight-decay, "
             "--max-grad-norm, --adam-*, --lora-dropout, --label-smoothing, --micro-batch, --bf16"},
    {OPTION_FILE, "--log", "FILE.jsonl", ARGS(log), .help = "write the metrics of every step, a JSON record a line"},
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
    p.lora_rank = args->lora_rank;
    p.lora_alpha = (float)args->lora_alpha;
    p.lora_dropout = (float)args->lora_dropout;
    p.lora_targets = args->lora_targets;
    p.init_adapter = args->init_adapter;
    p.reference_adapter = args->reference_adapter;
    p.learning_rate = (float)args->learning_rate;
    p.schedule = (enum genarm_schedule)args->schedule;
    p.warmup = args->warmup;
    p.weight_decay = (float)args->weight_decay;
    p.adam_beta1 = args->adam_beta1;
    p.adam_beta2 = args->adam_beta2;
    p.adam_eps = args->adam_eps;
    p.max_grad_norm = (float)args->max_grad_norm;
    p.batch_size = args->batch_size;
    p.micro_batch = args->micro_batch;
    p.checkpoint_layers = args->checkpoint_layers;
    p.epochs = args->epochs;
    p.max_length = args->max_length;
    p.val_split = (float)args->val_split;
    p.shuffle = !args->no_shuffle;
    p.seed = (uint64_t)args->seed;
    p.n_threads = args->model.n_threads > 0 ? args->model.n_threads : 0;
    p.bf16 = args->bf16;
    p.template_name = args->chat_template;
    p.format = (enum genarm_data_format)args->formats.format;
    p.label = (enum genarm_data_label)args->formats.label;
    p.save_every = args->save_every;
    p.resume = args->resume || args->resume_changed;
    p.resume_changed = args->resume_changed;
    p.log_path = args->log;
    return p;
}

static void say_data(const struct genarm_data_report *r, bool verbose) {
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
    if (r->dropped_long) {
        note("dropped: a response alone exceeds --max-length in %lld", (long long)r->dropped_long);
    }
    if (r->cut) {
        note("cut: the prompt loses its beginning in %lld", (long long)r->cut);
    }
    if (r->prefixes) {
        note("kept: one response is the beginning of the other in %lld", (long long)r->prefixes);
    }
    if (!verbose && r->read - r->kept + r->prefixes > 0) {
        note("-v names them by file and line, as genarm data does");
    }
}

struct watch {
    struct progress progress;
    struct genarm_train_status last, validation; /* the last step, and the last one that was validated */
    bool started;
    double start;
};

static int on_step(const struct genarm_train_status *status, void *user) {
    struct watch *w = user;
    char text[128];
    if (!w->started) {
        progress_start(&w->progress, "training", "pairs", status->pairs_total, status->pairs_before);
    }
    w->started = true;
    w->last = *status;
    if (status->has_validation) {
        w->validation = *status;
    }
    if (isnan(status->accuracy)) {
        snprintf(text, sizeof text, "loss %.3f", status->loss);
    } else {
        snprintf(text, sizeof text, "loss %.3f acc %.2f margin %.2f", status->loss, status->accuracy, status->margin);
    }
    progress_update(&w->progress, status->pairs_done, text);
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

static int train(const struct train_args *args, struct genarm_model *model, struct genarm_error *err) {
    struct genarm_train_params params = params_from(args);
    struct genarm_data_report report;
    struct genarm_trainer *trainer = NULL;
    struct watch watch = {0};
    int code = genarm_trainer_new(&trainer, model, args->data.items, args->data.n, args->output, &params, &report, err);
    if (code) {
        return code;
    }
    say_data(&report, args->model.verbose);
    interrupt_catch();
    watch.start = clock_seconds();
    code = genarm_trainer_run(trainer, on_step, &watch, err);
    if (watch.started) {
        progress_end(&watch.progress);
    }
    genarm_trainer_free(trainer);
    if (code == GENARM_ECANCELED && interrupt_signal()) {
        note("stopped after step %lld of %lld; the same command with --resume goes on from %s.ckpt",
             (long long)watch.last.step, (long long)watch.last.n_steps, args->output);
        return 128 + interrupt_signal();
    }
    if (code) {
        return code;
    }
    note("%.1f pairs a second, %.0f seconds", watch.last.pairs_per_second, clock_seconds() - watch.start);
    return print_result(&watch, args, err);
}

/* What is read must not be written over: the data, the model; nor a log into the adapter. */
static int check_outputs(const struct train_args *args, const struct genarm_model *model, struct genarm_error *err) {
    struct genarm_model_info info;
    genarm_model_get_info(model, &info);
    int code = keep_input("-o", args->output, info.path, err);
    code = code ? code : keep_input("--log", args->log, info.path, err);
    code = code ? code : keep_input("--log", args->log, args->init_adapter, err);
    for (size_t i = 0; i < args->data.n && code == 0; i++) {
        code = keep_input("-o", args->output, args->data.items[i], err);
        code = code ? code : keep_input("--log", args->log, args->data.items[i], err);
    }
    if (code == 0 && args->log && strcmp(args->log, args->output) == 0) {
        code = usage_error(err, "--log", "%s is the adapter's file: name another", args->log);
    }
    return code;
}

static int train_run(const void *arguments, struct genarm_error *err) {
    const struct train_args *args = arguments;
    struct genarm_model *model = NULL;
    log_to_stderr(args->model.verbose);
    if (!args->data.n) {
        return usage_error(err, "-d", "training pairs are missing: -d PAIRS");
    }
    if (!args->output) {
        return usage_error(err, "-o", "the file to write is missing: -o FILE.gguf");
    }
    int code = load_model(&model, &args->model, err);
    if (code == 0) {
        code = check_outputs(args, model, err);
    }
    if (code == 0) {
        code = train(args, model, err);
    }
    genarm_model_free(model);
    return code;
}

const struct command command_train = {
    .name = "train",
    .summary = "train a reward model from preference pairs",
    .usage = "[options] -d PAIRS -o FILE.gguf",
    .details =
        "Trains an autoregressive reward model: a LoRA adapter on a frozen model, such that the summed log-probability "
        "of the chosen response exceeds that of the rejected one. Other losses train a policy (DPO, IPO, SFT) or a "
        "reward model that gives a whole response one number. Ctrl-C writes a checkpoint and stops; the same "
        "command with --resume goes on and ends with the same adapter, to the bit.",
    .examples = "genarm train -d pairs.jsonl -o cheerful.gguf\n"
                "genarm train -m model.gguf -d a.jsonl -d b.jsonl -o arm.gguf --beta 0.1 -lr 2e-4 --epochs 2\n"
                "genarm train -d pairs.jsonl -o policy.gguf --loss dpo -lr 1e-4\n"
                "genarm train -d harmless.jsonl.gz -o harmless.gguf --max-length 512\n"
                "genarm train -d pairs.jsonl -o cheerful.gguf --resume",
    .options = train_options,
    .n_options = sizeof train_options / sizeof *train_options,
    .args_size = sizeof(struct train_args),
    .run = train_run,
};
