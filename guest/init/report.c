#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <time.h>
#include <unistd.h>

/* The kernel takes at most about 1000 bytes in one write to /dev/kmsg. */
#define KMSG_TEXT 800
#define KMSG "/dev/kmsg"
#define PREFIX_MAX 64
#define TEXT_MAX 768 /* of what init says itself */

static int log_port = -1;
static bool opened;
static char pending[16384]; /* records for the port, or those made before it is known */
static size_t pending_used;

static void console_write(const char *record, size_t size) {
    char line[PREFIX_MAX + KMSG_TEXT + 16];
    int fd = open(KMSG, O_WRONLY | O_CLOEXEC);
    int length = snprintf(line, sizeof(line), "<3>%.*s", (int)size, record);

    if (fd < 0)
        return;
    if (length > (int)sizeof(line) - 1)
        length = (int)sizeof(line) - 1;
    while (write(fd, line, (size_t)length) < 0 && errno == EINTR)
        ;
    close(fd);
}

static void pending_write(void) {
    size_t done = 0;

    while (log_port >= 0 && done < pending_used) {
        ssize_t wrote = write(log_port, pending + done, pending_used - done);

        if (wrote > 0) {
            done += (size_t)wrote;
        } else if (errno != EINTR) {
            close(log_port);
            log_port = -1;
        }
    }
    while (done < pending_used) { /* no port, or it broke: the console */
        char *end = memchr(pending + done, '\n', pending_used - done);
        size_t size = end ? (size_t)(end - pending) - done + 1 : pending_used - done;

        console_write(pending + done, size);
        done += size;
    }
    pending_used = 0;
}

static size_t prefix_make(char *prefix, const char *stream, bool whole) {
    struct timespec now;
    struct tm date;
    char second[32];

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &date);
    strftime(second, sizeof(second), "%Y-%m-%dT%H:%M:%S", &date);
    return (size_t)snprintf(prefix, PREFIX_MAX, "%s.%09ldZ %s %c ", second, now.tv_nsec, stream,
                            whole ? 'F' : 'P');
}

static void record_add(const char *stream, const char *text, size_t size, bool whole) {
    char prefix[PREFIX_MAX];

    do {
        size_t part = size > KMSG_TEXT && log_port < 0 ? KMSG_TEXT : size;
        size_t length = prefix_make(prefix, stream, whole && part == size);

        if (pending_used + length + part + 1 > sizeof(pending)) {
            if (!opened)
                return; /* nothing that comes so early is worth more than the first lines */
            pending_write();
        }
        memcpy(pending + pending_used, prefix, length);
        memcpy(pending + pending_used + length, text, part);
        pending_used += length + part;
        pending[pending_used++] = '\n';
        text += part;
        size -= part;
    } while (size > 0);
}

void report_open(int port) {
    log_port = port;
    opened = true;
    pending_write();
}

/* Format one line; its length. */
static size_t text_make(char *text, size_t size, const char *format, va_list values) {
    int length = vsnprintf(text, size, format, values);
    size_t used = length < 0 ? 0 : (size_t)length < size ? (size_t)length : size - 1;

    for (size_t i = 0; i < used; i++)
        if (text[i] == '\n')
            text[i] = ' ';
    return used;
}

static void said(const char *text, size_t size, bool twice) {
    char record[TEXT_MAX + PREFIX_MAX];

    record_add("init", text, size, true);
    if (opened)
        pending_write();
    if (twice && log_port >= 0) {
        size_t length = prefix_make(record, "init", true);

        memcpy(record + length, text, size);
        console_write(record, length + size);
    }
}

void say(const char *format, ...) {
    char text[TEXT_MAX];
    va_list values;

    va_start(values, format);
    said(text, text_make(text, sizeof(text), format, values), false);
    va_end(values);
}

void say_twice(const char *format, ...) {
    char text[TEXT_MAX];
    va_list values;

    va_start(values, format);
    said(text, text_make(text, sizeof(text), format, values), true);
    va_end(values);
}

_Noreturn void fatal(const char *format, ...) {
    static const char prefix[] = "fatal: ";
    const size_t length = sizeof(prefix) - 1;
    char text[TEXT_MAX];
    va_list values;

    memcpy(text, prefix, length);
    va_start(values, format);
    size_t size = length + text_make(text + length, sizeof(text) - length, format, values);
    va_end(values);
    report_open(log_port);
    said(text, size, true);
    power_off();
}

static void line_end(struct stream *stream, bool whole) {
    record_add(stream->name, stream->line, stream->used, whole);
    stream->used = 0;
}

bool stream_read(struct stream *stream) {
    static char data[65536];
    ssize_t got;

    if (stream->fd < 0)
        return false;
    got = read(stream->fd, data, sizeof(data));
    if (got < 0)
        return errno == EINTR;
    if (got == 0) {
        close(stream->fd);
        stream->fd = -1;
        return false;
    }
    for (const char *at = data, *end = data + got; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t size = (size_t)((newline ? newline : end) - at);
        size_t room = LINE_MAX_BYTES - stream->used;
        size_t part = size < room ? size : room;

        memcpy(stream->line + stream->used, at, part);
        stream->used += part;
        at += part;
        if (at < end && *at == '\n') {
            line_end(stream, true);
            at++;
        } else if (stream->used == LINE_MAX_BYTES) {
            line_end(stream, false);
        }
    }
    pending_write();
    return true;
}

void stream_flush(struct stream *stream) {
    if (stream->used > 0)
        line_end(stream, true);
    pending_write();
}

_Noreturn void power_off(void) {
    sync();
    reboot(RB_POWER_OFF);
    reboot(RB_AUTOBOOT);
    for (;;) /* PID 1 must never return: that is a kernel panic */
        pause();
}
