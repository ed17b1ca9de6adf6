/* Training by a team: the curve of one process, the same bits on every rank, one end for all, whatever happens to one. */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "support/golden.h"
#include "support/team.h"
#include "train/share.h"

enum { N_PAIRS = 24, MAX_CURVE = 256 };

static struct train_run r;
static struct fake_team team;

static int setup(void **state) {
    (void)state;
    train_run_open(&r, "llama.gguf");
    train_run_write_pairs(&r, N_PAIRS);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    train_run_close(&r);
    return 0;
}

/* ---- curves ---- */

struct curve {
    double values[MAX_CURVE]; /* losses of steps and validations, rewards, and gradient norms */
    int n;
};

static void add_value(struct curve *c, const json_t *line, const char *name) {
    const json_t *value = json_object_get(line, name);
    if (value) {
        assert_true(c->n < MAX_CURVE);
        c->values[c->n++] = json_number_value(value);
    }
}

static struct curve read_curve(void) {
    struct curve c = {.n = 0};
    FILE *f = fopen(r.log, "r");
    assert_non_null(f);
    for (json_t *line; (line = json_loadf(f, JSON_DISABLE_EOF_CHECK, NULL)); json_decref(line)) {
        add_value(&c, line, "loss");
        add_value(&c, line, "val_loss");
        add_value(&c, line, "grad_norm");
        add_value(&c, line, "val_margin");
        add_value(&c, line, "accuracy");
        add_value(&c, line, "rejected");
        add_value(&c, line, "val_chosen");
    }
    fclose(f);
    assert_true(c.n > 4);
    return c;
}

static void assert_same_curves(const struct curve *a, const struct curve *b, double tolerance) {
    assert_int_equal(a->n, b->n);
    for (int i = 0; i < a->n; i++) {
        const double most = tolerance * fmax(1, fabs(b->values[i]));
        if (!(fabs(a->values[i] - b->values[i]) <= most)) {
            fail_msg("value %d of the log: %.9g, not %.9g", i, a->values[i], b->values[i]);
        }
    }
}

static void run_alone(const struct genarm_train_params *p) {
    struct genarm_error err = {0};
    must(train_run(&r, p, NULL, NULL, &err), &err);
}

/* Runs a team to the end; all ranks have the same bits. */
static void run_team(int32_t size, const struct genarm_train_params *p) {
    fake_team_init(&team, size, &r, p);
    fake_team_run(&team);
    for (int32_t i = 0; i < size; i++) {
        must(team.runs[i].rc, &team.runs[i].err);
        assert_int_equal(team.runs[i].n, team.runs[0].n);
        assert_memory_equal(team.runs[i].theta, team.runs[0].theta, team.runs[0].n * sizeof(float));
    }
    fake_team_deinit(&team);
}

static void check_curves(const struct genarm_train_params *p) {
    run_alone(p);
    const struct curve alone = read_curve();
    for (int32_t size = 1; size <= 4; size++) {
        run_team(size, p);
        const struct curve together = read_curve();
        assert_same_curves(&together, &alone, size == 1 ? 0 : 1e-5);
    }
}

static void test_any_number_of_ranks_has_the_curve_of_one(void **state) {
    (void)state;
    struct genarm_train_params p = train_run_params(&r);
    p.epochs = 3;
    p.learning_rate = 3e-3f;
    check_curves(&p);
    p.micro_batch = 2;
    check_curves(&p);
}

static void test_dropout_is_the_same_for_any_number_of_ranks(void **state) {
    (void)state;
    struct genarm_train_params p = train_run_params(&r);
    p.epochs = 2;
    p.lora_dropout = 0.3f;
    p.learning_rate = 3e-3f;
    check_curves(&p);
}

static void test_losses_with_a_reference_or_a_head_have_the_curve_of_one(void **state) {
    (void)state;
    static const enum genarm_loss losses[] = {GENARM_LOSS_DPO, GENARM_LOSS_IPO, GENARM_LOSS_BT, GENARM_LOSS_SFT};
    for (size_t i = 0; i < sizeof losses / sizeof *losses; i++) {
        struct genarm_train_params p = train_run_params(&r);
        p.loss = losses[i];
        p.beta = 0;
        p.epochs = 3; /* ranks meet pairs of others */
        p.learning_rate = 1e-3f;
        check_curves(&p);
    }
}

