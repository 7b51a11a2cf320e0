/*
 * The session's root, served by the host: a FUSE file system whose requests and replies pass
 * through a stream, one message a frame.
 *
 * It is mounted at /served, with what is ours mounted into it, and only children make it their
 * root. We never look up a path there: the answer would have to come through ourselves.
 */
#define _GNU_SOURCE
#include "stage2.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define PLACE "/served"

static bool mounted;

/* Mounts without waiting for an answer: the first request is sent and waits in the queue. */
static int mount_fuse(int device) {
    char number[16];
    snprintf(number, sizeof(number), "%d", device);
    const struct mount_option options[] = {
        {"fd", number},
        {"rootmode", "40755"},
        {"user_id", "0"},
        {"group_id", "0"},
        {"default_permissions", NULL},
        {"allow_other", NULL},
        {"source", "host"},
        {NULL, NULL},
    };
    return mount_new("fuse", options);
}

/* In a child, while the host answers: the way to each of these leads through the host's files. */
static int complete(const char *none) {
    static const char *const ours[] = {"guest", "proc", "sys", "dev", "tmp", "root", "run"};
    (void)none;
    for (size_t i = 0; i < sizeof(ours) / sizeof(*ours); i++) {
        char from[32], to[32];
        snprintf(from, sizeof(from), "/%s", ours[i]);
        snprintf(to, sizeof(to), PLACE "/%s", ours[i]);
        if (!mount_again(from, to)) {
            dprintf(2, "mounting %s: %s", to, strerror(errno));
            return 1;
        }
    }
    return 0;
}

bool serve_start(struct stream *stream, const char **failed) {
    *failed = "opening /dev/fuse (the guest's kernel may lack CONFIG_FUSE_FS)";
    if (mounted) {
        errno = EBUSY;
        return false;
    }
    mknod("/dev/fuse", S_IFCHR | 0666, makedev(10, 229));
    int device = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (device < 0)
        return false;
    *failed = "mounting what the host serves";
    int mount = mount_fuse(device);
    if (mount < 0 || (mkdir(PLACE, 0755) && errno != EEXIST) || !mount_at(mount, PLACE) ||
        !worker_start(stream, complete, "")) {
        int reason = errno;
        close(mount);
        close(device);
        errno = reason;
        return false;
    }
    close(mount);
    flow_shut(&stream->input);
    flow_shut(&stream->output);
    stream->served = true;
    stream->output = device;
    stream->input = fcntl(device, F_DUPFD_CLOEXEC, 3);
    return stream->input >= 0;
}

/* The child is done: from now on commands find the host's files. */
void serve_stand(struct stream *stream) {
    mounted = true;
    stream->pid = 0;
    stream->exited = false;
    flow_shut(&stream->errors);
    ring_send(FRAME_READY, stream->number, "", 0);
}

/* For children: the root that commands see. */
bool serve_enter(void) {
    return !mounted || !chroot(PLACE);
}
