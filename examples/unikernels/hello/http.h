/* What is served. */

#ifndef HTTP_H
#define HTTP_H

#include "text.h"

#include <stdbool.h>
#include <stddef.h>

struct site {
    const char *name;
    const char *version;
    bool sick;
};

/*
 * Answers the first request of what has come. Returns how many bytes it took, 0 while the request
 * is not whole. full: no more can come, so a request that is not whole is refused. close: whether
 * the connection ends with this answer.
 */
size_t http_serve(const struct site *site, const char *request, size_t length, bool full,
                  struct text *answer, bool *close);

#endif