static void test_more_ranks_than_pairs_of_a_step(void **state) {
    (void)state;
    struct genarm_train_params p = train_run_params(&r);
    p.batch_size = 3;
    run_alone(&p);
    const struct curve alone = read_curve();
    run_team(MAX_RANKS, &p);
    const struct curve together = read_curve();
    assert_same_curves(&together, &alone, 1e-5);
}

static void test_a_team_repeats_itself_to_the_bit(void **state) {
    (void)state;
    char first[128];
    struct genarm_train_params p = train_run_params(&r);
    run_team(3, &p);
    train_run_keep(&r, first, sizeof first, r.output, "first.gguf");
    run_team(3, &p);
    assert_true(same_files(first, r.output));
}

/* A processor or a C library that rounds another way. */
static void test_ranks_that_round_differently_do_not_drift_apart(void **state) {
    (void)state;
    struct genarm_train_params p = train_run_params(&r);
    fake_team_init(&team, 3, &r, &p);
    team.drifting = 1;
    fake_team_run(&team);
    for (int32_t i = 0; i < 3; i++) {
        must(team.runs[i].rc, &team.runs[i].err);
        assert_memory_equal(team.runs[i].theta, team.runs[0].theta, team.runs[0].n * sizeof(float));
    }
    fake_team_deinit(&team);
    char drifted[128];
    train_run_keep(&r, drifted, sizeof drifted, r.output, "drifted.gguf");
    run_team(3, &p);
    assert_true(same_files(drifted, r.output)); /* the first rank's numbers count */
}

/* ---- stopping and resuming ---- */

/* Stops when one rank wants to, and checks that all stop there. */
static void stop_team(int32_t size, const struct genarm_train_params *p, int32_t rank, int64_t step, int call) {
    fake_team_init(&team, size, &r, p);
    team.runs[rank].stop_at_step = step;
    team.runs[rank].stop_at_call = call;
    fake_team_run(&team);
    for (int32_t i = 0; i < size; i++) {
        assert_int_equal(team.runs[i].rc, GENARM_ECANCELED);
        assert_string_equal(team.runs[i].err.what, team.runs[0].err.what);
        assert_null(strstr(team.runs[i].err.where, "rank"));
        assert_true(step < 0 || team.runs[i].step == step);
        assert_memory_equal(team.runs[i].theta, team.runs[0].theta, team.runs[0].n * sizeof(float));
    }
    assert_false(file_exists(r.output));
    assert_true(access(r.checkpoint, F_OK) == 0);
    fake_team_deinit(&team);
}

static void test_stopped_and_resumed_equals_uninterrupted_to_the_bit(void **state) {
    (void)state;
    char whole[128];
    struct genarm_train_params p = train_run_params(&r), resumed = p;
    p.epochs = resumed.epochs = 2;
    p.lora_dropout = resumed.lora_dropout = 0.1f;
    resumed.resume = true;
    run_team(2, &p);
    train_run_keep(&r, whole, sizeof whole, r.output, "whole.gguf");
    for (int32_t rank = 0; rank < 2; rank++) {
        stop_team(2, &p, rank, 4, 0);
        run_team(2, &resumed);
        assert_true(same_files(whole, r.output));
        unlink(r.output);
        for (int call = 1; call < 8; call += 2) { /* within steps and validations */
            stop_team(2, &p, rank, -1, call);
            run_team(2, &resumed);
            assert_true(same_files(whole, r.output));
            unlink(r.output);
        }
    }
}

static void test_a_run_is_resumed_by_another_number_of_ranks(void **state) {
    (void)state;
    struct genarm_train_params p = train_run_params(&r), resumed = p;
    p.learning_rate = resumed.learning_rate = 3e-3f;
    resumed.resume = true;
    run_alone(&p);
    const struct curve alone = read_curve();
    unlink(r.output);
    for (int32_t size = 1; size <= 3; size++) {
        stop_team(3, &p, 2, 2, 0);
        run_team(size, &resumed);
        const struct curve together = read_curve();
        assert_same_curves(&together, &alone, 1e-5);
        unlink(r.output);
    }
}

