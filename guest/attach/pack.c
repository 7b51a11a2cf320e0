/* Sends a tree of the guest's files: an archive on descriptor 1, what was left out on 2. */
#define _GNU_SOURCE
#include "archive.h"
#include "stage2.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENDLESS (1LL << 30) /* of files that do not tell their size, such as those of /proc */

static char name[ARCHIVE_NAME_MAX + 1]; /* of what is being sent */
static unsigned char data[ARCHIVE_PART];
static dev_t device; /* what is mounted further down is left out */
static int status;

static void leave_out(const char *why) {
    dprintf(2, "%s: %s\n", name, why);
    status = 1;
}

static bool send(const void *from, size_t size) {
    for (const char *next = from; size;) {
        ssize_t written = write(1, next, size);
        if (written < 0 && errno != EINTR)
            return false;
        next += written > 0 ? written : 0;
        size -= written > 0 ? (size_t)written : 0;
    }
    return true;
}

static bool send_entry(const struct stat *stat, unsigned left, off_t at, size_t size) {
    static const char zeros[4];
    char header[ARCHIVE_HEADER + 1];
    size_t length = strlen(name) + 1;
    unsigned fields[FIELDS] = {0};
    fields[FIELD_MODE] = stat->st_mode;
    fields[FIELD_UID] = stat->st_uid;
    fields[FIELD_GID] = stat->st_gid;
    fields[FIELD_LEFT] = left;
    fields[FIELD_TIME] = (unsigned)stat->st_mtim.tv_sec;
    fields[FIELD_SIZE] = (unsigned)size;
    fields[FIELD_OFFSET_HIGH] = (unsigned)((unsigned long long)at >> 32);
    fields[FIELD_OFFSET_LOW] = (unsigned)at;
    fields[FIELD_NAME] = (unsigned)length;
    fields[FIELD_NANOSECONDS] = (unsigned)stat->st_mtim.tv_nsec;
    memcpy(header, ARCHIVE_MAGIC, 6);
    for (int i = 0; i < FIELDS; i++)
        snprintf(header + 6 + 8 * i, 9, "%08x", fields[i]);
    return send(header, ARCHIVE_HEADER) && send(name, length) &&
           send(zeros, -(ARCHIVE_HEADER + length) & 3) && send(data, size) &&
           send(zeros, -size & 3);
}

/* A file may shrink or grow meanwhile: no size is promised, and what is added is left out. */
static bool send_file(int file, const struct stat *stat) {
    bool holes = stat->st_blocks * 512 < stat->st_size;
    off_t end = stat->st_size ? stat->st_size : ENDLESS, at = 0;
    for (;;) {
        off_t next = holes ? lseek(file, at, SEEK_DATA) : at;
        if (next < 0 && errno == ENXIO)
            next = stat->st_size; /* nothing but a hole comes */
        at = next < 0 ? at : next;
        size_t wanted = end - at < ARCHIVE_PART ? (size_t)(end > at ? end - at : 0) : ARCHIVE_PART;
        ssize_t size = read(file, data, wanted);
        if (size < 0) {
            leave_out(strerror(errno));
            return send_entry(stat, PART_LOST, at, 0);
        }
        if (!size || at + size >= end)
            return send_entry(stat, PART_LAST, at, (size_t)size);
        if (!send_entry(stat, PART_MORE, at, (size_t)size))
            return false;
        at += size;
    }
}

static bool send_link(int folder, const char *last, const struct stat *stat) {
    ssize_t size = readlinkat(folder, last, (char *)data, sizeof(data));
    if (size < 0) {
        leave_out(strerror(errno));
        return true;
    }
    return send_entry(stat, PART_LAST, 0, (size_t)size);
}

static bool send_any(int folder, const char *last, int follow, int depth);

/* Takes the descriptor over. */
static bool send_folder(int file, const struct stat *stat, int depth) {
    bool elsewhere = stat->st_dev != device, sent = send_entry(stat, PART_MORE, 0, 0);
    DIR *folder = fdopendir(file);
    struct dirent *entry;
    size_t length = strlen(name);
    bool root = !strcmp(name, ".");
    if (folder && depth == ARCHIVE_DEPTH_MAX)
        leave_out("deeper than 128 folders");
    while (sent && folder && !elsewhere && depth < ARCHIVE_DEPTH_MAX && (entry = readdir(folder))) {
        const char *last = entry->d_name;
        if (!strcmp(last, ".") || !strcmp(last, ".."))
            continue;
        size_t start = root ? 0 : length + 1;
        if (start + strlen(last) > ARCHIVE_NAME_MAX) {
            leave_out("a path of more than 4095 bytes");
            continue;
        }
        if (!root)
            name[length] = '/';
        strcpy(name + start, last);
        sent = send_any(dirfd(folder), last, O_NOFOLLOW, depth + 1);
        name[0] = root ? '.' : name[0];
        name[length] = 0;
    }
    if (folder)
        closedir(folder);
    else
        close(file);
    return sent && send_entry(stat, PART_LAST, 0, 0);
}

/* False: nobody takes it any more. What cannot be read is left out, and told. */
static bool send_any(int folder, const char *last, int follow, int depth) {
    struct stat stat;
    int way = follow ? AT_SYMLINK_NOFOLLOW : 0;
    if (fstatat(folder, last, &stat, way | AT_NO_AUTOMOUNT)) {
        leave_out(strerror(errno));
        return true;
    }
    if (!depth)
        device = stat.st_dev;
    if (S_ISLNK(stat.st_mode))
        return send_link(folder, last, &stat);
    if (!S_ISREG(stat.st_mode) && !S_ISDIR(stat.st_mode)) {
        leave_out("neither file, folder nor link");
        return true;
    }
    int file = openat(folder, last, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | follow);
    if (file < 0 || fstat(file, &stat)) {
        leave_out(strerror(errno));
        close(file);
        return true;
    }
    if (S_ISDIR(stat.st_mode))
        return send_folder(file, &stat, depth);
    bool sent = send_file(file, &stat);
    close(file);
    return sent;
}

int pack_tree(const char *path) {
    static const struct stat nothing;
    strcpy(name, path);
    if (chroot("/guest") || chdir("/") || access(path, F_OK)) {
        leave_out(strerror(errno));
        return 2;
    }
    strcpy(name, ".");
    bool sent = send_any(AT_FDCWD, path, 0, 0);
    strcpy(name, ARCHIVE_TRAILER);
    return sent && send_entry(&nothing, PART_LAST, 0, 0) ? status : 2;
}
