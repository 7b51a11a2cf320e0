/*
 * Tries the packet code on this host, under AddressSanitizer: clients that behave, and frames that
 * are cut, changed and made up. Whatever comes, each frame sent must be right, and a client that
 * behaves gets its answer. fuzz SEED COUNT
 */

#include "net.h"
#include "options.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OWN 0x0a460002
#define CLIENT 0x0a460001
#define PORT 80
#define FRAME_MAX 1514
#define TCP_AT (ETHERNET + IP)

static struct server server;
static uint8_t last[FRAME_MAX]; /* what was sent last */
static size_t last_length;
static unsigned long sent;
static uint64_t state;

/* What a client that does not behave knows of its connection; its port is its place, from 1 on. */
static struct {
    bool open;
    uint32_t next;    /* the number of what it sends next */
    uint32_t expects; /* the number of what the server sends next */
} clients[12];

#define CLIENTS (sizeof clients / sizeof clients[0])

static uint32_t number(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

static uint32_t below(uint32_t limit) {
    return number() % limit;
}

static void follow(const uint8_t *tcp, size_t length) {
    uint32_t port = get16(tcp + 2) - 1u;
    uint8_t flags = tcp[13];
    uint32_t end = get32(tcp + 4) + (uint32_t)length - (uint32_t)(tcp[12] >> 4) * 4 + !!(flags & 3);

    if (port >= CLIENTS)
        return;
    clients[port].open = !(flags & 4);
    clients[port].next = get32(tcp + 8);
    if ((flags & 2) || (int32_t)(end - clients[port].expects) > 0) /* not when it sends again */
        clients[port].expects = end;
}

static void check(const uint8_t *frame, size_t length) {
    size_t whole;

    assert(length >= ETHERNET && length <= FRAME_MAX);
    assert(memcmp(frame + 6, server.host.mac, 6) == 0 && !(frame[0] & 1));
    if (get16(frame + 12) == 0x0806) {
        assert(length == ETHERNET + 28);
    } else {
        whole = get16(frame + ETHERNET + 2);
        assert(whole == length - ETHERNET && checksum(frame + ETHERNET, IP, 0) == 0);
        if (frame[ETHERNET + 9] == TCP_PROTOCOL) {
            assert(checksum(frame + TCP_AT, whole - IP,
                            pseudo_sum(OWN, get32(frame + ETHERNET + 16), whole - IP)) == 0);
            follow(frame + TCP_AT, whole - IP);
        } else {
            assert(checksum(frame + TCP_AT, whole - IP, 0) == 0);
        }
    }
    memcpy(last, frame, length);
    last_length = length;
    sent++;
}

/* Hands over a copy that ends where its memory does. */
static void receive(const uint8_t *frame, size_t length) {
    uint8_t *copy = malloc(length > 0 ? length : 1);

    assert(copy != NULL);
    memcpy(copy, frame, length);
    net_receive(&server, copy, length);
    free(copy);
}

/* Makes the sums of a frame right, as far as its lengths let one. */
static void mend(uint8_t *frame, size_t length) {
    uint8_t *ip = frame + ETHERNET, *tcp = frame + TCP_AT;
    size_t size;

    if (length < TCP_AT + 20)
        return;
    put16(ip + 10, 0);
    put16(ip + 10, checksum(ip, IP, 0));
    size = length - TCP_AT;
    if (ip[9] == ICMP_PROTOCOL) {
        put16(tcp + 2, 0);
        put16(tcp + 2, checksum(tcp, size, 0));
    } else {
        put16(tcp + 16, 0);
        put16(tcp + 16, checksum(tcp, size, pseudo_sum(get32(ip + 12), get32(ip + 16), size)));
    }
}

static size_t packet(uint8_t *frame, uint8_t protocol, size_t length) {
    memset(frame, 0, ETHERNET + IP);
    memcpy(frame, server.host.mac, 6);
    frame[11] = 7;
    put16(frame + 12, 0x0800);
    frame[ETHERNET] = 0x45;
    put16(frame + ETHERNET + 2, (uint16_t)(IP + length));
    frame[ETHERNET + 8] = 64;
    frame[ETHERNET + 9] = protocol;
    put32(frame + ETHERNET + 12, CLIENT);
    put32(frame + ETHERNET + 16, OWN);
    mend(frame, TCP_AT + length);
    return TCP_AT + length;
}

static size_t segment(uint8_t *frame, uint16_t port, uint32_t seq, uint32_t ack, uint8_t flags,
                      uint16_t window, const char *data, size_t length) {
    uint8_t *tcp = frame + TCP_AT;

    memset(tcp, 0, 20);
    put16(tcp, port);
    put16(tcp + 2, PORT);
    put32(tcp + 4, seq);
    put32(tcp + 8, ack);
    tcp[12] = 0x50;
    tcp[13] = flags;
    put16(tcp + 14, window);
    memcpy(tcp + 20, data, length);
    return packet(frame, TCP_PROTOCOL, 20 + length);
}

static uint8_t last_flags(void) {
    return last[TCP_AT + 13];
}

/* A client that behaves, in pieces and with a window of any size, over a line that loses frames. */
static void converse(uint16_t port) {
    static const char request[] = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    uint8_t frame[FRAME_MAX];
    char answer[1024];
    uint32_t seq = number(), ack, got = 0;
    uint16_t window = (uint16_t)(1 + below(700));
    size_t asked = 0;
    bool done = false;

    receive(frame, segment(frame, port, seq++, 0, 2, window, "", 0));
    assert(last_flags() == 0x12 && get32(last + TCP_AT + 8) == seq);
    ack = get32(last + TCP_AT + 4) + 1;
    receive(frame, segment(frame, port, seq, ack, 0x10, window, "", 0));
    for (int patience = 0; !done && patience < 20000; patience++) {
        size_t piece = 1 + below(sizeof request - 1);
        unsigned long before = sent;

        if (piece > sizeof request - 1 - asked)
            piece = sizeof request - 1 - asked;
        receive(frame, segment(frame, port, seq, ack, 0x18, window, request + asked, piece));
        asked += piece;
        seq += (uint32_t)piece;
        if (sent == before)
            tcp_tick(&server);
        if (sent == before || below(3) == 0 || get16(last + TCP_AT + 2) != port)
            continue; /* nothing came, or it was lost */
        assert(!(last_flags() & 4));
        if (get32(last + TCP_AT + 4) == ack && last_length > TCP_AT + 20) {
            memcpy(answer + got, last + TCP_AT + 20, last_length - TCP_AT - 20);
            got += (uint32_t)(last_length - TCP_AT - 20);
            ack += (uint32_t)(last_length - TCP_AT - 20);
        }
        done = got >= 9 && memcmp(answer + got - 5, "well\n", 5) == 0;
    }
    assert(done && memcmp(answer, "HTTP/1.1 200 OK\r\n", 17) == 0);
    receive(frame, segment(frame, port, seq, ack, 0x14, window, "", 0));
}

static const char *const words[] = {
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /healthz HTTP/1.1\r\nHOST: a\r\n\r\nGET /none HTTP/1.1\r\nHost: b\r\n\r\n",
    "HEAD / HTTP/1.0\r\nConnection: Keep-Alive, x\r\n\r\n",
    "GET /?x HTTP/1.1\r\nConnection: \tclose \r\nHost:\r\n\r\nGET / HTTP/1.1\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 4294967296\r\nTransfer-Encoding: x\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "\r\n\r\n\r\n",
    ": :\r\n",
    "GET",
    "GET / HTTP/2.0\r\n\r\n",
    "",
};

/* Changes a frame at any place, and its length. */
static size_t spoil(uint8_t *frame, size_t length) {
    for (uint32_t i = below(6); i > 0; i--)
        frame[below((uint32_t)length)] = (uint8_t)number();
    if (below(2))
        frame[TCP_AT + 12] = (uint8_t)number();
    if (below(4) == 0)
        length = below((uint32_t)length + 1);
    if (below(4) > 0)
        mend(frame, length);
    return length;
}

/* A SYN, with options of any kind. */
static size_t opening(uint8_t *frame, uint16_t port) {
    size_t options = below(11) * 4;

    for (size_t i = 0; i < options; i++)
        frame[TCP_AT + 20 + i] = (uint8_t)below(below(2) ? 6 : 256);
    segment(frame, port, number(), 0, 2, (uint16_t)below(3000), "", 0);
    frame[TCP_AT + 12] = (uint8_t)(5 + options / 4) << 4;
    return packet(frame, TCP_PROTOCOL, 20 + options);
}

/* What a client would send next, with numbers, flags and data that are right most of the time. */
static size_t going_on(uint8_t *frame, unsigned client) {
    static const uint8_t flags[] = {2, 0x11, 0x11, 0x19, 0x14, 4, 0, 0x3f, 0x12};
    static char flood[1400];
    const char *word = words[below(sizeof words / sizeof words[0])];
    size_t length = strlen(word);
    uint32_t seq = clients[client].next, ack = clients[client].expects;

    if (below(8) == 0)
        seq += below(5000) - 2500;
    if (below(8) == 0)
        ack += below(2000) - 1000;
    if (below(8) == 0) {
        memset(flood, 'a' + (int)below(26), sizeof flood);
        word = flood;
        length = below(sizeof flood);
    }
    return segment(frame, (uint16_t)(client + 1), seq, ack,
                   below(3) ? 0x10 : flags[below(sizeof flags)],
                   (uint16_t)(below(3) ? below(65536) : below(40)), word, length);
}

static void disturb(void) {
    uint8_t frame[FRAME_MAX];
    unsigned client = below(CLIENTS);
    size_t length;

    if (below(20000) == 0) /* many who never go on */
        for (uint16_t port = 2000; port < 2000 + 20 * CONNECTIONS; port++)
            receive(frame, opening(frame, port));
    if (clients[client].open && below(50) > 0)
        length = going_on(frame, client);
    else
        length = opening(frame, (uint16_t)(client + 1));
    receive(frame, below(8) == 0 ? spoil(frame, length) : length);
}

static void neighbours(void) {
    static const uint8_t request[] = {0, 1, 8, 0, 6, 4, 0, 1};
    uint8_t frame[FRAME_MAX] = {0};
    size_t length = ETHERNET + 28;

    if (below(2)) {
        memset(frame, 0xff, 6);
        put16(frame + 12, 0x0806);
        memcpy(frame + ETHERNET, request, sizeof request);
        put32(frame + ETHERNET + 24, OWN);
        frame[11] = frame[ETHERNET + 13] = 7;
    } else {
        length = below(PAYLOAD_MAX - 7) + 8;
        frame[TCP_AT] = 8;
        length = packet(frame, ICMP_PROTOCOL, length);
    }
    if (below(2))
        frame[below((uint32_t)length)] = (uint8_t)number();
    if (below(3) == 0)
        length = below((uint32_t)length + 1);
    receive(frame, length);
}

static void command_line(void) {
    static const char *const arguments[] = {
        "--listen=10.0.0.1:80",
        "--listen=256.0.0.1:1",
        "--name=",
        "--exit=128",
        "--sick",
        " ",
        "virtio_mmio.device=512@0x00000000feb00e00:12",
        "virtio_mmio.device=1@0xffffffffff:1",
    };
    char line[256] = "";
    struct options options;

    for (uint32_t i = below(4); i > 0; i--) {
        strcat(line, arguments[below(sizeof arguments / sizeof arguments[0])]);
        if (below(2))
            line[below((uint32_t)strlen(line))] = (char)(1 + below(255));
        strcat(line, below(4) ? " " : "");
    }
    if (options_read(&options, line) == NULL)
        assert(options.port != 0 || options.fail || options.ends);
}

int main(int count, char **given) {
    assert(count == 3);
    state = strtoull(given[1], NULL, 10);
    server.host = (struct host){{2, 0, 0, 0, 0, 9}, OWN, check};
    server.port = PORT;
    server.site = (struct site){"fuzz", "1", false};
    server.random = number;
    for (unsigned long i = strtoul(given[2], NULL, 10); i > 0; i--) {
        uint32_t what = below(32);

        if (what == 0)
            neighbours();
        else if (what == 1)
            for (uint32_t ticks = below(100) ? below(5) : 700; ticks > 0; ticks--)
                tcp_tick(&server);
        else if (what == 2)
            command_line();
        else
            disturb();
        if (i % 1000 == 0) {
            while (tcp_busy(&server)) /* every connection ends by itself */
                tcp_tick(&server);
            for (uint16_t port = 1000; port < 1010; port++)
                converse(port);
        }
    }
    printf("%lu frames sent\n", sent);
    return 0;
}
