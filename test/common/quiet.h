/* SPDX-License-Identifier: MIT */
/* The audit, for tests. */
#ifndef TEST_COMMON_QUIET_H
#define TEST_COMMON_QUIET_H

#include <vmmu/vmmu.h>

/**
 * Audit the VM, at a quiet point (core/audit/audit.h), and print on stderr what is wrong, with a picture of the VM.
 * `shadow_pages`: receives how many there are; may be NULL. Returns: true when nothing is wrong.
 */
bool quiet_audit(struct vmmu_vm *vm, uint64_t *shadow_pages);

#endif
