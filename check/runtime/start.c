/* SPDX-License-Identifier: MIT */
/* The process: fixed addresses, the runtime's memory, and signals. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#include "check/runtime/fibre.h"
#include "check/runtime/heap.h"

#define WATCHDOG_SECONDS 2
#define TICKS_A_SECOND   4

bool rt_is_up;

static void map_at(uint64_t address, uint64_t bytes, const char *what)
{
	void *at = mmap((void *)address, bytes, PROT_READ | PROT_WRITE,
	                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

	if (at == (void *)address)
		return;
	fprintf(stderr, "vmmu-check: no room at %#lx for %s (%s); was the program linked with -no-pie?\n",
	        (unsigned long)address, what, at == MAP_FAILED ? strerror(errno) : "taken");
	exit(2);
}

void *rt_map(uint64_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED) {
		fprintf(stderr, "vmmu-check: no %lu bytes of address space: %s\n", (unsigned long)bytes,
		        strerror(errno));
		exit(2);
	}
	return at;
}

/* ---- signals -------------------------------------------------------------------------------------- */

static char signal_stack[65536] __attribute__((aligned(16)));
static char leave_stack[16384] __attribute__((aligned(16)));

static void leave_execution(void)
{
	void *nowhere;

	fibre_switch(&nowhere, rt.main_sp);
	abort();
}

static void note(enum check_verdict verdict, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	rt_fail_note(verdict, format, args);
	va_end(args);
}

/* The signal ended the execution. Go to where the execution would have ended. */
static void leave_from(ucontext_t *context)
{
	uint64_t top = (uint64_t)leave_stack + sizeof(leave_stack) - 64;

	context->uc_mcontext.gregs[REG_RSP] = (greg_t)(top - 8);
	context->uc_mcontext.gregs[REG_RIP] = (greg_t)leave_execution;
}

static void on_crash(int signal, siginfo_t *info, void *context)
{
	ucontext_t *c = context;
	uint64_t pc = (uint64_t)c->uc_mcontext.gregs[REG_RIP], at = (uint64_t)info->si_addr;
	uint64_t guard = at - STACKS_ADDRESS;

	if (rt.mode == RT_IDLE) {
		struct sigaction usual = { .sa_handler = SIG_DFL };

		sigaction(signal, &usual, NULL);
		return;
	}
	if (guard < (THREADS + 1) * STACK_BYTES && guard % STACK_BYTES < 4096)
		note(CHECK_CRASH, "thread %d overflows its stack (pc %#lx)", rt.self, (unsigned long)pc);
	else
		note(CHECK_CRASH, "%s at pc %#lx, address %#lx, in thread %d",
		     signal == SIGABRT ? "abort" : strsignal(signal), (unsigned long)pc, (unsigned long)at,
		     rt.self);
	leave_from(c);
}

static void on_tick(int signal, siginfo_t *info, void *context)
{
	static uint64_t last;
	static unsigned still;

	(void)signal;
	(void)info;
	rt.look = true;
	if (rt.mode == RT_IDLE || rt.ticks != last) {
		last = rt.ticks;
		still = 0;
		return;
	}
	if (++still < WATCHDOG_SECONDS * TICKS_A_SECOND)
		return;
	still = 0;
	note(CHECK_HANG, "thread %d has run for %u seconds without an atomic operation (pc %#lx)", rt.self,
	     WATCHDOG_SECONDS, (unsigned long)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP]);
	leave_from(context);
}

static void catch_signals(void)
{
	static const int crashes[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP };
	stack_t stack = { .ss_sp = signal_stack, .ss_size = sizeof(signal_stack) };
	struct sigaction action = { .sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	struct itimerval every = { { 0, 1000000 / TICKS_A_SECOND }, { 0, 1000000 / TICKS_A_SECOND } };

	sigaltstack(&stack, NULL);
	for (size_t i = 0; i < sizeof(crashes) / sizeof(crashes[0]); i++)
		sigaction(crashes[i], &action, NULL);
	action.sa_sigaction = on_tick;
	sigaction(SIGVTALRM, &action, NULL);
	setitimer(ITIMER_VIRTUAL, &every, NULL); /* CPU time */
}

void check_start(int argc, char **argv)
{
	int old = personality(0xffffffff);

	(void)argc;
	if (rt_is_up)
		return;
	/* Where that is forbidden, everything that a scenario sees is at fixed addresses all the same. */
	if (old >= 0 && !(old & ADDR_NO_RANDOMIZE) && personality((unsigned)old | ADDR_NO_RANDOMIZE) >= 0 &&
	    (personality(0xffffffff) & ADDR_NO_RANDOMIZE))
		execv("/proc/self/exe", argv);
	map_at(RT_ADDRESS, sizeof(struct runtime), "the checker");
	map_at(HEAP_ADDRESS, (THREADS + 1) * ARENA_BYTES, "the heap");
	map_at(STACKS_ADDRESS, (THREADS + 1) * STACK_BYTES, "stacks");
	map_at(SHADOW_ADDRESS, WINDOW_END / 8 * sizeof(struct cell), "the shadow");
	for (unsigned t = 0; t <= THREADS; t++)
		mprotect((void *)(STACKS_ADDRESS + t * STACK_BYTES), 4096, PROT_NONE);
	fibre_start();
	rt.self = -1;
	rt_is_up = true;
	catch_signals();
}
