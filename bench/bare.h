/* SPDX-License-Identifier: MIT */
/*
 * A VM of the library itself, and CPUs that do nothing but fault: what is measured is the MMU alone. One GiB of guest memory at 0, which the
 * guest (under shadow paging) maps as it is by 4 KiB entries. Behind it is the host's page of zeroes: nothing is written.
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
	uint64_t *tables; /* of the guest, in a slot of their own; NULL without shadow paging */
	bool shadow;
};

void bare_init(struct bare *bare, bool shadow);
void bare_fini(struct bare *bare);

/** Enter, leave, fault: what a read of a page that is not mapped costs the MMU. */
void bare_fault(struct bare *bare, unsigned vcpu, uint64_t gpa);

/** Set Accessed in every leaf, as a CPU that reads every page. The VM is quiet. Returns: pages mapped. */
uint64_t bare_use_all(struct bare *bare);

struct vmmu_hva bare_hva(const struct bare *bare, uint64_t gpa);

#endif
