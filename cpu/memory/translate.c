/* SPDX-License-Identifier: MIT */
/*
 * cpu_translate: a walk for the owner, without effects, that reads the guest's tables through the slots. Tables of a
 * nested guest with nested paging are found through the hypervisor's, which are walked in the same way.
 */
#include "cpu/base/private.h"
#include "cpu/memory/walk.h"

#define RIGHT_W UINT64_C(2)
#define RIGHT_U UINT64_C(4)

/* Page tables, and how they are read. */
struct tables {
	uint64_t root, cr4, efer;
	const struct tables *under; /* what translates the addresses in them; NULL: they are the guest's own */
};

static bool translate(struct cpu *cpu, const struct tables *t, uint64_t address, uint64_t *gpa, uint64_t *rights);

/* A hypervisor's nested table. It maps no address that is wider than its levels, and every access is a user's. */
static bool translate_nested(struct cpu *cpu, const struct tables *t, uint64_t *gpa)
{
	unsigned bits = !(t->efer & EFER_LMA) ? 32 : t->cr4 & CR4_LA57 ? 57 : 48;
	uint64_t rights;

	return *gpa >> bits == 0 && translate(cpu, t, *gpa, gpa, &rights) && (rights & RIGHT_U);
}

static bool entry_read(struct cpu *cpu, const struct tables *t, uint64_t gpa, unsigned size, uint64_t *entry)
{
	*entry = 0;
	if (t->under != NULL && !translate_nested(cpu, t->under, &gpa))
		return false;
	return vmmu_guest_read(cpu->p->vcpu, (struct vmmu_gpa){ gpa }, entry, size) == VMMU_OK;
}

static bool translate_32(struct cpu *cpu, const struct tables *t, uint64_t address, uint64_t *gpa, uint64_t *rights)
{
	uint64_t pde, pte;

	if (!entry_read(cpu, t, (t->root & 0xfffff000) + (address >> 22 & 1023) * 4, 4, &pde) || !(pde & 1))
		return false;
	if ((pde & 0x80) && (t->cr4 & CR4_PSE)) {
		*gpa = (pde & 0xffc00000) | (pde >> 13 & 0xff) << 32 | (address & 0x3fffff);
		*rights = pde;
		return true;
	}
	if (!entry_read(cpu, t, (pde & 0xfffff000) + (address >> 12 & 1023) * 4, 4, &pte) || !(pte & 1))
		return false;
	*gpa = (pte & 0xfffff000) | (address & 0xfff);
	*rights = pde & pte;
	return true;
}

static bool translate_long(struct cpu *cpu, const struct tables *t, unsigned levels, uint64_t address, uint64_t *gpa,
                           uint64_t *rights)
{
	bool pae = levels == 3;
	uint64_t table = t->root & (pae ? UINT64_C(0xffffffe0) : UINT64_C(0x000ffffffffff000)), e;

	*rights = ~UINT64_C(0);
	for (unsigned level = levels;; level--) {
		unsigned shift = 12 + 9 * (level - 1);

		if (!entry_read(cpu, t, table + (address >> shift & (pae && level == 3 ? 3 : 511)) * 8, 8, &e) ||
		    !(e & 1))
			return false;
		if (!(pae && level == 3))
			*rights &= e;
		table = e & UINT64_C(0x000ffffffffff000);
		if (level == 1 || (level <= 3 && (e & 0x80))) {
			uint64_t inside = (UINT64_C(1) << shift) - 1;

			*gpa = (table & ~inside) | (address & inside);
			return true;
		}
	}
}

static bool translate(struct cpu *cpu, const struct tables *t, uint64_t address, uint64_t *gpa, uint64_t *rights)
{
	if (t->efer & EFER_LMA)
		return translate_long(cpu, t, t->cr4 & CR4_LA57 ? 5 : 4, address, gpa, rights);
	if (t->cr4 & CR4_PAE)
		return translate_long(cpu, t, 3, address, gpa, rights);
	return translate_32(cpu, t, address, gpa, rights);
}

static struct tables nested_tables_of(const struct cpu *cpu)
{
	const struct vmmu_nested *nested = &cpu->p->context->table;

	return (struct tables){ nested->root, nested->cr4, nested->efer, NULL };
}

bool cpu_translate(struct cpu *cpu, uint64_t linear, uint64_t *gpa, bool *writable, bool *user)
{
	const struct tables nested = nested_tables_of(cpu);
	const struct tables t = {
		cpu->s.cr3, cpu->s.cr4, cpu->s.efer, cpu->p->context->nested ? &nested : NULL
	};
	uint64_t rights = RIGHT_W | RIGHT_U;
	bool ok = true;

	*gpa = linear;
	if (cpu->s.cr0 & CR0_PG)
		ok = translate(cpu, &t, linear, gpa, &rights);
	if (ok && t.under != NULL)
		ok = translate_nested(cpu, &nested, gpa);
	*writable = ok && (rights & RIGHT_W);
	*user = ok && (rights & RIGHT_U);
	return ok;
}

uint64_t second_stage_origin(struct cpu *cpu, uint64_t gpa)
{
	const struct tables nested = nested_tables_of(cpu);

	if (!cpu->p->context->nested)
		return gpa;
	return translate_nested(cpu, &nested, &gpa) ? gpa : 0;
}

unsigned code_read(struct cpu *cpu, uint64_t linear, uint8_t *to, unsigned most)
{
	unsigned read = 0;

	while (read < most) {
		uint64_t at = (linear + read) & cpu->lin_mask, gpa;
		unsigned n = 4096 - (unsigned)(at & 0xfff);
		bool writable, user;

		n = n < most - read ? n : most - read;
		if (!cpu_translate(cpu, at, &gpa, &writable, &user) ||
		    vmmu_guest_read(cpu->p->vcpu, (struct vmmu_gpa){ gpa }, to + read, n) != VMMU_OK)
			break;
		read += n;
	}
	return read;
}
