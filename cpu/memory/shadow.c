/* SPDX-License-Identifier: MIT */
/*
 * Shadow paging from the CPU's side.
 *
 *     linear --entry.root--> host page          the library's tables; the guest's are never looked at here
 *
 * A walk that fails leaves the guest, and vmmu_page_fault says why it failed. If the guest's own tables forbid the
 * access, the instruction runs again and raises #PF where the walk fails again. So whatever was under way, such as
 * the delivery of an event, is as it was.
 */
#include <vmmu/format.h>
#include <vmmu/mmu.h>

#include "cpu/memory/codemap.h"
#include "cpu/memory/mem.h"
#include "cpu/memory/mirrored.h"
#include "cpu/memory/shadow.h"
#include "cpu/memory/walk.h"

/* ---- the walk ------------------------------------------------------------------------------------------ */

#define DENIED 0x80000000u /* set in every fault, also in one without error bits */

/* What the entries from the root to a leaf say together. */
struct shadow_leaf {
	uint64_t rights; /* VMMU_NPT_W and U: those of all entries */
	bool no_exec;
	unsigned key;
};

/*
 * Checks rights as hardware does with CR0.WP and EFER.NX set. The guest's other controls apply while the guest pages.
 */
static bool shadow_allows(const struct cpu *cpu, const struct shadow_leaf *leaf, enum access access)
{
	bool user = cpu->tlb_tag & TLB_USER, user_page = leaf->rights & VMMU_NPT_U, paging = cpu->s.cr0 & CR0_PG;

	if (user && !user_page)
		return false;
	if (access == ACCESS_EXEC)
		return !leaf->no_exec && !(!user && user_page && paging && (cpu->s.cr4 & CR4_SMEP));
	if (access == ACCESS_WRITE && !(leaf->rights & VMMU_NPT_W))
		return false;
	if (!user_page || !paging)
		return true;
	if (cpu->tlb_tag & TLB_SMAP)
		return false;
	if (unlikely((cpu->s.cr4 & CR4_PKE) && (cpu->s.efer & EFER_LMA))) {
		uint32_t deny = cpu->s.pkru >> (2 * leaf->key) & 3;

		return !(deny & 1) && !((deny & 2) && access == ACCESS_WRITE);
	}
	return true;
}

/* Returns: 0 with *host and *writable set, or error bits with DENIED. */
GUEST_RACY static uint32_t shadow_tables(struct cpu *cpu, uint64_t linear, enum access access, uint64_t *host,
                                         bool *writable)
{
	uint64_t *table = (uint64_t *)(uintptr_t)cpu->entry.root;
	struct shadow_leaf leaf = { VMMU_NPT_W | VMMU_NPT_U, false, 0 };

	for (unsigned level = cpu->entry.levels;; level--) {
		unsigned shift = 12 + 9 * (level - 1);
		uint64_t *at = &table[linear >> shift & 511];
		uint64_t e = vmmu_table_entry_load(at), want = e | VMMU_NPT_A;

		if (!(e & VMMU_NPT_P))
			return DENIED;
		if (unlikely(e & VMMU_ENTRY_RSVD))
			return DENIED | VMMU_PF_PRESENT | VMMU_PF_RSVD;
		leaf.rights &= e;
		leaf.no_exec |= e >> 63;
		if (level == 1 || (level <= 3 && (e & VMMU_NPT_PS))) {
			uint64_t inside = (UINT64_C(1) << shift) - 1;

			leaf.key = e >> 59 & 15;
			if (!shadow_allows(cpu, &leaf, access))
				return DENIED | VMMU_PF_PRESENT;
			if (access == ACCESS_WRITE)
				want |= VMMU_NPT_D;
			*host = (e & VMMU_ENTRY_ADDR & ~inside) | (linear & inside);
			*writable = (leaf.rights & VMMU_NPT_W) && (want & VMMU_NPT_D);
			if (want == e || vmmu_table_entry_mark(at, e, want))
				return 0;
		} else if (want == e || vmmu_table_entry_mark(at, e, want)) {
			table = (uint64_t *)(uintptr_t)(e & VMMU_ENTRY_ADDR);
			continue;
		}
		/* The entry changed, and its table may have been removed. Begin again. */
		table = (uint64_t *)(uintptr_t)cpu->entry.root;
		leaf = (struct shadow_leaf){ VMMU_NPT_W | VMMU_NPT_U, false, 0 };
		level = cpu->entry.levels + 1;
	}
}

static void fill(struct cpu *cpu, enum tlb_kind kind, uint64_t linear, uint64_t host, bool slow)
{
	struct tlb_entry *e = &cpu->tlb[kind][(linear >> 12) % TLB_ENTRIES];

	slow |= kind != TLB_EXEC && debug_watches(cpu, linear);
	e->tag = (linear & ~UINT64_C(0xfff)) | cpu->tlb_tag | (slow ? TLB_SLOW : 0);
	e->addend = (host & ~UINT64_C(0xfff)) - (linear & ~UINT64_C(0xfff));
}

/* ---- faults -------------------------------------------------------------------------------------------- */

