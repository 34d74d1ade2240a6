/* SPDX-License-Identifier: MIT */
#include "test/unit/test_vm.h"

#include "core/memslot/dirty.h"
#include "core/memslot/set.h"
#include "test/unit/test.h"

static void *host_alloc(void *state, size_t bytes)
{
	struct test_vm *test = state;
	void *memory;

	if (test->countdown && --test->countdown == 0)
		return NULL;
	memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
	CHECK(memory);
	memset(memory, 0, bytes);
	add_relaxed(&test->live, 1);
	add_relaxed(&test->live_bytes, bytes);
	return memory;
}

static void host_free(void *state, void *memory, size_t bytes)
{
	struct test_vm *test = state;

	CHECK(memory);
	/* Poison it, so that a thread that still reads it notices. */
	memset(memory, 0xdd, bytes);
	free(memory);
	add_relaxed(&test->live, -1);
	add_relaxed(&test->live_bytes, -bytes);
}

static void event(struct vm *vm, struct test_event event)
{
	struct test_vm *test = vm->host_state;

	CHECK(mutex_is_locked(&vm->slots_lock));
	CHECK(test->arch_lock_is_busy || !mutex_is_locked(&vm->slots_arch_lock));
	if (test->on_event)
		test->on_event(test, &event);
	if (test->event_count < TEST_EVENTS)
		test->events[test->event_count] = event;
	test->event_count++;
}

static void on_zap(struct vm *vm, const struct memslot *slot)
{
	event(vm, (struct test_event){ .kind = EVENT_ZAP, .old = slot });
}

static void on_committed(struct vm *vm, enum slot_change change, const struct memslot *old, const struct memslot *new)
{
	event(vm, (struct test_event){ .kind = EVENT_COMMITTED, .change = change, .old = old, .new = new });
}

static void on_generation(struct vm *vm, uint64_t generation)
{
	event(vm, (struct test_event){ .kind = EVENT_GENERATION, .generation = generation });
}

/* Make a stand-in for the arrays of shadow paging, which names its slot. */
static bool reserve_arrays(struct vm *vm, const struct memslot *slot, struct slot_arrays **out)
{
	struct test_arrays *arrays;

	*out = NULL;
	if (!vm->shadow)
		return true;
	arrays = vm_alloc(vm, sizeof(*arrays));
	if (!arrays)
		return false;
	*arrays = (struct test_arrays){ TEST_ARRAYS_MAGIC, slot->id };
	add_relaxed(&vm->stats.rmap_bytes, sizeof(*arrays));
	*out = (struct slot_arrays *)arrays;
	return true;
}

static void free_arrays(struct vm *vm, struct slot_arrays *arrays)
{
	CHECK(((struct test_arrays *)arrays)->magic == TEST_ARRAYS_MAGIC);
	add_relaxed(&vm->stats.rmap_bytes, -sizeof(struct test_arrays));
	vm_free(vm, arrays, sizeof(struct test_arrays));
}

static const struct slots_hooks hooks = {
	.zap = on_zap,
	.committed = on_committed,
	.generation = on_generation,
	.arrays_reserve = reserve_arrays,
	.arrays_free = free_arrays,
};

struct test_vm *test_vm_make(unsigned address_spaces)
{
	struct test_vm *test = aligned_alloc(64, (sizeof(*test) + 63) / 64 * 64);

	CHECK(test);
	*test = (struct test_vm){ .host = { .alloc = host_alloc, .free = host_free } };
	test->vm.host = &test->host;
	test->vm.host_state = test;
	test->vm.address_spaces = address_spaces;
	test->vm.guest_phys_bits = 48;
	srcu_init(&test->vm.srcu);
	mmu_lock_init(&test->vm.mmu_lock);
	CHECK(slots_init(&test->vm, &hooks) == VMMU_OK);
	return test;
}

void test_vm_free(struct test_vm *test)
{
	slots_fini(&test->vm);
	CHECK(test->live == 0 && test->live_bytes == 0);
	CHECK(test->vm.stats.slot_bytes == 0 && test->vm.stats.rmap_bytes == 0);
	CHECK(!vm_is_dead(&test->vm));
	free(test);
}

enum vmmu_status test_vm_set(struct test_vm *test, const struct vmmu_region *region)
{
	enum vmmu_status status;

	mutex_lock(&test->vm.slots_lock);
	status = slots_change(&test->vm, region);
	mutex_unlock(&test->vm.slots_lock);
	return status;
}

struct vmmu_region test_region(uint32_t as_id, uint32_t slot, uint64_t gfn, uint64_t npages, uint64_t hva_page,
                               uint32_t flags)
{
	return (struct vmmu_region){
		.slot = slot,
		.address_space = as_id,
		.flags = flags,
		.gpa = gfn_to_gpa(GFN(gfn)),
		.bytes = npages << PAGE_SHIFT,
		.hva = HVA(hva_page << PAGE_SHIFT),
	};
}

