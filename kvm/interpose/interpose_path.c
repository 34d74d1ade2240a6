/* SPDX-License-Identifier: MIT */
/* The exported functions that take a file's name. Each asks path.c, before it calls the next library or after. */
#include "kvm/process/file.h"
#include "kvm/interpose/interpose.h"
#include "kvm/interpose/path.h"
#include "kvm/process/sys.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- open -------------------------------------------------------------------------------------- */

typedef int open_fn(const char *, int, ...);
typedef int openat_fn(int, const char *, int, ...);
typedef int open_2_fn(const char *, int);
typedef int openat_2_fn(int, const char *, int);
typedef int creat_fn(const char *, mode_t);

#define CREAT_FLAGS (O_CREAT | O_WRONLY | O_TRUNC)

static mode_t mode_argument(int flags, va_list *list)
{
	return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(*list, mode_t) : 0;
}

/* The body of all functions that open. `call` calls the next library. */
#define OPEN(directory, path, flags, call)                                                                         \
	(int)sys_result(path_open_is_kvm(directory, path, flags)                                                   \
	                        ? fds_open_kvm(flags)                                                              \
	                        : path_opened(libc_result(call), directory, path, flags))

/*
 * A function that opens and may get a mode: its name and parameters, its type, the directory that a relative path
 * begins in, and the arguments for the next library.
 */
#define DEFINE_OPEN(name, parameters, type, directory, arguments)                                                  \
	EXPORT int name parameters;                                                                                \
	EXPORT int name parameters                                                                                 \
	{                                                                                                          \
		va_list list;                                                                                      \
		mode_t mode;                                                                                       \
                                                                                                                   \
		va_start(list, flags);                                                                             \
		mode = mode_argument(flags, &list);                                                                \
		va_end(list);                                                                                      \
		return OPEN(directory, path, flags, REAL(name, type *) arguments);                                 \
	}

/* The same for a function that gets no mode. `how`: the flags. */
#define DEFINE_OPEN_FIXED(name, parameters, type, directory, how, arguments)                                       \
	EXPORT int name parameters;                                                                                \
	EXPORT int name parameters                                                                                 \
	{                                                                                                          \
		return OPEN(directory, path, how, REAL(name, type *) arguments);                                   \
	}

// clang-format off
DEFINE_OPEN(open, (const char *path, int flags, ...), open_fn, AT_FDCWD, (path, flags, mode))
DEFINE_OPEN(open64, (const char *path, int flags, ...), open_fn, AT_FDCWD, (path, flags, mode))
DEFINE_OPEN(openat, (int directory, const char *path, int flags, ...), openat_fn, directory,
            (directory, path, flags, mode))
DEFINE_OPEN(openat64, (int directory, const char *path, int flags, ...), openat_fn, directory,
            (directory, path, flags, mode))

/* The fortified forms. */
DEFINE_OPEN_FIXED(__open_2, (const char *path, int flags), open_2_fn, AT_FDCWD, flags, (path, flags))
DEFINE_OPEN_FIXED(__open64_2, (const char *path, int flags), open_2_fn, AT_FDCWD, flags, (path, flags))
DEFINE_OPEN_FIXED(__openat_2, (int directory, const char *path, int flags), openat_2_fn, directory, flags,
                  (directory, path, flags))
DEFINE_OPEN_FIXED(__openat64_2, (int directory, const char *path, int flags), openat_2_fn, directory, flags,
                  (directory, path, flags))

DEFINE_OPEN_FIXED(creat, (const char *path, mode_t mode), creat_fn, AT_FDCWD, CREAT_FLAGS, (path, mode))
DEFINE_OPEN_FIXED(creat64, (const char *path, mode_t mode), creat_fn, AT_FDCWD, CREAT_FLAGS, (path, mode))
// clang-format on

/* ---- stdio ------------------------------------------------------------------------------------- */

/* The flags of a mode such as "r+e". */
static int mode_flags(const char *mode)
{
	int flags = strchr(mode, '+') ? O_RDWR : *mode == 'r' ? O_RDONLY : O_WRONLY;

	if (*mode == 'w')
		flags |= O_CREAT | O_TRUNC;
	else if (*mode == 'a')
		flags |= O_CREAT | O_APPEND;
	return flags | (strchr(mode, 'e') ? O_CLOEXEC : 0) | (strchr(mode, 'x') ? O_EXCL : 0);
}

