/* SPDX-License-Identifier: MIT */
/*
 * LeakSanitizer, where the client has it, does not look into memory that was mapped past libc, and calls lost what only that leads to: all that hangs from the table of
 * descriptors. So what this library allocates for the client is none of its business.
 */
#ifndef VMMU_KVM_LEAKS_H
#define VMMU_KVM_LEAKS_H

__attribute__((weak, visibility("default"))) void __lsan_disable(void);
__attribute__((weak, visibility("default"))) void __lsan_enable(void);

/* Around whatever allocates; may nest, and is the thread's own. */
static inline void leaks_hold(void)
{
	if (__lsan_disable)
		__lsan_disable();
}

static inline void leaks_release(void)
{
	if (__lsan_enable)
		__lsan_enable();
}

#endif
