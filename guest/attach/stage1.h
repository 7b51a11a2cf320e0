/*
 * What the host and stage 1 agree upon. src/mizzen/sessions/inject/blob.py mirrors it.
 *
 * Stage 1 is one position-independent blob. The host fills in its header, appends stage 2, and
 * writes the whole into int3 padding of the guest kernel's text: memory that is executable, that
 * no function owns, and that has never run. Everything in it is read-only to the guest.
 */
#ifndef MIZZEN_STAGE1_H
#define MIZZEN_STAGE1_H

#define STAGE1_MAGIC 0x315a4d /* "MZ1" */

#define HEADER_OFFSET 64 /* the entry's code comes first */
#define HOOKS_MAX 8

/* offsets in struct header, for the assembler */
#define HEADER_HOOKS 64
#define HEADER_ARMED 280
#define HEADER_SIZE 288
#define HEADER_REGION 56

/* struct work_struct, include/linux/workqueue.h: data, list_head, func */
#define WORK_FUNC 24

#define PAGE 4096
#define REGION_PAGES 3
#define REGION_FILL PAGE /* a page of int3, the source of wiping */
#define REGION_REPORT (2 * PAGE)

/* struct report: offsets that finish.S uses */
#define REPORT_BLOB 0
#define REPORT_BLOB_SIZE 8
#define REPORT_TEXT_MUTEX 16
#define REPORT_MUTEX_LOCK 24
#define REPORT_MUTEX_UNLOCK 32
#define REPORT_TEXT_POKE 40
#define REPORT_VFREE 48

#ifndef __ASSEMBLER__

typedef unsigned long u64;
typedef unsigned int u32;

/* How far stage 1 got; with an errno in `error`, which step failed. */
enum state {
    STATE_NONE,
    STATE_MOUNT,  /* a tmpfs of the kernel's own */
    STATE_WRITE,  /* stage 2 into it */
    STATE_EXEC,   /* stage 2 started */
    STATE_HELLO,  /* waiting for stage 2's frames */
    STATE_READY,  /* its hello can be read */
    STATE_FAILED, /* see step and error */
};

struct hook {
    u64 slot;     /* address of a work item's func */
    u64 original; /* what it held */
};

struct header {
    u64 magic;
    u64 size;    /* of the whole blob: code, header, names, stage 2 */
    u64 payload; /* offset of stage 2 */
    u64 payload_size;
    u64 names;   /* offset of the imports' names, each ending in NUL */
    u64 imports; /* offset of the imports: one `jmp rel32` in 8 bytes each */
    u64 import_count;
    u64 region; /* written by the guest: where its report is */
    struct hook hooks[HOOKS_MAX];
    u64 hook_count;
    u64 text_mutex;
    /* for the finish, which runs out of reach of a direct call */
    u64 mutex_lock, mutex_unlock, text_poke, vfree;
    char token[40]; /* argument of stage 2, 32 hex digits */
    /* Written by the host: 1 once every hook is in place, 0 before it takes them back. */
    u64 armed;
};

#define HELLO_MAX 3072

struct report {
    u64 blob, blob_size;
    u64 text_mutex, mutex_lock, mutex_unlock, text_poke, vfree;
    u64 state;
    u64 step;
    long error;
    u64 acknowledged; /* written by the host */
    u64 mount, root;  /* struct path */
    u64 hello_size;
    unsigned char hello[HELLO_MAX];
};

_Static_assert(__builtin_offsetof(struct header, region) == HEADER_REGION, "header");
_Static_assert(__builtin_offsetof(struct header, hooks) == HEADER_HOOKS, "header");
_Static_assert(__builtin_offsetof(struct report, vfree) == REPORT_VFREE, "report");
_Static_assert(__builtin_offsetof(struct header, armed) == HEADER_ARMED, "header");
_Static_assert(sizeof(struct header) == HEADER_SIZE, "header");
_Static_assert(sizeof(struct report) <= PAGE, "report");
#endif
#endif
