/* SPDX-License-Identifier: MIT */
/*
 * The exported functions for descriptors and memory, and syscall(2). Each only turns libc's calling convention
 * into ours. Functions with file names are in interpose_path.c, those that read and write in interpose_file.c,
 * those that start programs in exec.c.
 */
#include "kvm/interpose/interpose.h"
#include "kvm/process/delay.h"
#include "kvm/process/file.h"
#include "kvm/process/sys.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- descriptors ------------------------------------------------------------------------------- */

EXPORT int ioctl(int fd, unsigned long request, ...); /* <sys/ioctl.h> may have it as a macro */
EXPORT int ioctl(int fd, unsigned long request, ...)
{
	unsigned long argument;
	va_list list;

	va_start(list, request);
	argument = va_arg(list, unsigned long);
	va_end(list);
	return (int)sys_result(fds_ioctl(fd, request, argument));
}

EXPORT int close(int fd)
{
	if (file_table_is_ours())
		file_forget(fd);
	return REAL(close, int (*)(int))(fd);
}

EXPORT int dup(int fd)
{
	return (int)sys_result(fds_dup(SYS_dup, fd, 0, 0));
}

EXPORT int dup2(int fd, int wanted)
{
	return (int)sys_result(fds_dup(SYS_dup2, fd, wanted, 0));
}

EXPORT int dup3(int fd, int wanted, int flags)
{
	return (int)sys_result(fds_dup(SYS_dup3, fd, wanted, flags));
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	ssize_t result = REAL(recvmsg, ssize_t(*)(int, struct msghdr *, int))(fd, message, flags);

	if (result >= 0)
		fds_received(message);
	return result;
}

EXPORT int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout)
{
	int result = REAL(recvmmsg, int (*)(int, struct mmsghdr *, unsigned, int, struct timespec *))(
		fd, messages, count, flags, timeout);

	for (int i = 0; i < result; i++)
		fds_received(&messages[i].msg_hdr);
	return result;
}

#define DEFINE_FCNTL(name)                                                                                         \
	EXPORT int name(int fd, int command, ...);                                                                 \
	EXPORT int name(int fd, int command, ...)                                                                  \
	{                                                                                                          \
		unsigned long argument;                                                                            \
		va_list list;                                                                                      \
                                                                                                                   \
		va_start(list, command);                                                                           \
		argument = va_arg(list, unsigned long);                                                            \
		va_end(list);                                                                                      \
		if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)                                              \
			return (int)sys_result(fds_dup(SYS_fcntl, fd, (int)argument, command));                    \
		if (fds_fcntl_refused(fd, command))                                                                \
			return errno = EINVAL, -1;                                                                 \
		return REAL(name, int (*)(int, int, ...))(fd, command, argument);                                  \
	}

// clang-format off
DEFINE_FCNTL(fcntl)
DEFINE_FCNTL(fcntl64)
// clang-format on

/* libc closes the descriptor without calling our close. */
EXPORT int fclose(FILE *stream)
{
	if (file_table_is_ours())
		file_forget(fileno(stream));
	return REAL(fclose, int (*)(FILE *))(stream);
}

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	return (int)sys_result(fds_close_range(first, last, (unsigned)flags));
}

EXPORT void closefrom(int first)
{
	fds_close_range(first < 0 ? 0 : (unsigned)first, ~0u, 0);
}

/* ---- memory ------------------------------------------------------------------------------------ */

static void *address_result(long result)
{
	return (void *)sys_result(result); // NOLINT: the kernel's answer is an address, or -1
}

EXPORT void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	return address_result(mem_mmap(address, length, protection, flags, fd, offset));
}

EXPORT void *mmap64(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	return address_result(mem_mmap(address, length, protection, flags, fd, offset));
}

EXPORT int munmap(void *address, size_t length)
{
	return (int)sys_result(mem_munmap(address, length));
}

EXPORT void *mremap(void *address, size_t old_length, size_t length, int flags, ...)
{
	void *wanted;
	va_list list;

	va_start(list, flags);
	wanted = va_arg(list, void *);
	va_end(list);
	return address_result(mem_mremap(address, old_length, length, flags, wanted));
}

EXPORT int madvise(void *address, size_t length, int advice)
{
	return (int)sys_result(mem_madvise(address, length, advice));
}

