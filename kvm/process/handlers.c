/* SPDX-License-Identifier: MIT */
/*
 * The client's signal handlers. The kernel has our wrapper in the place of each, and the client does not see the
 * wrapper.
 *
 * Only the kernel knows whether the wrapper is installed for a signal. Our memory cannot tell: a child of vfork
 * shares our memory, but has signal handlers of its own.
 */
#include "kvm/process/handlers.h"
#include "cpu/cpu.h"
#include "kvm/process/hosted.h"
#include "kvm/process/real.h"
#include "kvm/process/signals.h"
#include "kvm/process/sys.h"
#include "port/posix/lock.h"
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <vmmu/posix.h>

#define SIGNALS 65

static struct posix_lock lock = POSIX_LOCK_INIT; /* held to change what follows; the wrapper reads without it */
static struct sigaction client[SIGNALS]; /* what the client believes is installed, for signals that have the wrapper */
static bool prepared[SIGNALS];           /* the wrapper stays, even for SIG_DFL */
/*
 * A child of vfork that a hosted program made borrows its thread, and so finds here what it keeps. Its handlers need
 * our wrapper as all of a hosted program's do: FS may be the front end's.
 */
struct child {
	int process; /* whose this is; a later child takes it over */
	bool set[SIGNALS];
	struct sigaction client[SIGNALS];
};

static __thread struct child *child;
static bool initialised;
static int owner; /* process id; 0 before the first constructor */

typedef int sigaction_fn(int, const struct sigaction *, struct sigaction *);

/* libc keeps 32 and 33 for itself. A hosted program has a libc of its own, whose handlers must run. */
static bool is_libcs(int number)
{
	return number == 32 || number == 33;
}

__asm__(".text\n.type handlers_return, @function\nhandlers_return:\n\tmov $15, %eax\n\tsyscall\n"
        ".size handlers_return, . - handlers_return\n");
void handlers_return(void) __attribute__((visibility("hidden")));

#define RESTORER 0x04000000ul

/* Without libc. Returns: 0, or -1 with errno set. */
static int raw_sigaction(int number, const struct sigaction *action, struct sigaction *old)
{
	struct handlers_kernel new_one = { 0 }, old_one;
	long result;

	if (action) {
		handlers_to_kernel(action, &new_one);
		new_one.flags |= RESTORER;
		new_one.restorer = handlers_return;
	}
	result = SYS4(SYS_rt_sigaction, number, action ? &new_one : NULL, &old_one, sizeof(new_one.mask));
	if (result == 0 && old)
		handlers_from_kernel(&old_one, old);
	return (int)sys_result(result);
}

static int real_sigaction(int number, const struct sigaction *action, struct sigaction *old)
{
	if (hosted_on && is_libcs(number))
		return raw_sigaction(number, action, old);
	return REAL(sigaction, sigaction_fn *)(number, action, old);
}

void handlers_to_kernel(const struct sigaction *action, struct handlers_kernel *out)
{
	out->handler = action->sa_handler;
	out->flags = (unsigned long)(unsigned)action->sa_flags;
	out->restorer = action->sa_restorer;
	memcpy(&out->mask, &action->sa_mask, sizeof(out->mask));
}

void handlers_from_kernel(const struct handlers_kernel *action, struct sigaction *out)
{
	memset(out, 0, sizeof(*out));
	out->sa_handler = action->handler;
	out->sa_flags = (int)action->flags;
	out->sa_restorer = action->restorer;
	memcpy(&out->sa_mask, &action->mask, sizeof(action->mask));
}

/* The handler that the kernel has for what the client handles. */
static void (*entry(int number))(int, siginfo_t *, void *)
{
	return !hosted_on ? signals_wrapper : number == SIGSYS ? hosted_trap_signal : hosted_signal;
}

/* Look up libc's sigaction early. The lookup takes the loader's lock, which must not be taken inside ours. */
void handlers_begin(void)
{
	struct sigaction now;

	owner = (int)SYS0(SYS_getpid);
	real_sigaction(SIGCHLD, NULL, &now);
}

void handlers_fork(enum fork_step step)
{
	if (step == FORK_PREPARE) {
		posix_lock(&lock);
		return;
	}
	if (step == FORK_CHILD)
		owner = (int)SYS0(SYS_getpid);
	posix_unlock(&lock);
}

