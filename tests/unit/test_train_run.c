/* Whole runs: they learn, can be stopped and resumed to the bit, refuse what does not fit, and keep their last checkpoint
 * when something fails. */
#include <llama.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "support/golden.h"
#include "support/train_run.h"
#include "train/options.h"

enum { N_PAIRS = 24 };

static struct train_run r;

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

static void run(const struct genarm_train_params *p) {
    struct genarm_error err = {0};
    must(train_run(&r, p, NULL, NULL, &err), &err);
}

/* ---- statuses ---- */

static void test_a_run_learns_and_reports(void **state) {
    (void)state;
    static struct train_calls c;
    struct genarm_train_params p = train_run_params(&r);
    struct genarm_error err = {0};
    double val_losses[16];
    int n_val = 0;
    p.epochs = 6;
    p.micro_batch = 2;
    c = (struct train_calls){.stop_at_step = -1};
    must(train_run(&r, &p, train_note, &c, &err), &err);
    const struct genarm_train_status *last = &c.status[c.n - 1];
    for (int i = 0; i < c.n; i++) {
        if (c.status[i].has_validation) {
            assert_true(n_val < 16);
            val_losses[n_val++] = c.status[i].val_loss;
        }
        assert_true(i == 0 || c.status[i].pairs_done >= c.status[i - 1].pairs_done);
        assert_int_equal(c.status[i].pairs_total, 6 * 22);
    }
    assert_true(c.status[0].has_validation && c.status[0].step == 0);
    assert_true(last->has_validation && last->step == 6 * 5 && last->n_steps == 6 * 5);
    assert_int_equal(last->pairs_done, last->pairs_total);
    assert_int_equal(n_val, 7);
    assert_int_equal(c.n, 7 + 6 * (4 * 3 + 1)); /* five pairs are three micro-batches, the last two one */
    assert_true(val_losses[6] < 0.1 * val_losses[0] && last->val_accuracy > 0.99);
    assert_true(last->loss < 0.1 && last->accuracy > 0.99 && last->margin > 1);
    assert_true(file_exists(r.output));
    assert_int_not_equal(access(r.checkpoint, F_OK), 0);
}

static void test_the_adapter_says_what_it_is(void **state) {
    (void)state;
    struct genarm_train_params p = train_run_params(&r);
    struct genarm_adapter *adapter = NULL;
    struct genarm_adapter_info info;
    struct genarm_model_info model;
    struct genarm_error err = {0};
    p.template_name = "chatml";
    run(&p);
    must(genarm_adapter_load(&adapter, r.model, r.output, &err), &err);
    genarm_adapter_get_info(adapter, &info);
    genarm_model_get_info(r.model, &model);
    assert_string_equal(info.loss, "arm");
    assert_string_equal(info.template_name, "chatml");
    assert_string_equal(info.base_fingerprint, model.fingerprint);
    assert_int_equal(strlen(info.data_hash), 16);
    assert_string_equal(info.targets, "q,v,o,down");
    assert_int_equal(info.rank, 4);
    assert_true(fabsf(info.alpha - 16) < 1e-6f && fabsf(info.beta - 0.5f) < 1e-6f);
    genarm_adapter_free(adapter);
}

static void test_llama_cpp_loads_the_adapter(void **state) {
    (void)state;
    struct genarm_train_params p = train_run_params(&r);
    p.lora_targets = "q,k,v,o,gate,up,down";
    run(&p);
    struct llama_model *model = llama_model_load_from_file(golden_path("llama.gguf"), llama_model_default_params());
    assert_non_null(model);
    struct llama_adapter_lora *adapter = llama_adapter_lora_init(model, r.output);
    assert_non_null(adapter);
    llama_model_free(model); /* and its adapters */
}

/* ---- resuming ---- */

static void test_resumed_equals_uninterrupted_to_the_bit(void **state) {
    (void)state;
    struct genarm_train_params p = train_run_params(&r);
    p.epochs = 3;
    p.warmup = 3;
    p.lora_dropout = 0.2f;
    train_run_check_resumed(&r, &p, 0, 7, 2);
    p.save_every = 4; /* a checkpoint is written when the run stops */
    train_run_check_resumed(&r, &p, 0, 6, 1);
    p.save_every = 0;
    p.micro_batch = 1;
    train_run_check_resumed(&r, &p, 0, 11, 1);
}