/* --- audit --- */

/* Check the heights, parents and balance of a tree. Returns: the number of its nodes. */
static unsigned tree_audit(const struct tree *tree)
{
	unsigned count = 0;

	CHECK(!tree->root || !tree->root->parent);
	for (const struct tree_node *node = tree_first(tree); node; node = tree_next(node)) {
		uint32_t height[2];

		for (int side = 0; side < 2; side++) {
			CHECK(!node->child[side] || node->child[side]->parent == node);
			height[side] = node->child[side] ? node->child[side]->height : 0;
		}
		CHECK(node->height == 1 + (height[0] > height[1] ? height[0] : height[1]));
		CHECK(height[0] <= height[1] + 1 && height[1] <= height[0] + 1);
		count++;
	}
	return count;
}

static void slot_audit(const struct test_vm *test, const struct memslots *set, const struct memslot *slot,
                       unsigned as_id)
{
	CHECK(slot->npages && slot->as_id == as_id);
	CHECK(!(slot->flags & ~(VMMU_SLOT_LOG_DIRTY | VMMU_SLOT_READONLY)));
	CHECK(memslot_find_id(set, slot->id) == slot);
	if (!test->vm.slots->ring_entries)
		CHECK(!slot->dirty == !memslot_logs(slot));
}

static uint64_t set_audit(const struct test_vm *test, const struct memslots *set, unsigned as_id)
{
	const struct memslot *previous = NULL;
	uint64_t pages = 0;

	CHECK(tree_audit(&set->by_gfn) == set->count && tree_audit(&set->by_hva) == set->count);
	for (const struct tree_node *node = tree_first(&set->by_gfn); node; node = tree_next(node)) {
		const struct memslot *slot = slot_of_gfn_node(node, set->index);

		slot_audit(test, set, slot, as_id);
		CHECK(!previous || slot_last_gfn(previous).v < slot->base.v);
		previous = slot;
		pages += slot->npages;
	}
	previous = NULL;
	for (const struct tree_node *node = tree_first(&set->by_hva); node; node = tree_next(node)) {
		const struct memslot *slot = slot_of_hva_node(node, set->index);
		uint64_t last = slot_last_hva(slot).v;

		CHECK(!previous || previous->hva.v <= slot->hva.v);
		for (int side = 0; side < 2; side++)
			if (node->child[side])
				last = max_u64(last, slot_of_hva_node(node->child[side], set->index)
				                             ->node[set->index].last_hva);
		CHECK(slot->node[set->index].last_hva == last);
		previous = slot;
	}
	return pages;
}

static void sets_are_equal(const struct memslots *a, const struct memslots *b)
{
	const struct tree_node *x = tree_first(&a->by_gfn), *y = tree_first(&b->by_gfn);

	CHECK(a->index != b->index && a->count == b->count);
	for (; x && y; x = tree_next(x), y = tree_next(y))
		CHECK(slot_of_gfn_node(x, a->index) == slot_of_gfn_node(y, b->index));
	CHECK(!x && !y);
}

/* Each place of the id map must name that set's slot with that number, or none. */
static void ids_audit(const struct id_map *ids, const struct memslots *sets)
{
	unsigned found[2] = { 0 };

	for (unsigned part = 0; part < ID_PARTS; part++)
		for (unsigned i = 0; ids->part[part] && i < ID_PART_SIZE; i++)
			for (unsigned index = 0; index < 2; index++) {
				const struct memslot *slot = ids->part[part]->slot[i][index];

				CHECK(!slot || slot->id == part * ID_PART_SIZE + i);
				found[index] += slot != NULL;
			}
	CHECK(found[0] == sets[0].count && found[1] == sets[1].count);
}

void test_vm_audit(struct test_vm *test)
{
	struct slots *slots = test->vm.slots;
	uint64_t pages = 0;

	CHECK(!mutex_is_locked(&test->vm.slots_arch_lock) && !spin_is_locked(&slots->gate.lock));
	for (unsigned as_id = 0; as_id < test->vm.address_spaces; as_id++) {
		struct memslots *sets = slots->set[as_id];

		CHECK(slots->active[as_id] == &sets[0] || slots->active[as_id] == &sets[1]);
		CHECK(slots->active[as_id]->generation % test->vm.address_spaces == as_id);
		CHECK(!(slots->active[as_id]->generation & GENERATION_IN_PROGRESS));
		pages += set_audit(test, &sets[0], as_id);
		set_audit(test, &sets[1], as_id);
		sets_are_equal(&sets[0], &sets[1]);
		ids_audit(&slots->ids[as_id], sets);
	}
	CHECK(pages == slots->total_pages);
	CHECK((long)(test->vm.stats.slot_bytes + test->vm.stats.rmap_bytes) == test->live_bytes);
	CHECK(!vm_is_dead(&test->vm));
}
