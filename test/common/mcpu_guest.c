/* SPDX-License-Identifier: MIT */
/* The kernel of a guest whose page tables map every address to itself (mcpu.h). */
#include <stdlib.h>

#include "test/common/mcpu.h"

#define P    UINT64_C(1)
#define W    UINT64_C(2)
#define U    UINT64_C(4)
#define A    UINT64_C(0x20)
#define D    UINT64_C(0x40)
#define PS   UINT64_C(0x80)
#define ADDR UINT64_C(0x000ffffffffff000)

#define ROOM_FOR_PDPTS 513u /* so many frames are kept for upper tables: when no more are left, all pages are large */

static uint64_t *entry_at(const struct mcpu_guest *g, uint64_t table, uint64_t address, int level)
{
	return (uint64_t *)(g->hva + (table - g->gpa)) + (address >> (3 + 9 * level) & 511);
}

static uint64_t entry_load(const uint64_t *entry)
{
	return __atomic_load_n(entry, __ATOMIC_RELAXED);
}

static bool is_leaf(uint64_t e, int level)
{
	return level == 1 || (e & PS);
}

/* Is the address mapped by a leaf at this level? The answer is always the same, until frames run short. */
static bool wants_leaf(const struct mcpu_guest *g, uint64_t address, int level)
{
	uint64_t salt = (address >> (3 + 9 * level)) * 0x9e3779b97f4a7c15 >> 40;

	if (level == 1)
		return true;
	if (level > 3 || address >> 30 == g->gpa >> 30)
		return false;
	/* When frames run short, every leaf is a large page. */
	return g->next + ROOM_FOR_PDPTS > g->frames || salt % (level == 3 ? 16 : 4) == 0;
}

/* Change an entry. `cpu`: NULL before the guest runs, when its loader makes the tables. */
static enum mcpu_result entry_store(struct mcpu *cpu, struct mcpu_guest *g, uint64_t *entry, uint64_t value)
{
	uint64_t gpa = g->gpa + ((char *)entry - g->hva);
	enum vmmu_status status;

	if (!cpu) {
		*entry = value;
		return MCPU_OK;
	}
	cpu->edits++;
	if (rng_one_in(&cpu->rng, 2))
		return mcpu_write(cpu, gpa, value);
	mcpu_leave(cpu);
	status = vmmu_guest_write(cpu->vcpu, (struct vmmu_gpa){ gpa }, &value, sizeof(value));
	return status == VMMU_OK ? MCPU_OK : status == VMMU_EBUSY ? MCPU_RING_FULL : MCPU_HOST;
}

/* The entry for an address that has none at this level. */
static uint64_t entry_new(struct mcpu *cpu, struct mcpu_guest *g, uint64_t old, uint64_t address, int level)
{
	uint64_t bits = P | W | U | (cpu ? rng_next(&cpu->rng) & (A | D) : A | D);

	if (wants_leaf(g, address, level)) {
		if (cpu && rng_one_in(&cpu->rng, 4))
			bits &= ~W;
		return (address & ADDR & ~((UINT64_C(4096) << 9 * (level - 1)) - 1)) | bits | (level > 1 ? PS : 0);
	}
	if (!(old & ADDR) || (old & PS)) {
		if (g->next == g->frames)
			abort();
		old = g->gpa + (uint64_t)g->next++ * 4096;
	}
	return (old & ADDR) | (bits & ~D);
}

/* Make the entries on the way to the address that are missing, or that forbid the write. */
static enum mcpu_result populate(struct mcpu *cpu, struct mcpu_guest *g, uint64_t address, bool write)
{
	uint64_t table = g->gpa;
	enum mcpu_result result;

