/* GGUF metadata as JSON and back. */
#include "convert/metadata.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf_check.h"

enum { MAX_KEY_BYTES = 65535, MAX_KEYS = 1 << 16 };

/* A value as [type, value]; the type's name of an array ends in "[]". */
static const char array_mark[] = "[]";

static const struct {
    enum gguf_type type;
    json_int_t min, max; /* of whole numbers */
} numbers[] = {
    {GGUF_TYPE_UINT8, 0, UINT8_MAX},   {GGUF_TYPE_INT8, INT8_MIN, INT8_MAX},
    {GGUF_TYPE_UINT16, 0, UINT16_MAX}, {GGUF_TYPE_INT16, INT16_MIN, INT16_MAX},
    {GGUF_TYPE_UINT32, 0, UINT32_MAX}, {GGUF_TYPE_INT32, INT32_MIN, INT32_MAX},
    {GGUF_TYPE_UINT64, 0, INT64_MAX},  {GGUF_TYPE_INT64, INT64_MIN, INT64_MAX},
    {GGUF_TYPE_FLOAT32, 0, 0},         {GGUF_TYPE_FLOAT64, 0, 0},
    {GGUF_TYPE_BOOL, 0, 1},
};

/* Index in numbers[], -1: a string or an array. */
static int find_number(enum gguf_type type) {
    for (int i = 0; i < (int)(sizeof numbers / sizeof *numbers); i++) {
        if (numbers[i].type == type) {
            return i;
        }
    }
    return -1;
}

/* ---- to JSON ---- */

/* NULL: JSON has no such number, or no memory. */
static json_t *number_to_json(enum gguf_type type, const void *bytes) {
    union {
        uint8_t u8;
        int8_t i8;
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        uint64_t u64;
        int64_t i64;
        float f32;
        double f64;
    } x = {.u64 = 0};
    memcpy(&x, bytes, gguf_value_size(type));
    switch (type) {
    case GGUF_TYPE_UINT8:
        return json_integer(x.u8);
    case GGUF_TYPE_INT8:
        return json_integer(x.i8);
    case GGUF_TYPE_UINT16:
        return json_integer(x.u16);
    case GGUF_TYPE_INT16:
        return json_integer(x.i16);
    case GGUF_TYPE_UINT32:
        return json_integer(x.u32);
    case GGUF_TYPE_INT32:
        return json_integer(x.i32);
    case GGUF_TYPE_UINT64:
        return x.u64 <= INT64_MAX ? json_integer((json_int_t)x.u64) : NULL;
    case GGUF_TYPE_INT64:
        return json_integer(x.i64);
    case GGUF_TYPE_FLOAT32:
        return json_real((double)x.f32);
    case GGUF_TYPE_FLOAT64:
        return json_real(x.f64);
    default:
        return json_boolean(x.u8 != 0);
    }
}

