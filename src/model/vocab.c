/* The vocabulary, through libllama, which aborts on some of what a file can hold: that is found out here before. */
#include "model/vocab.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/strset.h"
#include "model/gguf_check.h"
#include "model/llama_guard.h"
#include "model/model.h"
#include "model/runtime.h"

enum {
    MAX_TOKEN_BYTES = 4096, /* libllama's decoding of a token takes the square of that in the worst case */
    SHOWN_TOKEN = 40,       /* bytes of a token that an error shows */
};

static const char tokens_key[] = "tokenizer.ggml.tokens";

/* The kinds of tokenizer that models of our architectures come with, and those of others whose vocabularies cannot make libllama
 * abort or, as RWKV's can, run for ever. */
static int check_kind(const struct gguf_context *gguf, struct genarm_error *err) {
    static const char *const known[] = {"gpt2", "llama", "gemma4", "plamo2"};
    const char *kind;
    const int rc = gguf_need_str(&kind, gguf, "tokenizer.ggml.model", err);
    for (size_t i = 0; rc == GENARM_OK && i < sizeof known / sizeof *known; i++) {
        if (strcmp(kind, known[i]) == 0) {
            return GENARM_OK;
        }
    }
    return rc != GENARM_OK ? rc
                           : error_set(err, GENARM_EUNSUPPORTED,
                                       "tokenizer.ggml.model: \"%s\" is not supported, \"gpt2\" (BPE), \"llama\" "
                                       "(SentencePiece), \"gemma4\" and \"plamo2\" are",
                                       kind);
}

/* *id: of an array with at least n entries. */
static int check_array(int64_t *id, const struct gguf_context *gguf, const char *key, size_t n,
                       struct genarm_error *err) {
    *id = gguf_find_key(gguf, key);
    if (*id >= 0 && gguf_get_kv_type(gguf, *id) != GGUF_TYPE_ARRAY) {
        return error_set(err, GENARM_EFORMAT, "%s is not an array", key);
    }
    if (*id >= 0 && gguf_get_arr_n(gguf, *id) < n) {
        return error_set(err, GENARM_EFORMAT, "%s has %zu entries for %zu tokens", key, gguf_get_arr_n(gguf, *id), n);
    }
    return GENARM_OK;
}

/* All texts must differ. An empty one stands for [EMPTY_<id>] in libllama, which no other token may be called. */
static int check_texts(const struct gguf_context *gguf, int64_t id, int32_t n_vocab, struct genarm_error *err) {
    struct strset seen = {0};
    int rc = 1;
    for (int32_t i = 0; rc == 1 && i < n_vocab; i++) {
        const char *text = gguf_get_arr_str(gguf, id, (size_t)i);
        const size_t len = strlen(text);
        size_t first = 0;
        int32_t of = -1, end = 0;
        if (len > MAX_TOKEN_BYTES) {
            rc = error_set(err, GENARM_EFORMAT, "%s: token %" PRId32 " is %zu bytes long", tokens_key, i, len);
        } else if (sscanf(text, "[EMPTY_%" SCNd32 "]%n", &of, &end) == 1 && (size_t)end == len && of >= 0 &&
                   of < n_vocab && !gguf_get_arr_str(gguf, id, (size_t)of)[0]) {
            rc = error_set(err, GENARM_EFORMAT, "%s: token %" PRId32 " is named as the empty token %" PRId32,
                           tokens_key, i, of);
        } else if (len > 0) {
            rc = strset_add(&seen, text, len, &first, err);
            if (rc == 0) {
                rc = error_set(err, GENARM_EFORMAT, "%s: \"%.*s\" is there more than once, last as token %" PRId32,
                               tokens_key, SHOWN_TOKEN, text, i);
            }
        }
    }
    strset_deinit(&seen);
    return rc < 0 ? rc : GENARM_OK;
}

int vocab_check_tokens(const struct gguf_context *gguf, int32_t n_vocab, struct genarm_error *err) {
    int64_t id;
    int rc = check_array(&id, gguf, tokens_key, 0, err);
    if (rc != GENARM_OK || id < 0) {
        return rc != GENARM_OK ? rc : error_set(err, GENARM_EFORMAT, "the metadata has no %s", tokens_key);
    }
    if (gguf_get_arr_type(gguf, id) != GGUF_TYPE_STRING) {
        return error_set(err, GENARM_EFORMAT, "%s is not an array of strings", tokens_key);
    }
    const size_t n = gguf_get_arr_n(gguf, id);
    if (n != (size_t)n_vocab) {
        return error_set(err, GENARM_EFORMAT, "%s has %zu tokens, token_embd.weight has %" PRId32 " rows", tokens_key,
                         n, n_vocab);
    }
    rc = check_texts(gguf, id, n_vocab, err);
    rc = rc == GENARM_OK ? check_array(&id, gguf, "tokenizer.ggml.scores", n, err) : rc;
    return rc == GENARM_OK ? check_array(&id, gguf, "tokenizer.ggml.token_type", n, err) : rc;
}

