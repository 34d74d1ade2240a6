/* SPDX-License-Identifier: MIT */
/*
 * P9: requests, modes and kicks. A CPU in the guest reads a plain variable. The requester writes it once every vCPU
 * has answered the request. So a CPU that runs on past a request has a data race.
 */
#include "check/scenario/world.h"
#include "core/fault/vcpu.h"

static uint64_t thing;
static uint32_t done; /* how many requesters are done */

static void setup(void)
{
	struct cpu *cpu = &world.cpu[0];

	world_make(0, VMMU_MMU_TDP, 1);
	/* The vCPU gets its root here, so that the threads' entries are short. */
	cpu_enter(cpu);
	cpu_leave(cpu);
}

static void setup_spin(void)
{
	struct cpu *cpu = &world.cpu[0];

	world_make(SPIN_ONCE, VMMU_MMU_TDP, 1);
	cpu_enter(cpu);
	cpu_leave(cpu);
}

static void setup_two(void)
{
	setup();
	check_assert(vmmu_vcpu_create(world.vm, 1, NULL, &world.cpu[1].vcpu) == VMMU_OK);
	cpu_enter(&world.cpu[1]);
	cpu_leave(&world.cpu[1]);
}

/*
 * Stay in the guest until told to leave, or until no requester is left. A guest that was told to flush must
 * not use the variable any more.
 */
static void run_for(struct cpu *cpu, unsigned requesters)
{
	cpu_enter(cpu);
	if (!cpu->entry.flush)
		check_assert(thing == 0);
	while (!vmmu_entry_must_leave(&cpu->entry) && load_relaxed(&done) < requesters)
		check_pause();
	cpu_leave(cpu);
}

static void run(void)
{
	run_for(&world.cpu[0], 1);
}

static void run_other(void)
{
	run_for(&world.cpu[1], 1);
}

static void run_twice(void)
{
	run();
	if (!world.cpu[0].entry.flush)
		run();
}

/* One visit to the guest, without a loop. */
static void run_once_in_guest(void)
{
	struct cpu *cpu = &world.cpu[0];

	cpu_enter(cpu);
	if (!cpu->entry.flush)
		check_assert(thing == 0);
	cpu_leave(cpu);
}

static void run_two_requesters(void)
{
	run_for(&world.cpu[0], 2);
}

static void flush(void)
{
	struct mmu_write token = mmu_write_lock(world_vm());

	vcpus_flush(world_vm());
	mmu_write_unlock(&token);
	thing = 1;
	add_relaxed(&done, 1);
}

/* Two threads that hold mmu_lock for read may wait for one vCPU at the same time. */
static void flush_only(void)
{
	struct mmu_read token = mmu_read_lock(world_vm(), 0);

	vcpus_flush(world_vm());
	mmu_read_unlock(&token);
	add_relaxed(&done, 1);
}

static void kick(void)
{
	vmmu_vcpu_kick(world.cpu[0].vcpu);
	add_relaxed(&done, 1);
}

static void create(void)
{
	check_assert(vmmu_vcpu_create(world.vm, 1, NULL, &world.cpu[1].vcpu) == VMMU_OK);
}

/* The vCPU runs the guest once and is destroyed. */
static void run_and_go(void)
{
	struct cpu *cpu = &world.cpu[0];

	run_once_in_guest();
	vmmu_vcpu_destroy(cpu->vcpu);
	cpu->vcpu = NULL;
}

static void finish(void)
{
	world_end();
}

/*
 * P9. The vCPU runs while another thread flushes all vCPUs. The vCPU does not run on past the request, and the thread
 * that waits for it is woken (I3.2).
 */
SCENARIO(flush_vs_run, .protocol = "P9",
         .claim = "no vCPU runs on past a request, and the thread that waits for the vCPU is woken (I3.2)",
         .threads = 2, .setup = setup, .thread = { run, flush }, .finish = finish);

/* P9. The same for a thread that looks once more before it sleeps. */
SCENARIO(flush_spin_vs_run, .protocol = "P9",
         .claim = "a thread that waits for a vCPU, and looks once more before it sleeps, is woken",
         .threads = 2, .setup = setup_spin, .thread = { run_once_in_guest, flush }, .finish = finish);

/* P9. The same for a vCPU that enters twice. */
SCENARIO(flush_vs_two_runs, .protocol = "P9", .claim = "a vCPU that enters twice never runs on past a request",
         .threads = 2, .setup = setup, .thread = { run_twice, flush }, .finish = finish);

/* P9. Two vCPUs run while a third thread flushes. It waits for both. */
SCENARIO(flush_vs_two_vcpus, .protocol = "P9", .claim = "a flush waits for every vCPU",
         .threads = 3, .setup = setup_two, .thread = { run, run_other, flush }, .finish = finish);

/* P9. The vCPU runs while two threads flush. Both wait for it, and both are woken. */
SCENARIO(flush_vs_flush_vs_run, .protocol = "P9", .claim = "two threads that wait for one vCPU are both woken",
         .threads = 3, .setup = setup, .thread = { run_two_requesters, flush_only, flush_only }, .finish = finish);

/* P9. The vCPU runs while another thread kicks it. The kick ends its visit to the guest, or comes before it. */
SCENARIO(kick_vs_run, .protocol = "P9", .claim = "a kick ends a visit to the guest, or comes before it",
         .threads = 2, .setup = setup, .thread = { run, kick }, .finish = finish);

/* P9. A thread flushes while another creates vCPU 1. The flush sees the whole new vCPU or does not see it. */
SCENARIO(flush_vs_vcpu_create, .protocol = "P9", .claim = "a flush sees a new vCPU whole or not at all",
         .threads = 2, .setup = setup, .thread = { flush, create }, .finish = finish);

/*
 * P9. vCPU 0 runs and is destroyed while another thread flushes; vCPU 1 stays. A flush that does not find vCPU 0
 * knows that it has left the guest (I5.4).
 */
SCENARIO(flush_vs_vcpu_destroy, .protocol = "P9",
         .claim = "a vCPU that a flush does not find has left the guest (I5.4)",
         .threads = 2, .setup = setup_two, .thread = { run_and_go, flush }, .finish = finish);

/* P9. The same when vCPU 0 is the only one (I5.4). */
SCENARIO(flush_vs_last_vcpu_destroy, .protocol = "P9",
         .claim = "the only vCPU has left the guest when a flush does not find it (I5.4)",
         .threads = 2, .setup = setup, .thread = { run_and_go, flush }, .finish = finish);
