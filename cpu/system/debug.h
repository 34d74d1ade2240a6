/* SPDX-License-Identifier: MIT */
/* Stepping and breakpoints. What memory asks of them is in base/private.h. */
#ifndef CPU_SYSTEM_DEBUG_H
#define CPU_SYSTEM_DEBUG_H

#include "cpu/base/types.h"

/** After an instruction in stepping or breakpoint mode; raises or exits. */
void debug_after(struct cpu *cpu);
/** After an event was delivered right behind a MOV SS: what it held traps before the handler's first instruction. */
void debug_held(struct cpu *cpu);
/** Before one: instruction breakpoints. */
void debug_before(struct cpu *cpu);
/** The guest is about to access a debug register: exits when the host's DR7 says so (GD). */
void debug_register_access(struct cpu *cpu);

#endif
