#include "guide/grammar.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "guide/gbnf.h"
#include "model/model.h"

/* Beyond WAYS_MAX a grammar can be read in so many ways at once that it would never end. Beyond the others it is full. */
enum { STACKS_MAX = 1 << 20, STATES_MAX = 1 << 16, WAYS_MAX = 1 << 12, MASKS_MAX = 256 };

/* What is still to come: an element, a class or the call of a rule, and then another stack. 0 is the empty one: all is there. */
struct stack {
    int32_t element, below;
};

/* A character of which bytes are missing. Where it does not matter any more which one it becomes, because all of its stacks take
 * any, it has neither value nor size: a state for each would be many, at every place of a text whose length is counted. */
struct partial {
    uint32_t value;        /* bits so far */
    uint8_t missing, size; /* bytes; size 0: any character will do */
};

struct state {
    int32_t first, n; /* stacks: ways[first, first + n), ascending, each 0 or on a class */
    struct partial partial;
    int32_t *next;    /* [256] states by byte, -1: not known yet; NULL: none is */
    uint8_t *allowed; /* mask of tokens; NULL: not known */
};

/* Indices by the hash of what they stand for; open addressing, 0: free. */
struct index {
    int32_t *slots; /* [n_slots] a power of two */
    size_t n_slots;
};

struct genarm_grammar {
    pthread_mutex_t mutex;
    const struct genarm_model *model;
    struct gbnf rules;
    const struct words *words; /* of the model */

    struct stack *stacks;
    int32_t *stamps; /* [max_stacks] of the last walk that saw the stack */
    int32_t n_stacks, max_stacks, stamp;
    struct index stack_index;

    struct state *states;
    int32_t n_states, max_states;
    struct index state_index;
    int32_t *ways;
    int32_t n_ways, max_ways;

    int32_t *found; /* [WAYS_MAX] stacks of a state in the making */
    int32_t n_found;
    int32_t *todo; /* [WAYS_MAX] */
    int32_t *path; /* [words.longest + 1] states along a token */
    int32_t n_masks;
    uint32_t generation;
};

static int too_ambiguous(struct genarm_error *err) {
    const int rc = error_set(err, GENARM_EINVAL, "the grammar can be read in too many ways at once");
    return error_hint(err, rc, "make its rules less ambiguous, and its repetitions shorter");
}

/* Grows an array to room for n items. */
static void *room(void *items, int32_t n, int32_t *max, size_t size, int *rc, struct genarm_error *err) {
    if (*rc != GENARM_OK || n <= *max) {
        return items;
    }
    const int32_t wanted = n < 2 * *max ? 2 * *max : n + 64;
    void *bigger = realloc(items, (size_t)wanted * size);
    if (!bigger) {
        *rc = error_nomem(err, "a grammar");
        return items;
    }
    *max = wanted;
    return bigger;
}

/* ---- stacks, each kept once ---- */

static uint64_t stack_hash(const struct stack *s) {
    return hash_u64(HASH_START, (uint64_t)(uint32_t)s->element << 32 | (uint32_t)s->below);
}

/* Room for one more entry than n, keeping a quarter free; `hash_of` gives that of entry i. */
static int index_reserve(struct index *index, int32_t n, uint64_t (*hash_of)(const struct genarm_grammar *, int32_t),
                         const struct genarm_grammar *g, struct genarm_error *err) {
    if ((size_t)n + 1 <= index->n_slots / 4 * 3) {
        return GENARM_OK;
    }
    const size_t n_slots = index->n_slots ? 2 * index->n_slots : 256;
    int32_t *slots = calloc(n_slots, sizeof *slots);
    if (!slots) {
        return error_nomem(err, "a grammar");
    }
    for (int32_t i = 1; i < n; i++) { /* entry 0 is not looked up */
        size_t slot = hash_of(g, i) & (n_slots - 1);
        while (slots[slot]) {
            slot = (slot + 1) & (n_slots - 1);
        }
        slots[slot] = i;
    }
    free(index->slots);
    *index = (struct index){slots, n_slots};
    return GENARM_OK;
}

static uint64_t hash_of_stack(const struct genarm_grammar *g, int32_t i) { return stack_hash(&g->stacks[i]); }

