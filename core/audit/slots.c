/* SPDX-License-Identifier: MIT */
/* The slots: two sets that must be equal at a quiet point. */
#include "core/audit/audit_int.h"

struct slot_walk {
	struct audit *audit;
	const struct memslots *set, *other;
	uint64_t end;   /* first gfn after the slots seen */
	uint64_t count;
};

static bool slot_check(void *arg, struct memslot *slot)
{
	struct slot_walk *walk = arg;
	struct audit *audit = walk->audit;

	if (slot->flags & SLOT_INVALID)
		audit_fail(audit, "an INVALID slot is left", "slot ", slot->id, "base ", slot->base.v);
	if (slot->base.v < walk->end)
		audit_fail(audit, "slots overlap", "slot ", slot->id, "base ", slot->base.v);
	if (!slot->npages)
		audit_fail(audit, "an empty slot", "slot ", slot->id, NULL, 0);
	if (memslot_find_id(walk->set, slot->id) != slot || memslot_find_id(walk->other, slot->id) != slot)
		audit_fail(audit, "the two sets, or the numbers, disagree about a slot", "slot ", slot->id,
		           "base ", slot->base.v);
	if (!(slot->flags & VMMU_SLOT_LOG_DIRTY) && slot->dirty)
		audit_fail(audit, "a bitmap where nothing is logged", "slot ", slot->id, NULL, 0);
	if ((slot->flags & VMMU_SLOT_LOG_DIRTY) && !slot->dirty && !audit->vm->slots->ring_entries)
		audit_fail(audit, "no bitmap where writes are logged", "slot ", slot->id, NULL, 0);
	walk->end = slot->base.v + slot->npages;
	walk->count++;
	return false;
}

static bool span_count(void *arg, const struct memslot_span *span)
{
	(void)span;
	++*(uint64_t *)arg;
	return false;
}

static void audit_set(struct audit *audit, const struct memslots *set, const struct memslots *other)
{
	struct slot_walk walk = { .audit = audit, .set = set, .other = other };
	uint64_t by_hva = 0;

	memslots_for_each(set, slot_check, &walk);
	memslots_for_each_hva(set, HVA(0), HVA(~UINT64_C(0)), span_count, &by_hva);
	if (walk.count != set->count || by_hva != set->count)
		audit_fail(audit, "a set's trees and its count disagree", "by gfn ", walk.count, "by hva ", by_hva);
	if (set->last_used && memslot_find_id(set, set->last_used->id) != set->last_used)
		audit_fail(audit, "a set remembers a slot that is gone", NULL, 0, NULL, 0);
}

void audit_slots(struct audit *audit)
{
	struct slots *slots = audit->vm->slots;

	for (unsigned as_id = 0; as_id < audit->vm->address_spaces; as_id++) {
		const struct memslots *active = memslots_current(audit->vm, as_id),
		                      *other = &slots->set[as_id][!active->index];

		audit_set(audit, active, other);
		audit_set(audit, other, active);
		if (active->generation & GENERATION_IN_PROGRESS)
			audit_fail(audit, "a slot change never ended", "generation ", active->generation, NULL, 0);
	}
}
