/* SPDX-License-Identifier: MIT */
/*
 * P12: a long-lived mapping of a guest page, beside invalidations, slot changes and harvests of the dirty log. The host
 * that takes a frame away reads and writes it plainly: a window that still uses it has a data race. What a window wrote
 * must be in the page in the end, wherever the page is then.
 */
#include <vmmu/pfn_cache.h>

#include "check/scenario/world.h"
#include "core/fault/vcpu.h"
#include "core/memslot/slots.h"

#define PAGE         GUEST_DATA
#define SPARE        (HOST_PAGES) /* frames from here on hold no page at first */
#define TAKEN        77           /* what the next owner of a frame writes */
#define RING_ENTRIES (2 * VMMU_DIRTY_RING_RESERVED)

static struct vmmu_pfn_cache *cache;
static bool wrote, wrote_next, wrote_either; /* plain: each is one thread's, then finish's */
static uint64_t copied;        /* the harvester's copy of the page's first word */
static bool logged;            /* the page's slot has a log in the end */

static uint64_t *content(unsigned page)
{
	return &host.frame[host_frame_of(host_hva(page).v)].word[0];
}

/* --- set up --- */

static void make_cache(unsigned page)
{
	check_assert(vmmu_pfn_cache_create(world.vm, &cache) == VMMU_OK);
	check_assert(vmmu_pfn_cache_activate(cache, 0, GPA(page * PAGE_SIZE), 32) == VMMU_OK);
}

static void setup_with(unsigned flags)
{
	world_make(0, VMMU_MMU_TDP, 0);
	world_slot(0, 0, 2, 0, 0);
	world_slot(1, PAGE, 2, PAGE, flags);
	make_cache(PAGE);
}

static void setup(void)
{
	setup_with(0);
	check_assert(vmmu_pfn_cache_refresh(cache) == VMMU_OK && vmmu_pfn_cache_check(cache));
}

static void setup_unmapped(void)
{
	setup_with(0);
	check_assert(!vmmu_pfn_cache_check(cache));
}

static void setup_logged(void)
{
	setup_with(VMMU_SLOT_LOG_DIRTY);
	logged = true;
	check_assert(vmmu_pfn_cache_refresh(cache) == VMMU_OK);
}

/* --- threads --- */

/* One attempt, with one refresh. Returns: whether the value was written. */
static bool put(struct vmmu_vcpu *vcpu, size_t offset, uint64_t value)
{
	enum vmmu_status status = vmmu_pfn_cache_open(cache, vcpu);

	if (status == VMMU_EAGAIN && vmmu_pfn_cache_refresh(cache) == VMMU_OK)
		status = vmmu_pfn_cache_open(cache, vcpu);
	if (status != VMMU_OK)
		return false;
	check_assert(vmmu_pfn_cache_write(cache, offset, &value, sizeof(value)) == VMMU_OK);
	vmmu_pfn_cache_close(cache);
	return true;
}

static void use(void)
{
	wrote = put(NULL, 0, 1);
}

/* Write to the page that the cache is about now, whichever. */
static void use_either(void)
{
	wrote_either = put(NULL, 8, 1);
}

static void use_next(void)
{
	wrote_next = put(NULL, 8, 1);
}

static void use_twice(void)
{
	use();
	wrote = put(NULL, 0, 1) || wrote;
}

static void use_and_deactivate(void)
{
	use();
	vmmu_pfn_cache_deactivate(cache);
}

static void use_and_move_on(void)
{
	use();
	check_assert(vmmu_pfn_cache_activate(cache, 0, GPA((PAGE + 1) * PAGE_SIZE), 32) == VMMU_OK);
	wrote_next = put(NULL, 0, 1);
}

static void refresh(void)
{
	enum vmmu_status status = vmmu_pfn_cache_refresh(cache);

	check_assert(status == VMMU_OK || status == VMMU_EINVAL); /* EINVAL: deactivated meanwhile */
}

static void move_on(void)
{
	check_assert(vmmu_pfn_cache_activate(cache, 0, GPA((PAGE + 1) * PAGE_SIZE), 32) == VMMU_OK);
	wrote_next = put(NULL, 0, 1);
}

