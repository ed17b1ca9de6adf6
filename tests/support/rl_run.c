#include "support/rl_run.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "model/adapter.h"
#include "model/model.h"
#include "support/golden.h"

int reward_letter(void *user, const struct genarm_sample *samples, size_t n, double *rewards, struct genarm_error *err) {
    (void)err;
    for (size_t i = 0; i < n; i++) {
        size_t count = 0;
        for (const char *c = samples[i].response; *c; c++) {
            count += *c == *(const char *)user;
        }
        rewards[i] = (double)count;
    }
    return GENARM_OK;
}

struct genarm_rl_params rl_run_params(const struct train_run *r) {
    static char letter = 'e';
    static const struct genarm_rl_reward rewards[] = {{.name = "letter", .weight = 1, .score = reward_letter, .user = &letter}};
    struct genarm_rl_params p = genarm_rl_default_params();
    p.rewards = rewards;
    p.n_rewards = 1;
    p.kl_coef = 0;
    p.max_new_tokens = 12;
    p.steps = 4;
    p.training.lora_rank = 4;
    p.training.lora_targets = "q,v,o,down";
    p.training.learning_rate = 1e-2f;
    p.training.schedule = GENARM_SCHEDULE_CONSTANT;
    p.training.batch_size = 2;
    p.training.n_threads = 1;
    p.training.save_every = 1;
    p.training.log_path = r->log;
    return p;
}

int rl_run(struct train_run *r, const struct genarm_rl_params *params,
           int (*each)(const struct genarm_rl_status *, void *), void *user, struct genarm_error *err) {
    static const char *const texts[] = {"owls?", "a b", "Tell me", "0123", "why", "Hello there, you"};
    struct genarm_message messages[6];
    struct genarm_rl_prompt prompts[6];
    struct genarm_rl *rl = NULL;
    for (int i = 0; i < 6; i++) {
        messages[i] = (struct genarm_message){"user", texts[i]};
        prompts[i] = (struct genarm_rl_prompt){.messages = &messages[i], .n_messages = 1};
    }
    int rc = genarm_rl_new(&rl, r->model, prompts, 6, r->output, params, NULL, err);
    if (rc == GENARM_OK) {
        rc = genarm_rl_run(rl, each, user, err);
    }
    genarm_rl_free(rl);
    return rc;
}

/* The n-th line that is a step's, from 0, on; NULL: there are fewer. Other lines say what the run is. */
static const char *step_line(const char *text, int n) {
    static const char start[] = "{\"step\":";
    for (const char *at = text; at && *at; at = strchr(at, '\n'), at += at != NULL) {
        if (strncmp(at, start, sizeof start - 1) == 0 && n-- == 0) {
            return at;
        }
    }
    return NULL;
}

int rl_count_logged(const struct train_run *r) {
    size_t n = 0;
    char *text = read_whole(r->log, &n);
    int lines = 0;
    while (text && step_line(text, lines)) {
        lines++;
    }
    free(text);
    return lines;
}

double rl_logged(const struct train_run *r, int line, const char *key) {
    size_t n = 0;
    char *text = read_whole(r->log, &n);
    assert_non_null(text);
    const char *at = step_line(text, line);
    assert_non_null(at);
    json_t *object = json_loads(at, JSON_DISABLE_EOF_CHECK, NULL);
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value)) {
        fail_msg("line %d of the log has no number %s", line, key);
    }
    const double number = json_number_value(value);
    json_decref(object);
    free(text);
    return number;
}

float *rl_numbers(const struct train_run *r, const char *path, bool b, size_t *n) {
    struct genarm_adapter *adapter = NULL;
    struct genarm_error err = {0};
    must(genarm_adapter_load(&adapter, r->model, path, &err), &err);
    float *numbers = malloc((size_t)adapter->n_params * sizeof *numbers);
    *n = 0;
    for (int32_t l = 0; l < adapter->n_layer; l++) {
        for (int t = 0; t < LINEAR_COUNT; t++) {
            const struct ggml_tensor *both[] = {adapter->layers[l][t].a, adapter->layers[l][t].b};
            for (int m = b ? 1 : 0; m < 2 && both[0]; m++) {
                ggml_backend_tensor_get(both[m], numbers + *n, 0, ggml_nbytes(both[m]));
                *n += (size_t)ggml_nelements(both[m]);
            }
        }
    }
    genarm_adapter_free(adapter);
    return numbers;
}
