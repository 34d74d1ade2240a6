/* SPDX-License-Identifier: MIT */
/*
 * P11: the dirty ring. The vCPU pushes entries, the program harvests them, a reset takes them back. What must hold in
 * the end: the program's last copy of a page is what the page holds, or the page is in the ring.
 */
#include "check/scenario/world.h"
#include "core/fault/vcpu.h"
#include "core/memslot/dirty.h"

#define PAGE         GUEST_DATA
#define RING_ENTRIES (2 * VMMU_DIRTY_RING_RESERVED)

static struct vmmu_dirty_gfn *ring;
static uint64_t copied[2];
static uint32_t harvested; /* the program's: how many entries it has marked RESET */

static void setup(void)
{
	world_make(0, VMMU_MMU_TDP, 0);
	check_assert(vmmu_dirty_ring_enable(world.vm, RING_ENTRIES) == VMMU_OK);
	world_slot(1, PAGE, 2, PAGE, VMMU_SLOT_LOG_DIRTY);
	check_assert(vmmu_vcpu_create(world.vm, 0, NULL, &world.cpu[0].vcpu) == VMMU_OK);
	ring = check_alloc(RING_ENTRIES * sizeof(*ring), 64);
	vmmu_vcpu_dirty_ring_set(world.cpu[0].vcpu, ring);
}

/* The page was mapped, written, harvested, taken back, and is write-protected again. */
static void setup_mapped(void)
{
	struct host_frame *frame;
	uint64_t count;

	setup();
	check_assert(cpu_touch(&world.cpu[0], PAGE * PAGE_SIZE, true, 2, &frame) == CPU_DONE);
	cpu_leave(&world.cpu[0]);
	ring[harvested++].flags = VMMU_DIRTY_GFN_RESET;
	check_assert(vmmu_dirty_ring_reset(world.vm, &count) == VMMU_OK && count == 1);
}

static uint64_t *content(uint64_t offset)
{
	return &host.frame[PAGE + offset].word[0];
}

static void write_page(unsigned offset)
{
	uint64_t value = 1;

	check_assert(vmmu_guest_write(world.cpu[0].vcpu, GPA((PAGE + offset) * PAGE_SIZE), &value,
	                              sizeof(value)) == VMMU_OK);
}

static void write_one(void)
{
	write_page(0);
}

static void write_two(void)
{
	write_page(0);
	write_page(1);
}

static void store(void)
{
	struct host_frame *frame;

	if (cpu_touch(&world.cpu[0], PAGE * PAGE_SIZE, true, 1, &frame) == CPU_DONE)
		store_relaxed(&frame->word[0], 1);
	cpu_leave(&world.cpu[0]);
}

/*
 * Harvest as a program does: in order, at most `entries` entries. It reads an entry plainly,
 * since nobody writes it then.
 */
static unsigned harvest(unsigned entries, uint64_t offsets[])
{
	unsigned count = 0;

	while (count < entries && load_acquire(&ring[harvested].flags) & VMMU_DIRTY_GFN_DIRTY) {
		check_assert(ring[harvested].slot == 1 && ring[harvested].offset < 2);
		offsets[count++] = ring[harvested].offset;
		store_release(&ring[harvested++].flags, VMMU_DIRTY_GFN_RESET);
	}
	return count;
}

/* Harvest, take back, and only then copy the pages. */
static void harvest_and_reset(void)
{
	uint64_t offsets[2], count;
	unsigned found = harvest(2, offsets);

	check_assert(vmmu_dirty_ring_reset(world.vm, &count) == VMMU_OK);
	for (unsigned i = 0; i < found; i++)
		copied[offsets[i]] = load_relaxed(content(offsets[i]));
}

/* The same for a program that is the only one to reset. Its next call takes back all entries that it has marked. */
static void harvest_and_reset_alone(void)
{
	uint64_t offsets[2], count;
	unsigned found = harvest(2, offsets);

	check_assert(vmmu_dirty_ring_reset(world.vm, &count) == VMMU_OK && count == found);
	for (unsigned i = 0; i < found; i++)
		copied[offsets[i]] = load_relaxed(content(offsets[i]));
}

static void reset_only(void)
{
	uint64_t count;

	check_assert(vmmu_dirty_ring_reset(world.vm, &count) == VMMU_OK);
}

static void finish(void)
{
	for (unsigned offset = 0; offset < 2; offset++) {
		bool in_ring = false;

		for (unsigned i = harvested; i < RING_ENTRIES && ring[i].flags & VMMU_DIRTY_GFN_DIRTY; i++)
			in_ring |= ring[i].offset == offset;
		check_assert(in_ring || copied[offset] == *content(offset));
	}
	check_free(ring);
	world_end();
}

/*
 * P11. The vCPU writes two pages while the program harvests and resets. The program reads whole
 * entries, and finds the page written.
 */
SCENARIO(ring_push_vs_harvest, .protocol = "P11",
         .claim = "the program reads whole entries and finds their pages written",
         .threads = 2, .setup = setup, .thread = { write_two, harvest_and_reset_alone }, .finish = finish);

/* P11. The same for one page, while another thread resets too. Nothing is lost, whichever of the two resets. */
SCENARIO(ring_push_vs_harvest_vs_reset, .protocol = "P11",
         .claim = "no entry is lost, whichever thread resets the ring",
         .threads = 3, .setup = setup, .thread = { write_one, harvest_and_reset, reset_only }, .finish = finish);

/*
 * P6, P11. The vCPU stores to the page, which the fast path makes writable, while the program harvests and resets.
 * The page is in the ring again, or the program saw the store.
 */
SCENARIO(fast_fault_vs_ring_reset, .protocol = "P6 P11",
         .claim = "a page whose entry is taken back is logged again, or the program saw the store",
         .threads = 2, .setup = setup_mapped, .thread = { store, harvest_and_reset_alone }, .finish = finish);

/* --- a ring of one entry, which is reused as soon as it is taken back --- */

static struct vmmu_dirty_gfn small_entry;
static struct dirty_ring small;
static unsigned pushed, taken;

static void setup_small(void)
{
	setup();
	dirty_ring_init(&small, &small_entry, 1);
}

static void push_small(void)
{
	const struct memslot *slot = memslot_find_id(memslots_current(world_vm(), 0), 1);

	for (unsigned offset = 0; offset < 2; offset++) {
		if (!dirty_ring_has_room(&small, 1))
			return;
		dirty_mark(world_vm(), slot, GFN(PAGE + offset), &small);
		pushed++;
	}
}

static void take_small(void)
{
	struct dirty_claim claim;

	for (unsigned i = 0; i < 2; i++) {
		if (!(load_acquire(&small_entry.flags) & VMMU_DIRTY_GFN_DIRTY))
			continue;
		check_assert(small_entry.offset == taken);
		store_release(&small_entry.flags, VMMU_DIRTY_GFN_RESET);
		check_assert(dirty_ring_take_back(&small, &claim) && claim.slot == 1 && claim.offset == taken);
		taken++;
	}
}

static void finish_small(void)
{
	check_assert(pushed >= 1 && taken <= pushed && pushed <= taken + 1);
	check_assert(pushed == taken || small_entry.flags == VMMU_DIRTY_GFN_DIRTY);
	check_free(ring);
	world_end();
}

/*
 * P11. One thread pushes two entries into a ring of one, the other harvests and takes back. An entry is filled
 * again only after it was read.
 */
SCENARIO(ring_reuse_vs_take_back, .protocol = "P11", .claim = "an entry is filled again only after it has been read",
         .threads = 2, .setup = setup_small, .thread = { push_small, take_small }, .finish = finish_small);
