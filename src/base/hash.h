/* FNV-1a, 64 bits (Fowler, Noll, Vo): fingerprints and hash tables. Not for adversaries. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_START UINT64_C(0xCBF29CE484222325)

/* Continues `hash` (first HASH_START) over n bytes. */
static inline uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t n) {
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i++) {
        hash = (hash ^ p[i]) * UINT64_C(0x100000001B3);
    }
    return hash;
}

/* The same over a number, by value: its bytes from the lowest, on every machine. */
static inline uint64_t hash_u64(uint64_t hash, uint64_t value) {
    for (int i = 0; i < 8; i++) {
        hash = (hash ^ (value >> 8 * i & 0xFF)) * UINT64_C(0x100000001B3);
    }
    return hash;
}

#endif
