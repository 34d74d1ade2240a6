/* SPDX-License-Identifier: MIT */
/*
 * P6 and P11: vCPUs write a page while a harvester reads the dirty log. The harvester copies the page once at the
 * beginning, and again whenever a call has taken the page's mark and returned. What must hold in the end: the last
 * copy is what the page holds, or the page is marked.
 */
#include <vmmu/memory.h>

#include "check/scenario/world.h"
#include "core/fault/vcpu.h"
#include "core/memslot/slots.h"

#define PAGE     GUEST_DATA
#define PAGE_GPA (PAGE * PAGE_SIZE)
#define BLOCK    4u /* pages of a huge leaf */

static uint64_t copied; /* the harvester's last copy */

static uint64_t content(void)
{
	return load_relaxed(&host.frame[host.frame_of[PAGE]].word[0]);
}

static uint64_t harvest(void)
{
	uint64_t bitmap = 0;

	check_assert(vmmu_dirty_get(world.vm, 0, 1, &bitmap, 1) == VMMU_OK);
	return bitmap;
}

static void get(void)
{
	if (harvest() & 1)
		copied = content();
}

/* --- set up --- */

static void setup_log(enum vmmu_mmu mmu, unsigned cpus, unsigned pages, unsigned flags)
{
	world_make(0, mmu, cpus);
	world_slot(0, 0, 4, 0, 0);
	world_slot(1, PAGE, pages, PAGE, flags);
}

static void map(struct cpu *cpu, bool write)
{
	struct host_frame *frame;

	check_assert(cpu_touch(cpu, PAGE_GPA, write, 3, &frame) == CPU_DONE);
	cpu_leave(cpu);
}

/* The page is logged and mapped. A harvest has write-protected it, and the CPU has flushed. */
static void setup_protected(void)
{
	setup_log(VMMU_MMU_TDP, 1, 2, VMMU_SLOT_LOG_DIRTY);
	map(&world.cpu[0], true);
	check_assert(harvest() == 1);
}

static void setup_protected_two(void)
{
	setup_log(VMMU_MMU_TDP, 2, 2, VMMU_SLOT_LOG_DIRTY);
	map(&world.cpu[0], true);
	check_assert(harvest() == 1);
	map(&world.cpu[1], false);
}

/* The page is logged, marked, mapped writable, and in the TLB. */
static void setup_marked(void)
{
	setup_log(VMMU_MMU_TDP, 1, 2, VMMU_SLOT_LOG_DIRTY);
	map(&world.cpu[0], true);
}

/* The page is logged and not mapped. */
static void setup_unmapped(void)
{
	setup_log(VMMU_MMU_TDP, 1, 2, VMMU_SLOT_LOG_DIRTY);
	cpu_enter(&world.cpu[0]);
	cpu_leave(&world.cpu[0]);
}

static void setup_manual(void)
{
	setup_log(VMMU_MMU_TDP, 1, 2, 0);
	check_assert(vmmu_dirty_mode_set(world.vm, VMMU_DIRTY_MANUAL_PROTECT) == VMMU_OK);
	world_slot(1, PAGE, 2, PAGE, VMMU_SLOT_LOG_DIRTY);
	map(&world.cpu[0], true);
}

/* The page is mapped writable, in the TLB, and not logged yet. */
static void setup_unlogged(void)
{
	setup_log(VMMU_MMU_TDP, 1, 2, 0);
	map(&world.cpu[0], true);
}

static void setup_huge(void)
{
	setup_log(VMMU_MMU_TDP, 1, BLOCK, 0);
	host.max_level = VMMU_LEVEL_2M;
	map(&world.cpu[0], true);
}

/*
 * The page is logged and mapped writable, in a format in which hardware sets no A bits. Then it was aged: the entry's
 * rights are saved in its software bits, and the TLB still has them (F52).
 */
static void setup_aged(void)
{
	struct vmmu_config config = {
		.size = sizeof(config), .host = &host_ops, .format = VMMU_FORMAT_EPT4_NO_AD,
		.max_vcpus = WORLD_CPUS
	};

	world_make_with(0, &config, 1);
	world_slot(0, 0, 4, 0, 0);
	world_slot(1, PAGE, 2, PAGE, VMMU_SLOT_LOG_DIRTY);
	map(&world.cpu[0], true);
	check_assert(vmmu_age(world.vm, host_hva(PAGE), host_hva(PAGE + 1), true));
}

static void age(void)
{
	vmmu_age(world.vm, host_hva(PAGE), host_hva(PAGE + 1), true);
}

static void invalidate(void)
{
	vmmu_invalidate_begin(world.vm, host_hva(PAGE), host_hva(PAGE + 1));
	vmmu_invalidate_end(world.vm, host_hva(PAGE), host_hva(PAGE + 1));
}

