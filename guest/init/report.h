/* What init and the function say, as records that reach the host.
 *
 * One record a line in the format of Kubernetes' container runtime interface:
 * "TIME STREAM F|P TEXT", P for a part of a line that the stream's next record goes on with.
 * Records go to the virtio port org.mizzen.log; where there is none, to the kernel's log, whose
 * console the host keeps as well. */
#ifndef MIZZEN_REPORT_H
#define MIZZEN_REPORT_H

#include <stdbool.h>
#include <stddef.h>

#define LOG_PORT "org.mizzen.log"
#define LINE_MAX_BYTES 8192

/* A stream of bytes, cut into records. */
struct stream {
    const char *name;
    int fd; /* where it is read from; -1: ended */
    size_t used;
    char line[LINE_MAX_BYTES];
};

/* Records that were made before this call are kept until it, and written by it.
 * port: descriptor of the log port, -1 if there is none. */
void report_open(int port);

/* One record of the stream "init". */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* As say, and on the console too: how the machine ends must be known even if its log is full. */
void say_twice(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* One record "fatal: ...", on the console too; then the machine ends. */
_Noreturn void fatal(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Read once what is there and make records of it; false if there was nothing. */
bool stream_read(struct stream *stream);

/* Make a record of an unfinished last line. */
void stream_flush(struct stream *stream);

/* End the machine. Does not return, whatever the kernel can or cannot do. */
_Noreturn void power_off(void);

#endif
