/* SPDX-License-Identifier: MIT */
/* P2: aging without mmu_lock. First the rmap and its lock bit alone, then whole VMs with shadow paging and with TDP. */
#include "check/scenario/world.h"
#include "core/shadow/rmap.h"
#include "core/shadow/shadow_int.h"

/* --- the lock bit alone --- */

static struct {
	struct rmap rmap;
	spte_t entry[3];
	struct rmap_desc *spare;
	uint64_t holders; /* plain: changes under the bit only */
	uint64_t held[2];
} bit;

static void bit_setup(unsigned entries)
{
	bit.spare = check_alloc(sizeof(*bit.spare), 64);
	for (unsigned i = 0; i < entries; i++)
		rmap_add(&bit.rmap, &bit.entry[i], &bit.spare);
}

static void bit_setup_empty(void)
{
	bit_setup(0);
}

static void bit_setup_one(void)
{
	bit_setup(1);
}

static void bit_setup_two(void)
{
	bit_setup(2);
}

static void bit_hold(unsigned who)
{
	uintptr_t head = rmap_lock(&bit.rmap);

	if (!head)
		return;
	bit.holders++;
	bit.held[who]++;
	rmap_unlock(&bit.rmap, head);
}

static void bit_hold_0(void)
{
	bit_hold(0);
}

static void bit_hold_1(void)
{
	bit_hold(1);
}

/* As rmap_age of shadow/range.c walks a chain. */
static void bit_walk(void)
{
	uintptr_t head = rmap_lock(&bit.rmap);
	struct rmap_iter iter;
	spte_t *entry;

	if (!head)
		return;
	rmap_for_each(entry, &bit.rmap, &iter)
		check_assert(entry >= bit.entry && entry < bit.entry + array_size(bit.entry));
	rmap_unlock(&bit.rmap, head);
}

static void bit_add(unsigned n)
{
	rmap_add(&bit.rmap, &bit.entry[n], &bit.spare);
}

static void bit_add_one(void)
{
	bit_add(0);
}

static void bit_add_two(void)
{
	bit_add(0);
	bit_add(1);
}

static void bit_remove(unsigned n)
{
	bool found;
	struct rmap_desc *desc = rmap_remove(&bit.rmap, &bit.entry[n], &found);

	check_assert(found);
	if (desc)
		check_free(desc);
}

static void bit_remove_one(void)
{
	bit_remove(0);
}

static void bit_remove_two(void)
{
	bit_remove(0);
	bit_remove(1);
}

static void bit_finish_holders(void)
{
	check_assert(bit.holders == bit.held[0] + bit.held[1]);
	check_assert(rmap_is_empty(&bit.rmap));
	check_free(bit.spare);
}

static void bit_finish_added_one(void)
{
	check_assert(rmap_count(&bit.rmap) == 1 && rmap_any(&bit.rmap) == &bit.entry[0]);
	check_free(bit.spare);
}

static void bit_finish_added_two(void)
{
	bool found;

	check_assert(rmap_count(&bit.rmap) == 2 && !bit.spare);
	check_assert(!rmap_remove(&bit.rmap, &bit.entry[0], &found) && found);
	check_free(rmap_remove(&bit.rmap, &bit.entry[1], &found));
}

static void bit_finish_removed(void)
{
	check_assert(rmap_is_empty(&bit.rmap));
}

/*
 * P2. Two walkers lock a chain of one entry while its entry is removed. At most one thread holds the bit (I2.1); an
 * empty chain is not locked (I2.2).
 */
SCENARIO(rmap_bit_vs_itself, .protocol = "P2",
         .claim = "at most one thread holds the bit of a chain (I2.1); an empty chain is not locked (I2.2)",
         .threads = 3, .setup = bit_setup_one, .thread = { bit_hold_0, bit_hold_1, bit_remove_one },
         .finish = bit_finish_holders);

/*
 * P2. Two walkers come to an empty chain while an entry is added. A walker that saw it empty
 * does not undo the add (I2.2).
 */
SCENARIO(rmap_walk_vs_first_add, .protocol = "P2",
         .claim = "a walker that saw an empty chain does not undo an add (I2.2)",
         .threads = 3, .setup = bit_setup_empty, .thread = { bit_walk, bit_add_one, bit_walk },
         .finish = bit_finish_added_one);

/* P2. A walker comes while two entries are added, the second with a descriptor. It sees the descriptor whole (I2.1). */
SCENARIO(rmap_walk_vs_add, .protocol = "P2", .claim = "a walker sees a new descriptor whole (I2.1)",
         .threads = 2, .setup = bit_setup_empty, .thread = { bit_walk, bit_add_two }, .finish = bit_finish_added_two);

/*
 * P2. A walker is on a chain of two entries while both are removed. The descriptor is neither changed nor freed while
 * the walker holds the bit (I2.1, I2.3).
 */
SCENARIO(rmap_walk_vs_remove, .protocol = "P2",
         .claim = "a descriptor in a locked chain is neither changed nor freed (I2.1, I2.3)",
         .threads = 2, .setup = bit_setup_two, .thread = { bit_walk, bit_remove_two }, .finish = bit_finish_removed);

/* --- shadow paging --- */

#define DATA(n)  host_hva(GUEST_DATA + (n)) /* of linear page n */

/* Linear page 0 is mapped and young. */
static void shadow_setup(void)
{
	struct host_frame *frame;

	world_make(0, VMMU_MMU_SHADOW, 1);
	world_slot(0, 0, 6, 0, 0);
	world_guest_tables();
	check_assert(cpu_touch(&world.cpu[0], 0, false, 2, &frame) == CPU_DONE);
	cpu_leave(&world.cpu[0]);
}

