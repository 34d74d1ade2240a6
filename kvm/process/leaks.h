/* SPDX-License-Identifier: MIT */
/*
 * LeakSanitizer does not look into memory that was mapped past libc, such as the table of descriptors. In a
 * client that uses LeakSanitizer it would report everything that only the table leads to. So our allocations for
 * the client are hidden from it.
 */
#ifndef VMMU_KVM_LEAKS_H
#define VMMU_KVM_LEAKS_H

__attribute__((weak, visibility("default"))) void __lsan_disable(void);
__attribute__((weak, visibility("default"))) void __lsan_enable(void);

/* Around code that allocates. Per thread; may nest. */
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
