/* SPDX-License-Identifier: MIT */
/*
 * Signals and KVM_RUN, as a kernel does it: a signal that arrives during KVM_RUN ends it with EINTR, and the client's
 * handler runs when KVM_RUN has returned. Here KVM_RUN is a function in the client's thread, so each handler of the client is wrapped:
 * inside our code the wrapper asks the CPU to stop, blocks the signal and sends it to the thread again; when our code is left the signal is unblocked,
 * and the handler runs.
 */
#ifndef VMMU_KVM_SIGNALS_H
#define VMMU_KVM_SIGNALS_H

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct cpu;

static inline uint64_t signals_bit(int number)
{
	return UINT64_C(1) << (number - 1);
}

/* By these a missing page shows: they are never blocked. */
#define SIGNALS_FAULT (UINT64_C(1) << (SIGSEGV - 1) | UINT64_C(1) << (SIGBUS - 1))

/** Set this thread's mask. Returns: the one before. */
uint64_t signals_mask(uint64_t mask);

/** Raised by the processor for what this thread just did, rather than sent by somebody? */
bool signals_synchronous(int number, const siginfo_t *info);

/** The handler that the kernel has for every signal that the client handles, installed with a mask that blocks all but SIGNALS_FAULT. */
void signals_wrapper(int number, siginfo_t *info, void *context);

/** Take SIGSEGV and SIGBUS, for guest memory that is gone. Idempotent; called when /dev/kvm is first opened. */
void signals_init(void);

/* How deep this thread is in our code: while it is, handlers of the client wait. Only signals_hold and signals_release change it. */
extern __thread int signals_depth;
void signals_release_last(void);

/**
 * This thread enters and leaves our code, which has locks that a kernel's has not: the client's handlers wait. May nest. After the last
 * release, what was put off has been delivered.
 */
static inline void signals_hold(void)
{
	signals_depth++;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline void signals_release(void)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (signals_depth > 1)
		signals_depth--;
	else
		signals_release_last();
}

/**
 * Between hold and release: KVM_RUN begins and ends. From the beginning on, a signal stops `cpu` and changes `wake`.
 * `mask`: that of KVM_SET_SIGNAL_MASK, in force until the end; or NULL.
 */
void signals_run_begin(struct cpu *cpu, atomic_uint *wake, const uint64_t *mask);
void signals_run_end(void);

/** True when a signal was put off since signals_hold. */
bool signals_pending(void);

/** KVM_SET_SIGNAL_MASK with this mask is coming: signals that it lets through must be seen though the client has no handler. */
void signals_prepare(uint64_t mask);

#endif
