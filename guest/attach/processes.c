/*
 * The processes of a session. We are their subreaper, so whatever loses its parent becomes our
 * child, and killing children until none is left reaches all.
 */
#define _GNU_SOURCE
#include "stage2.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define STEP 1000 /* microseconds */
#define GRACE 500000
#define PATIENCE 5000000 /* what waits for a dead disk cannot be killed */

struct relations {
    pid_t parent, session;
};

static struct relations relations_of(pid_t pid) {
    struct relations found = {0, 0};
    char path[32], line[512];
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return found;
    ssize_t size = read(file, line, sizeof(line) - 1);
    close(file);
    line[size > 0 ? size : 0] = 0;
    char *after = strrchr(line, ')'); /* a name may hold any character, this one too */
    if (after)
        sscanf(after, ") %*c %d %*d %d", &found.parent, &found.session);
    return found;
}

/* Kills the processes of one session; 0: our children. */
static void kill_those(pid_t session) {
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    while (processes && (entry = readdir(processes))) {
        pid_t pid = atoi(entry->d_name);
        if (pid <= 0)
            continue;
        struct relations found = relations_of(pid);
        if (session ? found.session == session : found.parent == getpid())
            kill(pid, SIGKILL);
    }
    if (processes)
        closedir(processes);
}

void processes_end_session(pid_t session) {
    kill_those(session);
}

static bool all_ended(void) {
    pid_t ended;
    while ((ended = waitpid(-1, NULL, WNOHANG)) > 0)
        ;
    return ended < 0 && errno == ECHILD;
}

/* grace: there are workers, which see the end of their input and remove what is half done. */
void processes_end_all(bool grace) {
    for (int waited = 0; grace && waited < GRACE && !all_ended(); waited += STEP)
        usleep(STEP);
    for (int waited = 0; waited < PATIENCE && !all_ended(); waited += STEP) {
        kill_those(0);
        usleep(STEP);
    }
}