static void test_only_the_first_rank_writes(void **state) {
    (void)state;
    char outputs[3][128], logs[3][128], folder[160];
    struct genarm_train_params p = train_run_params(&r);
    fake_team_init(&team, 3, &r, &p);
    for (int i = 0; i < 3; i++) {
        snprintf(outputs[i], sizeof outputs[i], "%s/rank%d.gguf", r.folder, i);
        snprintf(logs[i], sizeof logs[i], "%s/rank%d.jsonl", r.folder, i);
        team.runs[i].output = outputs[i];
        team.runs[i].params.log_path = logs[i];
        team.runs[i].stop_at_step = i == 2 ? 2 : -1;
    }
    fake_team_run(&team);
    for (int i = 0; i < 3; i++) {
        snprintf(folder, sizeof folder, "%s.ckpt", outputs[i]);
        assert_int_equal(team.runs[i].rc, GENARM_ECANCELED);
        assert_true((access(folder, F_OK) == 0) == (i == 0));
        assert_true(file_exists(logs[i]) == (i == 0));
        team.runs[i].stop_at_step = -1;
        team.runs[i].params.resume = i == 0; /* others need not know */
        free(team.runs[i].theta);
    }
    fake_team_run(&team);
    for (int i = 0; i < 3; i++) {
        must(team.runs[i].rc, &team.runs[i].err);
        assert_true(file_exists(outputs[i]) == (i == 0));
    }
    fake_team_deinit(&team);
}

/* ---- one end for all ---- */

/* Runs a team that was set up, whose ranks must all fail alike. */
static void expect_failure(int code, const char *where, const char *what) {
    fake_team_run(&team);
    for (int32_t i = 0; i < team.size; i++) {
        const struct genarm_error *err = &team.runs[i].err;
        assert_int_equal(team.runs[i].rc, code);
        assert_string_equal(err->what, team.runs[0].err.what);
        assert_string_equal(err->where, team.runs[0].err.where);
        if (!strstr(err->where, where) || !strstr(err->what, what)) {
            fail_msg("not said: %s: %s; but %s: %s", where, what, err->where, err->what);
        }
    }
    assert_false(file_exists(r.output));
    fake_team_deinit(&team);
}

static void test_what_differs_is_named_with_the_rank(void **state) {
    (void)state;
    const struct genarm_train_params p = train_run_params(&r);
    char other[128], adapter[128];
    run_alone(&p);
    train_run_keep(&r, adapter, sizeof adapter, r.output, "adapter.gguf");
    fake_team_init(&team, 3, &r, &p);
    team.runs[2].params.beta = 0.25f;
    expect_failure(GENARM_EMISMATCH, "rank 2", "beta is 0.25 here, but 0.5 on rank 0");
    fake_team_init(&team, 3, &r, &p);
    team.runs[1].params.init_adapter = adapter;
    expect_failure(GENARM_EMISMATCH, "rank 1", "initial adapter");
    fake_team_init(&team, 2, &r, &p);
    for (int i = 0; i < 2; i++) {
        team.runs[i].params.loss = GENARM_LOSS_DPO;
    }
    team.runs[0].params.reference_adapter = adapter; /* the other does not know of it */
    expect_failure(GENARM_EMISMATCH, "rank 1", "reference adapter is nothing here");
    fake_team_init(&team, 2, &r, &p);
    team.runs[1].model = golden_model("mistral.gguf");
    struct genarm_model *mistral = team.runs[1].model;
    expect_failure(GENARM_EMISMATCH, "rank 1", "is");
    genarm_model_free(mistral);
    train_run_keep(&r, other, sizeof other, r.pairs, "other.jsonl");
    train_run_write_pairs(&r, N_PAIRS + 1);
    fake_team_init(&team, 2, &r, &p);
    team.runs[1].pairs = other;
    expect_failure(GENARM_EMISMATCH, "rank 1", "the data is");
}

