/* Takes a tree of files in: an archive on descriptor 0, what fails is told on 2. */
#define _GNU_SOURCE
#include "archive.h"
#include "stage2.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define NAME_MAX_ 255

struct open_how { /* include/uapi/linux/openat2.h */
    uint64_t flags, mode, resolve;
};
enum { RESOLVE_NO_SYMLINKS = 4, RESOLVE_BENEATH = 8 };

static bool tools;       /* for a root of our own: owners and devices too */
static int base;         /* the folder that names are relative to */
static const char *root; /* what "." is called there */
static uint64_t room = UINT64_MAX;

static char header[ARCHIVE_HEADER + 1], path[2 * ARCHIVE_NAME_MAX + 2];
static unsigned char buffer[ARCHIVE_PART];
static unsigned char ahead[ARCHIVE_PART]; /* what was read with something before it */
static size_t ahead_start, ahead_end;

static int folder = -1;                /* where the current entry goes */
static char folder_path[sizeof(path)]; /* and its path */
static int file = -1;                  /* a file of which more parts come */
static char partial[32];               /* its name until it is whole */

static bool read_ahead(void) {
    ssize_t size;
    do
        size = read(0, ahead, sizeof(ahead));
    while (size < 0 && errno == EINTR);
    if (!size)
        errno = EPIPE;
    ahead_start = 0;
    ahead_end = size > 0 ? (size_t)size : 0;
    return size > 0;
}

/* Small pieces come with one system call for many. */
static bool take(void *data, size_t size) {
    while (size) {
        if (ahead_start == ahead_end && !read_ahead())
            return false;
        size_t part = ahead_end - ahead_start < size ? ahead_end - ahead_start : size;
        if (data) {
            memcpy(data, ahead + ahead_start, part);
            data = (char *)data + part;
        }
        ahead_start += part;
        size -= part;
    }
    return true;
}

static unsigned field(enum archive_field number) {
    char digits[9] = {0};
    memcpy(digits, header + 6 + 8 * number, 8);
    return (unsigned)strtoul(digits, NULL, 16);
}

/* Opens the folder an entry goes to, on a way without symbolic links, and returns its last name. */
static const char *enter(char *whole) {
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                           .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH};
    char *slash = strrchr(whole, '/'), *last = slash ? slash + 1 : whole;
    size_t length = slash ? (size_t)(slash - whole) : 0;
    if (folder >= 0 && strlen(folder_path) == length && !memcmp(folder_path, whole, length))
        return last;
    close(folder);
    memcpy(folder_path, whole, length);
    folder_path[length] = 0;
    const char *where = length ? folder_path : ".";
    folder = (int)syscall(SYS_openat2, base, where, &how, sizeof(how));
    return folder < 0 ? NULL : last;
}

static bool write_part(size_t size) {
    uint64_t offset = (uint64_t)field(FIELD_OFFSET_HIGH) << 32 | field(FIELD_OFFSET_LOW);
    off_t at = tools ? 0 : (off_t)offset;
    errno = ENOSPC;
    if (size > room)
        return false;
    room -= size;
    while (size) {
        size_t length = size < sizeof(buffer) ? size : sizeof(buffer);
        if (!take(buffer, length))
            return false;
        for (size_t done = 0; done < length;) {
            ssize_t written = pwrite(file, buffer + done, length - done, at);
            if (written < 0)
                return false;
            done += (size_t)written;
            at += written;
        }
        size -= length;
    }
    return field(FIELD_LEFT) != PART_LAST || !ftruncate(file, at);
}

/* chown clears set-user-id, so the mode comes last; what is put gets no such bits. */
static bool finish(const char *last, mode_t mode) {
    int flags = AT_SYMLINK_NOFOLLOW;
    struct timespec times[2] = {{field(FIELD_TIME), field(FIELD_NANOSECONDS)}, {0, 0}};
    times[1] = times[0];
    uid_t uid = field(FIELD_UID);
    gid_t gid = field(FIELD_GID);
    if (tools && (uid || gid) && fchownat(folder, last, uid, gid, flags))
        return false;
    if (!S_ISLNK(mode) && fchmodat(folder, last, mode & (tools ? 07777 : 0777), 0))
        return false;
    return tools || !utimensat(folder, last, times, flags);
}

static bool write_file(const char *last, mode_t mode, size_t size) {
    const char *temporary = tools ? last : partial;
    if (file < 0) {
        unlinkat(folder, temporary, 0);
        int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
        file = openat(folder, temporary, flags, 0600);
    }
    if (file < 0 || !write_part(size))
        return false;
    if (field(FIELD_LEFT) == PART_MORE)
        return true;
    close(file);
    file = -1;
    if (field(FIELD_LEFT) == PART_LOST)
        return !unlinkat(folder, temporary, 0);
    return finish(temporary, mode) && (tools || !renameat(folder, temporary, folder, last));
}

