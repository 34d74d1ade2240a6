/* SPDX-License-Identifier: MIT */
/*
 * Threads and processes that the hosted program makes. Each thread of the program is one of the front end's, too, with
 * what its libc wants to have in a thread: it is made by pthread_create, and goes on in the program with the registers
 * of clone's child. A process is made by fork, so that the locks of the front end and its libc are free in the child.
 */
#include "kvm/process/hosted.h"
#include "kvm/process/sys.h"
#include "kvm/process/user.h"
#include "kvm/trap/trap.h"
#include <alloca.h>
#include <errno.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define THREAD_FLAGS (CLONE_VM | CLONE_SIGHAND | CLONE_THREAD)
/* What may be said of a thread beside these. */
#define THREAD_KNOWN                                                                                               \
	(THREAD_FLAGS | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID |              \
	 CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | CLONE_DETACHED)
#define PROCESS_KNOWN (CSIGNAL | CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID)

/* clone's arguments. */
struct request {
	unsigned long flags;
	uint64_t stack;
	unsigned long parent_tid, child_tid;
	uint64_t fs;
};

static void request_of(const struct trap_frame *frame, struct request *out)
{
	*out = (struct request){ frame->rdi, frame->rsi, frame->rdx, frame->r10, frame->r8 };
}

/* What the child, or the new thread, has of its own. Runs in it. */
static void child_begin(struct trap_frame *frame, const struct request *request)
{
	uint32_t tid = (uint32_t)SYS0(SYS_gettid);

	frame->rax = 0;
	if (request->stack)
		frame->rsp = request->stack;
	if (request->flags & CLONE_SETTLS)
		frame->client_fs = request->fs;
	if (request->flags & CLONE_CHILD_SETTID)
		user_write(request->child_tid, &tid, sizeof(tid));
	hosted_self.clear_tid = request->flags & CLONE_CHILD_CLEARTID ? (uint32_t *)request->child_tid : NULL; // NOLINT
}

/* ---- threads ------------------------------------------------------------------------------------ */

struct start {
	const struct trap_frame *parent;
	struct request request;
	atomic_uint tid; /* of the new thread, once it has copied what it needs */
};

/* The front end's libc then asks the kernel for the processor's number. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned __rseq_size __attribute__((weak));
#define RSEQ_SIGNATURE  0x53053053u
#define RSEQ_UNREGISTER 1

void trap_rseq_release(void)
{
	char *area;

	if (!&__rseq_size || !__rseq_size)
		return;
	area = (char *)hosted_self.fs + __rseq_offset; // NOLINT: beside the thread's control block
	if (SYS4(SYS_rseq, area, 32, RSEQ_UNREGISTER, RSEQ_SIGNATURE) == 0)
		((uint32_t *)(void *)area)[1] = ~0u; /* not registered, as libc writes it */
}

/* The kernel's answer is noted, since a thread's area may be gone before the thread is. */
long trap_rseq(struct hosted_thread *self, const long a[6])
{
	long result = SYS4(SYS_rseq, a[0], a[1], a[2], a[3]);

	if (result != 0)
		return result;
	self->rseq.area = a[2] & RSEQ_UNREGISTER ? 0 : a[0];
	self->rseq.bytes = a[1];
	self->rseq.signature = a[3];
	return 0;
}

/*
 * The kernel writes to the area whenever the thread has lost its CPU, and kills the process when the memory is gone. A
 * libc leaves the area registered, and frees it once clear_child_tid says that the thread has ended.
 */
static void rseq_end(const struct hosted_thread *self)
{
	if (self->rseq.area)
		SYS4(SYS_rseq, self->rseq.area, self->rseq.bytes, RSEQ_UNREGISTER, self->rseq.signature);
}

