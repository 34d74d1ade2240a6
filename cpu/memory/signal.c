/* SPDX-License-Identifier: MIT */
/*
 * Signals that belong to a guest. Every other one belongs to the program.
 *
 * SIGSEGV and SIGBUS in a guest access: the host page behind the guest's memory is gone. Such a signal comes from a
 * guest access when a CPU runs on this thread and the address lies in a page that the CPU's TLBs lead to.
 *
 * SIGFPE of an instruction in the CPU's window (fpu/fpe.h): the guest's exception.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <ucontext.h>

#include "cpu/base/mxcsr.h"
#include "cpu/base/private.h"
#include "cpu/base/x87_host.h"

/*
 * Does a TLB of the CPU lead to this host page? *gpa is the guest page when the second stage's cache still knows it,
 * else 0.
 */
static bool host_page_known(struct cpu *cpu, uint64_t page, uint64_t *gpa)
{
	const struct ntlb_entry *ntlb = cpu->p->context->ntlb;
	bool known = false;

	*gpa = 0;
	if (page == 0)
		return false; /* not where a guest has memory: empty entries have it */
	for (unsigned i = 0; i < NTLB_ENTRIES; i++) {
		if ((ntlb[i].tag & 0xfff) != 0 && ntlb[i].host == page) {
			*gpa = ntlb[i].tag & ~UINT64_C(0xfff);
			return true;
		}
	}
	for (unsigned kind = 0; kind < TLB_KINDS && !known; kind++) {
		for (unsigned i = 0; i < TLB_ENTRIES && !known; i++) {
			const struct tlb_entry *e = &cpu->tlb[kind][i];

			known = (e->tag & ~UINT64_C(0xfff)) + e->addend == page;
		}
	}
	for (unsigned i = 0; cpu->p->translate != NULL && i < FAST_MODES * FAST_KINDS * TLB_ENTRIES && !known; i++)
		known = cpu->fast.tlb[0][0][i].host == page;
	return known;
}

#if defined(__x86_64__)

static bool fpe_signal(struct fpe_window *w, void *context)
{
	greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;

	if (!w->open || (uintptr_t)registers[REG_RIP] - (uintptr_t)w->from >= w->length)
		return false;
	registers[REG_RIP] = (greg_t)(uintptr_t)w->landing;
	if (w->sp != NULL)
		registers[REG_RSP] = (greg_t)(uintptr_t)w->sp;
	w->stopped = true;
	return true;
}

#else

static bool fpe_signal(struct fpe_window *w, void *context)
{
	(void)w;
	(void)context;
	return false;
}

#endif

bool cpu_signal(int signal, siginfo_t *info, void *context)
{
	struct cpu *cpu = cpu_running;
	const void *saved;
	struct cpu_fx fx;
	uint64_t gpa;

	if (cpu == NULL || !cpu->p->env_valid || info->si_code <= 0)
		return false;
	if (signal == SIGFPE)
		return fpe_signal(&cpu->p->fpe, context);
	if (!host_page_known(cpu, (uint64_t)(uintptr_t)info->si_addr & ~UINT64_C(0xfff), &gpa))
		return false;
	cpu->p->host_fault_gpa = gpa;
	translate_trace(cpu, context);
	/* Not in this handler's own registers: the kernel has saved the guest's with the rest, as FXSAVE does. */
	saved = ((const ucontext_t *)context)->uc_mcontext.fpregs;
	if (saved != NULL) {
		memcpy(&fx, saved, sizeof(fx));
		cpu->s.fx.mxcsr |= fx.mxcsr & MXCSR_FLAGS;
		x87_host_lost(cpu, &fx);
	}
	cpu_leave(cpu, LEAVE_HOST_FAULT);
}

/* ---- for programs without a front end that owns signals ------------------------------------------------ */

static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE };
#define SIGNALS (sizeof(signals) / sizeof(signals[0]))
static struct sigaction previous[SIGNALS]; /* written by cpu_signals_install */
static atomic_bool installed;

static const struct sigaction *previous_of(int signal)
{
	return &previous[signal == SIGBUS ? 1 : signal == SIGFPE ? 2 : 0];
}

static void chain(int signal, siginfo_t *info, void *context)
{
	const struct sigaction *old = previous_of(signal);
	struct sigaction fallback;

	/* The guest is left by a jump. ThreadSanitizer's runtime blocks every signal around a handler. */
	pthread_sigmask(SIG_SETMASK, &((const ucontext_t *)context)->uc_sigmask, NULL);
	if (cpu_signal(signal, info, context))
		return;
	if (old->sa_flags & SA_SIGINFO) {
		old->sa_sigaction(signal, info, context);
	} else if (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN) {
		old->sa_handler(signal);
	} else {
		/* The access repeats, and the default action follows. */
		memset(&fallback, 0, sizeof(fallback));
		fallback.sa_handler = SIG_DFL;
		sigaction(signal, &fallback, NULL);
	}
}

void cpu_signals_install(void)
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_sigaction = chain;
	action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
	for (unsigned i = 0; i < SIGNALS; i++) {
		struct sigaction now;

		sigaction(signals[i], NULL, &now);
		if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == chain)
			continue;
		previous[i] = now;
		sigaction(signals[i], &action, NULL);
	}
	atomic_store(&installed, true);
}

bool cpu_signals_installed(void)
{
	return atomic_load(&installed);
}
