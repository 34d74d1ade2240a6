/* SPDX-License-Identifier: MIT */
/* Internal errors: how they leave the guest, and what CPU_EXIT_INTERNAL_ERROR tells the owner. */
#include "cpu/base/private.h"
#include "cpu/memory/mem.h"
#include "cpu/run/run_int.h"
#include "cpu/system/event.h"

/* The bytes at the instruction, as far as they can be seen without effects. */
static void error_bytes(struct cpu *cpu)
{
	struct cpu_exit_info *exit = &cpu->p->exit;
	unsigned n = 0;

	for (; n < sizeof(exit->error.bytes); n++) {
		uint64_t linear = (cpu->seg_base[CPU_CS] + cpu->op->rip + n) & cpu->lin_mask;
		const uint8_t *at = tlb_find(cpu, TLB_EXEC, linear, 1);

		if (at == NULL)
			break;
		exit->error.bytes[n] = (uint8_t)host_load(at, 1);
	}
	exit->error.length = (uint8_t)n;
}

_Noreturn void cpu_unimplemented(struct cpu *cpu)
{
	cpu->p->exit.error.suberror = CPU_ERROR_EMULATION;
	cpu->p->exit.error.is_instruction = true;
	error_bytes(cpu);
	cpu_leave_exit(cpu, CPU_EXIT_INTERNAL_ERROR, COMPLETE_NONE);
}

enum cpu_exit cpu_internal_error(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;
	bool delivery = cpu->op == &p->event_op;

	p->exit.error.suberror = delivery ? CPU_ERROR_DELIVERY_EV : CPU_ERROR_EMULATION;
	p->exit.error.length = 0;
	p->exit.error.is_instruction = !delivery;
	if (delivery)
		event_undelivered(cpu, &p->exit);
	else if (cpu->op != &p->fetch_op)
		error_bytes(cpu);
	p->completion = COMPLETE_NONE;
	return CPU_EXIT_INTERNAL_ERROR;
}
