/* See training.h. */
#include "training.h"

#include <stdio.h>

#include "tell.h"
#include "train/lora.h"

void training_apply(struct genarm_train_params *p, const struct training_args *args, const struct model_args *model) {
    p->lora_rank = args->lora_rank;
    p->lora_alpha = (float)args->lora_alpha;
    p->lora_dropout = (float)args->lora_dropout;
    p->lora_targets = args->lora_targets;
    p->init_adapter = args->init_adapter;
    p->reference_adapter = args->reference_adapter;
    p->learning_rate = (float)args->learning_rate;
    p->schedule = (enum genarm_schedule)args->schedule;
    p->warmup = args->warmup;
    p->weight_decay = (float)args->weight_decay;
    p->adam_beta1 = args->adam_beta1;
    p->adam_beta2 = args->adam_beta2;
    p->adam_eps = args->adam_eps;
    p->max_grad_norm = (float)args->max_grad_norm;
    p->batch_size = args->batch_size;
    p->micro_batch = args->micro_batch;
    p->checkpoint_layers = args->checkpoint_layers;
    p->epochs = args->epochs;
    p->max_length = args->max_length;
    p->shuffle = !args->no_shuffle;
    p->seed = (uint64_t)args->seed;
    p->n_threads = model->n_threads > 0 ? model->n_threads : 0;
    p->bf16 = args->bf16;
    p->template_name = args->chat_template;
    p->save_every = args->save_every;
    p->resume = args->resume;
    p->log_path = args->log;
}

int training_check_targets(const struct training_args *args, struct genarm_error *err) {
    uint32_t targets;
    return as_usage(err, targets_parse(&targets, args->lora_targets, err), "--lora-targets");
}

const char *training_limit(char *text, size_t size, const struct training_args *args, const struct genarm_model *model) {
    struct genarm_model_info info;
    genarm_model_get_info(model, &info);
    if (args->max_length <= info.n_ctx_train) {
        return "--max-length";
    }
    snprintf(text, size, "the model's context of %d tokens", info.n_ctx_train);
    return text;
}

int training_keep_input(const struct training_args *args, const char *output, const char *input, struct genarm_error *err) {
    const int code = keep_input("-o", output, input, err);
    return code ? code : keep_input("--log", args->log, input, err);
}

int training_check_outputs(const struct training_args *args, const char *output, const struct genarm_model *model,
                           struct genarm_error *err) {
    struct genarm_model_info info;
    genarm_model_get_info(model, &info);
    int code = training_keep_input(args, output, info.path, err);
    code = code ? code : training_keep_input(args, output, args->reference_adapter, err);
    code = code ? code : keep_input("--log", args->log, args->init_adapter, err); /* -o may go on where that ended */
    if (code == 0 && args->log && same_file(args->log, output)) {
        code = usage_error(err, "--log", "%s is the adapter's file: name another", args->log);
    }
    return code;
}
