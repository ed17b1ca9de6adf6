#include "support/team.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "train/trainer.h"

struct member {
    struct fake_team *all;
    int32_t rank;
    pthread_t thread;
};

/* Puts this rank's memory where the others see it. */
static int meet(struct member *m, void *memory, struct genarm_error *err) {
    struct fake_team *t = m->all;
    if (t->fail_after > 0 && ++t->calls[m->rank] > t->fail_after) {
        return error_set(err, GENARM_EIO, "the cable is cut");
    }
    t->slots[m->rank] = memory;
    pthread_barrier_wait(&t->barrier);
    return GENARM_OK;
}

static void part(struct member *m) { pthread_barrier_wait(&m->all->barrier); }

static int gather(const void *mine, void *all, size_t n, void *user, struct genarm_error *err) {
    struct member *m = user;
    int rc = meet(m, (void *)(uintptr_t)mine, err);
    if (rc == GENARM_OK) {
        for (int32_t i = 0; i < m->all->size; i++) {
            memcpy((char *)all + (size_t)i * n, m->all->slots[i], n);
        }
        part(m);
    }
    return rc;
}

static int share(void *bytes, size_t n, void *user, struct genarm_error *err) {
    struct member *m = user;
    int rc = meet(m, bytes, err);
    if (rc == GENARM_OK) {
        if (m->rank > 0) {
            memcpy(bytes, m->all->slots[0], n);
        }
        part(m);
    }
    return rc;
}

static int sum(float *values, size_t n, void *user, struct genarm_error *err) {
    struct member *m = user;
    float *total = calloc(n, sizeof *total);
    int rc = total ? meet(m, values, err) : error_nomem(err, "a sum");
    if (rc == GENARM_OK) {
        for (int32_t i = 0; i < m->all->size; i++) {
            const float *from = m->all->slots[i];
            for (size_t k = 0; k < n; k++) {
                total[k] += from[k];
            }
        }
        for (size_t k = 0; k < n && m->rank > 0 && m->rank == m->all->drifting; k += 5) {
            total[k] = nextafterf(total[k], 1);
        }
        part(m);
        memcpy(values, total, n * sizeof *values);
    }
    free(total);
    return rc;
}

static int note(const struct genarm_train_status *s, void *user) {
    struct rank_run *run = user;
    run->step = s->step;
    run->stop_at_call--;
    return s->step == run->stop_at_step || run->stop_at_call == 0;
}

static void *run_rank(void *argument) {
    struct member *m = argument;
    struct rank_run *run = &m->all->runs[m->rank];
    const struct genarm_team team = {
        .rank = m->rank, .size = m->all->size, .sum = sum, .gather = gather, .share = share, .user = m};
    struct genarm_train_params params = run->params;
    struct genarm_trainer *trainer = NULL;
    params.team = &team;
    run->rc = genarm_trainer_new(&trainer, run->model, &run->pairs, 1, run->output, &params, NULL, &run->err);
    if (run->rc == GENARM_OK) {
        run->rc = genarm_trainer_run(trainer, note, run, &run->err);
        const float *theta = trainer_theta(trainer, &run->n);
        run->theta = malloc(run->n * sizeof *run->theta);
        if (run->theta) {
            memcpy(run->theta, theta, run->n * sizeof *theta);
        }
    }
    genarm_trainer_free(trainer);
    return NULL;
}

void fake_team_init(struct fake_team *t, int32_t size, struct train_run *r, const struct genarm_train_params *params) {
    *t = (struct fake_team){.size = size};
    assert_int_equal(pthread_barrier_init(&t->barrier, NULL, (unsigned)size), 0);
    for (int32_t i = 0; i < size; i++) {
        t->runs[i] = (struct rank_run){
            .model = r->model, .pairs = r->pairs, .output = r->output, .params = *params, .stop_at_step = -1};
    }
}

void fake_team_run(struct fake_team *t) {
    struct member members[MAX_RANKS];
    for (int32_t i = 0; i < t->size; i++) {
        members[i] = (struct member){.all = t, .rank = i};
        assert_int_equal(pthread_create(&members[i].thread, NULL, run_rank, &members[i]), 0);
    }
    for (int32_t i = 0; i < t->size; i++) {
        assert_int_equal(pthread_join(members[i].thread, NULL), 0);
    }
}

void fake_team_deinit(struct fake_team *t) {
    for (int32_t i = 0; i < t->size; i++) {
        free(t->runs[i].theta);
    }
    pthread_barrier_destroy(&t->barrier);
}
