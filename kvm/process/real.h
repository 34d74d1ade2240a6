/* SPDX-License-Identifier: MIT */
/*
 * Libc's own functions behind those that this library exports in their place. Calls that do not concern KVM's
 * files go on to the next library, so cancellation, sanitizers and other preloaded libraries work as usual.
 */
#ifndef VMMU_KVM_REAL_H
#define VMMU_KVM_REAL_H

#define EXPORT __attribute__((visibility("default")))

/** The next definition of a libc function, looked up once. Never NULL for a function that libc has. */
void *real_find(void **cache, const char *name);

/* REAL(open, int (*)(...))(path, flags): the next library's open. */
#define REAL(name, type)                                                                                           \
	({                                                                                                         \
		static void *real_cache_;                                                                          \
		(type)real_find(&real_cache_, #name);                                                              \
	})

/** The answer of a libc function as a value or -errno. */
long libc_result(long result);

#endif
