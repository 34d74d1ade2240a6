/* SPDX-License-Identifier: MIT */
/* How the inactive set becomes the active one (P5), and how generations move (F3, P10). */
#include "core/memslot/slots_int.h"

#include "core/base/assert.h"

struct memslots *slots_inactive(struct vm *vm, unsigned as_id)
{
	const struct memslots *active = memslots_current(vm, as_id);

	return &vm->slots->set[as_id][!active->index];
}

struct publication {
	struct memslots **active;
	struct memslots *set;
};

static void publish(void *arg)
{
	struct publication *publication = arg;

	/*
	 * release: a reader that loads the new set also sees every slot in it. Pairs with memslots_active and
	 * memslots_current. P5
	 */
	store_release(publication->active, publication->set);
}

/*
 * Generations. The set is published under the old set's generation with GENERATION_IN_PROGRESS added. Until the grace
 * period is over there are readers of both sets, so nobody may remember anything. After it all readers use the new
 * set, under a generation that was never used. A number used before, by this set or in another address space, would
 * bring memories of other slots back to life.
 */
void slots_publish(struct vm *vm, unsigned as_id)
{
	struct slots *slots = vm->slots;
	struct publication publication = { &slots->active[as_id], slots_inactive(vm, as_id) };
	struct memslots *set = publication.set;
	uint64_t generation = memslots_current(vm, as_id)->generation;

	ASSERT(mutex_is_locked(&vm->slots_lock) && mutex_is_locked(&vm->slots_arch_lock));
	VM_BUG(vm, generation & GENERATION_IN_PROGRESS);

	store_release(&set->generation, generation | GENERATION_IN_PROGRESS); /* pairs with memslots_generation */
	gate_publish(&slots->gate, publish, &publication);
	mutex_unlock(&vm->slots_arch_lock);
	srcu_synchronize(&vm->srcu);

	generation += vm->address_spaces;
	slots->hooks->generation(vm, generation);
	/* release: what the hook did comes first. Pairs with memslots_generation. */
	store_release(&set->generation, generation);
}
