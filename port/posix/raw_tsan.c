/* SPDX-License-Identifier: MIT */
/* raw.c for builds with ThreadSanitizer: says that an unmapping happens before a mapping of the same addresses. */
#include <sys/mman.h>
#include <sanitizer/tsan_interface.h>

#include "port/posix/raw.h"

static char unmapped; /* only its address is used */

void *raw_mmap(size_t bytes)
{
	long at = raw_syscall(SYS_mmap, 0, (long)bytes, PROT_READ | PROT_WRITE,
	                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	__tsan_acquire(&unmapped);
	return at < 0 && at > -4096 ? NULL : (void *)at;
}

void raw_munmap(void *at, size_t bytes)
{
	__tsan_release(&unmapped);
	if (bytes)
		raw_syscall(SYS_munmap, (long)(uintptr_t)at, (long)bytes, 0, 0, 0, 0);
}
