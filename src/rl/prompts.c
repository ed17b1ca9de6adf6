#include "rl/prompts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "model/model.h"

enum { NAMED = 5 /* dropped prompts that the log names without being asked */ };

static void prompt_deinit(struct rl_prompt *p) {
    for (size_t i = 0; i < p->n_messages; i++) {
        free((char *)(uintptr_t)p->messages[i].role);
        free((char *)(uintptr_t)p->messages[i].content);
    }
    free(p->messages);
    free(p->where);
    free(p->tokens);
}

void rl_prompts_deinit(struct rl_prompts *p) {
    for (size_t i = 0; i < p->n; i++) {
        prompt_deinit(&p->items[i]);
    }
    free(p->items);
    *p = (struct rl_prompts){0};
}

static char *place(const struct genarm_rl_prompt *from, size_t index) {
    char text[32];
    snprintf(text, sizeof text, "prompt %zu", index + 1);
    return strdup(from->where ? from->where : text);
}

static int copy_prompt(struct rl_prompt *to, const struct genarm_rl_prompt *from, size_t index, struct genarm_error *err) {
    to->where = place(from, index);
    to->messages = calloc(from->n_messages ? from->n_messages : 1, sizeof *to->messages);
    bool ok = to->where && to->messages;
    for (; ok && to->n_messages < from->n_messages; to->n_messages++) {
        struct genarm_message *m = &to->messages[to->n_messages];
        *m = (struct genarm_message){strdup(from->messages[to->n_messages].role),
                                     strdup(from->messages[to->n_messages].content)};
        ok = m->role && m->content;
    }
    return ok ? GENARM_OK : error_nomem(err, "a prompt");
}

/* Takes over *prompt, or drops it. */
static void keep(struct rl_prompts *p, struct rl_prompt *prompt, int32_t max_tokens) {
    if (prompt->n_tokens > max_tokens) {
        const bool named = p->report.dropped_long++ < NAMED;
        log_line(named ? GENARM_LOG_INFO : GENARM_LOG_DEBUG, "%s: dropped: %d tokens leave no room for the response",
                 prompt->where, prompt->n_tokens);
        prompt_deinit(prompt);
        return;
    }
    p->longest = prompt->n_tokens > p->longest ? prompt->n_tokens : p->longest;
    p->hash = hash_u64(p->hash, (uint64_t)prompt->n_tokens);
    p->hash = hash_bytes(p->hash, prompt->tokens, (size_t)prompt->n_tokens * sizeof *prompt->tokens);
    p->items[p->n++] = *prompt;
    p->report.kept++;
}

int rl_prompts_init(struct rl_prompts *p, const struct genarm_model *model, const struct genarm_rl_prompt *prompts, size_t n,
                    const char *template_name, int32_t max_tokens, struct genarm_error *err) {
    *p = (struct rl_prompts){.hash = HASH_START, .items = calloc(n ? n : 1, sizeof *p->items)};
    int rc = p->items ? GENARM_OK : error_nomem(err, "prompts");
    for (size_t i = 0; i < n && rc == GENARM_OK; i++) {
        struct rl_prompt prompt = {0};
        rc = copy_prompt(&prompt, &prompts[i], i, err);
        if (rc == GENARM_OK) {
            rc = template_tokens(&prompt.tokens, &prompt.n_tokens, model, template_name, prompt.messages,
                                 prompt.n_messages, err);
            rc = error_at(err, rc, "%s", prompt.where);
        }
        if (rc != GENARM_OK) {
            prompt_deinit(&prompt);
            break;
        }
        p->report.read++;
        keep(p, &prompt, max_tokens);
    }
    if (rc == GENARM_OK && n == 0) {
        rc = error_hint(err, error_set(err, GENARM_EINVAL, "there is no prompt"), "give a file of prompts");
    }
    if (rc != GENARM_OK) {
        rl_prompts_deinit(p);
    }
    return rc;
}
