/* SPDX-License-Identifier: MIT */
/* The client's signal handlers, wrapped; and what of a signal happens inside KVM_RUN. */
#include "kvm/signals.h"
#include "cpu/cpu.h"
#include "kvm/interpose.h"
#include "kvm/machines.h"
#include "kvm/sys.h"
#include "kvm/vm.h"
#include "port/posix/probe.h"
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

#define SIGNALS 65

/* All but SIGSEGV and SIGBUS, by which a missing page shows. */
#define BLOCK_ALL (~(UINT64_C(1) << (SIGSEGV - 1) | UINT64_C(1) << (SIGBUS - 1)))

/* What the client believes is installed. `lock` orders writers; the wrapper reads without it. */
static struct sigaction client[SIGNALS];
static bool wrapped[SIGNALS];  /* our wrapper is what the kernel has */
static bool prepared[SIGNALS]; /* and stays, even for SIG_DFL */
static bool initialised;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static __thread struct {
	int depth;          /* inside our code: handlers of the client wait */
	struct vcpu *vcpu;  /* in KVM_RUN with this one */
	bool put_off;       /* at least one signal waits for the end of it */
	bool swapped;       /* KVM_SET_SIGNAL_MASK's mask is in force */
	uint64_t mask;      /* the thread's own mask, when put_off or swapped */
} running;

typedef int sigaction_fn(int, const struct sigaction *, struct sigaction *);

static int real_sigaction(int number, const struct sigaction *action, struct sigaction *old)
{
	return REAL(sigaction, sigaction_fn *)(number, action, old);
}

static uint64_t bit_of(int number)
{
	return UINT64_C(1) << (number - 1);
}

static uint64_t set_mask(uint64_t mask)
{
	uint64_t old = 0;

	SYS4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &old, sizeof(mask));
	return old;
}

/* Raised by the processor for what this thread just did, rather than sent by somebody. */
static bool is_synchronous(int number, const siginfo_t *info)
{
	switch (number) {
	case SIGSEGV:
	case SIGBUS:
	case SIGFPE:
	case SIGILL:
	case SIGTRAP:
		return info->si_code > 0;
	default:
		return false;
	}
}

/*
 * ThreadSanitizer's, where there is one: between them it does not follow atomics. A signal may strike while its runtime holds the lock of the
 * very word that the handler changes, and it would wait for itself.
 */
__attribute__((weak, visibility("default"))) void AnnotateIgnoreSyncBegin(const char *file, int line);
__attribute__((weak, visibility("default"))) void AnnotateIgnoreSyncEnd(const char *file, int line);

static void vcpu_leave_soon(struct vcpu *vcpu)
{
	if (AnnotateIgnoreSyncBegin)
		AnnotateIgnoreSyncBegin(__FILE__, __LINE__);
	cpu_request_exit(vcpu->cpu);
	atomic_fetch_add(&vcpu->wake, 1);
	if (AnnotateIgnoreSyncEnd)
		AnnotateIgnoreSyncEnd(__FILE__, __LINE__);
}

/* Keep the signal for when our code is left: blocked in the interrupted context, and pending again. */
static void put_off(int number, siginfo_t *info, ucontext_t *context)
{
	uint64_t *blocked = (uint64_t *)&context->uc_sigmask;

	if (!running.put_off && !running.swapped)
		running.mask = *blocked;
	running.put_off = true;
	*blocked |= bit_of(number);
	SYS4(SYS_rt_tgsigqueueinfo, SYS0(SYS_getpid), SYS0(SYS_gettid), number, info);
	if (running.vcpu)
		vcpu_leave_soon(running.vcpu);
}

static void die_of(int number)
{
	struct sigaction none = { .sa_handler = SIG_DFL };

	real_sigaction(number, &none, NULL);
	SYS3(SYS_tgkill, SYS0(SYS_getpid), SYS0(SYS_gettid), number);
	/* It is blocked here and strikes when the wrapper returns. */
}

