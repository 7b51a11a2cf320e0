#include "config.h"

#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* More than the kernel takes as arguments and environment of a process (a quarter of the default
 * stack limit of 8 MiB), and bounded so that a broken file cannot eat the machine's memory. */
#define FILE_LIMIT (4 << 20)

void list_add(struct list *list, char *item) {
    char **items = realloc(list->items, (list->count + 2) * sizeof(*items));

    if (items == NULL)
        fatal("cannot read the configuration: %s", strerror(errno));
    items[list->count] = item;
    items[list->count + 1] = NULL;
    list->items = items;
    list->count++;
}

const char *environment_find(const struct list *environment, const char *name) {
    size_t length = strlen(name);

    for (size_t i = 0; i < environment->count; i++)
        if (strncmp(environment->items[i], name, length) == 0 &&
            environment->items[i][length] == '=')
            return environment->items[i] + length + 1;
    return NULL;
}

/* Read until the end; -1 with errno set. */
static ssize_t all_read(int fd, char *data, size_t capacity) {
    size_t used = 0;

    while (used < capacity) {
        ssize_t got = read(fd, data + used, capacity - used);

        if (got == 0)
            return (ssize_t)used;
        if (got < 0 && errno != EINTR)
            return -1;
        if (got > 0)
            used += (size_t)got;
    }
    errno = EFBIG;
    return -1;
}

char *file_read(const char *path, size_t *size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    ssize_t got = -1;
    char *data = NULL;

    if (fd < 0)
        return NULL;
    if (fstat(fd, &status) == 0 && status.st_size < FILE_LIMIT)
        data = malloc((size_t)status.st_size + 1);
    else
        errno = EFBIG;
    if (data != NULL)
        got = all_read(fd, data, (size_t)status.st_size + 1);
    close(fd);
    if (got < 0) {
        free(data);
        return NULL;
    }
    data[got] = '\0';
    *size = (size_t)got;
    return data;
}

static void record_take(struct config *config, char *record) {
    char *value = strchr(record, '=');

    if (value == NULL) {
        say("warning: configuration: no = in %.64s", record);
        return;
    }
    *value++ = '\0';
    if (strcmp(record, "module") == 0)
        list_add(&config->modules, value);
    else if (strcmp(record, "argument") == 0)
        list_add(&config->arguments, value);
    else if (strcmp(record, "environment") == 0)
        list_add(&config->environment, value);
    else if (strcmp(record, "root") == 0)
        config->root = value;
    else if (strcmp(record, "user") == 0)
        config->user = value;
    else if (strcmp(record, "directory") == 0)
        config->directory = value;
    else if (strcmp(record, "hostname") == 0)
        config->hostname = value;
    else if (strcmp(record, "address") == 0)
        list_add(&config->addresses, value);
    else if (strcmp(record, "gateway") == 0)
        list_add(&config->gateways, value);
    else if (strcmp(record, "time") == 0)
        config->time = strtoll(value, NULL, 10);
    else
        say("warning: configuration: unknown key %.64s", record);
}

/* Values point into the file's content, which is therefore never freed. */
static int records_read(struct config *config, const char *path) {
    size_t size = 0;
    char *data = file_read(path, &size);

    if (data == NULL)
        return -1;
    for (char *record = data; record < data + size;) {
        char *next = record + strlen(record) + 1; /* taking a record cuts it at its = */

        if (*record != '\0')
            record_take(config, record);
        record = next;
    }
    unlink(path);
    return 0;
}

void config_read(struct config *config) {
    *config = (struct config){.user = "", .directory = "/", .hostname = "mizzen"};
    if (records_read(config, MODULES_FILE) < 0 && errno != ENOENT)
        say("warning: cannot read %s: %s", MODULES_FILE, strerror(errno));
    if (records_read(config, MACHINE_FILE) < 0)
        fatal("cannot read %s: %s", MACHINE_FILE, strerror(errno));
}
