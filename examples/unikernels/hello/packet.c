#include "packet.h"

#define KIND_IP 0x0800
#define LIFETIME 64

static uint8_t frame[ETHERNET + IP + PAYLOAD_MAX];

uint16_t checksum(const uint8_t *at, size_t length, uint32_t sum) {
    for (; length > 1; length -= 2, at += 2)
        sum += get16(at);
    if (length > 0)
        sum += (uint32_t)*at << 8;
    while (sum > 0xffff)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

uint32_t pseudo_sum(uint32_t one, uint32_t other, size_t length) {
    return (one >> 16) + (one & 0xffff) + (other >> 16) + (other & 0xffff) + TCP_PROTOCOL +
           (uint32_t)length;
}

uint8_t *packet_payload(void) {
    return frame + ETHERNET + IP;
}

void frame_send(const struct host *host, const uint8_t *to, uint16_t kind, size_t length) {
    memcpy(frame, to, 6);
    memcpy(frame + 6, host->mac, 6);
    put16(frame + 12, kind);
    host->send(frame, ETHERNET + length);
}

void packet_send(const struct host *host, const struct peer *to, uint8_t protocol, size_t length) {
    uint8_t *head = frame + ETHERNET;

    head[0] = 0x45; /* version 4, 5 words */
    head[1] = 0;
    put16(head + 2, (uint16_t)(IP + length));
    put16(head + 4, 0);
    put16(head + 6, 0x4000); /* not to be fragmented, so it needs no number */
    head[8] = LIFETIME;
    head[9] = protocol;
    put16(head + 10, 0);
    put32(head + 12, host->address);
    put32(head + 16, to->address);
    put16(head + 10, checksum(head, IP, 0));
    frame_send(host, to->mac, KIND_IP, IP + length);
}
