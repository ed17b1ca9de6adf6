/* What must hold of the training graph whatever the weights: derivatives are derivatives, and neither packing, nor sharing
 * a prompt, nor accumulating, nor the number of threads, nor which other maps are adapted changes them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "support/train_pairs.h"

enum { ALL_TARGETS = (1 << LINEAR_COUNT) - 1, MAX_SCORED = 256 };

static const char *const names[] = {"llama", "mistral", "qwen2", "qwen3"};
enum { N_NAMES = 4 };

/* ---- finite differences ---- */

static double mean_loss(struct train_case *c, const struct backprop_job *job) {
    const int32_t n = (int32_t)c->data.n_pairs;
    struct loss_value values[16];
    double sum = 0;
    train_case_run(c, 0, n, job, values);
    for (int32_t i = 0; i < n; i++) {
        sum += values[i].loss / n;
    }
    return sum;
}

/* d loss / d step along a random direction of one matrix, by differences and by the gradient. */
static void check_direction(struct train_case *c, const struct backprop_job *job, const struct ggml_tensor *matrix,
                            float *theta, const float *gradient, uint64_t seed) {
    const size_t n = (size_t)ggml_nelements(matrix), first = matrix->view_offs / sizeof(float);
    struct rng rng;
    rng_seed(&rng, seed);
    float *direction = malloc(n * sizeof *direction), *saved = malloc(n * sizeof *saved);
    double expected = 0, squares = 0, size = 0;
    memcpy(saved, theta + first, n * sizeof *saved);
    for (size_t i = 0; i < n; i++) { /* partly along the gradient, so that the derivative is well above rounding */
        size += (double)gradient[first + i] * gradient[first + i];
    }
    size = sqrt(size / (double)n);
    for (size_t i = 0; i < n; i++) {
        direction[i] = (float)(rng_normal(&rng) + (size > 0 ? (double)gradient[first + i] / size : 0));
        expected += (double)direction[i] * gradient[first + i];
        squares += (double)direction[i] * direction[i];
    }
    double found = 0; /* central differences over h and 2 h, extrapolated */
    for (int k = -2; k <= 2; k += k == -1 ? 2 : 1) {
        const double h = 1e-2 / sqrt(squares), weights[] = {1.0 / 12, -8.0 / 12, 0, 8.0 / 12, -1.0 / 12};
        for (size_t i = 0; i < n; i++) {
            theta[first + i] = (float)(saved[i] + k * h * (double)direction[i]);
        }
        trainable_set(&c->adapter, theta);
        found += weights[k + 2] * mean_loss(c, job) / h;
    }
    memcpy(theta + first, saved, n * sizeof *saved);
    trainable_set(&c->adapter, theta);
    if (!(fabs(found - expected) <= 5e-3 * fabs(expected) + 1e-4)) {
        fail_msg("matrix at %zu: differences give %g, the gradient %g", first, found, expected);
    }
    free(direction);
    free(saved);
}

/* A head that is not zero, so that the adapter has gradients. */
static void fill_head(struct trainable *t) {
    struct rng rng;
    const size_t n = t->head ? (size_t)ggml_nelements(t->head) : 0;
    float *head = malloc(n * sizeof *head + 1);
    rng_seed(&rng, 11);
    for (size_t i = 0; i < n; i++) {
        head[i] = (float)(rng_normal(&rng) / sqrt((double)n));
    }
    if (n) {
        ggml_backend_tensor_set(t->head, head, 0, n * sizeof *head);
    }
    free(head);
}