static FILE *stream_of(long fd, const char *mode)
{
	FILE *stream;

	if (sys_result(fd) < 0)
		return NULL;
	stream = fdopen((int)fd, mode);
	if (!stream)
		fds_close((int)fd);
	return stream;
}

/* The next library may have opened /dev/kvm by another name, or failed because the machine has none. */
static FILE *stream_opened(FILE *stream, const char *path, const char *mode)
{
	struct stat st;

	if (!stream)
		return path_leads_to_kvm(AT_FDCWD, path) ? stream_of(fds_open_kvm(mode_flags(mode)), mode) : NULL;
	if (SYS2(SYS_fstat, fileno(stream), &st) != 0 || !path_stat_is_device(&st))
		return stream;
	fclose(stream);
	return stream_of(fds_open_kvm(mode_flags(mode)), mode);
}

#define DEFINE_FOPEN(name)                                                                                         \
	EXPORT FILE *name(const char *path, const char *mode)                                                      \
	{                                                                                                          \
		FILE *stream;                                                                                      \
		int error;                                                                                         \
                                                                                                                   \
		if (path_open_is_kvm(AT_FDCWD, path, mode_flags(mode)))                                            \
			return stream_of(fds_open_kvm(mode_flags(mode)), mode);                                    \
		stream = REAL(name, FILE *(*)(const char *, const char *))(path, mode);                            \
		error = errno;                                                                                     \
		stream = stream_opened(stream, path, mode);                                                        \
		if (!stream)                                                                                       \
			errno = error;                                                                             \
		return stream;                                                                                     \
	}

/* The stream stays, and our descriptor is put under its number. */
#define DEFINE_FREOPEN(name)                                                                                       \
	EXPORT FILE *name(const char *path, const char *mode, FILE *stream)                                        \
	{                                                                                                          \
		FILE *(*next)(const char *, const char *, FILE *) = REAL(name, FILE *(*)(const char *,             \
		                                                         const char *, FILE *));                   \
		long ours;                                                                                         \
                                                                                                                   \
		if (file_table_is_ours())                                                                          \
			file_forget(fileno(stream));                                                               \
		if (!path || !path_leads_to_kvm(AT_FDCWD, path))                                                   \
			return next(path, mode, stream); /* takes no lock of ours */                               \
		ours = sys_result(fds_open_kvm(mode_flags(mode)));                                                 \
		stream = ours < 0 ? NULL : next("/dev/null", mode, stream); /* takes no lock of ours */             \
		if (stream && dup2((int)ours, fileno(stream)) < 0)                                                 \
			stream = NULL;                                                                             \
		if (ours >= 0)                                                                                     \
			fds_close((int)ours);                                                                      \
		return stream;                                                                                     \
	}

// clang-format off
DEFINE_FOPEN(fopen)
DEFINE_FOPEN(fopen64)
DEFINE_FREOPEN(freopen)
DEFINE_FREOPEN(freopen64)
// clang-format on

/* ---- stat -------------------------------------------------------------------------------------- */

static bool stat_is_by_name(int directory, const char *path, struct stat *st)
{
	if (!path_is_kvm(directory, path))
		return false;
	path_stat_kvm(st);
	return true;
}

#define STAT(directory, path, flags, st, call)                                                                     \
	(stat_is_by_name(directory, path, st)                                                                      \
	         ? 0                                                                                               \
	         : (int)sys_result(path_stat(libc_result(call), directory, path, flags, st)))

/*
 * struct stat64 is struct stat on a 64-bit machine. But the prototypes differ, so each function gets the type of
 * its own.
 */
_Static_assert(sizeof(struct stat) == sizeof(struct stat64), "one layout");

#define DEFINE_STAT(name, type, flags)                                                                             \
	EXPORT int name(const char *path, type *st)                                                                \
	{                                                                                                          \
		return STAT(AT_FDCWD, path, flags, (struct stat *)st,                                              \
		            REAL(name, int (*)(const char *, type *))(path, st));                                  \
	}

