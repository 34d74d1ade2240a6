/* SPDX-License-Identifier: MIT */
#include "kvm/interpose/path.h"
#include "kvm/process/file.h"
#include "kvm/interpose/interpose.h"
#include "kvm/process/sys.h"
#include "kvm/interpose/watch.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>
#include <sys/sysmacros.h>

#define LINKS    40 /* as in the kernel */
#define MEMFD    "/memfd:"
#define DELETED  " (deleted)"
#define KVM_RDEV makedev(10, 232)

/*
 * May the name be read? All names of the client pass here first. One that is no address must be refused by the
 * kernel.
 */
static bool is_readable(const char *path)
{
	return (uintptr_t)path >= 4096 && (intptr_t)path > 0;
}

/* The length of the directory part of `path`: 0 without one. */
static size_t parent_length(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? (size_t)(slash - path) + 1 : 0;
}

static bool is_dev(int directory, const char *path, size_t length)
{
	char parent[PATH_MAX] = ".";
	struct stat it, dev;

	if (length >= sizeof(parent))
		return false;
	if (length) {
		memcpy(parent, path, length);
		parent[length] = '\0';
	}
	return SYS4(SYS_newfstatat, directory, parent, &it, 0) == 0 &&
	       SYS4(SYS_newfstatat, AT_FDCWD, "/dev", &dev, 0) == 0 && it.st_dev == dev.st_dev &&
	       it.st_ino == dev.st_ino;
}

bool path_is_kvm(int directory, const char *path)
{
	size_t length;

	if (!is_readable(path))
		return false;
	if (strcmp(path, "/dev/kvm") != 0) {
		length = parent_length(path);
		if (strcmp(path + length, "kvm") != 0 || !is_dev(directory, path, length))
			return false;
	}
	watch_tell();
	return true;
}

/*
 * Replace `path` by the target of the link that it names. Returns: false when it is no link, or the result is too
 * long.
 */
__attribute__((noinline)) static bool link_follow(int directory, char path[PATH_MAX])
{
	char target[PATH_MAX];
	size_t before = parent_length(path);
	long length = path_readlink(SYS4(SYS_readlinkat, directory, path, target, sizeof(target) - 1), target);

	if (length <= 0)
		return false;
	if (target[0] == '/')
		before = 0;
	if (before + (size_t)length >= PATH_MAX)
		return false;
	memcpy(path + before, target, (size_t)length);
	path[before + (size_t)length] = '\0';
	return true;
}

__attribute__((noinline)) static bool links_lead_to_kvm(int directory, const char *path)
{
	char now[PATH_MAX];

	if (strlen(path) >= sizeof(now))
		return false;
	strcpy(now, path);
	for (int i = 0; i < LINKS && link_follow(directory, now); i++)
		if (path_is_kvm(directory, now))
			return true;
	return false;
}

bool path_leads_to_kvm(int directory, const char *path)
{
	char first[1];

	if (path_is_kvm(directory, path))
		return true;
	/* Most names that fail do not exist at all. This readlink finds that out cheaply. */
	return is_readable(path) && *path && SYS4(SYS_readlinkat, directory, path, first, sizeof(first)) > 0 &&
	       links_lead_to_kvm(directory, path);
}

/* Errors that may only mean that the machine has no /dev/kvm, or none for this user. */
static bool may_be_missing(long error)
{
	return error == -ENOENT || error == -EACCES || error == -EPERM || error == -ENODEV || error == -ENXIO ||
	       error == -ENOTDIR;
}

bool path_stat_is_device(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == KVM_RDEV;
}

/* ---- open -------------------------------------------------------------------------------------- */

bool path_open_is_kvm(int directory, const char *path, int flags)
{
	return flags & O_CREAT && !(flags & O_NOFOLLOW) ? path_leads_to_kvm(directory, path)
	                                                : path_is_kvm(directory, path);
}

long path_opened(long result, int directory, const char *path, int flags)
{
	enum file_kind kind;
	struct stat st;

	if (result < 0)
		return may_be_missing(result) && !(flags & O_NOFOLLOW) && path_leads_to_kvm(directory, path)
		               ? fds_open_kvm(flags)
		               : result;
	if (SYS2(SYS_fstat, result, &st) != 0)
		return result;
	if (path_stat_is_device(&st)) {
		watch_tell();
		kind = FILE_SYSTEM;
	} else if (!file_find(&st, &kind)) {
		return result;
	}
	/* /dev/kvm is opened anew. KVM's other files have no name, so /proc/self/fd cannot open them. */
	SYS1(SYS_close, result);
	return kind == FILE_SYSTEM ? fds_open_kvm(flags) : -ENXIO;
}

/* ---- stat -------------------------------------------------------------------------------------- */

