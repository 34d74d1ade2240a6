/* SPDX-License-Identifier: MIT */
/* Calls on descriptors. The table of files follows what the client does to its descriptors. */
#include "kvm/vcpu/cancel.h"
#include "kvm/ioctl/dispatch.h"
#include "kvm/process/file.h"
#include "kvm/interpose/interpose.h"
#include "kvm/process/leaks.h"
#include "kvm/interpose/path.h"
#include "kvm/process/signals.h"
#include "kvm/process/sys.h"
#include "kvm/report/surface.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

long fds_open_kvm(int flags)
{
	long fd;

	if (flags & O_DIRECTORY)
		return -ENOTDIR;
	if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
		return -EEXIST;
	fd = file_memory("/dev/kvm", flags & O_CLOEXEC);
	signals_hold();
	leaks_hold();
	signals_init();
	if (fd >= 0 && !file_install((int)fd, FILE_SYSTEM, NULL, NULL)) {
		SYS1(SYS_close, fd);
		fd = -ENOMEM;
	}
	leaks_release();
	signals_release();
	return fd;
}

/* Put our /dev/kvm in the place of a descriptor of the machine's /dev/kvm, or of another process's. */
static struct file *system_replace(int fd)
{
	long ours = fds_open_kvm((int)SYS2(SYS_fcntl, fd, F_GETFD) & FD_CLOEXEC ? O_CLOEXEC : 0);
	struct file *file = ours < 0 ? NULL : file_get_unverified((int)ours);

	if (file && SYS3(SYS_dup3, ours, fd, SYS2(SYS_fcntl, ours, F_GETFD) & FD_CLOEXEC ? O_CLOEXEC : 0) >= 0)
		file_alias(fd, file);
	if (ours >= 0)
		fds_close((int)ours);
	return file;
}

/*
 * A KVM request on a number that is not in the table. The descriptor may have come over a socket, through exec,
 * or by a call that we do not see. A file of this process is found by its inode. Any other file of KVM belongs to
 * another process or to the machine. /dev/kvm is then replaced by ours. For any other file *error is -EIO, as KVM
 * answers for a VM of another process.
 * Returns: the file with a reference, or NULL.
 */
static struct file *adopt(int fd, long *error)
{
	char link[32], name[64];
	struct file *file;
	struct stat st;
	long length;

	*error = 0;
	if (fd < 0 || !file_table_may_change() || SYS2(SYS_fstat, fd, &st) != 0)
		return NULL;
	file = file_get_by_stat(&st);
	if (file) {
		file_alias(fd, file);
		return file;
	}
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = path_readlink(SYS3(SYS_readlink, link, name, sizeof(name)), name);
	if (length <= 0 || !file_name_is_kvm(name, (size_t)length))
		return NULL;
	if (name[0] == '/')
		file = system_replace(fd);
	*error = file ? 0 : -EIO;
	return file;
}

/*
 * Enter a file of ours that came over a socket. It must be told from a plain memfd even before the first KVM
 * request.
 */
static void descriptor_received(int fd)
{
	struct file *file;
	struct stat st;

	if (!file_table_is_ours() || SYS2(SYS_fstat, fd, &st) != 0)
		return;
	file = file_get_by_stat(&st);
	if (!file)
		return;
	file_alias(fd, file);
	file_put(file);
}

void fds_received(struct msghdr *message)
{
	struct cmsghdr *part = message->msg_controllen ? CMSG_FIRSTHDR(message) : NULL;

	for (; part; part = CMSG_NXTHDR(message, part)) {
		if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS || part->cmsg_len < CMSG_LEN(0))
			continue;
		for (size_t i = 0; i < (part->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(part) + i * sizeof(fd), sizeof(fd));
			descriptor_received(fd);
		}
	}
}

bool fds_is_kvm(int fd)
{
	struct file *file = file_get(fd);

	if (file)
		file_put(file);
	return file;
}

bool fds_fcntl_refused(int fd, int command)
{
	return (command == F_ADD_SEALS || command == F_GET_SEALS) && fds_is_kvm(fd);
}

