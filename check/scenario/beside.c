/* SPDX-License-Identifier: MIT */
/*
 * Faults with shadow paging that run beside each other (shadow_map_beside). The tables are there, the guest's page
 * table is mirrored, and linear page 0 is mapped on both vCPUs.
 *
 * Two faults may meet in one entry or on one chain, or meet a change of the guest's entry. In the end the audit
 * checks that each leaf is on the chain of its frame, once, and true to the guest's entry.
 */
#include "check/scenario/world.h"
#include "core/shadow/shadow_int.h"

#define FIRST    GUEST_DATA       /* linear page 0 leads here */
#define SECOND   (GUEST_DATA + 1)
#define TO_TABLE (3 * PAGE_SIZE)

static void touch(struct cpu *cpu, uint64_t page, bool write)
{
	struct host_frame *frame;

	check_assert(cpu_touch(cpu, page * PAGE_SIZE, write, 3, &frame) == CPU_DONE);
	cpu_leave(cpu);
}

/* `one`, `two`: the gfns that linear pages 1 and 2 lead to. */
static void setup_to(unsigned one, unsigned two)
{
	world_make(0, VMMU_MMU_SHADOW, 2);
	world_slot(0, 0, 6, 0, 0);
	world_guest_tables();
	host.frame[GUEST_PT].word[1] = world_guest_entry(one);
	host.frame[GUEST_PT].word[2] = world_guest_entry(two);
	host.frame[GUEST_PT].word[3] = world_guest_entry(GUEST_PT);
	touch(&world.cpu[0], 0, false);
	touch(&world.cpu[1], 0, false);
}

static void setup(void)
{
	setup_to(SECOND, SECOND);
}

/* Linear pages 1 and 2 lead to the frame of page 0, which has its leaf. Its chain will need a descriptor. */
static void setup_one_frame(void)
{
	setup_to(FIRST, FIRST);
}

/* All four pages lead to one frame, and three have their leaves: as many as a chain may have. */
static void setup_crowd(void)
{
	world_make(0, VMMU_MMU_SHADOW, 2);
	world_slot(0, 0, 6, 0, 0);
	world_guest_tables();
	for (unsigned i = 0; i < 4; i++)
		host.frame[GUEST_PT].word[i] = world_guest_entry(FIRST);
	for (unsigned i = 0; i < RMAP_MOST; i++)
		touch(&world.cpu[0], i, false);
	touch(&world.cpu[1], 0, false);
}

/* The table is unsync, and vCPU 0 has it in its TLB, writable. */
static void setup_unsync(void)
{
	setup();
	touch(&world.cpu[0], 3, true);
}

static void one_on_0(void)
{
	touch(&world.cpu[0], 1, false);
}

static void one_on_1(void)
{
	touch(&world.cpu[1], 1, true);
}

static void two_on_1(void)
{
	touch(&world.cpu[1], 2, false);
}

static void three_on_0(void)
{
	touch(&world.cpu[0], 3, false);
}

/* The same beside an invalidation of the frame. Until that ends every fault is told to come again. */
static void try_three_on_0(void)
{
	struct host_frame *frame;
	enum cpu_result result = cpu_touch(&world.cpu[0], 3 * PAGE_SIZE, false, 3, &frame);

	check_assert(result == CPU_DONE || result == CPU_TIRED);
	cpu_leave(&world.cpu[0]);
}

static void zero_on_1(void)
{
	touch(&world.cpu[1], 0, true);
}

static void store_entry(unsigned gfn)
{
	struct cpu *cpu = &world.cpu[0];
	struct host_frame *frame;

	cpu_enter(cpu);
	frame = cpu_access(cpu, TO_TABLE, true);
	check_assert(frame);
	store_relaxed(&frame->word[1], world_guest_entry(gfn));
	cpu_leave(cpu);
}

/*
 * The guest changes the entry by a plain store and uses it without a flush. It may do so at its own risk;
 * the library must stay whole.
 */
static void store_and_touch(void)
{
	store_entry(FIRST);
	one_on_0();
}

static void guest_write(void)
{
	uint64_t value = world_guest_entry(FIRST);

	check_assert(vmmu_guest_write(world.cpu[0].vcpu, GPA(GUEST_PT * PAGE_SIZE + sizeof(value)), &value,
	                              sizeof(value)) == VMMU_OK);
}

static void age(void)
{
	vmmu_age(world.vm, host_hva(SECOND), host_hva(SECOND + 1), true);
}

static void age_first(void)
{
	vmmu_age(world.vm, host_hva(FIRST), host_hva(FIRST + 1), true);
}

