/* Ethernet, ARP, IPv4 and ICMP: enough to be asked. */

#ifndef NET_H
#define NET_H

#include "tcp.h"

#include <stddef.h>
#include <stdint.h>

/* Takes a frame as it came from outside: anything may be in it. */
void net_receive(struct server *server, const uint8_t *frame, size_t length);

#endif
