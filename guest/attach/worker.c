/* Processes of a stream: their pipes, and copies of ourselves that do what may take long. */
#define _GNU_SOURCE
#include "stage2.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PIPE_SIZE (256 * 1024) /* fewer changes between us and whom we feed */

/* Opens three pipes; other: the ends that the child gets as its descriptors 0 to 2. */
bool pipes_open(struct stream *stream, int other[3]) {
    int *ours[3] = {&stream->input, &stream->output, &stream->errors};
    for (int i = 0; i < 3; i++)
        other[i] = -1;
    for (int i = 0; i < 3; i++) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC)) {
            pipes_close(other);
            return false;
        }
        *ours[i] = ends[i ? 0 : 1];
        other[i] = ends[i ? 1 : 0];
        fcntl(ends[0], F_SETPIPE_SZ, PIPE_SIZE); /* if not, then not */
        fcntl(*ours[i], F_SETFL, O_NONBLOCK);
    }
    return true;
}

void pipes_close(int other[3]) {
    int reason = errno;
    for (int i = 0; i < 3; i++)
        if (other[i] >= 0)
            close(other[i]);
    errno = reason;
}

/* Who debugs must not be spared at the cost of what is debugged. */
static void be_the_first_to_go(void) {
    int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (file >= 0 && write(file, "1000", 4) != 4)
        _exit(126);
    close(file);
}

/* In a child: takes its descriptors and the usual signals, and nothing else of ours. */
void child_begin(const int files[3]) {
    be_the_first_to_go();
    for (int i = 0; i < 3; i++)
        dup2(files[i], i);
    syscall(SYS_close_range, 3U, ~0U, 0U);
    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    umask(022);
}

/* Does the work in a child, which ends by itself when its input or its output does. */
bool worker_start(struct stream *stream, int (*work)(const char *text), const char *text) {
    int files[3];
    if (!pipes_open(stream, files))
        return false;
    stream->worker = true;
    stream->pid = fork();
    if (!stream->pid) {
        child_begin(files);
        signal(SIGPIPE, SIG_IGN); /* an error like others: what is half done gets removed */
        umask(0);
        _exit(work(text));
    }
    pipes_close(files);
    return stream->pid > 0;
}
