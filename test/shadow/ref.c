/* SPDX-License-Identifier: MIT */
#include "test/shadow/ref.h"

#include <string.h>

#define PHYS_BITS 48

struct step {
	uint64_t at; /* the gpa of the entry */
	uint64_t value;
	unsigned size;
};

struct walk {
	struct step step[5];
	unsigned steps;
	bool writable, user, no_exec;
	unsigned key;
};

static bool cpu_nx(const struct ref_cpu *cpu)
{
	bool pae = cpu->cr4 & 1 << 5;

	return pae && (cpu->efer & 1 << 11);
}

static bool entry_load(const uint8_t *ram, uint64_t bytes, struct walk *walk, uint64_t at, unsigned size)
{
	struct step *step = &walk->step[walk->steps++];

	*step = (struct step){ .at = at, .size = size };
	if (at + size > bytes) {
		walk->steps--;
		return false;
	}
	memcpy(&step->value, ram + at, size);
	return step->value & 1;
}

static void rights_add(struct walk *walk, uint64_t value, bool wide)
{
	walk->writable &= value >> 1 & 1;
	walk->user &= value >> 2 & 1;
	if (wide)
		walk->no_exec |= value >> 63;
}

/* The result of a walk: 0, with the address in *gpa, or the error bits of a fault, with bit 31 set. */
#define FAULT     0x80000000u
#define NOT_THERE FAULT
#define RESERVED  (FAULT | 1 | 8)

static uint32_t walk_32(const uint8_t *ram, uint64_t bytes, const struct ref_cpu *cpu, uint64_t gva, struct walk *walk,
                        uint64_t *gpa)
{
	uint64_t pde, pte;

	if (!entry_load(ram, bytes, walk, (cpu->cr3 & 0xfffff000) + (gva >> 22) * 4, 4))
		return NOT_THERE;
	pde = walk->step[0].value;
	rights_add(walk, pde, false);
	if ((cpu->cr4 & 1 << 4) && (pde & 0x80)) {
		if (pde & 1 << 21)
			return RESERVED;
		*gpa = (pde & 0xffc00000) | (pde >> 13 & 0xff) << 32 | (gva & 0x3fffff);
		return 0;
	}
	if (!entry_load(ram, bytes, walk, (pde & 0xfffff000) + (gva >> 12 & 0x3ff) * 4, 4))
		return NOT_THERE;
	pte = walk->step[1].value;
	rights_add(walk, pte, false);
	*gpa = (pte & 0xfffff000) | (gva & 0xfff);
	return 0;
}

static uint64_t high_bits(void)
{
	return ((1ull << 52) - 1) & ~((1ull << PHYS_BITS) - 1);
}

static uint32_t walk_pae(const uint8_t *ram, uint64_t bytes, const struct ref_cpu *cpu, uint64_t gva, struct walk *walk,
                         uint64_t *gpa)
{
	uint64_t reserved = high_bits() | 0x7ff0000000000000 | (cpu_nx(cpu) ? 0 : 1ull << 63), value;

	if (!(cpu->pdpte[gva >> 30 & 3] & 1))
		return NOT_THERE;
	if (!entry_load(ram, bytes, walk, (cpu->pdpte[gva >> 30 & 3] & 0x000ffffffffff000) + (gva >> 21 & 0x1ff) * 8,
	                8))
		return NOT_THERE;
	value = walk->step[0].value;
	if (value & (reserved | (value & 0x80 ? 0x1fe000 : 0)))
		return RESERVED;
	rights_add(walk, value, true);
	if (value & 0x80) {
		*gpa = (value & 0x000fffffffe00000) | (gva & 0x1fffff);
		return 0;
	}
	if (!entry_load(ram, bytes, walk, (value & 0x000ffffffffff000) + (gva >> 12 & 0x1ff) * 8, 8))
		return NOT_THERE;
	value = walk->step[1].value;
	if (value & reserved)
		return RESERVED;
	rights_add(walk, value, true);
	*gpa = (value & 0x000ffffffffff000) | (gva & 0xfff);
	return 0;
}

static uint32_t walk_64(const uint8_t *ram, uint64_t bytes, const struct ref_cpu *cpu, uint64_t gva, struct walk *walk,
                        uint64_t *gpa)
{
	int levels = cpu->cr4 & 1 << 12 ? 5 : 4;
	uint64_t table = cpu->cr3 & 0x000ffffffffff000, no_nx = cpu_nx(cpu) ? 0 : 1ull << 63;

	for (int level = levels; level >= 1; level--) {
		int shift = 12 + 9 * (level - 1);
		uint64_t value, reserved = high_bits() | no_nx;

		if (!entry_load(ram, bytes, walk, table + (gva >> shift & 0x1ff) * 8, 8))
			return NOT_THERE;
		value = walk->step[walk->steps - 1].value;
		if (level >= 4)
			reserved |= 0x180; /* as AMD's processors */
		if (level == 3 && (value & 0x80))
			reserved |= 0x3fffe000;
		if (level == 2 && (value & 0x80))
			reserved |= 0x1fe000;
		if (value & reserved)
			return RESERVED;
		rights_add(walk, value, true);
		if (level == 1 || (value & 0x80 && level < 4)) {
			uint64_t inside = (1ull << shift) - 1;

			walk->key = value >> 59 & 15;
			*gpa = (value & 0x000ffffffffff000 & ~inside) | (gva & inside);
			return 0;
		}
		table = value & 0x000ffffffffff000;
	}
	return NOT_THERE;
}

