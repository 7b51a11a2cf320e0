#include "segment.h"

#define OPTION_END 0
#define OPTION_NOTHING 1
#define OPTION_SIZE 2

void segment_send(const struct host *host, const struct segment *segment) {
    uint8_t *head = packet_payload();
    size_t words = segment->flags & SYN ? 6 : 5;
    size_t length = words * 4 + segment->length;

    put16(head, segment->port);
    put16(head + 2, segment->peer.port);
    put32(head + 4, segment->number);
    put32(head + 8, segment->acknowledges);
    head[12] = (uint8_t)(words << 4);
    head[13] = segment->flags;
    put16(head + 14, segment->window);
    put32(head + 16, 0);
    if (segment->flags & SYN)
        put32(head + 20, OPTION_SIZE << 24 | 4 << 16 | SEGMENT_MAX);
    memcpy(head + words * 4, segment->data, segment->length);
    put16(head + 16,
          checksum(head, length, pseudo_sum(host->address, segment->peer.address, length)));
    packet_send(host, &segment->peer, TCP_PROTOCOL, length);
}

/* Reads the options; false if they are none. */
static bool options_take(struct segment *segment, const uint8_t *at, const uint8_t *end) {
    while (at < end && *at != OPTION_END) {
        if (*at == OPTION_NOTHING) {
            at++;
            continue;
        }
        if (end - at < 2 || at[1] < 2 || at[1] > end - at)
            return false;
        if (*at == OPTION_SIZE && at[1] == 4)
            segment->size = get16(at + 2);
        at += at[1];
    }
    return true;
}

bool segment_read(struct segment *segment, const struct host *host, const struct peer *from,
                  const uint8_t *at, size_t length) {
    size_t head;

    if (length < TCP)
        return false;
    head = (size_t)(at[12] >> 4) * 4;
    if (head < TCP || head > length ||
        checksum(at, length, pseudo_sum(from->address, host->address, length)) != 0)
        return false;
    *segment = (struct segment){
        .peer = *from,
        .port = get16(at + 2),
        .number = get32(at + 4),
        .acknowledges = get32(at + 8),
        .flags = at[13],
        .window = get16(at + 14),
        .data = at + head,
        .length = length - head,
    };
    segment->peer.port = get16(at);
    return segment->peer.port != 0 && options_take(segment, at + TCP, at + head);
}
