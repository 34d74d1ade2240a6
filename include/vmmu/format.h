/* SPDX-License-Identifier: MIT */
/*
 * The second-stage table entries, bit for bit as hardware walks them: what a CPU needs to walk the tables that the
 * library builds. A table is 512 entries of 8 bytes. The index at level n is bits [12+9(n-1), 12+9n) of the guest
 * physical address. An entry's address field names the next table, or the page, by host physical address. In a
 * process, host physical is the process's own address space, so the field is a pointer.
 */
#ifndef VMMU_FORMAT_H
#define VMMU_FORMAT_H

#include <stdbool.h>
#include <vmmu/types.h>

/* NPT: the long-mode format, with the U bit always required (APM vol. 2, 15.25.5). */
#define VMMU_NPT_P  (UINT64_C(1) << 0)
#define VMMU_NPT_W  (UINT64_C(1) << 1)
#define VMMU_NPT_U  (UINT64_C(1) << 2)
#define VMMU_NPT_A  (UINT64_C(1) << 5) /* set by the CPU, atomically, also in non-leaf entries */
#define VMMU_NPT_D  (UINT64_C(1) << 6) /* set by the CPU on a write, in leaves */
#define VMMU_NPT_PS (UINT64_C(1) << 7) /* leaf, at levels 2 and 3 */
#define VMMU_NPT_NX (UINT64_C(1) << 63)

/*
 * EPT (SDM vol. 3, tables 29-1 to 29-7). Present when any of R, W, X is set. A and D: with A/D bits enabled in EPTP;
 * ignored in the NO_AD formats.
 */
#define VMMU_EPT_R  (UINT64_C(1) << 0)
#define VMMU_EPT_W  (UINT64_C(1) << 1)
#define VMMU_EPT_X  (UINT64_C(1) << 2)
#define VMMU_EPT_PS (UINT64_C(1) << 7)
#define VMMU_EPT_A  (UINT64_C(1) << 8)
#define VMMU_EPT_D  (UINT64_C(1) << 9)

/*
 * The host's physical address width, as the formats assume it: bits 51:48 of an entry are reserved. MMIO entries make
 * the CPU fault by a reserved bit in a present entry (VMMU_PF_RSVD; EPT: misconfiguration).
 */
#define VMMU_HOST_PHYS_BITS 48
#define VMMU_ENTRY_ADDR     UINT64_C(0x0000fffffffff000)
#define VMMU_ENTRY_RSVD     UINT64_C(0x000f000000000000)

/**
 * Read an entry of a table, as a software CPU must. acquire: pairs with the release that stores an entry which leads
 * to a table, after the table was filled. Hardware needs no barrier, because the second read takes its address from
 * the first; C11 has no way to say that.
 */
static inline uint64_t vmmu_table_entry_load(const uint64_t *entry)
{
	return __atomic_load_n(entry, __ATOMIC_ACQUIRE);
}

/**
 * Set A or D in an entry that was read as `old`. One atomic operation, so that an entry which somebody changed or
 * removed meanwhile is not brought back.
 * Returns: false if the entry changed; begin the walk again.
 */
static inline bool vmmu_table_entry_mark(uint64_t *entry, uint64_t old, uint64_t bits)
{
	return __atomic_compare_exchange_n(entry, &old, old | bits, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

#endif
