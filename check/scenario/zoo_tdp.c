/* SPDX-License-Identifier: MIT */
/*
 * Situations in which historical bugs of TDP, and of what surrounds it, showed (check/zoo)
 * and that no other scenario has.
 */
#include "check/scenario/world.h"
#include "core/format/spte.h"
#include "core/memslot/dirty.h"
#include "core/notifier/notifier.h"

static void touch(struct cpu *cpu, unsigned gfn, bool write)
{
	struct host_frame *frame;

	check_assert(cpu_touch(cpu, gfn * PAGE_SIZE, write, 4, &frame) == CPU_DONE);
	cpu_leave(cpu);
}

static void end(void)
{
	world_audit(0);
	world_end();
}

/* --- 6: MMIO in one address space, memory in another --- */

static bool created; /* atomic: set once the slot is there */

static void spaces_setup(void)
{
	struct vmmu_config config = {
		.size = sizeof(config), .host = &host_ops, .mmu = VMMU_MMU_TDP, .max_vcpus = WORLD_CPUS,
		.address_spaces = 2
	};
	struct host_frame *frame;

	world_make_with(0, &config, 1);
	world_slot(0, 0, 2, 0, 0);
	check_assert(vmmu_vcpu_address_space_set(world.cpu[0].vcpu, 1) == VMMU_OK);
	check_assert(cpu_touch(&world.cpu[0], 6 * PAGE_SIZE, false, 4, &frame) == CPU_MMIO);
}

static void create_in_second(void)
{
	struct vmmu_region region = {
		.slot = 0, .address_space = 1, .gpa = { 6 * PAGE_SIZE }, .bytes = PAGE_SIZE,
		.hva = host_hva(6)
	};

	check_assert(vmmu_region_set(world.vm, &region) == VMMU_OK);
	store_release(&created, true);
}

static void access_in_second(void)
{
	bool memory = load_acquire(&created);
	struct host_frame *frame;

	if (cpu_touch(&world.cpu[0], 6 * PAGE_SIZE, false, 2, &frame) == CPU_MMIO)
		check_assert(!memory);
	cpu_leave(&world.cpu[0]);
}

static void spaces_finish(void)
{
	touch(&world.cpu[0], 6, false);
	end();
}

/*
 * P10. The vCPU, in address space 1, faults on gfn 6 while a slot is created there. Once the slot is
 * there gfn 6 is not MMIO (zoo 6).
 */
SCENARIO(zoo_two_spaces_mmio, .protocol = "P10",
         .claim = "a page that was MMIO is memory once a slot is there, in every address space (zoo 6)",
         .threads = 2, .setup = spaces_setup, .thread = { access_in_second, create_in_second },
         .finish = spaces_finish);

/* --- 9: a VM with 2^32 invalidations behind it --- */

static void old_setup(void)
{
	world_make(0, VMMU_MMU_TDP, 1);
	world_slot(0, 0, 2, 0, 0);
	world_vm()->notifier->sequence = UINT64_C(1) << 32;
}

static void read_once(void)
{
	struct host_frame *frame;

	cpu_touch(&world.cpu[0], 0, false, 1, &frame);
	cpu_leave(&world.cpu[0]);
}

static void invalidate_0(void)
{
	vmmu_invalidate_begin(world.vm, host_hva(0), host_hva(1));
	vmmu_invalidate_end(world.vm, host_hva(0), host_hva(1));
}

static void old_finish(void)
{
	touch(&world.cpu[0], 0, false);
	end();
}

/*
 * P5. The vCPU faults while the host invalidates the page. Afterwards a fault with nothing in its
 * way is answered (I5.3, zoo 9).
 */
SCENARIO(zoo_sequence_width, .protocol = "P5",
         .claim = "a fault that no invalidation hinders is answered, in an old VM too (I5.3, zoo 9)",
         .threads = 2, .setup = old_setup, .thread = { read_once, invalidate_0 }, .finish = old_finish);

/* --- 10: a slot that moves --- */

static void move_setup(void)
{
	world_make(0, VMMU_MMU_TDP, 1);
	world_slot(0, 2, 2, 2, 0);
}

/* gfn 3 is memory before and after the move. */
static void move(void)
{
	world_slot(0, 3, 2, 2, 0);
}

static void read_3(void)
{
	struct host_frame *frame;

	check_assert(cpu_touch(&world.cpu[0], 3 * PAGE_SIZE, false, 2, &frame) != CPU_MMIO);
	cpu_leave(&world.cpu[0]);
}

static void move_finish(void)
{
	touch(&world.cpu[0], 3, false);
	end();
}

