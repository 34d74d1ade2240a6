/* SPDX-License-Identifier: MIT */
/*
 * N4, N5, N6: guest mode. vCPU 0 is L1's. vCPU 1 runs L2, whose physical page 0 is L1's frame GUEST_DATA, by the tables
 * in L1's gfns 0 to 3.
 */
#include "check/scenario/world.h"
#include "core/mmu/mmu.h"

#define L1 (&world.cpu[0])
#define L2 (&world.cpu[1])

#define PD 2u

static void touch(struct cpu *cpu, uint64_t address, bool write)
{
	struct host_frame *frame;

	check_assert(cpu_touch(cpu, address, write, 4, &frame) == CPU_DONE);
	cpu_leave(cpu);
}

/* Both vCPUs have their roots, and L2 its page. */
static void setup(void)
{
	struct vmmu_config config = {
		.size = sizeof(config), .host = &host_ops, .max_vcpus = WORLD_CPUS, .nested = true
	};

	world_make_with(0, &config, WORLD_CPUS);
	world_slot(0, 0, 4, 0, 0);
	world_slot(1, GUEST_DATA, 2, GUEST_DATA, 0);
	world_guest_tables();
	touch(L1, GUEST_PT * PAGE_SIZE, false);
	touch(L2, 0, false);
	world_nested_enter(L2);
	touch(L2, 0, true);
}

static void finish(void)
{
	world_audit(0);
	world_end();
}

/* --- N5: out of guest mode, and N4: back to it --- */

/* Everything becomes obsolete. */
static void slot_delete(void)
{
	world_slot_delete(1);
}

/* The same alone. */
static void zap_all(void)
{
	mutex_lock(&world_vm()->slots_lock);
	mmu_zap_all_fast(world_vm());
	mutex_unlock(&world_vm()->slots_lock);
}

/* vCPU 1 leaves guest mode. Its page 0 is L1's own now, and no other. */
static void leave(void)
{
	struct host_frame *frame;

	world_nested_leave(L2);
	cpu_enter(L2);
	frame = cpu_access(L2, 0, false);
	check_assert(!frame || frame == &host.frame[0]);
	cpu_leave(L2);
}

SCENARIO(nested_leave_vs_slot_delete, .protocol = "N5 P3",
         .claim = "a vCPU that leaves guest mode walks a root of L1's that is not obsolete", .threads = 2,
         .setup = setup, .thread = { leave, slot_delete }, .finish = finish);

SCENARIO(nested_leave_vs_zap_all, .protocol = "N5 P3",
         .claim = "a vCPU that leaves guest mode walks a root of L1's that is not obsolete", .threads = 2,
         .setup = setup, .thread = { leave, zap_all }, .finish = finish);

static void setup_l1_has_the_page(void)
{
	setup();
	touch(L1, GUEST_DATA * PAGE_SIZE, false);
}

/* vCPU 1 may learn in guest mode that roots are obsolete, before it goes back to L1's. */
static void run_and_leave(void)
{
	struct host_frame *frame;

	cpu_enter(L2);
	cpu_leave(L2);
	world_nested_leave(L2);
	cpu_enter(L2);
	frame = cpu_access(L2, GUEST_DATA * PAGE_SIZE, false);
	check_assert(!frame || (frame == &host.frame[GUEST_DATA] && !frame->data));
	cpu_leave(L2);
}

/* The frame is given away once the slot is gone. */
static void slot_delete_and_use(void)
{
	world_slot_delete(1);
	host.frame[GUEST_DATA].data++;
}

SCENARIO(nested_run_leave_vs_slot_delete, .protocol = "N5 P3",
         .claim = "what a vCPU learns of obsolete roots in guest mode holds for L1's root, too", .threads = 2,
         .setup = setup_l1_has_the_page, .thread = { run_and_leave, slot_delete_and_use }, .finish = finish);

static void setup_left(void)
{
	setup();
	world_nested_leave(L2);
	touch(L2, 0, false);
}

static void enter_again(void)
{
	struct host_frame *frame;

	world_nested_enter(L2);
	cpu_enter(L2);
	frame = cpu_access(L2, 0, true);
	check_assert(!frame || (frame == &host.frame[GUEST_DATA] && !frame->data));
	cpu_leave(L2);
}

SCENARIO(nested_enter_vs_slot_delete, .protocol = "N4 P3",
         .claim = "a vCPU that enters guest mode again does not find an obsolete root", .threads = 2,
         .setup = setup_left, .thread = { enter_again, slot_delete_and_use }, .finish = finish);

SCENARIO(nested_enter_vs_zap_all, .protocol = "N4 P3",
         .claim = "a vCPU that enters guest mode again does not find an obsolete root", .threads = 2,
         .setup = setup_left, .thread = { enter_again, zap_all }, .finish = finish);

/* --- N6: L1 takes its tables apart --- */

static void store(unsigned table, uint64_t value)
{
	check_assert(vmmu_guest_write(L1->vcpu, GPA(table * PAGE_SIZE), &value, sizeof(value)) == VMMU_OK);
}

/* L1 unlinks the 4K-level table, and uses its frame for something else. */
static void unlink_and_reuse(void)
{
	store(PD, 0);
	L1->error = VMMU_PF_WRITE | VMMU_PF_PRESENT;
	if (cpu_answer(L1, GUEST_PT * PAGE_SIZE) == CPU_EMULATE)
		store(GUEST_PT, 0);
}

/* L2 has faulted on its page, which is mapped: as when another vCPU was faster. */
static void l2_answer(void)
{
	L2->error = 0;
	cpu_answer(L2, PAGE_SIZE);
}

SCENARIO(nested_unlink_vs_fault, .protocol = "N6 N1 P4",
         .claim = "a table that L1 has unlinked has no mirror, and the frame is L1's to write", .threads = 2,
         .setup = setup, .thread = { unlink_and_reuse, l2_answer }, .finish = finish);

/* L2 on vCPU 1 runs meanwhile, with the translation in its TLB or not. */
static void l2_run(void)
{
	struct host_frame *frame;

	cpu_enter(L2);
	frame = cpu_access(L2, 0, false);
	if (frame)
		check_assert(frame == &host.frame[GUEST_DATA]);
	cpu_leave(L2);
}

static void setup_cold(void)
{
	setup();
	L2->tlb.page = 0;
}

SCENARIO(nested_unlink_vs_run, .protocol = "N6",
         .claim = "no vCPU walks a page that went with its last parent after it is free", .threads = 2,
         .setup = setup_cold, .thread = { unlink_and_reuse, l2_run }, .finish = finish);
