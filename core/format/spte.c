/* SPDX-License-Identifier: MIT */
#include "core/format/spte.h"

/* EPT leaves are write-back and ignore the guest's PAT (SDM vol. 3, 29.3.7). */
#define EPT_WB_IPAT (UINT64_C(6) << 3 | BIT(6))

const struct format format_npt = {
	.leaf = VMMU_NPT_P | VMMU_NPT_U,
	.table = VMMU_NPT_P | VMMU_NPT_W | VMMU_NPT_U | VMMU_NPT_A,
	.write = VMMU_NPT_W,
	.no_exec = VMMU_NPT_NX,
	.accessed = VMMU_NPT_A,
	.dirty = VMMU_NPT_D,
	.young = VMMU_NPT_A,
	.aside = VMMU_NPT_A,
	.any_write = VMMU_NPT_W,
	.mmio = VMMU_NPT_P | VMMU_NPT_W | VMMU_NPT_U | BIT(51),
	.mmio_mask = VMMU_NPT_P | VMMU_NPT_W | VMMU_NPT_U | BIT(51),
};

const struct format format_ept = {
	.leaf = VMMU_EPT_R | EPT_WB_IPAT,
	.table = VMMU_EPT_R | VMMU_EPT_W | VMMU_EPT_X | VMMU_EPT_A,
	.write = VMMU_EPT_W,
	.exec = VMMU_EPT_X,
	.accessed = VMMU_EPT_A,
	.dirty = VMMU_EPT_D,
	.young = VMMU_EPT_A,
	.aside = VMMU_EPT_A,
	.any_write = VMMU_EPT_W,
	/* Writable and executable but not readable: a misconfiguration on every CPU (SDM vol. 3, 29.3.3.1). */
	.mmio = VMMU_EPT_W | VMMU_EPT_X | BIT(51),
	.mmio_mask = VMMU_EPT_R | VMMU_EPT_W | VMMU_EPT_X | BIT(51),
};

#define EPT_RWX (VMMU_EPT_R | VMMU_EPT_W | VMMU_EPT_X)

const struct format format_ept_no_ad = {
	.leaf = VMMU_EPT_R | EPT_WB_IPAT,
	.table = EPT_RWX,
	.write = VMMU_EPT_W,
	.exec = VMMU_EPT_X,
	.young = EPT_RWX,
	.aside = EPT_RWX,
	.any_write = VMMU_EPT_W | VMMU_EPT_W << SPTE_ASIDE_SHIFT,
	.mmio = VMMU_EPT_W | VMMU_EPT_X | BIT(51),
	.mmio_mask = EPT_RWX | BIT(51),
};

_Static_assert(((SPTE_HOST_W | SPTE_MMU_W | SPTE_ADDR | VMMU_ENTRY_RSVD) & EPT_RWX << SPTE_ASIDE_SHIFT) == 0,
               "rights are laid aside where nothing is");
_Static_assert((SPTE_FROZEN & (SPTE_PRESENT | VMMU_NPT_P | VMMU_EPT_R | VMMU_EPT_W | VMMU_EPT_X)) == 0,
               "a frozen entry maps nothing");
_Static_assert(((SPTE_PRESENT | SPTE_HOST_W | SPTE_MMU_W) &
                (SPTE_ADDR | VMMU_ENTRY_RSVD | VMMU_EPT_A | VMMU_EPT_D | VMMU_NPT_NX)) == 0,
               "software's bits are hardware's ignored bits");
_Static_assert(VMMU_NPT_PS == SPTE_HUGE && VMMU_EPT_PS == SPTE_HUGE, "one huge bit for both formats");

spte_t spte_make_leaf(const struct format *format, pfn_t pfn, int level, bool host_writable, bool writable, bool young,
                      bool dirty)
{
	spte_t spte = format->leaf | format->exec | SPTE_PRESENT | pfn.v << PAGE_SHIFT;

	if (level > 1)
		spte |= SPTE_HUGE;
	if (host_writable)
		spte |= SPTE_HOST_W | SPTE_MMU_W;
	if (writable)
		spte |= format->write;
	if (young)
		spte |= format->accessed;
	if (dirty)
		spte |= format->dirty;
	return spte;
}

spte_t spte_make_split(spte_t huge, int level, unsigned index)
{
	spte_t spte = huge + ((uint64_t)index * level_pages(level) << PAGE_SHIFT);

	return level == 1 ? spte & ~SPTE_HUGE : spte;
}

spte_t spte_make_mmio(const struct format *format, spte_t guard, gfn_t gfn, uint64_t generation)
{
	uint64_t gpa = gfn.v << PAGE_SHIFT;

	return format->mmio | gpa | guard | (gpa & guard) << MMIO_GUARD_BITS | (generation & 0xff) << 3 |
	       (generation >> 8 & 0x3ff) << 52;
}
