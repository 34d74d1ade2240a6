/* SPDX-License-Identifier: MIT */
/*
 * Libc's own functions behind those that this library exports in their place: what is not ours goes on to the next library, so that
 * cancellation, sanitizers and other preloaded libraries work as without us.
 */
#ifndef VMMU_KVM_REAL_H
#define VMMU_KVM_REAL_H

#define EXPORT __attribute__((visibility("default")))

/** The next definition of a libc function, looked up once. Never NULL: without one the process cannot go on. */
void *real_find(void **cache, const char *name);

/* REAL(open, int (*)(...))(path, flags): the next library's open. */
#define REAL(name, type)                                                                                           \
	({                                                                                                         \
		static void *real_cache_;                                                                          \
		(type)real_find(&real_cache_, #name);                                                              \
	})

/** What libc's function answered, as a value or -errno. */
long libc_result(long result);

#endif
