/* SPDX-License-Identifier: MIT */
/* What the files of the run loop share: run.c decides, execute.c runs ops, exit.c and error.c answer what left the guest. */
#ifndef CPU_RUN_RUN_INT_H
#define CPU_RUN_RUN_INT_H

#include "cpu/base/private.h"

/* ---- run.c ----------------------------------------------------------------------------------------------- */

/** IF, no shadow, nothing else under way. */
bool interrupt_possible(const struct cpu *cpu);
/** Forget what devices answered: the instruction that asked is over, or given up. */
void devices_forget(struct cpu *cpu);
/** The instruction before s.rip is complete, seen from the outside of it. */
void instruction_done(struct cpu *cpu);

/* ---- exit.c ---------------------------------------------------------------------------------------------- */

/** Not an exit: cpu_run goes on. */
#define GO_ON ((enum cpu_exit)-1)

/** p->exit is filled in: do what can be done here. Returns: GO_ON, or what cpu_run answers. */
enum cpu_exit exit_handle(struct cpu *cpu);
/** EXIT_SYSTEM, which is the frequent one with shadow paging: the library does the instruction, and the guest goes on. */
enum cpu_exit exit_system(struct cpu *cpu);
/** The next write that the last instruction made to a device, for each an exit. Returns: GO_ON when all are made. */
enum cpu_exit exit_writes(struct cpu *cpu);
/** The owner has answered the last exit. */
void exit_complete(struct cpu *cpu);
/** The instruction at s.rip runs again with what came, before anything else: see `completing`. */
void complete_again(struct cpu *cpu);

/* ---- error.c --------------------------------------------------------------------------------------------- */

/** Outside the guest: the exit for an internal error at cpu->op, an instruction or the delivery of an event. */
enum cpu_exit cpu_internal_error(struct cpu *cpu);

/* ---- execute.c ------------------------------------------------------------------------------------------- */

/** Run blocks from s.rip until something asks for attention; s.rip is right on return. */
enum leave execute(struct cpu *cpu);
/** Go on at cpu->op, which is still valid, then as execute. */
enum leave execute_resume(struct cpu *cpu, const struct op *op);
/** Run one instruction at s.rip. */
enum leave execute_single(struct cpu *cpu);

#endif
