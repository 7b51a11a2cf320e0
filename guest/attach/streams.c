/*
 * Everything that goes on in a session: a stream is up to three descriptors and maybe a process.
 * Nothing here waits for a descriptor, and no path is looked up: whatever may block on a file is
 * done by a process of its own.
 */
#define _GNU_SOURCE
#include "stage2.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

static struct stream streams[STREAMS_MAX];

static struct stream *find(uint32_t number) {
    for (int i = 0; i < STREAMS_MAX; i++)
        if (streams[i].number == number)
            return &streams[i];
    return NULL;
}

static void forget(struct stream *stream) {
    flow_shut(&stream->input);
    flow_shut(&stream->output);
    flow_shut(&stream->errors);
    if (stream->held)
        munmap(stream->held, WINDOW);
    stream->number = 0;
}

/* Ends what nobody waits for any more. A worker sees the end of its input, and cleans up. */
static void cancel(struct stream *stream) {
    if (stream->pid && !stream->exited && !stream->worker)
        processes_end_session(stream->pid);
    forget(stream);
}

static bool start(struct stream *stream, uint32_t type, char *text, size_t size,
                  const char **failed) {
    switch (type) {
    case FRAME_TOOLS:
        *failed = "starting to unpack the tools";
        return worker_start(stream, unpack_tools, text);
    case FRAME_PUT:
        *failed = "starting to unpack";
        return worker_start(stream, unpack_put, text);
    case FRAME_GET:
        *failed = "starting to pack";
        return worker_start(stream, pack_tree, text);
    case FRAME_CONNECT:
        return connect_start(stream, text, size, failed);
    case FRAME_SERVE:
        return serve_start(stream, failed);
    default:
        return command_start(stream, text, size, failed);
    }
}

static void open_stream(const struct frame *frame, const struct iovec payload[2]) {
    struct stream *stream = find(0);
    char *text = malloc(frame->size + 2UL); /* paths are made to end, and so is a missing second */
    const char *failed = "more than 64 streams at a time";
    errno = 0;
    bool done = false;
    if (stream && text) {
        *stream = (struct stream){.number = frame->stream, .credit = WINDOW};
        stream->input = stream->output = stream->errors = -1;
        ring_take(frame, payload, text, frame->size);
        text[frame->size] = text[frame->size + 1] = 0;
        done = start(stream, frame->type, text, frame->size, &failed);
        int reason = errno;
        free(text);
        errno = reason;
    }
    if (!done)
        ring_fail(frame->stream, failed);
    if (!done && stream)
        forget(stream);
}

static void take_frame(const struct frame *frame, const struct iovec payload[2]) {
    struct stream *stream = find(frame->stream);
    uint32_t number;
    struct size size;
    if (!stream || !frame->stream)
        return; /* it has just ended */
    switch (frame->type) {
    case FRAME_INPUT:
        flow_take(stream, payload);
        break;
    case FRAME_INPUT_END:
        flow_end_input(stream);
        break;
    case FRAME_CREDIT:
        ring_take(frame, payload, &number, sizeof(number));
        stream->credit += number;
        break;
    case FRAME_RESIZE:
        ring_take(frame, payload, &size, sizeof(size));
        command_resize(stream, &size);
        break;
    case FRAME_SIGNAL:
        ring_take(frame, payload, &number, sizeof(number));
        if (stream->pid && !stream->exited)
            kill(-stream->pid, (int)number);
        break;
    case FRAME_CANCEL:
        cancel(stream);
        break;
    default:
        break;
    }
}

/* Takes everything that has come; whether there was anything. */
bool streams_take_frames(bool *closing) {
    struct frame frame;
    struct iovec payload[2];
    bool worked = false;
    while (!*closing && ring_next(&frame, payload)) {
        worked = true;
        if (frame.type == FRAME_CLOSE)
            *closing = true;
        else if (frame.type >= FRAME_TOOLS && frame.type <= FRAME_SERVE)
            open_stream(&frame, payload);
        else
            take_frame(&frame, payload);
        ring_done(&frame);
    }
    return worked;
}

static void end_if_over(struct stream *stream) {
    if (stream->failed) {
        forget(stream);
        return;
    }
    if (stream->connecting)
        return;
    if (stream->output >= 0 || stream->errors >= 0)
        return;
    if (stream->pid ? !stream->exited : stream->input >= 0)
        return;
    ring_send(FRAME_EXIT, stream->number, &stream->status, sizeof(stream->status));
    forget(stream);
}

static void listen_to(struct stream *stream, struct pollfd files[3]) {
    bool room = flow_room(stream) > 0 && !stream->connecting;
    bool wanted = stream->held_size || stream->connecting;
    files[0] = (struct pollfd){wanted ? stream->input : -1, POLLOUT, 0};
    files[1] = (struct pollfd){room ? stream->output : -1, POLLIN, 0};
    files[2] = (struct pollfd){room ? stream->errors : -1, POLLIN, 0};
}

/* What a process left in the background holds its output open: it is over when nothing is there. */
static void hear(struct stream *stream, struct pollfd *polled, int *file, uint32_t type) {
    if (*file < 0 || polled->fd != *file)
        return;
    if (polled->revents)
        flow_forward(stream, file, type);
    else if (stream->exited)
        flow_end_output(stream, file, type);
}

/* Waits until a descriptor is ready, and passes on what there is; whether there was anything. */
bool streams_wait(int microseconds) {
    struct pollfd files[3 * STREAMS_MAX];
    struct stream *whose[STREAMS_MAX];
    nfds_t count = 0;
    for (int i = 0; i < STREAMS_MAX; i++)
        if (streams[i].number) {
            listen_to(&streams[i], files + 3 * count);
            whose[count++] = &streams[i];
        }
    struct timespec time = {0, microseconds * 1000L};
    sigset_t none;
    sigemptyset(&none);
    int ready = ppoll(files, 3 * count, &time, &none);
    if (ready < 0)
        return true; /* a child has ended */
    for (nfds_t i = 0; i < count; i++) {
        struct stream *stream = whose[i];
        if (files[3 * i].revents)
            flow_resume(stream);
        hear(stream, &files[3 * i + 1], &stream->output, FRAME_OUTPUT);
        hear(stream, &files[3 * i + 2], &stream->errors, FRAME_ERRORS);
        end_if_over(stream);
    }
    return ready > 0;
}

/* Collects whatever has ended, and ends what a command has left in its session. */
void streams_reap(void) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (int i = 0; i < STREAMS_MAX; i++) {
            struct stream *stream = &streams[i];
            if (!stream->number || stream->pid != pid || stream->exited)
                continue;
            stream->exited = true;
            stream->status = WIFSIGNALED(status) ? 128 + (uint32_t)WTERMSIG(status)
                                                 : (uint32_t)WEXITSTATUS(status);
            if (stream->served && !stream->status) {
                serve_stand(stream);
                continue;
            }
            flow_shut(&stream->input);
            if (!stream->worker)
                processes_end_session(pid);
        }
}

/* Closes everything, and gives workers the time to remove what they have not finished. */
void streams_close(void) {
    bool working = false;
    for (int i = 0; i < STREAMS_MAX; i++) {
        working |= streams[i].number && streams[i].worker;
        if (streams[i].number)
            cancel(&streams[i]);
    }
    processes_end_all(working);
}
