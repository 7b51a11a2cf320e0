/* Virtio ports, found by the name that the host gave them. */
#ifndef MIZZEN_PORTS_H
#define MIZZEN_PORTS_H

/* Wait until the ports that the host offers have come up, a few seconds at most. Returns at once
 * where there is no console device. name: the port that comes up last. */
void ports_wait(const char *name);

/* Open a port; -1 if there is none of that name. flags: as of open(2). */
int port_open(const char *name, int flags);

#endif