/* Linear pages 0 and 1 lead to the same frame, so its chain has a descriptor. */
static void shadow_setup_two(void)
{
	struct host_frame *frame;

	shadow_setup();
	host.frame[GUEST_PT].word[1] = host.frame[GUEST_PT].word[0];
	check_assert(cpu_touch(&world.cpu[0], PAGE_SIZE, false, 2, &frame) == CPU_DONE);
	cpu_leave(&world.cpu[0]);
}

static void age(void)
{
	vmmu_age(world.vm, DATA(0), DATA(1), true);
}

static void invalidate(void)
{
	vmmu_invalidate_begin(world.vm, DATA(0), DATA(1));
	vmmu_invalidate_end(world.vm, DATA(0), DATA(1));
}

/* The hypervisor says that the guest's table is one no longer. Its shadow page goes, with all that it maps. */
static void unshadow(void)
{
	vmmu_unprotect(world.cpu[0].vcpu, GPA(GUEST_PT * PAGE_SIZE));
}

static void fault_second(void)
{
	struct host_frame *frame;

	check_assert(cpu_touch(&world.cpu[0], PAGE_SIZE, false, 2, &frame) == CPU_DONE);
	cpu_leave(&world.cpu[0]);
}

static void delete(void)
{
	world_slot_delete(0);
}

/* I2.4, I2.5: what was zapped stays zapped, and the chains are empty. */
static void finish_zapped(void)
{
	check_assert(!world_vm()->count[0].pages[0] && !world_vm()->count[1].pages[0]);
	check_assert(!cpu_peek(&world.cpu[0], 0));
	world_end();
}

static void finish_end(void)
{
	world_end();
}

/*
 * P2, P5. The host ages a mapped page while it invalidates it. Aging does not bring the zapped entry back (I2.4), and
 * the chain has exactly the leaves (I2.5).
 */
SCENARIO(age_vs_zap, .protocol = "P2 P5",
         .claim = "aging does not bring back a zapped entry (I2.4); the chain has exactly the leaves (I2.5)",
         .threads = 2, .setup = shadow_setup, .thread = { age, invalidate }, .finish = finish_zapped);

/* P2, P5. The same with two leaves of the frame. The chain's descriptor lives while the aging walk is on it (I2.3). */
SCENARIO(age_vs_zap_of_two, .protocol = "P2 P5", .claim = "the descriptors of a chain live while aging walks it (I2.3)",
         .threads = 2, .setup = shadow_setup_two, .thread = { age, invalidate }, .finish = finish_zapped);

/*
 * P2. The host ages a page while the shadow page of its table is removed. The table lives while the walk is on the
 * chain of one of its entries (I2.3).
 */
SCENARIO(age_vs_table_free, .protocol = "P2",
         .claim = "the table of an entry lives while aging walks the entry's chain (I2.3)",
         .threads = 2, .setup = shadow_setup, .thread = { age, unshadow }, .finish = finish_end);

/*
 * P2. The host ages a page while the vCPU maps it a second time. The second leaf comes onto the chain
 * beside the walk (I2.1, I2.2).
 */
SCENARIO(age_vs_map, .protocol = "P2",
         .claim = "a vCPU can add a second leaf to a chain while aging walks it (I2.1, I2.2)",
         .threads = 2, .setup = shadow_setup, .thread = { age, fault_second }, .finish = finish_end);

/* P2, P5. Two threads age a page while it is invalidated. Neither walk brings the entry back (I2.1, I2.4). */
SCENARIO(age_vs_age_vs_zap, .protocol = "P2 P5",
         .claim = "neither of two aging walks brings back a zapped entry (I2.1, I2.4)",
         .threads = 3, .setup = shadow_setup, .thread = { age, age, invalidate }, .finish = finish_zapped);

/* P2, P3. The host ages a page while its slot is deleted. The slot's arrays live while the walk is in them (I2.3). */
SCENARIO(age_vs_slot_delete, .protocol = "P2 P3", .claim = "the arrays of a slot live while aging walks them (I2.3)",
         .threads = 2, .setup = shadow_setup, .thread = { age, delete }, .finish = finish_end);

/* --- TDP --- */

static void tdp_setup(void)
{
	struct host_frame *frame;

	world_make(0, VMMU_MMU_TDP, 1);
	world_slot(0, 0, 6, 0, 0);
	check_assert(cpu_touch(&world.cpu[0], GUEST_DATA * PAGE_SIZE, false, 2, &frame) == CPU_DONE);
	cpu_leave(&world.cpu[0]);
}

static void tdp_finish_zapped(void)
{
	check_assert(!cpu_peek(&world.cpu[0], GUEST_DATA * PAGE_SIZE));
	world_audit(0);
	world_end();
}

/* P2, P7. With TDP, the host ages a page while it invalidates it. Aging does not bring the zapped entry back (I2.4). */
SCENARIO(tdp_age_vs_zap, .protocol = "P2 P7", .claim = "aging does not bring back a zapped entry (I2.4)",
         .threads = 2, .setup = tdp_setup, .thread = { age, invalidate }, .finish = tdp_finish_zapped);

/*
 * P2, P3. With TDP, the host ages a page while its slot is deleted. The tables live while the walk is in them (I3.7).
 */
SCENARIO(tdp_age_vs_slot_delete, .protocol = "P2 P3",
         .claim = "a table lives while a lockless walk may be in it (I3.7)",
         .threads = 2, .setup = tdp_setup, .thread = { age, delete }, .finish = finish_end);
