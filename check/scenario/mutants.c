/* SPDX-License-Identifier: MIT */
/*
 * What mutations of core/ asked for: each scenario fails when a statement of the library is moved, dropped or split in
 * a way that no other scenario notices (doc/mutations.md).
 */
#include "check/scenario/world.h"
#include "core/fault/vcpu.h"
#include "core/memslot/memslot.h"
#include "core/shadow/shadow_int.h"
#include "core/table/table.h"
#include "core/tdp/tdp.h"
#include "core/vm/vm_int.h"

#define PAGE     GUEST_DATA
#define PAGE_GPA (PAGE * PAGE_SIZE)
#define AFTER    (GUEST_DATA + 1)
#define TO_TABLE (3 * PAGE_SIZE)

static void map(struct cpu *cpu, uint64_t address, bool write)
{
	struct host_frame *frame;

	check_assert(cpu_touch(cpu, address, write, 3, &frame) == CPU_DONE);
	cpu_leave(cpu);
}

/* --- two different requests of one vCPU, one just being taken --- */

static const uint64_t *root_before;
static bool root_gone;

static void setup_root(void)
{
	struct cpu *cpu = &world.cpu[0];

	world_make(0, VMMU_MMU_TDP, 1);
	cpu_enter(cpu);
	root_before = cpu->entry.root;
	cpu_leave(cpu);
}

static void run(void)
{
	struct cpu *cpu = &world.cpu[0];

	cpu_enter(cpu);
	if (cpu->entry.root == root_before)
		check_assert(!root_gone);
	cpu_leave(cpu);
}

static void ask_twice(void)
{
	struct mmu_write token = mmu_write_lock(world_vm());

	vcpus_flush(world_vm());
	tdp_invalidate_roots(&token);
	vcpus_request_and_wait(world_vm(), REQ_FREE_OBSOLETE_ROOTS);
	root_gone = true;
	mmu_write_unlock(&token);
	mutex_lock(&world_vm()->slots_lock);
	tdp_zap_invalidated_roots(world_vm());
	mutex_unlock(&world_vm()->slots_lock);
}

/*
 * P9, P3. A thread asks a vCPU to flush, then to drop its root, while the vCPU takes requests. A request that arrives
 * while others are taken is not lost: they are taken by an exchange, not by a load and a store.
 */
SCENARIO(two_requests_vs_run, .protocol = "P9 P3", .claim = "of two requests to a vCPU none is lost", .threads = 2,
         .setup = setup_root, .thread = { ask_twice, run }, .finish = world_end);

/* --- two vCPUs flush a table that was written before --- */

static void setup_written(void)
{
	struct cpu *cpu = &world.cpu[0];
	struct host_frame *frame;

	world_make(0, VMMU_MMU_SHADOW, 2);
	world_slot(0, 0, 6, 0, 0);
	world_guest_tables();
	host.frame[GUEST_PT].word[3] = world_guest_entry(GUEST_PT);
	map(&world.cpu[0], 0, false);
	map(&world.cpu[1], 0, false);
	map(cpu, TO_TABLE, true);
	cpu_enter(cpu);
	frame = cpu_access(cpu, TO_TABLE, true);
	check_assert(frame);
	store_relaxed(&frame->word[0], world_guest_entry(AFTER));
	cpu_leave(cpu);
}

static void flush_and_use(struct cpu *cpu)
{
	struct host_frame *frame;

	world_cr3(cpu, 0, false);
	if (cpu_touch(cpu, 0, false, 2, &frame) == CPU_DONE)
		check_assert(frame == &host.frame[AFTER]);
	cpu_leave(cpu);
}

static void flush_0(void)
{
	flush_and_use(&world.cpu[0]);
}

static void flush_1(void)
{
	flush_and_use(&world.cpu[1]);
}

/*
 * P8. Both vCPUs load CR3 after an unsync table was written. The table counts as in sync only when it has been read
 * again, so neither goes on with the old entry because the other is about to sync the table.
 */
SCENARIO(shadow_flush_vs_flush, .protocol = "P8",
         .claim = "who flushes sees what was written before, also beside another's flush", .threads = 2,
         .setup = setup_written, .thread = { flush_0, flush_1 }, .finish = world_end);

/* --- a page is aged, then taken away, while a TLB has it --- */

static void setup_aged(void)
{
	world_make(0, VMMU_MMU_TDP, 1);
	world_slot(0, 0, 2, 0, 0);
	map(&world.cpu[0], 0, false);
	vmmu_age(world.vm, host_hva(0), host_hva(1), true);
}