int vocab_check(const struct gguf_context *gguf, int32_t n_vocab, struct genarm_error *err) {
    const int rc = check_kind(gguf, err);
    return rc == GENARM_OK ? vocab_check_tokens(gguf, n_vocab, err) : rc;
}

int vocab_open(struct llama_model **out, struct gguf_context *gguf, int32_t n_vocab, struct genarm_error *err) {
    const int rc = vocab_check(gguf, n_vocab, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    runtime_forget_error();
    struct llama_model *model = guard_vocab_load(gguf);
    if (!model) {
        const char *why = guard_reason();
        return error_set(err, GENARM_EFORMAT, "libllama cannot open the vocabulary: %s",
                         *why ? why : runtime_first_error());
    }
    if (llama_vocab_n_tokens(llama_model_get_vocab(model)) != n_vocab) {
        llama_model_free(model);
        return error_set(err, GENARM_EFORMAT, "libllama finds another number of tokens than %" PRId32, n_vocab);
    }
    *out = model;
    return GENARM_OK;
}

int32_t vocab_turn_end(const struct llama_vocab *vocab, const struct gguf_context *gguf) {
    uint32_t eot;
    if (gguf_opt_u32(&eot, gguf, "tokenizer.ggml.eot_token_id", UINT32_MAX, NULL) == GENARM_OK &&
        eot < (uint32_t)llama_vocab_n_tokens(vocab)) {
        return (int32_t)eot;
    }
    const int32_t eos = llama_vocab_eos(vocab);
    return eos != LLAMA_TOKEN_NULL ? eos : llama_vocab_eot(vocab);
}

uint64_t vocab_hash(uint64_t hash, const struct llama_vocab *vocab) {
    const int32_t n = llama_vocab_n_tokens(vocab);
    for (int32_t i = 0; i < n; i++) {
        const char *text = llama_vocab_get_text(vocab, i);
        hash = hash_bytes(hash, text, strlen(text) + 1);
    }
    return hash;
}

static size_t n_counted(const struct vocab_measure *m, const char *text, size_t n) {
    size_t n_counted = 0;
    for (size_t i = 0; i < n; i++) {
        n_counted += m->counts[(unsigned char)text[i]];
    }
    return n_counted;
}

/* A token's bytes in a text, made in a room of MAX_TOKEN_BYTES; of SentencePiece with its sign for a space, which a text may have
 * as well. */
static size_t token_piece(const char **piece, char *room, const struct llama_vocab *vocab, int32_t token) {
    *piece = llama_vocab_get_text(vocab, token);
    if (llama_vocab_type(vocab) == LLAMA_VOCAB_TYPE_BPE) {
        const int32_t n = guard_token_to_piece(vocab, token, room, MAX_TOKEN_BYTES, true);
        *piece = n >= 0 ? room : *piece;
        return n >= 0 ? (size_t)n : strlen(*piece);
    }
    return strlen(*piece);
}

void vocab_measure(struct vocab_measure *out, const struct llama_vocab *vocab) {
    const enum llama_vocab_type type = llama_vocab_type(vocab);
    const int32_t n_vocab = llama_vocab_n_tokens(vocab);
    const char *piece;
    char room[MAX_TOKEN_BYTES];
    *out = (struct vocab_measure){0};
    if (type != LLAMA_VOCAB_TYPE_BPE && type != LLAMA_VOCAB_TYPE_SPM) {
        return;
    }
    for (int i = 0; i < 256; i++) {
        out->counts[i] = type == LLAMA_VOCAB_TYPE_SPM;
    }
    for (int32_t i = 0; i < n_vocab && type == LLAMA_VOCAB_TYPE_BPE; i++) {
        if (token_piece(&piece, room, vocab, i) == 1) {
            out->counts[(unsigned char)piece[0]] = true;
        }
    }
    for (const char *space = " \t\n\v\f\r"; *space; space++) {
        out->counts[(unsigned char)*space] = false;
    }
    for (int32_t i = 0; i < n_vocab; i++) {
        const size_t n = token_piece(&piece, room, vocab, i), n_of_it = n_counted(out, piece, n);
        out->longest = n_of_it > out->longest ? n_of_it : out->longest;
    }
}

size_t vocab_at_least(const struct vocab_measure *m, const char *text, size_t n) {
    return m->longest ? (n_counted(m, text, n) + m->longest - 1) / m->longest : 0;
}

/* ---- public ---- */

static bool in_vocab(const struct genarm_model *model, int32_t token) {
    return token >= 0 && token < model->hp.n_vocab;
}

int32_t genarm_tokenize(const struct genarm_model *model, const char *text, size_t n_text, bool bos, bool special,
                        int32_t *tokens, int32_t max) {
    if (n_text > INT32_MAX || max < 0) {
        return GUARD_FAILED;
    }
    const int32_t start = llama_vocab_bos(model->vocab);
    const int32_t n_bos = bos && llama_vocab_get_add_bos(model->vocab) && start != LLAMA_TOKEN_NULL ? 1 : 0;
    const int32_t left = max > n_bos ? max - n_bos : 0;
    int32_t nothing;
    const int32_t n = guard_tokenize(model->vocab, n_text ? text : "", (int32_t)n_text,
                                     left ? tokens + n_bos : &nothing, left, special);
    if (n == GUARD_FAILED) {
        return n;
    }
    const int32_t total = (n < 0 ? -n : n) + n_bos;
    if (max > 0 && n_bos) {
        tokens[0] = start;
    }
    return total > max ? -total : total;
}

int32_t genarm_token_bytes(const struct genarm_model *model, int32_t token, bool special, char *bytes, int32_t max) {
    return in_vocab(model, token) ? guard_token_to_piece(model->vocab, token, bytes, max, special) : 0;
}

bool genarm_token_ends(const struct genarm_model *model, int32_t token) {
    return in_vocab(model, token) && llama_vocab_is_eog(model->vocab, token);
}

int32_t genarm_token_eos(const struct genarm_model *model) { return model->turn_end; }

/* ---- comparison ---- */

/* Whether a token that only one vocabulary has can be taken for padding: nothing that text could contain. */
static bool is_padding(const struct llama_vocab *vocab, int32_t token) {
    static const char *const names[] = {"[PAD", "<pad", "<PAD", "<|pad", "<dummy", "<unused", "[unused", "<|unused"};
    const char *text = llama_vocab_get_text(vocab, token);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strncmp(text, names[i], strlen(names[i])) == 0) {
            return true;
        }
    }
    return (llama_vocab_get_attr(vocab, token) & (LLAMA_TOKEN_ATTR_UNUSED | LLAMA_TOKEN_ATTR_UNDEFINED)) != 0;
}

