/* SPDX-License-Identifier: MIT */
/* Answers the trapped calls of a hosted program. */
#include "kvm/interpose/break.h"
#include "kvm/interpose/interpose.h"
#include "kvm/interpose/path.h"
#include "kvm/process/config.h"
#include "kvm/process/file.h"
#include "kvm/process/signals.h"
#include "kvm/process/sys.h"
#include "kvm/process/user.h"
#include "kvm/report/stats.h"
#include "kvm/trap/trap.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#define CODE_SECCOMP   1 /* si_code of a SIGSYS that a filter sent */
#define FLAG_DIRECTION 0x400u
#define FLAG_ALIGNMENT 0x40000u

const char *trap_program;

/* ---- /proc/self/exe ----------------------------------------------------------------------------- */

/* Is it a name of the file that the kernel runs? That is the file which hosts the program. */
static bool names_program(const char *path)
{
	static const char *const names[] = { "/proc/self/exe", "/proc/thread-self/exe", "/proc/%d/exe" };
	char there[20], name[32];
	size_t length;

	if (user_read(there, (unsigned long)path, 6) != 0 || memcmp(there, "/proc/", 6) != 0)
		return false;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		snprintf(name, sizeof(name), names[i], (int)SYS0(SYS_getpid));
		length = strlen(name) + 1;
		if (length <= sizeof(there) && user_read(there, (unsigned long)path, length) == 0 &&
		    memcmp(there, name, length) == 0)
			return true;
	}
	return false;
}

/* The number of the argument that is a file's name, or -1. */
static int path_argument(long number)
{
	switch (number) {
	case SYS_open:
	case SYS_stat:
	case SYS_access:
	case SYS_execve:
	case SYS_readlink:
		return 0;
	case SYS_openat:
	case SYS_openat2:
	case SYS_newfstatat:
	case SYS_statx:
	case SYS_faccessat:
	case SYS_execveat:
	case SYS_readlinkat:
		return 1;
	default:
		return -1;
	}
}

static long link_read(unsigned long buffer, size_t bytes)
{
	size_t length = strlen(trap_program);

	if (!bytes)
		return -EINVAL;
	length = length < bytes ? length : bytes;
	return user_write(buffer, trap_program, length) == 0 ? (long)length : -EFAULT;
}

/* ---- the calls ---------------------------------------------------------------------------------- */

static bool is_child_of_vfork(void)
{
	return !file_table_may_change();
}

/* A call after which this process, or what it borrowed, may not come back here: its frame does not count. */
static long call_last(struct trap_frame *frame, long number, const long a[6])
{
	struct hosted_thread *self = frame->self;
	long result;

	self->frame = frame->previous;
	result = syscall_ours(number, a);
	self->frame = frame;
	return result;
}

static long call_exit(struct trap_frame *frame, long number, const long a[6])
{
	/* A strict filter of the program's may allow nothing but exit_group. */
	if (number == SYS_exit_group && !config_stats() && !config_trace())
		return SYS1(SYS_exit_group, a[0]);
	if (is_child_of_vfork())
		return call_last(frame, number, a);
	if (number == SYS_exit)
		trap_thread_exit((int)a[0]);
	stats_at_exit();
	return SYS1(SYS_exit_group, a[0]);
}

static long call(struct trap_frame *frame, long number, long a[6])
{
	const int named = path_argument(number);

	if (named >= 0 && names_program((const char *)a[named])) { // NOLINT: an address
		if (number == SYS_readlink)
			return link_read((unsigned long)a[1], (size_t)a[2]);
		if (number == SYS_readlinkat)
			return link_read((unsigned long)a[2], (size_t)a[3]);
		a[named] = (long)trap_program;
	}
	switch (number) {
	case TRAP_PROBE:
	case TRAP_PROBE_FILES:
		return TRAP_PROBE_ANSWER;
	case SYS_brk:
		return break_set((uintptr_t)a[0]);
	case SYS_mmap:
		return trap_mmap(a);
	case SYS_clone:
		return trap_clone(frame);
	case SYS_fork:
		return trap_fork(frame);
	case SYS_execve:
	case SYS_execveat:
		return call_last(frame, number, a);
	case SYS_exit:
	case SYS_exit_group:
		return call_exit(frame, number, a);
	case SYS_seccomp:
	case SYS_prctl:
		return trap_seccomp(number, a);
	case SYS_set_tid_address:
		frame->self->clear_tid = (uint32_t *)a[0]; // NOLINT: an address
		return SYS0(SYS_gettid);
	case SYS_rseq:
		return trap_rseq(frame->self, a);
	default:
		return syscall_ours(number, a);
	}
}

/* Since the program has a file of ours, what it does with descriptors and memory concerns us. */
static void files_follow(void)
{
	static const char text[] = "vmmu: the system forbids to follow what the program does with files and memory\n";
	static bool followed;

	if (followed || !file_table_is_ours())
		return;
	followed = true;
	if (trap_filter(true) != 0)
		SYS3(SYS_write, STDERR_FILENO, text, sizeof(text) - 1);
}

void trap_answer(struct trap_frame *frame)
{
	long a[6] = { (long)frame->rdi, (long)frame->rsi, (long)frame->rdx, (long)frame->r10, (long)frame->r8,
		      (long)frame->r9 };

	frame->rax = (uint64_t)call(frame, (long)frame->rax, a);
	files_follow();
}

/* ---- the signal --------------------------------------------------------------------------------- */

static void fill(struct trap_frame *frame, const greg_t *g)
{
	frame->r8 = (uint64_t)g[REG_R8];
	frame->r9 = (uint64_t)g[REG_R9];
	frame->r10 = (uint64_t)g[REG_R10];
	frame->r12 = (uint64_t)g[REG_R12];
	frame->r13 = (uint64_t)g[REG_R13];
	frame->r14 = (uint64_t)g[REG_R14];
	frame->r15 = (uint64_t)g[REG_R15];
	frame->rdi = (uint64_t)g[REG_RDI];
	frame->rsi = (uint64_t)g[REG_RSI];
	frame->rbp = (uint64_t)g[REG_RBP];
	frame->rbx = (uint64_t)g[REG_RBX];
	frame->rdx = (uint64_t)g[REG_RDX];
	frame->rax = (uint64_t)g[REG_RAX];
	frame->rflags = (uint64_t)g[REG_EFL];
	frame->rip = (uint64_t)g[REG_RIP];
	frame->rsp = (uint64_t)g[REG_RSP];
}

bool hosted_trapped(int number, siginfo_t *info, void *context, uint64_t client_fs, struct hosted_thread *self)
{
	ucontext_t *c = context;
	greg_t *g = c->uc_mcontext.gregs;
	struct trap_frame *frame;

	if (client_fs != self->fs)
		self->client_fs = client_fs;
	/* A filter of the program's own may trap, too, and anybody may send the signal. */
	if (info->si_code != CODE_SECCOMP || info->si_errno != TRAP_PROBE_ANSWER) {
		signals_wrapper(number, info, context);
		return true;
	}
	frame = trap_place(self, (uint64_t)g[REG_RSP], &c->uc_stack);
	fill(frame, g);
	frame->client_fs = client_fs;
	frame->self = self;
	frame->xsave = NULL;
	frame->previous = self->frame;
	self->frame = frame;
	g[REG_RIP] = (greg_t)(uintptr_t)trap_run;
	g[REG_RSP] = (greg_t)(uintptr_t)frame;
	g[REG_RDI] = (greg_t)(uintptr_t)frame;
	g[REG_EFL] &= ~(greg_t)(FLAG_DIRECTION | FLAG_ALIGNMENT);
	return false;
}
