/* Names and sizes of the types, for the reader and the writer of safetensors. */
#ifndef CONVERT_SAFETENSORS_TYPES_H
#define CONVERT_SAFETENSORS_TYPES_H

#include "convert/safetensors.h"

extern const struct safetensors_type_info {
    const char *name;
    size_t size; /* bytes of one number */
} safetensors_types[SAFETENSORS_TYPE_COUNT];

#endif