static int differ(const struct genarm_model *a, const struct genarm_model *b, int32_t token, struct genarm_error *err) {
    const char *in_a = token < a->hp.n_vocab ? llama_vocab_get_text(a->vocab, token) : NULL;
    const char *in_b = token < b->hp.n_vocab ? llama_vocab_get_text(b->vocab, token) : NULL;
    int rc;
    if (in_a && in_b) {
        rc = error_set(err, GENARM_EMISMATCH,
                       "the vocabularies differ: token %" PRId32 " is \"%.*s\" in %s and \"%.*s\" in %s", token,
                       SHOWN_TOKEN, in_a, a->path, SHOWN_TOKEN, in_b, b->path);
    } else {
        rc = error_set(err, GENARM_EMISMATCH, "the vocabularies differ: token %" PRId32 ", \"%.*s\", is in %s only",
                       token, SHOWN_TOKEN, in_a ? in_a : in_b, in_a ? a->path : b->path);
    }
    return error_hint(err, rc, "models are combined token by token: use models of one family");
}

int model_vocab_compare(const struct genarm_model *a, const struct genarm_model *b, int32_t *n_common,
                        struct genarm_error *err) {
    const int32_t n_a = a->hp.n_vocab, n_b = b->hp.n_vocab, n = n_a < n_b ? n_a : n_b;
    for (int32_t i = 0; i < n; i++) {
        if (strcmp(llama_vocab_get_text(a->vocab, i), llama_vocab_get_text(b->vocab, i)) != 0) {
            return differ(a, b, i, err);
        }
    }
    const struct genarm_model *longer = n_a > n_b ? a : b;
    for (int32_t i = n; i < longer->hp.n_vocab; i++) {
        if (!is_padding(longer->vocab, i)) {
            return differ(a, b, i, err);
        }
    }
    *n_common = n;
    return GENARM_OK;
}
