/* SPDX-License-Identifier: MIT */
/*
 * The guest's paging mode: what CR0, CR4 and EFER make of a page-table entry (SDM vol. 3, 4; APM vol. 2, 5). Or how L1
 * reads its nested table: NPT is a page table, and EPT has the same form with other bits.
 *
 * It is derived once when a control register changes, so that a walk only looks things up: which bits are reserved at
 * which level (F46), and which accesses fault on which rights (F45).
 */
#ifndef CORE_GUEST_MODE_H
#define CORE_GUEST_MODE_H

#include <vmmu/mmu.h>

#include "core/base/types.h"

#define CR0_WP  BIT(16)
#define CR0_PG  BIT(31)
#define CR4_PSE BIT(4)
#define CR4_PAE BIT(5)
#define CR4_PGE BIT(7)
#define CR4_LA57 BIT(12)
#define CR4_PCIDE BIT(17)
#define CR4_SMEP BIT(20)
#define CR4_SMAP BIT(21)
#define CR4_PKE  BIT(22)
#define EFER_LMA BIT(10)
#define EFER_NXE BIT(11)

/* Bits of a guest entry, the same in all formats that have them. */
#define GPTE_P  BIT(0)
#define GPTE_W  BIT(1)
#define GPTE_U  BIT(2)
#define GPTE_A  BIT(5)
#define GPTE_D  BIT(6)
#define GPTE_PS BIT(7)
#define GPTE_G  BIT(8)
#define GPTE_NX BIT(63)

/* Bits of an EPT entry. */
#define EPTE_R  BIT(0)
#define EPTE_W  BIT(1)
#define EPTE_X  BIT(2)
#define EPTE_PS BIT(7)
#define EPTE_A  BIT(8)
#define EPTE_D  BIT(9)

_Static_assert(EPTE_W == GPTE_W && EPTE_PS == GPTE_PS, "the same in both: not in struct guest_mode");

/* What a translation allows: a set of these bits. A present page is readable by the supervisor. */
#define ACC_EXEC  1u
#define ACC_WRITE 2u
#define ACC_USER  4u
#define ACC_ALL   7u

#define GUEST_MAX_LEVELS 5

struct guest_mode {
	uint8_t levels;        /* of the guest's tables: 0 (no paging), 2, 3 (PAE), 4, 5 */
	bool wide;             /* entries of 8 bytes, not 4 */
	bool pse, nx, wp, smep, smap, pke;
	/* What differs between a page table (and NPT) and EPT. Bit 1 is the right to write in both. */
	uint64_t present;      /* an entry is present if it has one of these bits */
	uint64_t exec_mask, exec; /* it is executable if it has `exec` of the bits of `exec_mask` */
	unsigned implied;      /* rights that no entry can deny: ACC_* */
	uint64_t accessed, dirty; /* 0: there are no such bits */
	uint64_t reserved_low; /* bit n is set if no present entry may have n in its six low bits */
	uint64_t reserved[2][GUEST_MAX_LEVELS]; /* [is a large leaf][level - 1]: bits that must be 0 */
	uint8_t faults[16];    /* by access_index: bit n is set if rights n (ACC_*) forbid it */
};

/** Derive the mode. The CPU has checked `regs`: they hold only combinations that hardware can be in. */
void guest_mode_init(struct guest_mode *mode, const struct vmmu_guest_regs *regs);

/**
 * The mode that reads L1's EPT (SDM vol. 3, 29.3), where every access is a user's. An entry that is not readable is not
 * present or a misconfiguration: L1's CPU does not offer execute-only pages. `control`: bits 0-11 of the EPT pointer,
 * checked. `regs`: phys_bits and gbpages.
 */
void guest_mode_init_ept(struct guest_mode *mode, unsigned control, const struct vmmu_guest_regs *regs);

/* The control bits of an EPT pointer (SDM vol. 3, 25.6.11). */
#define EPTP_TYPE(control)   ((control) & 7)           /* of memory, for the tables themselves */
#define EPTP_LEVELS(control) (((control) >> 3 & 7) + 1)
#define EPTP_AD              BIT(6)                     /* accessed and dirty bits */
#define EPTP_RESERVED        BIT_MASK(11, 7)

/* Index into faults: write, user, fetch, and whether SMAP is in force for this access. */
static inline unsigned access_index(uint64_t error)
{
	return (error & VMMU_PF_WRITE ? 1 : 0) | (error & VMMU_PF_USER ? 2 : 0) | (error & VMMU_PF_FETCH ? 4 : 0) |
	       (error & VMMU_PF_SMAP ? 8 : 0);
}

/**
 * Does an access fault on a present page with these rights? `error`: VMMU_PF_WRITE, USER, FETCH, SMAP. `key`: the
 * leaf's protection key.
 * Returns: 0, or the bits to set in the guest's error code: VMMU_PF_PRESENT, perhaps VMMU_PF_PK.
 */
static inline uint64_t guest_mode_check(const struct guest_mode *mode, uint64_t error, unsigned rights, unsigned key,
                                        uint32_t pkru)
{
	uint64_t denied = mode->faults[access_index(error)] >> rights & 1 ? VMMU_PF_PRESENT : 0;
	uint32_t deny;

	if (!mode->pke || !(rights & ACC_USER) || (error & VMMU_PF_FETCH))
		return denied;
	/*
	 * The PK bit says that the key denies the access, even if something else denies it as well (SDM vol. 3, 4.7).
	 */
	deny = pkru >> (2 * key) & 3;
	if ((deny & 1) || ((deny & 2) && (error & VMMU_PF_WRITE) && ((error & VMMU_PF_USER) || mode->wp)))
		denied = VMMU_PF_PRESENT | VMMU_PF_PK;
	return denied;
}

#endif
