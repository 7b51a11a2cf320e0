/* Who the function's process runs as. */
#ifndef MIZZEN_ACCOUNT_H
#define MIZZEN_ACCOUNT_H

#include <stddef.h>
#include <sys/types.h>

#define GROUPS_MAX 64

struct account {
    uid_t uid;
    gid_t gid;
    size_t group_count;
    gid_t groups[GROUPS_MAX]; /* supplementary */
    char home[256];
};

/* Resolve "", "name", "uid", "name:group" or "uid:gid" by the root's /etc/passwd and /etc/group,
 * as Docker does. Ends the machine if a name is in neither. */
void account_find(struct account *account, const char *user);

#endif