/* Leave what the program's thread left: the owner of robust mutexes is dead. */
static void robust_end(void)
{
	struct {
		uint64_t next;
		int64_t offset;
		uint64_t pending;
	} head;
	uint32_t tid = (uint32_t)SYS0(SYS_gettid), value;
	uint64_t at, list = 0;
	size_t length;

	if (SYS3(SYS_get_robust_list, 0, &list, &length) != 0 || !list || user_read(&head, list, sizeof(head)) != 0)
		return;
	SYS2(SYS_set_robust_list, NULL, 24);
	at = head.next;
	for (unsigned i = 0; i < 2048 && at && at != list; i++) {
		uint64_t word = (at & ~UINT64_C(1)) + (uint64_t)head.offset;
		uint32_t dead;

		if (user_read(&value, word, sizeof(value)) != 0)
			return;
		dead = (value & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
		if ((value & FUTEX_TID_MASK) == tid &&
		    atomic_compare_exchange_strong((_Atomic uint32_t *)word, &value, dead) && // NOLINT: the program's
		    value & FUTEX_WAITERS)
			SYS3(SYS_futex, word, FUTEX_WAKE, 1);
		if (user_read(&at, at & ~UINT64_C(1), sizeof(at)) != 0)
			return;
	}
}

_Noreturn void trap_thread_exit(int status)
{
	struct hosted_thread *self = &hosted_self;
	const uint32_t gone = 0;

	raw_signals_block();
	robust_end();
	rseq_end(self);
	/* From here on the program may take the thread's stack and its thread-local storage away. */
	if (self->clear_tid && user_write((unsigned long)self->clear_tid, &gone, sizeof(gone)) == 0)
		SYS3(SYS_futex, self->clear_tid, FUTEX_WAKE, 1);
	if (self->end)
		longjmp(*self->end, 1); // NOLINT: to thread_main, below which nobody has anything to release
	for (;;)
		SYS1(SYS_exit, status);
}

/* What a thread shares with its maker, and this one does not. */
static unsigned long unshared(const struct request *request)
{
	return (request->flags ^ (CLONE_FS | CLONE_FILES | CLONE_SYSVSEM)) & (CLONE_FS | CLONE_FILES | CLONE_SYSVSEM);
}

static void *thread_main(void *argument)
{
	struct start *start = argument;
	struct request request = start->request;
	_Alignas(64) struct trap_frame frame = *start->parent;
	size_t bytes = trap_xsave_bytes;
	char *area = alloca(bytes + 64), *xsave = area + (64 - (uintptr_t)area % 64) % 64;
	uintptr_t here = (uintptr_t)area & ~UINT64_C(63);
	uint32_t tid;
	jmp_buf end;

	memcpy(xsave, start->parent->xsave, bytes);
	trap_thread_begin(here - TRAP_STACK, (uintptr_t)(&frame + 1), here - 4096);
	trap_rseq_release();
	hosted_self.end = &end;
	frame.xsave = xsave;
	frame.self = &hosted_self;
	frame.previous = NULL;
	child_begin(&frame, &request);
	tid = (uint32_t)SYS0(SYS_gettid);
	if (request.flags & CLONE_PARENT_SETTID)
		user_write(request.parent_tid, &tid, sizeof(tid));
	if (unshared(&request))
		SYS1(SYS_unshare, unshared(&request));
	atomic_store_explicit(&start->tid, tid, memory_order_release);
	SYS3(SYS_futex, &start->tid, FUTEX_WAKE_PRIVATE, 1); /* `start` may be gone: then nobody waits there */
	if (setjmp(end) == 0)
		trap_resume(&frame);
	return NULL;
}

static long thread_make(struct trap_frame *frame, const struct request *request)
{
	struct start start = { .parent = frame, .request = *request };
	pthread_attr_t attributes;
	pthread_t thread;
	uint32_t tid;
	int error;

	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, TRAP_STACK + 2 * 65536 + trap_xsave_bytes);
	error = pthread_create(&thread, &attributes, thread_main, &start);
	pthread_attr_destroy(&attributes);
	if (error)
		return -EAGAIN;
	while (!(tid = atomic_load_explicit(&start.tid, memory_order_acquire)))
		SYS4(SYS_futex, &start.tid, FUTEX_WAIT_PRIVATE, 0, NULL);
	return tid;
}

/* ---- processes ---------------------------------------------------------------------------------- */

static long process_make(struct trap_frame *frame, const struct request *request)
{
	long child = fork();

	if (child < 0)
		return -errno;
	if (child == 0) {
		child_begin(frame, request);
		hosted_self.end = NULL; /* this is the only thread, and its end is the process's */
		return 0;
	}
	if (request->flags & CLONE_PARENT_SETTID) {
		uint32_t tid = (uint32_t)child;

		user_write(request->parent_tid, &tid, sizeof(tid));
	}
	return child;
}

static long refuse(unsigned long flags)
{
	char text[128];
	int length = snprintf(text, sizeof(text),
	                      "vmmu: clone with flags 0x%lx in a program that is hosted is not there\n", flags);

	SYS3(SYS_write, STDERR_FILENO, text, length);
	return -ENOSYS;
}

long trap_clone(struct trap_frame *frame)
{
	struct request request;

	request_of(frame, &request);
	if ((request.flags & THREAD_FLAGS) == THREAD_FLAGS && !(request.flags & ~(unsigned long)THREAD_KNOWN))
		return thread_make(frame, &request);
	if (!(request.flags & ~(unsigned long)PROCESS_KNOWN) && (request.flags & CSIGNAL) == SIGCHLD)
		return process_make(frame, &request);
	return refuse(request.flags);
}

long trap_fork(struct trap_frame *frame)
{
	const struct request request = { .flags = SIGCHLD };

	return process_make(frame, &request);
}