static void test_a_failure_of_one_rank_ends_all(void **state) {
    (void)state;
    struct genarm_train_params p = train_run_params(&r);
    fake_team_init(&team, 3, &r, &p);
    team.runs[1].pairs = "/no/such/pairs.jsonl";
    expect_failure(GENARM_EIO, "rank 1: /no/such/pairs.jsonl", "");
    fake_team_init(&team, 3, &r, &p);
    team.runs[2].params.lora_rank = 0;
    expect_failure(GENARM_EINVAL, "rank 2", "rank");
    fake_team_init(&team, 3, &r, &p);
    team.runs[0].params.log_path = "/no/such/folder/log.jsonl";
    expect_failure(GENARM_EIO, "rank 0: /no/such/folder", "log");
    p.lora_rank = 0;
    fake_team_init(&team, 3, &r, &p);
    expect_failure(GENARM_EINVAL, "", "LoRA rank is 0"); /* all alike: no rank is named */
}

static void test_a_loss_that_is_no_number_stops_all_and_names_the_pair(void **state) {
    (void)state;
    char where[160];
    struct genarm_train_params p = train_run_params(&r);
    p.learning_rate = 1e25f;
    p.max_grad_norm = 0;
    p.val_split = 0;
    fake_team_init(&team, 3, &r, &p);
    snprintf(where, sizeof where, "%s:", r.pairs);
    expect_failure(GENARM_EDIVERGED, where, "step 2");
}

static void test_ranks_that_lose_each_other_end_with_an_error(void **state) {
    (void)state;
    const struct genarm_train_params p = train_run_params(&r);
    for (int calls = 1; calls < 24; calls++) {
        fake_team_init(&team, 2, &r, &p);
        team.fail_after = calls;
        expect_failure(GENARM_EIO, "", "the cable is cut");
    }
}

/* ---- shares ---- */

static void test_shares_are_disjoint_complete_and_balanced(void **state) {
    (void)state;
    enum { N = 500 };
    static struct pair pairs[N];
    static uint32_t all[N];
    struct data d = {.pairs = pairs, .n_pairs = N};
    int32_t longest = 0;
    for (int32_t i = 0; i < N; i++) {
        pairs[i] = (struct pair){.n_prompt = 1 + i * 37 % 211, .n_response = {2 + i * 13 % 97, 2 + i * 71 % 301}};
        all[i] = (uint32_t)(N - 1 - i);
        const int32_t rows = pack_rows_of(&pairs[i], PACK_BOTH);
        longest = rows > longest ? rows : longest;
    }
    for (int32_t size = 1; size <= 7; size += 2) {
        int seen[N] = {0};
        int64_t least = INT64_MAX, most = 0;
        for (int32_t rank = 0; rank < size; rank++) {
            const struct genarm_team t = {.rank = rank, .size = size};
            struct genarm_error err = {0};
            struct share s;
            int64_t rows = 0;
            must(share_init(&s, N, &t, &err), &err);
            share_split(&s, &d, all, N, PACK_BOTH);
            for (int32_t i = 0; i < s.n; i++) {
                seen[s.pairs[i]]++;
                rows += pack_rows_of(&pairs[s.pairs[i]], PACK_BOTH);
                assert_true(i == 0 || s.pairs[i] < s.pairs[i - 1]); /* in the order given */
            }
            least = rows < least ? rows : least;
            most = rows > most ? rows : most;
            share_deinit(&s);
        }
        for (int i = 0; i < N; i++) {
            assert_int_equal(seen[i], 1);
        }
        assert_true(most - least <= longest);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares_are_disjoint_complete_and_balanced),
        cmocka_unit_test_setup_teardown(test_any_number_of_ranks_has_the_curve_of_one, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dropout_is_the_same_for_any_number_of_ranks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_losses_with_a_reference_or_a_head_have_the_curve_of_one, setup, teardown),
        cmocka_unit_test_setup_teardown(test_more_ranks_than_pairs_of_a_step, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_team_repeats_itself_to_the_bit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ranks_that_round_differently_do_not_drift_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stopped_and_resumed_equals_uninterrupted_to_the_bit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_run_is_resumed_by_another_number_of_ranks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_the_first_rank_writes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_differs_is_named_with_the_rank, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_failure_of_one_rank_ends_all, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_loss_that_is_no_number_stops_all_and_names_the_pair, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ranks_that_lose_each_other_end_with_an_error, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