static void use(void)
{
	struct cpu *cpu = &world.cpu[0];
	struct host_frame *frame;

	if (cpu_touch(cpu, 0, false, 2, &frame) == CPU_DONE)
		check_assert(frame->data == 0);
	cpu_leave(cpu);
}

static void take_first(void)
{
	vmmu_invalidate_begin(world.vm, host_hva(0), host_hva(1));
	host_move(0, HOST_PAGES);
	host.frame[0].data = 1;
	vmmu_invalidate_end(world.vm, host_hva(0), host_hva(1));
}

/* P2, P5. Aging flushes nothing. So an aged leaf that is zapped owes a flush, like any other. */
SCENARIO(aged_use_vs_invalidate, .protocol = "P2 P5",
         .claim = "an invalidation flushes a page that was aged before (I5.4)", .threads = 2, .setup = setup_aged,
         .thread = { use, take_first }, .finish = world_end);

/* --- a neighbour is taken away while its neighbour is mapped --- */

static void setup_beside(void)
{
	world_make(0, VMMU_MMU_TDP, 1);
	world_slot(0, 0, 2, 0, 0);
	host.neighbours = true;
}

static void use_both(void)
{
	struct cpu *cpu = &world.cpu[0];
	struct host_frame *frame;

	if (cpu_touch(cpu, 0, false, 2, &frame) == CPU_DONE) {
		frame = cpu_access(cpu, PAGE_SIZE, false);
		if (frame)
			check_assert(frame->data == 0);
	}
	cpu_leave(cpu);
}

/* Between begin and end the page is nobody's. Then it is back as it was. */
static void take_second(void)
{
	vmmu_invalidate_begin(world.vm, host_hva(1), host_hva(2));
	host.frame[1].data = 1;
	host.frame[1].data = 0;
	vmmu_invalidate_end(world.vm, host_hva(1), host_hva(2));
}

/* P5, P7. A fault maps the page beside its own. What it checks for an invalidation is all that it installs. */
SCENARIO(neighbour_use_vs_invalidate, .protocol = "P5 P7",
         .claim = "a fault installs no neighbour that is being invalidated (I5.3)", .threads = 2,
         .setup = setup_beside, .thread = { use_both, take_second }, .finish = world_end);

/* --- the generation that an MMIO entry holds wraps --- */

static void set_generation(uint64_t generation)
{
	((struct memslots *)(uintptr_t)memslots_current(world_vm(), 0))->generation = generation;
}

/* The table has an MMIO entry of generation 0, made before the page got a slot. The next slot change wraps to 0. */
static void setup_old_entry(void)
{
	struct host_frame *frame;

	world_make(0, VMMU_MMU_TDP, 1);
	world_slot(0, 0, 4, 0, 0);
	set_generation(MMIO_GENERATION_MASK + 1);
	check_assert(cpu_touch(&world.cpu[0], PAGE_GPA, false, 1, &frame) == CPU_MMIO);
	world_slot(1, PAGE, 1, PAGE, 0);
	set_generation(2 * MMIO_GENERATION_MASK + 1);
}

static void use_page(void)
{
	struct host_frame *frame;

	check_assert(cpu_touch(&world.cpu[0], PAGE_GPA, false, 1, &frame) != CPU_MMIO);
	cpu_leave(&world.cpu[0]);
}

static void create_beside(void)
{
	world_slot(2, PAGE + 1, 1, PAGE + 1, 0);
}

static void finish_wrapped(void)
{
	check_assert((memslots_current(world_vm(), 0)->generation & MMIO_GENERATION_MASK) == 0);
	world_audit(0);
	world_end();
}

/* P10. A slot change wraps the 18 bits. Old MMIO entries are gone before anybody sees the new generation. */
SCENARIO(wrap_vs_use, .protocol = "P10 P3",
         .claim = "no MMIO entry from before the generation wrapped passes for a new one", .threads = 2,
         .setup = setup_old_entry, .thread = { use_page, create_beside }, .finish = finish_wrapped);

/* --- a table goes back to the pool and comes out of it --- */

#define HELD (TABLES_PER_CHUNK / TABLE_CACHE_MAX + 1)

static struct table_cache held[HELD], taken;
static struct table *used;

