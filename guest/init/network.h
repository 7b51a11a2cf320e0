/* The machine's name, address and clock. */
#ifndef MIZZEN_NETWORK_H
#define MIZZEN_NETWORK_H

#include "config.h"

/* Bring up lo, and the first other interface with the address and default route. What fails is
 * told; the function starts all the same. */
void network_start(const struct config *config);

#endif
