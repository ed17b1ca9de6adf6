/* genarm score -d: how well preference pairs are ranked. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/progress.h"
#include "preferences.h"
#include "score.h"
#include "scores.h"
#include "tell.h"
#include "terminal.h"

struct tally {
    double right;  /* pairs ranked as labelled; a tie counts half */
    double margin; /* sum of chosen - rejected, nats */
    int64_t n_abstained; /* pairs that are not counted: a response has no reward */
};

struct ranking {
    int64_t n;
    struct tally sums;  /* of the tokens' log-probabilities: the reward */
    struct tally means; /* over the tokens, as a length-normalised loss sees it */
};

static void add(struct tally *t, double chosen, double rejected) {
    if (isnan(chosen) || isnan(rejected)) {
        t->n_abstained++;
        return;
    }
    t->right += chosen > rejected ? 1 : chosen < rejected ? 0 : 0.5;
    t->margin += chosen - rejected;
}

/* Rewards of responses of n[0] and n[1] tokens. */
static void rank(struct ranking *r, double chosen, double rejected, const double n[2]) {
    r->n++;
    add(&r->sums, chosen, rejected);
    add(&r->means, chosen / n[0], rejected / n[1]);
}

/* What ranks pairs: the base, the guided mixture, each reward model and that minus its reference. */
struct rankings {
    struct ranking base, guided;
    struct ranking *arms, *differences; /* [n_arms] */
    struct tally *rewards;              /* [n] of whole responses */
    double *values;                     /* [2, n] of one pair's responses */
    int64_t n, n_long, n_dropped;       /* pairs that are ranked, that do not fit, that say nothing */
    FILE *out;                          /* of --per-pair, or NULL */
};

int score_read_pairs(struct pair_list *pairs, const struct score_args *args, struct genarm_error *err) {
    const struct pref_params params = formats_from(&args->formats);
    int code = 0;
    for (size_t i = 0; i < args->pairs.n && code == 0; i++) {
        code = pairs_read(pairs, args->pairs.items[i], &params, err);
    }
    if (code == 0 && pairs->n == 0) {
        code = error_set(err, GENARM_EFORMAT, "none of %lld pairs can be used", (long long)pairs->n_read);
        code = error_hint(err, code, "genarm data says why");
    }
    return code;
}

static void rank_pair(struct rankings *r, const struct scores *chosen, const struct scores *rejected) {
    const double n[2] = {chosen->n > 0 ? (double)chosen->n : 1, rejected->n > 0 ? (double)rejected->n : 1};
    rank(&r->base, chosen->base, rejected->base, n);
    rank(&r->guided, chosen->guided, rejected->guided, n);
    for (size_t i = 0; i < chosen->n_arms; i++) {
        rank(&r->arms[i], chosen->arms[i], rejected->arms[i], n);
        rank(&r->differences[i], chosen->arms[i] - chosen->reference[i], rejected->arms[i] - rejected->reference[i], n);
    }
}

/* A pair that does not fit has rewards that are null. */
static int print_pair(const struct rankings *r, const struct reward_set *rewards, int64_t number, struct genarm_error *err) {
    json_t *record = json_pack("{s:I, s:o, s:o}", "index", (json_int_t)number, "chosen", rewards_json(rewards, r->values, 2),
                               "rejected", rewards_json(rewards, r->values + 1, 2));
    return print_json(r->out, record, err);
}

static int score_pair(struct rankings *r, const struct score_args *args, const struct scorers *s,
                      struct genarm_session *session, const struct pair *pair, struct genarm_error *err) {
    struct scores scores[2] = {0};
    struct genarm_message *messages = NULL;
    size_t n = 0;
    int code = pair_messages(&messages, &n, pair, args->system, err);
    const struct genarm_sample samples[] = {{messages, n, pair->preference.chosen, !args->open, NULL, 0},
                                            {messages, n, pair->preference.rejected, !args->open, NULL, 0}};
    if (code == 0) {
        code = rewards_compute(&s->rewards, samples, 2, r->values, err);
    }
    for (int side = 0; side < 2 && code == 0 && s->guided; side++) {
        code = scores_compute(&scores[side], &s->setup, &args->guide, session, &samples[side], err);
    }
    free(messages);
    if (code == 0 && s->guided) {
        rank_pair(r, &scores[0], &scores[1]);
    }
    for (size_t i = 0; i < s->rewards.n && code == 0; i++) {
        add(&r->rewards[i], r->values[2 * i], r->values[2 * i + 1]);
    }
    r->n += code == 0;
    scores_deinit(&scores[0]);
    scores_deinit(&scores[1]);
    if (code != GENARM_ECONTEXT) {
        return error_at(err, code, "%s", pair->where);
    }
    for (size_t k = 0; k < 2 * s->rewards.n; k++) {
        r->values[k] = NAN;
    }
    r->n_long++;
    return 0;
}

