/* What a connection sends. */

#ifndef SENDING_H
#define SENDING_H

#include "segment.h"
#include "tcp.h"

/* Whether a number comes before another, of those that wrap around. */
static inline bool before(uint32_t one, uint32_t other) {
    return (int32_t)(one - other) < 0;
}

/* Sends a part of what the connection sends, and what it has to say of what it received. */
void send_part(const struct server *server, struct connection *connection, uint8_t flags,
               const char *data, size_t length);

/* Sends what may be sent at present. window: bytes behind acknowledged. */
void send_more(const struct server *server, struct connection *connection, uint32_t window);

/* Answers a segment of no connection. */
void refuse(const struct server *server, const struct segment *segment);

/* Ends a connection, and tells the peer. */
void drop(const struct server *server, struct connection *connection);

#endif
