/* SPDX-License-Identifier: MIT */
/*
 * A slot change: check (rules.c), reserve, commit.
 *
 *     CREATE         FLAGS           DELETE                  MOVE
 *                                    publish old as INVALID  publish old as INVALID
 *                                    zap                     zap
 *     publish new    publish new     publish without         publish new
 *
 * After each publication, once nobody reads the other set, the same change is made to that set. Nothing in the commit
 * can fail, so nothing is ever undone.
 */
#include "core/memslot/slots_int.h"

#include "core/base/assert.h"
#include "core/memslot/set.h"

/* All that a commit works with. */
struct commit {
	struct vm *vm;
	enum slot_change change;
	unsigned as_id;
	struct memslot *old;     /* NULL for CREATE */
	struct memslot *invalid; /* stands for `old` while it goes: DELETE, MOVE */
	struct memslot *new;     /* NULL for DELETE */
	/* For `new`, if the VM shadows by the time `new` is published (P1). Arrays left over are given back. */
	struct slot_arrays *arrays;
	struct slot_arrays *stale;  /* arrays of `old` that `new` has not taken over */
};

static struct memslot *slot_alloc(struct vm *vm)
{
	struct memslot *slot = vm_alloc(vm, sizeof(*slot));

	if (slot)
		add_relaxed(&vm->stats.slot_bytes, sizeof(*slot));
	return slot;
}

static void slot_free(struct vm *vm, struct memslot *slot)
{
	if (!slot)
		return;
	vm_free(vm, slot, sizeof(*slot));
	add_relaxed(&vm->stats.slot_bytes, -sizeof(*slot));
}

/* --- reserve --- */

static void new_fill(struct memslot *new, const struct vmmu_region *region)
{
	new->base = gpa_to_gfn(region->gpa);
	new->npages = region->bytes >> PAGE_SHIFT;
	new->hva = region->hva;
	new->flags = region->flags;
	new->id = (uint16_t)region->slot;
	new->as_id = (uint16_t)region->address_space;
}

/* A slot that goes on logging keeps its bitmap, so that a move loses no marks. */
static bool new_reserve_bitmap(struct vm *vm, struct memslot *new, const struct memslot *old)
{
	if (!(new->flags & VMMU_SLOT_LOG_DIRTY) || vm->slots->ring_entries)
		return true;
	if (old && old->dirty) {
		new->dirty = old->dirty;
		return true;
	}
	return bitmap_make(vm, new);
}

/*
 * Only under slots_arch_lock is it known whether `new` needs arrays, and by then nothing may fail any more. So make
 * them whenever there may be a first shadow root. old_free gives them back if there was none.
 */
static bool new_reserve_arrays(struct commit *c)
{
	return c->change == SLOT_FLAGS || c->vm->slots->hooks->arrays_reserve(c->vm, c->new, &c->arrays);
}

static void arrays_give_back(struct vm *vm, struct slot_arrays *arrays)
{
	if (arrays)
		vm->slots->hooks->arrays_free(vm, arrays);
}

static bool change_reserve(struct commit *c, const struct vmmu_region *region)
{
	struct vm *vm = c->vm;

	if (c->change == SLOT_DELETE || c->change == SLOT_MOVE) {
		c->invalid = slot_alloc(vm);
		if (!c->invalid)
			return false;
	}
	if (c->change == SLOT_DELETE)
		return true;
	if (!id_reserve(vm, &vm->slots->ids[c->as_id], region->slot))
		return false;
	c->new = slot_alloc(vm);
	if (!c->new)
		return false;
	new_fill(c->new, region);
	if (!new_reserve_arrays(c))
		return false;
	return new_reserve_bitmap(vm, c->new, c->old);
}

/* Nothing was published yet. The bitmap is reserved last, so there is none to give back. */
static void change_unreserve(struct commit *c)
{
	slot_free(c->vm, c->invalid);
	slot_free(c->vm, c->new);
	arrays_give_back(c->vm, c->arrays);
}

/* --- commit --- */

/* Publish `to` in place of `from`; either may be NULL. Holds: slots_arch_lock, which is free afterwards. */
static void swap_slot(struct commit *c, struct memslot *from, struct memslot *to)
{
	set_replace(slots_inactive(c->vm, c->as_id), from, to);
	slots_publish(c->vm, c->as_id);
}

/*
 * After this no mapping of the old slot is left, and faults on it retry until the change is complete (I3.1, F5).
 * Holds: slots_arch_lock before and after, but not during the grace period and the zap (P1).
 */
static void old_retire(struct commit *c)
{
	*c->invalid = *c->old;
	c->invalid->flags |= SLOT_INVALID;
	swap_slot(c, c->old, c->invalid);
	c->vm->slots->hooks->zap(c->vm, c->old);
	mutex_lock(&c->vm->slots_arch_lock);
	/* `invalid` was reachable meanwhile, so the first shadow root may have given it arrays (P1). */
	c->old->arrays = c->invalid->arrays;
}

