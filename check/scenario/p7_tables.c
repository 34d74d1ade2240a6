/* SPDX-License-Identifier: MIT */
/* P7: TDP entries change by compare-and-swap under mmu_lock for read. Faults race with each other, and with who splits or joins leaves. */
#include "check/scenario/world.h"
#include "core/memslot/memslot.h"

#define PAGE  GUEST_DATA
#define BLOCK 4u

static void enter(struct cpu *cpu)
{
	cpu_enter(cpu);
	cpu_leave(cpu);
}

/* Roots and nothing below them. */
static void setup_empty(void)
{
	world_make(0, VMMU_MMU_TDP, 2);
	world_slot(1, PAGE, BLOCK, PAGE, 0);
	enter(&world.cpu[0]);
	enter(&world.cpu[1]);
}

/* No root yet. */
static void setup_nothing(void)
{
	world_make(0, VMMU_MMU_TDP, 2);
	world_slot(1, PAGE, BLOCK, PAGE, 0);
}

static void setup_huge(void)
{
	setup_empty();
	host.max_level = VMMU_LEVEL_2M;
}

static void setup_neighbours(void)
{
	world_make(0, VMMU_MMU_TDP, 2);
	world_slot(1, PAGE, 2, PAGE, 0);
	enter(&world.cpu[0]);
	enter(&world.cpu[1]);
	host.neighbours = true;
}

/* One page is there, in a small leaf: the host has nothing larger, for now. */
static void setup_small(void)
{
	struct host_frame *frame;

	setup_empty();
	check_assert(cpu_touch(&world.cpu[0], (PAGE + 2) * PAGE_SIZE, false, 2, &frame) == CPU_DONE);
	cpu_leave(&world.cpu[0]);
}

/* Logged, so in small leaves: one of them is there. */
static void setup_logged(void)
{
	struct host_frame *frame;

	world_make(0, VMMU_MMU_TDP, 1);
	host.max_level = VMMU_LEVEL_2M;
	world_slot(1, PAGE, BLOCK, PAGE, VMMU_SLOT_LOG_DIRTY);
	check_assert(cpu_touch(&world.cpu[0], PAGE * PAGE_SIZE, false, 2, &frame) == CPU_DONE);
	cpu_leave(&world.cpu[0]);
}

static void touch(unsigned cpu, unsigned page, bool write)
{
	struct host_frame *frame;

	if (cpu_touch(&world.cpu[cpu], page * PAGE_SIZE, write, 2, &frame) == CPU_DONE)
		check_assert(frame == &host.frame[page] && frame->data == 0);
	cpu_leave(&world.cpu[cpu]);
}

static void fault_0(void)
{
	touch(0, PAGE, false);
}

static void fault_1(void)
{
	touch(1, PAGE, false);
}

static void fault_1_beside(void)
{
	touch(1, PAGE + 1, false);
}

static void fault_0_beside(void)
{
	touch(0, PAGE + 1, false);
}

/* The host has made one block of it: a huge leaf takes the place of the table of small ones. */
static void fault_1_huge(void)
{
	__atomic_store_n(&host.max_level, VMMU_LEVEL_2M, __ATOMIC_RELAXED);
	touch(1, PAGE + 1, false);
}

static void enter_0(void)
{
	enter(&world.cpu[0]);
}

static void enter_1(void)
{
	enter(&world.cpu[1]);
}

/* Logging ends: small leaves become a huge one. */
static void log_stop(void)
{
	world_slot(1, PAGE, BLOCK, PAGE, 0);
}

static void finish(void)
{
	world_audit(0);
	world_end();
}

SCENARIO(root_vs_root, .protocol = "P3 P7", .claim = "two vCPUs that need a root get the same one", .threads = 2, .setup = setup_nothing,
         .thread = { enter_0, enter_1 }, .finish = finish);

SCENARIO(fault_vs_fault, .protocol = "P7", .claim = "two faults on one page: one entry, one table a level, what lost is given back", .threads = 2,
         .setup = setup_empty, .thread = { fault_0, fault_1 }, .finish = finish);

SCENARIO(fault_vs_fault_beside, .protocol = "P7", .claim = "two faults that need the same tables install each once", .threads = 2, .setup = setup_empty,
         .thread = { fault_0, fault_1_beside }, .finish = finish);

SCENARIO(fault_vs_fault_huge, .protocol = "P7", .claim = "two faults that need the same huge leaf", .threads = 2, .setup = setup_huge,
         .thread = { fault_0, fault_1_beside }, .finish = finish);

SCENARIO(fault_vs_fault_neighbours, .protocol = "P7", .claim = "neighbours are put only where nothing is", .threads = 2, .setup = setup_neighbours,
         .thread = { fault_0, fault_1_beside }, .finish = finish);

SCENARIO(fault_vs_huge_fault, .protocol = "P7", .claim = "nothing is installed in a table that is being replaced: its entries are frozen (I3.7)", .threads = 2,
         .setup = setup_small, .thread = { fault_0, fault_1_huge }, .finish = finish);

SCENARIO(fault_vs_recover, .protocol = "P7", .claim = "small leaves become a huge one while vCPUs fault", .threads = 2,
         .setup = setup_logged, .thread = { fault_0_beside, log_stop }, .finish = finish);

SCENARIO(run_vs_recover, .protocol = "P7 P9", .claim = "a table that is replaced lives until no CPU walks it (I3.7)", .threads = 2, .setup = setup_logged,
         .thread = { fault_0, log_stop }, .finish = finish);