static void test_stopping_within_a_step_or_a_validation_changes_nothing(void **state) {
    (void)state;
    struct genarm_train_params p = train_run_params(&r);
    p.epochs = 2;
    p.micro_batch = 1;
    p.val_split = 0.2f;
    for (int call = 1; call < 32; call += 3) {
        train_run_check_resumed(&r, &p, call, -1, 1);
    }
}

static void stop_after(struct genarm_train_params *p, int64_t step) {
    static struct train_calls calls;
    struct genarm_error err = {0};
    calls = (struct train_calls){.stop_at_step = step};
    assert_int_equal(train_run(&r, p, train_note, &calls, &err), GENARM_ECANCELED);
    p->resume = true;
}

static void write_text(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

/* A process that is given none leaves the log as it is; a file that is none is left alone. */
static void test_the_log_of_earlier_processes_is_kept(void **state) {
    (void)state;
    char other[128];
    size_t n_before, n_after, n_other;
    struct genarm_train_params p = train_run_params(&r);
    stop_after(&p, 2);
    char *before = read_whole(r.log, &n_before);
    p.log_path = NULL;
    stop_after(&p, 3);
    snprintf(other, sizeof other, "%s/other", r.folder);
    char text[4096] = {0};
    memset(text, 'x', sizeof text - 1);
    write_text(other, text);
    p.log_path = other;
    struct genarm_error err = {0};
    assert_int_equal(train_run(&r, &p, NULL, NULL, &err), GENARM_EMISMATCH);
    assert_string_equal(err.where, other);
    char *same = read_whole(other, &n_other);
    assert_string_equal(same, text);
    p.log_path = r.log;
    run(&p);
    char *after = read_whole(r.log, &n_after);
    assert_true(n_after > n_before);
    assert_memory_equal(after, before, n_before);
    assert_non_null(strstr(after + n_before, "\"resumed\":3,"));
    free(before);
    free(same);
    free(after);
}

static void test_resuming_without_a_checkpoint_starts_anew(void **state) {
    (void)state;
    char whole[128];
    struct genarm_train_params p = train_run_params(&r);
    run(&p);
    train_run_keep(&r, whole, sizeof whole, r.output, "whole.gguf");
    p.resume = true;
    run(&p);
    assert_true(same_files(whole, r.output));
}

static void expect_mismatch(const struct genarm_train_params *p, const char *name) {
    struct genarm_error err = {0};
    assert_int_equal(train_run(&r, p, NULL, NULL, &err), GENARM_EMISMATCH);
    if (!strstr(err.what, name)) {
        fail_msg("not named: %s in: %s", name, err.what);
    }
}

static void test_another_run_is_not_resumed(void **state) {
    (void)state;
    static struct train_calls c;
    struct genarm_error err = {0};
    const struct genarm_train_params original = train_run_params(&r);
    c = (struct train_calls){.stop_at_step = 2};
    assert_int_equal(train_run(&r, &original, train_note, &c, &err), GENARM_ECANCELED);
    struct genarm_train_params p = original;
    p.resume = true;
    p.lora_rank = 8;
    expect_mismatch(&p, "lora_rank is 4, not 8");
    p.lora_rank = 4;
    p.beta = 0.05f;
    expect_mismatch(&p, "beta is 0.5, not 0.05");
    p.beta = original.beta;
    p.seed = 3;
    expect_mismatch(&p, "seed");
    p.seed = 0;
    p.learning_rate = 1;
    expect_mismatch(&p, "learning_rate");
    p.learning_rate = original.learning_rate;
    p.label = GENARM_LABEL_SAFER;
    expect_mismatch(&p, "label is \"better\", not \"safer\"");
    p.label = original.label;
    p.format = GENARM_DATA_GENARM;
    expect_mismatch(&p, "format is \"auto\", not \"genarm\"");
    p.format = original.format;
    train_run_write_pairs(&r, N_PAIRS + 1);
    expect_mismatch(&p, "data");
    train_run_write_pairs(&r, N_PAIRS);
    genarm_model_free(r.model);
    r.model = golden_model("mistral.gguf");
    expect_mismatch(&p, "model");
    genarm_model_free(r.model);
    r.model = golden_model("llama.gguf");
    run(&p);
}

static void test_a_damaged_checkpoint_is_refused(void **state) {
    (void)state;
    static struct train_calls c;
    char file[160];
    size_t n = 0;
    struct genarm_error err = {0};
    struct genarm_train_params p = train_run_params(&r);
    c = (struct train_calls){.stop_at_step = 2};
    assert_int_equal(train_run(&r, &p, train_note, &c, &err), GENARM_ECANCELED);
    snprintf(file, sizeof file, "%s/checkpoint", r.checkpoint);
    char *bytes = read_whole(file, &n);
    assert_int_equal(file_write(file, bytes, n - 100, NULL), GENARM_OK);
    free(bytes);
    p.resume = true;
    assert_int_equal(train_run(&r, &p, NULL, NULL, &err), GENARM_EFORMAT);
    assert_string_equal(err.where, file);
}

/* ---- variants ---- */

static double last_validation(const struct genarm_train_params *p) {
    static struct train_calls c;
    struct genarm_error err = {0};
    c = (struct train_calls){.stop_at_step = -1};
    must(train_run(&r, p, train_note, &c, &err), &err);
    assert_true(c.status[c.n - 1].has_validation);
    return c.status[c.n - 1].val_loss;
}

static void test_training_goes_on_from_an_adapter(void **state) {
    (void)state;
    static struct train_calls c;
    char first[128];
    struct genarm_error err = {0};
    struct genarm_train_params p = train_run_params(&r);
    const double before = last_validation(&p);
    train_run_keep(&r, first, sizeof first, r.output, "first.gguf");
    p.init_adapter = first;
    p.lora_rank = 64; /* these three come from the adapter */
    p.lora_alpha = 1;
    p.lora_targets = NULL;
    c = (struct train_calls){.stop_at_step = -1};
    must(train_run(&r, &p, train_note, &c, &err), &err);
    assert_true(c.status[0].val_loss == before);
    assert_true(c.status[c.n - 1].val_loss < before);
}

static void test_micro_batches_do_not_matter(void **state) {
    (void)state;
    struct genarm_train_params p = train_run_params(&r);
    p.epochs = 2;
    const double whole = last_validation(&p);
    for (p.micro_batch = 1; p.micro_batch < 4; p.micro_batch++) {
        assert_true(fabs(last_validation(&p) - whole) < 1e-3 * whole);
    }
}

static void test_every_loss_falls(void **state) {
    (void)state;
    for (int loss = GENARM_LOSS_ARM; loss <= GENARM_LOSS_BT; loss++) {
        static struct train_calls c;
        struct genarm_error err = {0};
        struct genarm_train_params p = train_run_params(&r);
        p.loss = (enum genarm_loss)loss;
        const bool no_beta = loss == GENARM_LOSS_BT || loss == GENARM_LOSS_SFT;
        p.beta = no_beta ? 0 : loss == GENARM_LOSS_IPO ? 0.1f : p.beta; /* one that is reached slowly */
        p.epochs = 6;
        c = (struct train_calls){.stop_at_step = -1};
        must(train_run(&r, &p, train_note, &c, &err), &err);
        assert_true(c.status[c.n - 1].val_loss < 0.5 * c.status[0].val_loss);
        assert_true(isnan(c.status[c.n - 1].accuracy) == (loss == GENARM_LOSS_SFT));
        assert_true(c.status[c.n - 1].val_accuracy > 0.99);
    }
}

/* ---- faults ---- */

static void test_a_loss_that_is_no_number_stops_the_run_and_names_the_pair(void **state) {
    (void)state;
    char file[160];
    struct genarm_error err = {0};
    struct genarm_train_params p = train_run_params(&r);
    p.learning_rate = 1e25f;
    p.max_grad_norm = 0;
    p.val_split = 0;
    assert_int_equal(train_run(&r, &p, NULL, NULL, &err), GENARM_EDIVERGED);
    assert_non_null(strstr(err.what, "step 2"));
    assert_memory_equal(err.where, r.pairs, strlen(r.pairs));
    assert_int_equal(err.where[strlen(r.pairs)], ':');
    assert_false(file_exists(r.output));
    snprintf(file, sizeof file, "%s/checkpoint", r.checkpoint);
    assert_true(file_exists(file));
}

/* The last good checkpoint stays, and the run goes on from it with another learning rate when it is told to. */
static void test_a_diverged_run_goes_on_with_a_lower_learning_rate(void **state) {
    (void)state;
    static struct train_calls c;
    struct genarm_error err = {0};
    struct genarm_train_params p = train_run_params(&r);
    p.epochs = 3;
    p.max_grad_norm = 0;
    c = (struct train_calls){.stop_at_step = 3};
    assert_int_equal(train_run(&r, &p, train_note, &c, &err), GENARM_ECANCELED);
    p.resume = p.resume_changed = true;
    p.learning_rate = 1e25f;
    p.save_every = 0;
    assert_int_equal(train_run(&r, &p, NULL, NULL, &err), GENARM_EDIVERGED);
    assert_non_null(strstr(err.hint, "go on after step 3"));
    assert_non_null(strstr(err.where, r.pairs));
    p.learning_rate = 1e-3f;
    p.resume_changed = false;
    expect_mismatch(&p, "learning_rate is 0.01, not 0.001");
    p.resume_changed = true;
    p.lora_rank = 8;
    expect_mismatch(&p, "lora_rank is 4, not 8");
    p.lora_rank = 4;
    c = (struct train_calls){.stop_at_step = -1};
    must(train_run(&r, &p, train_note, &c, &err), &err);
    assert_int_equal(c.status[0].step, 4); /* the first that was left */
    assert_true(c.status[c.n - 1].step == c.status[c.n - 1].n_steps && isfinite(c.status[c.n - 1].loss));
    assert_true(file_exists(r.output));
    size_t n = 0;
    char *log = read_whole(r.log, &n);
    assert_non_null(strstr(log, "\"changed\":{\"learning_rate\":[0.01"));
    free(log);
}

/* Told that options may change, a run whose options are the same is the same, to the bit. */
static void test_nothing_changed_is_nothing_changed(void **state) {
    (void)state;
    static struct train_calls c;
    char whole[128];
    struct genarm_error err = {0};
    struct genarm_train_params p = train_run_params(&r);
    run(&p);
    train_run_keep(&r, whole, sizeof whole, r.output, "whole.gguf");
    c = (struct train_calls){.stop_at_step = 2};
    assert_int_equal(train_run(&r, &p, train_note, &c, &err), GENARM_ECANCELED);
    p.resume = p.resume_changed = true;
    run(&p);
    assert_true(same_files(whole, r.output));
}

/* Whatever cannot be written for want of room: nothing is lost, and the run goes on when there is room. */
static void test_a_full_disk_loses_nothing(void **state) {
    (void)state;
    static struct train_calls c;
    char whole[128];
    struct rlimit before;
    struct genarm_error err = {0};
    struct genarm_train_params p = train_run_params(&r);
    p.log_path = NULL;
    run(&p);
    train_run_keep(&r, whole, sizeof whole, r.output, "whole.gguf");
    c = (struct train_calls){.stop_at_step = 2};
    assert_int_equal(train_run(&r, &p, train_note, &c, &err), GENARM_ECANCELED);
    p.resume = true;
    getrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, SIG_IGN);
    for (rlim_t size = 1000; size <= 16000; size *= 4) { /* a checkpoint has 55,000 bytes */
        const struct rlimit small = {.rlim_cur = size, .rlim_max = before.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        const int rc = train_run(&r, &p, NULL, NULL, &err);
        setrlimit(RLIMIT_FSIZE, &before);
        assert_int_equal(rc, GENARM_EIO);
        assert_false(file_exists(r.output));
    }
    run(&p);
    assert_true(same_files(whole, r.output));
}

static void test_an_adapter_that_cannot_be_written_can_be_written_later(void **state) {
    (void)state;
    static struct train_calls c;
    char whole[128];
    struct genarm_error err = {0};
    struct genarm_train_params p = train_run_params(&r);
    run(&p);
    train_run_keep(&r, whole, sizeof whole, r.output, "whole.gguf");
    struct genarm_trainer *trainer = NULL;
    const char *paths[] = {r.pairs};
    must(genarm_trainer_new(&trainer, r.model, paths, 1, r.output, &p, NULL, &err), &err);
    assert_int_equal(mkdir(r.output, 0777), 0); /* in the way */
    assert_true(genarm_trainer_run(trainer, NULL, NULL, &err) < 0);
    genarm_trainer_free(trainer);
    assert_int_equal(rmdir(r.output), 0);
    p.resume = true;
    c = (struct train_calls){.stop_at_step = -1};
    must(train_run(&r, &p, train_note, &c, &err), &err);
    assert_int_equal(c.n, 1); /* nothing is trained again, and how far the run is gets said */
    assert_true(c.status[0].step > 0 && c.status[0].step == c.status[0].n_steps);
    assert_true(isnan(c.status[0].loss));
    assert_true(same_files(whole, r.output));
}

/* ---- adapters of epochs ---- */

static const char *epoch_path(int epoch) {
    static char path[4][128];
    snprintf(path[epoch], sizeof path[epoch], "%s/arm.epoch%d.gguf", r.folder, epoch);
    return path[epoch];
}

static ino_t inode(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 ? st.st_ino : 0;
}

static void test_the_adapter_of_every_epoch_is_kept(void **state) {
    (void)state;
    char first[128], second[128];
    struct genarm_train_params p = train_run_params(&r);
    p.schedule = GENARM_SCHEDULE_CONSTANT; /* so that a longer run begins as a shorter one does */
    run(&p);
    train_run_keep(&r, first, sizeof first, r.output, "first.gguf");
    p.epochs = 2;
    run(&p);
    train_run_keep(&r, second, sizeof second, r.output, "second.gguf");
    assert_false(file_exists(epoch_path(1)));
    p.epochs = 3;
    p.save_epochs = true;
    p.save_every = 0;
    for (int held_out = 1; held_out >= 0; held_out--) {
        run(&p);
        assert_true(same_files(epoch_path(1), first) == held_out && same_files(epoch_path(2), second) == held_out);
        assert_true(file_exists(r.output) && !file_exists(epoch_path(3)));
        assert_false(file_exists(r.checkpoint));
        unlink(epoch_path(1));
        unlink(epoch_path(2));
        p.val_split = 0; /* epochs end without a validation as well */
    }
}

/* Stopped anywhere, a run that resumes has all of them, and those that were there before are not written again. */
static void test_a_resumed_run_neither_misses_nor_repeats_an_epochs_adapter(void **state) {
    (void)state;
    static struct train_calls c;
    char whole[3][128];
    struct genarm_error err = {0};
    struct genarm_train_params p = train_run_params(&r);
    p.epochs = 3;
    p.save_epochs = true;
    for (int round = 0; round < 2; round++) {
        p.save_every = round ? 0 : 1;
        p.val_split = round ? 0 : 0.1f;
        p.resume = false;
        c = (struct train_calls){.stop_at_step = -1};
        must(train_run(&r, &p, train_note, &c, &err), &err);
        const int n_calls = c.n;
        train_run_keep(&r, whole[0], sizeof whole[0], r.output, "whole.gguf");
        train_run_keep(&r, whole[1], sizeof whole[1], epoch_path(1), "whole1.gguf");
        train_run_keep(&r, whole[2], sizeof whole[2], epoch_path(2), "whole2.gguf");
        for (int stop = 1; stop < n_calls; stop++) {
            p.resume = false;
            c = (struct train_calls){.stop_at_call = stop, .stop_at_step = -1};
            assert_int_equal(train_run(&r, &p, train_note, &c, &err), GENARM_ECANCELED);
            const ino_t before[] = {inode(epoch_path(1)), inode(epoch_path(2))};
            p.resume = true;
            must(train_run(&r, &p, NULL, NULL, &err), &err);
            for (int epoch = 1; epoch <= 2; epoch++) {
                assert_true(same_files(epoch_path(epoch), whole[epoch]));
                assert_true(before[epoch - 1] == 0 || inode(epoch_path(epoch)) == before[epoch - 1]);
                unlink(epoch_path(epoch));
            }
            assert_true(same_files(r.output, whole[0]));
        }
    }
}

static void test_an_epoch_whose_adapter_cannot_be_written_is_refused_at_once(void **state) {
    (void)state;
    static struct train_calls c;
    struct genarm_error err = {0};
    struct genarm_train_params p = train_run_params(&r);
    p.epochs = 3;
    p.save_epochs = true;
    assert_int_equal(mkdir(epoch_path(2), 0777), 0); /* in the way */
    c = (struct train_calls){.stop_at_step = -1};
    assert_int_equal(train_run(&r, &p, train_note, &c, &err), GENARM_EINVAL);
    assert_string_equal(err.where, epoch_path(2));
    assert_int_equal(c.n, 0);
    assert_int_equal(rmdir(epoch_path(2)), 0);
}

/* Two of one output would mix their checkpoints and logs; the one that is refused takes nothing away. */
static void test_two_runs_cannot_have_one_output(void **state) {
    (void)state;
    struct genarm_error err = {0};
    struct genarm_train_params p = train_run_params(&r);
    struct genarm_trainer *trainer = NULL;
    const char *paths[] = {r.pairs};
    must(genarm_trainer_new(&trainer, r.model, paths, 1, r.output, &p, NULL, &err), &err);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(train_run(&r, &p, NULL, NULL, &err), GENARM_EIO);
        assert_string_equal(err.what, "another process is writing this file");
        assert_string_equal(err.where, r.output);
    }
    must(genarm_trainer_run(trainer, NULL, NULL, &err), &err);
    genarm_trainer_free(trainer);
    run(&p);
}

