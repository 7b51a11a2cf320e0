#include "cpu.h"

#include "text.h"

#define SERIAL 0x3f8
#define SERIAL_STATUS (SERIAL + 5)
#define SERIAL_EMPTY 0x20

/* QEMU's isa-debug-exit: ends QEMU, with a status of 2 * what is written + 1. */
#define DEBUG_EXIT 0x501

#define LOCAL_APIC 0xfee00000
#define APIC_SPURIOUS 0xf0
#define APIC_ENABLED 0x100
#define APIC_TIMER 0x320
#define APIC_COUNT 0x380
#define APIC_LEFT 0x390
#define APIC_DIVIDE 0x3e0
#define APIC_BY_16 3

/* Both QEMU and KVM let the timer count nanoseconds, before they divide. */
#define TICK_COUNT (TICK * (1000000 / 16))

#define IO_APIC 0xfec00000
#define IO_APIC_WINDOW 0x10
#define IO_APIC_PINS 0x10

#define PIC_MASK_1 0x21
#define PIC_MASK_2 0xa1

#define EXCEPTIONS 32
#define ENTRY_SIZE 16
#define VECTOR_DEVICE 0x30
#define VECTOR_TIMER 0x31
#define VECTOR_SPURIOUS 0x3f
#define VECTORS 0x40

#define CODE_SEGMENT 8
#define PRESENT_GATE 0x8e00

/* An interrupt gate: runs with interrupts off. */
struct gate {
    uint16_t low;
    uint16_t segment;
    uint16_t kind;
    uint16_t middle;
    uint32_t high;
    uint32_t reserved;
};

struct __attribute__((packed)) table {
    uint16_t limit;
    uint64_t base;
};

extern char exception_entries[], interrupt_entry[], spurious_entry[];

_Noreturn void exception(uint64_t number, uint64_t code, uint64_t instruction);

static struct gate gates[VECTORS];

static void out8(uint16_t port, uint8_t byte) {
    __asm__ volatile("outb %0, %1" ::"a"(byte), "Nd"(port) : "memory");
}

static uint8_t in8(uint16_t port) {
    uint8_t byte;

    __asm__ volatile("inb %1, %0" : "=a"(byte) : "Nd"(port) : "memory");
    return byte;
}

static volatile uint32_t *at(uintptr_t address) {
    return (volatile uint32_t *)address;
}

static void gate_set(unsigned vector, const char *entry) {
    uintptr_t address = (uintptr_t)entry;

    gates[vector] = (struct gate){
        .low = (uint16_t)address,
        .segment = CODE_SEGMENT,
        .kind = PRESENT_GATE,
        .middle = (uint16_t)(address >> 16),
        .high = (uint32_t)(address >> 32),
    };
}

void cpu_start(void) {
    struct table table = {sizeof gates - 1, (uintptr_t)gates};

    for (unsigned i = 0; i < EXCEPTIONS; i++)
        gate_set(i, exception_entries + ENTRY_SIZE * i);
    gate_set(VECTOR_DEVICE, interrupt_entry);
    gate_set(VECTOR_TIMER, interrupt_entry);
    gate_set(VECTOR_SPURIOUS, spurious_entry);
    __asm__ volatile("lidt %0" ::"m"(table));
    out8(PIC_MASK_1, 0xff);
    out8(PIC_MASK_2, 0xff);
    *at(LOCAL_APIC + APIC_SPURIOUS) = APIC_ENABLED | VECTOR_SPURIOUS;
    *at(LOCAL_APIC + APIC_DIVIDE) = APIC_BY_16;
    *at(LOCAL_APIC + APIC_TIMER) = VECTOR_TIMER;
}

void cpu_interrupt(uint32_t pin) {
    *at(IO_APIC) = IO_APIC_PINS + 2 * pin + 1;
    *at(IO_APIC + IO_APIC_WINDOW) = 0; /* to CPU 0 */
    *at(IO_APIC) = IO_APIC_PINS + 2 * pin;
    *at(IO_APIC + IO_APIC_WINDOW) = VECTOR_DEVICE; /* at a rising edge */
}

void cpu_halt(void) {
    /* The instruction behind sti still runs without interrupts, so none comes before the halt. */
    __asm__ volatile("sti; hlt; cli" ::: "memory");
}

void cpu_tick(void) {
    *at(LOCAL_APIC + APIC_COUNT) = TICK_COUNT;
}

bool cpu_tick_over(void) {
    return *at(LOCAL_APIC + APIC_LEFT) == 0;
}

uint64_t cpu_cycles(void) {
    uint32_t low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

static void serial_write(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        while (!(in8(SERIAL_STATUS) & SERIAL_EMPTY))
            ;
        out8(SERIAL, (uint8_t)text[i]);
    }
}

void say(const char *what, const char *more) {
    serial_write(what, text_length(what));
    serial_write(more, text_length(more));
    serial_write("\r\n", 2);
}

_Noreturn void leave(uint8_t status) {
    char buffer[8];
    struct text number = {buffer, sizeof buffer - 1, 0};

    text_number(&number, status);
    buffer[number.length] = '\0';
    say("exited status=", buffer);
    out8(DEBUG_EXIT, status);
    for (;;)
        __asm__ volatile("cli; hlt");
}

_Noreturn void fatal(const char *why) {
    say("fatal: ", why);
    leave(1);
}

_Noreturn void exception(uint64_t number, uint64_t code, uint64_t instruction) {
    char buffer[80];
    struct text why = {buffer, sizeof buffer - 1, 0};

    text_add(&why, "exception ");
    text_number(&why, number);
    text_add(&why, ", code ");
    text_hex(&why, code);
    text_add(&why, ", at ");
    text_hex(&why, instruction);
    buffer[why.length] = '\0';
    fatal(buffer);
}
