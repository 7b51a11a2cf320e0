/*
 * The channel between stage 2 and the host: two rings in stage 2's memory, which the host reads
 * and writes from outside. src/mizzen/sessions/channel.py mirrors this file.
 *
 * Page 0 is the header, the next RING_PAGES carry bytes to the guest, the last RING_PAGES bytes
 * to the host. Each counter counts bytes for ever and has one writer.
 */
#ifndef MIZZEN_CHANNEL_H
#define MIZZEN_CHANNEL_H

#include <stddef.h>
#include <stdint.h>

#define PAGE 4096
#define RING_PAGES 64
#define RING_SIZE (RING_PAGES * PAGE)
#define CHANNEL_PAGES (1 + 2 * RING_PAGES)
#define CHANNEL_VERSION 1

#define FRAME_MAX 32768 /* payload of one frame */

struct channel {
    char token[32];
    uint32_t version;
    uint32_t ring_pages;
    _Alignas(64) volatile uint64_t host_beat;  /* changes while the host is there */
    _Alignas(64) volatile uint64_t guest_beat; /* changes while stage 2 is there */
    volatile uint64_t input_taken;             /* bytes of input the command has read */
    volatile uint64_t ended;                   /* stage 2 has nothing more to do */
    _Alignas(64) volatile uint64_t to_guest_written;
    _Alignas(64) volatile uint64_t to_guest_read;
    _Alignas(64) volatile uint64_t to_host_written;
    _Alignas(64) volatile uint64_t to_host_read;
};

_Static_assert(offsetof(struct channel, host_beat) == 64, "channel");
_Static_assert(offsetof(struct channel, guest_beat) == 128, "channel");
_Static_assert(offsetof(struct channel, to_guest_written) == 192, "channel");
_Static_assert(offsetof(struct channel, to_host_read) == 384, "channel");

struct frame {
    uint32_t type;
    uint32_t size; /* of the payload that follows */
};

enum frame_type {
    /* to the guest */
    FRAME_TOOLS = 1, /* a part of a cpio archive */
    FRAME_START,     /* struct start */
    FRAME_INPUT,
    FRAME_INPUT_END,
    FRAME_RESIZE, /* struct size */
    FRAME_SIGNAL, /* uint32_t number */
    FRAME_CLOSE,
    /* to the host */
    FRAME_OUTPUT = 16,
    FRAME_ERRORS,
    FRAME_EXIT,   /* uint32_t status, as a shell shows it */
    FRAME_FAILED, /* text: what stage 2 could not do */
};

struct size {
    uint16_t rows, columns;
};

/* Followed by arguments and environment, each string ending in NUL. */
struct start {
    uint32_t terminal;
    struct size size;
    uint32_t arguments, environment;
};

/* What stage 1 hands to the host: the physical frame numbers of the channel's pages. */
struct hello {
    uint32_t error; /* errno, 0 if the channel stands */
    uint32_t pages;
    char failed[32]; /* what failed */
    uint64_t frames[CHANNEL_PAGES];
};

_Static_assert(sizeof(struct hello) <= 3072, "stage 1 takes no larger hello");
#endif
