/* SPDX-License-Identifier: MIT */
/* Fault-safe copies: process_vm_readv/writev on the process itself; where a sandbox forbids those, a pipe. */
#include "kvm/user.h"
#include "kvm/sys.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>

long sys_result(long result)
{
	if (result >= 0 || result < -4095)
		return result;
	errno = (int)-result;
	return -1;
}

/* One page at most stays in a pipe without a reader, whatever its size. */
#define PIPE_CHUNK 4096

/* read(2) and write(2) check the address that they are given, and are allowed everywhere. */
static int copy_by_pipe(unsigned long to, unsigned long from, size_t bytes)
{
	int ends[2];
	long done = 0;

	if (SYS2(SYS_pipe2, ends, O_CLOEXEC) < 0)
		return -EFAULT;
	while (bytes > 0) {
		size_t chunk = bytes < PIPE_CHUNK ? bytes : PIPE_CHUNK;

		done = SYS3(SYS_write, ends[1], from, chunk);
		if (done != (long)chunk)
			break;
		done = SYS3(SYS_read, ends[0], to, chunk);
		if (done != (long)chunk)
			break;
		to += chunk;
		from += chunk;
		bytes -= chunk;
	}
	SYS1(SYS_close, ends[0]);
	SYS1(SYS_close, ends[1]);
	return bytes ? -EFAULT : 0;
}

static int copy(long number, unsigned long user, void *own, size_t bytes)
{
	struct iovec local = { own, bytes };
	struct iovec remote = { (void *)user, bytes }; // NOLINT: an address, never followed here
	long done;

	if (bytes == 0)
		return 0;
	done = SYS6(number, SYS0(SYS_getpid), &local, 1, &remote, 1, 0);
	if (done == (long)bytes)
		return 0;
	if (done == -EPERM || done == -ENOSYS)
		return number == SYS_process_vm_readv ? copy_by_pipe((unsigned long)own, user, bytes)
		                                      : copy_by_pipe(user, (unsigned long)own, bytes);
	return -EFAULT;
}

int user_read(void *to, unsigned long from, size_t bytes)
{
	return copy(SYS_process_vm_readv, from, to, bytes);
}

int user_write(unsigned long to, const void *from, size_t bytes)
{
	return copy(SYS_process_vm_writev, to, (void *)(uintptr_t)from, bytes);
}