EXPORT int mprotect(void *address, size_t length, int protection)
{
	return (int)sys_result(mem_mprotect(address, length, protection, -1));
}

EXPORT int pkey_mprotect(void *address, size_t length, int protection, int key)
{
	return (int)sys_result(mem_mprotect(address, length, protection, key));
}

/* ---- seccomp ----------------------------------------------------------------------------------- */

/*
 * seccomp(2) and prctl(PR_SET_SECCOMP) forbid a thread, or all of them, most system calls. Programs also make them in
 * order to fail, to see what the kernel knows.
 */
static bool forbids_calls(long number, const long a[6])
{
	return number == SYS_seccomp || (number == SYS_prctl && a[0] == PR_SET_SECCOMP);
}

static long call_seccomp(long number, const long a[6])
{
	long result;

	delay_forbid();
	result = SYS5(number, a[0], a[1], a[2], a[3], a[4]);
	if (result < 0 || (number == SYS_seccomp && a[0] > SECCOMP_SET_MODE_FILTER))
		delay_allow();
	return result;
}

EXPORT int prctl(int option, ...)
{
	long a[6] = { option };
	va_list list;

	va_start(list, option);
	for (int i = 1; i < 5; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if (forbids_calls(SYS_prctl, a))
		return (int)sys_result(call_seccomp(SYS_prctl, a));
	return REAL(prctl, int (*)(int, ...))(option, a[1], a[2], a[3], a[4]);
}

/* ---- syscall(2) -------------------------------------------------------------------------------- */

long syscall_ours(long number, const long a[6])
{
	long result;

	// NOLINTBEGIN: the arguments are addresses
	switch (number) {
	case SYS_ioctl:
		return fds_ioctl((int)a[0], (unsigned long)a[1], (unsigned long)a[2]);
	case SYS_recvmsg:
		result = SYS3(number, a[0], a[1], a[2]);
		if (result >= 0)
			fds_received((struct msghdr *)a[1]);
		return result;
	case SYS_close:
		return fds_close((int)a[0]);
	case SYS_close_range:
		return fds_close_range((unsigned)a[0], (unsigned)a[1], (unsigned)a[2]);
	case SYS_dup:
		return fds_dup(number, (int)a[0], 0, 0);
	case SYS_dup2:
	case SYS_dup3:
		return fds_dup(number, (int)a[0], (int)a[1], (int)a[2]);
	case SYS_fcntl:
		if (a[1] == F_DUPFD || a[1] == F_DUPFD_CLOEXEC)
			return fds_dup(number, (int)a[0], (int)a[2], (int)a[1]);
		return fds_fcntl_refused((int)a[0], (int)a[1]) ? -EINVAL : SYS3(number, a[0], a[1], a[2]);
	case SYS_mmap:
		return mem_mmap((void *)a[0], (size_t)a[1], (int)a[2], (int)a[3], (int)a[4], a[5]);
	case SYS_munmap:
		return mem_munmap((void *)a[0], (size_t)a[1]);
	case SYS_mremap:
		return mem_mremap((void *)a[0], (size_t)a[1], (size_t)a[2], (int)a[3], (void *)a[4]);
	case SYS_madvise:
		return mem_madvise((void *)a[0], (size_t)a[1], (int)a[2]);
	case SYS_mprotect:
		return mem_mprotect((void *)a[0], (size_t)a[1], (int)a[2], -1);
	case SYS_pkey_mprotect:
		return mem_mprotect((void *)a[0], (size_t)a[1], (int)a[2], (int)a[3]);
	case SYS_io_uring_setup:
		return uring_setup((unsigned)a[0], (unsigned long)a[1]);
	case SYS_seccomp:
	case SYS_prctl:
		return forbids_calls(number, a) ? call_seccomp(number, a) :
		       SYS5(number, a[0], a[1], a[2], a[3], a[4]);
	default:
		if (syscall_path(number, a, &result) || syscall_file(number, a, &result) ||
		    syscall_exec(number, a, &result) || syscall_signal(number, a, &result))
			return result;
		return SYS6(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	}
	// NOLINTEND
}

EXPORT long syscall(long number, ...)
{
	long a[6];
	va_list list;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	return sys_result(syscall_ours(number, a));
}
