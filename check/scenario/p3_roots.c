/* SPDX-License-Identifier: MIT */
/*
 * P3: a slot goes, everything is zapped fast, and only what is stale is freed.
 *
 * zap_all_*: the zap alone, as a slot change calls it. When it has returned nobody uses an old root: it writes a plain variable that a CPU reads as long as it has one.
 * slot_delete_*: all of a slot change. When vmmu_region_set has returned the host gives the slot's memory away: it writes the frame, plainly, and whoever still reads it has
 * a data race.
 */
#include "check/scenario/world.h"
#include "core/vm/vm_int.h"

#define DATA_GPA (GUEST_DATA * PAGE_SIZE)

/* The slot is gone, and its memory used for something else. */
static void delete(void)
{
	world_slot_delete(1);
	host.frame[GUEST_DATA].data = 1;
}

/* --- TDP --- */

/* Slot 0 has pages 0 .. 3, slot 1 has 4 and 5: table 1 of level 1 and table 2. */
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

/* The page is mapped and in the CPU's TLB. */
static void tdp_setup(void)
{
	tdp_setup_slots(0, 1);
	map(&world.cpu[0], DATA_GPA);
}

/* The page beside it is mapped, so the tables are there. */
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

/* In the guest once, on whatever is there. */
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

/* Prefault holds the read section while it faults and reports a slot that goes. */
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
static uint64_t old_roots_gone; /* plain */

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
	vm_zap_all_fast(world_vm());
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

/* A page that is not in the TLB: the CPU walks. */
static void zap_run(void)
{
	run_until_zapped(&world.cpu[0], DATA_GPA + PAGE_SIZE);
}

static void zap_run_twice(void)
{
	zap_run();
	zap_run();
}

/* The answer to a fault that was taken before the zap, and an entry after it. */
static void zap_fault(void)
{
	world.cpu[0].error = 0;
	cpu_answer(&world.cpu[0], DATA_GPA);
	run_until_zapped(&world.cpu[0], DATA_GPA);
}

SCENARIO(zap_all_vs_run, .protocol = "P3 P9", .claim = "no vCPU enters the guest on an obsolete root (I3.2)", .threads = 2, .setup = zap_setup,
         .thread = { zap_run, zap_all }, .finish = finish);

SCENARIO(zap_all_vs_two_runs, .protocol = "P3 P9", .claim = "nor when it comes back (I3.2)", .threads = 2, .setup = zap_setup,
         .thread = { zap_run_twice, zap_all }, .finish = finish);

SCENARIO(zap_all_vs_fault, .protocol = "P3", .claim = "nothing is installed under an obsolete root (I3.3)", .threads = 2, .setup = zap_setup_beside,
         .thread = { zap_fault, zap_all }, .finish = finish);

SCENARIO(zap_all_vs_invalidate, .protocol = "P3 P5", .claim = "an invalidation finds roots that are being zapped, and none is freed under it (I3.4, I3.6)",
         .threads = 2, .setup = zap_setup_two_cpus, .thread = { invalidate_slot_0, zap_all }, .finish = finish);

SCENARIO(zap_all_vs_invalidate_vs_run, .protocol = "P3 P5 P9", .claim = "the last reference of a root is put once, by whoever is last (I3.4, I3.6)",
         .threads = 3, .setup = zap_setup, .thread = { zap_run, invalidate_slot_0, zap_all }, .finish = finish);

SCENARIO(zap_all_vs_age_vs_run, .protocol = "P2 P3", .claim = "a root lives while a lockless walk may be in it (I3.7)", .threads = 3,
         .setup = zap_setup, .thread = { zap_run, age, zap_all }, .finish = finish);

/* --- all of a slot change --- */

SCENARIO(slot_delete_vs_run, .protocol = "P3 P9", .claim = "no CPU uses a page of a slot that is gone (I3.1, I3.2)", .threads = 2, .setup = tdp_setup,
         .thread = { run, delete }, .finish = finish);

SCENARIO(slot_delete_vs_two_runs, .protocol = "P3 P9", .claim = "a vCPU that comes back does so on another root (I3.2)", .threads = 2, .setup = tdp_setup,
         .thread = { run_twice, delete }, .finish = finish);

SCENARIO(slot_delete_vs_fault, .protocol = "P3 P5", .claim = "nothing is installed under an obsolete root (I3.1, I3.3)", .threads = 2,
         .setup = tdp_setup_beside, .thread = { fault, delete }, .finish = finish);

