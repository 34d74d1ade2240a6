/* SPDX-License-Identifier: MIT */
/*
 * SPTEs: entries of the tables that hardware walks, and the bits that software keeps in them.
 *
 *   63 ...  58        57        56..54     52..51 ........ 12   11        8..7 ........ 0
 *          +---------+---------+---------+--------------------+---------+---------------+
 *          | MMU_W   | HOST_W  | aside   | address            | PRESENT | hardware      |
 *          +---------+---------+---------+--------------------+---------+---------------+
 *
 * PRESENT (bit 11) is software's: hardware ignores it in NPT and in EPT. An entry without it maps nothing: it is 0,
 * FROZEN, or an MMIO entry. HOST_W says that the host allows writes. MMU_W says that nothing but dirty logging
 * forbids a write, so the fast path may give the write right back (P6). A TDP leaf of a frame with a mirrored table has
 * HOST_W without MMU_W (N1).
 *
 * Bits 54 to 56 serve hardware that sets no A bit (F52, F53). There, aging lays the rights R, W, X of a leaf aside in
 * these bits. The next use of the leaf faults, and the fault puts the rights back (P2, P6). Aging flushes nothing, so
 * a CPU may go on using a right that is laid aside. So code that takes rights away must treat a right laid aside as
 * one that is given.
 *
 * What differs between NPT and EPT is data (struct format). The address field and the huge bit (7) are the same in
 * both, so a walk from table to table does not need struct format.
 */
#ifndef CORE_FORMAT_SPTE_H
#define CORE_FORMAT_SPTE_H

#include <vmmu/format.h>
#include <vmmu/vm.h>

#include "core/base/types.h"

#define SPTE_PRESENT BIT(11)
#define SPTE_HOST_W  BIT(57)
#define SPTE_MMU_W   BIT(58)
#define SPTE_HUGE    BIT(7)
#define SPTE_ADDR    VMMU_ENTRY_ADDR

/*
 * One thread owns the entry while it takes the subtree apart (F56); others retry. Not present, to hardware or
 * software.
 */
#define SPTE_FROZEN  UINT64_C(0x80000000000001a0)

struct format {
	spte_t leaf;     /* set in every leaf: readable, and what hardware wants besides */
	spte_t table;    /* set in every entry that points to a table: all rights, accessed */
	spte_t write, exec, no_exec; /* exec is set to allow, no_exec to forbid; one of them is 0 */
	spte_t accessed, dirty; /* 0 where hardware sets neither */
	spte_t young;    /* a leaf with one of these was used since it was last aged */
	/*
	 * What aging takes away: the A bit, which is then gone, or, without A bits, all rights, which move up
	 * SPTE_ASIDE_SHIFT bits.
	 */
	spte_t aside;
	spte_t any_write; /* the write right, also when it is laid aside */
	spte_t mmio;     /* makes hardware fault on an MMIO entry */
	spte_t mmio_mask; /* the bits that `mmio` is a pattern of */
};

extern const struct format format_npt, format_ept, format_ept_no_ad;

#define SPTE_ASIDE_SHIFT 54

static inline bool spte_is_present(spte_t spte)
{
	return spte & SPTE_PRESENT;
}

static inline bool spte_is_leaf(spte_t spte, int level)
{
	return spte_is_present(spte) && (level == 1 || (spte & SPTE_HUGE));
}

static inline bool spte_is_table(spte_t spte, int level)
{
	return spte_is_present(spte) && level > 1 && !(spte & SPTE_HUGE);
}

static inline bool spte_is_frozen(spte_t spte)
{
	return spte == SPTE_FROZEN;
}

static inline pfn_t spte_pfn(spte_t spte)
{
	return PFN((spte & SPTE_ADDR) >> PAGE_SHIFT);
}

/** Did aging lay the rights of this present leaf aside, with no use since? */
static inline bool spte_is_laid_aside(const struct format *format, spte_t spte)
{
	return !format->accessed && !(spte & format->young);
}

