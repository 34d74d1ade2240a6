/* SPDX-License-Identifier: MIT */
/* What the files of the run loop share: run.c decides, execute.c runs ops, the others serve exits. */
#ifndef CPU_RUN_RUN_INT_H
#define CPU_RUN_RUN_INT_H

#include "cpu/base/private.h"

/* ---- run.c ----------------------------------------------------------------------------------------------- */

/** True when an interrupt could be delivered now: IF is set, no shadow, no other event. */
bool interrupt_possible(const struct cpu *cpu);
/** Forget what devices answered: the instruction that asked is complete or given up. */
void devices_forget(struct cpu *cpu);
/** The instruction before s.rip is complete: what held for one instruction only ends. */
void instruction_done(struct cpu *cpu);

/* ---- before.c -------------------------------------------------------------------------------------------- */

/** Everything to do before an entry into the guest. Returns: GO_ON, or an exit. */
enum cpu_exit before_entry(struct cpu *cpu);

/* ---- exit.c ---------------------------------------------------------------------------------------------- */

/** Not an exit: cpu_run goes on. */
#define GO_ON ((enum cpu_exit)-1)

/** p->exit is filled in: do what can be done without the caller. Returns: GO_ON, or what cpu_run returns. */
enum cpu_exit exit_handle(struct cpu *cpu);
/** EXIT_SYSTEM, frequent with shadow paging: the library does the instruction, and the guest goes on. */
enum cpu_exit exit_system(struct cpu *cpu);
/** EXIT_PORT_MAP: the instruction runs again, or a #VMEXIT is noted. */
enum cpu_exit exit_port_map(struct cpu *cpu);
/** A #VMEXIT is noted in place of the instruction at s.rip: what was begun for it is forgotten. */
void exit_svm_give_up(struct cpu *cpu);
/** EXIT_RSM: the guest leaves SMM, or shuts down. */
enum cpu_exit exit_rsm(struct cpu *cpu);
/** EXIT_SVM: the #VMEXIT that was noted, or the instruction that left the guest. */
enum cpu_exit exit_svm(struct cpu *cpu);
/** The next write that the last instruction made to a device, one exit each. Returns: GO_ON when all are made. */
enum cpu_exit exit_writes(struct cpu *cpu);
/** The owner has answered the last exit. */
void exit_complete(struct cpu *cpu);
/** The instruction at s.rip runs again with the answer, before anything else: see `completing`. */
void complete_again(struct cpu *cpu);

/* ---- fault.c --------------------------------------------------------------------------------------------- */

/** LEAVE_FAULT: p->fault_* or p->shadow describes a fault at cpu->op. Returns: GO_ON, or an exit. */
enum cpu_exit fault_handle(struct cpu *cpu);
/**
 * The instruction at cpu->op accesses a physical address of the nested guest's. `error`: VMMU_PF_*, how. `gpa` becomes
 * the hypervisor's physical address. Returns: false when there is none now, and *exit is GO_ON or an exit.
 */
bool fault_translate(struct cpu *cpu, struct vmmu_gpa *gpa, uint64_t error, enum cpu_exit *exit);

/* ---- error.c --------------------------------------------------------------------------------------------- */

/** Outside the guest: the exit for an internal error at cpu->op, an instruction or the delivery of an event. */
enum cpu_exit cpu_internal_error(struct cpu *cpu);

/* ---- execute.c ------------------------------------------------------------------------------------------- */

/** Run blocks from s.rip until something asks for attention; s.rip is right on return. */
enum leave execute(struct cpu *cpu);
/** Go on at `op`, which is still valid, and then as execute. */
enum leave execute_resume(struct cpu *cpu, const struct op *op);
/** Run one instruction at s.rip. */
enum leave execute_single(struct cpu *cpu);

#endif