static void deactivate(void)
{
	vmmu_pfn_cache_deactivate(cache);
}

/* The page moves to another frame, and its old frame gets another owner. */
static void migrate(void)
{
	unsigned old = host_frame_of(host_hva(PAGE).v);

	vmmu_invalidate_begin(world.vm, host_hva(PAGE), host_hva(PAGE + 1));
	for (unsigned word = 0; word < 2; word++)
		host.frame[SPARE].word[word] = host.frame[old].word[word];
	host_move(PAGE, SPARE);
	for (unsigned word = 0; word < 2; word++)
		host.frame[old].word[word] = TAKEN;
	vmmu_invalidate_end(world.vm, host_hva(PAGE), host_hva(PAGE + 1));
}

/* The slot goes; then its memory is the program's alone. */
static void delete(void)
{
	world_slot_delete(1);
	check_assert(!vmmu_pfn_cache_check(cache));
	host.frame[PAGE].word[0] = TAKEN;
}

/* The slot goes, and comes back over other memory. */
static void replace(void)
{
	world_slot_delete(1);
	host.frame[PAGE].word[0] = TAKEN;
	world_slot(1, PAGE, 1, 0, 0);
}

static bool harvest(void)
{
	uint64_t bitmap = 0;

	check_assert(vmmu_dirty_get(world.vm, 0, 1, &bitmap, 1) == VMMU_OK);
	return bitmap & 1;
}

static void get(void)
{
	if (harvest())
		copied = load_relaxed(content(PAGE));
}

/* Logging begins. Then the program copies all pages. */
static void log_start(void)
{
	world_slot(1, PAGE, 2, PAGE, VMMU_SLOT_LOG_DIRTY);
	logged = true;
	copied = load_relaxed(content(PAGE));
}

/* --- the end --- */

static void end(void)
{
	vmmu_pfn_cache_destroy(cache);
	world_audit(0);
	world_end();
}

static void finish(void)
{
	check_assert(!wrote || *content(PAGE) == 1);
	check_assert(!logged || copied == *content(PAGE) || harvest());
	end();
}

static void finish_two(void)
{
	check_assert(!wrote_next || content(PAGE)[1] == 1);
	finish();
}

static void finish_moved_on(void)
{
	check_assert(!wrote_next || *content(PAGE + 1) == 1);
	finish();
}

static void finish_either(void)
{
	check_assert(content(PAGE)[1] + content(PAGE + 1)[1] == wrote_either);
	finish_moved_on();
}

static void finish_deleted(void)
{
	check_assert(host.frame[PAGE].word[0] == TAKEN);
	end();
}

static void finish_inactive(void)
{
	check_assert(!vmmu_pfn_cache_check(cache) && vmmu_pfn_cache_open(cache, NULL) == VMMU_EINVAL);
	end();
}

/* P12, P5. A thread writes through a cache that is mapped while the host moves the page (I12.2). */
SCENARIO(pfn_cache_vs_invalidate, .protocol = "P12 P5",
         .claim = "once begin has returned no window is open on the page, and what it wrote is in the page (I12.2)",
         .threads = 2, .setup = setup, .thread = { use, migrate }, .finish = finish);

/* P12, P5. The same from a cache that has to look its page up: no frame is mapped that was looked up before (I12.1). */
SCENARIO(pfn_cache_refresh_vs_invalidate, .protocol = "P12 P5",
         .claim = "a refresh maps no frame that it looked up before an invalidation (I12.1)",
         .threads = 2, .setup = setup_unmapped, .thread = { use, migrate }, .finish = finish);

/* P12, P5. Twice, so that the second window may open on what a refresh mapped beside the invalidation (I12.1). */
SCENARIO(pfn_cache_twice_vs_invalidate, .protocol = "P12 P5",
         .claim = "a refresh beside an invalidation leaves nothing mapped that the host has taken (I12.1)",
         .threads = 2, .setup = setup, .thread = { use_twice, migrate }, .finish = finish);

/* P12. Two threads use one cache while the host moves the page (I12.1, I12.2). */
SCENARIO(pfn_cache_users_vs_invalidate, .protocol = "P12 P5",
         .claim = "the windows of two threads are both over when begin returns, and both are in the page (I12.2)",
         .threads = 3, .setup = setup, .thread = { use, use_next, migrate }, .finish = finish_two);

