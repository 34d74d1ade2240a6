/* SPDX-License-Identifier: MIT */
/*
 * P3: a slot is deleted. Everything is zapped fast, and only obsolete roots are freed.
 *
 * zap_all_*: only the zap, as a slot change calls it. When it has returned no CPU uses an old root. So the zapping
 * thread then writes a plain variable, which a CPU reads while it is on an old root: a CPU that still is has a data
 * race.
 *
 * slot_delete_*: a whole slot change. When vmmu_region_set has returned the host uses the slot's memory for something
 * else. So the deleting thread then writes the frame plainly: a CPU that still reads it has a data race.
 */
#include "check/scenario/world.h"
#include "core/mmu/mmu.h"

#define DATA_GPA (GUEST_DATA * PAGE_SIZE)

/* Delete the slot, and use its memory for something else. */
static void delete(void)
{
	world_slot_delete(1);
	host.frame[GUEST_DATA].data = 1;
}

/* --- TDP --- */

/* Slot 0 has pages 0 to 3, slot 1 pages 4 and 5. They are under different tables of level 1. */
static void tdp_setup_slots(unsigned flags, unsigned cpus)
{
	world_make(flags, VMMU_MMU_TDP, cpus);
	world_slot(0, 0, 4, 0, 0);
	world_slot(1, GUEST_DATA, 2, GUEST_DATA, 0);
}

static void map(struct cpu *cpu, uint64_t address)
{
	struct host_frame *frame;

	check_assert(cpu_touch(cpu, address, false, 2, &frame) == CPU_DONE);
	cpu_leave(cpu);
}

/* The page is mapped, and in the CPU's TLB. */
static void tdp_setup(void)
{
	tdp_setup_slots(0, 1);
	map(&world.cpu[0], DATA_GPA);
}

/* The next page is mapped, so the tables are there. */
static void tdp_setup_beside(void)
{
	tdp_setup_slots(0, 1);
	map(&world.cpu[0], DATA_GPA + PAGE_SIZE);
}

static void tdp_setup_two_cpus(void)
{
	tdp_setup_slots(0, 2);
	map(&world.cpu[0], 0);
	map(&world.cpu[1], DATA_GPA);
}

/* Run in the guest once, with whatever the tables hold. */
static void run_on(struct cpu *cpu, uint64_t address)
{
	struct host_frame *frame;

	cpu_enter(cpu);
	frame = cpu_access(cpu, address, false);
	if (frame)
		check_assert(frame->data == 0);
	cpu_leave(cpu);
}

static void run(void)
{
	run_on(&world.cpu[0], DATA_GPA);
}

static void run_twice(void)
{
	run();
	run();
}

static void run_other(void)
{
	run_on(&world.cpu[0], 0);
}

static void fault(void)
{
	struct host_frame *frame;

	if (cpu_touch(&world.cpu[0], DATA_GPA, false, 1, &frame) == CPU_DONE)
		check_assert(frame->data == 0);
	cpu_leave(&world.cpu[0]);
}

/* Prefault holds the SRCU read side while it faults, and reports a slot that is being deleted. */
static void prefault(void)
{
	uint64_t done;
	enum vmmu_status status = vmmu_prefault(world.cpu[0].vcpu, GPA(DATA_GPA), PAGE_SIZE, &done);

	check_assert(status == VMMU_OK || status == VMMU_EAGAIN || status == VMMU_ENOENT);
}

static void invalidate_slot_0(void)
{
	vmmu_invalidate_begin(world.vm, host_hva(0), host_hva(1));
	vmmu_invalidate_end(world.vm, host_hva(0), host_hva(1));
}

static void age(void)
{
	vmmu_age(world.vm, host_hva(0), host_hva(6), true);
}

static void destroy_cpu(void)
{
	vmmu_vcpu_destroy(world.cpu[1].vcpu);
	world.cpu[1].vcpu = NULL;
}

static void finish(void)
{
	world_audit(0);
	world_end();
}

/* --- the zap alone --- */

static const uint64_t *old_root[WORLD_CPUS];
static uint64_t old_roots_gone; /* plain: see above */

static void remember_roots(void)
{
	for (unsigned id = 0; id < WORLD_CPUS; id++)
		old_root[id] = world.cpu[id].entry.root;
}

