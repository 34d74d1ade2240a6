/* SPDX-License-Identifier: MIT */
/*
 * Nested guests, for a VM with config.nested: the guest (L1) is a hypervisor that gives its own guest (L2) a second
 * stage of paging. While L2 runs, hardware may not walk L1's table, whose addresses are L1's. It walks a shadow of that
 * table, which the library builds in the VM's own format: from L2 physical to host physical addresses.
 *
 *     L2 linear --L2's CR3--> L2 physical --L1's nested table--> L1 physical --slots--> host
 *                                           \____________ the shadow ___________________/
 *
 * The CPU tells the library when guest mode begins and ends. In between it walks as always: entry.root translates L2
 * physical addresses, and a fault goes to vmmu_nested_fault. L1 that gives its guest no nested paging needs nothing of
 * this: its guest's accesses are L1's.
 *
 * The shadow never lags behind L1's table. A store to one of its entries clears what was made of it, so what L1
 * flushes is the CPU's own TLB and nothing here.
 */
#ifndef VMMU_NESTED_H
#define VMMU_NESTED_H

#include <vmmu/mmu.h>
#include <vmmu/types.h>
#include <vmmu/vcpu.h>

VMMU_BEGIN_DECLS

/* The format of L1's nested table. It need not be the VM's own. */
enum vmmu_nested_format {
	VMMU_NESTED_NPT, /* AMD nested paging: as a page table, in L1's paging mode (APM vol. 2, 15.25) */
	/*
	 * Intel EPT (SDM vol. 3, 29.3), of 4 or 5 levels, with A and D bits if the EPT pointer says so. L1's CPU must
	 * not offer execute-only pages (IA32_VMX_EPT_VPID_CAP bit 0), which the VM's own format cannot express. An
	 * entry with X alone is a misconfiguration.
	 */
	VMMU_NESTED_EPT,
};

/* What decides how L1's nested table is read. */
struct vmmu_nested {
	enum vmmu_nested_format format;
	uint64_t root;      /* nCR3, or the EPT pointer with its control bits */
	uint64_t cr4, efer; /* NPT: L1's own as of VMRUN: number of levels, NX. EPT: unused */
	unsigned phys_bits; /* L1's MAXPHYADDR, 32 .. 48 */
	bool gbpages;       /* L1's CPUID has 1 GiB pages */
};

/**
 * Guest mode begins, or goes on with another table: from its next entry on, the vCPU walks the shadow of l1->root. On
 * the vCPU's thread, outside the guest. Cheap if the root is one of the last few. Allocates the first time. The CPU
 * flushes what the architecture says; the next entry's `flush` is set if the shadow itself demands more.
 * Returns: VMMU_OK; VMMU_EINVAL (the VM has no config.nested, or the CPU should have refused such values); VMMU_ENOMEM.
 * On failure nothing has changed.
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_nested_enter(struct vmmu_vcpu *vcpu, const struct vmmu_nested *l1);

/**
 * Guest mode ends: the vCPU walks L1's own root again. No effect outside guest mode. Never fails. A change of the
 * address space ends guest mode, too: a CPU that enters SMM from L2 has L2's state in SMRAM, and no L2.
 */
void vmmu_nested_leave(struct vmmu_vcpu *vcpu);

/**
 * Answer a second-stage fault in guest mode. `gpa`: L2 physical. `error`: VMMU_PF_* as for vmmu_fault; GUEST_FINAL or
 * GUEST_PAGE must be given. Sleeps, allocates, as vmmu_page_fault. NPT takes every access to a table of L2's for a
 * write (APM vol. 2, 15.25.6): there a CPU gives GUEST_PAGE together with WRITE, and its own walk wants W and sets D.
 * Returns: as vmmu_page_fault. VMMU_PAGE_GUEST: the fault is L1's: exit to it. Then info->error is for NPT the low half
 * of EXITINFO1 (PRESENT, WRITE, USER, RSVD, FETCH) with GUEST_FINAL or GUEST_PAGE (APM vol. 2, 15.25.6), and for EPT
 * the exit qualification, or VMMU_NESTED_MISCONFIG (SDM vol. 3, 28.2.1). In other answers info->gpa is L1 physical.
 */
VMMU_MUST_CHECK enum vmmu_page_fault vmmu_nested_fault(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa, uint64_t error,
                                                       struct vmmu_page_info *info);
#define VMMU_NESTED_MISCONFIG (UINT64_C(1) << 63)

VMMU_END_DECLS

#endif