static void test_bad_options_are_refused_by_name(void **state) {
    (void)state;
    const struct genarm_train_params good = train_run_params(&r);
    struct genarm_train_params bad[24];
    static const char *const says[] = {"beta",           "rank",     "dropout",  "learning rate", "batch size",
                                       "epochs",         "held out", "nose",     "smoothing",     "threads",
                                       "maximum length", "loss",     "template", "twice",         "\"\"",
                                       "bt loss knows no beta", "bt loss knows no length", "ipo loss knows no margin",
                                       "ipo loss knows no label", "arm loss knows no reference"};
    for (size_t i = 0; i < sizeof says / sizeof *says; i++) {
        bad[i] = good;
    }
    bad[0].beta = -1;
    bad[1].lora_rank = 0;
    bad[2].lora_dropout = 1;
    bad[3].learning_rate = NAN;
    bad[4].batch_size = 0;
    bad[5].epochs = 0;
    bad[6].val_split = 0.6f;
    bad[7].lora_targets = "q,nose";
    bad[8].loss = GENARM_LOSS_HINGE;
    bad[8].label_smoothing = 0.1f;
    bad[9].n_threads = -1;
    bad[10].max_length = 1;
    bad[11].loss = (enum genarm_loss)99;
    bad[12].template_name = "no such template";
    bad[13].lora_targets = "q,v,q";
    bad[14].lora_targets = "q,";
    bad[15].loss = bad[16].loss = GENARM_LOSS_BT;
    bad[16].beta = 0;
    bad[16].length_normalize = true;
    bad[17].loss = bad[18].loss = GENARM_LOSS_IPO;
    bad[17].margin = 1;
    bad[18].label_smoothing = 0.1f;
    bad[19].reference_adapter = "x.gguf";
    for (size_t i = 0; i < sizeof says / sizeof *says; i++) {
        struct genarm_error err = {0};
        assert_int_equal(train_run(&r, &bad[i], NULL, NULL, &err), GENARM_EINVAL);
        if (!strstr(err.what, says[i])) {
            fail_msg("not named: %s in: %s", says[i], err.what);
        }
    }
}

