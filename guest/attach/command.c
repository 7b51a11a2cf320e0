/* The command of a session: on a terminal of its own, or on three pipes. */
#define _GNU_SOURCE
#include "stage2.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define STRINGS_MAX 1024
#define KILL_STEP 1000
#define KILL_PATIENCE 5000000 /* microseconds; what waits for a dead disk cannot be killed */

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

/* Who debugs must not be spared at the cost of what is debugged. */
static void be_the_first_to_go(void) {
    int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (file >= 0 && write(file, "1000", 4) != 4)
        _exit(126);
    close(file);
}

static void run_child(int input, int output, int errors, bool terminal, char **environment) {
    be_the_first_to_go();
    setsid();
    if (terminal)
        ioctl(input, TIOCSCTTY, 0);
    dup2(input, 0);
    dup2(output, 1);
    dup2(errors, 2);
    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    umask(022);
    if (chdir("/guest"))
        _exit(126);
    execvpe(strings[0], strings, environment);
    dprintf(2, "mizzen: cannot run %s: %s\n", strings[0], strerror(errno));
    _exit(errno == ENOENT ? 127 : 126);
}

static bool open_terminal(int *master, int *slave, const struct size *size) {
    *master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (*master < 0)
        return false;
    int unlock = 0;
    struct winsize window = {.ws_row = size->rows, .ws_col = size->columns};
    if (ioctl(*master, TIOCSPTLCK, &unlock) || ioctl(*master, TIOCSWINSZ, &window))
        return false;
    *slave = ioctl(*master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    return *slave >= 0;
}

bool command_start(struct command *command, const void *data, size_t size) {
    struct start start;
    char **environment;
    if (size < sizeof(start))
        return false;
    memcpy(&start, data, sizeof(start));
    char *text = malloc(size - sizeof(start) + 1);
    if (!text)
        return false;
    memcpy(text, (const char *)data + sizeof(start), size - sizeof(start));
    if (!split(text, size - sizeof(start), &start, &environment)) {
        errno = EBADMSG;
        return false;
    }
    command->terminal = start.terminal;
    setenv("PATH", "/bin:/sbin:/usr/bin:/usr/sbin:/usr/local/bin", 1); /* for execvpe */
    int in[2], out[2], err[2];
    if (command->terminal) {
        int slave;
        if (!open_terminal(&command->input, &slave, &start.size))
            return false;
        command->output = command->input;
        command->errors = -1;
        in[0] = out[1] = err[1] = slave;
    } else {
        if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
            return false;
        command->input = in[1];
        command->output = out[0];
        command->errors = err[0];
        fcntl(in[1], F_SETFL, O_NONBLOCK);
        fcntl(out[0], F_SETFL, O_NONBLOCK);
        fcntl(err[0], F_SETFL, O_NONBLOCK);
    }
    command->pid = fork();
    if (command->pid < 0)
        return false;
    if (!command->pid)
        run_child(in[0], out[1], err[1], command->terminal, environment);
    close(in[0]);
    if (!command->terminal) {
        close(out[1]);
        close(err[1]);
    }
    free(text);
    return true;
}

void command_resize(const struct command *command, const struct size *size) {
    struct winsize window = {.ws_row = size->rows, .ws_col = size->columns};
    if (command->terminal && command->input >= 0)
        ioctl(command->input, TIOCSWINSZ, &window);
}

void command_signal(const struct command *command, int number) {
    if (command->pid > 0 && !command->exited)
        kill(-command->pid, number);
}

/* Collects whatever has ended; true once the command itself has. */
bool command_reap(struct command *command) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid != command->pid)
            continue;
        command->exited = true;
        command->status =
            WIFSIGNALED(status) ? 128 + (uint32_t)WTERMSIG(status) : (uint32_t)WEXITSTATUS(status);
    }
    return command->exited;
}

static pid_t parent_of(pid_t pid) {
    char path[32], line[512];
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    ssize_t size = read(file, line, sizeof(line) - 1);
    close(file);
    line[size > 0 ? size : 0] = 0;
    char *after = strrchr(line, ')');
    int parent = 0;
    if (after)
        sscanf(after, ") %*c %d", &parent);
    return parent;
}

/*
 * Ends every process of the session. We are their subreaper, so whatever loses its parent becomes
 * our child: killing children until none is left reaches all.
 */
void command_kill_all(void) {
    for (int waited = 0; waited < KILL_PATIENCE; waited += KILL_STEP) {
        DIR *processes = opendir("/proc");
        struct dirent *entry;
        while (processes && (entry = readdir(processes))) {
            pid_t pid = atoi(entry->d_name);
            if (pid > 0 && parent_of(pid) == getpid())
                kill(pid, SIGKILL);
        }
        if (processes)
            closedir(processes);
        pid_t ended;
        while ((ended = waitpid(-1, NULL, WNOHANG)) > 0)
            ;
        if (ended < 0 && errno == ECHILD)
            return;
        usleep(KILL_STEP);
    }
}
