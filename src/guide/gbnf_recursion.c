/* Left recursion: rules that can call themselves before a character, on which the automaton's stacks would grow without end; and
 * rules that never end. */
#include <stdlib.h>
#include <string.h>

#include "guide/gbnf.h"

/* Alternatives, each under the index of the element that ends it, and where rules are called. */
struct calls {
    int32_t *rule, *missing; /* [n_elements] of an alternative: whose it is, and calls of rules that are not marked; -1: never */
    int32_t *end, *next;     /* [n_elements] of a call: the end of its alternative, and the next call of that rule */
    int32_t *first, *todo;   /* [n_rules] the first call of a rule, rules that were marked */
    int32_t n_todo;
};

static void add_alternative(struct calls *k, const struct gbnf *g, int32_t r, int32_t start, int32_t end, bool characters,
                            bool *marked) {
    k->rule[end] = r;
    for (int32_t e = start; e < end; e++) {
        const struct element *x = &g->elements[e];
        if (x->kind == ELEMENT_RULE) {
            k->missing[end] += k->missing[end] >= 0;
            k->end[e] = end;
            k->next[e] = k->first[x->value];
            k->first[x->value] = e;
        } else if (!characters) {
            k->missing[end] = -1;
        }
    }
    if (k->missing[end] == 0 && !marked[r]) {
        marked[r] = true;
        k->todo[k->n_todo++] = r;
    }
}

/* Marks the rules that have an alternative of marked rules only, and of `characters` if those may be in it. */
static int mark(const struct gbnf *g, bool characters, bool *marked, struct genarm_error *err) {
    const size_t n_elements = (size_t)g->n_elements, n_rules = (size_t)g->n_rules;
    int32_t *all = calloc(4 * n_elements + 2 * n_rules + 1, sizeof *all);
    if (!all) {
        return error_nomem(err, "a grammar");
    }
    struct calls k = {all, all + n_elements, all + 2 * n_elements, all + 3 * n_elements, all + 4 * n_elements,
                      all + 4 * n_elements + n_rules, 0};
    memset(k.first, 0xFF, n_rules * sizeof *k.first);
    for (int32_t r = 0; r < g->n_rules; r++) {
        for (int32_t start = g->starts[r], e = start;; e++) {
            if (element_ends(&g->elements[e])) {
                add_alternative(&k, g, r, start, e, characters, marked);
                start = e + 1;
            }
            if (g->elements[e].kind == ELEMENT_END) {
                break;
            }
        }
    }
    while (k.n_todo > 0) {
        for (int32_t e = k.first[k.todo[--k.n_todo]]; e >= 0; e = k.next[e]) {
            const int32_t end = k.end[e], r = k.rule[end];
            if (k.missing[end] > 0 && --k.missing[end] == 0 && !marked[r]) {
                marked[r] = true;
                k.todo[k.n_todo++] = r;
            }
        }
    }
    free(all);
    return GENARM_OK;
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
    int rc = empty && color && stack ? GENARM_OK : error_nomem(err, "a grammar");
    rc = rc == GENARM_OK ? mark(g, false, empty, err) : rc;
    if (rc == GENARM_OK) {
        *rule = find_cycle(g, empty, color, stack);
    }
    free(stack);
    free(color);
    free(empty);
    return rc;
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
    int rc = ends && reached && todo ? GENARM_OK : error_nomem(err, "a grammar");
    rc = rc == GENARM_OK ? mark(g, true, ends, err) : rc;
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
