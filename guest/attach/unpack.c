/*
 * The tools: a cpio archive in the "newc" format, in frames as they come.
 * Documentation/driver-api/early-userspace/buffer-format.rst.
 */
#define _GNU_SOURCE
#include "stage2.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define HEADER 110
#define NAME_MAX_ 4096

static unsigned char buffer[FRAME_MAX];
static size_t have, used;

static bool take(void *data, size_t size) {
    for (char *to = data; size;) {
        if (used == have) {
            struct frame frame;
            link_wait(&frame, buffer);
            if (frame.type != FRAME_TOOLS) {
                errno = EBADMSG;
                return false;
            }
            have = frame.size;
            used = 0;
            continue;
        }
        size_t part = have - used < size ? have - used : size;
        if (to) {
            memcpy(to, buffer + used, part);
            to += part;
        }
        used += part;
        size -= part;
    }
    return true;
}

static unsigned long field(const char *header, int number) {
    char digits[9] = {0};
    memcpy(digits, header + 6 + 8 * number, 8);
    return strtoul(digits, NULL, 16);
}

static bool write_file(const char *path, mode_t mode, size_t size) {
    static char part[FRAME_MAX];
    unlink(path);
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode & 07777);
    if (file < 0)
        return false;
    while (size) {
        size_t length = size < sizeof(part) ? size : sizeof(part);
        ssize_t written = take(part, length) ? write(file, part, length) : -1;
        if (written != (ssize_t)length) {
            if (written >= 0)
                errno = ENOSPC;
            int reason = errno;
            close(file);
            errno = reason;
            return false;
        }
        size -= length;
    }
    return !close(file);
}

static bool write_link(const char *path, size_t size) {
    static char target[NAME_MAX_];
    if (size >= sizeof(target)) {
        errno = ENAMETOOLONG;
        return false;
    }
    target[size] = 0;
    unlink(path);
    return take(target, size) && !symlink(target, path);
}

/* proc, sys, dev and guest are ours already: what an image has there is left out. */
static bool is_ours(const char *path) {
    static const char *const ours[] = {"/proc", "/sys", "/dev", "/guest"};
    for (size_t i = 0; i < sizeof(ours) / sizeof(*ours); i++) {
        size_t length = strlen(ours[i]);
        if (!strncmp(path, ours[i], length) && (!path[length] || path[length] == '/'))
            return true;
    }
    return false;
}

static bool write_entry(const char *path, const char *header) {
    mode_t mode = (mode_t)field(header, 1);
    size_t size = field(header, 6);
    if (is_ours(path))
        return take(NULL, size);
    bool done;
    switch (mode & S_IFMT) {
    case S_IFREG:
        done = write_file(path, mode, size);
        break;
    case S_IFLNK:
        return write_link(path, size) &&
               !lchown(path, (uid_t)field(header, 2), (gid_t)field(header, 3));
    case S_IFDIR:
        done = !mkdir(path, mode & 07777) || errno == EEXIST;
        break;
    default:
        done = !mknod(path, mode, makedev((unsigned)field(header, 9), (unsigned)field(header, 10)));
    }
    /* chown clears set-user-id, so the mode comes last */
    return done && !chown(path, (uid_t)field(header, 2), (gid_t)field(header, 3)) &&
           !chmod(path, mode & 07777);
}

bool unpack_tools(const char **failed) {
    static char header[HEADER + 1], path[NAME_MAX_ + 2];
    static const char trailer[] = "/TRAILER!!!";
    for (;;) {
        *failed = "reading the tools";
        if (!take(header, HEADER))
            return false;
        size_t name = field(header, 11), size = field(header, 6);
        if (memcmp(header, "070701", 6) || !name || name > NAME_MAX_) {
            errno = EBADMSG;
            return false;
        }
        path[0] = '/';
        if (!take(path + 1, name) || !take(NULL, -(HEADER + name) & 3))
            return false;
        path[name] = 0;
        if (!strcmp(path, trailer))
            return true;
        *failed = "unpacking the tools into half of the guest's free memory";
        if (!write_entry(path, header) || !take(NULL, -size & 3))
            return false;
    }
}
