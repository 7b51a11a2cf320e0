/* The channel from inside: its memory, signs of life, and how long to wait for the next frame. */
#define _GNU_SOURCE
#include "stage2.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define HOST_PATIENCE 15 /* seconds without a beat until the host counts as gone */
#define PINNED 64        /* pages in one pipe: more would need a large piece of kernel memory */

struct channel *link_channel;
static uint64_t last_beat;
static int64_t last_beat_time;

static int64_t microseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

/* The guest's own proc may not be mounted at all. */
static int open_pagemap(void) {
    int processes = mount_new("proc", NULL);
    if (processes < 0)
        return -1;
    int file = openat(processes, "self/pagemap", O_RDONLY | O_CLOEXEC);
    close(processes);
    return file;
}

/* Pages in a pipe have a reference more than the kernel's migration expects: they stay put. */
static bool pin(void *memory, size_t size) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) || fcntl(ends[1], F_SETPIPE_SZ, PINNED * PAGE) < 0)
        return false;
    for (size_t done = 0; done < size;) {
        struct iovec part = {(char *)memory + done, size - done};
        ssize_t spliced = vmsplice(ends[1], &part, 1, SPLICE_F_NONBLOCK);
        if (spliced <= 0)
            return false;
        done += (size_t)spliced;
    }
    return true; /* and both ends stay open */
}

static bool find_frames(const void *memory, uint64_t *frames) {
    int pagemap = open_pagemap();
    if (pagemap < 0)
        return false;
    size_t wanted = CHANNEL_PAGES * sizeof(*frames);
    ssize_t size = pread(pagemap, frames, wanted, (off_t)((uintptr_t)memory / PAGE * 8));
    close(pagemap);
    if (size != (ssize_t)wanted) {
        errno = EIO;
        return false;
    }
    for (int i = 0; i < CHANNEL_PAGES; i++) {
        bool present = frames[i] >> 63;
        frames[i] &= (1ULL << 55) - 1; /* Documentation/admin-guide/mm/pagemap */
        if (!present || !frames[i]) {
            errno = EPERM;
            return false;
        }
    }
    return true;
}

/* Stage 1 waits for this; with one write it is there as a whole. */
static void say_hello(const struct hello *hello) {
    int file = open("hello", O_WRONLY | O_CLOEXEC);
    if (file < 0 || write(file, hello, sizeof(*hello)) != (ssize_t)sizeof(*hello))
        _exit(1);
    close(file);
}

bool link_open(const char *token) {
    struct hello hello = {.pages = CHANNEL_PAGES};
    const char *failed = "memory for the channel";
    unsigned char *memory = mmap(NULL, CHANNEL_PAGES * PAGE, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    bool done = memory != MAP_FAILED;
    if (done) {
        memset(memory, 0, CHANNEL_PAGES * PAGE);
        failed = "pinning the channel";
        for (size_t page = 0; done && page < CHANNEL_PAGES; page += PINNED) {
            size_t count = CHANNEL_PAGES - page < PINNED ? CHANNEL_PAGES - page : PINNED;
            done = pin(memory + page * PAGE, count * PAGE);
        }
    }
    uint64_t *frames = (uint64_t *)(void *)(memory + PAGE);
    if (done) {
        failed = "/proc/self/pagemap";
        done = find_frames(memory, frames);
    }
    if (!done) {
        hello.error = (uint32_t)(errno ? errno : EIO);
        snprintf(hello.failed, sizeof(hello.failed), "%s", failed);
        say_hello(&hello);
        return false;
    }
    hello.header = frames[0];
    hello.list = frames[1];
    link_channel = (struct channel *)(void *)memory;
    memcpy(link_channel->token, token, strnlen(token, sizeof(link_channel->token)));
    link_channel->version = CHANNEL_VERSION;
    link_channel->ring_pages = RING_PAGES;
    last_beat_time = microseconds();
    say_hello(&hello);
    return true;
}

bool link_host_is_gone(void) {
    uint64_t beat = link_channel->host_beat;
    if (beat != last_beat) {
        last_beat = beat;
        last_beat_time = microseconds();
    }
    return microseconds() - last_beat_time > HOST_PATIENCE * 1000000;
}

/*
 * How long to sleep, in microseconds, when there was nothing to do: the longer nothing happens,
 * the longer, so that typing is answered at once and an idle session costs next to nothing.
 */
int link_patience(bool worked) {
    static int64_t idle_since;
    int64_t now = microseconds();
    link_channel->guest_beat++;
    if (worked || !idle_since)
        idle_since = now;
    int64_t idle = now - idle_since;
    if (idle < 100000) /* the pauses between keys */
        return 100;
    if (idle < 400000)
        return 1000;
    if (idle < 2000000)
        return 5000;
    return idle < 10000000 ? 20000 : 100000;
}

/* Says that nothing more comes, and waits until the host has read all. */
void link_end(void) {
    struct channel *channel = link_channel;
    channel->ended = 1;
    while (channel->to_host_read != channel->to_host_written && !link_host_is_gone())
        usleep((useconds_t)link_patience(false));
}
