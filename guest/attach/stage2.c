/*
 * Stage 2: the user-space half of attach. Started by stage 1 with the host's token as argument,
 * it opens the channel, makes a root of its own, unpacks the tools, runs one command and leaves
 * nothing behind.
 */
#define _GNU_SOURCE
#include "stage2.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define INPUT_WINDOW (256 * 1024) /* the host sends no more than this ahead of input_taken */

static struct command command = {.input = -1, .output = -1, .errors = -1};
static unsigned char input[INPUT_WINDOW];
static size_t input_start, input_size;
static bool input_ended, closing;

static void on_child(int number) {
    (void)number; /* its coming interrupts ppoll */
}

static void give_up(const char *failed) {
    char text[256];
    snprintf(text, sizeof(text), "%s: %s", failed, strerror(errno));
    link_send(FRAME_FAILED, text, strlen(text));
    link_end();
    _exit(1);
}

/* A kernel helper starts without any descriptor: keep 0 to 2 from being taken by others. */
static void reserve_standard_descriptors(void) {
    int file;
    do
        file = open(".", O_PATH | O_CLOEXEC);
    while (file >= 0 && file < 2);
}

static void be_the_last_to_go(void) {
    int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (file >= 0) {
        if (write(file, "-1000", 5) != 5)
            errno = 0; /* then the OOM killer may choose us; nothing to be done */
        close(file);
    }
}

static void keep_input(const unsigned char *data, size_t size) {
    if (size > sizeof(input) - input_size)
        _exit(1); /* the host keeps to the window */
    if (input_start + input_size + size > sizeof(input)) {
        memmove(input, input + input_start, input_size);
        input_start = 0;
    }
    memcpy(input + input_start + input_size, data, size);
    input_size += size;
}

static bool take_frames(void) {
    static unsigned char payload[FRAME_MAX];
    struct frame frame;
    bool worked = false;
    while (!closing && link_next(&frame, payload)) {
        uint32_t number = 0;
        struct size size = {0, 0};
        worked = true;
        switch (frame.type) {
        case FRAME_INPUT:
            keep_input(payload, frame.size);
            break;
        case FRAME_INPUT_END:
            input_ended = true;
            break;
        case FRAME_RESIZE:
            memcpy(&size, payload, sizeof(size));
            command_resize(&command, &size);
            break;
        case FRAME_SIGNAL:
            memcpy(&number, payload, sizeof(number));
            command_signal(&command, (int)number);
            break;
        case FRAME_CLOSE:
            closing = true;
            break;
        default:
            break;
        }
    }
    return worked;
}

static bool feed_command(void) {
    bool worked = false;
    if (command.input < 0) { /* it reads no more: what still comes is dropped */
        worked = input_size > 0;
        link_took_input(input_size);
        input_size = 0;
        return worked;
    }
    while (input_size) {
        ssize_t size = write(command.input, input + input_start, input_size);
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0 && errno == EAGAIN)
            return worked;
        if (size < 0) {
            input_ended = true;
            link_took_input(input_size);
            input_size = 0;
            break;
        }
        worked = true;
        input_start += (size_t)size;
        input_size -= (size_t)size;
        link_took_input((size_t)size);
    }
    input_start = 0;
    if (input_ended && !command.terminal) {
        close(command.input);
        command.input = -1;
    }
    return worked;
}

static bool forward(int *file, uint32_t type) {
    static unsigned char data[FRAME_MAX];
    size_t room = link_room();
    if (*file < 0 || !room)
        return false;
    ssize_t size = read(*file, data, room < sizeof(data) ? room : sizeof(data));
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (size <= 0) { /* a terminal without processes gives EIO */
        if (!command.terminal)
            close(*file);
        *file = -1;
        return true;
    }
    link_send(type, data, (size_t)size);
    return true;
}

static void wait_for_work(bool worked) {
    int microseconds = link_patience(worked);
    bool room = link_room() > 0;
    struct pollfd files[] = {
        {room ? command.output : -1, POLLIN, 0},
        {room ? command.errors : -1, POLLIN, 0},
        {input_size ? command.input : -1, POLLOUT, 0},
    };
    struct timespec time = {0, microseconds * 1000L};
    sigset_t none;
    sigemptyset(&none);
    if (!worked)
        ppoll(files, 3, &time, &none);
}

static void run_session(void) {
    bool killed = false;
    for (;;) {
        bool worked = take_frames();
        worked |= feed_command();
        worked |= forward(&command.output, FRAME_OUTPUT);
        worked |= forward(&command.errors, FRAME_ERRORS);
        if (closing || link_host_is_gone())
            break;
        if (command_reap(&command) && !killed) {
            command_kill_all(); /* what it left in the background holds its output open */
            killed = worked = true;
        }
        if (command.exited && command.output < 0 && command.errors < 0)
            break;
        wait_for_work(worked);
    }
    command_kill_all();
}

int main(int count, char **arguments) {
    static unsigned char payload[FRAME_MAX];
    const char *failed;
    struct frame frame;
    if (count < 2)
        return 1;
    reserve_standard_descriptors();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1UL);
    prctl(PR_SET_CHILD_SUBREAPER, 1UL);
    bool opened = link_open(arguments[1]);
    memset(arguments[1], 0, strlen(arguments[1])); /* of no use in the guest's ps */
    if (!opened)
        return 1;
    if (!mounts_enter(&failed) || !unpack_tools(&failed))
        give_up(failed);
    be_the_last_to_go();

    struct sigaction action = {.sa_handler = on_child};
    sigaction(SIGCHLD, &action, NULL);
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);

    do /* padding may follow the archive's trailer */
        link_wait(&frame, payload);
    while (frame.type == FRAME_TOOLS);
    if (frame.type != FRAME_START || !command_start(&command, payload, frame.size))
        give_up("starting the command");
    run_session();
    link_send(FRAME_EXIT, &command.status, sizeof(command.status));
    link_end();
    return 0;
}
