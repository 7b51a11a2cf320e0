/* What the compiler calls for copies, and expects of whoever has no C library. */

#include "bytes.h"

void *memcpy(void *restrict to, const void *restrict from, size_t size) {
    void *start = to;

    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size)::"memory");
    return start;
}

void *memmove(void *to, const void *from, size_t size) {
    uint8_t *target = to;
    const uint8_t *source = from;

    if (target <= source)
        return memcpy(to, from, size);
    while (size-- > 0)
        target[size] = source[size];
    return to;
}

void *memset(void *at, int byte, size_t size) {
    void *start = at;

    __asm__ volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(byte) : "memory");
    return start;
}

int memcmp(const void *one, const void *other, size_t size) {
    const uint8_t *left = one, *right = other;

    for (size_t i = 0; i < size; i++)
        if (left[i] != right[i])
            return left[i] - right[i];
    return 0;
}
