/* SPDX-License-Identifier: MIT */
/*
 * P5: the host takes memory away while slots change and vCPUs fault. Between begin and end the host moves a
 * page to another frame. Then it uses the old frame for something else, which is a plain write: a CPU that
 * still reads it has a data race.
 */
#include "check/scenario/world.h"
#include "core/memslot/slots.h"
#include "core/notifier/notifier.h"

#define PAGE     GUEST_DATA
#define PAGE_GPA (PAGE * PAGE_SIZE)
#define SPARE    (HOST_PAGES) /* frames from here on hold no page at first */

static void setup_slots(unsigned flags, unsigned cpus)
{
	world_make(flags, VMMU_MMU_TDP, cpus);
	world_slot(0, 0, 4, 0, 0);
	world_slot(1, PAGE, 2, PAGE, 0);
}

/* Another page of the VM is mapped. */
static void setup(void)
{
	struct host_frame *frame;

	setup_slots(0, 1);
	check_assert(cpu_touch(&world.cpu[0], 0, false, 2, &frame) == CPU_DONE);
	cpu_leave(&world.cpu[0]);
}

/* The page is mapped, and in the CPU's TLB. */
static void setup_mapped(void)
{
	struct host_frame *frame;

	setup_slots(0, 1);
	check_assert(cpu_touch(&world.cpu[0], PAGE_GPA, false, 2, &frame) == CPU_DONE);
	cpu_leave(&world.cpu[0]);
}

/* The page is mapped, and a walk that goes on beyond it may yield mmu_lock. */
static void setup_mapped_and_yielding(void)
{
	struct host_frame *frame;

	setup_slots(MAY_CONTEND, 1);
	check_assert(cpu_touch(&world.cpu[0], PAGE_GPA, false, 2, &frame) == CPU_DONE);
	cpu_leave(&world.cpu[0]);
}

static void setup_no_slot(void)
{
	world_make(0, VMMU_MMU_TDP, 0);
	world_slot(0, 0, 4, 0, 0);
}

static void setup_slot_only(void)
{
	setup_slots(0, 0);
}

/* The gate alone, with the library's own mutex in it. */
static struct gate gate;
static uint64_t published; /* plain: does not change while an invalidation is in the gate */

static void setup_real_gate(void)
{
	abstract_init(REAL_MUTEX);
	gate_init(&gate);
}

static void pass_gate(void)
{
	gate_enter(&gate);
	check_assert(published <= 1);
	check_assert(gate_leave(&gate));
}

static void pass_gate_twice(void)
{
	pass_gate();
	pass_gate();
}

static void publish_once(void *arg)
{
	(void)arg;
	published++;
}

static void publish_through_gate(void)
{
	gate_publish(&gate, publish_once, NULL);
}

static void finish_gate(void)
{
	check_assert(published == 1 && gate.active == 0 && !gate.waiting && !gate_leave(&gate));
}

static void begin(unsigned page)
{
	vmmu_invalidate_begin(world.vm, host_hva(page), host_hva(page + 1));
}

static void end(unsigned page)
{
	vmmu_invalidate_end(world.vm, host_hva(page), host_hva(page + 1));
}

static void migrate(unsigned page, unsigned spare)
{
	unsigned old = page;

	begin(page);
	host_move(page, SPARE + spare);
	host.frame[old].data = 1; /* the frame has another owner from here on */
	end(page);
}

static void migrate_page(void)
{
	migrate(PAGE, 0);
}

static void migrate_next(void)
{
	migrate(PAGE + 1, 1);
}

/* The page moves within an invalidation of two pages. */
static void migrate_in_passing(void)
{
	vmmu_invalidate_begin(world.vm, host_hva(PAGE), host_hva(PAGE + 2));
	host_move(PAGE, SPARE);
	host.frame[PAGE].data = 1;
	vmmu_invalidate_end(world.vm, host_hva(PAGE), host_hva(PAGE + 2));
}

static void invalidate(void)
{
	begin(PAGE);
	end(PAGE);
}

static void create(void)
{
	world_slot(1, PAGE, 2, PAGE, 0);
}

static void delete(void)
{
	world_slot_delete(1);
}

static void access_once(unsigned faults)
{
	struct host_frame *frame;

	if (cpu_touch(&world.cpu[0], PAGE_GPA, false, faults, &frame) == CPU_DONE)
		check_assert(frame->data == 0);
	cpu_leave(&world.cpu[0]);
}

static void run(void)
{
	access_once(0);
}

static void fault(void)
{
	access_once(1);
}

/* I5.1: no invalidation is outstanding. I5.3: the audit compares what is mapped with where the host's pages are. */
static void finish(void)
{
	check_assert(world_vm()->notifier->in_progress == 0 && world_vm()->slots->gate.active == 0);
	world_audit(0);
	world_end();
}

/*
 * P5. The host invalidates a page while a slot over it is created. begin and end see the same slots, and the count of
 * invalidations returns to 0 (I5.1, I5.2).
 */
SCENARIO(invalidate_vs_slot_create, .protocol = "P5",
         .claim = "begin and end of an invalidation see the same slots; the count returns to 0 (I5.1, I5.2)",
         .threads = 2, .setup = setup_no_slot, .thread = { invalidate, create }, .finish = finish);

