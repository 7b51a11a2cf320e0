/* TCP segments on the wire. */

#ifndef SEGMENT_H
#define SEGMENT_H

#include "packet.h"

#define TCP 20
#define SEGMENT_MAX (PAYLOAD_MAX - TCP)

#define FIN 1
#define SYN 2
#define RST 4
#define PSH 8
#define ACK 16

struct segment {
    struct peer peer; /* at the other end */
    uint16_t port;    /* at this one */
    uint32_t number, acknowledges;
    uint8_t flags;
    uint16_t window;
    uint16_t size; /* of the peer's segments at most, as its option says; 0 where there is none */
    const uint8_t *data;
    size_t length;
};

/* Reads a segment of that peer, whose port it fills in; false if it is none. */
bool segment_read(struct segment *segment, const struct host *host, const struct peer *from,
                  const uint8_t *at, size_t length);

/* Sends one; a SYN tells SEGMENT_MAX. */
void segment_send(const struct host *host, const struct segment *segment);

#endif
