/* SPDX-License-Identifier: MIT */
/*
 * The exported functions that read, write or change a file. KVM's files refuse them all, except that statistics
 * can be read. Memfds are behind our files and would allow them.
 */
#include "kvm/process/file.h"
#include "kvm/interpose/interpose.h"
#include "kvm/report/stats.h"
#include "kvm/process/sys.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/*
 * The answer for a descriptor of ours: `of_statistics` for a statistics file, `of_other` for another. 0 if it is
 * not ours.
 */
static long answer(int fd, long of_statistics, long of_other)
{
	struct file *file = file_get(fd);
	long error;

	if (!file)
		return 0;
	error = file->kind == FILE_STATS ? of_statistics : of_other;
	file_put(file);
	return error;
}

/* A statistics file is brought up to date before it is read. */
static long statistics_or(int fd, long error)
{
	if (atomic_load_explicit(&file_stats_count, memory_order_relaxed))
		stats_refresh(fd);
	return answer(fd, 0, error);
}

static long refuse_read(int fd)
{
	return statistics_or(fd, -EINVAL);
}

/* The errors of KVM's files: anonymous files have no position to read at, and the device has no read. */
static long at_refusal(int fd)
{
	struct file *file = file_get(fd);
	bool device = file && file->kind == FILE_SYSTEM;

	if (file)
		file_put(file);
	return device ? -EINVAL : -ESPIPE;
}

static long refuse_read_at(int fd)
{
	return fds_is_kvm(fd) ? statistics_or(fd, at_refusal(fd)) : 0;
}

static long refuse_write(int fd)
{
	return answer(fd, -EBADF, -EINVAL);
}

static long refuse_write_at(int fd)
{
	return fds_is_kvm(fd) ? answer(fd, -EBADF, at_refusal(fd)) : 0;
}

static long refuse_sync(int fd)
{
	return answer(fd, -EINVAL, -EINVAL);
}

static long refuse_change(int fd)
{
	return answer(fd, -EPERM, -EPERM);
}

/* name(fd, ...): fails with the error of `refuse`, or else calls the next library. */
#define DEFINE_REFUSED(name, type, refuse, parameters, arguments)                                                  \
	EXPORT type name parameters;                                                                               \
	EXPORT type name parameters                                                                                \
	{                                                                                                          \
		long error = refuse(fd);                                                                           \
                                                                                                                   \
		return error ? (type)sys_result(error) : REAL(name, type(*) parameters) arguments;                 \
	}

// clang-format off
DEFINE_REFUSED(read, ssize_t, refuse_read, (int fd, void *to, size_t bytes), (fd, to, bytes))
DEFINE_REFUSED(__read_chk, ssize_t, refuse_read, (int fd, void *to, size_t bytes, size_t room), (fd, to, bytes, room))
DEFINE_REFUSED(pread, ssize_t, refuse_read_at, (int fd, void *to, size_t bytes, off_t at), (fd, to, bytes, at))
DEFINE_REFUSED(pread64, ssize_t, refuse_read_at, (int fd, void *to, size_t bytes, off_t at), (fd, to, bytes, at))
DEFINE_REFUSED(__pread_chk, ssize_t, refuse_read_at, (int fd, void *to, size_t bytes, off_t at, size_t room),
               (fd, to, bytes, at, room))
DEFINE_REFUSED(__pread64_chk, ssize_t, refuse_read_at, (int fd, void *to, size_t bytes, off_t at, size_t room),
               (fd, to, bytes, at, room))
DEFINE_REFUSED(readv, ssize_t, refuse_read, (int fd, const struct iovec *to, int count), (fd, to, count))
DEFINE_REFUSED(preadv, ssize_t, refuse_read_at, (int fd, const struct iovec *to, int count, off_t at),
               (fd, to, count, at))
DEFINE_REFUSED(preadv64, ssize_t, refuse_read_at, (int fd, const struct iovec *to, int count, off_t at),
               (fd, to, count, at))
DEFINE_REFUSED(preadv2, ssize_t, refuse_read_at, (int fd, const struct iovec *to, int count, off_t at, int flags),
               (fd, to, count, at, flags))
