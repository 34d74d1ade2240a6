/* SPDX-License-Identifier: MIT */
/* Memory by system calls that no interposed library sees. */
#include <sys/mman.h>

#include "port/posix/raw.h"

void *raw_mmap(size_t bytes)
{
	long at = raw_syscall(SYS_mmap, 0, (long)bytes, PROT_READ | PROT_WRITE,
	                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return at < 0 && at > -4096 ? NULL : (void *)at;
}

void raw_munmap(void *at, size_t bytes)
{
	if (bytes)
		raw_syscall(SYS_munmap, (long)(uintptr_t)at, (long)bytes, 0, 0, 0, 0);
}
