/* SPDX-License-Identifier: MIT */
/*
 * Signals and KVM_RUN, as in a kernel: a signal that arrives during KVM_RUN ends it with EINTR, and the client's
 * handler runs after KVM_RUN has returned.
 *
 * Here KVM_RUN is a function in the client's thread, so we wrap each handler of the client. Inside our code the
 * wrapper does not call the handler. It asks the CPU to stop, blocks the signal and sends it to the thread again.
 * When the thread leaves our code, the signal is unblocked and the handler runs.
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

/* A missing page of guest memory raises one of these, so they are never blocked. */
#define SIGNALS_FAULT (UINT64_C(1) << (SIGSEGV - 1) | UINT64_C(1) << (SIGBUS - 1))

/** The signals that are never blocked while the client's code runs: those, and SIGSYS while a program is hosted. */
uint64_t signals_open(void);

/** Set this thread's mask. Returns: the one before. */
uint64_t signals_mask(uint64_t mask);

/** Did the processor raise it for what this thread just did? False for a signal that somebody sent. */
bool signals_synchronous(int number, const siginfo_t *info);

/**
 * The handler that the kernel has for every signal that the client handles. All signals but SIGNALS_FAULT are
 * blocked while it runs; on those two and SIGFPE, from when it knows that the guest is not the cause.
 */
void signals_wrapper(int number, siginfo_t *info, void *context);

/**
 * Handle SIGSEGV and SIGBUS, by which missing guest memory shows, and SIGFPE, by which a guest's SSE exception does.
 * Idempotent. Called when /dev/kvm is first opened.
 */
void signals_init(void);

/*
 * How deeply this thread is nested in our code. While it is not 0, handlers of the client wait. Only signals_hold
 * and signals_release change it.
 */
extern __thread int signals_depth;
void signals_release_last(void);

/**
 * This thread enters and leaves our code. Meanwhile the client's handlers wait: our code takes locks that a
 * handler could need too. May nest. After the last release, the signals that were put off have been delivered.
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
 * Between hold and release: KVM_RUN begins and ends. After begin, a signal stops `cpu` and changes `wake`.
 * `mask`: that of KVM_SET_SIGNAL_MASK, in force until the end; or NULL.
 */
void signals_run_begin(struct cpu *cpu, atomic_uint *wake, const uint64_t *mask);
void signals_run_end(void);

/**
 * In KVM_RUN: SIGFPE is not blocked in this thread until our code is left, whatever the client's mask says. One that
 * somebody sends meanwhile waits until then.
 */
void signals_fpe_unblock(void);

/** Was a signal put off since signals_hold? */
bool signals_pending(void);

/**
 * KVM_SET_SIGNAL_MASK with this mask is coming. Install the wrapper for the signals that it lets through, so that
 * they end KVM_RUN even if the client has no handler for them.
 */
void signals_prepare(uint64_t mask);

#endif
