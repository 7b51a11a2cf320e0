#include "account.h"

#include "config.h"
#include "report.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIELDS 7

static bool number_read(const char *text, unsigned *number) {
    char *end;
    unsigned long value;

    errno = 0;
    value = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value >= 0xffffffffu)
        return false;
    *number = (unsigned)value;
    return true;
}

/* Split a line at its colons; missing fields are "". */
static void line_split(char *line, char *fields[FIELDS]) {
    for (size_t i = 0; i < FIELDS; i++) {
        fields[i] = line;
        line += strcspn(line, ":");
        if (*line == ':')
            *line++ = '\0';
    }
}

/* Find in a file of colon-separated lines the one whose name, or number, is the key. The fields
 * point into memory that is not freed: init reads each file once or twice in its life. */
static bool entry_find(const char *path, const char *key, char *fields[FIELDS]) {
    size_t size;
    char *line = file_read(path, &size);
    unsigned wanted, number;
    bool numeric = number_read(key, &wanted);

    while (line != NULL && *line != '\0') {
        char *next = line + strcspn(line, "\n");

        if (*next == '\n')
            *next++ = '\0';
        line_split(line, fields);
        if (strcmp(fields[0], key) == 0 ||
            (numeric && number_read(fields[2], &number) && number == wanted))
            return true;
        line = next;
    }
    return false;
}

static bool member_of(const char *members, const char *name) {
    size_t length = strlen(name);

    while (*members != '\0') {
        size_t size = strcspn(members, ",");

        if (size == length && strncmp(members, name, length) == 0)
            return true;
        members += size + (members[size] == ',');
    }
    return false;
}

static void groups_find(struct account *account, const char *name) {
    size_t size;
    char *fields[FIELDS], *line = file_read("/etc/group", &size);
    unsigned number;

    while (line != NULL && *line != '\0' && account->group_count < GROUPS_MAX) {
        char *next = line + strcspn(line, "\n");

        if (*next == '\n')
            *next++ = '\0';
        line_split(line, fields);
        if (member_of(fields[3], name) && number_read(fields[2], &number))
            account->groups[account->group_count++] = number;
        line = next;
    }
}

void account_find(struct account *account, const char *user) {
    char name[128], *fields[FIELDS];
    const char *group = strchr(user, ':');
    unsigned number;

    *account = (struct account){.home = "/"};
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(user, ":"), user);
    if (name[0] == '\0')
        snprintf(name, sizeof(name), "0");
    if (entry_find("/etc/passwd", name, fields)) {
        if (!number_read(fields[2], &account->uid) || !number_read(fields[3], &account->gid))
            fatal("cannot run as user %s: its line in /etc/passwd is broken", name);
        if (fields[5][0] == '/')
            snprintf(account->home, sizeof(account->home), "%s", fields[5]);
        if (group == NULL)
            groups_find(account, fields[0]);
    } else if (!number_read(name, &account->uid)) {
        fatal("cannot run as user %s: /etc/passwd does not name it", name);
    } else if (account->uid == 0) {
        snprintf(account->home, sizeof(account->home), "/root");
    }
    if (group == NULL || group[1] == '\0')
        return;
    if (entry_find("/etc/group", group + 1, fields) && number_read(fields[2], &number))
        account->gid = number;
    else if (number_read(group + 1, &number))
        account->gid = number;
    else
        fatal("cannot run in group %s: /etc/group does not name it", group + 1);
}