void path_stat_kvm(struct stat *st)
{
	struct stat dev;

	memset(st, 0, sizeof(*st));
	if (SYS4(SYS_newfstatat, AT_FDCWD, "/dev", &dev, 0) == 0) {
		st->st_dev = dev.st_dev;
		st->st_atim = dev.st_atim;
		st->st_mtim = dev.st_mtim;
		st->st_ctim = dev.st_ctim;
	}
	st->st_ino = 0x6b766d; /* an inode number that no other name in /dev is likely to have */
	st->st_mode = S_IFCHR | 0666;
	st->st_nlink = 1;
	st->st_rdev = KVM_RDEV;
	st->st_blksize = 4096;
}

/* Like an anonymous inode, which is what KVM's other files have. */
static void stat_anonymous(struct stat *st)
{
	st->st_mode = 0600;
	st->st_nlink = 1;
	st->st_size = 0;
	st->st_blocks = 0;
}

/* Change the kernel's answer for a file of ours into that for KVM's. */
static void stat_correct(struct stat *st)
{
	enum file_kind kind = FILE_SYSTEM;

	if (!path_stat_is_device(st) && !file_find(st, &kind))
		return;
	if (kind == FILE_SYSTEM)
		path_stat_kvm(st);
	else
		stat_anonymous(st);
}

long path_stat(long result, int directory, const char *path, int flags, struct stat *st)
{
	if (result == 0) {
		stat_correct(st);
	} else if (may_be_missing(result) && !(flags & AT_SYMLINK_NOFOLLOW) && path_leads_to_kvm(directory, path)) {
		path_stat_kvm(st);
		result = 0;
	}
	return result;
}

static struct statx_timestamp statx_time(struct timespec t)
{
	return (struct statx_timestamp){ .tv_sec = t.tv_sec, .tv_nsec = (uint32_t)t.tv_nsec };
}

static void statx_from(struct statx *stx, const struct stat *st)
{
	memset(stx, 0, sizeof(*stx));
	stx->stx_mask = STATX_BASIC_STATS;
	stx->stx_blksize = (uint32_t)st->st_blksize;
	stx->stx_nlink = (uint32_t)st->st_nlink;
	stx->stx_uid = st->st_uid;
	stx->stx_gid = st->st_gid;
	stx->stx_mode = (uint16_t)st->st_mode;
	stx->stx_ino = st->st_ino;
	stx->stx_atime = statx_time(st->st_atim);
	stx->stx_mtime = statx_time(st->st_mtim);
	stx->stx_ctime = statx_time(st->st_ctim);
	stx->stx_rdev_major = major(st->st_rdev);
	stx->stx_rdev_minor = minor(st->st_rdev);
	stx->stx_dev_major = major(st->st_dev);
	stx->stx_dev_minor = minor(st->st_dev);
}

void path_statx_kvm(struct statx *stx)
{
	struct stat st;

	path_stat_kvm(&st);
	statx_from(stx, &st);
}

long path_statx(long result, int directory, const char *path, int flags, struct statx *stx)
{
	struct stat st = { 0 };
	enum file_kind kind;

	if (result != 0) {
		if (may_be_missing(result) && !(flags & AT_SYMLINK_NOFOLLOW) && path_leads_to_kvm(directory, path)) {
			path_statx_kvm(stx);
			result = 0;
		}
		return result;
	}
	st.st_mode = stx->stx_mode;
	st.st_rdev = makedev(stx->stx_rdev_major, stx->stx_rdev_minor);
	st.st_dev = makedev(stx->stx_dev_major, stx->stx_dev_minor);
	st.st_ino = stx->stx_ino;
	if (path_stat_is_device(&st) || file_find(&st, &kind)) {
		stat_correct(&st);
		st.st_blksize = 4096;
		statx_from(stx, &st);
	}
	return 0;
}

/* ---- access, readlink -------------------------------------------------------------------------- */

long path_access_kvm(int mode)
{
	return mode & X_OK ? -EACCES : 0;
}

long path_access(long result, int directory, const char *path, int mode, int flags)
{
	if (may_be_missing(result) && !(flags & AT_SYMLINK_NOFOLLOW) && path_leads_to_kvm(directory, path))
		return path_access_kvm(mode);
	return result;
}

long path_readlink(long result, char *buffer)
{
	const size_t before = sizeof(MEMFD) - 1, after = sizeof(DELETED) - 1;
	size_t length = (size_t)result;

	if (result <= (long)(before + after) || memcmp(buffer, MEMFD, before) != 0 ||
	    memcmp(buffer + length - after, DELETED, after) != 0)
		return result;
	length -= before + after;
	if (!file_name_is_kvm(buffer + before, length))
		return result;
	memmove(buffer, buffer + before, length);
	/* as if nothing had been written there, if the client cleared its buffer */
	memset(buffer + length, 0, before + after);
	return (long)length;
}
