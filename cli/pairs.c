/* See pairs.h. */
#include "pairs.h"

#include <stdlib.h>
#include <string.h>

#include "tell.h"

/* Takes *p over, also on failure; leaves a zeroed one. */
static int append(struct pair_list *list, struct preference *p, const struct pref_reader *reader, struct genarm_error *err) {
    const int64_t number = list->n_read + pref_counts(reader)->read - 1;
    struct pair pair = {.preference = *p, .where = strdup(pref_where(reader)), .number = number};
    struct pair *items = list->items;
    *p = (struct preference){0};
    if ((list->n & (list->n - 1)) == 0) { /* full: the capacity is the next power of two */
        items = realloc(items, sizeof *items * (list->n ? 2 * list->n : 1));
    }
    if (items) {
        list->items = items;
    }
    if (!items || !pair.where) {
        preference_deinit(&pair.preference);
        free(pair.where);
        return error_nomem(err, "pairs");
    }
    list->items[list->n++] = pair;
    return 0;
}

static void say_counts(const char *path, const struct pref_counts *c) {
    if (c->kept < c->read) {
        note("%s: %lld of %lld pairs are used", path, (long long)c->kept, (long long)c->read);
    }
    for (int i = 0; i < PREF_N_DROPS; i++) {
        if (c->n[i]) {
            note("dropped: %s in %lld", pref_reason_text((enum pref_reason)i), (long long)c->n[i]);
        }
    }
}

int pairs_read(struct pair_list *list, const char *path, const struct pref_params *params, struct genarm_error *err) {
    struct pref_reader *reader = NULL;
    struct preference *p;
    int code = pref_open(&reader, path, params, err);
    while (code == 0 && (code = pref_next(reader, &p, err)) > 0) {
        code = append(list, p, reader, err);
    }
    if (code == 0) {
        say_counts(path, pref_counts(reader));
        list->n_read += pref_counts(reader)->read;
    }
    pref_close(reader);
    return code;
}

void pairs_free(struct pair_list *list) {
    for (size_t i = 0; i < list->n; i++) {
        preference_deinit(&list->items[i].preference);
        free(list->items[i].where);
    }
    free(list->items);
    *list = (struct pair_list){0};
}

int pair_messages(struct genarm_message **out, size_t *n, const struct pair *pair, const char *system,
                  struct genarm_error *err) {
    const struct preference *p = &pair->preference;
    struct genarm_message *messages = calloc(p->n_messages + 1, sizeof *messages);
    if (!messages) {
        return error_nomem(err, "a prompt");
    }
    *n = 0;
    if (system && *system && strcmp(p->messages[0].role, "system") != 0) {
        messages[(*n)++] = (struct genarm_message){"system", system};
    }
    for (size_t i = 0; i < p->n_messages; i++) {
        messages[(*n)++] = (struct genarm_message){p->messages[i].role, p->messages[i].content};
    }
    *out = messages;
    return 0;
}