/* The pool is empty. So the table that is given back is the next one taken, or the host gives a new chunk. */
static void setup_pool(void)
{
	uint64_t all, left;

	world_make(0, VMMU_MMU_TDP, 1);
	check_assert(table_cache_fill(world_vm(), &taken, 1));
	used = table_get(&taken);
	store_relaxed(&table_entries(used)[1], 5);
	pool_count(world_vm(), &all, &left);
	for (unsigned i = 0; left; i++) {
		unsigned want = left < TABLE_CACHE_MAX ? (unsigned)left : TABLE_CACHE_MAX;

		check_assert(i < HELD && table_cache_fill(world_vm(), &held[i], want));
		left -= want;
	}
}

static void give_back(void)
{
	table_free(used);
}

static void take_and_write(void)
{
	spte_t *entries;

	check_assert(table_cache_fill(world_vm(), &taken, 1));
	entries = table_entries(taken.tables[0]);
	for (unsigned i = 0; i < ENTRIES; i++)
		check_assert(load_relaxed(&entries[i]) == 0);
	store_relaxed(&entries[1], 7);
}

static void finish_pool(void)
{
	struct table *table = taken.tables[0];

	check_assert(load_relaxed(&table_entries(table)[1]) == 7);
	store_relaxed(&table_entries(table)[1], 0);
	table_cache_drain(world_vm(), &taken);
	for (unsigned i = 0; i < HELD; i++)
		table_cache_drain(world_vm(), &held[i]);
	world_end();
}

/* A table is zeroed before it is in the pool, where the next thread takes it. */
SCENARIO(table_free_vs_fill, .protocol = "P7", .claim = "a table from the pool is zero, and nobody else writes it",
         .threads = 2, .setup = setup_pool, .thread = { give_back, take_and_write }, .finish = finish_pool);

/* --- two faults of one slot, whose pages are in blocks of their own --- */

#define BASE     6u              /* the slot's four pages are in two blocks of the size of a huge page */
#define OTHER    (BASE + 2)
#define TO_OTHER (1 * PAGE_SIZE)
#define TO_FIRST (2 * PAGE_SIZE)

/* All tables are there, by a leaf of another slot. */
static void setup_blocks(void)
{
	world_make(0, VMMU_MMU_SHADOW, 2);
	world_slot(0, 0, 4, 0, 0);
	world_slot(1, BASE, 4, GUEST_DATA, 0);
	world_guest_tables();
	host.frame[GUEST_PT].word[0] = world_guest_entry(BASE);
	host.frame[GUEST_PT].word[1] = world_guest_entry(OTHER);
	host.frame[GUEST_PT].word[2] = world_guest_entry(GUEST_PT);
	map(&world.cpu[0], TO_FIRST, false);
	map(&world.cpu[1], TO_FIRST, false);
}

static void answer_first(void)
{
	world.cpu[0].error = 0;
	check_assert(cpu_answer(&world.cpu[0], 0) == CPU_DONE);
}

static void answer_other(void)
{
	world.cpu[1].error = 0;
	check_assert(cpu_answer(&world.cpu[1], TO_OTHER) == CPU_DONE);
}

static void finish_blocks(void)
{
	world_audit(0);
	world_end();
}

/* Both faults note their block in one word. A note that is lost hides the leaf from walks; the audit sees that. */
SCENARIO(shadow_fault_vs_fault_in_blocks, .protocol = "P7",
         .claim = "of two faults in different blocks of a slot neither is lost to walks", .threads = 2,
         .setup = setup_blocks, .thread = { answer_first, answer_other }, .finish = finish_blocks);

/* --- what a vCPU counted outlives it --- */

static struct vmmu_stats before, seen;

static void setup_counted(void)
{
	world_make(0, VMMU_MMU_TDP, 2);
	world_slot(0, 0, 2, 0, 0);
	map(&world.cpu[1], 0, false);
	vmmu_stats_get(world.vm, &before, sizeof(before));
}

static void vcpu_goes(void)
{
	vmmu_vcpu_destroy(world.cpu[1].vcpu);
	world.cpu[1].vcpu = NULL;
}

static void stats_look(void)
{
	vmmu_stats_get(world.vm, &seen, sizeof(seen));
	check_assert(seen.faults_fixed == before.faults_fixed);
}

SCENARIO(stats_sum_vs_vcpu_destroy, .protocol = "P9",
         .claim = "a vCPU that goes is counted once, as one that is there or as one that is gone", .threads = 2,
         .setup = setup_counted, .thread = { vcpu_goes, stats_look }, .finish = world_end);
