/* See spell.h. */
#include "model/spell.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

enum { TOKEN_MAX_BYTES = 1 << 20, TEXT_MAX_BYTES = 1 << 28 };
static const char no_character = '\xFF'; /* a byte that is in no UTF-8 */

int spell_tokens(int32_t **out, size_t *n, const struct genarm_model *model, const char *text, bool bos, bool special,
                 struct genarm_error *err) {
    const size_t length = strlen(text);
    const int32_t found = genarm_tokenize(model, text, length, bos, special, NULL, 0);
    if (found == INT32_MIN) {
        return error_set(err, GENARM_EINVAL, "the text cannot be tokenised");
    }
    const int32_t needed = -found;
    int32_t *tokens = malloc(sizeof *tokens * (size_t)(needed > 0 ? needed : 1));
    if (!tokens) {
        return error_nomem(err, "tokens");
    }
    const int32_t got = needed > 0 ? genarm_tokenize(model, text, length, bos, special, tokens, needed) : 0;
    if (got < 0) {
        free(tokens);
        return error_set(err, GENARM_EINVAL, "the text cannot be tokenised");
    }
    *out = tokens;
    *n = (size_t)got;
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