static void call_client(int number, siginfo_t *info, void *context)
{
	struct sigaction action = client[number];

	if (action.sa_handler == SIG_IGN)
		return;
	if (action.sa_handler == SIG_DFL) {
		if (is_synchronous(number, info)) {
			struct sigaction none = { .sa_handler = SIG_DFL };

			real_sigaction(number, &none, NULL); /* the access faults again, with nobody in the way */
		} else {
			die_of(number);
		}
		return;
	}
	if (action.sa_flags & (int)SA_RESETHAND) {
		client[number].sa_handler = SIG_DFL;
		if (!prepared[number] && number != SIGSEGV && number != SIGBUS) {
			struct sigaction none = { .sa_handler = SIG_DFL };

			wrapped[number] = false;
			real_sigaction(number, &none, NULL);
		}
	}
	if (number == SIGSEGV || number == SIGBUS) {
		/* Our wrapper is installed without a mask; the client's handler gets the one it asked for. */
		uint64_t block = *(uint64_t *)&action.sa_mask | (action.sa_flags & SA_NODEFER ? 0 : bit_of(number));

		SYS4(SYS_rt_sigprocmask, SIG_BLOCK, &block, NULL, sizeof(block));
	}
	action.sa_sigaction(number, info, context);
}

static void wrapper(int number, siginfo_t *info, void *context)
{
	int saved = errno;

	if (number == SIGSEGV || number == SIGBUS) {
		if (posix_probe_signal(number, info, context))
			return;
		if (info->si_code > 0 && cpu_host_fault_signal(number, info, context))
			return;
	}
	if ((running.depth || running.put_off || running.swapped) && !is_synchronous(number, info)) {
		put_off(number, info, context);
		errno = saved;
		return;
	}
	call_client(number, info, context);
	errno = saved;
}

/* Give the kernel our wrapper, with the flags and the mask that the client asked for. Holds: lock. */
static int install(int number)
{
	struct sigaction action = client[number];

	action.sa_sigaction = wrapper;
	action.sa_flags &= ~(int)SA_RESETHAND;
	action.sa_flags |= SA_SIGINFO;
	if (number == SIGSEGV || number == SIGBUS) {
		/* A guest access may fault inside a handler for another one; see cpu_host_fault_signal. */
		action.sa_flags |= SA_NODEFER | SA_ONSTACK;
		sigemptyset(&action.sa_mask);
	}
	if (real_sigaction(number, &action, NULL) != 0)
		return -1;
	wrapped[number] = true;
	return 0;
}

static bool is_fault_signal(int number)
{
	return initialised && (number == SIGSEGV || number == SIGBUS);
}

EXPORT int sigaction(int number, const struct sigaction *action, struct sigaction *old)
{
	struct sigaction before, wanted;
	int result = 0;

	if (number < 1 || number >= SIGNALS || number == SIGKILL || number == SIGSTOP)
		return real_sigaction(number, action, old);
	if (action)
		wanted = *action; /* a bad pointer is the client's fault, in its own code, as with libc's */
	pthread_mutex_lock(&lock);
	if (wrapped[number])
		before = client[number];
	else if (real_sigaction(number, NULL, &before) != 0)
		result = -1; /* one of libc's own signals */
	if (action && result == 0) {
		bool plain = wanted.sa_handler == SIG_DFL || wanted.sa_handler == SIG_IGN;

		client[number] = wanted;
		if (!plain || prepared[number] || is_fault_signal(number)) {
			result = install(number);
		} else {
			wrapped[number] = false;
			result = real_sigaction(number, &wanted, NULL);
		}
	}
	pthread_mutex_unlock(&lock);
	if (result == 0 && old)
		*old = before;
	return result;
}

EXPORT sighandler_t signal(int number, sighandler_t handler)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };
	struct sigaction old;

	if (handler == SIG_ERR || number < 1 || number >= SIGNALS) {
		errno = EINVAL;
		return SIG_ERR;
	}
	sigemptyset(&action.sa_mask);
	sigaddset(&action.sa_mask, number);
	return sigaction(number, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
}

/* A blocked SIGSEGV kills where a handler could have answered: guest memory may be gone in any thread. Those two are never
 * really blocked. */
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

static void init(void)
{
	pthread_mutex_lock(&lock);
	for (int i = 0; i < 2; i++) {
		int number = i ? SIGBUS : SIGSEGV;

		if (!wrapped[number])
			real_sigaction(number, NULL, &client[number]);
	}
	initialised = true;
	install(SIGSEGV);
	install(SIGBUS);
	pthread_mutex_unlock(&lock);
}

