/* SPDX-License-Identifier: MIT */
/*
 * P7: TDP entries change by compare-and-swap with mmu_lock held for read. Faults race with each other, and with slot
 * changes that split or join leaves.
 */
#include "check/scenario/world.h"
#include "core/memslot/memslot.h"

#define PAGE  GUEST_DATA
#define BLOCK 4u

static void enter(struct cpu *cpu)
{
	cpu_enter(cpu);
	cpu_leave(cpu);
}

/* The vCPUs have their root, with nothing below it. */
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

/* One page is mapped in a small leaf: the host has nothing larger yet. */
static void setup_small(void)
{
	struct host_frame *frame;

	setup_empty();
	check_assert(cpu_touch(&world.cpu[0], (PAGE + 2) * PAGE_SIZE, false, 2, &frame) == CPU_DONE);
	cpu_leave(&world.cpu[0]);
}

/* The slot is logged, so its leaves are small. One of them is there. */
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

/* The host has put the pages into one block, so a huge leaf takes the place of the table of small ones. */
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

/* Logging ends, and small leaves become a huge one. */
static void log_stop(void)
{
	world_slot(1, PAGE, BLOCK, PAGE, 0);
}

static void finish(void)
{
	world_audit(0);
	world_end();
}

/* P3, P7. Two vCPUs enter for the first time. They get the same root. */
SCENARIO(root_vs_root, .protocol = "P3 P7", .claim = "two vCPUs that need a root get the same one",
         .threads = 2, .setup = setup_nothing, .thread = { enter_0, enter_1 }, .finish = finish);

/* P7. Two vCPUs fault on one page. One entry and one table a level are installed; the loser frees its table. */
SCENARIO(fault_vs_fault, .protocol = "P7",
         .claim = "two faults on one page install one entry and one table a level; the loser frees its table",
         .threads = 2, .setup = setup_empty, .thread = { fault_0, fault_1 }, .finish = finish);

/* P7. Two vCPUs fault on neighbouring pages. Each table that both need is installed once. */
SCENARIO(fault_vs_fault_beside, .protocol = "P7",
         .claim = "two faults that need the same tables install each table once",
         .threads = 2, .setup = setup_empty, .thread = { fault_0, fault_1_beside }, .finish = finish);

/* P7. Two vCPUs fault on pages of the same huge leaf. */
SCENARIO(fault_vs_fault_huge, .protocol = "P7", .claim = "two vCPUs can fault on pages of one huge leaf",
         .threads = 2, .setup = setup_huge, .thread = { fault_0, fault_1_beside }, .finish = finish);

/*
 * P7. Two vCPUs fault on neighbouring pages, and each fault also maps the page beside it. It does so
 * only where the entry is empty.
 */
SCENARIO(fault_vs_fault_neighbours, .protocol = "P7",
         .claim = "a fault maps the page beside its own only where the entry is empty",
         .threads = 2, .setup = setup_neighbours, .thread = { fault_0, fault_1_beside }, .finish = finish);

/*
 * P7. vCPU 0 faults on a page while the fault of vCPU 1 replaces the table by a huge leaf. The entries of that table
 * are frozen, so nothing is installed in it (I3.7).
 */
SCENARIO(fault_vs_huge_fault, .protocol = "P7",
         .claim = "a fault installs nothing in the frozen entries of a table that a huge leaf replaces (I3.7)",
         .threads = 2, .setup = setup_small, .thread = { fault_0, fault_1_huge }, .finish = finish);

/* P7. The vCPU faults while logging ends and small leaves become a huge one. */
SCENARIO(fault_vs_recover, .protocol = "P7", .claim = "a vCPU can fault while small leaves become a huge one",
         .threads = 2, .setup = setup_logged, .thread = { fault_0_beside, log_stop }, .finish = finish);

/*
 * P7, P9. The vCPU uses a mapped page while logging ends and a huge leaf replaces the table. The table lives
 * until no CPU walks it (I3.7).
 */
SCENARIO(run_vs_recover, .protocol = "P7 P9", .claim = "a table that is replaced lives until no CPU walks it (I3.7)",
         .threads = 2, .setup = setup_logged, .thread = { fault_0, log_stop }, .finish = finish);
