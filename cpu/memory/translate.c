/* SPDX-License-Identifier: MIT */
/* cpu_translate: a walk for the owner, without effects, that reads the guest's tables through the slots. */
#include "cpu/base/private.h"

/* Read a table entry through the slots. */
static bool entry_read(struct cpu *cpu, uint64_t gpa, unsigned size, uint64_t *entry)
{
	*entry = 0;
	return vmmu_guest_read(cpu->p->vcpu, (struct vmmu_gpa){ gpa }, entry, size) == VMMU_OK;
}

static bool translate_32(struct cpu *cpu, uint64_t linear, uint64_t *gpa, uint64_t *rights)
{
	uint64_t pde, pte;

	if (!entry_read(cpu, (cpu->s.cr3 & 0xfffff000) + (linear >> 22 & 1023) * 4, 4, &pde) || !(pde & 1))
		return false;
	if ((pde & 0x80) && (cpu->s.cr4 & CR4_PSE)) {
		*gpa = (pde & 0xffc00000) | (pde >> 13 & 0xff) << 32 | (linear & 0x3fffff);
		*rights = pde;
		return true;
	}
	if (!entry_read(cpu, (pde & 0xfffff000) + (linear >> 12 & 1023) * 4, 4, &pte) || !(pte & 1))
		return false;
	*gpa = (pte & 0xfffff000) | (linear & 0xfff);
	*rights = pde & pte;
	return true;
}

static bool translate_long(struct cpu *cpu, uint64_t linear, unsigned levels, uint64_t *gpa, uint64_t *rights)
{
	bool pae = levels == 3;
	uint64_t table = cpu->s.cr3 & (pae ? UINT64_C(0xffffffe0) : UINT64_C(0x000ffffffffff000)), e;

	*rights = ~UINT64_C(0);
	for (unsigned level = levels;; level--) {
		unsigned shift = 12 + 9 * (level - 1);

		if (!entry_read(cpu, table + (linear >> shift & (pae && level == 3 ? 3 : 511)) * 8, 8, &e) || !(e & 1))
			return false;
		if (!(pae && level == 3))
			*rights &= e;
		table = e & UINT64_C(0x000ffffffffff000);
		if (level == 1 || (level <= 3 && (e & 0x80))) {
			uint64_t inside = (UINT64_C(1) << shift) - 1;

			*gpa = (table & ~inside) | (linear & inside);
			return true;
		}
	}
}

bool cpu_translate(struct cpu *cpu, uint64_t linear, uint64_t *gpa, bool *writable, bool *user)
{
	uint64_t rights = 6;
	bool ok = true;

	if (!(cpu->s.cr0 & CR0_PG))
		*gpa = linear;
	else if (cpu->s.efer & EFER_LMA)
		ok = translate_long(cpu, linear, cpu->s.cr4 & CR4_LA57 ? 5 : 4, gpa, &rights);
	else if (cpu->s.cr4 & CR4_PAE)
		ok = translate_long(cpu, linear, 3, gpa, &rights);
	else
		ok = translate_32(cpu, linear, gpa, &rights);
	*writable = ok && (rights & 2);
	*user = ok && (rights & 4);
	return ok;
}