static json_t *tally_json(const struct tally *t, int64_t n) {
    const double counted = (double)(n - t->n_abstained);
    json_t *accuracy = counted > 0 ? json_rounded(t->right / counted, 6) : json_null();
    json_t *margin = counted > 0 ? json_rounded(t->margin / counted, 6) : json_null();
    json_t *abstained = t->n_abstained > 0 ? json_integer((json_int_t)t->n_abstained) : NULL;
    return json_pack("{s:o, s:o, s:o*}", "accuracy", accuracy, "margin", margin, "abstained", abstained);
}

static json_t *ranking_json(const struct ranking *r) {
    json_t *json = tally_json(&r->sums, r->n);
    json_object_set_new(json, "per_token", tally_json(&r->means, r->n));
    return json;
}

static json_t *rewards_ranking_json(const struct rankings *r, const struct reward_set *rewards) {
    json_t *object = json_object();
    for (size_t i = 0; i < rewards->n && object; i++) {
        json_object_set_new(object, rewards_name(rewards, i), tally_json(&r->rewards[i], r->n));
    }
    return object;
}

static json_t *rankings_json(const struct rankings *r, const struct scorers *s) {
    const struct setup *setup = &s->setup;
    json_t *record = json_pack("{s:I, s:I, s:I, s:o}", "pairs", (json_int_t)r->n, "too_long", (json_int_t)r->n_long,
                               "dropped", (json_int_t)r->n_dropped, "model", text_json(setup_model_name(setup)));
    if (record && s->rewards.n) {
        json_object_set_new(record, "trajectory", rewards_ranking_json(r, &s->rewards));
    }
    if (!record || !s->guided) {
        return record;
    }
    json_t *arms = json_object();
    for (size_t i = 0; i < setup->n_arms && arms; i++) {
        json_t *arm = ranking_json(&r->arms[i]);
        json_object_set_new(arm, "minus_reference", ranking_json(&r->differences[i]));
        json_object_set_new(arms, genarm_guide_arm_name(setup->guide, (int32_t)i), arm);
    }
    json_t *preferences = preferences_json(setup, NULL);
    if (preferences) {
        json_object_set_new(record, "preferences", preferences);
    }
    json_object_set_new(record, "base", ranking_json(&r->base));
    json_object_set_new(record, "arms", arms);
    json_object_set_new(record, "guided", ranking_json(&r->guided));
    return record;
}

static void print_ranking(const char *name, const char *suffix, const struct ranking *r) {
    char label[80];
    snprintf(label, sizeof label, "%s%s", name, suffix);
    const double n = (double)r->n;
    printf("%-32s%10.3f%12.3f%12.3f%12.3f\n", label, r->sums.right / n, r->sums.margin / n, r->means.right / n,
           r->means.margin / n);
}

static void print_rankings(const struct rankings *r, const struct setup *setup) {
    char heading[64];
    snprintf(heading, sizeof heading, "%lld pairs", (long long)r->base.n);
    printf("%-32s%22s%24s\n", "", "sum of tokens", "mean of tokens");
    printf("%-32s%10s%12s%12s%12s\n", heading, "accuracy", "margin", "accuracy", "margin");
    print_ranking("base", "", &r->base);
    for (size_t i = 0; i < setup->n_arms; i++) {
        const char *name = genarm_guide_arm_name(setup->guide, (int32_t)i);
        print_ranking(name, "", &r->arms[i]);
        if (setup->adapters[i]) {
            print_ranking(name, " - reference", &r->differences[i]);
        }
    }
    if (setup->n_arms) {
        print_ranking("guided", "", &r->guided);
    }
}

