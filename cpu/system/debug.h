/* SPDX-License-Identifier: MIT */
/* Stepping and breakpoints. What memory asks of them is in base/private.h. */
#ifndef CPU_SYSTEM_DEBUG_H
#define CPU_SYSTEM_DEBUG_H

#include "cpu/base/types.h"

/** After an instruction that ran alone: steps and data breakpoints trap or exit. */
void debug_after(struct cpu *cpu);
/** After the delivery of an event right behind a MOV SS: the hits that MOV SS held trap before the handler begins. */
void debug_held(struct cpu *cpu);
/** Before an instruction that runs alone: instruction breakpoints raise #DB or exit. */
void debug_before(struct cpu *cpu);
/** #DB is raised with the payload in s.events: DR6 and DR7 as its handler, or the hypervisor, finds them. */
void debug_payload(struct cpu *cpu);
/** The guest is about to access a debug register: exits when the host's DR7 says so (GD). */
void debug_register_access(struct cpu *cpu);

#endif
