#include "network.h"

#include "report.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* struct in6_ifreq of include/uapi/linux/ipv6.h, which clashes with the C library's headers. */
struct address_request {
    struct in6_addr address;
    uint32_t bits;
    int interface;
};
_Static_assert(sizeof(struct address_request) == 24, "the kernel's layout");

struct interface {
    char name[IFNAMSIZ];
    int index;
    int control;  /* an IPv4 socket */
    int control6; /* an IPv6 socket, -1 where the kernel has no IPv6 */
};

/* Those without a device are the kernel's own, such as lo and sit0. */
static bool interface_find(char name[IFNAMSIZ]) {
    DIR *folder = opendir("/sys/class/net");
    bool found = false;
    struct dirent *entry;

    if (folder == NULL)
        return false;
    while (!found && (entry = readdir(folder)) != NULL) {
        char device[64];

        snprintf(device, sizeof(device), "/sys/class/net/%.15s/device", entry->d_name);
        found = entry->d_name[0] != '.' && access(device, F_OK) == 0;
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

static int address4_set(const struct interface *interface, struct in_addr own, int bits) {
    struct ifreq request = {0};
    struct in_addr mask = {htonl(0xffffffffu << (32 - bits))};

    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", interface->name);
    address_put(&request.ifr_addr, own);
    if (ioctl(interface->control, SIOCSIFADDR, &request) < 0)
        return -1;
    address_put(&request.ifr_netmask, mask);
    if (ioctl(interface->control, SIOCSIFNETMASK, &request) < 0)
        return -1;
    if (bits < 31)
        return 0;
    /* The broadcast address of the address's class is left, which may be another machine's. */
    address_put(&request.ifr_broadaddr, (struct in_addr){0});
    return ioctl(interface->control, SIOCSIFBRDADDR, &request);
}

/* address: "10.0.2.15/24" or "fd70::5/128". */
static int address_set(const struct interface *interface, const char *address) {
    struct address_request request = {.interface = interface->index};
    struct in_addr own;
    char text[INET6_ADDRSTRLEN];
    const char *slash = strchr(address, '/');
    int bits = slash ? atoi(slash + 1) : 0;

    snprintf(text, sizeof(text), "%.*s", (int)strcspn(address, "/"), address);
    if (bits >= 1 && bits <= 32 && inet_pton(AF_INET, text, &own) == 1)
        return address4_set(interface, own, bits);
    if (bits < 1 || bits > 128 || inet_pton(AF_INET6, text, &request.address) != 1) {
        errno = EINVAL;
        return -1;
    }
    request.bits = (uint32_t)bits;
    return ioctl(interface->control6, SIOCSIFADDR, &request);
}

static int route4_add(const struct interface *interface, struct in_addr to, struct in_addr mask,
                      const struct in_addr *via) {
    char name[IFNAMSIZ];
    struct rtentry route = {.rt_flags = RTF_UP, .rt_dev = name};

    memcpy(name, interface->name, sizeof(name));
    address_put(&route.rt_dst, to);
    address_put(&route.rt_genmask, mask);
    if (via != NULL) {
        route.rt_flags |= RTF_GATEWAY;
        address_put(&route.rt_gateway, *via);
    }
    return ioctl(interface->control, SIOCADDRT, &route);
}

static int route6_add(const struct interface *interface, const struct in6_addr *to, bool default_) {
    struct in6_rtmsg route = {.rtmsg_flags = RTF_UP, .rtmsg_ifindex = interface->index};

    if (default_) {
        route.rtmsg_flags |= RTF_GATEWAY;
        route.rtmsg_gateway = *to;
    } else {
        route.rtmsg_flags |= RTF_HOST;
        route.rtmsg_dst = *to;
        route.rtmsg_dst_len = 128;
    }
    route.rtmsg_metric = 1024; /* IP6_RT_PRIO_USER of include/net/ip6_route.h */
    return ioctl(interface->control6, SIOCADDRT, &route);
}

/* The gateway is on the link even where it is in no prefix of the machine's own addresses. */
static int gateway_set(const struct interface *interface, const char *gateway) {
    struct in6_addr via6;
    struct in_addr via, all = {0xffffffffu}, none = {0};

    if (inet_pton(AF_INET, gateway, &via) == 1) {
        if (route4_add(interface, via, all, NULL) < 0)
            return -1;
        return route4_add(interface, none, none, &via);
    }
    if (inet_pton(AF_INET6, gateway, &via6) != 1) {
        errno = EINVAL;
        return -1;
    }
    if (route6_add(interface, &via6, false) < 0)
        return -1;
    return route6_add(interface, &via6, true);
}

static void setting_write(const char *interface, const char *setting) {
    char path[96];
    int fd;

    snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/%s", interface, setting);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "0", 1) < 0)
        say("warning: cannot set %s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
}

/* Nobody else is on the link, so there is no router to ask for, and no duplicate to look for, which
 * would keep the address unusable for a second. */
static void settings_write(const char *interface) {
    setting_write(interface, "accept_ra");
    setting_write(interface, "accept_dad");
}

static void interface_start(const struct interface *interface, const struct config *config) {
    bool have6 = interface->control6 >= 0;

    if (have6)
        settings_write(interface->name);
    if (interface_up(interface->control, interface->name) < 0) {
        say("warning: no network: cannot bring up %s: %s", interface->name, strerror(errno));
        return;
    }
    for (size_t i = 0; i < config->addresses.count; i++) {
        const char *address = config->addresses.items[i];

        if (!have6 && strchr(address, ':') != NULL)
            say("warning: no address %s: this kernel has no IPv6", address);
        else if (address_set(interface, address) < 0)
            say("warning: no network: cannot give %s to %s: %s", address, interface->name,
                strerror(errno));
    }
    for (size_t i = 0; i < config->gateways.count; i++) {
        const char *gateway = config->gateways.items[i];

        if ((have6 || strchr(gateway, ':') == NULL) && gateway_set(interface, gateway) < 0)
            say("warning: no route by %s: %s", gateway, strerror(errno));
    }
}

void network_start(const struct config *config) {
    struct interface interface = {
        .control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0),
        .control6 = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0),
    };

    if (sethostname(config->hostname, strlen(config->hostname)) < 0)
        say("warning: cannot set the host name: %s", strerror(errno));
    if (interface.control < 0 || interface_up(interface.control, "lo") < 0)
        say("warning: cannot bring up lo: %s", strerror(errno));
    if (interface.control >= 0 && config->addresses.count > 0) {
        if (interface_find(interface.name)) {
            interface.index = (int)if_nametoindex(interface.name);
            interface_start(&interface, config);
        } else
            say("warning: no network: no interface came up; is virtio_net among the modules?");
    }
    if (interface.control >= 0)
        close(interface.control);
    if (interface.control6 >= 0)
        close(interface.control6);
}
