/* See scores.h. */
#include "scores.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "guide/answer.h"
#include "guide/guide.h"
#include "model/model.h"
#include "prefill.h"
#include "tell.h"
#include "terminal.h"

enum { TOKEN_TEXT_MAX = 1 << 20 };

/* ---- computing ---- */

struct collector {
    struct scores *scores;
    const struct genarm_model *model;
    struct text_tail tail;
    size_t max;
    struct genarm_error *err;
    int code;
};

/* The text that a token completes; a control token's is its spelling. */
static int token_text(char **out, struct collector *c, int32_t token, bool last) {
    struct buf text;
    char spelling[256];
    buf_init(&text, TOKEN_TEXT_MAX);
    int code = text_push_token(&c->tail, c->model, token, &text, c->err);
    if (code == 0 && last) {
        code = text_end(&c->tail, &text, c->err);
    }
    if (code == 0 && text.len == 0 && c->tail.n == 0) {
        int32_t n = genarm_token_bytes(c->model, token, true, spelling, sizeof spelling);
        struct text_tail whole = {0}; /* nothing says that a spelling is UTF-8 */
        code = n > 0 ? text_push(&whole, spelling, (size_t)n, &text, c->err) : 0;
        code = code ? code : text_end(&whole, &text, c->err);
    }
    if (code == 0) {
        *out = strdup(text.data ? text.data : "");
        code = *out ? 0 : error_nomem(c->err, "scores");
    }
    buf_deinit(&text);
    return code;
}

static int collect(const struct genarm_token_score *score, void *user) {
    struct collector *c = user;
    struct scores *s = c->scores;
    struct scored_token *t = &s->tokens[s->n];
    t->arms = calloc(2 * s->n_arms + 1, sizeof *t->arms);
    if (!t->arms) {
        c->code = error_nomem(c->err, "scores");
        return 1;
    }
    t->reference = t->arms + s->n_arms;
    t->id = score->token;
    t->base = score->base;
    t->guided = score->guided;
    s->base += (double)score->base;
    s->guided += (double)score->guided;
    for (size_t i = 0; i < s->n_arms; i++) {
        t->arms[i] = score->arms[i];
        t->reference[i] = score->reference[i];
        s->arms[i] += (double)score->arms[i];
        s->reference[i] += (double)score->reference[i];
    }
    s->n++;
    c->code = token_text(&t->text, c, score->token, s->n == c->max);
    return c->code;
}

/* All that is longer than a pass is evaluated before, in pieces. */
static int prefill(struct genarm_session *session, const struct guide_args *args, struct genarm_error *err) {
    int32_t left;
    int code = genarm_session_keep_logprobs(session, 0, err); /* every part is scored, whatever it weighs */
    code = code ? code : prefill_prompt(session, args, args->n_batch, &left, err);
    return code == 0 && interrupt_signal() ? error_set(err, GENARM_ECANCELED, "scoring was stopped") : code;
}

int scores_compute(struct scores *out, const struct setup *setup, const struct guide_args *args, struct genarm_session *session,
                   const struct genarm_sample *sample, struct genarm_error *err) {
    struct scores s = {.n_arms = setup->n_arms};
    struct collector c = {.scores = &s, .model = setup->base, .err = err};
    int32_t *tokens = NULL, n_tokens = 0;
    int code = response_tokens(&tokens, &n_tokens, setup->base, setup->guide->policies[0].template_name, sample->messages,
                               sample->n_messages, sample->response, sample->finished, err);
    code = code ? code : genarm_session_prompt(session, sample->messages, sample->n_messages, err);
    const size_t n = (size_t)n_tokens;
    c.max = n;
    s.tokens = calloc(n + 1, sizeof *s.tokens);
    s.arms = calloc(2 * s.n_arms + 1, sizeof *s.arms);
    if (code == 0 && (!s.tokens || !s.arms)) {
        code = error_nomem(err, "scores");
    }
    if (code == 0) {
        s.reference = s.arms + s.n_arms;
        code = prefill(session, args, err);
    }
    if (code == 0) {
        code = genarm_session_score(session, tokens, n, collect, &c, err);
    }
    free(tokens);
    if (code || c.code) {
        scores_deinit(&s);
        return c.code ? c.code : code;
    }
    *out = s;
    return 0;
}

void scores_deinit(struct scores *s) {
    for (size_t i = 0; i < s->n; i++) {
        free(s->tokens[i].text);
        free(s->tokens[i].arms);
    }
    free(s->tokens);
    free(s->arms);
    *s = (struct scores){0};
}

/* ---- showing ---- */

static const char *arm_name(const struct setup *setup, size_t i) {
    return genarm_guide_arm_name(setup->guide, (int32_t)i);
}

static json_t *by_name(const struct setup *setup, const float *values, const double *sums) {
    json_t *object = json_object();
    for (size_t i = 0; i < setup->n_arms && object; i++) {
        json_object_set_new(object, arm_name(setup, i), json_rounded(values ? (double)values[i] : sums[i], 6));
    }
    return object;
}