/* P1, I1.3. Holds: slots_arch_lock, and the caller keeps it until `new` is published. */
static void new_attach_arrays(struct commit *c)
{
	if (c->change == SLOT_FLAGS) {
		c->new->arrays = c->old->arrays;
	} else if (c->new && load_relaxed(&c->vm->shadow_root_allocated)) {
		c->new->arrays = c->arrays;
		c->arrays = NULL;
	}
	/* Decide now which arrays to free: once `new` is published, the first shadow root may give it arrays. */
	if (c->old && c->change != SLOT_FLAGS)
		c->stale = c->old->arrays;
}

static void change_commit(struct commit *c)
{
	struct vm *vm = c->vm;
	/* The object that the active set holds when the last publication is made. */
	struct memslot *shown = c->old;

	/*
	 * P1: hold the lock from before the old slot is copied, or the arrays' flag is read, until the set is
	 * published. Then a slot that appears after the flag rose has arrays (I1.3), and no arrays are lost.
	 * slots_publish releases it.
	 */
	mutex_lock(&vm->slots_arch_lock);
	if (c->invalid) {
		old_retire(c);
		shown = c->invalid;
	}
	new_attach_arrays(c);
	swap_slot(c, c->old, c->new);
	set_replace(slots_inactive(vm, c->as_id), shown, c->new);
}

static void change_account(struct commit *c)
{
	struct slots *slots = c->vm->slots;

	if (c->change == SLOT_CREATE)
		add_relaxed(&slots->total_pages, c->new->npages);
	if (c->change == SLOT_DELETE)
		add_relaxed(&slots->total_pages, -c->old->npages);
	add_relaxed(&c->vm->stats.slot_changes, 1);
}

static void old_free(struct commit *c)
{
	if (c->old && c->old->dirty && (!c->new || c->new->dirty != c->old->dirty))
		bitmap_free(c->vm, c->old);
	arrays_give_back(c->vm, c->stale);
	arrays_give_back(c->vm, c->arrays);
	slot_free(c->vm, c->old);
	slot_free(c->vm, c->invalid);
}

enum vmmu_status slots_change(struct vm *vm, const struct vmmu_region *region)
{
	struct slot_plan plan;
	struct commit c;
	bool nothing;
	enum vmmu_status status;

	ASSERT(mutex_is_locked(&vm->slots_lock));
	status = rules_check(vm, region, &plan, &nothing);
	if (status || nothing)
		return status;
	c = (struct commit){ .vm = vm, .change = plan.change, .as_id = region->address_space, .old = plan.old };
	if (!change_reserve(&c, region)) {
		change_unreserve(&c);
		return VMMU_ENOMEM;
	}
	change_commit(&c);
	change_account(&c);
	vm->slots->hooks->committed(vm, c.change, c.old, c.new);
	old_free(&c);
	return VMMU_OK;
}

/* --- the whole --- */

enum vmmu_status slots_init(struct vm *vm, const struct slots_hooks *hooks)
{
	struct slots *slots = vm_alloc(vm, sizeof(*slots));

	if (!slots)
		return VMMU_ENOMEM;
	slots->hooks = hooks;
	gate_init(&slots->gate);
	for (unsigned as_id = 0; as_id < vm->address_spaces; as_id++) {
		/* Generations of two address spaces start different, and move in steps that keep them different. */
		for (unsigned index = 0; index < 2; index++)
			set_init(&slots->set[as_id][index], &slots->ids[as_id], index, as_id);
		slots->active[as_id] = &slots->set[as_id][0];
	}
	add_relaxed(&vm->stats.slot_bytes, sizeof(*slots));
	vm->slots = slots;
	return VMMU_OK;
}

static void set_free_slots(struct vm *vm, struct memslots *set)
{
	while (set->by_gfn.root) {
		struct memslot *slot = slot_of_gfn_node(set->by_gfn.root, set->index);

		set_replace(set, slot, NULL);
		if (slot->dirty)
			bitmap_free(vm, slot);
		arrays_give_back(vm, slot->arrays);
		slot_free(vm, slot);
	}
}

void slots_fini(struct vm *vm)
{
	struct slots *slots = vm->slots;

	if (!slots)
		return;
	/* With no change under way both sets hold the same objects, so free those of one. */
	for (unsigned as_id = 0; as_id < vm->address_spaces; as_id++) {
		set_free_slots(vm, &slots->set[as_id][0]);
		id_map_fini(vm, &slots->ids[as_id]);
	}
	vm_free(vm, slots->batches, DIRTY_BATCHES * sizeof(*slots->batches));
	vm_free(vm, slots, sizeof(*slots));
	add_relaxed(&vm->stats.slot_bytes, -sizeof(*slots));
	vm->slots = NULL;
}