/* The stack on which an element, which may be the end of its alternative, comes next. Negative: an error. */
static int32_t push(struct genarm_grammar *g, int32_t element, int32_t below, struct genarm_error *err) {
    if (element_ends(&g->rules.elements[element])) {
        return below;
    }
    const struct stack s = {element, below};
    int rc = index_reserve(&g->stack_index, g->n_stacks, hash_of_stack, g, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    size_t slot = stack_hash(&s) & (g->stack_index.n_slots - 1);
    for (; g->stack_index.slots[slot]; slot = (slot + 1) & (g->stack_index.n_slots - 1)) {
        const struct stack *known = &g->stacks[g->stack_index.slots[slot]];
        if (known->element == element && known->below == below) {
            return g->stack_index.slots[slot];
        }
    }
    if (g->n_stacks == STACKS_MAX) {
        return GRAMMAR_FULL;
    }
    int32_t max_stamps = g->max_stacks;
    g->stamps = room(g->stamps, g->n_stacks + 1, &max_stamps, sizeof *g->stamps, &rc, err);
    g->stacks = room(g->stacks, g->n_stacks + 1, &g->max_stacks, sizeof *g->stacks, &rc, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    g->stacks[g->n_stacks] = s;
    g->stamps[g->n_stacks] = -1;
    return g->stack_index.slots[slot] = g->n_stacks++;
}

/* Puts a stack on a list unless this walk saw it. */
static int add_way(struct genarm_grammar *g, int32_t *list, int32_t *n, int32_t stack, bool once, struct genarm_error *err) {
    if (stack < 0) {
        return stack;
    }
    if (once && g->stamps[stack] == g->stamp) {
        return GENARM_OK;
    }
    if (*n == WAYS_MAX) {
        return too_ambiguous(err);
    }
    g->stamps[stack] = g->stamp;
    list[(*n)++] = stack;
    return GENARM_OK;
}

/* Adds to g->found what a stack comes to when calls are followed: stacks on a class, and the empty one. */
static int expand(struct genarm_grammar *g, int32_t stack, struct genarm_error *err) {
    int32_t n = 0;
    int rc = add_way(g, g->todo, &n, stack, true, err);
    while (rc == GENARM_OK && n > 0) {
        const int32_t top = g->todo[--n];
        const struct stack s = g->stacks[top];
        const struct element *e = top ? &g->rules.elements[s.element] : NULL;
        if (!e || e->kind == ELEMENT_CLASS) {
            rc = add_way(g, g->found, &g->n_found, top, false, err);
            continue;
        }
        const int32_t below = push(g, s.element + 1, s.below, err); /* a last call leaves nothing behind */
        rc = below < 0 ? below : GENARM_OK;
        for (int32_t alternative = g->rules.starts[e->value]; rc == GENARM_OK; alternative++) {
            rc = add_way(g, g->todo, &n, push(g, alternative, below, err), true, err);
            while (!element_ends(&g->rules.elements[alternative])) {
                alternative++;
            }
            if (g->rules.elements[alternative].kind == ELEMENT_END) {
                break;
            }
        }
    }
    return rc;
}

/* ---- states, each kept once ---- */

static uint64_t ways_hash(const int32_t *ways, int32_t n, struct partial p) {
    const uint64_t hash = hash_bytes(HASH_START, ways, (size_t)n * sizeof *ways);
    return hash_u64(hash, (uint64_t)p.value << 16 | (uint64_t)p.missing << 8 | p.size);
}

static uint64_t hash_of_state(const struct genarm_grammar *g, int32_t i) {
    return ways_hash(g->ways + g->states[i].first, g->states[i].n, g->states[i].partial);
}

static bool is_state(const struct genarm_grammar *g, int32_t i, struct partial p) {
    const struct state *s = &g->states[i];
    return s->n == g->n_found && memcmp(g->ways + s->first, g->found, (size_t)s->n * sizeof *g->found) == 0 &&
           s->partial.value == p.value && s->partial.missing == p.missing && s->partial.size == p.size;
}

static int compare(const void *a, const void *b) {
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* The state of the stacks in g->found. Negative: an error. */
static int32_t state_of(struct genarm_grammar *g, struct partial p, struct genarm_error *err) {
    if (g->n_found == 0 && g->n_states > GRAMMAR_DEAD) {
        return GRAMMAR_DEAD;
    }
    qsort(g->found, (size_t)g->n_found, sizeof *g->found, compare);
    int rc = index_reserve(&g->state_index, g->n_states, hash_of_state, g, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    size_t slot = ways_hash(g->found, g->n_found, p) & (g->state_index.n_slots - 1);
    for (; g->state_index.slots[slot]; slot = (slot + 1) & (g->state_index.n_slots - 1)) {
        if (is_state(g, g->state_index.slots[slot], p)) {
            return g->state_index.slots[slot];
        }
    }
    if (g->n_states == STATES_MAX) {
        return GRAMMAR_FULL;
    }
    g->states = room(g->states, g->n_states + 1, &g->max_states, sizeof *g->states, &rc, err);
    g->ways = room(g->ways, g->n_ways + g->n_found, &g->max_ways, sizeof *g->ways, &rc, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    g->states[g->n_states] = (struct state){.first = g->n_ways, .n = g->n_found, .partial = p};
    if (g->n_found) {
        memcpy(g->ways + g->n_ways, g->found, (size_t)g->n_found * sizeof *g->found);
    }
    g->n_ways += g->n_found;
    if (g->n_states > GRAMMAR_DEAD) {
        g->state_index.slots[slot] = g->n_states;
    }
    return g->n_states++;
}

static void begin_state(struct genarm_grammar *g) {
    g->n_found = 0;
    g->stamp++;
}

static int32_t class_of(const struct genarm_grammar *g, int32_t stack) {
    return g->rules.elements[g->stacks[stack].element].value;
}

/* After a whole character, or any that the stacks take. */
static int32_t after_character(struct genarm_grammar *g, int32_t state, uint32_t c, bool any, struct genarm_error *err) {
    int rc = GENARM_OK;
    begin_state(g);
    for (int32_t i = 0; i < g->states[state].n && rc == GENARM_OK; i++) {
        const int32_t stack = g->ways[g->states[state].first + i];
        if (stack && (any || class_meets(&g->rules, class_of(g, stack), c, c))) {
            const int32_t rest = push(g, g->stacks[stack].element + 1, g->stacks[stack].below, err);
            rc = rest < 0 ? rest : expand(g, rest, err);
        }
    }
    return rc == GENARM_OK ? state_of(g, (struct partial){0}, err) : rc;
}

/* After a part of a character, which can become one of [low, high]; of all of them, if `full`. */
static int32_t after_part(struct genarm_grammar *g, int32_t state, struct partial p, uint32_t low, uint32_t high, bool full,
                          struct genarm_error *err) {
    bool any = full;
    begin_state(g);
    for (int32_t i = 0; i < g->states[state].n; i++) {
        const int32_t stack = g->ways[g->states[state].first + i];
        if (stack && class_meets(&g->rules, class_of(g, stack), low, high)) {
            g->found[g->n_found++] = stack;
            any = any && class_covers(&g->rules, class_of(g, stack), low, high);
        }
    }
    return state_of(g, any ? (struct partial){.missing = p.missing} : p, err);
}

static int32_t after_any_part(struct genarm_grammar *g, int32_t state, struct partial p, struct genarm_error *err) {
    begin_state(g);
    for (int32_t i = 0; i < g->states[state].n; i++) {
        g->found[g->n_found++] = g->ways[g->states[state].first + i];
    }
    return state_of(g, p, err);
}

/* Takes one more byte into a character; false: it can be none (RFC 3629). */
static bool extend(struct partial *p, uint8_t byte) {
    if (p->missing) {
        p->value = p->size ? p->value << 6 | (byte & 0x3Fu) : 0;
        p->missing--;
        return (byte & 0xC0) == 0x80;
    }
    p->size = byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
    p->missing = (uint8_t)(p->size - 1);
    p->value = p->size == 1 ? byte : byte & (0x7Fu >> p->size);
    return byte > 0 && (byte < 0x80 || (byte >= 0xC2 && byte <= 0xF4));
}

static int32_t compute_next(struct genarm_grammar *g, int32_t state, uint8_t byte, struct genarm_error *err) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    struct partial p = g->states[state].partial;
    if (!extend(&p, byte)) {
        return GRAMMAR_DEAD;
    }
    if (p.size == 0) {
        return p.missing ? after_any_part(g, state, p, err) : after_character(g, state, 0, true, err);
    }
    const uint32_t first = p.value << 6 * p.missing, last = first | ((1u << 6 * p.missing) - 1);
    const uint32_t low = first < least[p.size] ? least[p.size] : first, high = last > 0x10FFFF ? 0x10FFFF : last;
    if (low > high || (low >= 0xD800 && high <= 0xDFFF)) {
        return GRAMMAR_DEAD;
    }
    const bool full = low == first && high == last && (low > 0xDFFF || high < 0xD800);
    return p.missing ? after_part(g, state, p, low, high, full, err) : after_character(g, state, p.value, false, err);
}

/* The state after a byte. Negative: an error. */
static int32_t next_state(struct genarm_grammar *g, int32_t state, uint8_t byte, struct genarm_error *err) {
    if (!g->states[state].next) {
        int32_t *next = malloc(256 * sizeof *next);
        if (!next) {
            return error_nomem(err, "a grammar");
        }
        memset(next, 0xFF, 256 * sizeof *next);
        g->states[state].next = next;
    }
    int32_t *next = g->states[state].next;
    if (next[byte] < 0) {
        const int32_t computed = compute_next(g, state, byte, err);
        if (computed < 0) {
            return computed;
        }
        next[byte] = computed;
    }
    return next[byte];
}

static bool is_complete(const struct genarm_grammar *g, int32_t state) {
    const struct state *s = &g->states[state];
    return s->n > 0 && g->ways[s->first] == 0 && s->partial.missing == 0;
}

/* ---- tokens ---- */

int grammar_advance(struct genarm_grammar *g, int32_t *state, int32_t token, struct genarm_error *err) {
    const uint8_t *bytes;
    const int32_t n = words_bytes(g->words, token, &bytes);
    int32_t s = *state;
    if (genarm_token_ends(g->model, token)) {
        s = is_complete(g, s) ? s : GRAMMAR_DEAD;
    } else if (n == 0) {
        s = GRAMMAR_DEAD;
    }
    for (int32_t i = 0; i < n && s > GRAMMAR_DEAD && !genarm_token_ends(g->model, token); i++) {
        s = next_state(g, s, bytes[i], err);
    }
    if (s < 0) {
        return s;
    }
    if (s == GRAMMAR_DEAD) {
        const int rc = error_set(err, GENARM_EINVAL, "the grammar does not allow token %d here", token);
        return error_hint(err, rc, "set the grammar again: it then begins with the next token");
    }
    *state = s;
    return GENARM_OK;
}

/* Walks all words from a state and marks those that it can take whole. */
static int mark_words(struct genarm_grammar *g, int32_t state, uint8_t *allowed, struct genarm_error *err) {
    int32_t alive = 0; /* bytes of the last word walked that could be taken */
    g->path[0] = state;
    for (int32_t w = 0; w < g->words->n; w++) {
        const struct word *word = &g->words->sorted[w];
        if (word->shared > alive) { /* it starts with what could not be taken */
            continue;
        }
        for (alive = word->shared; alive < word->n; alive++) {
            const int32_t next = next_state(g, g->path[alive], word->bytes[alive], err);
            if (next < 0) {
                return next;
            }
            if (next == GRAMMAR_DEAD) {
                break;
            }
            g->path[alive + 1] = next;
        }
        if (alive == word->n) {
            allowed[word->token / 8] |= (uint8_t)(1u << word->token % 8);
        }
    }
    return GENARM_OK;
}

static void drop_masks(struct genarm_grammar *g) {
    for (int32_t i = 0; i < g->n_states; i++) {
        free(g->states[i].allowed);
        g->states[i].allowed = NULL;
    }
    g->n_masks = 0;
}

int grammar_allowed(struct genarm_grammar *g, int32_t state, const uint8_t **allowed, struct genarm_error *err) {
    if (!g->states[state].allowed) {
        if (g->n_masks == MASKS_MAX) {
            drop_masks(g);
        }
        uint8_t *mask = calloc((size_t)g->words->n_vocab / 8 + 1, 1);
        if (!mask) {
            return error_nomem(err, "a grammar");
        }
        const int rc = mark_words(g, state, mask, err);
        if (rc != GENARM_OK) {
            free(mask);
            return rc;
        }
        for (int32_t i = 0; i < g->words->n_ends && is_complete(g, state); i++) {
            mask[g->words->ends[i] / 8] |= (uint8_t)(1u << g->words->ends[i] % 8);
        }
        g->states[state].allowed = mask;
        g->n_masks++;
    }
    *allowed = g->states[state].allowed;
    return GENARM_OK;
}

/* ---- life ---- */

/* The empty stack, the dead state and the first one. */
static int begin(struct genarm_grammar *g, struct genarm_error *err) {
    int rc = GENARM_OK;
    g->stacks[g->n_stacks++] = (struct stack){0};
    g->stamps[0] = -1;
    begin_state(g);
    int32_t state = state_of(g, (struct partial){0}, err);
    if (state == GRAMMAR_DEAD) {
        begin_state(g);
        for (int32_t e = g->rules.starts[g->rules.root]; rc == GENARM_OK; e++) {
            const int32_t stack = push(g, e, 0, err);
            rc = stack < 0 ? stack : expand(g, stack, err);
            while (!element_ends(&g->rules.elements[e])) {
                e++;
            }
            if (g->rules.elements[e].kind == ELEMENT_END) {
                break;
            }
        }
        state = rc == GENARM_OK ? state_of(g, (struct partial){0}, err) : rc;
    }
    if (state == GRAMMAR_DEAD) {
        return error_set(err, GENARM_EFORMAT, "the grammar allows nothing: its root only ever calls itself");
    }
    return state == GRAMMAR_FULL ? grammar_is_full(err) : state < 0 ? state : GENARM_OK;
}

static int start(struct genarm_grammar *g, struct genarm_error *err) {
    int rc = GENARM_OK;
    int32_t max_stamps = 0;
    g->found = malloc(WAYS_MAX * sizeof *g->found);
    g->todo = malloc(WAYS_MAX * sizeof *g->todo);
    g->path = calloc((size_t)g->words->longest + 1, sizeof *g->path);
    g->stamps = room(NULL, 1, &max_stamps, sizeof *g->stamps, &rc, err);
    g->stacks = room(NULL, 1, &g->max_stacks, sizeof *g->stacks, &rc, err);
    if (rc != GENARM_OK || !g->found || !g->todo || !g->path) {
        return error_nomem(err, "a grammar");
    }
    return begin(g, err);
}

static void drop_states(struct genarm_grammar *g) {
    drop_masks(g);
    for (int32_t i = 0; i < g->n_states; i++) {
        free(g->states[i].next);
    }
    g->n_states = g->n_stacks = g->n_ways = g->stamp = 0;
}

void grammar_restart(struct genarm_grammar *g) {
    drop_states(g);
    memset(g->stack_index.slots, 0, g->stack_index.n_slots * sizeof *g->stack_index.slots);
    memset(g->state_index.slots, 0, g->state_index.n_slots * sizeof *g->state_index.slots);
    g->generation++;
    begin(g, NULL); /* as the first time, in the room that there is since then: nothing can fail */
}

uint32_t grammar_generation(const struct genarm_grammar *g) { return g->generation; }

int grammar_is_full(struct genarm_error *err) {
    const int rc = error_set(err, GENARM_EINVAL, "the grammar comes to more states than there is room for");
    return error_hint(err, rc, "make its repetitions shorter");
}

int genarm_grammar_new(struct genarm_grammar **out, const struct genarm_model *model, const char *text,
                       struct genarm_error *err) {
    struct genarm_grammar *g = calloc(1, sizeof *g);
    if (!g) {
        return error_nomem(err, "a grammar");
    }
    pthread_mutex_init(&g->mutex, NULL);
    g->model = model;
    int rc = gbnf_parse(&g->rules, text, err);
    rc = rc == GENARM_OK ? model_words(&g->words, model, err) : rc;
    rc = rc == GENARM_OK ? start(g, err) : rc;
    if (rc != GENARM_OK) {
        genarm_grammar_free(g);
        return rc;
    }
    *out = g;
    return GENARM_OK;
}

void genarm_grammar_free(struct genarm_grammar *g) {
    if (!g) {
        return;
    }
    drop_states(g);
    free(g->states);
    free(g->stacks);
    free(g->stamps);
    free(g->stack_index.slots);
    free(g->state_index.slots);
    free(g->ways);
    free(g->found);
    free(g->todo);
    free(g->path);
    gbnf_deinit(&g->rules);
    pthread_mutex_destroy(&g->mutex);
    free(g);
}

void grammar_lock(struct genarm_grammar *g) { pthread_mutex_lock(&g->mutex); }
void grammar_unlock(struct genarm_grammar *g) { pthread_mutex_unlock(&g->mutex); }

const struct genarm_model *grammar_model(const struct genarm_grammar *g) { return g->model; }