static void check_derivatives(const char *name, float dropout, enum genarm_loss loss) {
    struct train_case c;
    struct backprop_params params = train_case_params();
    params.dropout = dropout;
    params.loss = loss_get(loss);
    train_case_open(&c, name, ALL_TARGETS, &params);
    fill_head(&c.adapter);
    /* with dropout only runs with gradients have it, and it is a function of seed and step */
    const struct backprop_job job = {.gradient = dropout > 0, .weight = 0, .seed = 7, .step = 3};
    struct backprop_job once = {.gradient = true, .weight = 1.0 / (double)c.data.n_pairs, .seed = 7, .step = 3};
    float *theta = malloc(c.adapter.n * sizeof *theta), *gradient = malloc(c.adapter.n * sizeof *gradient);
    struct loss_value values[16];
    trainable_zero_gradient(&c.adapter);
    train_case_run(&c, 0, (int32_t)c.data.n_pairs, &once, values);
    trainable_get_gradient(&c.adapter, gradient);
    trainable_get(&c.adapter, theta);
    for (int32_t l = 0; l < c.adapter.n_layer; l++) {
        for (int t = 0; t < LINEAR_COUNT; t++) {
            check_direction(&c, &job, c.adapter.layers[l][t].a, theta, gradient, rng_hash(1, (uint64_t)l, (uint64_t)t));
            check_direction(&c, &job, c.adapter.layers[l][t].b, theta, gradient, rng_hash(2, (uint64_t)l, (uint64_t)t));
        }
    }
    if (c.adapter.head) {
        check_direction(&c, &job, c.adapter.head, theta, gradient, 3);
    }
    free(theta);
    free(gradient);
    train_case_close(&c);
}

static void test_gradients_equal_finite_differences(void **state) {
    (void)state;
    for (int i = 0; i < N_NAMES; i++) {
        check_derivatives(names[i], 0, GENARM_LOSS_ARM);
    }
}

static void test_gradients_through_a_head_equal_finite_differences(void **state) {
    (void)state;
    for (int i = 0; i < N_NAMES; i++) {
        check_derivatives(names[i], 0, GENARM_LOSS_BT);
    }
    check_derivatives("qwen3", 0.3f, GENARM_LOSS_BT);
}

static void test_gradients_with_a_reference_equal_finite_differences(void **state) {
    (void)state;
    check_derivatives("llama", 0, GENARM_LOSS_DPO);
    check_derivatives("qwen2", 0, GENARM_LOSS_IPO);
    check_derivatives("qwen2", 0.3f, GENARM_LOSS_DPO);
}

static void test_gradients_with_dropout_equal_finite_differences(void **state) {
    (void)state;
    check_derivatives("llama", 0.3f, GENARM_LOSS_ARM);
    check_derivatives("qwen2", 0.3f, GENARM_LOSS_ARM);
}

/* ---- packing ---- */

static size_t count_scored(const struct data *d) {
    size_t n = 0;
    for (size_t i = 0; i < d->n_pairs; i++) {
        n += (size_t)(d->pairs[i].n_response[CHOSEN] + d->pairs[i].n_response[REJECTED]);
    }
    assert_true(n <= MAX_SCORED);
    return n;
}

static void test_pairs_packed_together_equal_pairs_alone(void **state) {
    (void)state;
    for (int i = 0; i < N_NAMES; i++) {
        struct train_case c;
        struct loss_value together[16], alone[16];
        float logp[MAX_SCORED];
        train_case_open(&c, names[i], ALL_TARGETS, NULL);
        const int32_t n = (int32_t)c.data.n_pairs;
        const struct backprop_job job = {.gradient = false};
        train_case_run(&c, 0, n, &job, together);
        memcpy(logp, backprop_logp(c.backprop), count_scored(&c.data) * sizeof *logp);
        for (int32_t p = 0, at = 0; p < n; p++) {
            const int32_t n_scored = c.data.pairs[p].n_response[CHOSEN] + c.data.pairs[p].n_response[REJECTED];
            train_case_run(&c, p, 1, &job, &alone[p]);
            assert_memory_equal(backprop_logp(c.backprop), logp + at, (size_t)n_scored * sizeof *logp);
            assert_true(alone[p].loss == together[p].loss);
            at += n_scored;
        }
        train_case_close(&c);
    }
}

/* The pair (prompt, rejected, chosen): what was the second branch is now the first. */
static void swap_responses(struct data *d) {
    for (size_t i = 0; i < d->n_pairs; i++) {
        struct pair *p = &d->pairs[i];
        const size_t n = (size_t)(p->n_response[CHOSEN] + p->n_response[REJECTED]);
        int32_t *both = malloc(n * sizeof *both), *at = d->tokens + p->first + p->n_prompt;
        memcpy(both, data_response(d, p, REJECTED), (size_t)p->n_response[REJECTED] * sizeof *both);
        memcpy(both + p->n_response[REJECTED], data_response(d, p, CHOSEN),
               (size_t)p->n_response[CHOSEN] * sizeof *both);
        memcpy(at, both, n * sizeof *both);
        const int32_t n_chosen = p->n_response[CHOSEN];
        p->n_response[CHOSEN] = p->n_response[REJECTED];
        p->n_response[REJECTED] = n_chosen;
        free(both);
    }
}