DEFINE_REFUSED(preadv64v2, ssize_t, refuse_read_at, (int fd, const struct iovec *to, int count, off_t at, int flags),
               (fd, to, count, at, flags))
DEFINE_REFUSED(write, ssize_t, refuse_write, (int fd, const void *from, size_t bytes), (fd, from, bytes))
DEFINE_REFUSED(pwrite, ssize_t, refuse_write_at, (int fd, const void *from, size_t bytes, off_t at),
               (fd, from, bytes, at))
DEFINE_REFUSED(pwrite64, ssize_t, refuse_write_at, (int fd, const void *from, size_t bytes, off_t at),
               (fd, from, bytes, at))
DEFINE_REFUSED(writev, ssize_t, refuse_write, (int fd, const struct iovec *from, int count), (fd, from, count))
DEFINE_REFUSED(pwritev, ssize_t, refuse_write_at, (int fd, const struct iovec *from, int count, off_t at),
               (fd, from, count, at))
DEFINE_REFUSED(pwritev64, ssize_t, refuse_write_at, (int fd, const struct iovec *from, int count, off_t at),
               (fd, from, count, at))
DEFINE_REFUSED(pwritev2, ssize_t, refuse_write_at, (int fd, const struct iovec *from, int count, off_t at, int flags),
               (fd, from, count, at, flags))
DEFINE_REFUSED(pwritev64v2, ssize_t, refuse_write_at,
               (int fd, const struct iovec *from, int count, off_t at, int flags), (fd, from, count, at, flags))
DEFINE_REFUSED(fsync, int, refuse_sync, (int fd), (fd))
DEFINE_REFUSED(fdatasync, int, refuse_sync, (int fd), (fd))
DEFINE_REFUSED(fchmod, int, refuse_change, (int fd, mode_t mode), (fd, mode))
DEFINE_REFUSED(fchown, int, refuse_change, (int fd, uid_t user, gid_t group), (fd, user, group))
// clang-format on

/* KVM's files have no position: lseek answers 0 for any. */
static bool has_no_position(int fd)
{
	return answer(fd, 0, 1);
}

#define DEFINE_LSEEK(name)                                                                                         \
	EXPORT off_t name(int fd, off_t offset, int whence)                                                        \
	{                                                                                                          \
		if (has_no_position(fd))                                                                           \
			return 0;                                                                                  \
		return REAL(name, off_t(*)(int, off_t, int))(fd, offset, whence);                                  \
	}

// clang-format off
DEFINE_LSEEK(lseek)
DEFINE_LSEEK(lseek64)
// clang-format on

static long file_allocate(int fd, int mode, off_t offset, off_t length)
{
	return fds_is_kvm(fd) ? -ENODEV : mem_fallocate(fd, mode, offset, length);
}

EXPORT int fallocate(int fd, int mode, off_t offset, off_t length)
{
	return (int)sys_result(file_allocate(fd, mode, offset, length));
}

EXPORT int fallocate64(int fd, int mode, off_t offset, off_t length)
{
	return (int)sys_result(file_allocate(fd, mode, offset, length));
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

bool syscall_file(long number, const long a[6], long *result)
{
	int fd = (int)a[0];

	switch (number) {
	case SYS_read:
	case SYS_readv:
		*result = refuse_read(fd);
		break;
	case SYS_pread64:
	case SYS_preadv:
	case SYS_preadv2:
		*result = refuse_read_at(fd);
		break;
	case SYS_write:
	case SYS_writev:
		*result = refuse_write(fd);
		break;
	case SYS_pwrite64:
	case SYS_pwritev:
	case SYS_pwritev2:
		*result = refuse_write_at(fd);
		break;
	case SYS_fsync:
	case SYS_fdatasync:
		*result = refuse_sync(fd);
		break;
	case SYS_fchmod:
	case SYS_fchown:
		*result = refuse_change(fd);
		break;
	case SYS_lseek:
		*result = 0;
		if (has_no_position(fd))
			return true;
		break;
	case SYS_fallocate:
		*result = file_allocate(fd, (int)a[1], a[2], a[3]);
		return true;
	case SYS_ftruncate:
		*result = mem_ftruncate(fd, a[1]);
		return true;
	default:
		return false;
	}
	if (*result == 0)
		*result = SYS6(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	return true;
}
