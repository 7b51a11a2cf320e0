/* Text that grows in a buffer of fixed size. */

#ifndef TEXT_H
#define TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What does not fit is left out. */
struct text {
    char *at;
    size_t size;
    size_t length;
};

void text_bytes(struct text *text, const char *bytes, size_t length);
void text_add(struct text *text, const char *word);
void text_number(struct text *text, uint64_t number);
void text_hex(struct text *text, uint64_t number);
void text_address(struct text *text, uint32_t address);

size_t text_length(const char *word);

/* Reads the digits at *at and moves it behind them; false if there are none, or of a number > most.
 */
bool text_read(const char **at, const char *end, uint32_t most, uint32_t *number);

#endif
