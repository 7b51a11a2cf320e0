/* A TCP server on one port. */

#ifndef TCP_H
#define TCP_H

#include "http.h"
#include "packet.h"

#include <stdbool.h>
#include <stdint.h>

#define CONNECTIONS 256
#define REQUEST_MAX 2048
#define ANSWER_MAX 512

enum state {
    FREE,
    SYN_RECEIVED,
    OPEN,      /* closing and finished tell how far either side has closed it */
    FIN_WAIT,  /* our FIN is acknowledged, the peer's is awaited */
    TIME_WAIT, /* both are through; the peer may not know */
};

/*
 * What is sent is the answer and, if closing, a FIN; before that, one SYN. Its first byte that is
 * not acknowledged has the number acknowledged.
 */
struct connection {
    enum state state;
    struct peer peer;
    uint32_t received;     /* the number that is expected next */
    uint32_t acknowledged; /* what the peer expects next, as it says */
    uint32_t sent;         /* what is sent next; goes back when sending again */
    uint32_t highest;      /* behind all that was ever sent */
    uint32_t window;       /* bytes behind acknowledged that the peer takes */
    uint16_t size;         /* bytes of data that it takes in one segment */
    bool closing;          /* a FIN follows the answer */
    bool finished;         /* the peer's FIN has come */
    bool owing;            /* the peer is owed an acknowledgement */
    unsigned attempts;     /* how often the same was sent again */
    uint32_t since;        /* tick at which this wait began */
    size_t request_length;
    size_t answer_length;
    char request[REQUEST_MAX];
    char answer[ANSWER_MAX];
};

struct server {
    struct host host;
    uint16_t port;
    struct site site;
    uint32_t (*random)(void);
    uint32_t tick;
    struct connection connections[CONNECTIONS];
};

/* Takes a segment whose IP head was found right. */
void tcp_receive(struct server *server, const struct peer *from, const uint8_t *segment,
                 size_t length);

/* To be called once a tick while tcp_busy. */
void tcp_tick(struct server *server);
bool tcp_busy(const struct server *server);

#endif
