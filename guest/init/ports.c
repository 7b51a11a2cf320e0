#include "ports.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PORTS "/sys/class/virtio-ports"
#define DEVICES "/sys/bus/virtio/devices"
#define VIRTIO_ID_CONSOLE 3
#define WAIT_MS 3000
#define STEP_MS 5

static bool attribute_read(const char *folder, const char *entry, const char *attribute,
                           char *value, size_t size) {
    char path[512];
    ssize_t got;
    int fd;

    snprintf(path, sizeof(path), "%s/%s/%s", folder, entry, attribute);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    got = read(fd, value, size - 1);
    close(fd);
    if (got < 0)
        return false;
    value[got] = '\0';
    value[strcspn(value, "\n")] = '\0';
    return true;
}

/* Whether a virtio console is there with a driver bound to it. */
static bool console_exists(void) {
    DIR *folder = opendir(DEVICES);
    bool found = false;
    struct dirent *entry;

    if (folder == NULL)
        return false;
    while (!found && (entry = readdir(folder)) != NULL) {
        char value[32], path[512];

        snprintf(path, sizeof(path), DEVICES "/%s/driver", entry->d_name);
        found = attribute_read(DEVICES, entry->d_name, "device", value, sizeof(value)) &&
                strtol(value, NULL, 16) == VIRTIO_ID_CONSOLE && access(path, F_OK) == 0;
    }
    closedir(folder);
    return found;
}

/* Find the device node of a port; false if there is none. */
static bool port_find(const char *name, char *node, size_t size) {
    DIR *folder = opendir(PORTS);
    bool found = false;
    struct dirent *entry;

    if (folder == NULL)
        return false;
    while (!found && (entry = readdir(folder)) != NULL) {
        char value[128];

        found = attribute_read(PORTS, entry->d_name, "name", value, sizeof(value)) &&
                strcmp(value, name) == 0;
        if (found)
            snprintf(node, size, "/dev/%s", entry->d_name);
    }
    closedir(folder);
    return found;
}

/* Ports come up one after another, by messages that the driver handles in the background. */
void ports_wait(const char *name) {
    char node[300];

    if (!console_exists())
        return;
    for (int waited = 0; waited < WAIT_MS; waited += STEP_MS) {
        if (port_find(name, node, sizeof(node)) && access(node, F_OK) == 0)
            return;
        nanosleep(&(struct timespec){.tv_nsec = STEP_MS * 1000000L}, NULL);
    }
}

int port_open(const char *name, int flags) {
    char node[300];

    if (!port_find(name, node, sizeof(node))) {
        errno = ENODEV;
        return -1;
    }
    return open(node, flags | O_CLOEXEC | O_NOCTTY);
}
