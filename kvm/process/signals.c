/* SPDX-License-Identifier: MIT */
/* What a signal does inside our code, and inside KVM_RUN. */
#include "kvm/process/signals.h"
#include "cpu/cpu.h"
#include "kvm/process/handlers.h"
#include "kvm/process/hosted.h"
#include "kvm/process/real.h"
#include "kvm/process/sys.h"
#include "port/posix/raw.h"
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <ucontext.h>
#include <vmmu/posix.h>

#define BLOCK_ALL (~SIGNALS_FAULT)

/* What the kernel keeps of a siginfo_t. The last word is unused in every form that a real-time signal takes. */
struct info {
	uint64_t word[6];
};
#define INFO_MARK 5

#define REALTIME 32 /* the kernel's first real-time signal: several of one number may be pending */
#define LATE     32

__thread int signals_depth;

static __thread struct {
	struct cpu *cpu;    /* this thread is in KVM_RUN with this CPU */
	atomic_uint *wake;  /* of the vCPU that has `cpu` */
	bool put_off;       /* at least one signal waits until our code is left */
	bool swapped;       /* KVM_SET_SIGNAL_MASK's mask is in force, or that of signals_fpe_unblock */
	bool fpe_open;      /* SIGFPE is unblocked though it was blocked: one that is sent does not end KVM_RUN */
	bool fpe_kept;      /* `fpe` waits until our code is left, and is not blocked for that */
	siginfo_t fpe;
	uint64_t mask;      /* the thread's own mask, when put_off or swapped */
	unsigned late_count;
	struct {
		int number;
		struct info info;
	} late[LATE];       /* see late_next; changed only while every signal is blocked */
} running;

uint64_t signals_open(void)
{
	return SIGNALS_FAULT | (hosted_on ? signals_bit(SIGSYS) : 0);
}

uint64_t signals_mask(uint64_t mask)
{
	uint64_t old = 0;

	SYS4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &old, sizeof(mask));
	return old;
}

bool signals_synchronous(int number, const siginfo_t *info)
{
	switch (number) {
	case SIGSEGV:
	case SIGBUS:
	case SIGFPE:
	case SIGILL:
	case SIGTRAP:
	case SIGSYS:
		return info->si_code > 0;
	default:
		return false;
	}
}

/*
 * Functions of ThreadSanitizer, where the client has it. Between the two calls it does not follow atomics. Needed
 * because a signal may arrive while its runtime holds its lock for the very word that the handler changes: the
 * thread would wait for itself.
 */
__attribute__((weak, visibility("default"))) void AnnotateIgnoreSyncBegin(const char *file, int line);
__attribute__((weak, visibility("default"))) void AnnotateIgnoreSyncEnd(const char *file, int line);

static void cpu_leave_soon(struct cpu *cpu, atomic_uint *wake)
{
	if (AnnotateIgnoreSyncBegin)
		AnnotateIgnoreSyncBegin(__FILE__, __LINE__);
	cpu_request_exit(cpu);
	atomic_fetch_add(wake, 1);
	if (AnnotateIgnoreSyncEnd)
		AnnotateIgnoreSyncEnd(__FILE__, __LINE__);
}

/*
 * Real-time signals of one number are delivered in the order in which they were sent. A signal that is put off
 * can only be sent again, and so it comes behind those that are pending by then.
 *
 * So what a put-off signal said is kept here, in the order of arrival. The signal that is sent again is a token,
 * which says nothing. While something is kept, each signal that arrives is handled as the first that was kept. If
 * it is no token, what it said itself is kept in turn.
 */
static bool is_token(const struct info *info)
{
	return info->word[INFO_MARK] == (uintptr_t)&running;
}

static int late_find(int number)
{
	for (unsigned i = 0; i < running.late_count; i++)
		if (running.late[i].number == number)
			return (int)i;
	return -1;
}

static void late_remove(unsigned at)
{
	running.late_count--;
	memmove(&running.late[at], &running.late[at + 1], (running.late_count - at) * sizeof(running.late[0]));
}

static bool late_append(int number, const struct info *info)
{
	if (running.late_count == LATE)
		return false;
	running.late[running.late_count].number = number;
	running.late[running.late_count].info = *info;
	running.late_count++;
	return true;
}

/* A signal arrives at its handler. Replace what it says by the first signal that was kept, if there is one. */
static void late_next(int number, siginfo_t *given)
{
	struct info info, first;
	int at;

	at = late_find(number);
	if (at < 0)
		return;
	memcpy(&info, given, sizeof(info));
	first = running.late[at].info;
	late_remove((unsigned)at);
	if (!is_token(&info))
		late_append(number, &info); /* there is room: late_remove made it */
	memcpy(given, &first, sizeof(first));
}

/*
 * The mask is in force again, so every signal that it lets through has arrived. Forget what is still kept of such
 * signals: somebody else took their tokens, as when the client ignores the signal now.
 */
static void late_forget(uint64_t blocked)
{
	uint64_t mask;

	if (!running.late_count)
		return;
	mask = raw_signals_block();
	for (unsigned i = running.late_count; i-- > 0;)
		if (!(blocked & signals_bit(running.late[i].number)))
			late_remove(i);
	raw_signals_restore(mask);
}

/*
 * Send the signal to this thread again. A signal that the thread itself blocks is sent as it came: no handler of
 * ours will see it.
 */