static void zap_setup(void)
{
	tdp_setup();
	remember_roots();
}

static void zap_setup_beside(void)
{
	tdp_setup_beside();
	remember_roots();
}

static void zap_setup_two_cpus(void)
{
	tdp_setup_two_cpus();
	remember_roots();
}

static void zap_all(void)
{
	mutex_lock(&world_vm()->slots_lock);
	mmu_zap_all_fast(world_vm());
	mutex_unlock(&world_vm()->slots_lock);
	old_roots_gone = 1;
}

static void run_until_zapped(struct cpu *cpu, uint64_t address)
{
	cpu_enter(cpu);
	if (cpu->entry.root == old_root[cpu - world.cpu]) {
		check_assert(!old_roots_gone);
		cpu_access(cpu, address, false);
	}
	cpu_leave(cpu);
}

/* The page is not in the TLB, so the CPU walks. */
static void zap_run(void)
{
	run_until_zapped(&world.cpu[0], DATA_GPA + PAGE_SIZE);
}

static void zap_run_twice(void)
{
	zap_run();
	zap_run();
}

/* Answer a fault that was taken before the zap, then enter. */
static void zap_fault(void)
{
	world.cpu[0].error = 0;
	cpu_answer(&world.cpu[0], DATA_GPA);
	run_until_zapped(&world.cpu[0], DATA_GPA);
}

/* P3, P9. The vCPU enters the guest while everything is zapped. It never runs on the obsolete root (I3.2). */
SCENARIO(zap_all_vs_run, .protocol = "P3 P9", .claim = "no vCPU enters the guest on an obsolete root (I3.2)",
         .threads = 2, .setup = zap_setup, .thread = { zap_run, zap_all }, .finish = finish);

/* P3, P9. The same for a vCPU that enters twice (I3.2). */
SCENARIO(zap_all_vs_two_runs, .protocol = "P3 P9",
         .claim = "a vCPU that enters twice never runs on an obsolete root (I3.2)",
         .threads = 2, .setup = zap_setup, .thread = { zap_run_twice, zap_all }, .finish = finish);

/* P3. The vCPU answers a fault while everything is zapped. Nothing is installed under the obsolete root (I3.3). */
SCENARIO(zap_all_vs_fault, .protocol = "P3", .claim = "a fault installs nothing under an obsolete root (I3.3)",
         .threads = 2, .setup = zap_setup_beside, .thread = { zap_fault, zap_all }, .finish = finish);

/*
 * P3, P5. The host invalidates a page while everything is zapped. The invalidation finds the invalid root too, and
 * the root is not freed under it (I3.4, I3.6).
 */
SCENARIO(zap_all_vs_invalidate, .protocol = "P3 P5",
         .claim = "an invalidation finds roots that are being zapped, and none is freed while it walks (I3.4, I3.6)",
         .threads = 2, .setup = zap_setup_two_cpus, .thread = { invalidate_slot_0, zap_all }, .finish = finish);

/*
 * P3, P5, P9. The same with a vCPU that enters, and so drops the obsolete root. Three threads may put its last
 * reference; one does (I3.4, I3.6).
 */
SCENARIO(zap_all_vs_invalidate_vs_run, .protocol = "P3 P5 P9",
         .claim = "whichever thread is last puts the last reference of a root, once (I3.4, I3.6)",
         .threads = 3, .setup = zap_setup, .thread = { zap_run, invalidate_slot_0, zap_all }, .finish = finish);

/*
 * P2, P3. The host ages a page while everything is zapped and the vCPU drops the obsolete root. The root lives while
 * the aging walk is in it (I3.7).
 */
SCENARIO(zap_all_vs_age_vs_run, .protocol = "P2 P3", .claim = "a root lives while a lockless walk may be in it (I3.7)",
         .threads = 3, .setup = zap_setup, .thread = { zap_run, age, zap_all }, .finish = finish);

/* --- all of a slot change --- */

/*
 * P3, P9. The vCPU enters the guest while the slot is deleted. It does not use the slot's
 * page afterwards (I3.1, I3.2).
 */