static json_t *array_to_json(const struct gguf_context *g, int64_t id) {
    const enum gguf_type type = gguf_get_arr_type(g, id);
    const size_t n = gguf_get_arr_n(g, id);
    json_t *list = json_array();
    for (size_t i = 0; list && i < n; i++) {
        json_t *item = type == GGUF_TYPE_STRING
                           ? json_string(gguf_get_arr_str(g, id, i))
                           : number_to_json(type, (const char *)gguf_get_arr_data(g, id) + i * gguf_value_size(type));
        if (json_array_append_new(list, item) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

static json_t *value_to_json(const struct gguf_context *g, int64_t id) {
    char name[32];
    enum gguf_type type = gguf_get_kv_type(g, id);
    json_t *value;
    if (type == GGUF_TYPE_ARRAY) {
        type = gguf_get_arr_type(g, id);
        value = array_to_json(g, id);
        snprintf(name, sizeof name, "%s%s", gguf_type_name(type), array_mark);
    } else {
        value = type == GGUF_TYPE_STRING ? json_string(gguf_get_val_str(g, id))
                                         : number_to_json(type, gguf_get_val_data(g, id));
        snprintf(name, sizeof name, "%s", gguf_type_name(type));
    }
    return value ? json_pack("[s, o]", name, value) : NULL;
}

int metadata_to_json(json_t **out, const struct gguf_context *g, struct genarm_error *err) {
    json_t *object = json_object();
    if (!object) {
        return error_nomem(err, "metadata");
    }
    for (int64_t i = 0; i < gguf_get_n_kv(g); i++) {
        const char *key = gguf_get_key(g, i);
        if (strcmp(key, GGUF_KEY_GENERAL_ALIGNMENT) == 0) {
            continue;
        }
        if (json_object_set_new(object, key, value_to_json(g, i)) != 0) {
            json_decref(object);
            return error_set(err, GENARM_EUNSUPPORTED,
                             "the metadata %s cannot be kept as JSON: it is no UTF-8 text or no finite number", key);
        }
    }
    *out = object;
    return GENARM_OK;
}

/* ---- from JSON ---- */

static bool number_from_json(void *bytes, enum gguf_type type, const json_t *value) {
    const int row = find_number(type);
    if (type == GGUF_TYPE_FLOAT32 || type == GGUF_TYPE_FLOAT64) {
        const double x = json_number_value(value);
        const float f = (float)x;
        if (!json_is_number(value) || (type == GGUF_TYPE_FLOAT32 && !isfinite(f))) {
            return false;
        }
        memcpy(bytes, type == GGUF_TYPE_FLOAT32 ? (const void *)&f : (const void *)&x, gguf_value_size(type));
        return true;
    }
    if (type == GGUF_TYPE_BOOL ? !json_is_boolean(value) : !json_is_integer(value)) {
        return false;
    }
    const json_int_t x = type == GGUF_TYPE_BOOL ? json_is_true(value) : json_integer_value(value);
    if (x < numbers[row].min || x > numbers[row].max) {
        return false;
    }
    memcpy(bytes, &x, gguf_value_size(type)); /* its low bytes: little-endian */
    return true;
}

static bool set_scalar(struct gguf_context *g, const char *key, enum gguf_type type, const json_t *value) {
    union {
        uint64_t whole;
        float f32;
        double f64;
    } x = {.whole = 0};
    if (type == GGUF_TYPE_STRING) {
        if (json_is_string(value)) {
            gguf_set_val_str(g, key, json_string_value(value));
        }
        return json_is_string(value);
    }
    if (!number_from_json(&x, type, value)) {
        return false;
    }
    switch (type) {
    case GGUF_TYPE_UINT8:
        gguf_set_val_u8(g, key, (uint8_t)x.whole);
        break;
    case GGUF_TYPE_INT8:
        gguf_set_val_i8(g, key, (int8_t)x.whole);
        break;
    case GGUF_TYPE_UINT16:
        gguf_set_val_u16(g, key, (uint16_t)x.whole);
        break;
    case GGUF_TYPE_INT16:
        gguf_set_val_i16(g, key, (int16_t)x.whole);
        break;
    case GGUF_TYPE_UINT32:
        gguf_set_val_u32(g, key, (uint32_t)x.whole);
        break;
    case GGUF_TYPE_INT32:
        gguf_set_val_i32(g, key, (int32_t)x.whole);
        break;
    case GGUF_TYPE_UINT64:
        gguf_set_val_u64(g, key, x.whole);
        break;
    case GGUF_TYPE_INT64:
        gguf_set_val_i64(g, key, (int64_t)x.whole);
        break;
    case GGUF_TYPE_FLOAT32:
        gguf_set_val_f32(g, key, x.f32);
        break;
    case GGUF_TYPE_FLOAT64:
        gguf_set_val_f64(g, key, x.f64);
        break;
    default:
        gguf_set_val_bool(g, key, x.whole != 0);
        break;
    }
    return true;
}

static bool set_strings(struct gguf_context *g, const char *key, const json_t *list, struct genarm_error *err,
                        int *rc) {
    const size_t n = json_array_size(list);
    const char **strings = malloc((n + 1) * sizeof *strings);
    bool ok = true;
    for (size_t i = 0; strings && ok && i < n; i++) {
        strings[i] = json_string_value(json_array_get(list, i));
        ok = strings[i] != NULL;
    }
    if (!strings) {
        *rc = error_nomem(err, "metadata");
    } else if (ok) {
        gguf_set_arr_str(g, key, strings, n);
    }
    free(strings);
    return ok;
}

static bool set_array(struct gguf_context *g, const char *key, enum gguf_type type, const json_t *list,
                      struct genarm_error *err, int *rc) {
    if (!json_is_array(list)) {
        return false;
    }
    if (type == GGUF_TYPE_STRING) {
        return set_strings(g, key, list, err, rc);
    }
    const size_t n = json_array_size(list), size = gguf_value_size(type);
    char *bytes = malloc(n * size + 1);
    bool ok = true;
    for (size_t i = 0; bytes && ok && i < n; i++) {
        ok = number_from_json(bytes + i * size, type, json_array_get(list, i));
    }
    if (!bytes) {
        *rc = error_nomem(err, "metadata");
    } else if (ok) {
        gguf_set_arr_data(g, key, type, bytes, n);
    }
    free(bytes);
    return ok;
}

/* Takes "f32" or "f32[]" apart. */
static bool parse_type(enum gguf_type *type, bool *is_array, const char *name) {
    for (int i = 0; name && i < GGUF_TYPE_COUNT; i++) {
        const char *known = gguf_type_name((enum gguf_type)i);
        const size_t n = known ? strlen(known) : 0;
        if (known && i != GGUF_TYPE_ARRAY && strncmp(name, known, n) == 0 &&
            (name[n] == '\0' || strcmp(name + n, array_mark) == 0)) {
            *type = (enum gguf_type)i;
            *is_array = name[n] != '\0';
            return true;
        }
    }
    return false;
}

static int set_value(struct gguf_context *g, const char *key, const json_t *pair, struct genarm_error *err) {
    enum gguf_type type = GGUF_TYPE_STRING;
    bool is_array = false;
    bool ok = *key && strlen(key) <= MAX_KEY_BYTES && json_array_size(pair) == 2 &&
              parse_type(&type, &is_array, json_string_value(json_array_get(pair, 0)));
    int rc = GENARM_OK;
    for (const char *c = key; *c; c++) {
        ok = ok && (unsigned char)*c >= 0x20 && *c != 0x7F;
    }
    if (ok && strcmp(key, GGUF_KEY_GENERAL_ALIGNMENT) != 0) {
        const json_t *value = json_array_get(pair, 1);
        ok = is_array ? set_array(g, key, type, value, err, &rc) : set_scalar(g, key, type, value);
    }
    return ok ? rc : error_set(err, GENARM_EFORMAT, "GGUF metadata %.80s is not [type, value]", key);
}

int metadata_from_json(struct gguf_context *g, json_t *object, struct genarm_error *err) {
    const char *key;
    json_t *pair;
    if (!json_is_object(object) || json_object_size(object) > MAX_KEYS) {
        return error_set(err, GENARM_EFORMAT, "GGUF metadata is no JSON object of at most %d keys", MAX_KEYS);
    }
    json_object_foreach(object, key, pair) {
        const int rc = set_value(g, key, pair, err);
        if (rc != GENARM_OK) {
            return rc;
        }
    }
    return GENARM_OK;
}