/** The present leaf, aged. Neither its frame nor what may be done with it changes (I2.4). */
static inline spte_t spte_aged(const struct format *format, spte_t spte)
{
	return (spte & ~format->aside) | (format->accessed ? 0 : (spte & format->aside) << SPTE_ASIDE_SHIFT);
}

/** The present leaf with its rights where hardware finds them. */
static inline spte_t spte_rejuvenated(const struct format *format, spte_t spte)
{
	spte_t kept = format->aside << SPTE_ASIDE_SHIFT;

	return spte_is_laid_aside(format, spte) ? (spte & ~kept) | (spte & kept) >> SPTE_ASIDE_SHIFT : spte;
}

/**
 * The present leaf without the write right, and such that the fast path does not give it back: its frame holds a table
 * that is mirrored (N1).
 */
static inline spte_t spte_write_tracked(const struct format *format, spte_t spte)
{
	return spte & ~(format->any_write | SPTE_MMU_W);
}

/** May the guest do `access` through this present leaf? */
static inline bool spte_allows(const struct format *format, spte_t spte, unsigned access)
{
	if (spte_is_laid_aside(format, spte))
		return false;
	if ((access & VMMU_WRITE) && !(spte & format->write))
		return false;
	return !(access & VMMU_EXEC) || ((spte & format->exec) == format->exec && !(spte & format->no_exec));
}

/**
 * A leaf for the block that begins with frame `pfn`. `young`, `dirty`: bits that the coming access would set anyway.
 */
spte_t spte_make_leaf(const struct format *format, pfn_t pfn, int level, bool host_writable, bool writable, bool young,
                      bool dirty);

/** One of the 512 leaves at `level` that together say what the huge leaf one level above said. */
spte_t spte_make_split(spte_t huge, int level, unsigned index);

static inline spte_t spte_make_table(const struct format *format, pfn_t table)
{
	return format->table | SPTE_PRESENT | table.v << PAGE_SHIFT;
}

/*
 * MMIO entries (P10): not PRESENT; the gfn in the address field; 18 bits of the memslot generation, 8 in bits 3-10 and
 * 10 in bits 52-61.
 */
#define MMIO_GENERATION_MASK (BIT(18) - 1)

/*
 * L1TF (F50). A CPU with this flaw speculates through an entry that faults: it takes the address in the entry, and
 * reads what the L1 data cache has there. So an MMIO entry must name an address where no memory is. `guard` is the
 * mask of the top five bits of the address, as that cache compares it; every MMIO entry has them set (0: no such CPU).
 * The gfn's own bits of that place stand five bits higher, beyond the CPU's widest address. The other entries that
 * hardware takes for absent are 0, FROZEN, or a page of the guest's own, laid aside.
 */
#define MMIO_GUARD_BITS 5

static inline spte_t mmio_guard(unsigned l1d_phys_bits)
{
	return l1d_phys_bits ? BIT_MASK(l1d_phys_bits - 1, l1d_phys_bits - MMIO_GUARD_BITS) : 0;
}

spte_t spte_make_mmio(const struct format *format, spte_t guard, gfn_t gfn, uint64_t generation);

static inline bool spte_is_mmio(const struct format *format, spte_t spte)
{
	return (spte & (format->mmio_mask | SPTE_PRESENT)) == format->mmio;
}

static inline uint64_t spte_mmio_generation(spte_t spte)
{
	return (spte >> 3 & 0xff) | (spte >> 52 & 0x3ff) << 8;
}

static inline gfn_t spte_mmio_gfn(spte_t guard, spte_t spte)
{
	if (!guard)
		return GFN((spte & SPTE_ADDR) >> PAGE_SHIFT);
	return GFN(((spte & SPTE_ADDR & ((guard & -guard) - 1)) | (spte >> MMIO_GUARD_BITS & guard)) >> PAGE_SHIFT);
}

#endif
