/* See spell.h. */
#include "model/spell.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "model/model.h"

enum { TOKEN_MAX_BYTES = 1 << 20, TEXT_MAX_BYTES = 1 << 28 };
static const char no_character = '\xFF'; /* a byte that is in no UTF-8 */

static int append(int32_t **tokens, int32_t *n, const struct genarm_model *model, const char *text, size_t n_text, bool bos,
                  bool special, struct genarm_error *err) {
    int64_t room = (int64_t)n_text + 16; /* seldom has a text more tokens than bytes */
    int32_t found = -1, *grown = NULL;
    while (found < 0) {
        if (room >= INT32_MAX - *n) {
            return error_set(err, GENARM_EINVAL, "the text cannot be tokenised");
        }
        grown = realloc(*tokens, ((size_t)*n + (size_t)room + 1) * sizeof *grown);
        if (!grown) {
            return error_nomem(err, "tokens");
        }
        *tokens = grown;
        found = genarm_tokenize(model, text, n_text, bos, special, grown + *n, (int32_t)room);
        room = found < 0 ? -(int64_t)found : room; /* INT32_MIN, a failure, is too many as well */
    }
    *n += found;
    grown = realloc(grown, ((size_t)*n + 1) * sizeof *grown);
    *tokens = grown ? grown : *tokens;
    return GENARM_OK;
}

/* Appends a text behind a character that no piece of a vocabulary joins with others, and takes away that one's tokens with the
 * space before them. False: the vocabulary has no such character. */
static bool append_rest(int32_t **tokens, int32_t *n, const struct genarm_model *model, const char *text, size_t n_text,
                        bool special) {
    static const char before[] = "\x01";
    int32_t first[8];
    const int32_t had = *n, n_first = genarm_tokenize(model, before, 1, false, false, first, 8);
    struct buf whole;
    buf_init(&whole, TEXT_MAX_BYTES);
    const bool good = n_first > 0 && buf_puts(&whole, before, NULL) == GENARM_OK &&
                      buf_append(&whole, text, n_text, NULL) == GENARM_OK &&
                      append(tokens, n, model, whole.data, whole.len, false, special, NULL) == GENARM_OK &&
                      *n - had >= n_first && memcmp(*tokens + had, first, (size_t)n_first * sizeof *first) == 0;
    buf_deinit(&whole);
    *n -= good ? n_first : *n - had;
    if (good) {
        memmove(*tokens + had, *tokens + had + n_first, (size_t)(*n - had) * sizeof **tokens);
    }
    return good;
}

bool spell_puts_space(const struct genarm_model *model) { return llama_vocab_type(model->vocab) == LLAMA_VOCAB_TYPE_SPM; }

int spell_append(int32_t **tokens, int32_t *n, const struct genarm_model *model, const char *text, size_t n_text,
                 enum spell_start start, bool special, struct genarm_error *err) {
    if (start == SPELL_REST && spell_puts_space(model) && append_rest(tokens, n, model, text, n_text, special)) {
        return GENARM_OK;
    }
    return append(tokens, n, model, text, n_text, start == SPELL_BOS, special, err);
}

int spell_tokens(int32_t **out, size_t *n, const struct genarm_model *model, const char *text, bool bos, bool special,
                 struct genarm_error *err) {
    int32_t *tokens = NULL, n_tokens = 0;
    const int rc = spell_append(&tokens, &n_tokens, model, text, strlen(text), bos ? SPELL_BOS : SPELL_TEXT, special, err);
    if (rc != GENARM_OK) {
        free(tokens);
        return rc;
    }
    *out = tokens;
    *n = (size_t)n_tokens;
    return GENARM_OK;
}

int spell_bytes(struct buf *out, const struct genarm_model *model, int32_t token, bool special, struct genarm_error *err) {
    char small[256], *bytes = small;
    int32_t n = genarm_token_bytes(model, token, special, small, sizeof small);
    if (n < 0) {
        bytes = malloc((size_t)-n);
        if (!bytes) {
            return error_nomem(err, "text of a token");
        }
        n = genarm_token_bytes(model, token, special, bytes, -n);
    }
    const int rc = n > 0 ? buf_append(out, bytes, (size_t)n, err) : GENARM_OK;
    if (bytes != small) {
        free(bytes);
    }
    return rc;
}

int spell_json(json_t **out, const struct genarm_model *model, const int32_t *tokens, size_t n, struct genarm_error *err) {
    struct buf text;
    buf_init(&text, TEXT_MAX_BYTES);
    int rc = buf_puts(&text, "", err);
    for (size_t i = 0; i < n && rc == GENARM_OK; i++) {
        rc = spell_bytes(&text, model, tokens[i], false, err);
    }
    json_t *json = rc == GENARM_OK ? text_json_n(text.data, text.len) : NULL;
    buf_deinit(&text);
    if (!json) {
        return rc == GENARM_OK ? error_nomem(err, "a text") : rc;
    }
    *out = json;
    return GENARM_OK;
}

int spell_sample(struct buf *out, const struct genarm_model *model, const int32_t *tokens, size_t n,
                 struct genarm_error *err) {
    struct buf bytes;
    struct text_tail tail = {0};
    buf_init(&bytes, TEXT_MAX_BYTES);
    int rc = buf_puts(out, "", err);
    for (size_t i = 0; i < n && rc == GENARM_OK; i++) {
        rc = spell_bytes(&bytes, model, tokens[i], false, err);
    }
    for (size_t i = 0; i < bytes.len; i++) {
        bytes.data[i] = bytes.data[i] ? bytes.data[i] : no_character;
    }
    rc = rc == GENARM_OK ? text_push(&tail, bytes.data, bytes.len, out, err) : rc;
    rc = rc == GENARM_OK ? text_end(&tail, out, err) : rc;
    buf_deinit(&bytes);
    return rc;
}

json_t *spell_token_json(const struct genarm_model *model, int32_t token) {
    struct buf bytes;
    buf_init(&bytes, TOKEN_MAX_BYTES);
    const bool ok = buf_puts(&bytes, "", NULL) == GENARM_OK && spell_bytes(&bytes, model, token, true, NULL) == GENARM_OK;
    json_t *json = ok ? text_json_n(bytes.data, bytes.len) : NULL;
    buf_deinit(&bytes);
    return json;
}
