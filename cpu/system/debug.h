/* SPDX-License-Identifier: MIT */
/* Stepping and breakpoints. What memory asks of them is in base/private.h. */
#ifndef CPU_SYSTEM_DEBUG_H
#define CPU_SYSTEM_DEBUG_H

#include "cpu/base/types.h"

/**
 * The debug registers may have changed: when other breakpoints are on than before, drop the translations and blocks
 * that do not know of them. Called before each entry, and where the guest changes them.
 */
void debug_arm(struct cpu *cpu);
/** The owner lets the CPU run on. It may have moved RIP. */
void debug_begin(struct cpu *cpu);
/** The guest accesses a port: note the I/O breakpoints that it hits, or run the instruction alone first. */
void debug_port(struct cpu *cpu, uint16_t port, unsigned size);
/** After an instruction that ran alone: steps and data breakpoints trap or exit. */
void debug_after(struct cpu *cpu);
/**
 * After the delivery of an event: data breakpoints that it hit, and those that a MOV SS right before it held, trap
 * before the handler begins.
 */
void debug_held(struct cpu *cpu);
/** A task switch is complete: its hits trap, and the T bit of the new TSS. */
void debug_task(struct cpu *cpu, bool trap_bit);
/** Before an instruction that runs alone: instruction breakpoints raise #DB or exit. */
void debug_before(struct cpu *cpu);
/** #DB is raised with the payload in s.events: DR6 and DR7 as its handler, or the hypervisor, finds them. */
void debug_payload(struct cpu *cpu);
/** The guest is about to access a debug register: exits when the host's DR7 says so (GD). */
void debug_register_access(struct cpu *cpu);

#endif