	for (int level = 4;; level--) {
		uint64_t *entry = entry_at(g, table, address, level), e = entry_load(entry);

		if (!(e & P)) {
			e = entry_new(cpu, g, e, address, level);
			result = entry_store(cpu, g, entry, e);
			if (result != MCPU_OK)
				return result;
		} else if (is_leaf(e, level) && write && !(e & W)) {
			result = entry_store(cpu, g, entry, e | W);
			if (result != MCPU_OK)
				return result;
		}
		if (is_leaf(e, level))
			return MCPU_OK;
		table = e & ADDR;
	}
}

void mcpu_guest_init(struct mcpu_guest *g, uint64_t gpa, char *hva, unsigned frames)
{
	*g = (struct mcpu_guest){ .gpa = gpa, .hva = hva, .frames = frames, .next = 1 };
	pthread_mutex_init(&g->lock, NULL);
	/* Map the tables themselves, which are always mapped. */
	for (unsigned i = 0; i < frames; i++)
		populate(NULL, g, gpa + (uint64_t)i * 4096, true);
}

static void regs_load(struct mcpu *cpu, bool keep)
{
	vmmu_guest_regs_set(cpu->vcpu, &cpu->regs, keep);
}

static void guest_set(struct mcpu *cpu, struct mcpu_guest *g, uint64_t seed)
{
	rng_seed(&cpu->rng, seed);
	cpu->guest = g;
	cpu->regs = (struct vmmu_guest_regs){
		.cr0 = 0x80010001, .cr3 = g->gpa, .cr4 = 0x20, .efer = 0xd00, .phys_bits = 48, .gbpages = true,
	};
}

void mcpu_page(struct mcpu *cpu, struct mcpu_guest *g, uint64_t seed)
{
	guest_set(cpu, g, seed);
	regs_load(cpu, false);
}

void mcpu_nest(struct mcpu *cpu, struct mcpu_guest *g, uint64_t seed)
{
	guest_set(cpu, g, seed);
	cpu->nested = true;
}

enum mcpu_result mcpu_l2(struct mcpu *cpu, bool l2)
{
	const struct vmmu_nested l1 = {
		.format = VMMU_NESTED_NPT, .root = cpu->regs.cr3, .cr4 = cpu->regs.cr4, .efer = cpu->regs.efer,
		.phys_bits = cpu->regs.phys_bits, .gbpages = cpu->regs.gbpages,
	};
	enum vmmu_status status;

	mcpu_leave(cpu);
	if (l2) {
		status = vmmu_nested_enter(cpu->vcpu, &l1);
		if (status != VMMU_OK)
			return status == VMMU_ENOMEM ? MCPU_NOMEM : MCPU_STUCK;
		cpu->nested_enters++;
	} else {
		vmmu_nested_leave(cpu->vcpu);
	}
	cpu->l2 = l2;
	return MCPU_OK;
}

/* The kernel of L2's tables is L1, and runs now. Returns: did L2 run? */
static bool kernel_begin(struct mcpu *cpu)
{
	return cpu->l2 && mcpu_l2(cpu, false) == MCPU_OK;
}

/* Outside the guest again, as before. */
static enum mcpu_result kernel_end(struct mcpu *cpu, bool l2, enum mcpu_result result)
{
	enum mcpu_result back = MCPU_OK;

	mcpu_leave(cpu);
	if (l2)
		back = mcpu_l2(cpu, true);
	return result == MCPU_OK ? back : result;
}

enum mcpu_result mcpu_guest_fault(struct mcpu *cpu, uint64_t gpa, uint64_t error)
{
	enum mcpu_result result;
	bool l2;

	pthread_mutex_lock(&cpu->guest->lock);
	l2 = kernel_begin(cpu);
	result = kernel_end(cpu, l2, populate(cpu, cpu->guest, gpa, error & VMMU_PF_WRITE));
	pthread_mutex_unlock(&cpu->guest->lock);
	return result;
}

/* Take one entry on the way to an address away, at a random level, or take rights from a leaf. */
static enum mcpu_result unmap(struct mcpu *cpu, struct mcpu_guest *g, uint64_t address)
{
	uint64_t table = g->gpa;
	int until = 1 + rng_below(&cpu->rng, 3);

