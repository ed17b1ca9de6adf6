/* What training has in common, whatever it is trained on: the options of the adapter, the optimiser and the run.
 *
 * OPTIONS_*(ARGS) are rows of a command's option table; ARGS is the command's struct of arguments, which has the member
 * `training` of the type below.
 */
#ifndef CLI_TRAINING_H
#define CLI_TRAINING_H

#include "genarm/train.h"
#include "models.h"

struct training_args {
    const char *chat_template, *init_adapter, *reference_adapter, *lora_targets, *log;
    int32_t schedule;
    double lora_alpha, lora_dropout, learning_rate, weight_decay, max_grad_norm, adam_beta1, adam_beta2, adam_eps;
    bool no_shuffle, bf16, resume;
    int32_t lora_rank, warmup, batch_size, micro_batch, checkpoint_layers, epochs, max_length, save_every;
    int64_t seed;
};

#define OPTIONS_ADAPTER(ARGS)                                                                                         \
    {OPTION_GROUP, .help = "Adapter"},                                                                                \
    {OPTION_INT, "--lora-rank", "N", offsetof(ARGS, training.lora_rank), 1, 4096, .fallback = "8", .help = "rank"},   \
    {OPTION_NUMBER, "--lora-alpha", "X", offsetof(ARGS, training.lora_alpha), 0, 65536, .fallback = "16",             \
     .help = "scale times rank"},                                                                                     \
    {OPTION_TEXT, "--lora-targets", "LIST", offsetof(ARGS, training.lora_targets), .fallback = "q,k,v",               \
     .help = "what is adapted: any of q,k,v,o,gate,up,down"},                                                         \
    {OPTION_NUMBER, "--lora-dropout", "X", offsetof(ARGS, training.lora_dropout), 0, 0.99, .fallback = "0",           \
     .help = "share of the adapter's inputs dropped while training"},                                                 \
    {OPTION_FILE, "--init-adapter", "FILE.gguf", offsetof(ARGS, training.init_adapter),                               \
     .help = "start from this adapter, with its rank, alpha and targets"}

/* Defaults as texts. */
#define OPTIONS_OPTIMISER(ARGS, RATE, SCHEDULE, DECAY)                                                                \
    {OPTION_GROUP, .help = "Optimiser"},                                                                              \
    {OPTION_NUMBER, "-lr --learning-rate", "X", offsetof(ARGS, training.learning_rate), 0, 10, .fallback = RATE,      \
     .help = "largest learning rate"},                                                                                \
    {OPTION_CHOICE, "--lr-schedule", "NAME", offsetof(ARGS, training.schedule),                                       \
     .choices = "constant|linear|cosine", .fallback = SCHEDULE,                                                       \
     .help = "how the learning rate goes on after the warm-up"},                                                      \
    {OPTION_INT, "--warmup", "N", offsetof(ARGS, training.warmup), 0, INT32_MAX, .fallback = "0",                     \
     .help = "steps over which the learning rate rises"},                                                             \
    {OPTION_NUMBER, "--weight-decay", "X", offsetof(ARGS, training.weight_decay), 0, 10, .fallback = DECAY,           \
     .help = "decoupled weight decay"},                                                                               \
    {OPTION_NUMBER, "--max-grad-norm", "X", offsetof(ARGS, training.max_grad_norm), 0, 1e6, .fallback = "1",          \
     .help = "clip the gradient to this norm; 0: never"},                                                             \
    {OPTION_NUMBER, "--adam-beta1", "X", offsetof(ARGS, training.adam_beta1), 0, 1, .fallback = "0.9",                \
     .help = "decay of the mean gradient"},                                                                           \
    {OPTION_NUMBER, "--adam-beta2", "X", offsetof(ARGS, training.adam_beta2), 0, 1, .fallback = "0.999",              \
     .help = "decay of its square"},                                                                                  \
    {OPTION_NUMBER, "--adam-eps", "X", offsetof(ARGS, training.adam_eps), 0, 1, .fallback = "1e-8",                   \
     .help = "added to the root of the square"}

/* THINGS: what a step has a batch of. */
#define OPTIONS_BATCHES(ARGS, SIZE, THINGS)                                                                           \
    {OPTION_INT, "--batch-size", "N", offsetof(ARGS, training.batch_size), 1, 1 << 20, .fallback = SIZE,              \
     .help = THINGS " of one step"},                                                                                  \
    {OPTION_INT, "--micro-batch", "N", offsetof(ARGS, training.micro_batch), 0, 1 << 20, .fallback = "0",             \
     .help = "pairs computed at once; 0: as many as make about 1024 rows"},                                           \
    {OPTION_INT, "-epochs --epochs", "N", offsetof(ARGS, training.epochs), 1, 10000, .fallback = "1",                 \
     .help = "times that all " THINGS " are seen"},                                                                   \
    {OPTION_FLAG, "--no-shuffle", "", offsetof(ARGS, training.no_shuffle), .help = "keep the " THINGS " in their order"}

/* RANDOM: what the seed is of. */
#define OPTIONS_RUN(ARGS, RANDOM)                                                                                     \
    {OPTION_GROUP, .help = "Run"},                                                                                    \
    {OPTION_SEED, "-s --seed", "N", offsetof(ARGS, training.seed), 0, 9007199254740991.0, .fallback = "0",            \
     .help = "of " RANDOM},                                                                                           \
    {OPTION_FLAG, "--bf16", "", offsetof(ARGS, training.bf16),                                                        \
     .help = "multiply with the model's weights in bf16: less exact, faster where the processor has it"},             \
    {OPTION_INT, "--checkpoint-layers", "N", offsetof(ARGS, training.checkpoint_layers), 0, INT32_MAX,                \
     .fallback = "0",                                                                                                 \
     .help = "keep only the input of every Nth layer for the backward pass and compute the rest again: a fraction "   \
             "of the memory, about a third more time, the same result; 0: keep all"},                                 \
    {OPTION_INT, "--save-every", "N", offsetof(ARGS, training.save_every), 0, INT32_MAX, .fallback = "10", .free = true, \
     .help = "steps between checkpoints; 0: only when stopped"},                                                      \
    {OPTION_FLAG, "--resume", "", offsetof(ARGS, training.resume), .help = "go on from the checkpoint if there is one"}, \
    {OPTION_FILE, "--log", "FILE.jsonl", offsetof(ARGS, training.log), .free = true,                                  \
      .help = "write the metrics of every step, a JSON record a line"}

#define OUTPUT_HELP                                                                                                   \
    "the result: a LoRA adapter that llama.cpp can load as well; checkpoints are in FILE.gguf.ckpt until it is done"
#define TEMPLATE_HELP "a name that llama.cpp knows, or raw:TEXT with {system} and {prompt}; without it the model's own"

/* Puts the options into params; strings are borrowed. */
void training_apply(struct genarm_train_params *p, const struct training_args *args, const struct model_args *model);

/* CLI_USAGE for what is no list of targets, before models are loaded. */
int training_check_targets(const struct training_args *args, struct genarm_error *err);

/* What texts must fit into: --max-length, or the model's context, which is put into text[size]. */
const char *training_limit(char *text, size_t size, const struct training_args *args, const struct genarm_model *model);

/* CLI_USAGE when the adapter (output) or the log would be written over a file that is read. */
int training_keep_input(const struct training_args *args, const char *output, const char *input, struct genarm_error *err);

/* The same for all that training reads whatever it is trained on, and for a log over the adapter. */
int training_check_outputs(const struct training_args *args, const char *output, const struct genarm_model *model,
                           struct genarm_error *err);

#endif