/* The TLB is empty, so that the entry alone counts. */
static void setup_aged_cold(void)
{
	setup_aged();
	world.cpu[0].tlb.page = 0;
}

/* --- the guest --- */

static void store_on(struct cpu *cpu, unsigned faults)
{
	struct host_frame *frame;

	if (cpu_touch(cpu, PAGE_GPA, true, faults, &frame) == CPU_DONE)
		store_relaxed(&frame->word[0], 1);
	cpu_leave(cpu);
}

static void store(void)
{
	store_on(&world.cpu[0], 1);
}

/* A read restores all saved rights, and marks nothing. */
static void load_and_store(void)
{
	struct host_frame *frame;

	cpu_touch(&world.cpu[0], PAGE_GPA, false, 1, &frame);
	store();
}

static void store_other(void)
{
	store_on(&world.cpu[1], 1);
}

/* The hypervisor writes for the guest. */
static void write_for_guest(void)
{
	uint64_t value = 1;

	check_assert(vmmu_guest_write(world.cpu[0].vcpu, GPA(PAGE_GPA), &value, sizeof(value)) == VMMU_OK);
}

/* A device writes; it has no vCPU. */
static void write_of_device(void)
{
	uint64_t value = 1;

	check_assert(vmmu_memory_write(world.vm, 0, GPA(PAGE_GPA), &value, sizeof(value)) == VMMU_OK);
}

/* --- the harvester --- */

static void clear(void)
{
	uint64_t bitmap = harvest(); /* clears no mark: VMMU_DIRTY_MANUAL_PROTECT */

	check_assert(vmmu_dirty_clear(world.vm, 0, 1, 0, 2, &bitmap) == VMMU_OK);
	if (bitmap & 1)
		copied = content();
}

/* Logging begins, and everything is copied once. */
static void log_start(void)
{
	world_slot(1, PAGE, 2, PAGE, VMMU_SLOT_LOG_DIRTY);
	copied = content();
}

static void log_start_block(void)
{
	world_slot(1, PAGE, BLOCK, PAGE, VMMU_SLOT_LOG_DIRTY);
	copied = content();
}

static void finish(void)
{
	world_audit(0);
	check_assert((harvest() & 1) || copied == content());
	world_end();
}

/*
 * P6, P11. The vCPU stores to a write-protected page, which the fast path makes writable without a lock; the
 * harvester reads the log. The page is marked, or the harvester saw the store.
 */
SCENARIO(fast_fault_vs_dirty_get, .protocol = "P6 P11",
         .claim = "a page that the fast path makes writable is marked, or the harvester saw the store",
         .threads = 2, .setup = setup_protected, .thread = { store, get }, .finish = finish);

/*
 * P11. The vCPU stores through its TLB while the harvester reads the log. The harvester
 * copies only when no TLB can write.
 */
SCENARIO(store_vs_dirty_get, .protocol = "P11",
         .claim = "the harvester copies a page only when no TLB can write it any more",
         .threads = 2, .setup = setup_marked, .thread = { store, get }, .finish = finish);

/*
 * P2, P6, P11. The vCPU stores through its TLB to an aged page while the harvester reads the log. The harvest takes
 * the saved write right, and flushes the TLB that still has it.
 */
SCENARIO(aged_store_vs_dirty_get, .protocol = "P2 P6 P11",
         .claim = "a harvest takes the saved write right and flushes the TLB that still has it",
         .threads = 2, .setup = setup_aged, .thread = { store, get }, .finish = finish);

/*
 * P2, P6, P11. The vCPU loads from an aged page, then stores, while the harvester reads the log. The load restores
 * only rights that the harvest has not taken.
 */
SCENARIO(aged_fault_vs_dirty_get, .protocol = "P2 P6 P11",
         .claim = "a load restores only rights that the harvest has not taken",
         .threads = 2, .setup = setup_aged_cold, .thread = { load_and_store, get }, .finish = finish);

/*
 * P2, P5, P6. The vCPU stores to an aged page, one thread ages it again, one invalidates it. Rights are saved and
 * restored, and nothing that was zapped comes back (I2.4).
 */
SCENARIO(aged_fault_vs_age_vs_invalidate, .protocol = "P2 P5 P6",
         .claim = "rights are saved and restored, and nothing that was zapped comes back (I2.4)",
         .threads = 3, .setup = setup_aged_cold, .thread = { store, age, invalidate }, .finish = finish);

/* P6, P11. fast_fault_vs_dirty_get with two vCPUs. */
SCENARIO(fast_faults_vs_dirty_get, .protocol = "P6 P11",
         .claim = "a page that two vCPUs make writable by the fast path is marked, or the harvester saw the stores",
         .threads = 3, .setup = setup_protected_two, .thread = { store, store_other, get }, .finish = finish);

/*
 * P11. The vCPU stores to a page that is not mapped while the harvester reads the log. The page is marked, or
 * the harvester saw the store.
 */
