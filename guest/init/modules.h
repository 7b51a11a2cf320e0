/* Kernel modules. */
#ifndef MIZZEN_MODULES_H
#define MIZZEN_MODULES_H

#include "config.h"

/* Load each file in order and delete it. What cannot be loaded is told and left out: whether it
 * was needed shows when its device is. */
void modules_load(const struct list *files);

#endif
