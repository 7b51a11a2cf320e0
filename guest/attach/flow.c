/* The bytes of one stream: from the ring into a descriptor, and from descriptors into the ring. */
#define _GNU_SOURCE
#include "stage2.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_MAX (64 * 1024) /* from one descriptor in one round */
#define LAST_WORDS (1 << 20) /* bytes of output that are waited for once a command has ended */

void flow_shut(int *file) {
    if (*file >= 0)
        close(*file);
    *file = -1;
}

static void took(struct stream *stream, size_t size) {
    stream->owed += (uint32_t)size;
    if (stream->owed >= WINDOW / 4) {
        ring_send(FRAME_CREDIT, stream->number, &stream->owed, sizeof(stream->owed));
        stream->owed = 0;
    }
}

/* Whoever should read it does so no more: what still comes is dropped. */
static void drop(struct stream *stream) {
    flow_shut(&stream->input);
    size_t size = stream->held_size;
    stream->held_size = 0;
    took(stream, size);
}

static void end_if_done(struct stream *stream) {
    if (!stream->input_ended || stream->held_size || stream->terminal || stream->connecting)
        return;
    if (stream->port && stream->input >= 0)
        shutdown(stream->input, SHUT_WR);
    flow_shut(&stream->input);
}

static void hold(struct stream *stream, const char *data, size_t size) {
    if (size > WINDOW - stream->held_size)
        _exit(1); /* the host keeps to the window */
    if (!stream->held && size) {
        int flags = MAP_PRIVATE | MAP_ANONYMOUS;
        void *memory = mmap(NULL, WINDOW, PROT_READ | PROT_WRITE, flags, -1, 0);
        if (memory == MAP_FAILED) {
            drop(stream);
            took(stream, size);
            return;
        }
        stream->held = memory;
    }
    if (stream->held_start + stream->held_size + size > WINDOW) {
        memmove(stream->held, stream->held + stream->held_start, stream->held_size);
        stream->held_start = 0;
    }
    if (size)
        memcpy(stream->held + stream->held_start + stream->held_size, data, size);
    stream->held_size += size;
}

/* Passes on as much as goes without waiting, and says how much that was; -1: nobody reads it. */
static ssize_t pass(struct stream *stream, const struct iovec *parts, int count) {
    ssize_t size;
    do
        size = writev(stream->input, parts, count);
    while (size < 0 && errno == EINTR);
    if (size < 0)
        return errno == EAGAIN ? 0 : -1;
    took(stream, (size_t)size);
    return size;
}

void flow_take(struct stream *stream, const struct iovec payload[2]) {
    size_t size = payload[0].iov_len + payload[1].iov_len, passed = 0;
    if (stream->served) { /* a reply to what was interrupted is refused: so be it */
        if (writev(stream->input, payload, 2) < 0)
            errno = 0;
        took(stream, size);
        return;
    }
    if (stream->input >= 0 && !stream->held_size && !stream->connecting) {
        ssize_t done = pass(stream, payload, 2);
        if (done < 0)
            drop(stream);
        else
            passed = (size_t)done;
    }
    if (stream->input < 0) {
        took(stream, size);
        return;
    }
    for (int i = 0; i < 2; i++) {
        size_t skipped = passed < payload[i].iov_len ? passed : payload[i].iov_len;
        size_t left = payload[i].iov_len - skipped;
        if (stream->input < 0) /* there was no memory for the first piece */
            took(stream, left);
        else
            hold(stream, (char *)payload[i].iov_base + skipped, left);
        passed -= skipped;
    }
}

void flow_end_input(struct stream *stream) {
    stream->input_ended = true;
    end_if_done(stream);
}

/* The descriptor takes more. */
void flow_resume(struct stream *stream) {
    if (stream->connecting && !connect_proceed(stream))
        return;
    struct iovec part = {stream->held + stream->held_start, stream->held_size};
    ssize_t size = stream->held_size ? pass(stream, &part, 1) : 0;
    if (size < 0)
        drop(stream);
    else {
        stream->held_start += (size_t)size;
        stream->held_size -= (size_t)size;
    }
    if (!stream->held_size)
        stream->held_start = 0;
    end_if_done(stream);
}

/* Bytes that may be sent to the host now. */
size_t flow_room(const struct stream *stream) {
    size_t room = ring_room();
    if (room > stream->credit)
        room = stream->credit;
    if (stream->served) /* a message comes whole or not at all */
        return room < FRAME_MAX ? 0 : FRAME_MAX;
    return room < READ_MAX ? room : READ_MAX;
}

/* The descriptor has something to say, or has been closed at its other end. */
void flow_forward(struct stream *stream, int *file, uint32_t type) {
    struct iovec parts[2];
    size_t room = flow_room(stream);
    if (!room)
        return;
    ring_reserve(parts, room);
    ssize_t size = readv(*file, parts, 2);
    if (size < 0 && (errno == EAGAIN || errno == EINTR || (stream->served && errno == ENOENT)))
        return; /* ENOENT: a request was given up */
    if (size > 0) {
        ring_commit(type, stream->number, (size_t)size);
        stream->credit -= (uint32_t)size;
        stream->after_exit += stream->exited ? (size_t)size : 0;
    }
    if (size <= 0 || stream->after_exit > LAST_WORDS) /* a terminal without processes gives EIO */
        flow_end_output(stream, file, type);
}

void flow_end_output(struct stream *stream, int *file, uint32_t type) {
    flow_shut(file);
    ring_send(type == FRAME_OUTPUT ? FRAME_OUTPUT_END : FRAME_ERRORS_END, stream->number, "", 0);
}
