/* SPDX-License-Identifier: MIT */
/*
 * Copies by the port's probes: plain instructions whose fault becomes a return value. They make no system call,
 * so KVM_GET_REGS costs what a memcpy does.
 */
#include "kvm/process/user.h"
#include "port/posix/probe.h"
#include <errno.h>

int user_read(void *to, unsigned long from, size_t bytes)
{
	return posix_probe_copy(to, (const void *)from, bytes) ? 0 : -EFAULT; // NOLINT: the client's address
}

int user_write(unsigned long to, const void *from, size_t bytes)
{
	return posix_probe_copy((void *)to, from, bytes) ? 0 : -EFAULT; // NOLINT: the client's address
}
