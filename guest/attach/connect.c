/* A stream that is a connection to a port of the guest's own network. */
#define _GNU_SOURCE
#include "stage2.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Begins to connect to 127.0.0.1, or to ::1 where IPv6 is asked for. */
static bool begin(struct stream *stream, bool six) {
    struct sockaddr_in four = {.sin_family = AF_INET,
                               .sin_port = htons(stream->port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 other = {.sin6_family = AF_INET6,
                                 .sin6_port = htons(stream->port),
                                 .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int kind = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
    stream->six = six;
    stream->input = socket(six ? AF_INET6 : AF_INET, kind, 0);
    if (stream->input < 0)
        return false;
    int failed = six ? connect(stream->input, (struct sockaddr *)&other, sizeof(other))
                     : connect(stream->input, (struct sockaddr *)&four, sizeof(four));
    stream->connecting = true;
    return !failed || errno == EINPROGRESS;
}

static void refuse(const struct stream *stream, char *text, size_t size) {
    const char *hint = errno == ENETDOWN ? " (its lo is down: ip link set lo up)" : "";
    snprintf(text, size, "connecting to port %u%s", stream->port, hint);
}

/* Where lo is down, packets to it may vanish: that would look like a port that never answers. */
static bool loopback_is_up(void) {
    struct ifreq request = {.ifr_name = "lo"};
    int file = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool known = file >= 0 && !ioctl(file, SIOCGIFFLAGS, &request);
    int reason = errno;
    close(file);
    errno = known ? ENETDOWN : reason;
    return known && request.ifr_flags & IFF_UP;
}

bool connect_start(struct stream *stream, const char *data, size_t size, const char **failed) {
    static char text[96];
    if (size >= sizeof(stream->port))
        memcpy(&stream->port, data, sizeof(stream->port));
    bool up = loopback_is_up();
    if (up && begin(stream, false))
        return true;
    int reason = errno;
    flow_shut(&stream->input);
    if (up && begin(stream, true))
        return true;
    errno = reason; /* of IPv4: what people look at first */
    refuse(stream, text, sizeof(text));
    *failed = text;
    return false;
}

/* The attempt has come to an end, one way or the other. Returns whether the stream stands. */
bool connect_proceed(struct stream *stream) {
    char text[96];
    int reason = 0;
    socklen_t size = sizeof(reason);
    getsockopt(stream->input, SOL_SOCKET, SO_ERROR, &reason, &size);
    if (!reason) {
        stream->connecting = false;
        stream->output = fcntl(stream->input, F_DUPFD_CLOEXEC, 3);
        ring_send(FRAME_READY, stream->number, "", 0);
        return true;
    }
    flow_shut(&stream->input);
    if (!stream->six && begin(stream, true))
        return false; /* now that is waited for */
    errno = reason;
    refuse(stream, text, sizeof(text));
    ring_fail(stream->number, text);
    stream->failed = true;
    return false;
}
