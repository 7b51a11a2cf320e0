/* What the parts of stage 2 offer each other. */
#ifndef MIZZEN_STAGE2_H
#define MIZZEN_STAGE2_H

#include "channel.h"

#include <poll.h>
#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

/* link.c: the channel, seen from inside */
extern struct channel *link_channel;
bool link_open(const char *token);
bool link_host_is_gone(void);
int link_patience(bool worked);
void link_end(void);

/* ring.c: frames in the channel's rings */
bool ring_next(struct frame *frame, struct iovec payload[2]);
void ring_done(const struct frame *frame);
void ring_take(const struct frame *frame, const struct iovec payload[2], void *data, size_t size);
size_t ring_room(void);
void ring_reserve(struct iovec payload[2], size_t size);
void ring_commit(uint32_t type, uint32_t stream, size_t size);
void ring_send(uint32_t type, uint32_t stream, const void *payload, size_t size);
void ring_fail(uint32_t stream, const char *what);

/* join.c: the namespaces of one of the guest's processes */
bool join_process(uint32_t pid, char *root, size_t size, const char **failed);

/* mounts.c: a root of our own with the guest's beside it */
struct mount_option {
    const char *key, *value;
};
int mount_new(const char *type, const struct mount_option *options);
bool mount_at(int mount, const char *path);
bool mount_again(const char *from, const char *to);
bool mounts_enter(const char *root, uint32_t share, struct ready *ready, const char **failed);
uint64_t mounts_room(void);

/* streams.c: what goes on in the session */
struct stream {
    uint32_t number;           /* 0: free */
    pid_t pid;                 /* 0: none */
    bool worker;               /* it is a copy of ourselves */
    bool terminal;             /* input and output are one */
    uint16_t port;             /* of a connection, else 0 */
    bool six, connecting;      /* over IPv6; not yet there */
    bool served;               /* messages of FUSE, of which each is a frame */
    bool failed;               /* and the host has been told */
    bool exited;               /* the process has */
    uint32_t status;           /* as a shell shows it */
    int input, output, errors; /* -1: none or closed */
    bool input_ended;          /* the host has no more */
    uint32_t credit;           /* bytes the host takes */
    uint32_t owed;             /* bytes passed on that the host has no credit for yet */
    size_t after_exit;         /* bytes of output that came since */
    unsigned char *held;       /* WINDOW bytes: input that the descriptor does not take yet */
    size_t held_start, held_size;
};
bool streams_take_frames(bool *closing);
bool streams_wait(int microseconds);
void streams_reap(void);
void streams_close(void);

/* flow.c: the bytes of one stream */
void flow_take(struct stream *stream, const struct iovec payload[2]);
void flow_end_input(struct stream *stream);
void flow_resume(struct stream *stream);
size_t flow_room(const struct stream *stream);
void flow_forward(struct stream *stream, int *file, uint32_t type);
void flow_end_output(struct stream *stream, int *file, uint32_t type);
void flow_shut(int *file);

/* command.c, connect.c, worker.c: what streams are opened for; false with errno */
bool command_start(struct stream *stream, char *data, size_t size, const char **failed);
void command_resize(const struct stream *stream, const struct size *size);
bool connect_start(struct stream *stream, const char *data, size_t size, const char **failed);
bool connect_proceed(struct stream *stream);
bool worker_start(struct stream *stream, int (*work)(const char *text), const char *text);
bool pipes_open(struct stream *stream, int other[3]);
void pipes_close(int other[3]);
void child_begin(const int files[3]);

/* serve.c: a root that the host serves */
bool serve_start(struct stream *stream, const char **failed);
void serve_stand(struct stream *stream);
bool serve_enter(void);

/* pack.c, unpack.c: trees of files as cpio archives; both return a worker's status */
int pack_tree(const char *path);
int unpack_tools(const char *none);
int unpack_put(const char *path);

/* processes.c */
void processes_end_session(pid_t session);
void processes_end_all(bool grace);

#endif
