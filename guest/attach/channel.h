/*
 * The channel between stage 2 and the host: two rings in stage 2's memory, which the host reads
 * and writes from outside. src/mizzen/sessions/channel.py mirrors this file.
 *
 * Page 0 is the header, page 1 lists the page frames of all pages; the next RING_PAGES carry bytes
 * to the guest, the last RING_PAGES bytes to the host. Each counter counts bytes for ever and has
 * one writer.
 *
 * The rings carry frames of many streams, which the host numbers from 1 and never anew; stream 0
 * is the session itself. Data flows by credit: either side may have WINDOW bytes of a stream under
 * way, and more as the other says CREDIT for what it has passed on. So whoever reads a ring always
 * has room for what is in it, and a stream that stalls holds up no other.
 */
#ifndef MIZZEN_CHANNEL_H
#define MIZZEN_CHANNEL_H

#include <stddef.h>
#include <stdint.h>

#define PAGE 4096
#define RING_PAGES 128
#define RING_SIZE (RING_PAGES * PAGE)
#define CHANNEL_PAGES (2 + 2 * RING_PAGES)
#define CHANNEL_VERSION 2

#define FRAME_MAX                                                                                  \
    (132 * 1024)            /* payload of one frame: a FUSE message of 128 KiB and its header      \
                             */
#define WINDOW (256 * 1024) /* bytes of a stream, one way, that may be under way at first */
#define STREAMS_MAX 64      /* at a time */

struct channel {
    char token[32];
    uint32_t version;
    uint32_t ring_pages;
    /* written by the host */
    _Alignas(64) volatile uint64_t host_beat; /* changes while the host is there */
    volatile uint64_t to_guest_written;
    volatile uint64_t to_host_read;
    /* written by stage 2 */
    _Alignas(64) volatile uint64_t guest_beat; /* changes while stage 2 is there */
    volatile uint64_t to_guest_read;
    volatile uint64_t to_host_written;
    volatile uint64_t ended; /* stage 2 has nothing more to do */
};

_Static_assert(offsetof(struct channel, host_beat) == 64, "channel");
_Static_assert(offsetof(struct channel, to_host_read) == 80, "channel");
_Static_assert(offsetof(struct channel, guest_beat) == 128, "channel");
_Static_assert(offsetof(struct channel, ended) == 152, "channel");
_Static_assert(CHANNEL_PAGES * 8 <= PAGE, "the list of page frames fits a page");

struct frame {
    uint32_t type;
    uint32_t stream;
    uint32_t size; /* of the payload that follows */
};

enum frame_type {
    /* to the guest, of the session */
    FRAME_SETUP = 1, /* struct setup */
    FRAME_CLOSE,
    /* to the guest: these open a stream */
    FRAME_TOOLS,   /* a cpio archive comes as input, for the session's own root */
    FRAME_RUN,     /* struct start */
    FRAME_PUT,     /* path, NUL, name if path is a folder: an archive comes as input */
    FRAME_GET,     /* path: an archive goes out as output */
    FRAME_CONNECT, /* uint16_t port, in the guest's own network */
    FRAME_SERVE,   /* the host serves the session's root: output and input are FUSE messages */
    /* to the guest, of a stream */
    FRAME_INPUT,
    FRAME_INPUT_END,
    FRAME_RESIZE, /* struct size */
    FRAME_SIGNAL, /* uint32_t number */
    FRAME_CANCEL, /* nobody waits for it any more; nothing answers */
    /* both ways */
    FRAME_CREDIT, /* uint32_t: bytes of the stream that were passed on */
    /* to the host, of a stream, or of the session where it is 0 */
    FRAME_READY = 32, /* struct ready, of the session; empty: connected */
    FRAME_OUTPUT,
    FRAME_OUTPUT_END,
    FRAME_ERRORS,
    FRAME_ERRORS_END,
    FRAME_EXIT,   /* uint32_t status, as a shell shows it; the stream is over */
    FRAME_FAILED, /* text: what stage 2 could not do; the stream is over */
};

struct setup {
    uint32_t guest_pid; /* whose namespaces to join; 0: none */
    uint32_t share;     /* percent of the memory the guest could give that tools may take */
};

enum { CAN_FUSE = 1, CAN_TERMINALS = 2 };

struct ready {
    uint64_t available; /* bytes of memory the guest could give without hardship */
    uint32_t can;
    uint32_t unused;
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

/* What stage 1 hands to the host: the physical frame numbers of the header and of the list. */
struct hello {
    uint32_t error; /* errno, 0 if the channel stands */
    uint32_t pages;
    char failed[32]; /* what failed */
    uint64_t header, list;
};

_Static_assert(sizeof(struct hello) <= 3072, "stage 1 takes no larger hello");
#endif
