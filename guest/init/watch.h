/* What init does while the function runs: pass on its output, reap, obey the host. */
#ifndef MIZZEN_WATCH_H
#define MIZZEN_WATCH_H

#include "function.h"

#define CONTROL_PORT "org.mizzen.control"

/* Before the function is started: signals are taken as events from now on. */
void watch_begin(void);

/* Return when the function has ended, with its wait status, and all its output is passed on.
 *
 * The host sends lines on the control port and gets "ok" or "error WHY" for each:
 *   signal TERM     send a signal to the function's process
 *   stop 10         SIGTERM, and SIGKILL to everything if it has not ended after 10 seconds */
int watch(struct function *function);

#endif
