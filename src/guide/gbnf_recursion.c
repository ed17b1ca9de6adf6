/* Left recursion: rules that can call themselves before a character, on which the automaton's stacks would grow without end; and
 * rules that never end. */
#include <stdlib.h>

#include "guide/gbnf.h"

/* Whether the alternative at `e` can be empty, given which rules can. */
static bool may_be_empty(const struct gbnf *g, int32_t e, const bool *empty) {
    while (g->elements[e].kind == ELEMENT_RULE && empty[g->elements[e].value]) {
        e++;
    }
    return element_ends(&g->elements[e]);
}

static void find_empty(const struct gbnf *g, bool *empty) {
    for (bool changed = true; changed;) {
        changed = false;
        for (int32_t r = 0; r < g->n_rules; r++) {
            for (int32_t e = g->starts[r]; !empty[r]; e++) {
                empty[r] = may_be_empty(g, e, empty);
                changed = changed || empty[r];
                while (!element_ends(&g->elements[e])) {
                    e++;
                }
                if (g->elements[e].kind == ELEMENT_END) {
                    break;
                }
            }
        }
    }
}

/* The next rule that rule r can call before any character, from *e on; -1: none. A last call of itself is none: what it does to
 * a stack is nothing. */
static int32_t next_left_call(const struct gbnf *g, int32_t r, int32_t *e, bool *leading, const bool *empty) {
    for (;; ++*e) {
        const struct element *x = &g->elements[*e];
        if (x->kind == ELEMENT_END) {
            return -1;
        }
        if (x->kind == ELEMENT_OR) {
            *leading = true;
        } else if (x->kind == ELEMENT_CLASS) {
            *leading = false;
        } else if (*leading) {
            *leading = empty[x->value];
            if (x->value != r || !element_ends(x + 1)) {
                ++*e;
                return x->value;
            }
        }
    }
}

struct visit {
    int32_t rule, at;
    bool leading;
};

/* Looks for a cycle of calls before any character. Returns a rule on it, -1 if there is none. */
static int32_t find_cycle(const struct gbnf *g, const bool *empty, char *color, struct visit *stack) {
    enum { NEW, OPEN, DONE };
    for (int32_t r = 0; r < g->n_rules; r++) {
        int32_t n = 0;
        if (color[r] == NEW) {
            stack[n++] = (struct visit){r, g->starts[r], true};
            color[r] = OPEN;
        }
        while (n > 0) {
            struct visit *v = &stack[n - 1];
            const int32_t next = next_left_call(g, v->rule, &v->at, &v->leading, empty);
            if (next < 0) {
                color[v->rule] = DONE;
                n--;
            } else if (color[next] == OPEN) {
                return next;
            } else if (color[next] == NEW) {
                stack[n++] = (struct visit){next, g->starts[next], true};
                color[next] = OPEN;
            }
        }
    }
    return -1;
}

int gbnf_left_recursive(const struct gbnf *g, int32_t *rule, struct genarm_error *err) {
    const size_t n = (size_t)g->n_rules;
    bool *empty = calloc(n + 1, sizeof *empty);
    char *color = calloc(n + 1, sizeof *color);
    struct visit *stack = calloc(n + 1, sizeof *stack);
    const int rc = empty && color && stack ? GENARM_OK : error_nomem(err, "a grammar");
    if (rc == GENARM_OK) {
        find_empty(g, empty);
        *rule = find_cycle(g, empty, color, stack);
    }
    free(stack);
    free(color);
    free(empty);
    return rc;
}

/* Whether an alternative of rule r calls only rules that can end. */
static bool may_finish(const struct gbnf *g, int32_t r, const bool *ends) {
    bool fine = true;
    for (int32_t e = g->starts[r];; e++) {
        const struct element *x = &g->elements[e];
        if (element_ends(x)) {
            if (fine || x->kind == ELEMENT_END) {
                return fine;
            }
            fine = true;
        } else if (x->kind == ELEMENT_RULE && !ends[x->value]) {
            fine = false;
        }
    }
}

/* Marks the rules that the root comes to; todo[n_rules]. */
static void find_reached(const struct gbnf *g, bool *reached, int32_t *todo) {
    int32_t n = 0;
    reached[g->root] = true;
    todo[n++] = g->root;
    while (n > 0) {
        for (int32_t e = g->starts[todo[--n]];; e++) {
            const struct element *x = &g->elements[e];
            if (x->kind == ELEMENT_END) {
                break;
            }
            if (x->kind == ELEMENT_RULE && !reached[x->value]) {
                reached[x->value] = true;
                todo[n++] = x->value;
            }
        }
    }
}

int gbnf_endless(const struct gbnf *g, bool *endless, struct genarm_error *err) {
    const size_t n = (size_t)g->n_rules;
    bool *ends = calloc(n + 1, sizeof *ends), *reached = calloc(n + 1, sizeof *reached);
    int32_t *todo = calloc(n + 1, sizeof *todo);
    const int rc = ends && reached && todo ? GENARM_OK : error_nomem(err, "a grammar");
    for (bool changed = rc == GENARM_OK; changed;) {
        changed = false;
        for (int32_t r = g->n_rules - 1; r >= 0; r--) {
            const bool now = !ends[r] && may_finish(g, r, ends);
            ends[r] = ends[r] || now;
            changed = changed || now;
        }
    }
    if (rc == GENARM_OK) {
        find_reached(g, reached, todo);
        *endless = false;
        for (size_t r = 0; r < n; r++) {
            *endless = *endless || (reached[r] && !ends[r]);
        }
    }
    free(todo);
    free(reached);
    free(ends);
    return rc;
}