SCENARIO(slot_delete_vs_prefault, .protocol = "P3", .claim = "nothing is installed under an obsolete root, and nobody waits for ever (I3.3)", .threads = 2,
         .setup = tdp_setup_beside, .thread = { prefault, delete }, .finish = finish);

SCENARIO(slot_delete_vs_invalidate, .protocol = "P3 P5", .claim = "an invalidation finds roots that are being zapped, and none is freed under it (I3.4, I3.6)",
         .threads = 2, .setup = tdp_setup_two_cpus, .thread = { invalidate_slot_0, delete }, .finish = finish);

SCENARIO(slot_delete_vs_invalidate_vs_run, .protocol = "P3 P5 P9", .claim = "the last reference of a root is put once, by whoever is last (I3.4, I3.6)",
         .threads = 3, .setup = tdp_setup_two_cpus, .thread = { run_other, invalidate_slot_0, delete }, .finish = finish);

SCENARIO(slot_delete_vs_age_vs_run, .protocol = "P2 P3", .claim = "a table lives while a lockless walk may be in it (I3.7)", .threads = 3,
         .setup = tdp_setup_two_cpus, .thread = { run_other, age, delete }, .finish = finish);

SCENARIO(slot_delete_vs_vcpu_destroy, .protocol = "P3 P9", .claim = "a vCPU goes while everybody is told; its reference is put once (I3.6)", .threads = 2,
         .setup = tdp_setup_two_cpus, .thread = { destroy_cpu, delete }, .finish = finish);

/* --- only the slot's range is zapped --- */

static void tdp_setup_zaps_slot(void)
{
	struct vmmu_config config = { .size = sizeof(config), .host = &host_ops, .mmu = VMMU_MMU_TDP, .max_vcpus = WORLD_CPUS, .slot_delete_zaps_slot = true };

	world_make_with(0, &config, 1);
	world_slot(0, 0, 4, 0, 0);
	world_slot(1, GUEST_DATA, 2, GUEST_DATA, 0);
	map(&world.cpu[0], DATA_GPA + PAGE_SIZE);
}

SCENARIO(slot_zap_vs_fault, .protocol = "P3 P5", .claim = "no page of a slot that is gone stays mapped when only its range is zapped (I3.1)", .threads = 2,
         .setup = tdp_setup_zaps_slot, .thread = { fault, delete }, .finish = finish);

/* --- shadow paging: cached roots --- */

#define SECOND_PML4 6u

/* CR3 0 and CR3 6 lead to the same tables; the second is current, the first is cached. */
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

	/* The slot may be gone: then it is MMIO. */
	if (cpu_touch(&world.cpu[0], 0, false, 1, &frame) == CPU_DONE)
		check_assert(frame->data == 0);
	cpu_leave(&world.cpu[0]);
}

static void finish_shadow(void)
{
	world_audit(0);
	world_end();
}

/* As shadow_setup, but what linear page 0 leads to is not mapped yet. */
static void shadow_setup_beside(void)
{
	world_make(0, VMMU_MMU_SHADOW, 1);
	world_slot(0, 0, 4, 0, 0);
	world_slot(1, GUEST_DATA, 2, GUEST_DATA, 0);
	world_guest_tables();
	map(&world.cpu[0], PAGE_SIZE);
}

/* One CR3, so few pages. */
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

SCENARIO(shadow_zap_all_vs_run, .protocol = "P3 P9", .claim = "no vCPU enters the guest on an obsolete root (I3.2)", .threads = 2,
         .setup = shadow_zap_setup, .thread = { shadow_zap_run, zap_all }, .finish = finish_shadow);

SCENARIO(shadow_zap_all_vs_fault, .protocol = "P3", .claim = "nothing is installed under an obsolete root (I3.3)", .threads = 2,
         .setup = shadow_zap_setup_beside, .thread = { shadow_zap_fault, zap_all }, .finish = finish_shadow);

SCENARIO(shadow_slot_delete_vs_run, .protocol = "P3 P9", .claim = "no CPU uses a page of a slot that is gone (I3.1, I3.2)", .threads = 2,
         .setup = shadow_setup, .thread = { run_linear, delete }, .finish = finish_shadow);

SCENARIO(shadow_slot_delete_vs_fault, .protocol = "P3 P5", .claim = "nothing is installed under an obsolete root (I3.1, I3.3)", .threads = 2,
         .setup = shadow_setup_beside, .thread = { fault_linear, delete }, .finish = finish_shadow);
