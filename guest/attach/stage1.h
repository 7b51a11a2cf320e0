/*
 * What the host and stage 1 agree upon. src/mizzen/sessions/inject/blob.py mirrors it.
 *
 * The host puts two neighbouring pages into memory that the guest's kernel has reserved for good
 * and does not use: the code page, which is mapped executable and read-only next to the kernel's
 * image, and the data page, which stage 1 reaches through the kernel's direct map. Stage 1 wipes
 * both.
 */
#ifndef MIZZEN_STAGE1_H
#define MIZZEN_STAGE1_H

#define STAGE1_MAGIC 0x3147545320324d00 /* "\0M2 STG1" */
#define PAGE 4096
#define PLACE_SIZE (2 * PAGE)

#define HOOKS_MAX 10 /* NR_SOFTIRQS, include/linux/interrupt.h */
#define PARKED_MAX 4

/* offsets in struct header, for the assembler */
#define HEADER_DATA 48
#define HEADER_HOOK_COUNT 56
#define HEADER_HOOKS 64
#define HEADER_SIZE 320
#define STUB_SIZE 16

/* offsets in struct data */
#define DATA_ARMED 0
#define DATA_BEGUN 8
#define DATA_WORK 128

/* values of `begun` */
#define BEGUN_TRYING 1
#define BEGUN_DECLINED 2
#define BEGUN_YES 3

#ifndef __ASSEMBLER__

typedef unsigned long u64;
typedef unsigned int u32;

/* How far stage 1 got; with an errno in `error`, which step failed. */
enum state {
    STATE_NONE,
    STATE_BUFFER, /* memory for stage 2: the host fills it */
    STATE_MOUNT,  /* a ramfs of the kernel's own */
    STATE_EXEC,   /* stage 2 written and started */
    STATE_HELLO,  /* waiting for stage 2's frames */
    STATE_READY,  /* its hello can be read */
    STATE_FAILED, /* see step and error */
    STATE_PARKED, /* the host claimed the buffer and was not seen again: not wiped */
};

struct hook {
    u64 slot;     /* address of a softirq's action */
    u64 original; /* what it held */
};

struct header {
    u64 magic;
    u64 size;    /* of the code page's content */
    u64 stubs;   /* offset of the hooks' entries, STUB_SIZE bytes each */
    u64 names;   /* offset of the imports' names, each ending in NUL */
    u64 imports; /* offset of the imports: one `jmp rel32` in 8 bytes each */
    u32 import_count, payload_size;
    u64 data; /* address of the data page; the code page lies before it in the direct map */
    u64 hook_count;
    struct hook hooks[HOOKS_MAX];
    u64 parked_count;
    u64 parked[PARKED_MAX]; /* places of attaches that failed, to be wiped as well */
    char token[40];         /* argument of stage 2, 32 hex digits */
    u64 reserved[2];
};

#define HELLO_MAX 3072

struct data {
    /* Written by the host: 1 once every hook is in place, 0 before it takes them back. */
    u64 armed;
    u64 begun;
    u64 buffer; /* where stage 2 is to be put */
    /*
     * Of the buffer: `claimed` before the host looks at `withdrawn` and writes, `filled`
     * afterwards. Stage 1 says `withdrawn` before it looks at `claimed` and frees. So never is it
     * freed under the host's hands, and one that a dead host has claimed is left to the next
     * attach.
     */
    u64 claimed, filled, withdrawn;
    u64 acknowledged; /* written by the host: it has read the hello */
    u64 state, step;
    long error;
    u64 mount, root; /* struct path */
    u64 hello_file;
    u64 hello_size;
    u64 spare[2];
    u64 work[32]; /* struct execute_work, with room for debugging options */
    unsigned char hello[HELLO_MAX];
};

_Static_assert(__builtin_offsetof(struct header, data) == HEADER_DATA, "header");
_Static_assert(__builtin_offsetof(struct header, hook_count) == HEADER_HOOK_COUNT, "header");
_Static_assert(__builtin_offsetof(struct header, hooks) == HEADER_HOOKS, "header");
_Static_assert(sizeof(struct header) == HEADER_SIZE, "header");
_Static_assert(__builtin_offsetof(struct data, begun) == DATA_BEGUN, "data");
_Static_assert(__builtin_offsetof(struct data, work) == DATA_WORK, "data");
_Static_assert(sizeof(struct data) <= PAGE, "data");
#endif
#endif
