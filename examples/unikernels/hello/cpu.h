/* The CPU, its interrupts, the serial port, and the end. */

#ifndef CPU_H
#define CPU_H

#include <stdbool.h>
#include <stdint.h>

/* Milliseconds of a tick. */
#define TICK 100

void cpu_start(void);

/* Lets a device's interrupt end a halt. */
void cpu_interrupt(uint32_t pin);

/* Sleeps until an interrupt; one that came since the last halt ends it at once. */
void cpu_halt(void);

/* Begins a tick, at whose end an interrupt comes. */
void cpu_tick(void);
bool cpu_tick_over(void);

/* Counts the host's time stamp counter, whatever its rate. */
uint64_t cpu_cycles(void);

/* Writes a line to the console. */
void say(const char *what, const char *more);

/* Ends the machine, and tells the status in its last line. */
_Noreturn void leave(uint8_t status);
_Noreturn void fatal(const char *why);

#endif
