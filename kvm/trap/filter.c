/* SPDX-License-Identifier: MIT */
/*
 * Which calls of the hosted program are trapped: those that the front end answers, and those that would change what
 * it shares with the program. The filter stays over exec and fork, as every filter does. It is the same in every
 * process, and a program that is not hosted has no code below TRAP_LIMIT that makes calls, so that it may stay.
 */
#include "kvm/interpose/interpose.h"
#include "kvm/process/sys.h"
#include "kvm/process/user.h"
#include "kvm/trap/trap.h"
#include <alloca.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#define ARCH_SET_GS 0x1001

/* Whose answer is the front end's, always. */
static const unsigned always[] = {
	SYS_open, SYS_creat, SYS_openat, SYS_openat2, SYS_stat, SYS_lstat, SYS_newfstatat, SYS_statx, SYS_access,
	SYS_faccessat, SYS_faccessat2, SYS_readlink, SYS_readlinkat, SYS_execve, SYS_execveat, SYS_rt_sigaction,
	SYS_seccomp, SYS_brk, SYS_fork, SYS_exit, SYS_exit_group, SYS_set_tid_address, SYS_rseq, SYS_chmod,
	SYS_fchmodat, SYS_chown, SYS_lchown, SYS_fchownat, TRAP_PROBE,
};

/* And once there are files of ours. */
static const unsigned with_files[] = {
	SYS_ioctl, SYS_close, SYS_dup, SYS_dup2, SYS_dup3, SYS_close_range, SYS_fstat, SYS_munmap, SYS_mremap,
	SYS_madvise,
	SYS_mprotect, SYS_pkey_mprotect, SYS_fallocate, SYS_ftruncate, SYS_recvmsg, SYS_pread64, SYS_io_uring_setup,
	TRAP_PROBE_FILES,
};

#define ROOM 240

struct program {
	struct sock_filter code[ROOM];
	unsigned short count;
};

static void emit(struct program *p, unsigned code, unsigned value, unsigned yes, unsigned no)
{
	p->code[p->count++] = (struct sock_filter)BPF_JUMP((unsigned short)code, value, (unsigned char)yes,
	                                                   (unsigned char)no);
}

static void load(struct program *p, size_t offset)
{
	emit(p, BPF_LD | BPF_W | BPF_ABS, (unsigned)offset, 0, 0);
}

static void answer(struct program *p, unsigned action)
{
	emit(p, BPF_RET | BPF_K, action, 0, 0);
}

#define ALLOW SECCOMP_RET_ALLOW
#define TRAP  (SECCOMP_RET_TRAP | TRAP_PROBE_ANSWER)
#define LOW(i)  (offsetof(struct seccomp_data, args) + 8 * (i))
#define HIGH(i) (LOW(i) + 4)

static void trap_all(struct program *p, const unsigned *numbers, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		emit(p, BPF_JMP | BPF_JEQ | BPF_K, numbers[i], 0, 1);
		answer(p, TRAP);
	}
}

/* Begin what is about one call: it is skipped by every other. Returns: for call_end. */
static unsigned call_begin(struct program *p, unsigned number)
{
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, number, 0, 0);
	return p->count - 1u;
}

static void call_end(struct program *p, unsigned begin)
{
	answer(p, ALLOW);
	p->code[begin].jf = (unsigned char)(p->count - begin - 1u);
}

/* Trap when the argument, after `mask`, is `value`; or when it is not. */
static void trap_if(struct program *p, unsigned argument, unsigned mask, unsigned value, bool equal)
{
	load(p, LOW(argument));
	emit(p, BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, value, equal ? 0 : 1, equal ? 1 : 0);
	answer(p, TRAP);
}

static void by_arguments(struct program *p)
{
	unsigned begin = call_begin(p, SYS_ioctl);

	trap_if(p, 1, 0xff00, 0xae00, true); /* KVM's */
	trap_if(p, 1, 0xff00, 0xaa00, true); /* userfaultfd's */
	call_end(p, begin);

	begin = call_begin(p, SYS_mmap);
	trap_if(p, 2, PROT_EXEC, 0, false);
	trap_if(p, 3, MAP_ANONYMOUS, 0, true);
	trap_if(p, 3, MAP_FIXED, 0, false);
	call_end(p, begin);

	/* The child of vfork borrows this thread, and comes back to the program by itself. */
	begin = call_begin(p, SYS_clone);
	trap_if(p, 0, CLONE_VFORK, 0, true);
	call_end(p, begin);

	/* Its flags are in memory. libcs that are told so use clone. */
	begin = call_begin(p, SYS_clone3);
	answer(p, SECCOMP_RET_ERRNO | ENOSYS);
	call_end(p, begin);

	begin = call_begin(p, SYS_arch_prctl);
	load(p, LOW(0));
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, ARCH_SET_GS, 0, 1);
	answer(p, SECCOMP_RET_ERRNO | EPERM);
	call_end(p, begin);

	begin = call_begin(p, SYS_prctl);
	trap_if(p, 0, ~0u, PR_SET_SECCOMP, true);
	call_end(p, begin);

	/* Only a mask that blocks. */
	begin = call_begin(p, SYS_rt_sigprocmask);
	load(p, LOW(0));
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, SIG_UNBLOCK, 0, 1);
	answer(p, ALLOW);
	trap_if(p, 1, ~0u, 0, false);
	load(p, HIGH(1));
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0);
	answer(p, TRAP);
	call_end(p, begin);
}

