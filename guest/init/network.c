#include "network.h"

#include "report.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <net/if.h>
#include <net/route.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static bool interface_find(char name[IFNAMSIZ]) {
    DIR *folder = opendir("/sys/class/net");
    bool found = false;
    struct dirent *entry;

    if (folder == NULL)
        return false;
    while (!found && (entry = readdir(folder)) != NULL) {
        found = entry->d_name[0] != '.' && strcmp(entry->d_name, "lo") != 0;
        if (found)
            snprintf(name, IFNAMSIZ, "%.15s", entry->d_name);
    }
    closedir(folder);
    return found;
}

static void address_put(struct sockaddr *where, struct in_addr address) {
    struct sockaddr_in value = {.sin_family = AF_INET, .sin_addr = address};

    memcpy(where, &value, sizeof(value));
}

static int interface_up(int control, const char *name) {
    struct ifreq request = {0};

    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    if (ioctl(control, SIOCGIFFLAGS, &request) < 0)
        return -1;
    request.ifr_flags |= IFF_UP;
    return ioctl(control, SIOCSIFFLAGS, &request);
}

/* address: "10.0.2.15/24". */
static int address_set(int control, const char *name, const char *address) {
    struct ifreq request = {0};
    struct in_addr own, mask;
    char text[INET_ADDRSTRLEN];
    const char *slash = strchr(address, '/');
    int bits = slash ? atoi(slash + 1) : 32;

    snprintf(text, sizeof(text), "%.*s", (int)strcspn(address, "/"), address);
    if (bits < 1 || bits > 32 || inet_pton(AF_INET, text, &own) != 1) {
        errno = EINVAL;
        return -1;
    }
    mask.s_addr = htonl(0xffffffffu << (32 - bits));
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    address_put(&request.ifr_addr, own);
    if (ioctl(control, SIOCSIFADDR, &request) < 0)
        return -1;
    address_put(&request.ifr_netmask, mask);
    return ioctl(control, SIOCSIFNETMASK, &request);
}

static int route_set(int control, const char *gateway) {
    struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
    struct in_addr via;

    if (inet_pton(AF_INET, gateway, &via) != 1) {
        errno = EINVAL;
        return -1;
    }
    address_put(&route.rt_dst, (struct in_addr){0});
    address_put(&route.rt_genmask, (struct in_addr){0});
    address_put(&route.rt_gateway, via);
    return ioctl(control, SIOCADDRT, &route);
}

void network_start(const struct config *config) {
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    char name[IFNAMSIZ] = "";

    if (sethostname(config->hostname, strlen(config->hostname)) < 0)
        say("warning: cannot set the host name: %s", strerror(errno));
    if (control < 0 || interface_up(control, "lo") < 0)
        say("warning: cannot bring up lo: %s", strerror(errno));
    if (control >= 0 && config->address != NULL) {
        if (!interface_find(name))
            say("warning: no network: no interface came up; is virtio_net among the modules?");
        else if (address_set(control, name, config->address) < 0 || interface_up(control, name) < 0)
            say("warning: no network: cannot give %s to %s: %s", config->address, name,
                strerror(errno));
        else if (config->gateway != NULL && route_set(control, config->gateway) < 0)
            say("warning: no route by %s: %s", config->gateway, strerror(errno));
    }
    if (control >= 0)
        close(control);
}
