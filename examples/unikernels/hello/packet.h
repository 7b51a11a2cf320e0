/* Packets on their way out, and checksums. */

#ifndef PACKET_H
#define PACKET_H

#include "bytes.h"

#include <stdbool.h>

#define ETHERNET 14
#define IP 20
#define PAYLOAD_MAX 1480 /* of an IPv4 packet in an Ethernet frame */

#define TCP_PROTOCOL 6
#define ICMP_PROTOCOL 1

/*
 * Whom packets come from and go to. Answers go to the MAC address that asked, be it a neighbour's
 * or a router's, so that no route and no gateway need be known.
 */
struct peer {
    uint8_t mac[6];
    uint32_t address;
    uint16_t port;
};

/* Who answers. send: hands a frame to the device, which copies it. */
struct host {
    uint8_t mac[6];
    uint32_t address;
    void (*send)(const uint8_t *frame, size_t length);
};

/* Where a packet's payload is written before packet_send. */
uint8_t *packet_payload(void);
void packet_send(const struct host *host, const struct peer *to, uint8_t protocol, size_t length);
void frame_send(const struct host *host, const uint8_t *to, uint16_t kind, size_t length);

/* The one's complement sum of RFC 1071; 0 of what holds its own. */
uint16_t checksum(const uint8_t *at, size_t length, uint32_t sum);

/* What TCP's checksum begins with: the addresses, the protocol and the length. */
uint32_t pseudo_sum(uint32_t one, uint32_t other, size_t length);

#endif