/* P10, P3. The vCPU reads gfn 3 while the slot moves. gfn 3 is never MMIO (zoo 10). */
SCENARIO(zoo_fault_on_moving_slot, .protocol = "P10 P3",
         .claim = "no vCPU takes a page of a moving slot for MMIO (zoo 10)",
         .threads = 2, .setup = move_setup, .thread = { read_3, move }, .finish = move_finish);

/* --- 12: the CPU sets D while an entry is write-protected --- */

static void protect_setup(void)
{
	world_make(0, VMMU_MMU_TDP, 1);
	world_slot(0, 0, 1, 0, 0);
	touch(&world.cpu[0], 0, false);
	world.cpu[0].tlb.page = 0;
}

static void write_0(void)
{
	touch(&world.cpu[0], 0, true);
}

static void log_on(void)
{
	world_slot(0, 0, 1, 0, VMMU_SLOT_LOG_DIRTY);
}

static void protect_finish(void)
{
	uint64_t entry = cpu_peek(&world.cpu[0], 0);

	check_assert(!entry || (entry & VMMU_NPT_D));
	end();
}

/* P7. The vCPU writes the page while logging begins. The D bit that the CPU sets is not lost (zoo 12). */
SCENARIO(zoo_protect_vs_cpu, .protocol = "P7",
         .claim = "a D bit that the CPU sets is not lost to write protection (zoo 12)",
         .threads = 2, .setup = protect_setup, .thread = { write_0, log_on }, .finish = protect_finish);

/* --- 19: a zap that yields --- */

static void yield_setup(void)
{
	struct vmmu_config config = {
		.size = sizeof(config), .host = &host_ops, .mmu = VMMU_MMU_TDP, .max_vcpus = WORLD_CPUS,
		.slot_delete_zaps_slot = true
	};

	world_make_with(REAL_MMU_LOCK | MAY_CONTEND, &config, 1); /* the zap yields the library's own lock */
	world_slot(0, 0, 2, 0, 0);
	touch(&world.cpu[0], 0, false);
}

static void delete(void)
{
	world_slot_delete(0);
}

/* The page's frame has another owner once the invalidation has begun. */
static void take_page(void)
{
	vmmu_invalidate_begin(world.vm, host_hva(0), host_hva(1));
	host.frame[0].data = 1;
	host_move(0, HOST_PAGES);
	vmmu_invalidate_end(world.vm, host_hva(0), host_hva(1));
}

static void use_page(void)
{
	struct host_frame *frame;

	if (cpu_touch(&world.cpu[0], 0, false, 0, &frame) == CPU_DONE)
		check_assert(!frame->data);
	cpu_leave(&world.cpu[0]);
}

/*
 * P5, P3. The slot is deleted, and its zap yields; the host moves the page; the vCPU runs with the page in its TLB.
 * The zap flushes what it zapped before it yields (I5.4, zoo 19).
 */
SCENARIO(zoo_yield_vs_invalidate, .protocol = "P5 P3",
         .claim = "a zap flushes what it zapped before it yields mmu_lock (I5.4, zoo 19)",
         .threads = 3, .setup = yield_setup, .thread = { use_page, delete, take_page }, .finish = end);

/* --- 20: a program that writes into its ring what it likes --- */

#define ENTRIES_OF_RING 4u

static struct {
	struct dirty_ring ring;
	struct vmmu_dirty_gfn entry[ENTRIES_OF_RING];
} hostile;

static void ring_setup(void)
{
	dirty_ring_init(&hostile.ring, hostile.entry, ENTRIES_OF_RING);
	hostile.ring.next = 1;
	hostile.entry[0].flags = VMMU_DIRTY_GFN_DIRTY;
}

static void ring_scribble(void)
{
	for (unsigned i = 0; i < ENTRIES_OF_RING; i++)
		store_release(&hostile.entry[i].flags, VMMU_DIRTY_GFN_RESET);
}

static void ring_take_back(void)
{
	struct dirty_claim claim;

	for (unsigned taken = 0; dirty_ring_take_back(&hostile.ring, &claim); taken++)
		check_assert(taken < 1);
}

static void ring_finish(void)
{
	check_assert(hostile.ring.next - hostile.ring.reset <= ENTRIES_OF_RING);
}

/*
 * P11. The program marks all entries RESET while a thread takes entries back. Only entries that were
 * pushed are taken back (zoo 20).
 */
SCENARIO(zoo_hostile_ring, .protocol = "P11",
         .claim = "only entries that were pushed are taken back, whatever the program writes (zoo 20)",
         .threads = 2, .setup = ring_setup, .thread = { ring_scribble, ring_take_back }, .finish = ring_finish);
