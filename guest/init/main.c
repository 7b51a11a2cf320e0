/* The first process of a machine: prepares it, runs the function, tells the host how it ended. */

#include "config.h"
#include "function.h"
#include "modules.h"
#include "mounts.h"
#include "network.h"
#include "ports.h"
#include "report.h"
#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void clock_start(long long seconds) {
    struct timespec now = {.tv_sec = (time_t)seconds};

    if (time(NULL) < now.tv_sec && clock_settime(CLOCK_REALTIME, &now) < 0)
        say("warning: cannot set the clock: %s", strerror(errno));
}

/* The kernel starts init with its console, or with nothing where the console has no node. */
static void descriptors_close(void) {
    int null = open("/dev/null", O_RDWR);

    for (int fd = 0; fd < 3; fd++)
        if (null >= 0 && null != fd)
            dup2(null, fd);
    if (null > 2)
        close(null);
}

int main(void) {
    static struct function function;
    struct config config;
    int status;

    mounts_begin();
    descriptors_close();
    config_read(&config);
    clock_start(config.time);
    modules_load(&config.modules);
    ports_wait(LOG_PORT);
    report_open(port_open(LOG_PORT, O_WRONLY));
    if (config.root != NULL)
        root_switch(config.root);
    network_start(&config);
    mounts_finish(config.hostname, &config.addresses);
    if (config.arguments.count == 0) {
        say("nothing to start");
        power_off();
    }
    watch_begin();
    function_start(&function, &config);
    status = watch(&function);
    if (WIFSIGNALED(status))
        say_twice("killed signal=%d", WTERMSIG(status));
    else
        say_twice("exited status=%d", WEXITSTATUS(status));
    power_off();
}
