/* SPDX-License-Identifier: MIT */
/*
 * P1: slots get reverse maps and tracking arrays when the first shadow root is made; only shadow paging needs them.
 * Here one vCPU enters for the first time. Beside it slots change, or another thread walks reverse maps.
 */
#include "check/scenario/world.h"
#include "core/memslot/slots.h"
#include "core/shadow/arrays.h"

/* Slot 0 has the guest's tables, slot 1 two pages of data. */
static void setup(void)
{
	world_make(0, VMMU_MMU_SHADOW, 1);
	world_slot(0, 0, 4, 0, 0);
	world_slot(1, GUEST_DATA, 2, GUEST_DATA, 0);
	world_guest_tables();
}

static void setup_one_slot(void)
{
	world_make(0, VMMU_MMU_SHADOW, 1);
	world_slot(0, 0, 4, 0, 0);
	world_guest_tables();
}

static void setup_logged(void)
{
	world_make(0, VMMU_MMU_SHADOW, 1);
	world_slot(0, 0, 4, 0, 0);
	world_slot(1, GUEST_DATA, 2, GUEST_DATA, VMMU_SLOT_LOG_DIRTY);
	world_guest_tables();
	((uint64_t *)memslot_find_id(memslots_current(world_vm(), 0), 1)->dirty)[0] = 1;
}

static void first_root(void)
{
	cpu_enter(&world.cpu[0]);
	cpu_leave(&world.cpu[0]);
}

static bool slot_has_arrays(void *arg, struct memslot *slot)
{
	(void)arg;
	check_assert(slot->arrays && slot->arrays->rmap[0] && slot->arrays->tracked);
	for (uint64_t block = 0; block < slot->arrays->blocks[0]; block++)
		check_assert(!slot->arrays->rmap[0][block].head);
	return false;
}

/* I1.1, I1.3. An array that was lost on the way shows as a leak. */
static void finish(void)
{
	check_assert(world_vm()->shadow_root_allocated);
	for (unsigned index = 0; index < 2; index++)
		memslots_for_each(&world_vm()->slots->set[0][index], slot_has_arrays, NULL);
	world_end();
}

static void create(void)
{
	world_slot(1, GUEST_DATA, 2, GUEST_DATA, 0);
}

static void delete(void)
{
	world_slot_delete(1);
}

static void move(void)
{
	world_slot(1, GUEST_DATA + 4, 2, GUEST_DATA, 0);
}

static void reflag(void)
{
	world_slot(1, GUEST_DATA, 2, GUEST_DATA, VMMU_SLOT_LOG_DIRTY);
}

/* P1. The vCPU makes the first root while slot 1 is created. The new slot has its arrays in the end (I1.1, I1.3). */
SCENARIO(first_root_vs_slot_create, .protocol = "P1",
         .claim = "a slot created while a vCPU makes the first shadow root has arrays (I1.1, I1.3)",
         .threads = 2, .setup = setup_one_slot, .thread = { first_root, create }, .finish = finish);

/*
 * P1. The vCPU makes the first root while slot 1 is deleted. Arrays that the slot was given are freed (I1.2), and
 * nothing holds slots_arch_lock over the grace period, which would be a deadlock (I1.4).
 */
SCENARIO(first_root_vs_slot_delete, .protocol = "P1",
         .claim = "the arrays of a deleted slot are freed, and nothing deadlocks over the grace period (I1.2, I1.4)",
         .threads = 2, .setup = setup, .thread = { first_root, delete }, .finish = finish);

/*
 * P1. The vCPU makes the first root while slot 1 moves. The moved slot has arrays, and the old
 * ones are freed (I1.1, I1.2).
 */
SCENARIO(first_root_vs_slot_move, .protocol = "P1",
         .claim = "a moved slot has arrays, and its old arrays are freed (I1.1, I1.2)",
         .threads = 2, .setup = setup, .thread = { first_root, move }, .finish = finish);

/*
 * P1. The vCPU makes the first root while the flags of slot 1 change. The slot that replaces it keeps the arrays
 * (I1.2).
 */
SCENARIO(first_root_vs_slot_flags, .protocol = "P1",
         .claim = "a slot that replaces another takes over its arrays (I1.2)",
         .threads = 2, .setup = setup, .thread = { first_root, reflag }, .finish = finish);

/* Only make the arrays, as loading the first root does. */
static void first_arrays(void)
{
	struct srcu_read srcu = srcu_read_lock(&world_vm()->srcu, 0);

	check_assert(arrays_first_root(world_vm(), srcu) == VMMU_OK);
	srcu_read_unlock(&world_vm()->srcu, srcu);
}

/* --- walks of reverse maps while the arrays appear --- */

static void age(void)
{
	vmmu_age(world.vm, host_hva(0), host_hva(6), true);
}

static void invalidate(void)
{
	vmmu_invalidate_begin(world.vm, host_hva(5), host_hva(6));
	vmmu_invalidate_end(world.vm, host_hva(5), host_hva(6));
}

static void harvest(void)
{
	uint64_t bitmap;

	check_assert(vmmu_dirty_get(world.vm, 0, 1, &bitmap, 1) == VMMU_OK);
}

/*
 * P1, P2. The vCPU makes the first root while the host ages pages. A walk that sees the flag
 * sees all arrays, zeroed (I1.1).
 */
SCENARIO(first_root_vs_age, .protocol = "P1 P2",
         .claim = "an aging walk that sees the flag sees all arrays, zeroed (I1.1)",
         .threads = 2, .setup = setup, .thread = { first_root, age }, .finish = finish);

/*
 * P1, P2. Arrays are made while the host ages pages and slot 1 is deleted. The aging walk may still be in the set of
 * slots from before the change, whose slots were given no arrays.
 */
SCENARIO(first_arrays_vs_age_vs_slot_delete, .protocol = "P1 P2",
         .claim = "an aging walk may be in the slot set from before a change, whose slots got no arrays",
         .threads = 3, .setup = setup, .thread = { first_arrays, age, delete }, .finish = finish);

/*
 * P1, P5. The vCPU makes the first root while the host invalidates a page. The invalidation sees
 * whole arrays or none (I1.1).
 */
SCENARIO(first_root_vs_invalidate, .protocol = "P1 P5", .claim = "an invalidation sees whole arrays or none (I1.1)",
         .threads = 2, .setup = setup, .thread = { first_root, invalidate }, .finish = finish);

/*
 * P1, P11. The vCPU makes the first root while the dirty log is read. Write protection sees
 * whole arrays or none (I1.1).
 */
SCENARIO(first_root_vs_dirty_get, .protocol = "P1 P11", .claim = "write protection sees whole arrays or none (I1.1)",
         .threads = 2, .setup = setup_logged, .thread = { first_root, harvest }, .finish = finish);
