/* Source: Virtual I/O Device (VIRTIO) 1.2, sections 2.7, 4.2.4 and 5.1. */

#include "virtio.h"

#include "bytes.h"
#include "cpu.h"

#include <stdbool.h>

enum {
    MAGIC = 0x000,
    VERSION = 0x004,
    DEVICE_ID = 0x008,
    HOST_FEATURES = 0x010,
    HOST_FEATURES_SELECT = 0x014,
    GUEST_FEATURES = 0x020,
    GUEST_FEATURES_SELECT = 0x024,
    GUEST_PAGE_SIZE = 0x028,
    QUEUE_SELECT = 0x030,
    QUEUE_SIZE_MAX = 0x034,
    QUEUE_SIZE = 0x038,
    QUEUE_ALIGN = 0x03c,
    QUEUE_PAGE = 0x040,
    QUEUE_NOTIFY = 0x050,
    INTERRUPT_STATUS = 0x060,
    INTERRUPT_DONE = 0x064,
    STATUS = 0x070,
    CONFIG = 0x100,
};

#define MAGIC_VALUE 0x74726976
#define LEGACY 1
#define NETWORK 1
#define STATUS_ACKNOWLEDGE 1
#define STATUS_DRIVER 2
#define STATUS_DRIVER_OK 4
#define FEATURE_MAC (1u << 5)
#define FEATURE_ANY_LAYOUT (1u << 27)

#define RECEIVE 0
#define TRANSMIT 1
#define PAGE 4096
#define BUFFERS 64
#define BUFFER_SIZE 2048
#define HEADER 10 /* bytes of what the device puts before each frame */
#define DEVICE_WRITES 2
#define NO_INTERRUPT 1

struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags;
    uint16_t next;
};

struct used {
    uint32_t descriptor;
    uint32_t length;
};

/* The layout of a legacy queue: what the device writes begins on a page of its own. */
struct queue {
    struct descriptor descriptors[BUFFERS];
    uint16_t available_flags;
    volatile uint16_t available;
    uint16_t available_ring[BUFFERS];
    uint16_t used_event;
    uint8_t padding[PAGE - BUFFERS * (sizeof(struct descriptor) + 2) - 6];
    uint16_t used_flags;
    volatile uint16_t used;
    struct used used_ring[BUFFERS];
    uint8_t end[PAGE - 4 - BUFFERS * sizeof(struct used)];
};

_Static_assert(sizeof(struct queue) == 2 * PAGE, "a queue is two pages");

static _Alignas(PAGE) struct queue queues[2];
static uint8_t buffers[2][BUFFERS][BUFFER_SIZE];
static uint16_t seen[2]; /* how many of the used ring have been looked at */
static uintptr_t base;

static volatile uint32_t *reg(uintptr_t device, unsigned offset) {
    return (volatile uint32_t *)(device + offset);
}

/* Orders what both sides see; x86 keeps stores in order among themselves. */
static void barrier(void) {
    __asm__ volatile("mfence" ::: "memory");
}

static void give(unsigned number, uint16_t descriptor) {
    struct queue *queue = &queues[number];

    queue->available_ring[queue->available % BUFFERS] = descriptor;
    barrier();
    queue->available++;
    barrier();
    *reg(base, QUEUE_NOTIFY) = number;
}

static void queue_start(unsigned number) {
    struct queue *queue = &queues[number];

    *reg(base, QUEUE_SELECT) = number;
    if (*reg(base, QUEUE_SIZE_MAX) < BUFFERS)
        fatal("its network device has too short a queue");
    *reg(base, QUEUE_SIZE) = BUFFERS;
    *reg(base, QUEUE_ALIGN) = PAGE;
    *reg(base, QUEUE_PAGE) = (uint32_t)((uintptr_t)queue / PAGE);
    for (unsigned i = 0; i < BUFFERS; i++)
        queue->descriptors[i] = (struct descriptor){
            .address = (uintptr_t)buffers[number][i],
            .length = BUFFER_SIZE,
            .flags = number == RECEIVE ? DEVICE_WRITES : 0,
        };
}

static bool is_network(uintptr_t device) {
    if (*reg(device, MAGIC) != MAGIC_VALUE || *reg(device, DEVICE_ID) != NETWORK)
        return false;
    if (*reg(device, VERSION) != LEGACY)
        fatal("its network device is not of virtio's legacy interface");
    return true;
}

void virtio_start(const struct device *devices, unsigned count, uint8_t mac[6]) {
    uint32_t features;
    unsigned i = 0;

    while (i < count && !is_network(devices[i].address))
        i++;
    if (i == count)
        fatal("there is no network device");
    base = devices[i].address;
    *reg(base, STATUS) = 0;
    *reg(base, STATUS) = STATUS_ACKNOWLEDGE;
    *reg(base, STATUS) = STATUS_ACKNOWLEDGE | STATUS_DRIVER;
    *reg(base, HOST_FEATURES_SELECT) = 0;
    features = *reg(base, HOST_FEATURES);
    if (!(features & FEATURE_MAC) || !(features & FEATURE_ANY_LAYOUT))
        fatal("its network device lacks a feature");
    *reg(base, GUEST_FEATURES_SELECT) = 0;
    *reg(base, GUEST_FEATURES) = FEATURE_MAC | FEATURE_ANY_LAYOUT;
    *reg(base, GUEST_PAGE_SIZE) = PAGE;
    queue_start(RECEIVE);
    queue_start(TRANSMIT);
    queues[TRANSMIT].available_flags = NO_INTERRUPT;
    for (unsigned byte = 0; byte < 6; byte++)
        mac[byte] = *(volatile uint8_t *)(base + CONFIG + byte);
    cpu_interrupt(devices[i].interrupt);
    *reg(base, STATUS) = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_DRIVER_OK;
    for (uint16_t one = 0; one < BUFFERS; one++)
        give(RECEIVE, one);
}

void virtio_poll(void (*receive)(const uint8_t *frame, size_t length)) {
    struct queue *queue = &queues[RECEIVE];

    /* Before the ring is looked at, so that what comes later raises the interrupt's line again. */
    *reg(base, INTERRUPT_DONE) = *reg(base, INTERRUPT_STATUS);
    barrier();
    while (seen[RECEIVE] != queue->used) {
        struct used done = queue->used_ring[seen[RECEIVE]++ % BUFFERS];

        if (done.descriptor >= BUFFERS || done.length > BUFFER_SIZE)
            fatal("its network device gave a buffer back that it never had");
        if (done.length > HEADER)
            receive(buffers[RECEIVE][done.descriptor] + HEADER, done.length - HEADER);
        give(RECEIVE, (uint16_t)done.descriptor);
    }
}

void virtio_send(const uint8_t *frame, size_t length) {
    static uint16_t sent;
    struct queue *queue = &queues[TRANSMIT];
    uint16_t one = sent % BUFFERS;

    /* The device takes frames in their order, so the oldest buffer is the first to be free. */
    if ((uint16_t)(sent - queue->used) >= BUFFERS || length > FRAME_MAX)
        return;
    sent++;
    memset(buffers[TRANSMIT][one], 0, HEADER);
    memcpy(buffers[TRANSMIT][one] + HEADER, frame, length);
    queue->descriptors[one].length = (uint32_t)(HEADER + length);
    give(TRANSMIT, one);
}
