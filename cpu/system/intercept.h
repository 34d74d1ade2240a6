/* SPDX-License-Identifier: MIT */
/*
 * AMD SVM: intercepts that need more than a bit of the control area: exceptions, the two permission maps, PAUSE, task
 * switches, traps behind a write. APM vol. 2, 15.8 to 15.14.
 */
#ifndef CPU_SYSTEM_INTERCEPT_H
#define CPU_SYSTEM_INTERCEPT_H

#include "cpu/system/svm.h"
#include "cpu/system/task.h"

/* ---- in the guest ---- */

/**
 * An exception is raised at cpu->op, with its payload in s.events. Does not return when the hypervisor wants it. An
 * event that is being delivered stays in s.events and is noted with the exit.
 */
INLINE void intercept_exception(struct cpu *cpu, unsigned vector, uint32_t error);
_Noreturn void intercept_exception_exit(struct cpu *cpu, unsigned vector, uint32_t error);

INLINE void intercept_exception(struct cpu *cpu, unsigned vector, uint32_t error)
{
	if (svm_intercepts(cpu, SVM_EXIT_EXCEPTION + vector))
		intercept_exception_exit(cpu, vector, error);
}

/**
 * CR`n` was written by the instruction, which is complete. Does not return when the hypervisor wants the trap behind
 * it.
 */
INLINE void intercept_cr_written(struct cpu *cpu, unsigned n);
/** The same trap: note the exit if it is wanted. Also outside the guest. Returns: true when noted. */
bool intercept_cr_note(struct cpu *cpu, unsigned n);

INLINE void intercept_cr_written(struct cpu *cpu, unsigned n)
{
	if (svm_intercepts(cpu, SVM_EXIT_CR0_WRITTEN + n) && intercept_cr_note(cpu, n))
		cpu_leave(cpu, LEAVE_DONE);
}

/** A PAUSE while PAUSE is intercepted. Returns: true when the filter lets it pass no more. */
bool intercept_pause(struct cpu *cpu);

/** VMRUN: the PAUSE filter begins anew, and no monitor is armed. */
void intercept_reset(struct cpu *cpu);

/** The instruction at cpu->op accesses a port, and the TSS allows it. Must the hypervisor's map be asked? */
INLINE bool intercept_port(const struct cpu *cpu)
{
	return svm_intercepts(cpu, SVM_EXIT_IOIO) && !cpu->p->svm.port_allowed;
}

/** Leave the guest to ask it. The instruction runs again if it may. `info`: EXITINFO1. */
_Noreturn void intercept_port_ask(struct cpu *cpu, uint32_t info);

/* EXITINFO1 of SVM_EXIT_IOIO. Operand and address sizes of 1, 2, 4, 8 bytes are ORed in at their shifts. */
#define PORT_IN            1u
#define PORT_STRING        4u
#define PORT_REPEATED      8u
#define PORT_SIZE_SHIFT    4u
#define PORT_ADDRESS_SHIFT 6u /* 2, 4, 8 bytes: bits 7, 8, 9 */
#define PORT_SEGMENT_SHIFT 10u
#define PORT_SHIFT         16u

/** The #VMEXIT of a task switch, whose gate and TSS are legal. */
_Noreturn void intercept_task_switch(struct cpu *cpu, const struct task_switch *t);

/* ---- outside the guest ---- */

/** Note the bytes at s.rip with the exit that is noted, as far as they can be seen. In the guest or just outside. */
void intercept_fetched(struct cpu *cpu);

enum map_answer { MAP_ALLOWS, MAP_INTERCEPTS, MAP_HOST_FAULT /* exit.host_fault is filled in */ };

/** After EXIT_PORT_MAP: if the port is intercepted, the exit is noted. */
enum map_answer intercept_port_map(struct cpu *cpu);
/** RDMSR or WRMSR, and the hypervisor intercepts some. If this one, the exit is noted. */
enum map_answer intercept_msr_map(struct cpu *cpu, uint32_t index, bool write);
INLINE enum map_answer intercept_msr(struct cpu *cpu, uint32_t index, bool write)
{
	return likely(!svm_intercepts(cpu, SVM_EXIT_MSR)) ? MAP_ALLOWS : intercept_msr_map(cpu, index, write);
}
/** A WRMSR is complete: EFER has a trap behind it. */
void intercept_msr_written(struct cpu *cpu, uint32_t index);

#endif
