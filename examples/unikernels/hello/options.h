/* The command line. */

#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#define NAME_MAX 64

/* A device that QEMU tells of: virtio_mmio.device=SIZE@ADDRESS:INTERRUPT. */
struct device {
    uintptr_t address;
    uint32_t interrupt;
};

#define DEVICES_MAX 8

struct options {
    uint32_t address;
    uint16_t port;
    char name[NAME_MAX + 1];
    bool sick; /* --sick: /healthz answers 503 */
    bool fail; /* --fail: an instruction that no CPU knows is run */
    bool ends; /* --exit=STATUS: end at once */
    uint8_t status;
    struct device devices[DEVICES_MAX];
    unsigned device_count;
};

/* Returns NULL, or what is wrong. */
const char *options_read(struct options *options, const char *line);

#endif
