/* Frames in the channel's rings. A ring wraps, so a payload lies there in up to two pieces. */
#define _GNU_SOURCE
#include "stage2.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static unsigned char *to_guest(void) {
    return (unsigned char *)link_channel + 2 * PAGE;
}

static unsigned char *to_host(void) {
    return to_guest() + RING_SIZE;
}

static void pieces(unsigned char *ring, uint64_t position, size_t size, struct iovec parts[2]) {
    size_t offset = position % RING_SIZE;
    size_t first = size < RING_SIZE - offset ? size : RING_SIZE - offset;
    parts[0] = (struct iovec){ring + offset, first};
    parts[1] = (struct iovec){ring, size - first};
}

static void gather(const struct iovec parts[2], void *data, size_t size) {
    size_t first = size < parts[0].iov_len ? size : parts[0].iov_len;
    memcpy(data, parts[0].iov_base, first);
    memcpy((char *)data + first, parts[1].iov_base, size - first);
}

static void scatter(const struct iovec parts[2], const void *data) {
    memcpy(parts[0].iov_base, data, parts[0].iov_len);
    memcpy(parts[1].iov_base, (const char *)data + parts[0].iov_len, parts[1].iov_len);
}

/* Shows the next frame if a whole one is there; it stays in the ring until ring_done. */
bool ring_next(struct frame *frame, struct iovec payload[2]) {
    uint64_t written = __atomic_load_n(&link_channel->to_guest_written, __ATOMIC_ACQUIRE);
    uint64_t read = link_channel->to_guest_read;
    struct iovec parts[2];
    if (written - read < sizeof(*frame))
        return false;
    pieces(to_guest(), read, sizeof(*frame), parts);
    gather(parts, frame, sizeof(*frame));
    if (frame->size > FRAME_MAX)
        _exit(1); /* the host never sends such */
    if (written - read < sizeof(*frame) + frame->size)
        return false;
    pieces(to_guest(), read + sizeof(*frame), frame->size, payload);
    return true;
}

void ring_done(const struct frame *frame) {
    __atomic_store_n(&link_channel->to_guest_read,
                     link_channel->to_guest_read + sizeof(*frame) + frame->size, __ATOMIC_RELEASE);
}

/* Copies the first bytes of a payload; zeros stand for what it is too short for. */
void ring_take(const struct frame *frame, const struct iovec payload[2], void *data, size_t size) {
    memset(data, 0, size);
    gather(payload, data, size < frame->size ? size : frame->size);
}

/* Bytes of payload that a frame sent now may have without waiting. */
size_t ring_room(void) {
    uint64_t read = __atomic_load_n(&link_channel->to_host_read, __ATOMIC_ACQUIRE);
    size_t room = RING_SIZE - (size_t)(link_channel->to_host_written - read);
    return room > sizeof(struct frame) ? room - sizeof(struct frame) : 0;
}

/* Where the next frame's payload goes, if there is room for that much. */
void ring_reserve(struct iovec payload[2], size_t size) {
    pieces(to_host(), link_channel->to_host_written + sizeof(struct frame), size, payload);
}

/* Sends a frame whose payload has been put where ring_reserve said. */
void ring_commit(uint32_t type, uint32_t stream, size_t size) {
    struct frame frame = {type, stream, (uint32_t)size};
    struct iovec parts[2];
    uint64_t written = link_channel->to_host_written;
    pieces(to_host(), written, sizeof(frame), parts);
    scatter(parts, &frame);
    __atomic_store_n(&link_channel->to_host_written, written + sizeof(frame) + size,
                     __ATOMIC_RELEASE);
}

/* Sends a small frame. It waits for room, which the host makes whatever its users do. */
void ring_send(uint32_t type, uint32_t stream, const void *payload, size_t size) {
    struct iovec parts[2];
    while (ring_room() < size) {
        if (link_host_is_gone())
            _exit(1);
        usleep((useconds_t)link_patience(false));
    }
    ring_reserve(parts, size);
    scatter(parts, payload);
    ring_commit(type, stream, size);
}

/* Tells what could not be done, and why: errno, if it is not 0. */
void ring_fail(uint32_t stream, const char *what) {
    char text[256];
    if (errno)
        snprintf(text, sizeof(text), "%s: %s", what, strerror(errno));
    else
        snprintf(text, sizeof(text), "%s", what);
    ring_send(FRAME_FAILED, stream, text, strlen(text));
}
