/* SPDX-License-Identifier: MIT */
/*
 * Copies from and to the client's memory, like copy_from_user and copy_to_user in a kernel. We never follow the
 * client's pointer directly, so a bad pointer gives -EFAULT and no crash.
 */
#ifndef VMMU_KVM_USER_H
#define VMMU_KVM_USER_H

#include <stddef.h>
#include <stdint.h>

/** Copy `bytes` from the client's address `from`. Returns: 0 or -EFAULT (then `to` may be partly written). */
int user_read(void *to, unsigned long from, size_t bytes);

/** Copy `bytes` to the client's address `to`. Returns: 0 or -EFAULT. */
int user_write(unsigned long to, const void *from, size_t bytes);

#endif