SCENARIO(fault_vs_dirty_get, .protocol = "P11",
         .claim = "a page mapped for a write is marked, or the harvester saw the store",
         .threads = 2, .setup = setup_unmapped, .thread = { store, get }, .finish = finish);

/*
 * P11. With marks that are cleared by a separate call, the vCPU stores while the harvester clears. The page is marked
 * again, or the harvester saw the store.
 */
SCENARIO(store_vs_dirty_clear, .protocol = "P11",
         .claim = "a page whose mark the harvester clears is marked again, or the harvester saw the store",
         .threads = 2, .setup = setup_manual, .thread = { store, clear }, .finish = finish);

/* P11. The vCPU stores through its TLB while logging begins. The page is marked, or the first copy has the store. */
SCENARIO(store_vs_log_start, .protocol = "P11",
         .claim = "a store while logging begins is marked, or the first copy has it",
         .threads = 2, .setup = setup_unlogged, .thread = { store, log_start }, .finish = finish);

/* P7, P11. The same through a huge leaf, which the beginning of logging splits. */
SCENARIO(store_vs_log_start_huge, .protocol = "P7 P11",
         .claim = "a store through a huge leaf that logging splits is marked, or the first copy has it",
         .threads = 2, .setup = setup_huge, .thread = { store, log_start_block }, .finish = finish);

/*
 * P11. The hypervisor writes the page while the harvester reads the log. The page is marked, or
 * the harvester saw the write.
 */
SCENARIO(guest_write_vs_dirty_get, .protocol = "P11",
         .claim = "a write by the hypervisor is marked, or the harvester saw it",
         .threads = 2, .setup = setup_protected, .thread = { write_for_guest, get }, .finish = finish);

/* P11. The same for a page that is marked already, whose mark the harvester is about to take. */
SCENARIO(guest_write_vs_dirty_get_marked, .protocol = "P11",
         .claim = "a write by the hypervisor to a marked page is marked again, or the harvester saw it",
         .threads = 2, .setup = setup_marked, .thread = { write_for_guest, get }, .finish = finish);

/*
 * P11. A device writes the page while the harvester reads the log. The page is marked, or
 * the harvester saw the write.
 */
SCENARIO(device_write_vs_dirty_get, .protocol = "P11",
         .claim = "a write by a device is marked, or the harvester saw it",
         .threads = 2, .setup = setup_protected, .thread = { write_of_device, get }, .finish = finish);

/* --- P6 beside an invalidation: the frame is given away --- */

static void migrate(void)
{
	vmmu_invalidate_begin(world.vm, host_hva(PAGE), host_hva(PAGE + 1));
	host_move(PAGE, HOST_PAGES);
	host.frame[PAGE].data = 1;
	vmmu_invalidate_end(world.vm, host_hva(PAGE), host_hva(PAGE + 1));
}

static void store_data(void)
{
	struct host_frame *frame;

	if (cpu_touch(&world.cpu[0], PAGE_GPA, true, 1, &frame) == CPU_DONE)
		check_assert(frame->data == 0);
	cpu_leave(&world.cpu[0]);
}

static void finish_moved(void)
{
	world_audit(0);
	world_end();
}

/*
 * P5, P6. The vCPU stores to a write-protected page while the host moves it. The fast path
 * makes no zapped entry writable.
 */
SCENARIO(fast_fault_vs_invalidate, .protocol = "P5 P6", .claim = "the fast path makes no zapped entry writable",
         .threads = 2, .setup = setup_protected, .thread = { store_data, migrate }, .finish = finish_moved);

/* --- shadow paging --- */

static void shadow_setup(void)
{
	struct host_frame *frame;

	setup_log(VMMU_MMU_SHADOW, 1, 2, VMMU_SLOT_LOG_DIRTY);
	world_guest_tables();
	check_assert(cpu_touch(&world.cpu[0], 0, true, 3, &frame) == CPU_DONE);
	cpu_leave(&world.cpu[0]);
}

static void shadow_store(void)
{
	struct host_frame *frame;

	if (cpu_touch(&world.cpu[0], 0, true, 1, &frame) == CPU_DONE)
		store_relaxed(&frame->word[0], 1);
	cpu_leave(&world.cpu[0]);
}

static void shadow_finish(void)
{
	check_assert((harvest() & 1) || copied == content());
	world_end();
}

/*
 * P11. With shadow paging, the vCPU stores through its TLB while the harvester reads the log. The page is marked, or
 * the harvester saw the store.
 */
SCENARIO(shadow_store_vs_dirty_get, .protocol = "P11",
         .claim = "a page written through shadow tables is marked, or the harvester saw the store",
         .threads = 2, .setup = shadow_setup, .thread = { shadow_store, get }, .finish = shadow_finish);
