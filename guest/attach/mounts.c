/*
 * A mount namespace of our own: a tmpfs as root, the guest's root below /guest, and proc, sys and
 * a small /dev that do not depend on what the guest has mounted. It is gone when we are.
 *
 * The new mount calls (Linux 5.2) need no path in the guest to put anything on.
 */
#define _GNU_SOURCE
#include "stage2.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { OPEN_TREE_CLONE_ = 1, FSOPEN_CLOEXEC_ = 1, FSMOUNT_CLOEXEC_ = 1, MOVE_EMPTY_PATH = 4 };
enum { SET_STRING = 1, CREATE = 6 };

/* Mounts a new file system nowhere: the descriptor is all there is of it. */
int mount_new(const char *type, const char *key, const char *value) {
    int context = (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC_);
    if (context < 0)
        return -1;
    int mount = -1;
    if (!key || !syscall(SYS_fsconfig, context, SET_STRING, key, value, 0))
        if (!syscall(SYS_fsconfig, context, CREATE, NULL, NULL, 0))
            mount = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC_, 0);
    close(context);
    return mount;
}

static bool attach_at(int mount, const char *path) {
    return mount >= 0 && !syscall(SYS_move_mount, mount, "", AT_FDCWD, path, MOVE_EMPTY_PATH);
}

static bool make_devices(void) {
    static const struct {
        const char *path;
        unsigned int major, minor;
    } devices[] = {
        {"/dev/null", 1, 3},    {"/dev/zero", 1, 5},  {"/dev/full", 1, 7}, {"/dev/random", 1, 8},
        {"/dev/urandom", 1, 9}, {"/dev/kmsg", 1, 11}, {"/dev/tty", 5, 0},
    };
    umask(0);
    for (size_t i = 0; i < sizeof(devices) / sizeof(*devices); i++)
        if (mknod(devices[i].path, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)))
            return false;
    int terminals = mount_new("devpts", "ptmxmode", "0666");
    bool done = attach_at(terminals, "/dev/pts");
    close(terminals);
    return done && !symlink("pts/ptmx", "/dev/ptmx") && !symlink("/proc/self/fd", "/dev/fd");
}

#define ROOM_MIN (4ULL << 20) /* busybox; and 0 would mean no limit */

/* Half of what the guest could give without hardship, in bytes; see MemAvailable in proc(5). */
static unsigned long long room_for_tools(int processes) {
    char text[512], *line;
    unsigned long long available = 0;
    int file = openat(processes, "meminfo", O_RDONLY | O_CLOEXEC);
    ssize_t size = file < 0 ? 0 : read(file, text, sizeof(text) - 1);
    text[size > 0 ? size : 0] = 0;
    close(file);
    if ((line = strstr(text, "MemAvailable:")))
        sscanf(line, "MemAvailable: %llu kB", &available);
    available = available * 1024 / 2;
    return available > ROOM_MIN ? available : ROOM_MIN;
}

bool mounts_enter(const char **failed) {
    *failed = "a mount namespace";
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL))
        return false;
    *failed = "the guest's root";
    int guest =
        (int)syscall(SYS_open_tree, AT_FDCWD, "/", OPEN_TREE_CLONE_ | AT_RECURSIVE | O_CLOEXEC);
    if (guest < 0)
        return false;
    *failed = "/proc";
    int processes = mount_new("proc", NULL, NULL);
    if (processes < 0)
        return false;
    *failed = "a tmpfs for the tools";
    char room[32];
    snprintf(room, sizeof(room), "%llu", room_for_tools(processes));
    int root = mount_new("tmpfs", "size", room);
    if (!attach_at(root, "/") || fchdir(root) || chroot(".") || chmod("/", 0755))
        return false;
    close(root);
    static const char *const folders[] = {"/guest",   "/proc", "/sys", "/dev",
                                          "/dev/pts", "/tmp",  "/root"};
    for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++)
        if (mkdir(folders[i], 0755))
            return false;
    *failed = "/guest";
    if (!attach_at(guest, "/guest"))
        return false;
    close(guest);
    *failed = "/proc";
    if (!attach_at(processes, "/proc"))
        return false;
    close(processes);
    int system = mount_new("sysfs", NULL, NULL);
    attach_at(system, "/sys"); /* a kernel may lack it; nothing here needs it */
    close(system);
    *failed = "/dev";
    return make_devices();
}