/* P12. The cache is deactivated after a window; an invalidation that finds it unmapped comes after the window. */
SCENARIO(pfn_cache_deactivate_vs_invalidate, .protocol = "P12 P5",
         .claim = "an invalidation that finds the cache unmapped comes after its last window (I12.2)",
         .threads = 2, .setup = setup, .thread = { use_and_deactivate, migrate }, .finish = finish);

/* P12. The same when the cache has gone on to another page. */
SCENARIO(pfn_cache_move_on_vs_invalidate, .protocol = "P12 P5",
         .claim = "an invalidation that finds the cache on another page comes after the window on this one (I12.2)",
         .threads = 2, .setup = setup, .thread = { use_and_move_on, migrate }, .finish = finish_moved_on);

/* P12. One thread refreshes while another makes the cache be about another page: what is written goes there (I12.1). */
SCENARIO(pfn_cache_refresh_vs_activate, .protocol = "P12",
         .claim = "a refresh maps the page that the cache is about when it maps (I12.1)",
         .threads = 2, .setup = setup_unmapped, .thread = { refresh, move_on }, .finish = finish_moved_on);

/* P12. A thread writes while another makes the cache be about another page: each write is in its page (I12.2). */
SCENARIO(pfn_cache_vs_activate, .protocol = "P12",
         .claim = "a window stays on the page that it was opened on (I12.2)",
         .threads = 2, .setup = setup, .thread = { use_either, move_on }, .finish = finish_either);

/* P12. A refresh does not bring a cache back to life that is being deactivated. */
SCENARIO(pfn_cache_refresh_vs_deactivate, .protocol = "P12",
         .claim = "a cache that was deactivated stays so, whatever refresh is under way",
         .threads = 2, .setup = setup_unmapped, .thread = { refresh, deactivate }, .finish = finish_inactive);

/* P12. The slot is deleted while a thread writes: after the deletion nobody does (I12.3). */
SCENARIO(pfn_cache_vs_slot_delete, .protocol = "P12 P5",
         .claim = "once a slot is gone no window is open on it, and none opens (I12.3)",
         .threads = 2, .setup = setup, .thread = { use, delete }, .finish = finish_deleted);

/* P12. The same for a cache that has to look its page up. */
SCENARIO(pfn_cache_refresh_vs_slot_delete, .protocol = "P12 P5",
         .claim = "once a slot is gone no refresh of before maps its page (I12.3)",
         .threads = 2, .setup = setup_unmapped, .thread = { use, delete }, .finish = finish_deleted);

/* P12. The slot of a logged page is deleted while a thread writes: the mark finds the slot alive (I12.4). */
SCENARIO(pfn_cache_vs_logged_slot_delete, .protocol = "P12 P11",
         .claim = "a mark through a cache finds its slot alive, also when the slot is being deleted (I12.4)",
         .threads = 2, .setup = setup_logged, .thread = { use, delete }, .finish = finish_deleted);

/* P12. The slot is replaced by one over other memory while a thread writes twice (I12.3). */
SCENARIO(pfn_cache_vs_slot_replace, .protocol = "P12 P5",
         .claim = "a cache follows its guest page to the memory that the slot has now (I12.3)",
         .threads = 2, .setup = setup, .thread = { use_twice, replace }, .finish = finish_deleted);

/* P12, P11. A thread writes through the cache while the harvester reads the log (I12.4). */
SCENARIO(pfn_cache_vs_dirty_get, .protocol = "P12 P11",
         .claim = "a write through a cache is marked, or the harvester saw it (I12.4)",
         .threads = 2, .setup = setup_logged, .thread = { use, get }, .finish = finish);

/* P12, P11. A thread writes through the cache while logging begins (I12.3, I12.4). */
SCENARIO(pfn_cache_vs_log_start, .protocol = "P12 P11",
         .claim = "a write through a cache while logging begins is marked, or the first copy has it (I12.3, I12.4)",
         .threads = 2, .setup = setup, .thread = { use, log_start }, .finish = finish);

/* --- a cache comes and goes beside an invalidation of its page --- */

