#include "rl/options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "rl/objective.h"
#include "train/options.h"

struct genarm_rl_params genarm_rl_default_params(void) {
    struct genarm_rl_params p = {
        .method = GENARM_RL_RLOO,
        .kl_coef = 0.05,
        .group_size = 8,
        .num_iterations = 1,
        .clip_eps = 0.2,
        .scale_rewards = true,
        .average = GENARM_RL_DAPO,
        .max_new_tokens = 256,
        .temperature = 1,
        .top_p = 1,
        .n_parallel = 16,
        .training = genarm_train_default_params(),
    };
    p.training.learning_rate = 1e-4f;
    p.training.schedule = GENARM_SCHEDULE_LINEAR;
    p.training.weight_decay = 0;
    p.training.batch_size = 8;
    p.training.val_split = 0;
    return p;
}

static const char *reward_name(const struct genarm_rl_reward *r) {
    return r->name ? r->name : r->source ? genarm_source_name(r->source) : "";
}

static int check_rewards(const struct genarm_rl_params *p, struct genarm_error *err) {
    if (p->n_rewards == 0) {
        return error_set(err, GENARM_EINVAL, "no reward is given");
    }
    for (size_t i = 0; i < p->n_rewards; i++) {
        const struct genarm_rl_reward *r = &p->rewards[i];
        const char *name = reward_name(r);
        if (*name == '\0' || !isfinite(r->weight) || (r->source != NULL) == (r->score != NULL)) {
            return error_set(err, GENARM_EINVAL,
                             "reward %zu, \"%s\", needs a name, a finite weight and one thing that gives it", i, name);
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(name, reward_name(&p->rewards[j])) == 0) {
                return error_set(err, GENARM_EINVAL, "two rewards are called \"%s\"", name);
            }
        }
    }
    return GENARM_OK;
}