void signals_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct sigaction client_segv, client_bus;

	if (initialised)
		return;
	/* The port installs its own handlers once; it does so now, through our sigaction, and is then taken out of the chain
	 * again, because the wrapper asks it directly. */
	sigaction(SIGSEGV, NULL, &client_segv);
	sigaction(SIGBUS, NULL, &client_bus);
	posix_probe_install();
	sigaction(SIGSEGV, &client_segv, NULL);
	sigaction(SIGBUS, &client_bus, NULL);
	pthread_once(&once, init);
}

void signals_prepare(uint64_t mask)
{
	pthread_mutex_lock(&lock);
	for (int number = 1; number < SIGNALS; number++) {
		struct sigaction now;

		if (mask & bit_of(number) || prepared[number])
			continue;
		switch (number) {
		case SIGKILL: case SIGSTOP: case SIGSEGV: case SIGBUS: case SIGFPE: case SIGILL: case SIGTRAP:
			continue; /* cannot be caught, or are not ours to put off */
		case SIGCHLD: case SIGCONT: case SIGURG: case SIGWINCH: case SIGTSTP: case SIGTTIN: case SIGTTOU:
			continue; /* by default they end nothing */
		default:
			break;
		}
		if (!wrapped[number]) {
			if (real_sigaction(number, NULL, &now) != 0 || now.sa_handler == SIG_IGN)
				continue;
			client[number] = now;
		}
		prepared[number] = true;
		install(number);
	}
	pthread_mutex_unlock(&lock);
}

bool signals_pending(void)
{
	return *(volatile bool *)&running.put_off;
}

bool signals_must_end(struct vcpu *vcpu)
{
	return signals_pending() || atomic_load_explicit(&vcpu->cancelled, memory_order_relaxed);
}

void signals_cancel_hold(struct cancel_state *state, struct vcpu *vcpu)
{
	if (vcpu) {
		/* In this order: whoever cancels after the type has changed finds the runner. */
		atomic_store_explicit(&vcpu->cancelled, false, memory_order_relaxed);
		atomic_store_explicit(&vcpu->runner, pthread_self(), memory_order_seq_cst);
	}
	pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &state->type);
}

void signals_cancel_release(const struct cancel_state *state)
{
	int own;

	if (state->type != PTHREAD_CANCEL_DEFERRED)
		pthread_setcanceltype(state->type, &own);
}

static void cancel_in(struct vm *vm, void *thread)
{
	for (unsigned id = 0; id < MAX_VCPU_ID; id++) {
		struct vcpu *vcpu = vm_vcpu(vm, id);

		if (!vcpu || !pthread_equal(atomic_load(&vcpu->runner), *(pthread_t *)thread))
			continue;
		atomic_store(&vcpu->cancelled, true);
		cpu_request_exit(vcpu->cpu);
		vcpu_wake(vcpu);
	}
}

/* A kernel leaves KVM_RUN when the thread is cancelled, for that is a signal. */
EXPORT int pthread_cancel(pthread_t thread)
{
	int result = REAL(pthread_cancel, int (*)(pthread_t))(thread);

	if (result == 0 && machines_any())
		machines_each(cancel_in, &thread);
	return result;
}

void signals_run_begin(struct vcpu *vcpu)
{
	running.vcpu = vcpu;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (signals_pending())
		cpu_request_exit(vcpu->cpu); /* it came on the way here */
	if (vcpu->mask_set) {
		/* Nothing that this lets through is lost: it is put off. `swapped` before the mask changes: a signal that
		 * strikes must not take the new mask for the thread's own. */
		uint64_t own = 0;

		SYS4(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &own, sizeof(own));
		if (!signals_pending())
			running.mask = own; /* else it is known, and `own` has the signal that was put off */
		running.swapped = true;
		set_mask(vcpu->mask);
	}
}

void signals_run_end(void)
{
	/* Everything is blocked until our code is left, so that nothing runs under KVM_RUN's mask. */
	if (running.swapped)
		set_mask(BLOCK_ALL);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	running.vcpu = NULL;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

void signals_hold(void)
{
	running.depth++;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

void signals_release(void)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (--running.depth > 0)
		return;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (!*(volatile bool *)&running.swapped && !signals_pending())
		return; /* from here on handlers run at once */
	/* The flags still hold handlers back, until all signals are blocked; then the mask delivers what was put off. */
	set_mask(BLOCK_ALL);
	running.swapped = false;
	running.put_off = false;
	set_mask(running.mask);
}
