/* The function's process: what the machine is there for. */
#ifndef MIZZEN_FUNCTION_H
#define MIZZEN_FUNCTION_H

#include "config.h"
#include "report.h"

#include <sys/types.h>

struct function {
    pid_t pid;
    struct stream out, err;
};

/* Start it in a session of its own with its output in pipes, which are read without blocking.
 * Ends the machine with a line that says why if it cannot be started. */
void function_start(struct function *function, const struct config *config);

#endif