	if (address >> 30 == g->gpa >> 30)
		until = 1; /* the upper entries also map the kernel's own tables */
	for (int level = 4;; level--) {
		uint64_t *entry = entry_at(g, table, address, level), e = entry_load(entry);

		if (!(e & P))
			return MCPU_OK;
		if (is_leaf(e, level) || level == until)
			return entry_store(cpu, g, entry,
			                   rng_one_in(&cpu->rng, 4) && is_leaf(e, level) ? e & ~(W | A | D) : e & ~P);
		table = e & ADDR;
	}
}

/* L1's flushes are its CPU's alone. */
static void flush(struct mcpu *cpu, uint64_t gpa)
{
	mcpu_leave(cpu);
	switch (rng_below(&cpu->rng, 4)) {
	case 0:
		if (!cpu->nested)
			regs_load(cpu, false);
		break;
	case 1:
		if (!cpu->nested)
			vmmu_invpcid(cpu->vcpu, rng_below(&cpu->rng, 4), 0, (struct vmmu_gva){ gpa });
		mcpu_forget(cpu);
		break;
	case 2:
		if (!cpu->nested)
			vmmu_invlpg(cpu->vcpu, (struct vmmu_gva){ gpa });
		mcpu_forget_page(cpu, gpa);
		break;
	default:
		break; /* no flush is needed: old translations map the address to itself, too */
	}
}

/* Does the guest's table map the page? For who has its lock. */
static bool maps(const struct mcpu_guest *g, uint64_t address, bool write)
{
	uint64_t table = g->gpa;

	for (int level = 4;; level--) {
		uint64_t e = entry_load(entry_at(g, table, address, level));

		if (!(e & P) || (write && !(e & W)))
			return false;
		if (is_leaf(e, level))
			return true;
		table = e & ADDR;
	}
}

/* What L1's table no longer allows L2 is not in the shadow either, flushed or not (P4). */
static enum mcpu_result stale_check(struct mcpu *cpu, uint64_t gpa)
{
	bool write = rng_one_in(&cpu->rng, 2);

	if (maps(cpu->guest, gpa, write))
		return MCPU_OK;
	cpu->stale_checks++;
	return mcpu_reaches(cpu, gpa, write) ? MCPU_STALE : MCPU_OK;
}

/* Another mode, and so another role of the shadow pages: the tables mean the same in both. */
static enum mcpu_result mode_change(struct mcpu *cpu)
{
	if (cpu->nested) {
		cpu->regs.efer ^= 0x800; /* NXE: no entry has NX */
		return mcpu_l2(cpu, cpu->l2);
	}
	cpu->regs.cr0 ^= 0x10000; /* WP: it does not concern users */
	regs_load(cpu, rng_one_in(&cpu->rng, 2));
	return MCPU_OK;
}

enum mcpu_result mcpu_guest_churn(struct mcpu *cpu, uint64_t gpa)
{
	struct mcpu_guest *g = cpu->guest;
	enum mcpu_result result;
	bool l2;

	if (gpa - g->gpa < (uint64_t)g->frames * 4096)
		return MCPU_OK; /* the access is the kernel's own, to its tables */
	if (rng_one_in(&cpu->rng, 16))
		return mode_change(cpu);
	if (rng_one_in(&cpu->rng, 16)) {
		vmmu_unprotect(cpu->vcpu, (struct vmmu_gpa){ g->gpa + rng_below(&cpu->rng, g->next) * 4096 });
		return MCPU_OK;
	}
	pthread_mutex_lock(&g->lock);
	l2 = kernel_begin(cpu);
	result = kernel_end(cpu, l2, unmap(cpu, g, gpa));
	if (result == MCPU_OK && cpu->l2 && rng_one_in(&cpu->rng, 4))
		result = stale_check(cpu, gpa);
	pthread_mutex_unlock(&g->lock);
	flush(cpu, gpa);
	return result;
}