static bool write_link(const char *last, mode_t mode, size_t size) {
    static char target[ARCHIVE_NAME_MAX + 1];
    errno = ENAMETOOLONG;
    if (size > ARCHIVE_NAME_MAX)
        return false;
    target[size] = 0;
    if (!take(target, size))
        return false;
    int failed = symlinkat(target, folder, last);
    if (failed && errno == EEXIST && !unlinkat(folder, last, 0))
        failed = symlinkat(target, folder, last);
    return !failed && finish(last, mode);
}

static bool write_folder(const char *last, mode_t mode) {
    struct stat there;
    bool more = field(FIELD_LEFT) == PART_MORE;
    if (mkdirat(folder, last, 0700)) {
        if (errno != EEXIST || fstatat(folder, last, &there, AT_SYMLINK_NOFOLLOW))
            return false;
        errno = EEXIST;
        if (!S_ISDIR(there.st_mode))
            return false;
    }
    return more || finish(last, mode);
}

/* proc, sys, dev and guest are ours already: what an image has there is left out. */
static bool is_ours(void) {
    static const char *const ours[] = {"proc", "sys", "dev", "guest"};
    for (size_t i = 0; tools && i < sizeof(ours) / sizeof(*ours); i++) {
        size_t length = strlen(ours[i]);
        if (!strncmp(path, ours[i], length) && (!path[length] || path[length] == '/'))
            return true;
    }
    return false;
}

static bool write_device(const char *last, mode_t mode) {
    dev_t device = makedev(field(FIELD_OFFSET_HIGH), field(FIELD_OFFSET_LOW));
    unlinkat(folder, last, 0);
    errno = EINVAL;
    return tools && !mknodat(folder, last, mode, device) && finish(last, mode);
}

static bool write_entry(void) {
    mode_t mode = field(FIELD_MODE);
    size_t size = field(FIELD_SIZE);
    if (is_ours())
        return take(NULL, size);
    const char *last = enter(path);
    if (!last)
        return false;
    switch (mode & S_IFMT) {
    case S_IFREG:
        return write_file(last, mode, size);
    case S_IFLNK:
        return write_link(last, mode, size);
    case S_IFDIR:
        return write_folder(last, mode);
    default:
        return write_device(last, mode);
    }
}

/* Reads an entry's header and name, and makes the path where it goes. */
static bool next_entry(void) {
    static char name[ARCHIVE_NAME_MAX + 1];
    if (!take(header, ARCHIVE_HEADER))
        return false;
    size_t length = field(FIELD_NAME);
    errno = EBADMSG;
    if (memcmp(header, ARCHIVE_MAGIC, 6) || !length || length > sizeof(name))
        return false;
    if (!take(name, length) || !take(NULL, -(ARCHIVE_HEADER + length) & 3))
        return false;
    name[length - 1] = 0;
    if (!root)
        strcpy(path, name);
    else if (!strcmp(name, "."))
        strcpy(path, root);
    else
        snprintf(path, sizeof(path), "%s/%s", root, name);
    return true;
}

static bool unpack(void) {
    for (;;) {
        if (!next_entry())
            return false;
        if (!field(FIELD_MODE))
            return true;
        if (!write_entry() || !take(NULL, -field(FIELD_SIZE) & 3))
            return false;
    }
}

/* What is half done does not stay; what still comes is read, for it is the sender who ends. */
static int end(bool done, const char *what) {
    if (!done)
        dprintf(2, "%s: %s\n", what, strerror(errno));
    if (file >= 0 && !tools)
        unlinkat(folder, partial, 0);
    while (read(0, buffer, sizeof(buffer)) > 0)
        ;
    return !done;
}

int unpack_tools(const char *none) {
    (void)none;
    tools = true;
    room = mounts_room();
    base = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return end(unpack(), "unpacking the tools into their share of the guest's free memory");
}

/* into: a path of the guest's own, and behind it what is put is called where that is a folder. */
int unpack_put(const char *into) {
    static char place[ARCHIVE_NAME_MAX + 1];
    const char *called = into + strlen(into) + 1;
    if (strlen(into) >= sizeof(place) || strlen(called) > NAME_MAX_)
        return end(false, "the path is too long");
    if (chroot("/guest") || chdir("/"))
        return end(false, "entering the guest's root");
    strcpy(place, into);
    snprintf(partial, sizeof(partial), ".mizzen-%d.part", getpid());
    base = open(place, O_PATH | O_DIRECTORY | O_CLOEXEC);
    root = called;
    if (base < 0 || !*called) {
        close(base);
        char *slash = strrchr(place, '/');
        root = slash ? slash + 1 : place;
        if (slash)
            *slash = 0;
        base = open(!slash ? "." : *place ? place : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    if (base < 0 || !*root)
        return end(false, place);
    bool done = unpack();
    return end(done, *path ? path : into);
}