static void setup_no_cache(void)
{
	world_make(0, VMMU_MMU_TDP, 0);
	world_slot(1, PAGE, 2, PAGE, 0);
}

static void come_and_go(void)
{
	make_cache(PAGE);
	use();
	vmmu_pfn_cache_destroy(cache);
}

static void finish_gone(void)
{
	check_assert(!wrote || *content(PAGE) == 1);
	world_audit(0);
	world_end();
}

/* P12. A cache is made, used and destroyed while the host moves the page (I12.1, I12.2). */
SCENARIO(pfn_cache_life_vs_invalidate, .protocol = "P12 P5",
         .claim = "an invalidation looks at no cache that is gone, and misses none that is mapped (I12.1)",
         .threads = 2, .setup = setup_no_cache, .thread = { come_and_go, migrate }, .finish = finish_gone);

/* --- the ring --- */

static struct vmmu_dirty_gfn *ring;

static void setup_ring(void)
{
	world_make(0, VMMU_MMU_TDP, 0);
	check_assert(vmmu_dirty_ring_enable(world.vm, RING_ENTRIES) == VMMU_OK);
	world_slot(1, PAGE, 2, PAGE, VMMU_SLOT_LOG_DIRTY);
	check_assert(vmmu_vcpu_create(world.vm, 0, NULL, &world.cpu[0].vcpu) == VMMU_OK);
	ring = check_alloc(RING_ENTRIES * sizeof(*ring), 64);
	vmmu_vcpu_dirty_ring_set(world.cpu[0].vcpu, ring);
	make_cache(PAGE);
	check_assert(vmmu_pfn_cache_refresh(cache) == VMMU_OK);
}

static void use_on_vcpu(void)
{
	wrote = put(world.cpu[0].vcpu, 0, 1);
	check_assert(wrote);
}

static void harvest_ring(void)
{
	uint64_t count;

	if (!(load_acquire(&ring[0].flags) & VMMU_DIRTY_GFN_DIRTY))
		return;
	check_assert(ring[0].slot == 1 && ring[0].offset == 0);
	store_release(&ring[0].flags, VMMU_DIRTY_GFN_RESET);
	check_assert(vmmu_dirty_ring_reset(world.vm, &count) == VMMU_OK && count == 1);
	copied = load_relaxed(content(PAGE));
}

static void finish_ring(void)
{
	check_assert(*content(PAGE) == 1 && (copied == 1 || (ring[0].flags & VMMU_DIRTY_GFN_DIRTY)));
	check_free(ring);
	end();
}

/* P12, P11. A vCPU writes through the cache while the program harvests its ring (I12.4). */
SCENARIO(pfn_cache_vs_ring_harvest, .protocol = "P12 P11",
         .claim = "a write through a cache is in the vCPU's ring, or the harvester saw it (I12.4)",
         .threads = 2, .setup = setup_ring, .thread = { use_on_vcpu, harvest_ring }, .finish = finish_ring);

/* --- a record with a version, as the paravirtual clock is: odd while it is being written --- */

static void write_record(void)
{
	const uint64_t step[][2] = { { 0, 1 }, { 8, 5 }, { 16, 5 }, { 0, 2 } }; /* offset, value */

	check_assert(vmmu_pfn_cache_open(cache, NULL) == VMMU_OK);
	for (unsigned i = 0; i < sizeof(step) / sizeof(step[0]); i++)
		check_assert(vmmu_pfn_cache_write(cache, step[i][0], &step[i][1], 8) == VMMU_OK);
	vmmu_pfn_cache_close(cache);
}

static void read_record(void)
{
	const uint64_t *word = host.frame[PAGE].word;
	uint64_t version = load_acquire(&word[0]), one, two;

	one = load_relaxed(&word[1]);
	two = load_relaxed(&word[2]);
	fence_acquire();
	if (!(version & 1) && load_relaxed(&word[0]) == version)
		check_assert(one == two && (version == 0 || one == 5));
}

/* P12. The guest reads a record with a version while a window writes it. */
SCENARIO(pfn_cache_record_vs_guest, .protocol = "P12",
         .claim = "the guest sees the writes of a window in their order",
         .threads = 2, .setup = setup, .thread = { write_record, read_record }, .finish = end);
