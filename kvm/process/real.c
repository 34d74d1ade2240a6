/* SPDX-License-Identifier: MIT */
#include "kvm/process/real.h"
#include <dlfcn.h>
#include <errno.h>

long libc_result(long result)
{
	return result == -1 ? -errno : result;
}

void *real_find(void **cache, const char *name)
{
	void *found = __atomic_load_n(cache, __ATOMIC_RELAXED);

	if (!found) {
		found = dlsym(RTLD_NEXT, name);
		__atomic_store_n(cache, found, __ATOMIC_RELAXED);
	}
	return found;
}
