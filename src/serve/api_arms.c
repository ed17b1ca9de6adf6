/* The ARMs and their weights: by default, and of an answer that runs. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "serve/api.h"
#include "serve/fields.h"

enum { CHOICES_TOLD = 128 };

static json_t *objectives_json(const struct serve_arm *a, const float *preference, json_t **preferences) {
    json_t *names = json_array();
    *preferences = json_object();
    for (int32_t i = 0; i < a->n_objectives && names && *preferences; i++) {
        json_array_append_new(names, json_string(a->objectives[i]));
        json_object_set_new(*preferences, a->objectives[i], api_float(preference[i]));
    }
    return names;
}

json_t *api_arms_json(struct server *s) {
    json_t *list = json_array();
    const struct serve_model *m = s->model;
    float *weights = calloc(m->n_arms + 1, sizeof *weights);
    if (weights) {
        api_weights(s, weights);
    }
    for (size_t i = 0; i < m->n_arms && weights && list; i++) {
        const struct serve_arm *a = &m->arms[i];
        const float *preference = genarm_guide_preference(m->guide, (int32_t)i);
        json_t *names = NULL, *preferences = NULL;
        if (preference) {
            names = objectives_json(a, preference, &preferences);
        }
        json_array_append_new(list, json_pack("{s:i, s:s, s:o, s:o, s:o?, s:o?, s:b}", "id", (int)i, "name", a->name, "file",
                                              text_json(a->file), "weight", api_float(weights[i]), "objectives", names,
                                              "preference", preferences, "minus_reference", (int)a->minus_reference));
    }
    free(weights);
    return list;
}

void api_arms(struct http_call *call, void *user) {
    if (api_model_of(user, call)) {
        api_reply(call, api_arms_json(user));
    }
}

struct item {
    int64_t id;
    const char *name;
    double weight;
};

/* One of [{"id" or "name", "weight"}], the form of llama.cpp's /lora-adapters ("scale" is its word). */
static int read_item(const struct serve_model *m, const json_t *item, float *weights, struct genarm_error *err) {
    struct item in = {-1, NULL, NAN};
    static const struct field fields[] = {
        {FIELD_INTEGER, "id", offsetof(struct item, id), 0, INT32_MAX, NULL},
        {FIELD_STRING, "name", offsetof(struct item, name), 0, 0, NULL},
        {FIELD_NUMBER, "weight", offsetof(struct item, weight), -API_WEIGHT_MAX, API_WEIGHT_MAX, NULL},
    };
    if (!json_is_object(item)) {
        return field_error(err, "arms", "each must be an object with \"id\" or \"name\", and \"weight\"");
    }
    const int rc = fields_read(item, fields, sizeof fields / sizeof *fields, &in, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    const int64_t i = in.name ? api_find_arm(m, in.name) : in.id;
    if (isnan(in.weight) || (in.id >= 0) == (in.name != NULL)) {
        return field_error(err, "weight", "each must have \"weight\", and either \"id\" or \"name\"");
    }
    if (i < 0 || i >= (int64_t)m->n_arms) {
        return field_error(err, in.name ? "name" : "id", "there is no such ARM; GET /arms lists them");
    }
    weights[i] = (float)in.weight;
    return GENARM_OK;
}

/* The weights [n_arms] that a body gives, NaN for others; to be freed. NULL: the call was answered. */
static float *read_body(struct http_call *call, const struct serve_model *m) {
    struct genarm_error err;
    size_t n;
    json_t *root = NULL;
    float *weights = calloc(m->n_arms + 1, sizeof *weights);
    const char *body = http_call_body(call, &n);
    int rc = weights ? json_parse(&root, body, n, "body", &err) : error_nomem(&err, "weights");
    for (size_t i = 0; i < m->n_arms && weights; i++) {
        weights[i] = NAN;
    }
    if (rc == GENARM_OK && !json_is_array(root)) {
        rc = api_read_weights(m, root, "arms", weights, &err);
    }
    for (size_t i = 0; i < json_array_size(root) && rc == GENARM_OK; i++) {
        rc = read_item(m, json_array_get(root, i), weights, &err);
    }
    json_decref(root);
    if (rc == GENARM_OK) {
        return weights;
    }
    api_error(call, &err);
    free(weights);
    return NULL;
}

void api_set_arms(struct http_call *call, void *user) {
    struct server *s = user;
    const struct serve_model *m = api_model_of(s, call);
    float *weights = m ? read_body(call, m) : NULL;
    if (!weights) {
        return;
    }
    pthread_rwlock_wrlock(&s->lock);
    for (size_t i = 0; i < m->n_arms; i++) {
        s->weights[i] = isnan(weights[i]) ? s->weights[i] : weights[i];
    }
    pthread_rwlock_unlock(&s->lock);
    api_reply(call, api_arms_json(s));
    free(weights);
}

void api_set_request_arms(struct http_call *call, void *user) {
    struct server *s = user;
    size_t n_tokens[CHOICES_TOLD], n = 0;
    const struct serve_model *m = api_model_of(s, call);
    float *weights = m ? read_body(call, m) : NULL;
    if (!weights) {
        return;
    }
    const char *id = http_call_param(call);
    if (worker_set_weights(s->worker, id, weights, n_tokens, CHOICES_TOLD, &n)) {
        json_t *counts = json_array();
        for (size_t i = 0; i < n && i < CHOICES_TOLD; i++) {
            json_array_append_new(counts, json_integer((json_int_t)n_tokens[i]));
        }
        api_reply(call, json_pack("{s:s, s:o, s:o}", "id", id, "arms", api_weights_json(m, weights), "n_tokens", counts));
    } else {
        http_reply_error(call, 404, NULL, NULL, "no answer with this id is being given");
    }
    free(weights);
}
