/* SPDX-License-Identifier: MIT */
/* Hardware task switches, through a TSS or a task gate (SDM vol. 3, chapter 8; APM vol. 2, chapter 12). */
#ifndef CPU_SYSTEM_TASK_H
#define CPU_SYSTEM_TASK_H

#include "cpu/base/types.h"

enum task_cause { TASK_CALL, TASK_JUMP, TASK_IRET, TASK_EVENT };
struct task_switch {
	enum task_cause cause;
	uint16_t selector; /* of the new task's TSS */
	uint64_t rip;      /* where the old task goes on */
	uint64_t flags;    /* of the old task */
	bool has_error;    /* the new task's stack gets `error` */
	uint32_t error;
};

/**
 * Switch to another task. The gate, if there is one, is legal. Does not return: raises what the TSSs raise, makes the
 * #VMEXIT that a hypervisor wants, or leaves the guest with the old task saved and the registers of the new one loaded.
 * Then cpu->p->task.loading is set, and task_load is next.
 */
_Noreturn void task_switch(struct cpu *cpu, const struct task_switch *t);

/**
 * The rest of a task switch, in the guest and in the new task: segments, the error code, the debug trap. May fault; it
 * begins anew when the fault was for the library. After: cpu->p->task.loading is clear.
 */
void task_load(struct cpu *cpu);

#endif
