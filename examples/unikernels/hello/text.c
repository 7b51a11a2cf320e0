#include "text.h"

#include "bytes.h"

void text_bytes(struct text *text, const char *bytes, size_t length) {
    size_t room = text->size - text->length;

    if (length > room)
        length = room;
    memcpy(text->at + text->length, bytes, length);
    text->length += length;
}

void text_add(struct text *text, const char *word) {
    text_bytes(text, word, text_length(word));
}

static void text_digits(struct text *text, uint64_t number, unsigned base) {
    char digits[20];
    size_t at = sizeof digits;

    do {
        digits[--at] = "0123456789abcdef"[number % base];
        number /= base;
    } while (number > 0);
    text_bytes(text, digits + at, sizeof digits - at);
}

void text_number(struct text *text, uint64_t number) {
    text_digits(text, number, 10);
}

void text_hex(struct text *text, uint64_t number) {
    text_add(text, "0x");
    text_digits(text, number, 16);
}

void text_address(struct text *text, uint32_t address) {
    for (int shift = 24; shift >= 0; shift -= 8) {
        text_number(text, address >> shift & 255);
        if (shift > 0)
            text_add(text, ".");
    }
}

size_t text_length(const char *word) {
    size_t length = 0;

    while (word[length] != '\0')
        length++;
    return length;
}

bool text_read(const char **at, const char *end, uint32_t most, uint32_t *number) {
    const char *begin = *at;
    uint64_t sum = 0;

    for (; *at < end && **at >= '0' && **at <= '9'; ++*at) {
        sum = sum * 10 + (uint64_t)(**at - '0');
        if (sum > most)
            return false;
    }
    *number = (uint32_t)sum;
    return *at > begin;
}
