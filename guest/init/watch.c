#include "watch.h"

#include "ports.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GRACE_DEFAULT 10
#define GRACE_MAX 3600
#define REAP_WAIT_MS 2000

enum source { OUT, ERR, CHILDREN, TIMER, CONTROL };

static int children_fd, timer_fd, control_fd;

static const struct {
    const char *name;
    int number;
} signals[] = {
    {"HUP", SIGHUP},   {"INT", SIGINT},     {"QUIT", SIGQUIT}, {"KILL", SIGKILL},
    {"USR1", SIGUSR1}, {"USR2", SIGUSR2},   {"TERM", SIGTERM}, {"CONT", SIGCONT},
    {"STOP", SIGSTOP}, {"WINCH", SIGWINCH}, {"ABRT", SIGABRT}, {"ALRM", SIGALRM},
};

void watch_begin(void) {
    sigset_t all, children;

    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    children_fd = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (children_fd < 0 || timer_fd < 0)
        fatal("cannot watch the function: %s", strerror(errno));
}

/* Answers that wait until the driver takes them: it may learn that the host is connected only
 * after the host's first line has come. The port is non-blocking, so nobody holds up init. */
static char answers[256];
static size_t answers_size;

static void answers_send(void) {
    ssize_t sent = answers_size > 0 ? write(control_fd, answers, answers_size) : 0;

    if (sent > 0) {
        answers_size -= (size_t)sent;
        memmove(answers, answers + sent, answers_size);
    }
}

static void answer(const char *line) {
    size_t size = strlen(line);

    if (size <= sizeof(answers) - answers_size) {
        memcpy(answers + answers_size, line, size);
        answers_size += size;
    }
    answers_send();
}

static bool signal_send(pid_t pid, const char *name) {
    for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
        if (strcmp(signals[i].name, name) == 0) {
            kill(pid, signals[i].number);
            return true;
        }
    return false;
}

static void stop_begin(pid_t pid, const char *grace) {
    struct itimerspec when = {.it_value = {.tv_sec = GRACE_DEFAULT}};

    if (*grace != '\0')
        when.it_value.tv_sec = strtol(grace, NULL, 10);
    if (when.it_value.tv_sec > GRACE_MAX)
        when.it_value.tv_sec = GRACE_MAX;
    if (when.it_value.tv_sec <= 0)
        when.it_value = (struct timespec){.tv_nsec = 1};
    say("stopping grace=%ld", (long)when.it_value.tv_sec);
    timerfd_settime(timer_fd, 0, &when, NULL);
    kill(pid, SIGTERM);
    kill(pid, SIGCONT); /* a stopped process would not see it */
}

static void command_obey(pid_t pid, const char *line) {
    if (strncmp(line, "signal ", 7) == 0)
        answer(signal_send(pid, line + 7) ? "ok\n" : "error unknown signal\n");
    else if (strcmp(line, "stop") == 0 || strncmp(line, "stop ", 5) == 0) {
        answer("ok\n");
        stop_begin(pid, line[4] == ' ' ? line + 5 : "");
    } else
        answer("error unknown command\n");
}

static void control_read(pid_t pid) {
    static char line[256];
    static size_t used;
    char data[256];
    ssize_t got;

    while ((got = read(control_fd, data, sizeof(data))) > 0)
        for (ssize_t i = 0; i < got; i++) {
            if (data[i] == '\n') {
                line[used < sizeof(line) ? used : sizeof(line) - 1] = '\0';
                command_obey(pid, line);
                used = 0;
            } else if (used < sizeof(line) - 1) {
                line[used++] = data[i];
            }
        }
}

/* Reap all that have ended; true with the function's status once it is among them. */
static bool children_reap(pid_t function, int *status) {
    struct signalfd_siginfo seen[8];
    bool over = false;
    int one;
    pid_t pid;

    while (read(children_fd, seen, sizeof(seen)) > 0)
        ;
    while ((pid = waitpid(-1, &one, WNOHANG)) > 0)
        if (pid == function) {
            *status = one;
            over = true;
        }
    return over;
}

static void source_add(int epoll, int fd, enum source source, uint32_t events) {
    struct epoll_event event = {.events = events, .data.u32 = source};

    if (fd >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        fatal("cannot watch the function: %s", strerror(errno));
}

/* Kill what the function left running, so that its pipes end, and pass on what they hold. */
static void function_end(struct function *function) {
    int status;

    kill(-1, SIGKILL);
    for (int waited = 0; waited < REAP_WAIT_MS; waited++) {
        pid_t pid = waitpid(-1, &status, WNOHANG);

        if (pid < 0 && errno == ECHILD)
            break;
        if (pid == 0)
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    while (stream_read(&function->out))
        ;
    while (stream_read(&function->err))
        ;
    stream_flush(&function->out);
    stream_flush(&function->err);
}

int watch(struct function *function) {
    int epoll = epoll_create1(EPOLL_CLOEXEC), status = 0;
    struct epoll_event events[8];
    bool over = false;

    control_fd = port_open(CONTROL_PORT, O_RDWR | O_NONBLOCK);
    source_add(epoll, function->out.fd, OUT, EPOLLIN);
    source_add(epoll, function->err.fd, ERR, EPOLLIN);
    source_add(epoll, children_fd, CHILDREN, EPOLLIN);
    source_add(epoll, timer_fd, TIMER, EPOLLIN);
    /* Edge-triggered: the port says "hung up" all the time while the host is not connected. */
    source_add(epoll, control_fd, CONTROL, EPOLLIN | EPOLLOUT | EPOLLET);
    while (!over) {
        int count = epoll_wait(epoll, events, 8, -1);

        for (int i = 0; i < count; i++) {
            uint64_t expirations;

            switch ((enum source)events[i].data.u32) {
            case OUT:
                stream_read(&function->out);
                break;
            case ERR:
                stream_read(&function->err);
                break;
            case CHILDREN:
                over = children_reap(function->pid, &status) || over;
                break;
            case TIMER:
                if (read(timer_fd, &expirations, sizeof(expirations)) > 0)
                    kill(-1, SIGKILL);
                break;
            case CONTROL:
                answers_send();
                control_read(function->pid);
                break;
            }
        }
    }
    function_end(function);
    close(epoll);
    return status;
}
