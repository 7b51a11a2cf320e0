/* File systems: the kernel's own, and the root. */
#ifndef MIZZEN_MOUNTS_H
#define MIZZEN_MOUNTS_H

#include "config.h"

/* Mount /dev, /proc and /sys in the initramfs. */
void mounts_begin(void);

/* Mount the device's erofs with a writable layer in memory over it, and make that the root. */
void root_switch(const char *device);

/* Mount what belongs below /dev and /sys, and /run and /tmp, in the final root. */
void mounts_finish(const char *hostname, const struct list *addresses);

#endif
