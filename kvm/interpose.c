/* SPDX-License-Identifier: MIT */
/* The exported names: thin, each turns libc's calling convention into ours. */
#include "kvm/interpose.h"
#include "kvm/file.h"
#include "kvm/stats.h"
#include "kvm/sys.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

void *real_find(void **cache, const char *name)
{
	void *found = __atomic_load_n(cache, __ATOMIC_RELAXED);

	if (!found) {
		found = dlsym(RTLD_NEXT, name);
		__atomic_store_n(cache, found, __ATOMIC_RELAXED);
	}
	return found;
}

/* ---- open -------------------------------------------------------------------------------------- */

typedef int open_fn(const char *, int, ...);
typedef int openat_fn(int, const char *, int, ...);
typedef int open_2_fn(const char *, int);
typedef int openat_2_fn(int, const char *, int);

static mode_t mode_argument(int flags, va_list *list)
{
	return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(*list, mode_t) : 0;
}

#define DEFINE_OPEN(name)                                                                                          \
	EXPORT int name(const char *path, int flags, ...);                                                         \
	EXPORT int name(const char *path, int flags, ...)                                                          \
	{                                                                                                          \
		va_list list;                                                                                      \
		mode_t mode;                                                                                       \
                                                                                                                   \
		if (fds_is_kvm_path(path))                                                                         \
			return (int)sys_result(fds_open_kvm(flags));                                               \
		va_start(list, flags);                                                                             \
		mode = mode_argument(flags, &list);                                                                \
		va_end(list);                                                                                      \
		return REAL(name, open_fn *)(path, flags, mode);                                                   \
	}

#define DEFINE_OPENAT(name)                                                                                        \
	EXPORT int name(int directory, const char *path, int flags, ...);                                          \
	EXPORT int name(int directory, const char *path, int flags, ...)                                           \
	{                                                                                                          \
		va_list list;                                                                                      \
		mode_t mode;                                                                                       \
                                                                                                                   \
		if (fds_is_kvm_path(path))                                                                         \
			return (int)sys_result(fds_open_kvm(flags));                                               \
		va_start(list, flags);                                                                             \
		mode = mode_argument(flags, &list);                                                                \
		va_end(list);                                                                                      \
		return REAL(name, openat_fn *)(directory, path, flags, mode);                                      \
	}

/* The fortified forms, without a mode. */
#define DEFINE_OPEN_2(name)                                                                                        \
	EXPORT int name(const char *path, int flags);                                                              \
	EXPORT int name(const char *path, int flags)                                                               \
	{                                                                                                          \
		if (fds_is_kvm_path(path))                                                                         \
			return (int)sys_result(fds_open_kvm(flags));                                               \
		return REAL(name, open_2_fn *)(path, flags);                                                       \
	}

#define DEFINE_OPENAT_2(name)                                                                                      \
	EXPORT int name(int directory, const char *path, int flags);                                               \
	EXPORT int name(int directory, const char *path, int flags)                                                \
	{                                                                                                          \
		if (fds_is_kvm_path(path))                                                                         \
			return (int)sys_result(fds_open_kvm(flags));                                               \
		return REAL(name, openat_2_fn *)(directory, path, flags);                                          \
	}

// clang-format off
DEFINE_OPEN(open)
DEFINE_OPEN(open64)
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)
DEFINE_OPEN_2(__open_2)
DEFINE_OPEN_2(__open64_2)
DEFINE_OPENAT_2(__openat_2)
DEFINE_OPENAT_2(__openat64_2)
// clang-format on

/* A program that looks before it opens. */
EXPORT int access(const char *path, int mode)
{
	if (fds_is_kvm_path(path))
		return mode & X_OK ? (errno = EACCES, -1) : 0;
	return REAL(access, int (*)(const char *, int))(path, mode);
}

EXPORT int faccessat(int directory, const char *path, int mode, int flags)
{
	if (fds_is_kvm_path(path))
		return mode & X_OK ? (errno = EACCES, -1) : 0;
	return REAL(faccessat, int (*)(int, const char *, int, int))(directory, path, mode, flags);
}

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
		return REAL(name, int (*)(int, int, ...))(fd, command, argument);                                  \
	}

// clang-format off
DEFINE_FCNTL(fcntl)
DEFINE_FCNTL(fcntl64)
// clang-format on

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	return (int)sys_result(fds_close_range(first, last, (unsigned)flags));
}

EXPORT void closefrom(int first)
{
	fds_close_range(first < 0 ? 0 : (unsigned)first, ~0u, 0);
}

/* Statistics are numbers of the moment when they are read. */
EXPORT ssize_t read(int fd, void *buffer, size_t bytes)
{
	if (atomic_load_explicit(&file_stats_count, memory_order_relaxed))
		stats_refresh(fd);
	return REAL(read, ssize_t(*)(int, void *, size_t))(fd, buffer, bytes);
}

#define DEFINE_PREAD(name)                                                                                         \
	EXPORT ssize_t name(int fd, void *buffer, size_t bytes, off_t offset)                                      \
	{                                                                                                          \
		if (atomic_load_explicit(&file_stats_count, memory_order_relaxed))                                 \
			stats_refresh(fd);                                                                         \
		return REAL(name, ssize_t(*)(int, void *, size_t, off_t))(fd, buffer, bytes, offset);              \
	}

// clang-format off
DEFINE_PREAD(pread)
DEFINE_PREAD(pread64)
// clang-format on

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

EXPORT int fallocate(int fd, int mode, off_t offset, off_t length)
{
	return (int)sys_result(mem_fallocate(fd, mode, offset, length));
}

EXPORT int fallocate64(int fd, int mode, off_t offset, off_t length)
{
	return (int)sys_result(mem_fallocate(fd, mode, offset, length));
}

EXPORT int ftruncate(int fd, off_t length)
{
	return (int)sys_result(mem_ftruncate(fd, length));
}

EXPORT int ftruncate64(int fd, off_t length)
{
	return (int)sys_result(mem_ftruncate(fd, length));
}

/* ---- syscall(2) -------------------------------------------------------------------------------- */

static long syscall_ours(long number, const long a[6])
{
	// NOLINTBEGIN: the arguments are addresses
	switch (number) {
	case SYS_ioctl:
		return fds_ioctl((int)a[0], (unsigned long)a[1], (unsigned long)a[2]);
	case SYS_open:
		return fds_is_kvm_path((const char *)a[0]) ? fds_open_kvm((int)a[1])
		                                           : SYS3(number, a[0], a[1], a[2]);
	case SYS_openat:
		return fds_is_kvm_path((const char *)a[1]) ? fds_open_kvm((int)a[2])
		                                           : SYS4(number, a[0], a[1], a[2], a[3]);
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
		return SYS3(number, a[0], a[1], a[2]);
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
	case SYS_fallocate:
		return mem_fallocate((int)a[0], (int)a[1], a[2], a[3]);
	case SYS_ftruncate:
		return mem_ftruncate((int)a[0], a[1]);
	default:
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
