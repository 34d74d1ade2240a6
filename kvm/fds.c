/* SPDX-License-Identifier: MIT */
/* Calls on descriptors: the table of files follows what the client does to its descriptors. */
#include "kvm/dispatch.h"
#include "kvm/file.h"
#include "kvm/interpose.h"
#include "kvm/signals.h"
#include "kvm/sys.h"
#include "kvm/vm.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <string.h>
#include <sys/mman.h>

bool fds_is_kvm_path(const char *path)
{
	return path && strcmp(path, "/dev/kvm") == 0;
}

long fds_open_kvm(int flags)
{
	long fd = SYS2(SYS_memfd_create, "kvm", flags & O_CLOEXEC ? MFD_CLOEXEC : 0);

	signals_init();
	if (fd < 0)
		return fd;
	if (!file_install((int)fd, FILE_SYSTEM, NULL, NULL)) {
		SYS1(SYS_close, fd);
		return -ENOMEM;
	}
	return fd;
}

/* Requests that the kernel answers for every descriptor, whatever is behind it. */
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

long fds_ioctl(int fd, unsigned long request, unsigned long argument)
{
	struct cancel_state cancel;
	struct file *file;
	long result;

	signals_hold();
	file = file_get(fd);
	if (!file) {
		signals_release();
		if (_IOC_TYPE(request) == UFFDIO)
			return mem_userfaultfd_ioctl(fd, request, argument);
		return SYS3(SYS_ioctl, fd, request, argument);
	}
	signals_cancel_hold(&cancel, file->kind == FILE_VCPU && request == KVM_RUN ? file->object : NULL);
	if (is_generic((unsigned int)request))
		result = SYS3(SYS_ioctl, fd, request, argument);
	else
		result = dispatch(file, (unsigned int)request, argument);
	file_put(file);
	signals_release();
	signals_cancel_release(&cancel);
	return result;
}

long fds_close(int fd)
{
	/* Forgotten before the number can be given to somebody else. */
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