static void send_again(int number, siginfo_t *given)
{
	struct info info;

	memcpy(&info, given, sizeof(info));
	if (number >= REALTIME && !is_token(&info) && !(running.mask & signals_bit(number)) &&
	    late_append(number, &info)) {
		info.word[INFO_MARK] = (uintptr_t)&running;
		memcpy(given, &info, sizeof(info));
	}
	SYS4(SYS_rt_tgsigqueueinfo, SYS0(SYS_getpid), SYS0(SYS_gettid), number, given);
}

/*
 * SIGFPE must stay unblocked, so it is kept here: one, as the kernel keeps one of a signal that is not real-time.
 * Returns: does the signal end KVM_RUN? The client may block it.
 */
static bool keep_fpe(const siginfo_t *info)
{
	running.fpe = *info;
	running.fpe_kept = true;
	return !running.fpe_open;
}

/* Keep the signal until our code is left: block it in the interrupted context, and make it pending again. */
static void put_off(int number, siginfo_t *info, ucontext_t *context)
{
	uint64_t *blocked = (uint64_t *)&context->uc_sigmask;

	if (!running.put_off && !running.swapped)
		running.mask = *blocked;
	if (number == SIGFPE) {
		if (!keep_fpe(info))
			return;
	} else {
		*blocked |= signals_bit(number);
		send_again(number, info);
	}
	running.put_off = true;
	if (running.cpu)
		cpu_leave_soon(running.cpu, running.wake);
}

void signals_wrapper(int number, siginfo_t *info, void *context)
{
	int saved = errno;

	if (number == SIGSEGV || number == SIGBUS || number == SIGFPE) {
		if (number != SIGFPE && vmmu_posix_signal(number, info, context))
			return;
		if (info->si_code > 0 && cpu_signal(number, info, context))
			return;
		signals_mask(BLOCK_ALL); /* not earlier: cpu_signal may not return */
	}
	if ((signals_depth || running.put_off || running.swapped) && !signals_synchronous(number, info)) {
		put_off(number, info, context);
	} else {
		late_next(number, info);
		handlers_call(number, info, context);
	}
	errno = saved;
}

/*
 * Take SIGSEGV and SIGBUS out of a mask that the client sets. Guest memory may be missing in any thread, and a
 * blocked SIGSEGV kills the process where our handler could have answered.
 */
static const sigset_t *unblockable(const sigset_t *set, sigset_t *copy)
{
	if (!set)
		return NULL;
	*copy = *set;
	sigdelset(copy, SIGSEGV);
	sigdelset(copy, SIGBUS);
	return copy;
}

EXPORT int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	sigset_t copy;

	if (how != SIG_UNBLOCK)
		set = unblockable(set, &copy);
	return REAL(pthread_sigmask, int (*)(int, const sigset_t *, sigset_t *))(how, set, old);
}

EXPORT int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	sigset_t copy;

	if (how != SIG_UNBLOCK)
		set = unblockable(set, &copy);
	return REAL(sigprocmask, int (*)(int, const sigset_t *, sigset_t *))(how, set, old);
}

bool signals_pending(void)
{
	return *(volatile bool *)&running.put_off;
}

void signals_run_begin(struct cpu *cpu, atomic_uint *wake, const uint64_t *mask)
{
	running.wake = wake;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	running.cpu = cpu;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (signals_pending())
		cpu_request_exit(cpu); /* it came before running.cpu was set */
	if (mask) {
		/*
		 * Signals that the new mask lets through are put off, so none is lost. `swapped` is set before
		 * the mask changes: a signal that arrives then must not take the new mask for the thread's own.
		 */
		uint64_t own = 0;

		SYS4(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &own, sizeof(own));
		if (!signals_pending())
			/* else running.mask is known, and `own` blocks the signal that was put off */
			running.mask = own;
		running.swapped = true;
		signals_mask(*mask);
	}
}

void signals_fpe_unblock(void)
{
	uint64_t own = raw_signals_block();

	if (!(own & signals_bit(SIGFPE))) {
		raw_signals_restore(own);
		return;
	}
	/* As in signals_run_begin: else running.mask is known. */
	if (!signals_pending() && !running.swapped)
		running.mask = own;
	running.swapped = running.fpe_open = true;
	raw_signals_restore(own & ~signals_bit(SIGFPE));
}

void signals_run_end(void)
{
	/* Block everything until our code is left, so that no handler runs under the mask of KVM_RUN. */
	if (running.swapped)
		signals_mask(BLOCK_ALL);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	running.cpu = NULL;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

void signals_release_last(void)
{
	uint64_t mask;

	signals_depth = 0;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (!*(volatile bool *)&running.swapped && !signals_pending())
		return; /* from here on handlers run at once */
	/*
	 * swapped and put_off hold handlers back until all signals are blocked. Setting the mask then delivers
	 * what was put off.
	 */
	signals_mask(BLOCK_ALL);
	running.swapped = running.fpe_open = false;
	running.put_off = false;
	if (running.fpe_kept) {
		running.fpe_kept = false;
		SYS4(SYS_rt_tgsigqueueinfo, SYS0(SYS_getpid), SYS0(SYS_gettid), SIGFPE, &running.fpe);
	}
	mask = running.mask; /* copied, since a handler may use our code and change it */
	signals_mask(mask);
	late_forget(mask);
}
