/*
 * Joining one of the guest's processes, such as a container's: all its namespaces but the one of
 * users, in which we would not be root any more.
 */
#define _GNU_SOURCE
#include "stage2.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The kernel answers EINVAL for a kind of namespace that it was built without. */
static bool enter(int process, int kind, bool needed) {
    return !setns(process, kind) || (errno == EINVAL && !needed);
}

/*
 * Only children come into a namespace of processes, so a child goes on in our place. When the
 * container ends, so does the child; then it is us who tell.
 */
static bool go_on_as_child(void) {
    pid_t child = fork();
    if (child <= 0)
        return !child;
    int status = 0;
    signal(SIGTERM, SIG_IGN);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status)) {
        errno = 0;
        ring_fail(0, "the container has ended");
        link_end();
    }
    _exit(0);
}

/* root: takes the process's root as a path in its mount namespace. */
bool join_process(uint32_t pid, char *root, size_t size, const char **failed) {
    char name[32];
    int processes = mount_new("proc", NULL);
    int process = (int)syscall(SYS_pidfd_open, pid, 0);
    *failed = "finding the process named by --guest-pid";
    if (processes < 0 || process < 0)
        return false;
    *failed = "joining the namespaces of the process named by --guest-pid";
    if (!enter(process, CLONE_NEWNS, true) || !enter(process, CLONE_NEWNET, false) ||
        !enter(process, CLONE_NEWIPC, false) || !enter(process, CLONE_NEWUTS, false) ||
        !enter(process, CLONE_NEWCGROUP, false) || !enter(process, CLONE_NEWPID, false))
        return false;
    snprintf(name, sizeof(name), "%u/root", pid);
    ssize_t length = readlinkat(processes, name, root, size - 1);
    if (length < 0)
        return false;
    root[length] = 0;
    close(processes);
    close(process);
    return go_on_as_child();
}