/* P5. The same while the slot over the page is deleted (I5.1, I5.2). */
SCENARIO(invalidate_vs_slot_delete, .protocol = "P5",
         .claim = "begin and end of an invalidation see the same slots; the count returns to 0 (I5.1, I5.2)",
         .threads = 2, .setup = setup_slot_only, .thread = { invalidate, delete }, .finish = finish);

/* P5. Two invalidations beside a slot change that waits for both. The slot change is woken (I5.2, I5.6). */
SCENARIO(invalidations_vs_slot_delete, .protocol = "P5",
         .claim = "a slot change that waits for invalidations is woken (I5.2, I5.6)",
         .threads = 3, .setup = setup_slot_only, .thread = { invalidate, invalidate, delete }, .finish = finish);

/*
 * P5. One thread passes the gate twice as an invalidation does, the other publishes through it, with the library's
 * own mutex. A sleeping publisher is woken (I5.2, I5.6).
 */
SCENARIO(gate_vs_itself, .protocol = "P5",
         .claim = "a slot change that sleeps at the gate is woken, with the library's own mutex (I5.2, I5.6)",
         .threads = 2, .setup = setup_real_gate, .thread = { pass_gate_twice, publish_through_gate },
         .finish = finish_gate);

/*
 * P5. The vCPU faults on the page while the host moves it. No frame is installed that was looked up
 * before the move (I5.3, I5.4).
 */
SCENARIO(fault_vs_invalidate, .protocol = "P5",
         .claim = "a fault installs no frame that it looked up before an invalidation (I5.3, I5.4)",
         .threads = 2, .setup = setup, .thread = { fault, migrate_page }, .finish = finish);

/*
 * P5. The same while the invalidation yields mmu_lock in its walk. Nothing is installed in its
 * range meanwhile (I5.4, I5.5).
 */
SCENARIO(fault_vs_invalidate_that_yields, .protocol = "P5",
         .claim = "a fault installs nothing in a range while its invalidation yields mmu_lock (I5.4, I5.5)",
         .threads = 2, .setup = setup_mapped_and_yielding, .thread = { fault, migrate_in_passing }, .finish = finish);

/* P5, P9. The vCPU runs with the page in its TLB while the host moves it. After begin no CPU uses the frame (I5.4). */
SCENARIO(run_vs_invalidate, .protocol = "P5 P9", .claim = "once begin has returned, no CPU uses the page (I5.4)",
         .threads = 2, .setup = setup_mapped, .thread = { run, migrate_page }, .finish = finish);

/*
 * P5. The vCPU faults on the page while two threads move it and its neighbour. The range in
 * progress covers both (I5.3, I5.5).
 */
SCENARIO(fault_vs_two_invalidations, .protocol = "P5",
         .claim = "the range in progress covers all outstanding invalidations (I5.3, I5.5)",
         .threads = 3, .setup = setup, .thread = { fault, migrate_page, migrate_next }, .finish = finish);

/* --- two invalidations of one thread, nested: the first one's range stays covered when the second begins --- */

static void nested(void)
{
	begin(PAGE);
	host_move(PAGE, SPARE);
	host.frame[PAGE].data = 1;
	begin(0);
	end(0);
	end(PAGE);
}

/* P5. The vCPU faults on the page while it is being moved and another page is invalidated in between (I5.5). */
SCENARIO(fault_vs_nested_invalidations, .protocol = "P5",
         .claim = "the range in progress covers all outstanding invalidations (I5.5)",
         .threads = 2, .setup = setup, .thread = { fault, nested }, .finish = finish);

/* --- shadow paging --- */

static void shadow_setup(void)
{
	struct host_frame *frame;

	world_make(0, VMMU_MMU_SHADOW, 1);
	world_slot(0, 0, 6, 0, 0);
	world_guest_tables();
	check_assert(cpu_touch(&world.cpu[0], PAGE_SIZE, false, 2, &frame) == CPU_DONE);
	cpu_leave(&world.cpu[0]);
}

static void shadow_fault(void)
{
	struct host_frame *frame;

	if (cpu_touch(&world.cpu[0], 0, false, 1, &frame) == CPU_DONE)
		check_assert(frame->data == 0);
	cpu_leave(&world.cpu[0]);
}

static void shadow_finish(void)
{
	uint64_t leaf = cpu_peek(&world.cpu[0], 0);

	check_assert(world_vm()->notifier->in_progress == 0);
	check_assert(!leaf || (leaf & VMMU_ENTRY_ADDR) >> PAGE_SHIFT == HOST_PFN + host_frame_of(host_hva(PAGE).v));
	world_end();
}

/*
 * P5. With shadow paging, the vCPU faults on the page while the host moves it. No frame is installed that was
 * looked up before the move (I5.3).
 */
SCENARIO(shadow_fault_vs_invalidate, .protocol = "P5",
         .claim = "a fault installs no frame that it looked up before an invalidation (I5.3)",
         .threads = 2, .setup = shadow_setup, .thread = { shadow_fault, migrate_page }, .finish = shadow_finish);
