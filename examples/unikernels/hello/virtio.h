/* A virtio network device with the registers of virtio over MMIO, version 1 ("legacy"). */

#ifndef VIRTIO_H
#define VIRTIO_H

#include "options.h"

#include <stddef.h>
#include <stdint.h>

/* Bytes of an Ethernet frame. */
#define FRAME_MAX 1514

/* Takes the first network device of a list into use; ends the machine if there is none. */
void virtio_start(const struct device *devices, unsigned count, uint8_t mac[6]);

/* Hands every frame that has come to receive. */
void virtio_poll(void (*receive)(const uint8_t *frame, size_t length));

/* Sends a copy of a frame; drops it if the device has not taken those before. */
void virtio_send(const uint8_t *frame, size_t length);

#endif
