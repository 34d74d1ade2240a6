/* SPDX-License-Identifier: MIT */
/*
 * The guest's own paging, for a VM with config.mmu == VMMU_MMU_SHADOW. There the CPU walks only the tables that the
 * library builds, from guest virtual to host physical; the library reads the guest's tables. The CPU tells the library
 * what decides how they are read (control registers), what invalidates translations (INVLPG, INVPCID), and every #PF.
 *
 * The CPU runs with CR0.WP = 1 and EFER.NX = 1 whatever the guest set. It runs with the guest's SMEP, SMAP and PKE,
 * which, as in hardware, mean nothing while the guest has paging off. The tables are in the long-mode format with
 * entry.levels levels: 3 for a guest outside long mode, whose linear addresses have 32 bits.
 */
#ifndef VMMU_MMU_H
#define VMMU_MMU_H

#include <vmmu/types.h>
#include <vmmu/vcpu.h>

VMMU_BEGIN_DECLS

struct vmmu_guest_regs {
	uint64_t cr0, cr3, cr4, efer;
	uint64_t pdpte[4];    /* PAE paging: as loaded with CR3 */
	unsigned phys_bits;   /* the guest's MAXPHYADDR, 32 .. 48 */
	bool gbpages;         /* the guest's CPUID has 1 GiB pages */
	bool amd;             /* bit 8 of entries of levels 4 and 5 must be 0 (APM vol. 2, 5.3.3); Intel ignores it */
};

/**
 * The guest wrote CR0, CR3, CR4 or EFER, or the user set them. On the vCPU's thread, outside the guest. Cheap if only
 * CR3 changed, to a root that is cached. `keep`: the write leaves translations alone (MOV to CR3 with bit 63 set,
 * PCID).
 */
void vmmu_guest_regs_set(struct vmmu_vcpu *vcpu, const struct vmmu_guest_regs *regs, bool keep);

/**
 * INVLPG: forget the translations of one page in the current address space. On the vCPU's thread, outside the guest.
 */
void vmmu_invlpg(struct vmmu_vcpu *vcpu, struct vmmu_gva gva);

/** INVPCID. `type`: 0 address, 1 context, 2 all with globals, 3 all but globals. The CPU has checked the operands. */
void vmmu_invpcid(struct vmmu_vcpu *vcpu, unsigned type, uint64_t pcid, struct vmmu_gva gva);

/**
 * Stop mirroring the guest table at `gpa`, so that it can be written like any memory. For an instruction that
 * vmmu_guest_write cannot stand in for (a locked one), after VMMU_FAULT_EMULATE or VMMU_PAGE_EMULATE. On the vCPU's
 * thread, outside the guest.
 * Returns: true if a mirror was given up; run the instruction again.
 */
bool vmmu_unprotect(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa);

/**
 * Limit the number of shadow pages (KVM_SET_NR_MMU_PAGES); the oldest are given up. 0: the default, 2 % of guest
 * memory.
 * Returns: VMMU_EINVAL in a VM that never shadows: with TDP, and no config.nested.
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_shadow_limit_set(struct vmmu_vm *vm, uint64_t pages);

/** More bits of an error code, beside VMMU_PF_* of vcpu.h. */
#define VMMU_PF_PK   (UINT64_C(1) << 5)
/* To vmmu_page_fault: a supervisor's data access to which SMAP applies (EFLAGS.AC clear, or implicit). */
#define VMMU_PF_SMAP (UINT64_C(1) << 34)

/* The answers of enum vmmu_fault, and one more. */
enum vmmu_page_fault {
	VMMU_PAGE_FIXED = VMMU_FAULT_FIXED, /* run the instruction again */
	VMMU_PAGE_RETRY = VMMU_FAULT_RETRY, /* the same */
	VMMU_PAGE_MMIO = VMMU_FAULT_MMIO,   /* no memory at `gpa`: emulate the access */
	VMMU_PAGE_HOST = VMMU_FAULT_HOST,   /* the host has no page at `gpa` */
	VMMU_PAGE_NOMEM = VMMU_FAULT_NOMEM,
	VMMU_PAGE_DEAD = VMMU_FAULT_DEAD,
	VMMU_PAGE_GUEST,   /* the guest's own fault: raise #PF with `error`, CR2 = gva */
	/* a write to a page table of the guest at `gpa`: store with vmmu_guest_write, do not map */
	VMMU_PAGE_EMULATE = VMMU_FAULT_EMULATE,
	VMMU_PAGE_WAIT = VMMU_FAULT_WAIT, /* only with VMMU_PF_NOWAIT: the host would wait for the page at `gpa` */
};

struct vmmu_page_info {
	uint64_t error;      /* for VMMU_PAGE_GUEST: the architectural error code */
	struct vmmu_gpa gpa; /* for MMIO, EMULATE, HOST, WAIT */
};

/**
 * A #PF on the library's tables. On the vCPU's thread, outside the guest. Sleeps, allocates. `error`: VMMU_PF_PRESENT,
 * WRITE, USER, FETCH, RSVD as the walk of entry.root gave them, SMAP and NOWAIT. `pkru`: the guest's.
 */
VMMU_MUST_CHECK enum vmmu_page_fault vmmu_page_fault(struct vmmu_vcpu *vcpu, struct vmmu_gva gva, uint64_t error,
                                                     uint32_t pkru, struct vmmu_page_info *info);

VMMU_END_DECLS

#endif