static void by_arguments_with_files(struct program *p)
{
	unsigned begin = call_begin(p, SYS_fcntl);

	trap_if(p, 1, ~0u, F_DUPFD, true);
	trap_if(p, 1, ~0u, F_DUPFD_CLOEXEC, true);
	trap_if(p, 1, ~0u, F_ADD_SEALS, true);
	trap_if(p, 1, ~0u, F_GET_SEALS, true);
	call_end(p, begin);
}

static void build(struct program *p, bool files)
{
	p->count = 0;
	load(p, offsetof(struct seccomp_data, instruction_pointer) + 4);
	emit(p, BPF_JMP | BPF_JGE | BPF_K, (unsigned)(TRAP_LIMIT >> 32), 0, 1);
	answer(p, ALLOW);
	load(p, offsetof(struct seccomp_data, arch));
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
	answer(p, ALLOW);
	load(p, offsetof(struct seccomp_data, nr));
	if (files) {
		trap_all(p, with_files, sizeof(with_files) / sizeof(*with_files));
		by_arguments_with_files(p);
	} else {
		trap_all(p, always, sizeof(always) / sizeof(*always));
		by_arguments(p);
	}
	answer(p, ALLOW);
}

/*
 * Is the filter there already, of the program before exec? A call from below TRAP_LIMIT shows it. Returns: false, too,
 * where there is no room for such a call.
 */
static bool is_there(bool files)
{
	static const unsigned char code[] = { 0x0f, 0x05, 0xc3 }; /* syscall; ret */
	const size_t bytes = 4096;
	long at, result = -ENOSYS;

	if (SYS1(SYS_prctl, PR_GET_SECCOMP) != SECCOMP_MODE_FILTER)
		return false;
	at = SYS6(SYS_mmap, TRAP_LIMIT - bytes, bytes, PROT_READ | PROT_WRITE,
	          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (at < 0)
		return false;
	memcpy((void *)at, code, sizeof(code)); // NOLINT: the kernel's answer is an address
	if (SYS3(SYS_mprotect, at, bytes, PROT_READ | PROT_EXEC) == 0)
		result = trap_probe(files ? TRAP_PROBE_FILES : TRAP_PROBE, (void *)at, &hosted_self); // NOLINT
	SYS2(SYS_munmap, at, bytes);
	return result == TRAP_PROBE_ANSWER;
}

long trap_filter(bool files)
{
	struct program program;
	struct sock_fprog given = { 0, program.code };
	long result;

	if (is_there(files))
		return 0;
	build(&program, files);
	given.len = program.count;
	result = SYS3(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &given);
	if (result == -EACCES && SYS5(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
		result = SYS3(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &given);
	/* Threads that the program gave different filters: at least this one, and those that it makes. */
	if (result > 0)
		result = SYS3(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &given);
	return result;
}

/*
 * A trapped call ends with rt_sigreturn, which a strict filter forbids. It is made by the front end's libc, so allowing
 * it there gives the program nothing.
 */
long trap_seccomp(long number, const long a[6])
{
	const bool is_filter = number == SYS_seccomp ? a[0] == SECCOMP_SET_MODE_FILTER :
	                       a[0] == PR_SET_SECCOMP && a[1] == SECCOMP_MODE_FILTER;
	const unsigned before = 5;
	struct sock_fprog given, changed;
	struct program head = { .count = 0 };
	long arguments[6];

	if (!is_filter || user_read(&given, (unsigned long)a[2], sizeof(given)) != 0 || !given.len ||
	    given.len > BPF_MAXINSNS - before)
		return syscall_ours(number, a);
	load(&head, offsetof(struct seccomp_data, nr));
	emit(&head, BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 0, 3);
	load(&head, offsetof(struct seccomp_data, instruction_pointer) + 4);
	emit(&head, BPF_JMP | BPF_JGE | BPF_K, (unsigned)(TRAP_LIMIT >> 32), 0, 1);
	answer(&head, ALLOW);
	/* 32 KiB at most. Memory that is mapped could not be given back: the filter may forbid it. */
	changed.len = (unsigned short)(before + given.len);
	changed.filter = alloca(changed.len * sizeof(head.code[0]));
	memcpy(changed.filter, head.code, before * sizeof(head.code[0]));
	memcpy(arguments, a, sizeof(arguments));
	arguments[2] = (long)&changed;
	if (user_read(changed.filter + before, (unsigned long)given.filter, given.len * sizeof(head.code[0])) != 0)
		return -EFAULT;
	return syscall_ours(number, arguments);
}
