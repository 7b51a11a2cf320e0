/* The machine's name, addresses and routes. */
#ifndef MIZZEN_NETWORK_H
#define MIZZEN_NETWORK_H

#include "config.h"

/* Bring up lo, and the first network device with the addresses and default routes. What fails is
 * told; the function starts all the same. */
void network_start(const struct config *config);

#endif
