/* What a grammar costs a token: the mask of all tokens that it allows, with this library's automaton, the first time along an
 * answer and along the same answer again, and with libllama's grammar sampler, over the default model's vocabulary. Answers are
 * drawn evenly from what is allowed.
 *
 *     bench_grammar
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/progress.h"
#include "base/rng.h"
#include "guide/grammar.h"
#include "model/model.h"

enum { TOKENS = 200, ANSWERS = 5 };

static const struct {
    const char *name, *text;
} grammars[] = {
    {"json", "root   ::= object\n"
             "value  ::= object | array | string | number | (\"true\" | \"false\" | \"null\") ws\n"
             "object ::= \"{\" ws ( string \":\" ws value (\",\" ws string \":\" ws value)* )? \"}\" ws\n"
             "array  ::= \"[\" ws ( value (\",\" ws value)* )? \"]\" ws\n"
             "string ::= \"\\\"\" ( [^\"\\\\\\x7F\\x00-\\x1F] | \"\\\\\" ([\"\\\\bfnrt] | \"u\" [0-9a-fA-F]{4}) )* \"\\\"\" ws\n"
             "number ::= (\"-\"? ([0-9] | [1-9] [0-9]{0,15})) (\".\" [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws\n"
             "ws     ::= | \" \" | \"\\n\" [ \\t]{0,20}\n"},
    {"list", "root ::= (\"- \" [^\\n]+ \"\\n\")+\n"},
    {"choice", "root ::= \"yes\" | \"no\" | \"perhaps\"\n"},
    {"500 letters", "root ::= [a-zA-Z ,]{1,500} \".\"\n"},
};

/* Walks along answers, tokens[ANSWERS, TOKENS + 1], -1 after the last one; draws them first if `rng` is given. Seconds a mask. */
static double ours(struct genarm_grammar *g, const struct genarm_model *m, int32_t *tokens, struct rng *rng) {
    double seconds = 0;
    int n = 0;
    for (int a = 0; a < ANSWERS; a++) {
        int32_t state = GRAMMAR_START, *answer = tokens + a * (TOKENS + 1);
        for (int i = 0; i < TOKENS && (rng || answer[i] >= 0); i++) {
            const uint8_t *mask;
            const double start = clock_seconds();
            if (grammar_allowed(g, state, &mask, NULL) != GENARM_OK) {
                exit(1);
            }
            seconds += clock_seconds() - start;
            n++;
            for (int32_t t = 0, seen = 0; rng && t < m->hp.n_vocab; t++) {
                if ((mask[t / 8] >> (t % 8) & 1) && rng_uniform(rng) * ++seen < 1.0) {
                    answer[i] = t;
                }
            }
            if (grammar_advance(g, &state, answer[i], NULL) != GENARM_OK || genarm_token_ends(m, answer[i])) {
                break;
            }
        }
    }
    return seconds / n;
}

static double theirs(const struct genarm_model *m, const char *text, const int32_t *tokens) {
    llama_token_data *data = calloc((size_t)m->hp.n_vocab, sizeof *data);
    double seconds = 0;
    int n = 0;
    for (int a = 0; a < ANSWERS; a++) {
        struct llama_sampler *s = llama_sampler_init_grammar(m->vocab, text, "root");
        const int32_t *answer = tokens + a * (TOKENS + 1);
        for (int i = 0; i < TOKENS && answer[i] >= 0; i++) {
            for (int32_t t = 0; t < m->hp.n_vocab; t++) {
                data[t] = (llama_token_data){.id = t};
            }
            llama_token_data_array all = {data, (size_t)m->hp.n_vocab, -1, false};
            const double start = clock_seconds();
            llama_sampler_apply(s, &all);
            seconds += clock_seconds() - start;
            n++;
            if (genarm_token_ends(m, answer[i])) {
                break;
            }
            llama_sampler_accept(s, answer[i]);
        }
        llama_sampler_free(s);
    }
    free(data);
    return seconds / n;
}

int main(void) {
    struct genarm_error err = {0};
    struct genarm_model *m;
    if (genarm_model_load(&m, GENARM_MODEL_DIR "/SmolLM2-135M-Instruct-Q4_1.gguf", NULL, &err) != GENARM_OK) {
        fprintf(stderr, "%s: %s\n", err.where, err.what);
        return 1;
    }
    printf("%-14s %14s %14s %14s %10s\n", "us a token", "first time", "again", "libllama", "ratio");
    for (size_t i = 0; i < sizeof grammars / sizeof *grammars; i++) {
        struct genarm_grammar *g;
        struct rng rng;
        int32_t *tokens = malloc(sizeof *tokens * ANSWERS * (TOKENS + 1));
        if (!tokens || genarm_grammar_new(&g, m, grammars[i].text, &err) != GENARM_OK) {
            fprintf(stderr, "%s: %s\n", grammars[i].name, err.what);
            return 1;
        }
        memset(tokens, 0xFF, sizeof *tokens * ANSWERS * (TOKENS + 1));
        rng_seed(&rng, 1);
        const double first = ours(g, m, tokens, &rng), again = ours(g, m, tokens, NULL);
        const double libllama = theirs(m, grammars[i].text, tokens);
        printf("%-14s %14.1f %14.1f %14.1f %9.1fx\n", grammars[i].name, 1e6 * first, 1e6 * again, 1e6 * libllama,
               libllama / first);
        genarm_grammar_free(g);
        free(tokens);
    }
    genarm_model_free(m);
    return 0;
}