static uint32_t rights_check(const struct ref_cpu *cpu, const struct walk *walk, enum ref_access access)
{
	bool wp = cpu->cr0 >> 16 & 1, smep = cpu->cr4 >> 20 & 1, smap = cpu->cr4 >> 21 & 1;
	uint32_t keys = cpu->pkru >> (2 * walk->key) & 3, denied = 0;

	if (cpu->user && !walk->user)
		return FAULT | 1;
	if (access == REF_FETCH)
		return walk->no_exec || (!cpu->user && smep && walk->user) ? FAULT | 1 : 0;
	if (access == REF_WRITE && !walk->writable && (cpu->user || wp))
		denied = FAULT | 1;
	if (!cpu->user && smap && walk->user && !cpu->ac)
		denied = FAULT | 1;
	/* The PK flag is set whatever else denies the access (SDM vol. 3, 4.7). */
	if ((cpu->cr4 >> 22 & 1) && (cpu->efer & 1 << 10) && walk->user &&
	    ((keys & 1) || ((keys & 2) && access == REF_WRITE && (cpu->user || wp))))
		denied = FAULT | 1 | 0x20;
	return denied;
}

static void mark(uint8_t *ram, const struct step *step, uint64_t bits, struct ref_result *result)
{
	uint64_t value = step->value | bits;

	if (value == step->value)
		return;
	memcpy(ram + step->at, &value, step->size);
	result->marked_frame[result->marked_count++] = step->at >> 12;
}

static uint32_t walk_any(const uint8_t *ram, uint64_t bytes, const struct ref_cpu *cpu, uint64_t gva, struct walk *walk,
                         uint64_t *gpa)
{
	if (cpu->efer & 1 << 10)
		return walk_64(ram, bytes, cpu, gva, walk, gpa);
	if (cpu->cr4 & 1 << 5)
		return walk_pae(ram, bytes, cpu, gva, walk, gpa);
	return walk_32(ram, bytes, cpu, gva, walk, gpa);
}

unsigned ref_tables(const uint8_t *ram, uint64_t bytes, const struct ref_cpu *cpu, uint64_t gva, uint64_t table[5])
{
	struct walk walk = { .steps = 0 };
	uint64_t gpa;

	if (!(cpu->cr0 >> 31))
		return 0;
	walk_any(ram, bytes, cpu, gva, &walk, &gpa);
	for (unsigned i = 0; i < walk.steps; i++)
		table[i] = walk.step[i].at >> 12;
	return walk.steps;
}

struct ref_result ref_translate(uint8_t *ram, uint64_t bytes, const struct ref_cpu *cpu, uint64_t gva,
                                enum ref_access access)
{
	struct walk walk = { .writable = true, .user = true };
	struct ref_result result = { .gpa = gva };
	uint32_t found = 0;

	if (!(cpu->cr0 >> 31))
		return result;
	found = walk_any(ram, bytes, cpu, gva, &walk, &result.gpa);
	for (unsigned i = 0; i < walk.steps; i++)
		result.table[result.tables++] = walk.step[i].at >> 12;
	if (!found)
		found = rights_check(cpu, &walk, access);
	if (found) {
		result.fault = true;
		result.error = (found & ~FAULT) | (access == REF_WRITE ? 2 : 0) | (cpu->user ? 4 : 0) |
		               (access == REF_FETCH && (cpu_nx(cpu) || cpu->cr4 >> 20 & 1) ? 16 : 0);
		return result;
	}
	for (unsigned i = 0; i < walk.steps; i++)
		mark(ram, &walk.step[i], i == walk.steps - 1 && access == REF_WRITE ? 0x60 : 0x20, &result);
	return result;
}

void ref_load_pdptes(const uint8_t *ram, uint64_t bytes, struct ref_cpu *cpu)
{
	uint64_t at = cpu->cr3 & 0xffffffe0;

	for (int i = 0; i < 4; i++) {
		cpu->pdpte[i] = 0;
		if (at + i * 8 + 8 <= bytes)
			memcpy(&cpu->pdpte[i], ram + at + i * 8, 8);
	}
}
