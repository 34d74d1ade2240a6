/* SPDX-License-Identifier: MIT */
/*
 * SIGFPE in the place of #XM.
 *
 * The signal is synchronous: were it blocked, it would end the process. So the first unmasked instruction of a cpu_run
 * unblocks it, and the end of cpu_run blocks it again.
 */
#include <pthread.h>
#include <signal.h>
#include <stddef.h>

#include "cpu/base/owner.h"
#include "cpu/base/private.h"
#include "cpu/fpu/fpe.h"

static void unblock(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;
	sigset_t set, old;

	if (p->ops->unblock_fpe != NULL) {
		p->ops->unblock_fpe(p->ops_state);
		return;
	}
	if (!cpu_signals_installed())
		cpu_unimplemented(cpu);
	sigemptyset(&set);
	sigaddset(&set, SIGFPE);
	pthread_sigmask(SIG_UNBLOCK, &set, &old);
	p->fpe.block = sigismember(&old, SIGFPE) == 1;
}

struct fpe_window *fpe_open(struct cpu *cpu)
{
	struct fpe_window *w = &cpu->p->fpe;

	if (!w->open) {
		uint32_t guest = owner_begin(cpu);

		unblock(cpu);
		owner_end(guest);
		w->open = true;
	}
	w->length = 1;
	w->sp = NULL;
	return w;
}

void fpe_close(struct cpu *cpu)
{
	struct fpe_window *w = &cpu->p->fpe;
	sigset_t set;

	if (likely(!w->open))
		return;
	w->open = false;
	if (!w->block)
		return;
	w->block = false;
	sigemptyset(&set);
	sigaddset(&set, SIGFPE);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

void sse_raised(struct cpu *cpu, uint32_t raised)
{
	cpu->s.fx.mxcsr |= raised;
	if ((raised & ~(cpu->s.fx.mxcsr >> 7) & MXCSR_FLAGS) == 0)
		return;
	if (!(cpu->s.cr4 & CR4_OSXMMEXCPT))
		cpu_ud(cpu);
	cpu_raise(cpu, VECTOR_XM);
}

#if defined(__x86_64__)

uint64_t fpe_call(struct cpu *cpu, const void *code, size_t length, void *memory, uint32_t *raised)
{
	struct fpe_window *w = fpe_open(cpu);
	uint64_t result;

	w->from = code;
	w->length = length;
	w->stopped = false;
	w->mxcsr = mxcsr_careful(cpu);
	/* Below the red zone of this function. At the landing the stack pointer is as it was before the call. */
	__asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
	                 "lea 1f(%%rip), %%rax\n\t"
	                 "mov %%rax, %c[landing](%[w])\n\t"
	                 "mov %%rsp, %c[sp](%[w])\n\t"
	                 "stmxcsr %c[host](%[w])\n\t"
	                 "ldmxcsr %c[mxcsr](%[w])\n\t"
	                 "call *%c[from](%[w])\n"
	                 "1:\n\t"
	                 "stmxcsr %c[mxcsr](%[w])\n\t"
	                 "ldmxcsr %c[host](%[w])\n\t"
	                 "lea 128(%%rsp), %%rsp"
	                 : "=&a"(result), "+D"(cpu), "+S"(memory)
	                 : [w] "b"(w), [landing] "i"(offsetof(struct fpe_window, landing)),
	                   [sp] "i"(offsetof(struct fpe_window, sp)), [host] "i"(offsetof(struct fpe_window, host)),
	                   [mxcsr] "i"(offsetof(struct fpe_window, mxcsr)),
	                   [from] "i"(offsetof(struct fpe_window, from))
	                 : "rcx", "rdx", "r8", "r9", "r10", "r11", "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3",
	                   "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
	                   "xmm15");
	/* The code did not come to its end, where it gives back the upper halves and the MMX registers. */
	if (w->stopped) {
		if (!cpu->x87_loaded) /* with guest's registers in them, the code used no MMX */
			__asm__ volatile("emms");
		if (__builtin_cpu_supports("avx"))
			__asm__ volatile("vzeroupper" ::: "xmm0");
	}
	*raised = w->mxcsr & MXCSR_FLAGS;
	return result;
}

#endif
