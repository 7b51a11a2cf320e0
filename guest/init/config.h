/* What the host tells init: files of NUL-terminated "key=value" records in the initramfs. */
#ifndef MIZZEN_CONFIG_H
#define MIZZEN_CONFIG_H

#include <stddef.h>

#define MODULES_FILE "/mizzen/modules"
#define MACHINE_FILE "/mizzen/machine"

/* Strings that grow; items[count] is always NULL. */
struct list {
    char **items;
    size_t count;
};

struct config {
    struct list modules;     /* files, in the order in which they are loaded */
    const char *root;        /* block device with an erofs; NULL: stay in the initramfs */
    struct list arguments;   /* of the function's process; empty: nothing to start */
    struct list environment; /* "NAME=value" */
    const char *user;        /* as in an OCI image; "" is root */
    const char *directory;
    const char *hostname;
    struct list addresses; /* "10.0.2.15/24", "fd70::5/128"; none: no network */
    struct list gateways;  /* of the default routes, one of a family at most */
    long long time;        /* seconds since the epoch; the clock is set if it is behind */
};

void list_add(struct list *list, char *item);

/* Read both files and delete them. Ends the machine if the second cannot be read. */
void config_read(struct config *config);

/* Value of NAME in the environment's entries, NULL if it is not there. */
const char *environment_find(const struct list *environment, const char *name);

/* A file's content with a NUL behind it, NULL with errno set; *size without the NUL. */
char *file_read(const char *path, size_t *size);

#endif
