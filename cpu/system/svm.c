/* SPDX-License-Identifier: MIT */
/* AMD SVM: how guest mode is left. */
#include "cpu/system/svm.h"

#include "cpu/system/event.h"

_Noreturn void svm_exit(struct cpu *cpu, uint64_t code, uint64_t info1, uint64_t info2)
{
	struct cpu_private *p = cpu->p;

	svm_exit_note(cpu, code, info1, info2);
	p->svm.exit.next_rip = (cpu->op->rip + cpu->op->len) & cpu->lin_mask;
	cpu_leave_exit(cpu, EXIT_SVM, COMPLETE_NONE);
}

void svm_exit_note(struct cpu *cpu, uint64_t code, uint64_t info1, uint64_t info2)
{
	struct svm_private *svm = &cpu->p->svm;

	svm->exit.noted = true;
	svm->exit.code = code;
	svm->exit.info1 = info1;
	svm->exit.info2 = info2;
	svm->exit.next_rip = 0;
	svm->exit.int_info = event_interrupted(cpu);
	svm->exit.fetched_count = 0;
}