static void invalidate_first(void)
{
	vmmu_invalidate_begin(world.vm, host_hva(FIRST), host_hva(FIRST + 1));
	vmmu_invalidate_end(world.vm, host_hva(FIRST), host_hva(FIRST + 1));
}

static uint64_t leaves(void)
{
	return world_vm()->count[0].pages[0] + world_vm()->count[1].pages[0];
}

static void finish(void)
{
	world_audit(0);
	world_end();
}

static void finish_two_leaves(void)
{
	check_assert(leaves() == 2);
	finish();
}

static void finish_few_leaves(void)
{
	check_assert(leaves() >= 1 && leaves() <= RMAP_MOST);
	finish();
}

static void finish_three_leaves(void)
{
	check_assert(leaves() == 3);
	finish();
}

/* P2. Both vCPUs fault on linear page 1. One of them makes the leaf (I2.5). */
SCENARIO(shadow_fault_vs_fault, .protocol = "P2",
         .claim = "when two vCPUs fault on one page, one of them makes the leaf (I2.5)",
         .threads = 2, .setup = setup, .thread = { one_on_0, one_on_1 }, .finish = finish_two_leaves);

/*
 * P2. The vCPUs fault on linear pages 1 and 2, which lead to one frame without leaves. Both leaves
 * are on its chain (I2.2, I2.5).
 */
SCENARIO(shadow_faults_on_a_frame, .protocol = "P2",
         .claim = "two leaves of a frame that had none are both on its chain (I2.2, I2.5)",
         .threads = 2, .setup = setup, .thread = { one_on_0, two_on_1 }, .finish = finish_three_leaves);

/* P2. The same for a frame that has a leaf already, so that the chain gets a descriptor (I2.1, I2.5). */
SCENARIO(shadow_faults_on_a_chain, .protocol = "P2",
         .claim = "two more leaves of a frame are both on its chain (I2.1, I2.5)",
         .threads = 2, .setup = setup_one_frame, .thread = { one_on_0, two_on_1 }, .finish = finish_three_leaves);

/* P2. The vCPUs add two leaves of a frame while the host ages it (I2.1, I2.2). */
SCENARIO(shadow_faults_vs_age, .protocol = "P2",
         .claim = "two vCPUs can add leaves to a chain while aging walks it (I2.1, I2.2)",
         .threads = 3, .setup = setup, .thread = { one_on_0, two_on_1, age }, .finish = finish_three_leaves);

/*
 * P2, P8. vCPU 0 changes the guest's entry in an unsync table and faults on it; vCPU 1 faults on it too. The leaf is
 * on the chain of the frame that it maps, whichever guest entry it was made from (I2.5).
 */
SCENARIO(shadow_fault_vs_guest_store, .protocol = "P2 P8",
         .claim = "a leaf is on the chain of the frame that it maps, whichever guest entry it was made from (I2.5)",
         .threads = 2, .setup = setup_unsync, .thread = { store_and_touch, one_on_1 }, .finish = finish);

/* P4. The hypervisor writes the guest's entry while vCPU 1 faults on it. No leaf of the old entry stays (I4.2). */
SCENARIO(shadow_fault_vs_guest_write, .protocol = "P4",
         .claim = "when the hypervisor writes a guest's entry, no leaf of the old entry stays (I4.2)",
         .threads = 2, .setup = setup, .thread = { guest_write, one_on_1 }, .finish = finish);

/*
 * P2. vCPU 0 adds one leaf more than a chain may have, which empties the chain, while the host
 * ages the frame (I2.3, I2.4).
 */
SCENARIO(shadow_recycle_vs_age, .protocol = "P2",
         .claim = "a fault can empty a chain that is too long while aging walks it (I2.3, I2.4)",
         .threads = 2, .setup = setup_crowd, .thread = { three_on_0, age_first }, .finish = finish_few_leaves);

/*
 * P2. vCPU 0 empties the full chain while vCPU 1 adds a leaf to it. That leaf is there or gone,
 * and its chain is whole (I2.5).
 */
SCENARIO(shadow_recycle_vs_fault, .protocol = "P2",
         .claim = "a leaf added to a chain that a fault empties is there or gone, and the chain is whole (I2.5)",
         .threads = 2, .setup = setup_crowd, .thread = { three_on_0, zero_on_1 }, .finish = finish_few_leaves);

/* P2, P5. vCPU 0 empties the full chain while an invalidation empties it too (I2.5, I5.3). */
SCENARIO(shadow_recycle_vs_invalidate, .protocol = "P2 P5",
         .claim = "a fault and an invalidation can empty the same chain (I2.5, I5.3)",
         .threads = 2, .setup = setup_crowd, .thread = { try_three_on_0, invalidate_first }, .finish = finish);
