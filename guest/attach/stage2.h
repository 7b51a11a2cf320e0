/* What the parts of stage 2 offer each other. */
#ifndef MIZZEN_STAGE2_H
#define MIZZEN_STAGE2_H

#include "channel.h"

#include <stdbool.h>
#include <sys/types.h>

/* link.c: the channel, seen from inside */
bool link_open(const char *token);
bool link_host_is_gone(void);
bool link_next(struct frame *frame, void *payload);
void link_wait(struct frame *frame, void *payload);
size_t link_room(void);
void link_send(uint32_t type, const void *payload, size_t size);
void link_took_input(size_t size);
void link_end(void);
int link_patience(bool worked);

/* mounts.c: a root of our own with the guest's beside it */
int mount_new(const char *type, const char *key, const char *value);
bool mounts_enter(const char **failed);

/* unpack.c: the tools, from a cpio archive that comes in frames */
bool unpack_tools(const char **failed);

/* command.c: what the session runs */
struct command {
    pid_t pid;
    int input, output, errors; /* -1: none or closed */
    bool terminal;
    bool exited;
    uint32_t status;
};
bool command_start(struct command *command, const void *start, size_t size);
void command_resize(const struct command *command, const struct size *size);
void command_signal(const struct command *command, int number);
bool command_reap(struct command *command);
void command_kill_all(void);

#endif
