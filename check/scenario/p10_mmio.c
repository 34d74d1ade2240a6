/* SPDX-License-Identifier: MIT */
/* P10: MMIO entries, while slots come and go. */
#include "check/scenario/world.h"
#include "core/memslot/memslot.h"

#define PAGE     GUEST_DATA
#define PAGE_GPA (PAGE * PAGE_SIZE)

static uint32_t created; /* set once vmmu_region_set has returned */

static void setup(void)
{
	world_make(0, VMMU_MMU_TDP, 1);
	world_slot(0, 0, 4, 0, 0);
	cpu_enter(&world.cpu[0]);
	cpu_leave(&world.cpu[0]);
}

/* The page is known as MMIO to the vCPU and in the table. */
static void setup_known(void)
{
	struct host_frame *frame;

	setup();
	check_assert(cpu_touch(&world.cpu[0], PAGE_GPA, false, 1, &frame) == CPU_MMIO);
}

static void setup_slot(void)
{
	struct host_frame *frame;

	setup();
	world_slot(1, PAGE, 2, PAGE, 0);
	check_assert(cpu_touch(&world.cpu[0], PAGE_GPA + PAGE_SIZE, false, 2, &frame) == CPU_DONE);
	cpu_leave(&world.cpu[0]);
}

static void create(void)
{
	world_slot(1, PAGE, 2, PAGE, 0);
	store_release(&created, 1);
}

static void delete(void)
{
	world_slot_delete(1);
}

static void access(void)
{
	bool must_be_memory = load_acquire(&created);
	struct host_frame *frame;
	enum cpu_result result = cpu_touch(&world.cpu[0], PAGE_GPA, false, 1, &frame);

	check_assert(!must_be_memory || result != CPU_MMIO);
	cpu_leave(&world.cpu[0]);
}

static void access_twice(void)
{
	access();
	access();
}

/* The page is memory until its slot is gone. It is never MMIO while the slot is only being deleted (zoo 10). */
static void access_going(void)
{
	struct host_frame *frame;

	if (cpu_touch(&world.cpu[0], PAGE_GPA, false, 1, &frame) == CPU_MMIO)
		check_assert(!memslot_find(memslots_current(world_vm(), 0), GFN(PAGE)));
	cpu_leave(&world.cpu[0]);
}

/* The audit looks for MMIO entries in a slot that still count as current. */
static void finish(void)
{
	struct host_frame *frame;

	world_audit(0);
	check_assert(cpu_touch(&world.cpu[0], PAGE_GPA, false, 3, &frame) == CPU_DONE);
	world_end();
}

static void finish_gone(void)
{
	struct host_frame *frame;

	world_audit(0);
	check_assert(cpu_touch(&world.cpu[0], PAGE_GPA, false, 3, &frame) == CPU_MMIO);
	world_end();
}

/*
 * P10. The vCPU faults on the page twice while a slot is created there. Once vmmu_region_set has
 * returned the page is not MMIO.
 */
SCENARIO(mmio_vs_slot_create, .protocol = "P10",
         .claim = "no vCPU takes a page of a new slot for MMIO once vmmu_region_set has returned",
         .threads = 2, .setup = setup, .thread = { access_twice, create }, .finish = finish);

/* P10. The same for a page that vCPU and table remember as MMIO. */
SCENARIO(known_mmio_vs_slot_create, .protocol = "P10",
         .claim = "a page that a vCPU remembers as MMIO is memory once vmmu_region_set has made a slot there",
         .threads = 2, .setup = setup_known, .thread = { access, create }, .finish = finish);

/* P3, P10. The vCPU faults on a page while its slot is deleted. The page is not MMIO before the slot is gone. */
SCENARIO(mmio_vs_slot_delete, .protocol = "P3 P10",
         .claim = "no vCPU takes a page of a slot for MMIO before the slot is gone",
         .threads = 2, .setup = setup_slot, .thread = { access_going, delete }, .finish = finish_gone);