json_t *scores_json(const struct scores *s, const struct setup *setup) {
    json_t *list = json_array();
    for (size_t i = 0; i < s->n && list; i++) {
        const struct scored_token *t = &s->tokens[i];
        json_t *token = json_pack("{s:i, s:s, s:o, s:o, s:o, s:o}", "id", (int)t->id, "text", t->text, "base",
                                  json_rounded((double)t->base, 6), "arms", by_name(setup, t->arms, NULL), "reference",
                                  by_name(setup, t->reference, NULL), "guided", json_rounded((double)t->guided, 6));
        if (!token || json_array_append_new(list, token) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "tokens", list, "base", json_rounded(s->base, 6), "rewards",
                     by_name(setup, NULL, s->arms), "references", by_name(setup, NULL, s->reference), "guided",
                     json_rounded(s->guided, 6));
}

/* Characters of valid UTF-8. */
static int n_characters(const char *text) {
    int n = 0;
    for (; *text; text++) {
        n += ((unsigned char)*text & 0xC0) != 0x80;
    }
    return n;
}

/* A cell of text, quoted as in JSON. */
static void print_text(FILE *out, const char *text, int width) {
    json_t *value = json_string(text);
    char *quoted = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
    const char *shown = quoted ? quoted : "";
    fprintf(out, "%s%*s", shown, width - n_characters(shown) > 0 ? width - n_characters(shown) : 0, "");
    free(quoted);
    json_decref(value);
}

enum { TEXT_WIDTH = 20, NUMBER_WIDTH = 10 };

static int column_width(const char *name) {
    int n = n_characters(name) + 2;
    return n > NUMBER_WIDTH ? n : NUMBER_WIDTH;
}

static void print_row(FILE *out, const struct setup *setup, double base, const float *arms, const float *reference,
                      const double *arm_sums, const double *reference_sums, double guided) {
    fprintf(out, "%*.3f", NUMBER_WIDTH, base);
    for (size_t i = 0; i < setup->n_arms; i++) {
        fprintf(out, "%*.3f%*.3f", column_width(arm_name(setup, i)), arms ? (double)arms[i] : arm_sums[i],
                NUMBER_WIDTH + 1, reference ? (double)reference[i] : reference_sums[i]);
    }
    fprintf(out, "%*.3f\n", NUMBER_WIDTH, guided);
}

void scores_print_table(FILE *out, const struct scores *s, const struct setup *setup) {
    fprintf(out, "%-*s%*s", TEXT_WIDTH, "token", NUMBER_WIDTH, "base");
    for (size_t i = 0; i < s->n_arms; i++) {
        fprintf(out, "%*s%s%*s", column_width(arm_name(setup, i)) - n_characters(arm_name(setup, i)), "",
                arm_name(setup, i), NUMBER_WIDTH + 1, "reference");
    }
    fprintf(out, "%*s\n", NUMBER_WIDTH, "guided");
    for (size_t i = 0; i < s->n; i++) {
        const struct scored_token *t = &s->tokens[i];
        print_text(out, t->text, TEXT_WIDTH);
        print_row(out, setup, (double)t->base, t->arms, t->reference, NULL, NULL, (double)t->guided);
    }
    fprintf(out, "%-*s", TEXT_WIDTH, "sum");
    print_row(out, setup, s->base, NULL, NULL, s->arms, s->reference, s->guided);
}

/* Backgrounds of xterm's 256 colours from orange (the reward model likes it less) to blue (more), told apart without
 * red and green; each step is half a nat. */
static const int shades[] = {208, 215, 223, 0, 153, 111, 75};
enum { N_SHADES = sizeof shades / sizeof *shades, NEUTRAL = N_SHADES / 2 };
static const double shade_step = 0.5;

static void set_shade(FILE *out, int shade) {
    if (shades[shade]) {
        fprintf(out, "\033[48;5;%dm\033[38;5;16m", shades[shade]);
    }
}

static int shade_of(double difference) {
    double steps = difference / shade_step;
    int shade = NEUTRAL + (int)(steps < -NEUTRAL ? -NEUTRAL : steps > NEUTRAL ? NEUTRAL : steps);
    return shade;
}

/* One token on its background; a newline is shown and made. */
static void print_shaded(FILE *out, const char *text, int shade) {
    set_shade(out, shade);
    for (; *text; text++) {
        if (*text == '\n') {
            fprintf(out, "↵\033[0m\n"), set_shade(out, shade);
        } else if ((unsigned char)*text < 0x20 && *text != '\t') {
            fputc('?', out);
        } else {
            fputc(*text, out);
        }
    }
    fprintf(out, "\033[0m");
}

static void print_legend(FILE *out, bool has_reference) {
    fprintf(out, "log pi_ARM - log pi_%s in nats: ", has_reference ? "reference" : "base");
    for (int i = 0; i < N_SHADES; i++) {
        set_shade(out, i);
        fprintf(out, " %s%+.1f \033[0m", i == 0 ? "<" : i == N_SHADES - 1 ? ">" : "", (i - NEUTRAL) * shade_step);
    }
    fprintf(out, "\n");
}

void scores_print_colored(FILE *out, const struct scores *s, const struct setup *setup) {
    for (size_t a = 0; a < s->n_arms; a++) {
        bool has_reference = setup->adapters[a] != NULL;
        double reference = has_reference ? s->reference[a] : s->base;
        fprintf(out, "%s\033[1m%s\033[0m  reward %.2f, %s %.2f, difference %+.2f\n", a ? "\n" : "", arm_name(setup, a),
                s->arms[a], has_reference ? "reference" : "base", reference, s->arms[a] - reference);
        for (size_t i = 0; i < s->n; i++) {
            const struct scored_token *t = &s->tokens[i];
            print_shaded(out, t->text, shade_of((double)(t->arms[a] - (has_reference ? t->reference[a] : t->base))));
        }
        fprintf(out, "\n");
        print_legend(out, has_reference);
    }
    fprintf(out, "%s%zu tokens: base %.2f, guided %.2f\n", s->n_arms ? "\n" : "", s->n, s->base, s->guided);
}