int rl_options_check(const struct genarm_rl_params *p, struct genarm_error *err) {
    const struct {
        const char *name;
        double value, low, high;
    } ranges[] = {
        {"KL coefficient", p->kl_coef, 0, 1e6},
        {"penalty of a missing end", p->missing_eos_penalty, 0, 1e9},
        {"group size", p->group_size, 2, 1 << 16},
        {"number of iterations", p->num_iterations, 1, 1024},
        {"range of the ratio", p->clip_eps, 1e-6, 1e6},
        {"largest number of new tokens", p->max_new_tokens, 1, p->training.max_length - 1},
        {"temperature", p->temperature, 1e-2, 100},
        {"top-k", p->top_k, 0, INT32_MAX},
        {"top-p", p->top_p, 1e-6, 1},
        {"min-p", p->min_p, 0, 0.999999},
        {"number of parallel responses", p->n_parallel, 1, 4096},
        {"number of steps", (double)p->steps, 0, INT32_MAX},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        if (!(ranges[i].value >= ranges[i].low && ranges[i].value <= ranges[i].high)) {
            return error_set(err, GENARM_EINVAL, "%s is %g, outside of [%g, %g]", ranges[i].name, ranges[i].value,
                             ranges[i].low, ranges[i].high);
        }
    }
    if (p->group_size % 2 != 0) {
        return error_set(err, GENARM_EINVAL, "group size is %d, an odd number: responses are trained on in pairs",
                         p->group_size);
    }
    if (!rl_method_name(p->method) || !rl_average_name(p->average)) {
        return error_set(err, GENARM_EINVAL, "unknown method %d or average %d", (int)p->method, (int)p->average);
    }
    int rc = check_rewards(p, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    if (p->training.n_objectives > 0 || p->training.team) {
        return error_set(err, GENARM_EINVAL, "%s: not of reinforcement learning",
                         p->training.team ? "training on several machines" : "an adapter of several objectives");
    }
    struct genarm_train_params training = p->training; /* the reference is for every method here */
    training.reference_adapter = NULL;
    return options_check(&training, err);
}

static int copy_rewards(struct genarm_rl_params *to, const struct genarm_rl_params *from, struct genarm_error *err) {
    struct genarm_rl_reward *rewards = calloc(from->n_rewards, sizeof *rewards);
    if (!rewards) {
        return error_nomem(err, "the options");
    }
    to->rewards = rewards;
    for (; to->n_rewards < from->n_rewards; to->n_rewards++) {
        struct genarm_rl_reward *r = &rewards[to->n_rewards];
        *r = from->rewards[to->n_rewards];
        r->name = strdup(reward_name(r));
        if (!r->name) {
            return error_nomem(err, "the options");
        }
    }
    return GENARM_OK;
}

int rl_options_copy(struct genarm_rl_params *to, const struct genarm_rl_params *from, struct genarm_error *err) {
    *to = *from;
    to->rewards = NULL;
    to->n_rewards = 0;
    int rc = options_copy(&to->training, &from->training, err);
    if (rc == GENARM_OK) {
        rc = copy_rewards(to, from, err);
    }
    if (rc != GENARM_OK) {
        rl_options_deinit(to);
    }
    return rc;
}

void rl_options_deinit(struct genarm_rl_params *p) {
    for (size_t i = 0; i < p->n_rewards; i++) {
        free((char *)(uintptr_t)p->rewards[i].name);
    }
    free((struct genarm_rl_reward *)(uintptr_t)p->rewards);
    p->rewards = NULL;
    p->n_rewards = 0;
    options_deinit(&p->training);
}

/* "0.7 rm helpful + 0.3 cmd cheer" */
static json_t *rewards_to_json(const struct genarm_rl_params *p) {
    struct buf text;
    json_t *value = NULL;
    buf_init(&text, 1 << 20);
    int rc = GENARM_OK;
    for (size_t i = 0; i < p->n_rewards && rc == GENARM_OK; i++) {
        const struct genarm_rl_reward *r = &p->rewards[i];
        rc = buf_printf(&text, NULL, "%s%.9g %s%s%s", i ? " + " : "", r->weight,
                        r->source ? genarm_source_kind(r->source) : "", r->source ? " " : "", r->name);
    }
    if (rc == GENARM_OK) {
        value = json_string(text.data);
    }
    buf_deinit(&text);
    return value;
}

/* What training of pairs has and this has not. */
static void drop_options_of_pairs(json_t *object) {
    static const char *const names[] = {"loss",      "beta",             "margin", "label_smoothing",
                                        "val_split", "length_normalize", "label",  "format"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        json_object_del(object, names[i]);
    }
}

json_t *rl_options_to_json(const struct genarm_rl_params *p) {
    const struct option_value members[] = {
        {"method", json_string(rl_method_name(p->method))},
        {"reward", rewards_to_json(p)},
        {"kl_coef", json_real(p->kl_coef)},
        {"missing_eos_penalty", json_real(p->missing_eos_penalty)},
        {"mask_truncated", json_boolean(p->mask_truncated)},
        {"group_size", json_integer(p->group_size)},
        {"num_iterations", json_integer(p->num_iterations)},
        {"clip_eps", json_real(p->clip_eps)},
        {"scale_rewards", json_string(p->scale_rewards ? "group" : "none")},
        {"loss_type", json_string(rl_average_name(p->average))},
        {"max_new_tokens", json_integer(p->max_new_tokens)},
        {"temp", json_real(p->temperature)},
        {"top_k", json_integer(p->top_k)},
        {"top_p", json_real(p->top_p)},
        {"min_p", json_real(p->min_p)},
        {"parallel", json_integer(p->n_parallel)},
        {"kv_f32", json_boolean(p->kv_f32)},
        {"steps", json_integer((json_int_t)p->steps)},
    };
    json_t *object = options_add(options_to_json(&p->training), members, sizeof members / sizeof *members);
    drop_options_of_pairs(object);
    return object;
}