static void print_reward_rankings(const struct rankings *r, const struct reward_set *rewards) {
    char heading[64];
    snprintf(heading, sizeof heading, "%lld pairs, whole responses", (long long)r->n);
    printf("%-32s%10s%12s\n", heading, "accuracy", "margin");
    for (size_t i = 0; i < rewards->n; i++) {
        const struct tally *t = &r->rewards[i];
        const double n = (double)(r->n - t->n_abstained);
        if (n > 0) {
            printf("%-32s%10.3f%12.3f", rewards_name(rewards, i), t->right / n, t->margin / n);
        } else {
            printf("%-32s%10s%12s", rewards_name(rewards, i), "-", "-");
        }
        if (t->n_abstained) {
            printf("  without %lld pairs in which it abstained", (long long)t->n_abstained);
        }
        putchar('\n');
    }
}

static int score_all(struct rankings *r, const struct score_args *args, const struct scorers *s,
                     const struct pair_list *pairs, struct genarm_error *err) {
    struct genarm_session *session = NULL;
    struct progress progress;
    int code = s->guided ? genarm_session_new(&session, s->setup.guide, NULL, err) : 0;
    progress_start(&progress, "scoring", "pairs", (int64_t)pairs->n, 0);
    for (size_t i = 0; i < pairs->n && code == 0 && !interrupt_signal(); i++) {
        code = score_pair(r, args, s, session, &pairs->items[i], err);
        if (code == 0 && r->out) {
            code = print_pair(r, &s->rewards, pairs->items[i].number, err);
        }
        progress_update(&progress, (int64_t)i + 1, NULL);
    }
    progress_end(&progress);
    genarm_session_free(session);
    code = code == GENARM_ECANCELED && interrupt_signal() ? 0 : code; /* what was ranked before is shown */
    if (code == 0 && r->n == 0 && !interrupt_signal()) {
        code = error_hint(err, error_set(err, GENARM_ECONTEXT, "no pair fits into the context"), "raise it with -c");
    }
    if (code || interrupt_signal()) {
        return code;
    }
    code = rewards_finish(&s->rewards, err);
    return code ? code : rewards_check_refused(&s->rewards, err);
}

static int show_rankings(const struct rankings *r, const struct score_args *args, const struct scorers *s,
                         struct genarm_error *err) {
    if (r->n_long) {
        note("%lld pairs do not fit into the context and are left out", (long long)r->n_long);
    }
    if (r->n == 0) {
        return 0;
    }
    if (args->json) {
        return print_json(stdout, rankings_json(r, s), err);
    }
    if (s->guided) {
        print_rankings(r, &s->setup);
    }
    if (s->rewards.n) {
        print_reward_rankings(r, &s->rewards);
    }
    return 0;
}

/* With the records of --per-pair in their file, which appears when all are there. */
static int score_to_file(struct rankings *r, const struct score_args *args, const struct scorers *s,
                         const struct pair_list *pairs, struct genarm_error *err) {
    struct file_writer file;
    int code = file_open(&file, args->output, err);
    if (code) {
        return code;
    }
    r->out = file.stream;
    code = score_all(r, args, s, pairs, err);
    if (code == 0 && !interrupt_signal()) {
        return file_commit(&file, err);
    }
    file_abort(&file);
    return code;
}

int score_pairs(const struct score_args *args, const struct scorers *s, const struct pair_list *pairs, struct genarm_error *err) {
    struct rankings r = {.n_dropped = pairs->n_read - (int64_t)pairs->n};
    const size_t n_arms = s->setup.n_arms, n_rewards = s->rewards.n;
    r.arms = calloc(2 * n_arms + 1, sizeof *r.arms);
    r.rewards = calloc(n_rewards + 1, sizeof *r.rewards);
    r.values = calloc(2 * n_rewards + 1, sizeof *r.values);
    int code = r.arms && r.rewards && r.values ? 0 : error_nomem(err, "scores");
    if (code == 0) {
        r.differences = r.arms + n_arms;
        code = args->per_pair ? score_to_file(&r, args, s, pairs, err) : score_all(&r, args, s, pairs, err);
    }
    code = code ? code : show_rankings(&r, args, s, err);
    free(r.values);
    free(r.rewards);
    free(r.arms);
    return code;
}
