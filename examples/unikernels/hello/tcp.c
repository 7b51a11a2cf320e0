/* Source: RFC 9293; RFC 5961 for segments that somebody may have made up. */

#include "tcp.h"

#include "sending.h"

#define SIZE_DEFAULT 536
#define SIZE_MIN 64 /* whoever asks for less gets more packets out of us than they send */

/* Ticks */
#define FIRST_WAIT 3
#define LONGEST_WAIT 100
#define IDLE_WAIT 600
#define TIME_WAIT_WAIT 20

#define ATTEMPTS 12
#define SYN_ATTEMPTS 5

/* Answers the next request, once the answer before is through. */
static void serve(struct server *server, struct connection *connection) {
    struct text answer = {connection->answer, ANSWER_MAX, 0};
    size_t taken;

    if (connection->state != OPEN || connection->closing || connection->answer_length > 0)
        return;
    taken = http_serve(&server->site, connection->request, connection->request_length,
                       connection->request_length == REQUEST_MAX, &answer, &connection->closing);
    connection->answer_length = answer.length;
    connection->request_length -= taken;
    memmove(connection->request, connection->request + taken, connection->request_length);
    if (taken == 0 && connection->finished)
        connection->closing = true;
    if (taken > 0 || connection->closing) {
        connection->attempts = 0;
        connection->since = server->tick;
    }
}

/* Returns a connection that may be begun: one that is over, else the oldest half-open one. */
static struct connection *vacant(struct server *server) {
    struct connection *oldest = NULL;

    for (unsigned i = 0; i < CONNECTIONS; i++) {
        struct connection *one = &server->connections[i];

        if (one->state == FREE)
            return one;
        if (one->state != SYN_RECEIVED && one->state != TIME_WAIT)
            continue;
        if (oldest == NULL || (one->state == TIME_WAIT && oldest->state != TIME_WAIT) ||
            (one->state == oldest->state && before(one->since, oldest->since)))
            oldest = one;
    }
    return oldest;
}

static void begin(struct server *server, const struct segment *segment) {
    struct connection *connection = vacant(server);
    uint16_t size = segment->size ? segment->size : SIZE_DEFAULT;

    if (connection == NULL)
        return; /* the peer asks again */
    connection->state = SYN_RECEIVED;
    connection->peer = segment->peer;
    connection->received = segment->number + 1;
    connection->acknowledged = connection->sent = connection->highest = server->random();
    connection->window = segment->window;
    connection->size = size < SIZE_MIN ? SIZE_MIN : size > SEGMENT_MAX ? SEGMENT_MAX : size;
    connection->closing = connection->finished = false;
    connection->attempts = 0;
    connection->since = server->tick;
    connection->request_length = connection->answer_length = 0;
    send_part(server, connection, SYN | ACK, "", 0);
}

static struct connection *find(struct server *server, const struct peer *peer) {
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        struct connection *one = &server->connections[i];

        if (one->state != FREE && one->peer.address == peer->address &&
            one->peer.port == peer->port)
            return one;
    }
    return NULL;
}

/* Takes an acknowledgement in; false if the segment is to be looked at no further. */
static bool acknowledge(struct server *server, struct connection *connection,
                        const struct segment *segment) {
    uint32_t through = segment->acknowledges - connection->acknowledged;

    if (before(connection->highest, segment->acknowledges)) {
        connection->owing = true; /* this was never sent */
        return false;
    }
    if (before(segment->acknowledges, connection->acknowledged))
        return true; /* an old one: its data may be new all the same */
    connection->window = segment->window;
    if (through == 0)
        return true;
    connection->acknowledged += through;
    if (before(connection->sent, connection->acknowledged))
        connection->sent = connection->acknowledged;
    connection->attempts = 0;
    connection->since = server->tick;
    if (through > connection->answer_length) { /* the FIN too */
        connection->answer_length = 0;
        connection->state = connection->finished ? FREE : FIN_WAIT;
        return connection->state != FREE;
    }
    connection->answer_length -= through;
    memmove(connection->answer, connection->answer + through, connection->answer_length);
    return true;
}

/* Takes data and a FIN in, if they are what is expected next; answers are owed for either. */
static void take(struct server *server, struct connection *connection,
                 const struct segment *segment) {
    uint32_t known = connection->received - segment->number;
    size_t length, room = REQUEST_MAX - connection->request_length;

    if (segment->length == 0 && !(segment->flags & FIN))
        return;
    connection->owing = true;
    if (before(connection->received, segment->number) || known > segment->length ||
        connection->finished)
        return;
    length = segment->length - known;
    if (connection->closing) { /* nobody reads it */
        connection->received += (uint32_t)length;
    } else {
        if (length > room)
            length = room;
        memcpy(connection->request + connection->request_length, segment->data + known, length);
        connection->request_length += length;
        connection->received += (uint32_t)length;
    }
    if (!(segment->flags & FIN) || known + length < segment->length)
        return;
    connection->received++;
    connection->finished = true;
    if (connection->state == FIN_WAIT) {
        connection->state = TIME_WAIT;
        connection->since = server->tick;
    }
}