#define DEFINE_FSTAT(name, type)                                                                                   \
	EXPORT int name(int fd, type *st)                                                                          \
	{                                                                                                          \
		return (int)sys_result(path_stat(libc_result(REAL(name, int (*)(int, type *))(fd, st)), fd, "",    \
		                                 AT_EMPTY_PATH, (struct stat *)st));                               \
	}

#define DEFINE_FSTATAT(name, type)                                                                                 \
	EXPORT int name(int directory, const char *path, type *st, int flags)                                      \
	{                                                                                                          \
		return STAT(directory, path, flags, (struct stat *)st,                                             \
		            REAL(name, int (*)(int, const char *, type *, int))(directory, path, st, flags));      \
	}

// clang-format off
DEFINE_STAT(stat, struct stat, 0)
DEFINE_STAT(stat64, struct stat64, 0)
DEFINE_STAT(lstat, struct stat, AT_SYMLINK_NOFOLLOW)
DEFINE_STAT(lstat64, struct stat64, AT_SYMLINK_NOFOLLOW)
DEFINE_FSTAT(fstat, struct stat)
DEFINE_FSTAT(fstat64, struct stat64)
DEFINE_FSTATAT(fstatat, struct stat)
DEFINE_FSTATAT(fstatat64, struct stat64)
// clang-format on

/* The functions that programs built before glibc 2.33 call. */
#define DEFINE_OLD_STAT(name, now, what, type)                                                                     \
	EXPORT int name(int version, what, type *st);                                                              \
	EXPORT int name(int version, what, type *st)                                                               \
	{                                                                                                          \
		(void)version;                                                                                     \
		return now(path, st);                                                                              \
	}

#define DEFINE_OLD_FSTATAT(name, now, type)                                                                        \
	EXPORT int name(int version, int directory, const char *path, type *st, int flags);                        \
	EXPORT int name(int version, int directory, const char *path, type *st, int flags)                         \
	{                                                                                                          \
		(void)version;                                                                                     \
		return now(directory, path, st, flags);                                                            \
	}

// clang-format off
DEFINE_OLD_STAT(__xstat, stat, const char *path, struct stat)
DEFINE_OLD_STAT(__xstat64, stat64, const char *path, struct stat64)
DEFINE_OLD_STAT(__lxstat, lstat, const char *path, struct stat)
DEFINE_OLD_STAT(__lxstat64, lstat64, const char *path, struct stat64)
DEFINE_OLD_STAT(__fxstat, fstat, int path, struct stat)
DEFINE_OLD_STAT(__fxstat64, fstat64, int path, struct stat64)
DEFINE_OLD_FSTATAT(__fxstatat, fstatat, struct stat)
DEFINE_OLD_FSTATAT(__fxstatat64, fstatat64, struct stat64)
// clang-format on

static bool statx_is_by_name(int directory, const char *path, struct statx *stx)
{
	if (!path_is_kvm(directory, path))
		return false;
	path_statx_kvm(stx);
	return true;
}

EXPORT int statx(int directory, const char *path, int flags, unsigned mask, struct statx *stx)
{
	long result;

	if (statx_is_by_name(directory, path, stx))
		return 0;
	result = REAL(statx, int (*)(int, const char *, int, unsigned, struct statx *))(directory, path, flags, mask,
	                                                                                stx);
	return (int)sys_result(path_statx(libc_result(result), directory, path, flags, stx));
}

/* ---- access, readlink, realpath ---------------------------------------------------------------- */

#define ACCESS(directory, path, mode, flags, call)                                                                 \
	(int)sys_result(path_is_kvm(directory, path)                                                               \
	                        ? path_access_kvm(mode)                                                            \
	                        : path_access(libc_result(call), directory, path, mode, flags))

#define DEFINE_ACCESS(name)                                                                                        \
	EXPORT int name(const char *path, int mode)                                                                \
	{                                                                                                          \
		return ACCESS(AT_FDCWD, path, mode, 0, REAL(name, int (*)(const char *, int))(path, mode));        \
	}

// clang-format off
DEFINE_ACCESS(access)
DEFINE_ACCESS(euidaccess)
DEFINE_ACCESS(eaccess)
// clang-format on

EXPORT int faccessat(int directory, const char *path, int mode, int flags)
{
	return ACCESS(directory, path, mode, flags,
	              REAL(faccessat, int (*)(int, const char *, int, int))(directory, path, mode, flags));
}