SCENARIO(slot_delete_vs_run, .protocol = "P3 P9", .claim = "no CPU uses a page of a deleted slot (I3.1, I3.2)",
         .threads = 2, .setup = tdp_setup, .thread = { run, delete }, .finish = finish);

/* P3, P9. The same for a vCPU that enters twice: the second time it is on another root (I3.2). */
SCENARIO(slot_delete_vs_two_runs, .protocol = "P3 P9", .claim = "a vCPU that enters again is on another root (I3.2)",
         .threads = 2, .setup = tdp_setup, .thread = { run_twice, delete }, .finish = finish);

/*
 * P3, P5. The vCPU faults on a page of the slot while the slot is deleted. Nothing is installed under
 * the obsolete root (I3.1, I3.3).
 */
SCENARIO(slot_delete_vs_fault, .protocol = "P3 P5",
         .claim = "a fault installs nothing under an obsolete root (I3.1, I3.3)",
         .threads = 2, .setup = tdp_setup_beside, .thread = { fault, delete }, .finish = finish);

/*
 * P3. The vCPU prefaults a page of the slot while the slot is deleted. Nothing is installed under the obsolete root
 * (I3.3), and neither thread waits for the other for ever.
 */
SCENARIO(slot_delete_vs_prefault, .protocol = "P3",
         .claim = "a prefault installs nothing under an obsolete root, and no thread waits for ever (I3.3)",
         .threads = 2, .setup = tdp_setup_beside, .thread = { prefault, delete }, .finish = finish);

/*
 * P3, P5. The host invalidates a page of slot 0 while slot 1 is deleted. The invalidation finds the invalid roots
 * too, and none is freed under it (I3.4, I3.6).
 */
SCENARIO(slot_delete_vs_invalidate, .protocol = "P3 P5",
         .claim = "an invalidation finds roots that are being zapped, and none is freed while it walks (I3.4, I3.6)",
         .threads = 2, .setup = tdp_setup_two_cpus, .thread = { invalidate_slot_0, delete }, .finish = finish);

/* P3, P5, P9. The same with a vCPU that enters. The last reference of the root is put once (I3.4, I3.6). */
SCENARIO(slot_delete_vs_invalidate_vs_run, .protocol = "P3 P5 P9",
         .claim = "whichever thread is last puts the last reference of a root, once (I3.4, I3.6)",
         .threads = 3, .setup = tdp_setup_two_cpus, .thread = { run_other, invalidate_slot_0, delete },
         .finish = finish);

/*
 * P2, P3. The host ages pages while the slot is deleted and a vCPU enters. The tables live
 * while the walk is in them (I3.7).
 */
SCENARIO(slot_delete_vs_age_vs_run, .protocol = "P2 P3",
         .claim = "a table lives while a lockless walk may be in it (I3.7)",
         .threads = 3, .setup = tdp_setup_two_cpus, .thread = { run_other, age, delete }, .finish = finish);

/*
 * P3, P9. A vCPU is destroyed while the slot change sends its request to all vCPUs. The vCPU's reference to
 * its root is put once (I3.6).
 */
SCENARIO(slot_delete_vs_vcpu_destroy, .protocol = "P3 P9",
         .claim = "a vCPU destroyed during a request to all vCPUs puts the reference to its root once (I3.6)",
         .threads = 2, .setup = tdp_setup_two_cpus, .thread = { destroy_cpu, delete }, .finish = finish);

/* --- a slot change that zaps only the slot's range --- */

static void tdp_setup_zaps_slot(void)
{
	struct vmmu_config config = {
		.size = sizeof(config), .host = &host_ops, .mmu = VMMU_MMU_TDP, .max_vcpus = WORLD_CPUS,
		.slot_delete_zaps_slot = true
	};

	world_make_with(0, &config, 1);
	world_slot(0, 0, 4, 0, 0);
	world_slot(1, GUEST_DATA, 2, GUEST_DATA, 0);
	map(&world.cpu[0], DATA_GPA + PAGE_SIZE);
}

/*
 * P3, P5. The vCPU faults on a page of the slot while the slot is deleted and its range zapped. The page is
 * not mapped afterwards (I3.1).
 */