static void test_a_prompt_longer_than_the_context_is_cut_to_it(void **state) {
    (void)state;
    struct genarm_error err = {0};
    struct genarm_trainer *trainer = NULL;
    struct genarm_data_report report = {0};
    const struct genarm_train_params p = train_run_params(&r);
    const char *paths[] = {r.pairs};
    FILE *f = fopen(r.pairs, "w");
    assert_non_null(f);
    for (int i = 0; i < 3; i++) {
        fprintf(f, "{\"prompt\": \"%0*d\", \"chosen\": \"yes\", \"rejected\": \"no\"}\n", 100 + 400 * i, i);
    }
    assert_int_equal(fclose(f), 0);
    must(genarm_trainer_new(&trainer, r.model, paths, 1, r.output, &p, &report, &err), &err);
    assert_int_equal(report.kept, 3);
    assert_int_equal(report.cut, 2);
    must(genarm_trainer_run(trainer, NULL, NULL, &err), &err);
    genarm_trainer_free(trainer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_run_learns_and_reports, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_adapter_says_what_it_is, setup, teardown),
        cmocka_unit_test_setup_teardown(test_llama_cpp_loads_the_adapter, setup, teardown),
        cmocka_unit_test_setup_teardown(test_resumed_equals_uninterrupted_to_the_bit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stopping_within_a_step_or_a_validation_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_log_of_earlier_processes_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_resuming_without_a_checkpoint_starts_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_run_is_not_resumed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_damaged_checkpoint_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_training_goes_on_from_an_adapter, setup, teardown),
        cmocka_unit_test_setup_teardown(test_micro_batches_do_not_matter, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_loss_falls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_loss_that_is_no_number_stops_the_run_and_names_the_pair, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_diverged_run_goes_on_with_a_lower_learning_rate, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_changed_is_nothing_changed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_full_disk_loses_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_adapter_that_cannot_be_written_can_be_written_later, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_adapter_of_every_epoch_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_resumed_run_neither_misses_nor_repeats_an_epochs_adapter, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_epoch_whose_adapter_cannot_be_written_is_refused_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_two_runs_cannot_have_one_output, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_options_are_refused_by_name, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_prompt_longer_than_the_context_is_cut_to_it, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
