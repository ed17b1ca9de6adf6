/* See api.h. */
#include "serve/api.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/names.h"
#include "serve/fields.h"

const struct serve_model *api_model_of(struct server *s, struct http_call *call) {
    pthread_rwlock_rdlock(&s->lock);
    const struct serve_model *m = s->model;
    pthread_rwlock_unlock(&s->lock);
    if (!m) {
        http_header(call, "Retry-After", "1");
        http_reply_error(call, 503, "unavailable_error", NULL, "Loading model");
    }
    return m;
}

void api_weights(struct server *s, float *weights) {
    pthread_rwlock_rdlock(&s->lock);
    memcpy(weights, s->weights, s->model->n_arms * sizeof *weights);
    pthread_rwlock_unlock(&s->lock);
}

json_t *api_body(struct http_call *call, const struct field *fields, size_t n, void *out) {
    struct genarm_error err;
    json_t *root = NULL;
    size_t n_body;
    const char *body = http_call_body(call, &n_body);
    int rc = fields_parse(&root, body, n_body, &err);
    rc = rc == GENARM_OK ? fields_read(root, fields, n, out, &err) : rc;
    if (rc != GENARM_OK) {
        json_decref(root);
        api_error(call, &err);
        return NULL;
    }
    return root;
}

/* ---- errors ---- */

int api_status(const struct genarm_error *err, const char **type) {
    switch (err->code) {
    case GENARM_ECONTEXT:
        *type = "exceed_context_size_error";
        return 400;
    case GENARM_EINVAL:
    case GENARM_EFORMAT:
    case GENARM_EUNSUPPORTED:
    case GENARM_EMISMATCH:
        *type = "invalid_request_error";
        return 400;
    case GENARM_ECANCELED:
        *type = "unavailable_error";
        return 503;
    default:
        *type = "server_error";
        return 500;
    }
}

static const char *param_of(const struct genarm_error *err) {
    return *err->where && strncmp(err->where, "body", 4) != 0 ? err->where : NULL;
}

json_t *api_error_json(const struct genarm_error *err) {
    const char *type;
    const int status = api_status(err, &type);
    const char *param = param_of(err);
    char message[sizeof err->what + sizeof err->hint + 2];
    snprintf(message, sizeof message, "%s%s%s", err->what, *err->hint ? ": " : "", err->hint);
    return json_pack("{s:i, s:o, s:s, s:o?}", "code", status, "message", text_json(message), "type", type, "param",
                     param ? text_json(param) : NULL);
}

void api_error(struct http_call *call, const struct genarm_error *err) {
    const char *type;
    const int status = api_status(err, &type);
    if (status == 503) {
        http_header(call, "Retry-After", "1");
    }
    http_reply_error(call, status, type, param_of(err), "%s%s%s", err->what, *err->hint ? ": " : "", err->hint);
}

void api_reply(struct http_call *call, json_t *value) {
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(value);
    if (text) {
        http_reply(call, 200, "application/json; charset=utf-8", text, strlen(text));
    } else {
        http_reply_error(call, 500, NULL, NULL, "out of memory");
    }
    free(text);
}

/* ---- weights ---- */

json_t *api_float(float x) {
    char text[32];
    int digits = 5;
    do {
        snprintf(text, sizeof text, "%.*g", ++digits, (double)x);
    } while (digits < 9 && strtof(text, NULL) != x);
    return json_real(strtod(text, NULL));
}

json_t *api_weights_json(const struct serve_model *m, const float *weights) {
    json_t *object = json_object();
    for (size_t i = 0; i < m->n_arms && object; i++) {
        json_object_set_new(object, m->arms[i].name, api_float(weights[i]));
    }
    return object;
}

static int unknown_arm(const struct serve_model *m, const char *name, const char *where, struct genarm_error *err) {
    char near[NAME_MAX_LENGTH];
    const char *names[64];
    size_t n = 0;
    for (; n < m->n_arms && n < 64; n++) {
        names[n] = m->arms[n].name;
    }
    if (n == 0) {
        return field_error(err, where, "there is no ARM '%.100s': this server has none", name);
    }
    if (!nearest_name(name, names, n, near, sizeof near)) {
        snprintf(near, sizeof near, "%s", names[0]);
        return field_error(err, where, "there is no ARM '%.100s'; GET /arms lists them, such as '%s'", name, near);
    }
    return field_error(err, where, "there is no ARM '%.100s': did you mean '%s'?", name, near);
}

int api_read_weights(const struct serve_model *m, const json_t *object, const char *where, float *weights,
                     struct genarm_error *err) {
    const char *name;
    json_t *value;
    if (!json_is_object(object)) {
        return field_error(err, where, "'%s' must be an object of weights by ARM, such as {\"helpful\": 1.2}", where);
    }
    json_object_foreach((json_t *)object, name, value) { /* only read */
        const int32_t i = api_find_arm(m, name);
        const double weight = json_number_value(value);
        if (i < 0) {
            return unknown_arm(m, name, where, err);
        }
        if (!json_is_number(value) || !(fabs(weight) <= API_WEIGHT_MAX)) {
            return field_error(err, where, "the weight of '%.100s' must be a number from -%d to %d", name, API_WEIGHT_MAX,
                               API_WEIGHT_MAX);
        }
        weights[i] = (float)weight;
    }
    return GENARM_OK;
}

int32_t api_find_arm(const struct serve_model *m, const char *name) {
    for (size_t i = 0; i < m->n_arms; i++) {
        if (strcmp(m->arms[i].name, name) == 0) {
            return (int32_t)i;
        }
    }
    return -1;
}