/* /dev/kvm is a device and no link. */
#define READLINK(directory, path, buffer, call)                                                                    \
	sys_result(path_is_kvm(directory, path) ? -EINVAL : path_readlink(libc_result(call), buffer))

EXPORT ssize_t readlink(const char *path, char *buffer, size_t bytes)
{
	return READLINK(AT_FDCWD, path, buffer,
	                REAL(readlink, ssize_t(*)(const char *, char *, size_t))(path, buffer, bytes));
}

EXPORT ssize_t readlinkat(int directory, const char *path, char *buffer, size_t bytes)
{
	return READLINK(directory, path, buffer,
	                REAL(readlinkat, ssize_t(*)(int, const char *, char *, size_t))(directory, path, buffer,
	                                                                                bytes));
}

/* Fortified: the caller has room for `bytes`. */
EXPORT ssize_t __readlink_chk(const char *path, char *buffer, size_t bytes, size_t room);
EXPORT ssize_t __readlink_chk(const char *path, char *buffer, size_t bytes, size_t room)
{
	if (bytes > room)
		abort();
	return readlink(path, buffer, bytes);
}

EXPORT ssize_t __readlinkat_chk(int directory, const char *path, char *buffer, size_t bytes, size_t room);
EXPORT ssize_t __readlinkat_chk(int directory, const char *path, char *buffer, size_t bytes, size_t room)
{
	if (bytes > room)
		abort();
	return readlinkat(directory, path, buffer, bytes);
}

static char *kvm_name(char *resolved)
{
	return resolved ? strcpy(resolved, "/dev/kvm") : strdup("/dev/kvm");
}

EXPORT char *realpath(const char *path, char *resolved)
{
	return path_leads_to_kvm(AT_FDCWD, path) ? kvm_name(resolved)
	                                         : REAL(realpath, char *(*)(const char *, char *))(path, resolved);
}

EXPORT char *canonicalize_file_name(const char *path)
{
	return realpath(path, NULL);
}

EXPORT char *__realpath_chk(const char *path, char *resolved, size_t room);
EXPORT char *__realpath_chk(const char *path, char *resolved, size_t room)
{
	if (room < PATH_MAX)
		abort();
	return realpath(path, resolved);
}

/* ---- what would change the device -------------------------------------------------------------- */

/* Our /dev/kvm has no owner and no mode to change, and the client must not reach the machine's. */
#define REFUSED(directory, path, follow)                                                                           \
	if (follow ? path_leads_to_kvm(directory, path) : path_is_kvm(directory, path)) {                          \
		errno = EPERM;                                                                                     \
		return -1;                                                                                         \
	}

EXPORT int chmod(const char *path, mode_t mode)
{
	REFUSED(AT_FDCWD, path, true)
	return REAL(chmod, int (*)(const char *, mode_t))(path, mode);
}

EXPORT int fchmodat(int directory, const char *path, mode_t mode, int flags)
{
	REFUSED(directory, path, !(flags & AT_SYMLINK_NOFOLLOW))
	return REAL(fchmodat, int (*)(int, const char *, mode_t, int))(directory, path, mode, flags);
}

EXPORT int chown(const char *path, uid_t user, gid_t group)
{
	REFUSED(AT_FDCWD, path, true)
	return REAL(chown, int (*)(const char *, uid_t, gid_t))(path, user, group);
}

EXPORT int lchown(const char *path, uid_t user, gid_t group)
{
	REFUSED(AT_FDCWD, path, false)
	return REAL(lchown, int (*)(const char *, uid_t, gid_t))(path, user, group);
}

EXPORT int fchownat(int directory, const char *path, uid_t user, gid_t group, int flags)
{
	REFUSED(directory, path, !(flags & AT_SYMLINK_NOFOLLOW))
	return REAL(fchownat, int (*)(int, const char *, uid_t, gid_t, int))(directory, path, user, group, flags);
}

/* ---- syscall(2) -------------------------------------------------------------------------------- */

static long syscall_open(int directory, const char *path, int flags, long number, const long a[6])
{
	if (path_open_is_kvm(directory, path, flags))
		return fds_open_kvm(flags);
	return path_opened(SYS6(number, a[0], a[1], a[2], a[3], a[4], a[5]), directory, path, flags);
}

