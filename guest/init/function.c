#include "function.h"

#include "account.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* What the child could not do, told through a pipe that a successful exec closes. */
struct trouble {
    int step;
    int error;
};

enum step { STEP_USER, STEP_DIRECTORY, STEP_EXEC };

static void variable_default(struct list *environment, const char *name, const char *value) {
    size_t size = strlen(name) + strlen(value) + 2;
    char *entry;

    if (environment_find(environment, name) != NULL)
        return;
    entry = malloc(size);
    if (entry == NULL)
        fatal("cannot start the function: %s", strerror(errno));
    snprintf(entry, size, "%s=%s", name, value);
    list_add(environment, entry);
}

/* Run the program, found in PATH as a shell does: a name with a slash is a path already, a file
 * that may not be run is remembered while the search goes on. Returns only on failure. */
static int program_run(char **arguments, char **environment, const char *path) {
    int error = ENOENT;
    char file[4096];

    if (strchr(arguments[0], '/') != NULL) {
        execve(arguments[0], arguments, environment);
        return errno;
    }
    while (*path != '\0') {
        size_t size = strcspn(path, ":");

        snprintf(file, sizeof(file), "%.*s/%s", (int)size, path, arguments[0]);
        execve(file, arguments, environment);
        if (errno != ENOENT && errno != ENOTDIR)
            error = errno;
        path += size + (path[size] == ':');
    }
    return error;
}

static _Noreturn void child_run(const struct config *config, const struct account *account,
                                const struct list *environment, const int streams[2], int report) {
    struct trouble trouble;
    struct rlimit files = {.rlim_cur = 1024, .rlim_max = 524288};
    const char *path = environment_find(environment, "PATH");
    sigset_t none;
    int null = open("/dev/null", O_RDWR);

    setsid();
    dup2(null, 0);
    dup2(streams[0], 1);
    dup2(streams[1], 2);
    if (null > 2)
        close(null);
    setrlimit(RLIMIT_NOFILE, &files);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    trouble.step = STEP_USER;
    if (setgroups(account->group_count, account->groups) < 0 || setgid(account->gid) < 0 ||
        setuid(account->uid) < 0)
        goto failed;
    trouble.step = STEP_DIRECTORY;
    if (chdir(config->directory) < 0)
        goto failed;
    trouble.step = STEP_EXEC;
    errno = program_run(config->arguments.items, environment->items, path ? path : "");
failed:
    trouble.error = errno;
    if (write(report, &trouble, sizeof(trouble)) < 0)
        _exit(126);
    _exit(127);
}

static _Noreturn void start_failed(const struct config *config, const struct trouble *trouble) {
    const char *program = config->arguments.items[0];
    const char *error = strerror(trouble->error);

    if (trouble->step == STEP_USER)
        fatal("cannot start %s: cannot become user %s: %s", program, config->user, error);
    if (trouble->step == STEP_DIRECTORY)
        fatal("cannot start %s: directory %s: %s", program, config->directory, error);
    if (trouble->error == ENOENT && strchr(program, '/') != NULL && access(program, F_OK) == 0)
        fatal("cannot start %s: its interpreter or loader is not in the image", program);
    if (trouble->error == ENOENT && strchr(program, '/') == NULL)
        fatal("cannot start %s: no such program in PATH", program);
    fatal("cannot start %s: %s", program, error);
}

static void pipe_make(int ends[2], int flags) {
    if (pipe2(ends, flags) < 0)
        fatal("cannot start the function: pipe: %s", strerror(errno));
}

static void stream_begin(struct stream *stream, const char *name, int fd) {
    stream->name = name;
    stream->fd = fd;
    stream->used = 0;
    fcntl(fd, F_SETFL, O_NONBLOCK);
}

void function_start(struct function *function, const struct config *config) {
    struct list environment = {0};
    struct account account;
    struct trouble trouble;
    int out[2], err[2], report[2];

    account_find(&account, config->user);
    for (size_t i = 0; i < config->environment.count; i++)
        list_add(&environment, config->environment.items[i]);
    variable_default(&environment, "PATH", DEFAULT_PATH);
    variable_default(&environment, "HOSTNAME", config->hostname);
    variable_default(&environment, "HOME", account.home);
    pipe_make(out, O_CLOEXEC);
    pipe_make(err, O_CLOEXEC);
    pipe_make(report, O_CLOEXEC);
    /* Programs that log to /dev/stdout open the pipe anew, as their own user. */
    if (fchown(out[1], account.uid, account.gid) < 0 ||
        fchown(err[1], account.uid, account.gid) < 0)
        say("warning: /dev/stdout cannot be opened by user %s", config->user);
    function->pid = fork();
    if (function->pid < 0)
        fatal("cannot start the function: fork: %s", strerror(errno));
    if (function->pid == 0)
        child_run(config, &account, &environment, (int[]){out[1], err[1]}, report[1]);
    close(out[1]);
    close(err[1]);
    close(report[1]);
    if (read(report[0], &trouble, sizeof(trouble)) == (ssize_t)sizeof(trouble))
        start_failed(config, &trouble);
    close(report[0]);
    stream_begin(&function->out, "stdout", out[0]);
    stream_begin(&function->err, "stderr", err[0]);
    say("started pid=%d", (int)function->pid);
}
