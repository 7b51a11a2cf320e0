/* A web server that is the only program of its machine. */

#include "cpu.h"
#include "net.h"
#include "options.h"
#include "virtio.h"

#ifndef RELEASE
#define RELEASE "1"
#endif

/* What the hypervisor tells, by the x86/HVM direct boot ABI. */
struct start_info {
    uint32_t magic, version, flags, modules;
    uint64_t module_list, command_line;
};

#define START_MAGIC 0x336ec578

static struct server server;
static struct options options;

_Noreturn void main(const struct start_info *info);

/* Numbers that nobody outside can foresee: the lower bits of the cycles, spread over all. */
static uint32_t unforeseen(void) {
    static uint64_t pool;

    pool = (pool ^ cpu_cycles()) * 0x9e3779b97f4a7c15;
    return (uint32_t)(pool >> 32);
}

static void receive(const uint8_t *frame, size_t length) {
    net_receive(&server, frame, length);
}

static void announce(void) {
    char buffer[160];
    struct text line = {buffer, sizeof buffer - 1, 0};

    text_add(&line, options.name);
    text_add(&line, " " RELEASE " answers at ");
    text_address(&line, options.address);
    text_add(&line, ":");
    text_number(&line, options.port);
    buffer[line.length] = '\0';
    say(buffer, "");
}

/* Serves for ever; time passes only while there are connections. */
static _Noreturn void serve(void) {
    bool ticking = false;

    for (;;) {
        virtio_poll(receive);
        if (ticking && cpu_tick_over()) {
            tcp_tick(&server);
            ticking = false;
        }
        if (!ticking && tcp_busy(&server)) {
            cpu_tick();
            ticking = true;
        }
        cpu_halt();
    }
}

_Noreturn void main(const struct start_info *info) {
    const char *wrong;

    cpu_start();
    if (info->magic != START_MAGIC)
        fatal("it was not booted by PVH");
    wrong = options_read(&options, info->command_line ? (const char *)info->command_line : "");
    if (wrong != NULL)
        fatal(wrong);
    if (options.fail)
        __builtin_trap();
    if (options.ends)
        leave(options.status);
    virtio_start(options.devices, options.device_count, server.host.mac);
    server.host.address = options.address;
    server.host.send = virtio_send;
    server.port = options.port;
    server.site = (struct site){options.name, RELEASE, options.sick};
    server.random = unforeseen;
    announce();
    serve();
}