/* Log-probabilities of the first responses alone: no branch beside them. */
static void run_single(struct train_case *c, float *logp, int32_t *n_scored) {
    struct pack pack;
    struct loss_value values[16];
    struct genarm_error err = {0};
    must(pack_init(&pack, &c->data, c->all, (int32_t)c->data.n_pairs, PACK_CHOSEN, &err), &err);
    must(backprop_run(c->backprop, &pack, &(struct backprop_job){.gradient = false}, values, &err), &err);
    *n_scored = pack.n_scored;
    memcpy(logp, backprop_logp(c->backprop), (size_t)pack.n_scored * sizeof *logp);
    pack_deinit(&pack);
}

static void test_shared_prompt_equals_two_sequences(void **state) {
    (void)state;
    for (int i = 0; i < N_NAMES; i++) {
        struct train_case c;
        struct loss_value values[16];
        float single[SIDES][MAX_SCORED], both[MAX_SCORED];
        int32_t n_single[SIDES], at[SIDES] = {0, 0};
        train_case_open(&c, names[i], ALL_TARGETS, NULL);
        train_case_run(&c, 0, (int32_t)c.data.n_pairs, &(struct backprop_job){.gradient = false}, values);
        memcpy(both, backprop_logp(c.backprop), count_scored(&c.data) * sizeof *both);
        run_single(&c, single[CHOSEN], &n_single[CHOSEN]);
        struct data swapped = c.data;
        swap_responses(&swapped);
        run_single(&c, single[REJECTED], &n_single[REJECTED]);
        swap_responses(&c.data);
        int32_t s = 0;
        for (size_t p = 0; p < c.data.n_pairs; p++) {
            for (int side = 0; side < SIDES; side++) {
                for (int32_t k = 0; k < c.data.pairs[p].n_response[side]; k++) {
                    assert_true(fabsf(both[s++] - single[side][at[side]++]) < 1e-5f);
                }
            }
        }
        assert_int_equal(at[CHOSEN], n_single[CHOSEN]);
        assert_int_equal(at[REJECTED], n_single[REJECTED]);
        train_case_close(&c);
    }
}

static void test_swapping_responses_mirrors_the_derivatives(void **state) {
    (void)state;
    struct train_case c;
    double loss, mirrored;
    struct backprop_params params = train_case_params();
    params.loss_params.beta = 1e-5; /* nearly linear: the two gradients nearly cancel */
    train_case_open(&c, "llama", ALL_TARGETS, &params);
    float *a = train_case_gradient(&c, &loss);
    swap_responses(&c.data);
    float *b = train_case_gradient(&c, &mirrored);
    for (size_t i = 0; i < c.adapter.n; i++) {
        b[i] = -b[i];
    }
    assert_true(relative_distance(a, b, c.adapter.n) < 1e-3);
    free(a);
    free(b);
    train_case_close(&c);
}

/* ---- accumulation, threads, emitters, targets ---- */

static void test_accumulated_gradient_equals_one_batch(void **state) {
    (void)state;
    for (int i = 0; i < N_NAMES; i++) {
        struct train_case c;
        struct loss_value values[16];
        double loss;
        train_case_open(&c, names[i], ALL_TARGETS, NULL);
        float *whole = train_case_gradient(&c, &loss), *parts = malloc(c.adapter.n * sizeof *parts);
        const int32_t n = (int32_t)c.data.n_pairs;
        trainable_zero_gradient(&c.adapter);
        for (int32_t p = 0; p < n; p++) {
            train_case_run(&c, p, 1, &(struct backprop_job){.gradient = true, .weight = 1.0 / n}, values);
        }
        trainable_get_gradient(&c.adapter, parts);
        assert_true(relative_distance(parts, whole, c.adapter.n) < 1e-5);
        free(whole);
        free(parts);
        train_case_close(&c);
    }
}

