/* SPDX-License-Identifier: MIT */
/*
 * A VM of the library itself, with CPUs that do nothing but fault, so that only the MMU is measured. It has one GiB
 * of guest memory at 0, which is never written: all of it is the host's page of zeroes. Under shadow paging the guest
 * maps it one to one by 4 KiB entries.
 */
#ifndef BENCH_BARE_H
#define BENCH_BARE_H

#include <stdbool.h>
#include <stdint.h>

#include <vmmu/vmmu.h>

#define BARE_BYTES (UINT64_C(1) << 30)
#define BARE_PAGE  UINT64_C(4096)
#define BARE_PAGES (BARE_BYTES / BARE_PAGE)
#define BARE_VCPUS 2

struct bare {
	struct vmmu_vm *vm;
	struct vmmu_vcpu *vcpu[BARE_VCPUS];
	char *memory;
	uint64_t *tables; /* the guest's page tables, in a slot of their own; NULL without shadow paging */
	bool shadow;
};

void bare_init(struct bare *bare, bool shadow);
void bare_fini(struct bare *bare);

/** Enter, leave and fault: all that the MMU does when a guest reads a page that is not mapped. */
void bare_fault(struct bare *bare, unsigned vcpu, uint64_t gpa);

/** Set Accessed in every leaf, as a CPU that reads every page does. The VM must be quiet. Returns: pages mapped. */
uint64_t bare_use_all(struct bare *bare);

struct vmmu_hva bare_hva(const struct bare *bare, uint64_t gpa);

#endif
