/* SPDX-License-Identifier: MIT */
/*
 * P8: a guest's 4K-level table may be unsync: the guest writes it unseen until it flushes. Linear page 3
 * leads to the table itself. Through it the guest changes where linear page 0 leads, then flushes. After the
 * flush it must see the new page.
 */
#include "check/scenario/world.h"
#include "core/shadow/shadow_int.h"

#define AFTER   (GUEST_DATA + 1)
#define TO_TABLE (3 * PAGE_SIZE)

static struct shadow *table_page(void)
{
	return shadow_next_of(world_vm(), GFN(GUEST_PT), NULL);
}

static void map(struct cpu *cpu, uint64_t address, bool write)
{
	struct host_frame *frame;

	check_assert(cpu_touch(cpu, address, write, 3, &frame) == CPU_DONE);
	cpu_leave(cpu);
}

/* The table is shadowed and in sync; linear page 0 is mapped on both vCPUs. */
static void setup(void)
{
	world_make(0, VMMU_MMU_SHADOW, 2);
	world_slot(0, 0, 6, 0, 0);
	world_guest_tables();
	host.frame[GUEST_PT].word[3] = world_guest_entry(GUEST_PT);
	map(&world.cpu[0], 0, false);
	map(&world.cpu[1], 0, false);
}

/* The table is unsync, and vCPU 0 has it in its TLB, writable. */
static void setup_unsync(void)
{
	setup();
	map(&world.cpu[0], TO_TABLE, true);
}

/* The fault that makes the table unsync. */
static void unsync(void)
{
	struct host_frame *frame;

	cpu_touch(&world.cpu[0], TO_TABLE, true, 1, &frame);
	cpu_leave(&world.cpu[0]);
}

static bool store_entry(struct cpu *cpu)
{
	struct host_frame *frame;
	bool stored = false;

	cpu_enter(cpu);
	frame = cpu_access(cpu, TO_TABLE, true);
	if (frame) {
		store_relaxed(&frame->word[0], world_guest_entry(AFTER));
		stored = true;
	}
	cpu_leave(cpu);
	return stored;
}

/*
 * vCPU 1 writes the table through an entry that a fault of vCPU 0 made writable. Then it
 * flushes, and uses what it wrote.
 */
static void store_flush_use(void)
{
	struct cpu *cpu = &world.cpu[1];
	struct host_frame *frame;

	if (!store_entry(cpu))
		return;
	world_cr3(cpu, 0, false);
	if (cpu_touch(cpu, 0, false, 2, &frame) == CPU_DONE)
		check_assert(frame == &host.frame[AFTER]);
	cpu_leave(cpu);
}

static void store(void)
{
	store_entry(&world.cpu[0]);
}

/* Another vCPU flushes, so the table is synced while it may still be written. */
static void flush(void)
{
	struct cpu *cpu = &world.cpu[1];

	world_cr3(cpu, 0, false);
	cpu_enter(cpu);
	cpu_leave(cpu);
}

/* I4.2: a table in sync maps what the guest's table says. */
static void finish(void)
{
	uint64_t leaf = cpu_peek(&world.cpu[1], 0);
	struct shadow *page = table_page();

	if (page && !page->unsync && leaf)
		check_assert(spte_pfn(leaf).v == HOST_PFN + (host.frame[GUEST_PT].word[0] >> PAGE_SHIFT));
	world_end();
}

/*
 * P8. A fault of vCPU 0 makes the table unsync while vCPU 1 writes the table and flushes. If vCPU 1 could write, its
 * flush finds the table marked.
 */
SCENARIO(unsync_vs_store, .protocol = "P8",
         .claim = "a vCPU that can write a table unseen finds the table marked when it flushes",
         .threads = 2, .setup = setup, .thread = { unsync, store_flush_use }, .finish = finish);

/*
 * P8, P4. vCPU 0 stores to the unsync table through its TLB while vCPU 1 flushes. The table is read again only
 * when no TLB can write it (I4.2).
 */
SCENARIO(sync_vs_store, .protocol = "P8 P4",
         .claim = "a flush reads a table again only when no TLB can write it (I4.2)",
         .threads = 2, .setup = setup_unsync, .thread = { store, flush }, .finish = finish);