static void test_threads_do_not_change_a_bit(void **state) {
    (void)state;
    float *first = NULL;
    for (int32_t n_threads = 1; n_threads <= 3; n_threads++) {
        struct train_case c;
        struct backprop_params params = train_case_params();
        double loss;
        params.n_threads = n_threads;
        params.dropout = 0.1f;
        train_case_open(&c, "qwen3", ALL_TARGETS, &params);
        float *gradient = train_case_gradient(&c, &loss);
        if (first) {
            assert_memory_equal(gradient, first, c.adapter.n * sizeof *gradient);
            free(gradient);
        } else {
            first = gradient;
        }
        train_case_close(&c);
    }
    free(first);
}

/* Gradient and loss with a layer's activations computed again, [adapter.n]. */
static float *checkpointed_gradient(const char *name, int32_t checkpoint_layers, uint32_t targets, bool plain, size_t *n,
                                    double *loss) {
    struct train_case c;
    struct backprop_params params = train_case_params();
    params.checkpoint_layers = checkpoint_layers;
    params.dropout = 0.1f;
    params.plain = plain;
    train_case_open(&c, name, targets, &params);
    float *gradient = train_case_gradient(&c, loss);
    *n = c.adapter.n;
    train_case_close(&c);
    return gradient;
}

static void test_activations_computed_again_do_not_change_a_bit(void **state) {
    (void)state;
    const uint32_t targets[] = {ALL_TARGETS, 1u << LINEAR_Q | 1u << LINEAR_V, 1u << LINEAR_DOWN};
    for (int k = 0; k < N_NAMES * 3 * 2; k++) {
        const char *name = names[k % N_NAMES];
        const uint32_t which = targets[k / N_NAMES % 3];
        const bool plain = k / N_NAMES / 3 == 1;
        double kept_loss, loss;
        size_t n;
        float *kept = checkpointed_gradient(name, 0, which, plain, &n, &kept_loss);
        for (int32_t layers = 1; layers <= 3; layers++) {
            float *again = checkpointed_gradient(name, layers, which, plain, &n, &loss);
            assert_true(loss == kept_loss);
            assert_memory_equal(again, kept, n * sizeof *again);
            free(again);
        }
        free(kept);
    }
}

static void check_emitters(enum genarm_loss loss) {
    for (int i = 0; i < N_NAMES; i++) {
        float *gradients[2];
        double losses[2];
        size_t n = 0;
        for (int plain = 0; plain < 2; plain++) {
            struct train_case c;
            struct backprop_params params = train_case_params();
            params.plain = plain;
            params.dropout = 0.2f;
            params.loss = loss_get(loss);
            train_case_open(&c, names[i], ALL_TARGETS, &params);
            fill_head(&c.adapter);
            gradients[plain] = train_case_gradient(&c, &losses[plain]);
            n = c.adapter.n;
            train_case_close(&c);
        }
        assert_true(fabs(losses[0] - losses[1]) < 1e-5 * fabs(losses[1]));
        assert_true(relative_distance(gradients[0], gradients[1], n) < 1e-4);
        free(gradients[0]);
        free(gradients[1]);
    }
}

static void test_custom_nodes_equal_plain_ones(void **state) {
    (void)state;
    check_emitters(GENARM_LOSS_ARM);
    check_emitters(GENARM_LOSS_BT);
}

static void test_quantised_weights_equal_their_values_in_f32(void **state) {
    (void)state;
    static const enum llama_ftype types[] = {LLAMA_FTYPE_MOSTLY_Q8_0, LLAMA_FTYPE_MOSTLY_Q4_0, LLAMA_FTYPE_MOSTLY_Q4_1,
                                             LLAMA_FTYPE_MOSTLY_F16, LLAMA_FTYPE_MOSTLY_BF16};
    for (int i = 0; i < 5; i++) {
        float *gradients[2];
        double losses[2];
        size_t n = 0;
        for (int back = 0; back < 2; back++) {
            struct train_case c;
            train_case_open_as(&c, names[i % N_NAMES], types[i], back, ALL_TARGETS, NULL);
            gradients[back] = train_case_gradient(&c, &losses[back]);
            n = c.adapter.n;
            train_case_close(&c);
        }
        assert_true(fabs(losses[0] - losses[1]) < 1e-6 * fabs(losses[1]));
        assert_true(relative_distance(gradients[0], gradients[1], n) < 1e-5);
        free(gradients[0]);
        free(gradients[1]);
    }
}

