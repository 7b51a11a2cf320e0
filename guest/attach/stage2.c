/*
 * Stage 2: the user-space half of attach. Started by stage 1 with the host's token as argument,
 * it opens the channel, makes a root of its own, does what the host asks for, and leaves nothing
 * behind.
 */
#define _GNU_SOURCE
#include "stage2.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define PATH_MAX_ 4096

static volatile sig_atomic_t child_ended, asked_to_end;

static void on_signal(int number) {
    if (number == SIGCHLD)
        child_ended = 1;
    else
        asked_to_end = 1;
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

/* Signals come only while we wait for descriptors. */
static void heed_signals(void) {
    sigset_t ours;
    struct sigaction action = {.sa_handler = on_signal};
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    sigemptyset(&ours);
    sigaddset(&ours, SIGCHLD);
    sigaddset(&ours, SIGTERM);
    sigprocmask(SIG_BLOCK, &ours, NULL);
    sigaction(SIGCHLD, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static void give_up(const char *failed) {
    ring_fail(0, failed);
    link_end();
    _exit(1);
}

static void wait_for_setup(struct setup *setup) {
    struct frame frame;
    struct iovec payload[2];
    while (!ring_next(&frame, payload)) {
        if (link_host_is_gone())
            _exit(1);
        usleep((useconds_t)link_patience(false));
    }
    ring_take(&frame, payload, setup, sizeof(*setup));
    ring_done(&frame);
    errno = EBADMSG;
    if (frame.type == FRAME_CLOSE)
        _exit(0);
    if (frame.type != FRAME_SETUP)
        give_up("the session's first frame");
}

static void set_up(void) {
    static char root[PATH_MAX_] = "/";
    const char *failed;
    struct setup setup;
    struct ready ready = {0};
    wait_for_setup(&setup);
    if (setup.guest_pid && !join_process(setup.guest_pid, root, sizeof(root), &failed))
        give_up(failed);
    prctl(PR_SET_CHILD_SUBREAPER, 1UL); /* only now: a child does not inherit it */
    if (!mounts_enter(root, setup.share, &ready, &failed))
        give_up(failed);
    be_the_last_to_go();
    ring_send(FRAME_READY, 0, &ready, sizeof(ready));
}

static void run_session(void) {
    bool closing = false;
    while (!closing && !asked_to_end && !link_host_is_gone()) {
        bool worked = streams_take_frames(&closing);
        if (child_ended) {
            child_ended = 0;
            streams_reap();
        }
        worked |= streams_wait(worked ? 0 : link_patience(false));
        if (worked)
            link_patience(true);
    }
    if (asked_to_end) {
        errno = 0;
        ring_fail(0, "stage 2 was told to end: the guest is shutting down");
    }
    streams_close();
}

int main(int count, char **arguments) {
    if (count < 2)
        return 1;
    reserve_standard_descriptors();
    prctl(PR_SET_TIMERSLACK, 1UL);
    bool opened = link_open(arguments[1]);
    memset(arguments[1], 0, strlen(arguments[1])); /* of no use in the guest's ps */
    if (!opened)
        return 1;
    heed_signals();
    set_up();
    run_session();
    link_end();
    return 0;
}
