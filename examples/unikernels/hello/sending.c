#include "sending.h"

void send_part(const struct server *server, struct connection *connection, uint8_t flags,
               const char *data, size_t length) {
    size_t room = connection->closing ? REQUEST_MAX : REQUEST_MAX - connection->request_length;

    segment_send(&server->host, &(struct segment){
                                    .peer = connection->peer,
                                    .port = server->port,
                                    .number = connection->sent,
                                    .acknowledges = connection->received,
                                    .flags = flags,
                                    .window = (uint16_t)room,
                                    .data = (const uint8_t *)data,
                                    .length = length,
                                });
    connection->owing = false;
    connection->sent += (uint32_t)length + (flags & (SYN | FIN) ? 1 : 0);
    if (before(connection->highest, connection->sent))
        connection->highest = connection->sent;
}

static void reset(const struct server *server, const struct peer *peer, uint16_t port,
                  uint32_t number, uint32_t acknowledges, uint8_t flags) {
    segment_send(&server->host, &(struct segment){
                                    .peer = *peer,
                                    .port = port,
                                    .number = number,
                                    .acknowledges = acknowledges,
                                    .flags = flags,
                                    .data = (const uint8_t *)"",
                                });
}

void refuse(const struct server *server, const struct segment *segment) {
    uint32_t end = segment->number + (uint32_t)segment->length + !!(segment->flags & SYN) +
                   !!(segment->flags & FIN);

    if (segment->flags & RST)
        return;
    if (segment->flags & ACK)
        reset(server, &segment->peer, segment->port, segment->acknowledges, 0, RST);
    else
        reset(server, &segment->peer, segment->port, 0, end, RST | ACK);
}

void drop(const struct server *server, struct connection *connection) {
    reset(server, &connection->peer, server->port, connection->highest, connection->received,
          RST | ACK);
    connection->state = FREE;
}

void send_more(const struct server *server, struct connection *connection, uint32_t window) {
    while (connection->state == OPEN) {
        size_t flight = connection->sent - connection->acknowledged;
        size_t length, room = window > flight ? window - flight : 0;
        bool last;

        if (flight > connection->answer_length) /* the FIN too */
            break;
        length = connection->answer_length - flight;
        if (length > room)
            length = room;
        if (length > connection->size)
            length = connection->size;
        last = flight + length == connection->answer_length;
        if (length == 0 && !(last && connection->closing))
            break;
        send_part(server, connection,
                  (uint8_t)(ACK | (last ? PSH : 0) | (last && connection->closing ? FIN : 0)),
                  connection->answer + flight, length);
    }
    if (connection->owing)
        send_part(server, connection, ACK, "", 0);
}