/* Whether a segment lies where the peer may send at present. */
static bool acceptable(const struct connection *connection, const struct segment *segment) {
    uint32_t begin = segment->number - connection->received;
    uint32_t end = begin + (uint32_t)segment->length + !!(segment->flags & FIN);

    return (int32_t)begin < REQUEST_MAX && (int32_t)end >= 0 && (int32_t)(end - begin) >= 0;
}

static void established(struct server *server, struct connection *connection,
                        const struct segment *segment) {
    if (!acceptable(connection, segment)) {
        connection->owing = !(segment->flags & RST);
    } else if (segment->flags & RST) {
        if (segment->number == connection->received)
            connection->state = FREE;
        else
            connection->owing = true; /* whoever sent it for the peer cannot know the number */
    } else if (segment->flags & SYN) {
        connection->owing = true;
    } else if ((segment->flags & ACK) && acknowledge(server, connection, segment)) {
        take(server, connection, segment);
        serve(server, connection);
    }
    if (connection->state != FREE)
        send_more(server, connection, connection->window);
}

static void half_open(struct server *server, struct connection *connection,
                      const struct segment *segment) {
    if (segment->flags & RST) {
        if (segment->number == connection->received)
            connection->state = FREE;
    } else if (segment->flags & SYN) {
        connection->sent = connection->acknowledged;
        send_part(server, connection, SYN | ACK, "", 0);
    } else if (segment->flags & ACK) {
        if (segment->acknowledges != connection->highest) {
            refuse(server, segment);
            return;
        }
        connection->state = OPEN;
        connection->acknowledged = connection->sent = connection->highest;
        connection->attempts = 0;
        connection->since = server->tick;
        established(server, connection, segment);
    }
}

void tcp_receive(struct server *server, const struct peer *from, const uint8_t *at, size_t length) {
    struct segment segment;
    struct connection *connection;

    if (!segment_read(&segment, &server->host, from, at, length))
        return;
    if (segment.port != server->port) {
        refuse(server, &segment);
        return;
    }
    connection = find(server, &segment.peer);
    if (connection != NULL && connection->state == TIME_WAIT && (segment.flags & SYN) &&
        before(connection->received, segment.number)) {
        connection->state = FREE; /* the same port again, for another connection */
        connection = NULL;
    }
    if (connection == NULL && (segment.flags & (SYN | ACK | RST | FIN)) == SYN)
        begin(server, &segment);
    else if (connection == NULL)
        refuse(server, &segment);
    else if (connection->state == SYN_RECEIVED)
        half_open(server, connection, &segment);
    else
        established(server, connection, &segment);
}

/* Ticks until the same is sent again. */
static uint32_t patience(unsigned attempts) {
    uint32_t wait = FIRST_WAIT << (attempts < 8 ? attempts : 8);

    return wait < LONGEST_WAIT ? wait : LONGEST_WAIT;
}

static void again(const struct server *server, struct connection *connection) {
    if (connection->attempts++ >= (connection->state == SYN_RECEIVED ? SYN_ATTEMPTS : ATTEMPTS)) {
        drop(server, connection);
        return;
    }
    connection->since = server->tick;
    connection->sent = connection->acknowledged;
    if (connection->state == SYN_RECEIVED)
        send_part(server, connection, SYN | ACK, "", 0);
    else /* at least a byte, to learn whether a window of none has opened */
        send_more(server, connection, connection->window > 0 ? connection->window : 1);
}

static void connection_tick(struct server *server, struct connection *connection) {
    uint32_t waited = server->tick - connection->since;
    bool pending = connection->answer_length > 0 || connection->closing;

    if (connection->state == TIME_WAIT) {
        if (waited >= TIME_WAIT_WAIT)
            connection->state = FREE;
    } else if (connection->state == FIN_WAIT) {
        if (waited >= IDLE_WAIT)
            drop(server, connection);
    } else if (connection->state == SYN_RECEIVED || pending) {
        if (waited >= patience(connection->attempts))
            again(server, connection);
    } else if (waited >= IDLE_WAIT) {
        connection->closing = true;
        connection->since = server->tick;
        send_more(server, connection, connection->window);
    }
}

void tcp_tick(struct server *server) {
    server->tick++;
    for (unsigned i = 0; i < CONNECTIONS; i++)
        if (server->connections[i].state != FREE)
            connection_tick(server, &server->connections[i]);
}

bool tcp_busy(const struct server *server) {
    for (unsigned i = 0; i < CONNECTIONS; i++)
        if (server->connections[i].state != FREE)
            return true;
    return false;
}