SCENARIO(slot_zap_vs_fault, .protocol = "P3 P5",
         .claim = "no page of a deleted slot stays mapped when only the slot's range is zapped (I3.1)",
         .threads = 2, .setup = tdp_setup_zaps_slot, .thread = { fault, delete }, .finish = finish);

/* --- shadow paging: cached roots --- */

#define SECOND_PML4 6u

/* CR3 0 and CR3 6 lead to the same tables. The root of CR3 6 is current, that of CR3 0 is cached. */
static void shadow_setup(void)
{
	world_make(0, VMMU_MMU_SHADOW, 1);
	world_slot(0, 0, 4, 0, 0);
	world_slot(2, SECOND_PML4, 1, SECOND_PML4, 0);
	world_slot(1, GUEST_DATA, 2, GUEST_DATA, 0);
	world_guest_tables();
	host.frame[SECOND_PML4].word[0] = world_guest_entry(1);
	map(&world.cpu[0], 0);
	world_cr3(&world.cpu[0], SECOND_PML4, true);
	map(&world.cpu[0], 0);
}

static void run_linear(void)
{
	run_on(&world.cpu[0], 0);
}

static void fault_linear(void)
{
	struct host_frame *frame;

	/* Once the slot is deleted the address is MMIO. */
	if (cpu_touch(&world.cpu[0], 0, false, 1, &frame) == CPU_DONE)
		check_assert(frame->data == 0);
	cpu_leave(&world.cpu[0]);
}

static void finish_shadow(void)
{
	world_audit(0);
	world_end();
}

/* One CR3; the page of linear page 0 is not mapped yet. */
static void shadow_setup_beside(void)
{
	world_make(0, VMMU_MMU_SHADOW, 1);
	world_slot(0, 0, 4, 0, 0);
	world_slot(1, GUEST_DATA, 2, GUEST_DATA, 0);
	world_guest_tables();
	map(&world.cpu[0], PAGE_SIZE);
}

/* One CR3, so that there are few shadow pages. */
static void shadow_zap_setup(void)
{
	shadow_setup_beside();
	map(&world.cpu[0], 0);
	remember_roots();
}

static void shadow_zap_setup_beside(void)
{
	shadow_setup_beside();
	remember_roots();
}

static void shadow_zap_run(void)
{
	run_until_zapped(&world.cpu[0], 0);
}

static void shadow_zap_fault(void)
{
	world.cpu[0].error = 0;
	cpu_answer(&world.cpu[0], 0);
	shadow_zap_run();
}

/*
 * P3, P9. With shadow paging, the vCPU enters the guest while everything is zapped. It never runs
 * on the obsolete root (I3.2).
 */
SCENARIO(shadow_zap_all_vs_run, .protocol = "P3 P9", .claim = "no vCPU enters the guest on an obsolete root (I3.2)",
         .threads = 2, .setup = shadow_zap_setup, .thread = { shadow_zap_run, zap_all }, .finish = finish_shadow);

/*
 * P3. With shadow paging, the vCPU answers a fault while everything is zapped. Nothing is installed
 * under the obsolete root (I3.3).
 */
SCENARIO(shadow_zap_all_vs_fault, .protocol = "P3", .claim = "a fault installs nothing under an obsolete root (I3.3)",
         .threads = 2, .setup = shadow_zap_setup_beside, .thread = { shadow_zap_fault, zap_all },
         .finish = finish_shadow);

/*
 * P3, P9. With shadow paging, the vCPU enters the guest while the slot is deleted. It does not use the slot's
 * page afterwards (I3.1, I3.2).
 */
SCENARIO(shadow_slot_delete_vs_run, .protocol = "P3 P9", .claim = "no CPU uses a page of a deleted slot (I3.1, I3.2)",
         .threads = 2, .setup = shadow_setup, .thread = { run_linear, delete }, .finish = finish_shadow);

/*
 * P3, P5. With shadow paging, the vCPU faults on a page of the slot while the slot is deleted. Nothing is installed
 * under the obsolete root (I3.1, I3.3).
 */
SCENARIO(shadow_slot_delete_vs_fault, .protocol = "P3 P5",
         .claim = "a fault installs nothing under an obsolete root (I3.1, I3.3)",
         .threads = 2, .setup = shadow_setup_beside, .thread = { fault_linear, delete }, .finish = finish_shadow);