static long syscall_stat(int directory, const char *path, int flags, struct stat *st, long number, const long a[6])
{
	if (stat_is_by_name(directory, path, st))
		return 0;
	return path_stat(SYS6(number, a[0], a[1], a[2], a[3], a[4], a[5]), directory, path, flags, st);
}

static long syscall_statx(const long a[6])
{
	struct statx *stx = (struct statx *)a[4]; // NOLINT: an address
	const char *path = (const char *)a[1];    // NOLINT: an address

	if (statx_is_by_name((int)a[0], path, stx))
		return 0;
	return path_statx(SYS5(SYS_statx, a[0], a[1], a[2], a[3], a[4]), (int)a[0], path, (int)a[2], stx);
}

static long syscall_access(int directory, const char *path, int mode, int flags, long number, const long a[6])
{
	if (path_is_kvm(directory, path))
		return path_access_kvm(mode);
	return path_access(SYS4(number, a[0], a[1], a[2], a[3]), directory, path, mode, flags);
}

static long syscall_readlink(int directory, const char *path, char *buffer, long number, const long a[6])
{
	if (path_is_kvm(directory, path))
		return -EINVAL;
	return path_readlink(SYS4(number, a[0], a[1], a[2], a[3]), buffer);
}

/* The same refusal for a call by number: 0 when it is none. */
static long syscall_change(int directory, const char *path, bool follow)
{
	return (follow ? path_leads_to_kvm(directory, path) : path_is_kvm(directory, path)) ? -EPERM : 0;
}

#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif

bool syscall_path(long number, const long a[6], long *result)
{
	// NOLINTBEGIN: the arguments are addresses
	const char *first = (const char *)a[0], *second = (const char *)a[1];

	switch (number) {
	case SYS_open:
		*result = syscall_open(AT_FDCWD, first, (int)a[1], number, a);
		return true;
	case SYS_creat:
		*result = syscall_open(AT_FDCWD, first, CREAT_FLAGS, number, a);
		return true;
	case SYS_openat:
		*result = syscall_open((int)a[0], second, (int)a[2], number, a);
		return true;
	case SYS_openat2:
		/* The first word of struct open_how is the flags, and only these concern us. */
		*result = syscall_open((int)a[0], second, a[2] ? (int)((const struct open_how *)a[2])->flags : 0,
		                       number, a);
		return true;
	case SYS_stat:
		*result = syscall_stat(AT_FDCWD, first, 0, (struct stat *)a[1], number, a);
		return true;
	case SYS_lstat:
		*result = syscall_stat(AT_FDCWD, first, AT_SYMLINK_NOFOLLOW, (struct stat *)a[1], number, a);
		return true;
	case SYS_fstat:
		*result = syscall_stat((int)a[0], "", AT_EMPTY_PATH, (struct stat *)a[1], number, a);
		return true;
	case SYS_newfstatat:
		*result = syscall_stat((int)a[0], second, (int)a[3], (struct stat *)a[2], number, a);
		return true;
	case SYS_statx:
		*result = syscall_statx(a);
		return true;
	case SYS_access:
		*result = syscall_access(AT_FDCWD, first, (int)a[1], 0, number, a);
		return true;
	case SYS_faccessat:
	case SYS_faccessat2:
		*result = syscall_access((int)a[0], second, (int)a[2], number == SYS_faccessat ? 0 : (int)a[3],
		                         number, a);
		return true;
	case SYS_readlink:
		*result = syscall_readlink(AT_FDCWD, first, (char *)a[1], number, a);
		return true;
	case SYS_readlinkat:
		*result = syscall_readlink((int)a[0], second, (char *)a[2], number, a);
		return true;
	case SYS_chmod:
	case SYS_chown:
		return (*result = syscall_change(AT_FDCWD, first, true)) != 0;
	case SYS_lchown:
		return (*result = syscall_change(AT_FDCWD, first, false)) != 0;
	case SYS_fchmodat:
	case SYS_fchownat:
		return (*result = syscall_change((int)a[0], second, true)) != 0;
	default:
		return false;
	}
	// NOLINTEND
}
