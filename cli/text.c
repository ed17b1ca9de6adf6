/* See text.h. */
#include "text.h"

#include <stdlib.h>
#include <string.h>

json_t *token_text_json(const struct genarm_model *model, int32_t token) {
    int32_t n = -genarm_token_bytes(model, token, true, NULL, 0);
    char *bytes = calloc((size_t)(n > 0 ? n : 0) + 1, 1);
    if (!bytes) {
        return NULL;
    }
    if (n > 0) {
        genarm_token_bytes(model, token, true, bytes, n);
    }
    json_t *json = text_json(bytes);
    free(bytes);
    return json;
}

int text_tokenize(int32_t **out, size_t *n, const struct genarm_model *model, const char *text,
                  struct genarm_error *err) {
    int32_t found = genarm_tokenize(model, text, strlen(text), false, false, NULL, 0);
    if (found == INT32_MIN) {
        return error_set(err, GENARM_EINVAL, "the text cannot be tokenised");
    }
    int32_t needed = -found;
    int32_t *tokens = malloc(sizeof *tokens * (size_t)(needed > 0 ? needed : 1));
    if (!tokens) {
        return error_nomem(err, "tokens");
    }
    int32_t got = needed > 0 ? genarm_tokenize(model, text, strlen(text), false, false, tokens, needed) : 0;
    if (got < 0) {
        free(tokens);
        return error_set(err, GENARM_EINVAL, "the text cannot be tokenised");
    }
    *out = tokens;
    *n = (size_t)got;
    return 0;
}
