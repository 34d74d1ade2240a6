/* SPDX-License-Identifier: MIT */
/* Back from a place in translated code to the state of the guest there. */
#include <string.h>
#include <ucontext.h>

#include "cpu/base/flags.h"
#include "cpu/translate/translate_int.h"

#if defined(__x86_64__)

static const uint8_t greg_of[] = {
	[H_RAX] = REG_RAX, [H_RCX] = REG_RCX, [H_RDX] = REG_RDX, [H_RBX] = REG_RBX,
	[H_RSP] = REG_RSP, [H_RBP] = REG_RBP, [H_RSI] = REG_RSI, [H_RDI] = REG_RDI,
	[H_R8] = REG_R8, [H_R9] = REG_R9, [H_R10] = REG_R10, [H_R11] = REG_R11,
	[H_R12] = REG_R12, [H_R13] = REG_R13, [H_R14] = REG_R14, [H_R15] = REG_R15,
};

void translate_trace(struct cpu *cpu, const void *context)
{
	const greg_t *registers = ((const ucontext_t *)context)->uc_mcontext.gregs;
	const uint8_t *pc = (const uint8_t *)(uintptr_t)registers[REG_RIP];
	struct translate *t = cpu->p->translate;
	const struct translated *at = t != NULL ? translate_find(t, pc) : NULL;
	unsigned i = 0;

	if (at == NULL)
		return;
	while (i + 1u < at->block->ops_count && pc >= at->start + at->ends[i])
		i++;
	cpu->op = &at->block->ops[i];
	x87_pointers_trace(cpu, at->block, at->x87[i]);
	for (unsigned n = 0; n < CPU_GPR_COUNT; n++)
		if (host_of(n) != SPILLED)
			cpu->s.gpr[n] = (uint64_t)registers[greg_of[host_of(n)]];
	flags_set(cpu, rflags_of_fast(cpu->fast.flags));
	if (!cpu->fast.vectors)
		return;
	for (unsigned n = 0; n < 16; n++)
		memcpy(cpu->s.vectors.v[n], &((const ucontext_t *)context)->uc_mcontext.fpregs->_xmm[n], 16);
}

#else

void translate_trace(struct cpu *cpu, const void *context)
{
	(void)cpu;
	(void)context;
}

#endif