/*
 * False in a child of vfork. It shares our memory, so it must not write its own changes there, and its parent may
 * hold the lock.
 */
static bool memory_is_ours(void)
{
	return !owner || owner == (int)SYS0(SYS_getpid);
}

/* By these the CPU learns something in the middle of an instruction (cpu_signal). */
static bool is_fault_signal(int number)
{
	return number == SIGSEGV || number == SIGBUS || number == SIGFPE;
}

/* Where the handler is that the wrapper calls in this process. */
static struct sigaction *place(int number)
{
	if (child && child->process == (int)SYS0(SYS_getpid) && child->set[number])
		return &child->client[number];
	return &client[number];
}

/* What the client believes is installed. Returns: 0, or -1 with errno set for a signal that libc keeps for itself. */
static int believed(int number, struct sigaction *action)
{
	if (real_sigaction(number, NULL, action) != 0)
		return -1;
	if (action->sa_flags & SA_SIGINFO && action->sa_sigaction == entry(number))
		*action = *place(number);
	return 0;
}

/*
 * Install our wrapper with the flags that the client asked for. No signal but SIGNALS_FAULT interrupts the
 * wrapper, which sets the mask of the client's handler itself. Holds: lock, but in a child of vfork.
 */
static int install(int number)
{
	struct sigaction action = *place(number);

	action.sa_sigaction = entry(number);
	action.sa_flags &= ~(int)SA_RESETHAND;
	action.sa_flags |= SA_SIGINFO;
	sigfillset(&action.sa_mask);
	sigdelset(&action.sa_mask, SIGSEGV);
	sigdelset(&action.sa_mask, SIGBUS);
	if (is_fault_signal(number)) {
		/* A guest access may fault inside a handler for another one. The wrapper blocks signals later. */
		action.sa_flags |= SA_NODEFER | SA_ONSTACK;
		sigemptyset(&action.sa_mask);
	}
	return real_sigaction(number, &action, NULL);
}

/* Holds: lock. */
static int change(int number, const struct sigaction *wanted)
{
	bool plain = wanted->sa_handler == SIG_DFL || wanted->sa_handler == SIG_IGN;

	client[number] = *wanted;
	if (hosted_on && number == SIGSYS)
		return 0; /* the calls of the program come by it */
	/* Leave an ignored signal to the kernel: exec keeps it ignored, but resets a handler. */
	if (!plain || (initialised && is_fault_signal(number)) || (prepared[number] && wanted->sa_handler == SIG_DFL))
		return install(number);
	return real_sigaction(number, wanted, NULL);
}

/* This child's own, made when it sets the first handler. Returns: NULL without memory. */
static struct child *child_own(void)
{
	const int process = (int)SYS0(SYS_getpid);
	long memory;

