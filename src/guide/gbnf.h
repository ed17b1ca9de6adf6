/* The rules of a grammar, read from GBNF (llama.cpp's notation). Read and checked here because libllama prints what is wrong to
 * stderr, and stops the process on some of it.
 *
 * A rule is its alternatives one after the other, in one array of elements that the automaton's stacks point into. Groups and
 * repetitions are rules without a name: x* is R ::= x R | nothing, x{0,2} is R2 ::= x R1 | nothing, R1 ::= x | nothing. */
#ifndef GUIDE_GBNF_H
#define GUIDE_GBNF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum element_kind {
    ELEMENT_END,  /* of an alternative and of its rule */
    ELEMENT_OR,   /* of an alternative; another one follows */
    ELEMENT_RULE, /* value: index of the rule */
    ELEMENT_CLASS /* value: index of the class: one character */
};

struct element {
    enum element_kind kind;
    int32_t value;
};

struct char_range {
    uint32_t low, high; /* code points, both belong to it */
};

struct char_class {
    int32_t first, n; /* ranges; of none and negated: any character */
    bool negated;     /* all characters but those */
};

struct gbnf {
    struct element *elements;
    int32_t *starts; /* [n_rules] where a rule's alternatives start in elements */
    struct char_class *classes;
    struct char_range *ranges;
    int32_t n_elements, n_rules, n_classes, n_ranges, root;
};

/* GENARM_EFORMAT says "line L, column C" and why. Rules that can call themselves before a character are refused. */
int gbnf_parse(struct gbnf *out, const char *text, struct genarm_error *err);
void gbnf_deinit(struct gbnf *g);

/* *rule: one that can call itself before a character; -1: none can. */
int gbnf_left_recursive(const struct gbnf *g, int32_t *rule, struct genarm_error *err);

/* *endless: a rule that the root comes to can never end, because it calls itself on every way. */
int gbnf_endless(const struct gbnf *g, bool *endless, struct genarm_error *err);

/* Whether a class has a character of [low, high]. */
bool class_meets(const struct gbnf *g, int32_t class_index, uint32_t low, uint32_t high);
bool class_covers(const struct gbnf *g, int32_t class_index, uint32_t low, uint32_t high); /* has all of them */

static inline bool element_ends(const struct element *e) { return e->kind == ELEMENT_END || e->kind == ELEMENT_OR; }

#endif
