/*
 * A mount namespace of our own: a tmpfs as root, the guest's root below /guest, and proc, sys and
 * a small /dev that do not depend on what the guest has mounted. It is gone when we are.
 *
 * The new mount calls (Linux 5.2) need no path in the guest to put anything on.
 */
#define _GNU_SOURCE
#include "stage2.h"

#include <errno.h>
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
enum { SET_FLAG = 0, SET_STRING = 1, CREATE = 6 };

#define ROOM_MIN (4ULL << 20) /* busybox; and 0 would mean no limit */

static uint64_t room;

static bool set(int context, const struct mount_option *option) {
    long failed = option->value
                      ? syscall(SYS_fsconfig, context, SET_STRING, option->key, option->value, 0)
                      : syscall(SYS_fsconfig, context, SET_FLAG, option->key, NULL, 0);
    return !failed;
}

/*
 * Mounts a new file system nowhere: the descriptor is all there is of it. The options end with one
 * without a key; those without a value are flags.
 */
int mount_new(const char *type, const struct mount_option *options) {
    int context = (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC_);
    if (context < 0)
        return -1;
    int mount = -1;
    bool done = true;
    for (; done && options && options->key; options++)
        done = set(context, options);
    if (done && !syscall(SYS_fsconfig, context, CREATE, NULL, NULL, 0))
        mount = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC_, 0);
    close(context);
    return mount;
}

bool mount_at(int mount, const char *path) {
    return mount >= 0 && !syscall(SYS_move_mount, mount, "", AT_FDCWD, path, MOVE_EMPTY_PATH);
}

/* Mounts what is at one path, and below it, at another one too. */
bool mount_again(const char *from, const char *to) {
    int flags = OPEN_TREE_CLONE_ | AT_RECURSIVE | O_CLOEXEC;
    int copy = (int)syscall(SYS_open_tree, AT_FDCWD, from, flags);
    bool done = mount_at(copy, to);
    int reason = errno;
    close(copy);
    errno = reason;
    return done;
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
    return !symlink("pts/ptmx", "/dev/ptmx") && !symlink("/proc/self/fd", "/dev/fd");
}

/* A kernel may be built without pseudo terminals: pipes are enough for most. */
static bool make_terminals(void) {
    int terminals =
        mount_new("devpts", (struct mount_option[]){{"ptmxmode", "0666"}, {NULL, NULL}});
    bool done = mount_at(terminals, "/dev/pts");
    close(terminals);
    return done;
}

static void read_text(int folder, const char *name, char *text, size_t size) {
    int file = openat(folder, name, O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? 0 : read(file, text, size - 1);
    text[length > 0 ? length : 0] = 0;
    close(file);
}

/* What the guest could give without hardship, in bytes; see MemAvailable in proc(5). */
static uint64_t memory_available(int processes) {
    char text[512], *line;
    unsigned long long available = 0;
    read_text(processes, "meminfo", text, sizeof(text));
    if ((line = strstr(text, "MemAvailable:")))
        sscanf(line, "MemAvailable: %llu kB", &available);
    return available * 1024;
}

static bool knows_fuse(int processes) {
    char text[2048];
    read_text(processes, "filesystems", text, sizeof(text));
    return strstr(text, "\tfuse\n");
}

/* Bytes that may be unpacked into our root: tmpfs minds its size, but ramfs has none. */
uint64_t mounts_room(void) {
    return room;
}

static int new_root(void) {
    char size[32];
    snprintf(size, sizeof(size), "%llu", (unsigned long long)room);
    int root = mount_new("tmpfs", (struct mount_option[]){{"size", size}, {NULL, NULL}});
    if (root < 0) /* CONFIG_TMPFS is not set: it is there all the same, but takes no options */
        root = mount_new("tmpfs", NULL);
    return root < 0 ? mount_new("ramfs", NULL) : root;
}

/* root: of the process whose mount namespace we have joined; share: see struct setup. */
bool mounts_enter(const char *root, uint32_t share, struct ready *ready, const char **failed) {
    *failed = "a mount namespace";
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL))
        return false;
    *failed = "the guest's root";
    if (chroot(root) || chdir("/"))
        return false;
    int guest =
        (int)syscall(SYS_open_tree, AT_FDCWD, "/", OPEN_TREE_CLONE_ | AT_RECURSIVE | O_CLOEXEC);
    if (guest < 0)
        return false;
    *failed = "/proc";
    int processes = mount_new("proc", NULL);
    if (processes < 0)
        return false;
    ready->available = memory_available(processes);
    room = ready->available / 100 * share;
    room = room > ROOM_MIN ? room : ROOM_MIN;
    *failed = "a tmpfs for the tools";
    int own = new_root();
    if (!mount_at(own, "/") || fchdir(own) || chroot(".") || chmod("/", 0755))
        return false;
    close(own);
    static const char *const folders[] = {"/guest",   "/proc", "/sys",  "/dev",
                                          "/dev/pts", "/tmp",  "/root", "/run"};
    for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++)
        if (mkdir(folders[i], 0755))
            return false;
    *failed = "/guest";
    if (!mount_at(guest, "/guest"))
        return false;
    close(guest);
    *failed = "/proc";
    if (!mount_at(processes, "/proc"))
        return false;
    int system = mount_new("sysfs", NULL);
    mount_at(system, "/sys"); /* a kernel may lack it; nothing here needs it */
    close(system);
    *failed = "/dev";
    if (!make_devices())
        return false;
    ready->can = (knows_fuse(processes) ? CAN_FUSE : 0) | (make_terminals() ? CAN_TERMINALS : 0);
    close(processes);
    return true;
}