	if (!child) {
		memory = SYS6(SYS_mmap, 0, sizeof(*child), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (memory < 0)
			return NULL;
		child = (struct child *)memory; // NOLINT: the kernel's answer is an address
	}
	if (child->process != process) {
		memset(child->set, 0, sizeof(child->set));
		child->process = process;
	}
	return child;
}

/* In a child of vfork: what it shares with its parent stays as it is. */
static int child_change(int number, const struct sigaction *wanted)
{
	struct child *own;

	if (!hosted_on || wanted->sa_handler == SIG_DFL || wanted->sa_handler == SIG_IGN)
		return real_sigaction(number, wanted, NULL);
	own = child_own();
	if (!own)
		return errno = ENOMEM, -1;
	own->client[number] = *wanted;
	own->set[number] = true;
	return install(number);
}

int handlers_change(int number, const struct sigaction *action, struct sigaction *old)
{
	struct sigaction before, wanted;
	int result;

	if (action)
		wanted = *action; /* a bad pointer faults in the client's call, as with libc's function */
	if (memory_is_ours()) {
		posix_lock(&lock);
		result = believed(number, &before);
		if (action && result == 0)
			result = change(number, &wanted);
		posix_unlock(&lock);
	} else {
		result = believed(number, &before);
		if (action && result == 0 && !(hosted_on && number == SIGSYS))
			result = child_change(number, &wanted);
	}
	if (result == 0 && old)
		*old = before;
	return result;
}

EXPORT int sigaction(int number, const struct sigaction *action, struct sigaction *old)
{
	if (number < 1 || number >= SIGNALS || number == SIGKILL || number == SIGSTOP)
		return real_sigaction(number, action, old);
	return handlers_change(number, action, old);
}

void handlers_host(void)
{
	struct sigaction now, trap = { .sa_flags = SA_SIGINFO | SA_ONSTACK };

	real_sigaction(SIGSYS, NULL, &now);
	client[SIGSYS] = now;
	hosted_on = true;
	trap.sa_sigaction = hosted_trap_signal;
	sigfillset(&trap.sa_mask);
	real_sigaction(SIGSYS, &trap, NULL);
}

static void die_of(int number)
{
	struct sigaction none = { .sa_handler = SIG_DFL };

	real_sigaction(number, &none, NULL);
	SYS3(SYS_tgkill, SYS0(SYS_getpid), SYS0(SYS_gettid), number);
	/* The signal is blocked here. It kills the process when the wrapper returns. */
}

/* SA_RESETHAND: remove the handler before it runs. */
static void reset(int number)
{
	struct sigaction now, none = *place(number);

	none.sa_handler = SIG_DFL;
	if (!memory_is_ours()) {
		real_sigaction(number, &none, NULL);
		return;
	}
	posix_lock(&lock);
	if (believed(number, &now) == 0 && now.sa_flags & (int)SA_RESETHAND)
		change(number, &none);
	posix_unlock(&lock);
}

void handlers_call(int number, siginfo_t *info, void *context)
{
	struct sigaction action = *place(number);
	uint64_t mask;

	/* The kernel lets nobody ignore a signal that the processor raised. */
	if (action.sa_handler == SIG_IGN && !signals_synchronous(number, info))
		return;
	if (action.sa_handler == SIG_IGN || action.sa_handler == SIG_DFL) {
		if (signals_synchronous(number, info)) {
			struct sigaction none = { .sa_handler = SIG_DFL };

			real_sigaction(number, &none, NULL); /* the access faults again and kills the process */
		} else {
			die_of(number);
		}
		return;
	}
	if (action.sa_flags & (int)SA_RESETHAND)
		reset(number);
	mask = *(const uint64_t *)&((ucontext_t *)context)->uc_sigmask | *(uint64_t *)&action.sa_mask;
	if (!(action.sa_flags & SA_NODEFER))
		mask |= signals_bit(number);
	signals_mask(mask & ~signals_open());
	if (hosted_on)
		hosted_call(action.sa_sigaction, number, info, context, hosted_self.client_fs, &hosted_self);
	else
		action.sa_sigaction(number, info, context);
}

static void init(void)
{
	vmmu_posix_signals_own(); /* signals_wrapper calls vmmu_posix_signal */
	posix_lock(&lock);
	believed(SIGSEGV, &client[SIGSEGV]);
	believed(SIGBUS, &client[SIGBUS]);
	believed(SIGFPE, &client[SIGFPE]);
	initialised = true;
	install(SIGSEGV);
	install(SIGBUS);
	install(SIGFPE);
	posix_unlock(&lock);
}

void signals_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	signals_hold();
	pthread_once(&once, init);
	signals_release();
}

/*
 * May signals_prepare give the signal our wrapper? Only signals that by default end the process: a client that
 * lets KVM_RUN be interrupted by one wants EINTR, not its own death.
 */
static bool is_preparable(int number)
{
	switch (number) {
	case SIGKILL: case SIGSTOP: case SIGSEGV: case SIGBUS: case SIGFPE: case SIGILL: case SIGTRAP:
		return false; /* cannot be caught, or must not be put off */
	case SIGCHLD: case SIGCONT: case SIGURG: case SIGWINCH: case SIGTSTP: case SIGTTIN: case SIGTTOU:
		return false; /* by default they end no process */
	default:
		return true;
	}
}

void signals_prepare(uint64_t mask)
{
	posix_lock(&lock);
	for (int number = 1; number < SIGNALS; number++) {
		struct sigaction now;

		if (mask & signals_bit(number) || prepared[number] || !is_preparable(number))
			continue;
		if (believed(number, &now) != 0 || now.sa_handler == SIG_IGN)
			continue;
		client[number] = now;
		prepared[number] = true;
		install(number);
	}
	posix_unlock(&lock);
}