/* Requests that the kernel answers for a descriptor of any kind. */
static bool is_generic(unsigned int request)
{
	switch (request) {
	case FIOCLEX:
	case FIONCLEX:
	case FIONBIO:
	case FIOASYNC:
		return true;
	default:
		return false;
	}
}

/*
 * Requests for which the number is not verified, since the system call for that would be felt. They are made
 * often, or by threads under a strict seccomp filter: all requests of a vCPU, and those that change a running VM.
 * No client makes them on a file that is not KVM's.
 */
static bool is_hot(const struct file *file, unsigned request)
{
	if (_IOC_TYPE(request) != KVMIO)
		return false;
	switch (request) {
	case KVM_SET_USER_MEMORY_REGION:
	case SURFACE_SET_USER_MEMORY_REGION2:
	case KVM_GET_DIRTY_LOG:
	case KVM_CLEAR_DIRTY_LOG:
	case KVM_RESET_DIRTY_RINGS:
	case KVM_IRQ_LINE:
	case KVM_IRQ_LINE_STATUS:
	case KVM_SIGNAL_MSI:
		return file->kind == FILE_VM;
	default:
		return file->kind == FILE_VCPU;
	}
}

/* The file that an ioctl is for. Returns: the file with a reference; or NULL, with an error if there is one. */
static struct file *request_file(int fd, unsigned request, long *error)
{
	struct file *file = file_get_unverified(fd);

	*error = 0;
	if (file && !is_hot(file, request) && !file_verify(fd, file)) {
		file_put(file);
		file = NULL;
	}
	return file || _IOC_TYPE(request) != KVMIO ? file : adopt(fd, error);
}

static long answer(struct file *file, unsigned request, unsigned long argument)
{
	long result;

	leaks_hold();
	result = dispatch(file, request, argument);
	leaks_release();
	return result;
}

long fds_ioctl(int fd, unsigned long request, unsigned long argument)
{
	struct cancel_state cancel;
	struct file *file;
	long result;

	cancel_hold(&cancel);
	signals_hold();
	file = request_file(fd, (unsigned int)request, &result);
	if (!file) {
		signals_release();
		cancel_release(&cancel);
		if (result)
			return result;
		if (_IOC_TYPE(request) == UFFDIO)
			return mem_userfaultfd_ioctl(fd, request, argument);
		return SYS3(SYS_ioctl, fd, request, argument);
	}
	if (file->kind == FILE_VCPU && request == KVM_RUN)
		cancel_run(&cancel, file);
	if (is_generic((unsigned int)request))
		result = SYS3(SYS_ioctl, fd, request, argument);
	else
		result = answer(file, (unsigned int)request, argument);
	file_put(file);
	signals_release();
	cancel_release(&cancel);
	return result;
}

long fds_close(int fd)
{
	/* Forget it before the close, after which another thread may get the number. */
	if (file_table_is_ours())
		file_forget(fd);
	return SYS1(SYS_close, fd);
}

/* dup, dup2, dup3 and fcntl's F_DUPFD. */
long fds_dup(long number, int fd, int wanted, int flags)
{
	struct file *file = file_get(fd);
	long copy;

	if ((number == SYS_dup2 || number == SYS_dup3) && wanted != fd && file_table_is_ours() &&
	    SYS2(SYS_fcntl, fd, F_GETFD) >= 0)
		file_forget(wanted);
	copy = SYS3(number, fd, number == SYS_fcntl ? flags : wanted, number == SYS_fcntl ? wanted : flags);
	if (file) {
		if (copy >= 0 && copy != fd && file_table_is_ours())
			file_alias((int)copy, file);
		file_put(file);
	}
	return copy;
}

long fds_close_range(unsigned first, unsigned last, unsigned flags)
{
	if (!(flags & CLOSE_RANGE_CLOEXEC) && first <= last && file_table_is_ours())
		file_forget_range(first, last);
	return SYS3(SYS_close_range, first, last, flags);
}