static uint64_t error_code(const struct cpu *cpu, uint32_t found, enum access access)
{
	uint64_t error = found & (VMMU_PF_PRESENT | VMMU_PF_RSVD);

	if (access == ACCESS_WRITE)
		error |= VMMU_PF_WRITE;
	if (access == ACCESS_EXEC)
		error |= VMMU_PF_FETCH;
	if (cpu->tlb_tag & TLB_USER)
		error |= VMMU_PF_USER;
	else if ((cpu->tlb_tag & TLB_SMAP) && access != ACCESS_EXEC)
		error |= VMMU_PF_SMAP;
	return error;
}

/* The access in the form of a TLB tag, without the generation. */
static uint64_t access_tag(const struct cpu *cpu, uint64_t linear)
{
	return (linear & ~UINT64_C(0xfff)) | (cpu->tlb_tag & (TLB_USER | TLB_SMAP));
}

static const struct mmio_armed *armed_find(const struct cpu *cpu, uint64_t linear, enum access access)
{
	const struct cpu_private *p = cpu->p;

	for (unsigned i = 0; i < p->armed_count; i++) {
		const struct mmio_armed *a = &p->armed[i];

		if (a->write == (access == ACCESS_WRITE) && a->tag == access_tag(cpu, linear))
			return a;
	}
	return NULL;
}

/* The page is a guest table. Its host page, which reads lead to, tells whether it holds decoded code. */
static void place_behind(struct cpu *cpu, uint64_t linear, struct place *place)
{
	struct place seen = cpu_shadow_walk(cpu, linear, ACCESS_READ);

	if (seen.host == NULL) { /* the page went away meanwhile */
		cpu->p->armed_count = 0;
		cpu->p->single_next = true;
		cpu_leave(cpu, LEAVE_RESTART);
	}
	place->behind = seen.host;
}

static struct place shadow_denied(struct cpu *cpu, uint64_t linear, enum access access, uint64_t error)
{
	const struct mmio_armed *armed = access == ACCESS_EXEC ? NULL : armed_find(cpu, linear, access);
	struct shadow_state *s = &cpu->p->shadow;
	struct place place = { .host = NULL };

	if (armed != NULL) {
		place.gpa = armed->target << 12 | (linear & 0xfff);
		if (armed->emulate)
			place_behind(cpu, linear, &place);
		return place;
	}
	if (s->guest_fault && s->gva == linear && s->error == error) {
		s->guest_fault = false;
		if (s->guest_emulates)
			cpu_unimplemented(cpu);
		cpu->s.events.exception.has_payload = true;
		cpu->s.events.exception.payload = linear;
		cpu_raise_error(cpu, VECTOR_PF, s->guest_error);
	}
	s->gva = linear;
	s->error = error;
	s->tag = access_tag(cpu, linear);
	cpu_leave(cpu, LEAVE_FAULT);
}

struct place cpu_shadow_walk(struct cpu *cpu, uint64_t linear, enum access access)
{
	struct place place = { .host = NULL };
	uint64_t host;
	bool writable;
	uint32_t found = shadow_tables(cpu, linear, access, &host, &writable);

	if (unlikely(found))
		return shadow_denied(cpu, linear, access, error_code(cpu, found, access));
	place.host = (uint8_t *)(uintptr_t)host;
	if (access == ACCESS_EXEC) {
		fill(cpu, TLB_EXEC, linear, host, false);
		return place;
	}
	if (access == ACCESS_WRITE) {
		place.slow = codemap_for_write(cpu, place.host) != NULL;
		fill(cpu, TLB_WRITE, linear, host, place.slow);
	}
	fill(cpu, TLB_READ, linear, host, false);
	return place;
}

/* Is the address too wide only by the guest's CPUID? See raise_reserved in walk.c. */
static bool too_wide(struct cpu *cpu, uint64_t linear)
{
	bool writable, user;
	uint64_t gpa;

	return cpu_translate(cpu, linear, &gpa, &writable, &user) && (gpa & ~cpu->p->phys_mask);
}

enum shadow_answer cpu_shadow_fault(struct cpu *cpu, uint64_t nowait)
{
	struct cpu_private *p = cpu->p;
	struct shadow_state *s = &p->shadow;
	struct vmmu_page_info info;

	switch (vmmu_page_fault(p->vcpu, (struct vmmu_gva){ s->gva }, s->error | nowait, cpu->s.pkru, &info)) {
	case VMMU_PAGE_FIXED:
	case VMMU_PAGE_RETRY:
		return SHADOW_RUN;
	case VMMU_PAGE_GUEST:
		s->guest_fault = true;
		s->guest_error = (uint32_t)info.error;
		s->guest_emulates = (info.error & VMMU_PF_RSVD) && (cpu->op->flags & OPF_X87) && too_wide(cpu, s->gva);
		return SHADOW_RUN;
	case VMMU_PAGE_EMULATE:
		return mirrored_fault(cpu, info.gpa.v, info.gpa) ? SHADOW_RUN : SHADOW_STUCK;
	case VMMU_PAGE_MMIO:
		p->fault_gpa = info.gpa;
		p->fault_error = s->error;
		return SHADOW_MMIO;
	case VMMU_PAGE_HOST:
		p->fault_gpa = info.gpa;
		return SHADOW_HOST;
	case VMMU_PAGE_WAIT:
		p->fault_gpa = info.gpa;
		return SHADOW_WAIT;
	case VMMU_PAGE_NOMEM:
		return SHADOW_NOMEM;
	default:
		return SHADOW_DEAD;
	}
}
