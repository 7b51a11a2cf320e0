#include "mounts.h"

#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOWER "/mizzen/lower"
#define LAYER "/mizzen/layer"
#define ROOT "/mizzen/root"
#define DEVICE_WAIT_MS 5000
#define STEP_MS 5

static void try_mount(const char *type, const char *where, unsigned long flags, const char *data) {
    mkdir(where, 0755);
    if (mount(type, where, type, flags, data) < 0 && errno != EBUSY)
        say("warning: cannot mount %s on %s: %s", type, where, strerror(errno));
}

void mounts_begin(void) {
    /* Before anything is said: /dev/kmsg is how it would be. */
    try_mount("devtmpfs", "/dev", MS_NOSUID, "mode=0755");
    try_mount("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    try_mount("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
}

static void device_wait(const char *device) {
    for (int waited = 0; access(device, F_OK) < 0; waited += STEP_MS) {
        if (waited >= DEVICE_WAIT_MS)
            fatal("cannot mount the root: %s: no such device came up; is its driver among the "
                  "modules?",
                  device);
        nanosleep(&(struct timespec){.tv_nsec = STEP_MS * 1000000L}, NULL);
    }
}

static void folder_make(const char *path) {
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        fatal("cannot mount the root: %s: %s", path, strerror(errno));
}

static void must_mount(const char *source, const char *where, const char *type, unsigned long flags,
                       const char *data) {
    if (mount(source, where, type, flags, data) == 0)
        return;
    if (errno == ENODEV)
        fatal("cannot mount the root: the kernel has no %s; is its module there?", type);
    if (errno == EINVAL && strcmp(type, "erofs") == 0)
        fatal("cannot mount the root: %s holds no erofs that this kernel can read", source);
    fatal("cannot mount the root: %s on %s: %s", type, where, strerror(errno));
}

/* Kernel threads share PID 1's root and working directory (both were cloned with CLONE_FS), and
 * files that the kernel opens for attach are looked up from there: so the switch is made by
 * moving the mount and chroot in PID 1 itself. */
static void root_enter(void) {
    static const char *const kept[] = {"/dev", "/proc", "/sys"};
    char target[64];

    for (size_t i = 0; i < sizeof(kept) / sizeof(*kept); i++) {
        snprintf(target, sizeof(target), ROOT "%s", kept[i]);
        mkdir(target, 0755);
        if (mount(kept[i], target, NULL, MS_MOVE, NULL) < 0)
            fatal("cannot mount the root: %s: %s", target, strerror(errno));
    }
    if (chdir(ROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
        chdir("/") < 0)
        fatal("cannot enter the root: %s", strerror(errno));
}

void root_switch(const char *device) {
    device_wait(device);
    folder_make("/mizzen");
    folder_make(LOWER);
    folder_make(LAYER);
    folder_make(ROOT);
    must_mount(device, LOWER, "erofs", MS_RDONLY, NULL);
    must_mount("tmpfs", LAYER, "tmpfs", 0, "mode=0755");
    folder_make(LAYER "/upper");
    folder_make(LAYER "/work");
    must_mount("overlay", ROOT, "overlay", 0,
               "lowerdir=" LOWER ",upperdir=" LAYER "/upper,workdir=" LAYER "/work");
    root_enter();
}

/* Programs look up localhost and their own name; images leave this file to whoever runs them. */
static void hosts_write(const char *hostname, const struct list *addresses) {
    struct stat status;
    int fd;

    if (stat("/etc/hosts", &status) == 0 && status.st_size > 0)
        return;
    mkdir("/etc", 0755);
    fd = open("/etc/hosts", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return;
    dprintf(fd, "127.0.0.1 localhost\n::1 localhost\n");
    for (size_t i = 0; i < addresses->count; i++)
        dprintf(fd, "%.*s %s\n", (int)strcspn(addresses->items[i], "/"), addresses->items[i],
                hostname);
    close(fd);
}

void mounts_finish(const char *hostname, const struct list *addresses) {
    const unsigned long safe = MS_NOSUID | MS_NODEV;

    try_mount("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=0620,ptmxmode=0666");
    try_mount("tmpfs", "/dev/shm", safe, "mode=1777");
    try_mount("tmpfs", "/run", safe, "mode=0755");
    if (access("/sys/fs/cgroup", F_OK) == 0)
        try_mount("cgroup2", "/sys/fs/cgroup", safe | MS_NOEXEC, NULL);
    if (mkdir("/tmp", 01777) == 0) /* the root is in memory: /tmp needs no mount of its own */
        chmod("/tmp", 01777);
    symlink("/proc/self/fd", "/dev/fd");
    symlink("/proc/self/fd/0", "/dev/stdin");
    symlink("/proc/self/fd/1", "/dev/stdout");
    symlink("/proc/self/fd/2", "/dev/stderr");
    hosts_write(hostname, addresses);
}
