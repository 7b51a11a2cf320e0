/* What the user runs: on a terminal of its own, or on three pipes. */
#define _GNU_SOURCE
#include "stage2.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#define STRINGS_MAX 1024

static char *strings[STRINGS_MAX + 2];

/* Points arguments and environment into the frame; both lists end in NULL. */
static bool split(char *text, size_t size, const struct start *start, char ***environment) {
    uint32_t count = start->arguments + start->environment;
    if (!start->arguments || start->arguments > STRINGS_MAX || count > STRINGS_MAX ||
        (size && text[size - 1]))
        return false;
    char **next = strings;
    char *end = text + size;
    for (uint32_t i = 0; i < count; i++) {
        if (text == end)
            return false;
        if (i == start->arguments)
            *next++ = NULL;
        *next++ = text;
        text += strlen(text) + 1;
    }
    if (!start->environment)
        *next++ = NULL;
    *next = NULL;
    *environment = strings + start->arguments + 1;
    return true;
}

static void run(const int files[3], bool terminal, char **environment) {
    setsid();
    if (terminal)
        ioctl(files[0], TIOCSCTTY, 0);
    child_begin(files);
    if (!serve_enter() || chdir("/guest"))
        _exit(126);
    execvpe(strings[0], strings, environment);
    dprintf(2, "mizzen: cannot run %s: %s\n", strings[0], strerror(errno));
    _exit(errno == ENOENT ? 127 : 126);
}

static bool open_terminal(struct stream *stream, int files[3], const struct size *size) {
    int unlock = 0;
    struct winsize window = {.ws_row = size->rows, .ws_col = size->columns};
    stream->input = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (stream->input < 0)
        return false;
    stream->output = fcntl(stream->input, F_DUPFD_CLOEXEC, 3);
    if (stream->output < 0 || ioctl(stream->input, TIOCSPTLCK, &unlock) ||
        ioctl(stream->input, TIOCSWINSZ, &window))
        return false;
    files[0] = files[1] = files[2] =
        ioctl(stream->input, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    return files[0] >= 0;
}

bool command_start(struct stream *stream, char *data, size_t size, const char **failed) {
    struct start start;
    char **environment;
    int files[3];
    *failed = "starting the command";
    errno = EBADMSG;
    if (size < sizeof(start))
        return false;
    memcpy(&start, data, sizeof(start));
    if (!split(data + sizeof(start), size - sizeof(start), &start, &environment))
        return false;
    setenv("PATH", "/bin:/sbin:/usr/bin:/usr/sbin:/usr/local/bin", 1); /* for execvpe */
    stream->terminal = start.terminal;
    if (start.terminal)
        *failed = "opening a terminal (the guest's kernel may lack CONFIG_UNIX98_PTYS)";
    if (start.terminal ? !open_terminal(stream, files, &start.size) : !pipes_open(stream, files))
        return false;
    *failed = "starting the command";
    stream->pid = fork();
    if (!stream->pid)
        run(files, start.terminal, environment);
    pipes_close(files);
    return stream->pid > 0;
}

void command_resize(const struct stream *stream, const struct size *size) {
    struct winsize window = {.ws_row = size->rows, .ws_col = size->columns};
    if (stream->terminal && stream->input >= 0)
        ioctl(stream->input, TIOCSWINSZ, &window);
}
