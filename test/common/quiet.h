/* SPDX-License-Identifier: MIT */
/* The audit, for tests. */
#ifndef TEST_COMMON_QUIET_H
#define TEST_COMMON_QUIET_H

#include <vmmu/vmmu.h>

/**
 * At a quiet point (core/audit/audit.h): audit the VM, and say on stderr what is wrong, with a picture of the VM. Returns: true when nothing is.
 * `shadow_pages`: how many there are; may be NULL.
 */
bool quiet_audit(struct vmmu_vm *vm, uint64_t *shadow_pages);

#endif
