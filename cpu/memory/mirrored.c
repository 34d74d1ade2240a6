/* SPDX-License-Identifier: MIT */
/*
 * Stores to memory that the library mirrors: tables of the guest, from which it has built tables of its own.
 *
 * The mapping of such a page lets nobody write, so the first store faults, and the library answers that it makes the
 * store itself. The page is armed, and the instruction runs again, alone. Its writes are collected, like those to a
 * device, and the library makes them when the instruction is complete. A locked instruction works on the page itself,
 * through its read translation, and the library is told afterwards. A locked access that crosses pages keeps the VM's
 * atomic lock until the library has written.
 *
 * A page that one instruction faults on again and again is given up as a table. So is one that the CPU itself writes,
 * to set Accessed and Dirty in it: it is a table of linear addresses as well.
 */
#include <string.h>

#include <vmmu/mmu.h>

#include "cpu/memory/codemap.h"
#include "cpu/memory/mirrored.h"

/* ---- faults -------------------------------------------------------------------------------------------- */

/* How many faults of one instruction on such pages: until the page is unprotected, and until the guest is stopped. */
#define UNPROTECT_AFTER 8u
#define EMULATE_MOST    32u

bool mirrored_fault(struct cpu *cpu, uint64_t gpa, struct vmmu_gpa target)
{
	struct cpu_private *p = cpu->p;
	struct shadow_state *s = &p->shadow;

	if (++s->emulations > EMULATE_MOST)
		return false;
	if (s->emulations > UNPROTECT_AFTER && vmmu_unprotect(p->vcpu, target))
		return true;
	if (p->armed_count == sizeof(p->armed) / sizeof(p->armed[0]))
		return true; /* a later round unprotects the page */
	p->armed[p->armed_count++] = (struct mmio_armed){
		.page = gpa >> 12, .target = target.v >> 12, .write = true, .emulate = true, .tag = s->tag
	};
	p->single_next = true;
	return true;
}

bool mirrored_walk_fault(struct cpu *cpu, struct vmmu_gpa target)
{
	if (++cpu->p->shadow.emulations > EMULATE_MOST)
		return false;
	/* When another CPU has done it already, the next walk succeeds just as well. */
	(void)vmmu_unprotect(cpu->p->vcpu, target);
	return true;
}

/* ---- the stores ---------------------------------------------------------------------------------------- */

void mirrored_write(struct cpu *cpu, const struct place *place, unsigned size, uint64_t value)
{
	struct shadow_state *s = &cpu->p->shadow;

	if (s->writes_count >= SHADOW_WRITES)
		cpu_unimplemented(cpu);
	s->writes[s->writes_count] = (struct shadow_store){ .gpa = place->gpa, .host = place->behind, .size = size };
	memcpy(s->writes[s->writes_count].data, &value, size);
	s->writes_count++;
}

void *mirrored_in_place(struct cpu *cpu, const struct place *place, unsigned size)
{
	struct shadow_state *s = &cpu->p->shadow;

	if (s->writes_count >= SHADOW_WRITES)
		cpu_unimplemented(cpu);
	s->writes[s->writes_count++] = (struct shadow_store){
		.gpa = place->gpa, .host = place->behind, .size = size, .made = true
	};
	return (void *)(uintptr_t)place->behind;
}

bool mirrored_make(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;
	struct shadow_state *s = &p->shadow;
	bool ok = true;

	for (unsigned i = 0; i < s->writes_count && ok; i++) {
		const struct shadow_store *w = &s->writes[i];
		struct code_page *page;

		if (w->made)
			vmmu_guest_written(p->vcpu, (struct vmmu_gpa){ w->gpa }, w->size);
		else
			ok = vmmu_guest_write(p->vcpu, (struct vmmu_gpa){ w->gpa }, w->data, w->size) == VMMU_OK;
		p->fault_gpa.v = w->gpa;
		/* Pairs with codemap_mark: either the decoder sees this store, or this CPU sees the decoder's line. */
		atomic_thread_fence(memory_order_seq_cst);
		page = codemap_find(p->vm, w->host);
		if (page != NULL)
			codemap_written(cpu, page);
	}
	s->writes_count = 0;
	if (p->atomic_locked)
		codemap_atomic_give(cpu);
	return ok;
}