/* Other maps' matrices are absent here, so the model is another one: B is zeroed in both, which makes them the same. */
static void zero_b(struct trainable *t) {
    float *theta = malloc(t->n * sizeof *theta);
    trainable_get(t, theta);
    for (int32_t l = 0; l < t->n_layer; l++) {
        for (int i = 0; i < LINEAR_COUNT; i++) {
            const struct ggml_tensor *b = t->layers[l][i].b;
            if (b) {
                memset(theta + b->view_offs / sizeof(float), 0, ggml_nbytes(b));
            }
        }
    }
    trainable_set(t, theta);
    free(theta);
}

/* Backward stops early where little is adapted; what it still computes is what it computes with everything adapted. */
static void check_targets(const char *name, uint32_t targets, const float *all, const struct trainable *full) {
    struct train_case c;
    double loss;
    train_case_open(&c, name, targets, NULL);
    zero_b(&c.adapter);
    float *gradient = train_case_gradient(&c, &loss);
    for (int32_t l = 0; l < c.adapter.n_layer; l++) {
        for (int t = 0; t < LINEAR_COUNT; t++) {
            const struct ggml_tensor *b = c.adapter.layers[l][t].b;
            if (b) {
                const size_t at = b->view_offs / sizeof(float),
                             at_full = full->layers[l][t].b->view_offs / sizeof(float);
                assert_true(relative_distance(gradient + at, all + at_full, (size_t)ggml_nelements(b)) < 1e-5);
            }
        }
    }
    free(gradient);
    train_case_close(&c);
}

static void test_fewer_targets_have_the_same_gradients(void **state) {
    (void)state;
    static const uint32_t subsets[] = {1 << LINEAR_Q,
                                       1 << LINEAR_V,
                                       1 << LINEAR_O,
                                       1 << LINEAR_GATE,
                                       1 << LINEAR_DOWN,
                                       1 << LINEAR_Q | 1 << LINEAR_K | 1 << LINEAR_V,
                                       1 << LINEAR_O | 1 << LINEAR_UP};
    for (int i = 0; i < N_NAMES; i++) {
        struct train_case c;
        double loss;
        train_case_open(&c, names[i], ALL_TARGETS, NULL);
        zero_b(&c.adapter);
        float *all = train_case_gradient(&c, &loss);
        for (size_t s = 0; s < sizeof subsets / sizeof *subsets; s++) {
            check_targets(names[i], subsets[s], all, &c.adapter);
        }
        free(all);
        train_case_close(&c);
    }
}

static void test_a_fresh_adapter_changes_nothing_and_depends_on_its_seed(void **state) {
    (void)state;
    struct train_case c;
    struct trainable fresh[3];
    struct backprop *with = NULL, *without = NULL;
    struct pack pack;
    struct loss_value values[16];
    struct genarm_error err = {0};
    const struct backprop_params params = train_case_params();
    const struct backprop_job job = {.gradient = false};
    train_case_open(&c, "qwen3", ALL_TARGETS, NULL);
    for (uint64_t i = 0; i < 3; i++) {
        must(trainable_init(&fresh[i], &c.model->hp, 1 << LINEAR_Q | 1 << LINEAR_DOWN, 5, 16, false, i / 2,
                            ggml_backend_cpu_buffer_type(), &err),
             &err);
    }
    must(backprop_new(&with, c.model, &fresh[0], &params, &err), &err);
    must(backprop_new(&without, c.model, NULL, &params, &err), &err);
    must(pack_init(&pack, &c.data, c.all, (int32_t)c.data.n_pairs, PACK_BOTH, &err), &err);
    must(backprop_run(with, &pack, &job, values, &err), &err);
    must(backprop_run(without, &pack, &job, values, &err), &err);
    assert_memory_equal(backprop_logp(with), backprop_logp(without), (size_t)pack.n_scored * sizeof(float));
    const size_t n = fresh[0].n;
    float *theta[3];
    for (int i = 0; i < 3; i++) {
        theta[i] = malloc(n * sizeof **theta);
        trainable_get(&fresh[i], theta[i]);
    }
    assert_memory_equal(theta[0], theta[1], n * sizeof **theta);
    assert_memory_not_equal(theta[0], theta[2], n * sizeof **theta);
    const struct ggml_tensor *a = fresh[0].layers[1][LINEAR_DOWN].a;
    const float bound = 1 / sqrtf((float)a->ne[0]), *values_a = theta[0] + a->view_offs / sizeof(float);
    float largest = 0;
    double sum = 0;
    for (int64_t i = 0; i < ggml_nelements(a); i++) {
        largest = fmaxf(largest, fabsf(values_a[i]));
        sum += (double)values_a[i];
    }
    assert_true(largest <= bound && largest > 0.95f * bound);
    assert_true(fabs(sum) < 3 * (double)bound * sqrt((double)ggml_nelements(a) / 3));
    for (int i = 0; i < 3; i++) {
        free(theta[i]);
        trainable_deinit(&fresh[i]);
    }
    pack_deinit(&pack);
    backprop_free(with);
    backprop_free(without);
    train_case_close(&c);
}

