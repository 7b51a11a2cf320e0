/*
 * Mounts FUSE at PLACE, carries its messages over one TCP connection to PORT, and meanwhile runs a
 * command. A message begins with its length, both ways.
 *
 * Usage: fuse_pump PORT PLACE COMMAND...
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static char message[256 * 1024];

static void check(long result, const char *what) {
    if (result < 0) {
        perror(what);
        exit(1);
    }
}

static void read_whole(int file, char *to, size_t size) {
    while (size) {
        ssize_t got = read(file, to, size);
        if (got <= 0)
            exit(2);
        to += got;
        size -= (size_t)got;
    }
}

static int connected(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    check(bind(listener, (struct sockaddr *)&address, sizeof(address)), "bind");
    check(listen(listener, 1), "listen");
    puts("listening");
    fflush(stdout);
    int peer = accept(listener, NULL, NULL);
    check(peer, "accept");
    return peer;
}

int main(int count, char **arguments) {
    char options[128];
    int fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    check(fuse, "/dev/fuse");
    snprintf(options, sizeof(options),
             "fd=%d,rootmode=40755,user_id=0,group_id=0,"
             "default_permissions,allow_other",
             fuse);
    check(mount("tools", arguments[2], "fuse", MS_RDONLY | MS_NODEV, options), "mount");
    int peer = connected(atoi(arguments[1]));
    pid_t child = fork();
    if (!child) {
        execvp(arguments[3], arguments + 3);
        _exit(127);
    }
    struct pollfd files[] = {{.fd = fuse, .events = POLLIN}, {.fd = peer, .events = POLLIN}};
    while (count && !waitpid(child, NULL, WNOHANG)) {
        poll(files, 2, 100);
        if (files[0].revents & POLLIN) {
            ssize_t size = read(fuse, message, 8192);
            if (size > 0)
                check(write(peer, message, (size_t)size), "write");
        }
        if (files[1].revents) {
            uint32_t size;
            read_whole(peer, message, 4);
            __builtin_memcpy(&size, message, 4);
            read_whole(peer, message + 4, size - 4);
            if (write(fuse, message, size) < 0 && errno != ENOENT)
                perror("reply");
        }
    }
    return 0;
}
