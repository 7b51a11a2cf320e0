/* The channel from inside: its memory, its frames, and how long to wait for the next one. */
#define _GNU_SOURCE
#include "stage2.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define HOST_PATIENCE 15 /* seconds without a beat until the host counts as gone */

static struct channel *channel;
static unsigned char *to_guest, *to_host;
static uint64_t last_beat;
static time_t last_beat_time;

static time_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec;
}

/* The guest's own proc may not be mounted at all. */
static int open_pagemap(void) {
    int processes = mount_new("proc", NULL, NULL);
    if (processes < 0)
        return -1;
    int file = openat(processes, "self/pagemap", O_RDONLY | O_CLOEXEC);
    close(processes);
    return file;
}

/* Pages in a pipe have a reference more than the kernel's migration expects: they stay put. */
static bool pin(void *memory) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) || fcntl(ends[1], F_SETPIPE_SZ, CHANNEL_PAGES * PAGE) < 0)
        return false;
    for (size_t done = 0; done < CHANNEL_PAGES * PAGE;) {
        struct iovec part = {(char *)memory + done, CHANNEL_PAGES * PAGE - done};
        ssize_t spliced = vmsplice(ends[1], &part, 1, SPLICE_F_NONBLOCK);
        if (spliced <= 0)
            return false;
        done += (size_t)spliced;
    }
    return true;
}

static bool find_frames(const void *memory, uint64_t *frames) {
    int pagemap = open_pagemap();
    if (pagemap < 0)
        return false;
    uint64_t entries[CHANNEL_PAGES];
    ssize_t size = pread(pagemap, entries, sizeof(entries), (off_t)((uintptr_t)memory / PAGE * 8));
    close(pagemap);
    if (size != (ssize_t)sizeof(entries)) {
        errno = EIO;
        return false;
    }
    for (int i = 0; i < CHANNEL_PAGES; i++) {
        frames[i] = entries[i] & ((1ULL << 55) - 1); /* Documentation/admin-guide/mm/pagemap */
        if (!(entries[i] >> 63) || !frames[i]) {
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
    static struct hello hello;
    hello.pages = CHANNEL_PAGES;
    const char *failed = "memory for the channel";
    void *memory = mmap(NULL, CHANNEL_PAGES * PAGE, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    bool done = memory != MAP_FAILED;
    if (done) {
        memset(memory, 0, CHANNEL_PAGES * PAGE);
        failed = "pinning the channel";
        done = pin(memory);
    }
    if (done) {
        failed = "reading /proc/self/pagemap";
        done = find_frames(memory, hello.frames);
    }
    if (!done) {
        hello.error = (uint32_t)(errno ? errno : EIO);
        snprintf(hello.failed, sizeof(hello.failed), "%s", failed);
        say_hello(&hello);
        return false;
    }
    channel = memory;
    to_guest = (unsigned char *)memory + PAGE;
    to_host = to_guest + RING_SIZE;
    memcpy(channel->token, token, strnlen(token, sizeof(channel->token)));
    channel->version = CHANNEL_VERSION;
    channel->ring_pages = RING_PAGES;
    last_beat_time = now();
    say_hello(&hello);
    return true;
}

bool link_host_is_gone(void) {
    uint64_t beat = channel->host_beat;
    if (beat != last_beat) {
        last_beat = beat;
        last_beat_time = now();
    }
    return now() - last_beat_time > HOST_PATIENCE;
}

/*
 * How long to sleep, in microseconds, when there was nothing to do: the longer nothing happens,
 * the longer, so that typing is answered at once and an idle session costs next to nothing.
 */
int link_patience(bool worked) {
    static int64_t idle_since;
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    int64_t now_us = (int64_t)time.tv_sec * 1000000 + time.tv_nsec / 1000;
    channel->guest_beat++;
    if (worked || !idle_since)
        idle_since = now_us;
    int64_t idle = now_us - idle_since;
    if (idle < 300)
        return 0;
    if (idle < 20000)
        return 100;
    if (idle < 1000000)
        return 1000;
    return idle < 10000000 ? 5000 : 20000;
}

static void wait_a_little(bool worked) {
    int microseconds = link_patience(worked);
    if (microseconds)
        usleep((useconds_t)microseconds);
}

static void ring_out(const unsigned char *ring, uint64_t position, void *data, size_t size) {
    size_t offset = position % RING_SIZE;
    size_t first = size < RING_SIZE - offset ? size : RING_SIZE - offset;
    memcpy(data, ring + offset, first);
    memcpy((char *)data + first, ring, size - first);
}

static void ring_in(unsigned char *ring, uint64_t position, const void *data, size_t size) {
    size_t offset = position % RING_SIZE;
    size_t first = size < RING_SIZE - offset ? size : RING_SIZE - offset;
    memcpy(ring + offset, data, first);
    memcpy(ring, (const char *)data + first, size - first);
}

/* Takes the next frame if a whole one is there. */
bool link_next(struct frame *frame, void *payload) {
    uint64_t written = __atomic_load_n(&channel->to_guest_written, __ATOMIC_ACQUIRE);
    uint64_t read = channel->to_guest_read;
    if (written - read < sizeof(*frame))
        return false;
    ring_out(to_guest, read, frame, sizeof(*frame));
    if (frame->size > FRAME_MAX)
        _exit(1); /* the host never sends such */
    if (written - read < sizeof(*frame) + frame->size)
        return false;
    ring_out(to_guest, read + sizeof(*frame), payload, frame->size);
    __atomic_store_n(&channel->to_guest_read, read + sizeof(*frame) + frame->size,
                     __ATOMIC_RELEASE);
    return true;
}

/* Waits for the next frame; the process ends if the host goes away. */
void link_wait(struct frame *frame, void *payload) {
    bool worked = true;
    while (!link_next(frame, payload)) {
        if (link_host_is_gone())
            _exit(1);
        wait_a_little(worked);
        worked = false;
    }
}

/* Bytes of payload that a frame sent now may have without waiting. */
size_t link_room(void) {
    uint64_t read = __atomic_load_n(&channel->to_host_read, __ATOMIC_ACQUIRE);
    size_t room = RING_SIZE - (size_t)(channel->to_host_written - read);
    return room > sizeof(struct frame) ? room - sizeof(struct frame) : 0;
}

void link_send(uint32_t type, const void *payload, size_t size) {
    struct frame frame = {type, (uint32_t)size};
    bool worked = true;
    while (link_room() < size) {
        if (link_host_is_gone())
            _exit(1);
        wait_a_little(worked);
        worked = false;
    }
    uint64_t written = channel->to_host_written;
    ring_in(to_host, written, &frame, sizeof(frame));
    ring_in(to_host, written + sizeof(frame), payload, size);
    __atomic_store_n(&channel->to_host_written, written + sizeof(frame) + size, __ATOMIC_RELEASE);
}

void link_took_input(size_t size) {
    channel->input_taken += size;
}

/* Says that nothing more comes, and waits until the host has read all. */
void link_end(void) {
    channel->ended = 1;
    while (channel->to_host_read != channel->to_host_written && !link_host_is_gone())
        wait_a_little(false);
}