static void test_dropout_differs_by_step_and_not_in_validation(void **state) {
    (void)state;
    struct train_case c;
    struct loss_value values[4][16];
    struct backprop_params params = train_case_params();
    params.dropout = 0.5f;
    train_case_open(&c, "llama", ALL_TARGETS, &params);
    const struct backprop_job jobs[] = {{.gradient = true, .seed = 1, .step = 1},
                                        {.gradient = true, .seed = 1, .step = 2},
                                        {.gradient = false, .seed = 1, .step = 1},
                                        {.gradient = false, .seed = 1, .step = 2}};
    for (int i = 0; i < 4; i++) {
        train_case_run(&c, 0, (int32_t)c.data.n_pairs, &jobs[i], values[i]);
    }
    assert_true(values[0][0].loss != values[1][0].loss);
    assert_true(values[2][0].loss == values[3][0].loss);
    assert_true(values[0][0].loss != values[2][0].loss);
    train_case_close(&c);
}

static void test_dropout_of_a_pair_is_the_same_in_any_pack(void **state) {
    (void)state;
    struct train_case c;
    struct loss_value together[16], alone[16];
    struct backprop_params params = train_case_params();
    params.dropout = 0.3f;
    train_case_open(&c, "llama", ALL_TARGETS, &params);
    const struct backprop_job job = {.gradient = true, .weight = 1, .seed = 1, .step = 1};
    const int32_t n = (int32_t)c.data.n_pairs;
    train_case_run(&c, 0, n, &job, together);
    for (int32_t i = 0; i < n; i++) {
        train_case_run(&c, i, 1, &job, alone);
        assert_true(alone[0].loss == together[i].loss);
    }
    train_case_close(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients_equal_finite_differences),
        cmocka_unit_test(test_gradients_through_a_head_equal_finite_differences),
        cmocka_unit_test(test_gradients_with_a_reference_equal_finite_differences),
        cmocka_unit_test(test_gradients_with_dropout_equal_finite_differences),
        cmocka_unit_test(test_pairs_packed_together_equal_pairs_alone),
        cmocka_unit_test(test_shared_prompt_equals_two_sequences),
        cmocka_unit_test(test_swapping_responses_mirrors_the_derivatives),
        cmocka_unit_test(test_accumulated_gradient_equals_one_batch),
        cmocka_unit_test(test_threads_do_not_change_a_bit),
        cmocka_unit_test(test_activations_computed_again_do_not_change_a_bit),
        cmocka_unit_test(test_custom_nodes_equal_plain_ones),
        cmocka_unit_test(test_quantised_weights_equal_their_values_in_f32),
        cmocka_unit_test(test_fewer_targets_have_the_same_gradients),
        cmocka_unit_test(test_a_fresh_adapter_changes_nothing_and_depends_on_its_seed),
        cmocka_unit_test(test_dropout_differs_by_step_and_not_in_validation),
        cmocka_unit_test(test_dropout_of_a_pair_is_the_same_in_any_pack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
