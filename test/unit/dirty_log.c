/* SPDX-License-Identifier: MIT */
/*
 * Dirty logging as a user sees it, on real tables, with model CPUs that cache translations (P11): step by step, and as a migration that copies what
 * the log says while the guest goes on writing. When the guest has stopped, one last round must make the copy equal.
 */
#include "test/unit/threads.h"

#include <sys/mman.h>

#include "core/audit/audit.h"
#include "core/vm/vm_int.h"
#include "port/posix/probe.h"
#include "test/common/mcpu.h"
#include "test/common/thost.h"

#define VCPUS     2
#define PAGES     1221 /* not a multiple of 64; two whole 2M blocks and more */
#define WORDS     ((PAGES + 63) / 64)
#define BASE      UINT64_C(512)
#define SLOT      3
#define RING_SIZE 256u
#define LOG       VMMU_SLOT_LOG_DIRTY
#define MANUAL    VMMU_DIRTY_MANUAL_PROTECT
#define INITIALLY VMMU_DIRTY_INITIALLY_SET

struct fixture {
	struct vmmu_vm *vm;
	struct thost host;
	char *mapped, *memory; /* memory: aligned as the slot's gpa is */
	struct vmmu_vcpu *vcpu[VCPUS];
	struct mcpu cpu[VCPUS];
	struct vmmu_dirty_gfn ring[VCPUS][RING_SIZE];
	uint32_t harvested[VCPUS]; /* entries, ever */
	uint64_t bitmap[WORDS];
	bool rings;
	uint32_t done;
	uint64_t copy[PAGES];
};

static void region_set(struct fixture *f, uint32_t flags, uint64_t npages)
{
	struct vmmu_region region = {
		.slot = SLOT,
		.flags = flags,
		.gpa = { BASE * 4096 },
		.bytes = npages * 4096,
		.hva = { (uintptr_t)f->memory },
	};

	assert_int_equal(vmmu_region_set(f->vm, &region), VMMU_OK);
}

static struct fixture *fixture_make(unsigned mode, bool rings, enum vmmu_format format)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct vmmu_config config = { .host = &thost_ops, .format = format };

	f->rings = rings;
	f->mapped = mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(f->mapped, MAP_FAILED);
	f->memory = (char *)(((uintptr_t)f->mapped + (2 << 20) - 1) & ~(uintptr_t)((2 << 20) - 1));
	config.host_state = &f->host;
	assert_int_equal(vmmu_vm_create(&config, &f->vm), VMMU_OK);
	assert_int_equal(vmmu_dirty_mode_set(f->vm, mode), VMMU_OK);
	if (rings)
		assert_int_equal(vmmu_dirty_ring_enable(f->vm, RING_SIZE), VMMU_OK);
	for (unsigned i = 0; i < VCPUS; i++) {
		assert_int_equal(vmmu_vcpu_create(f->vm, i, f, &f->vcpu[i]), VMMU_OK);
		if (rings)
			vmmu_vcpu_dirty_ring_set(f->vcpu[i], f->ring[i]);
		mcpu_init(&f->cpu[i], f->vcpu[i]);
	}
	region_set(f, 0, PAGES);
	return f;
}

static void print_line(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "audit: %s\n", text);
}

static void audit(struct fixture *f)
{
	struct audit_report report = { .out = { .line = print_line }, .max_lines = 5 };

	for (unsigned i = 0; i < VCPUS; i++)
		mcpu_leave(&f->cpu[i]);
	assert_true(audit_vm(&f->vm->vm, &report));
	assert_false(vmmu_vm_is_dead(f->vm));
}

static void fixture_free(struct fixture *f)
{
	audit(f);
	for (unsigned i = 0; i < VCPUS; i++)
		vmmu_vcpu_destroy(f->vcpu[i]);
	vmmu_vm_destroy(f->vm);
	assert_true(thost_is_empty(&f->host));
	munmap(f->mapped, 8 << 20);
	free(f);
}

static uint64_t *word_of(struct fixture *f, uint64_t page)
{
	return (uint64_t *)(f->memory + page * 4096);
}

/* One access, and out again: there is one thread, and nobody else would make this CPU leave. */
static enum mcpu_result guest_try(struct fixture *f, unsigned cpu, uint64_t page)
{
	enum mcpu_result result = mcpu_write(&f->cpu[cpu], (BASE + page) * 4096, page);

	mcpu_leave(&f->cpu[cpu]);
	return result;
}

static void guest_write(struct fixture *f, unsigned cpu, uint64_t page)
{
	assert_int_equal(guest_try(f, cpu, page), MCPU_OK);
}

static void guest_read(struct fixture *f, unsigned cpu, uint64_t page)
{
	uint64_t value;

	assert_int_equal(mcpu_read(&f->cpu[cpu], (BASE + page) * 4096, &value), MCPU_OK);
	mcpu_leave(&f->cpu[cpu]);
}

/* The log says exactly these pages (a list that ends with PAGES). */
static void log_is(struct fixture *f, const uint64_t *pages)
{
	uint64_t expected[WORDS] = { 0 };

	for (; *pages < PAGES; pages++)
		expected[*pages / 64] |= UINT64_C(1) << *pages % 64;
	memset(f->bitmap, 0xa5, sizeof(f->bitmap));
	assert_int_equal(vmmu_dirty_get(f->vm, 0, SLOT, f->bitmap, WORDS), VMMU_OK);
	assert_memory_equal(f->bitmap, expected, sizeof(expected));
}

#define LIST(...) ((const uint64_t[]){ __VA_ARGS__, PAGES })
#define NOTHING   ((const uint64_t[]){ PAGES })

static enum vmmu_status clear(struct fixture *f, uint64_t first, uint64_t npages, uint64_t pattern)
{
	for (uint64_t i = 0; i < WORDS; i++)
		f->bitmap[i] = pattern;
	return vmmu_dirty_clear(f->vm, 0, SLOT, first, npages, f->bitmap);
}

/* --- step by step --- */

static void test_legacy_get_reports_each_write_once_and_protects_again(void **state)
{
	static const enum vmmu_format formats[] = { VMMU_FORMAT_NPT4, VMMU_FORMAT_NPT5, VMMU_FORMAT_EPT4, VMMU_FORMAT_EPT5 };

	(void)state;
	for (unsigned i = 0; i < array_size(formats); i++) {
		struct fixture *f = fixture_make(0, false, formats[i]);

		/* Written before logging starts, through a huge leaf: not in the log, but protected by its start. */
		guest_write(f, 0, 7);
		guest_write(f, 1, 600);
		region_set(f, LOG, PAGES);
		log_is(f, NOTHING);
		guest_write(f, 0, 7);
		guest_write(f, 1, 7);
		guest_write(f, 1, 64);
		guest_write(f, 1, PAGES - 1);
		guest_read(f, 0, 100);
		log_is(f, LIST(7, 64, PAGES - 1));
		log_is(f, NOTHING);
		guest_write(f, 1, 7);
		guest_write(f, 0, 8);
		log_is(f, LIST(7, 8));
		audit(f);
		/* The hypervisor's own writes count. */
		assert_int_equal(vmmu_guest_write(f->vcpu[0], (struct vmmu_gpa){ (BASE + 20) * 4096 + 4092 }, "12345678", 8), VMMU_OK);
		log_is(f, LIST(20, 21));
		region_set(f, 0, PAGES);
		guest_write(f, 0, 9);
		assert_int_equal(vmmu_dirty_get(f->vm, 0, SLOT, f->bitmap, WORDS), VMMU_ENOENT);
		fixture_free(f);
	}
}

/* The port's handler, again: cmocka has put its own in the place as this test began. */
static void on_fault(int signal, siginfo_t *info, void *context)
{
	CHECK(posix_probe_signal(signal, info, context));
}

/* A caller whose buffer is gone, wholly or from its second half on, gets the same marks again: they were taken, but told to nobody. */
static void test_get_into_memory_that_is_gone_loses_no_mark(void **state)
{
	static const unsigned modes[] = { 0, MANUAL };
	/* The bitmap's last words lie on the second page, which is gone; or all of it does. */
	static const unsigned first_words[] = { 512 - WORDS / 2, 512 };
	const struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER };

	(void)state;
	assert_int_equal(sigaction(SIGSEGV, &action, NULL), 0);
	for (unsigned i = 0; i < array_size(modes) * array_size(first_words); i++) {
		struct fixture *f = fixture_make(modes[i % 2], false, VMMU_FORMAT_NPT4);
		uint64_t *buffer = mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		assert_ptr_not_equal(buffer, MAP_FAILED);
		assert_int_equal(munmap(buffer + 512, 4096), 0);
		region_set(f, LOG, PAGES);
		guest_write(f, 0, 7);
		guest_write(f, 1, 64);
		guest_write(f, 1, PAGES - 1);
		assert_int_equal(vmmu_dirty_get(f->vm, 0, SLOT, buffer + first_words[i / 2], WORDS), VMMU_EFAULT);
		audit(f);
		guest_write(f, 0, 7); /* a mark upon a mark */
		guest_write(f, 0, 8);
		log_is(f, LIST(7, 8, 64, PAGES - 1));
		if (!modes[i % 2]) {
			log_is(f, NOTHING);
			guest_write(f, 1, 64);
			log_is(f, LIST(64));
		}
		assert_int_equal(munmap(buffer, 4096), 0);
		fixture_free(f);
	}
}

static void test_manual_get_clears_nothing_and_clear_only_what_it_is_told(void **state)
{
	struct fixture *f = fixture_make(MANUAL, false, VMMU_FORMAT_NPT4);

	(void)state;
	region_set(f, LOG, PAGES);
	for (uint64_t page = 60; page < 70; page++)
		guest_write(f, 0, page);
	guest_write(f, 0, 1220);
	log_is(f, LIST(60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 1220));
	log_is(f, LIST(60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 1220));
	assert_int_equal(clear(f, 64, 64, 0x5), VMMU_OK); /* pages 64 and 66 */
	log_is(f, LIST(60, 61, 62, 63, 65, 67, 68, 69, 1220));
	guest_write(f, 0, 66);
	log_is(f, LIST(60, 61, 62, 63, 65, 66, 67, 68, 69, 1220));
	/* Up to the end of the slot, which is not a multiple of 64. */
	assert_int_equal(clear(f, 1216, PAGES - 1216, ~UINT64_C(0)), VMMU_OK);
	assert_int_equal(clear(f, 0, PAGES, 0), VMMU_OK);
	log_is(f, LIST(60, 61, 62, 63, 65, 66, 67, 68, 69));
	assert_int_equal(clear(f, 0, PAGES, ~UINT64_C(0)), VMMU_OK);
	log_is(f, NOTHING);
	guest_write(f, 1, 1220);
	guest_write(f, 1, 60);
	log_is(f, LIST(60, 1220));
	fixture_free(f);
}

static void test_initially_set_protects_only_as_pages_are_cleared(void **state)
{
	struct fixture *f = fixture_make(MANUAL | INITIALLY, false, VMMU_FORMAT_NPT4);
	uint64_t all[WORDS], splits;
	struct vmmu_stats stats;

	(void)state;
	memset(all, 0xff, sizeof(all));
	all[WORDS - 1] = (UINT64_C(1) << PAGES % 64) - 1;
	guest_write(f, 0, 5); /* huge leaves */
	guest_write(f, 0, 600);
	guest_write(f, 0, 1100);
	vmmu_stats_get(f->vm, &stats);
	assert_int_equal(stats.pages_2m, 2);
	region_set(f, LOG, PAGES);
	assert_int_equal(vmmu_dirty_get(f->vm, 0, SLOT, f->bitmap, WORDS), VMMU_OK);
	assert_memory_equal(f->bitmap, all, sizeof(all));
	vmmu_stats_get(f->vm, &stats);
	assert_int_equal(stats.pages_2m, 2);
	splits = stats.splits;
	/* Only the block that is cleared is split; its other pages go on without a fault, and stay dirty. */
	assert_int_equal(clear(f, 64, 64, ~UINT64_C(0)), VMMU_OK);
	vmmu_stats_get(f->vm, &stats);
	assert_int_equal(stats.pages_2m, 1);
	assert_int_equal(stats.splits, splits + 1);
	all[1] = 0;
	guest_write(f, 0, 64 + 9);
	guest_write(f, 1, 200);
	all[1] = UINT64_C(1) << 9;
	assert_int_equal(vmmu_dirty_get(f->vm, 0, SLOT, f->bitmap, WORDS), VMMU_OK);
	assert_memory_equal(f->bitmap, all, sizeof(all));
	/* All of it: nothing is left writable. */
	assert_int_equal(clear(f, 0, PAGES, ~UINT64_C(0)), VMMU_OK);
	log_is(f, NOTHING);
	for (uint64_t page = 0; page < PAGES; page += 111)
		guest_write(f, page % 2, page);
	log_is(f, LIST(0, 111, 222, 333, 444, 555, 666, 777, 888, 999, 1110));
	fixture_free(f);
}

static void test_calls_with_bad_numbers_are_refused(void **state)
{
	struct fixture *f = fixture_make(0, false, VMMU_FORMAT_NPT4), *r = fixture_make(0, true, VMMU_FORMAT_NPT4);
	uint64_t count = 1;

	(void)state;
	assert_int_equal(vmmu_dirty_mode_set(f->vm, INITIALLY), VMMU_EINVAL);
	assert_int_equal(vmmu_dirty_mode_set(f->vm, 4), VMMU_EINVAL);
	assert_int_equal(vmmu_dirty_get(f->vm, 0, SLOT, f->bitmap, WORDS), VMMU_ENOENT); /* not logged */
	region_set(f, LOG, PAGES);
	assert_int_equal(vmmu_dirty_get(f->vm, 0, SLOT, f->bitmap, WORDS - 1), VMMU_EINVAL);
	assert_int_equal(vmmu_dirty_get(f->vm, 0, SLOT + 1, f->bitmap, WORDS), VMMU_ENOENT);
	assert_int_equal(vmmu_dirty_get(f->vm, 1, SLOT, f->bitmap, WORDS), VMMU_EINVAL);
	assert_int_equal(vmmu_dirty_get(f->vm, 0, VMMU_MAX_SLOTS, f->bitmap, WORDS), VMMU_EINVAL);
	assert_int_equal(vmmu_dirty_get(f->vm, 0, UINT32_MAX, f->bitmap, WORDS), VMMU_EINVAL);
	assert_int_equal(clear(f, 1, 64, 0), VMMU_EINVAL);
	assert_int_equal(clear(f, 32, 64, 0), VMMU_EINVAL);
	assert_int_equal(clear(f, 0, 63, 0), VMMU_EINVAL);
	assert_int_equal(clear(f, 0, PAGES + 1, 0), VMMU_EINVAL);
	assert_int_equal(clear(f, 1216, 64, 0), VMMU_EINVAL);
	assert_int_equal(clear(f, 1280, 0, 0), VMMU_EINVAL);
	assert_int_equal(clear(f, UINT64_MAX - 63, 64, 0), VMMU_EINVAL);
	assert_int_equal(clear(f, 64, UINT64_MAX - 63, 0), VMMU_EINVAL);
	assert_int_equal(clear(f, 1216, 5, 0), VMMU_OK);
	assert_int_equal(clear(f, 64, 0, 0), VMMU_OK);
	assert_int_equal(vmmu_dirty_ring_reset(f->vm, &count), VMMU_EINVAL);
	assert_int_equal(count, 0);
	assert_int_equal(vmmu_dirty_ring_enable(f->vm, 0), VMMU_EINVAL);
	assert_int_equal(vmmu_dirty_ring_enable(f->vm, 64), VMMU_EINVAL);
	assert_int_equal(vmmu_dirty_ring_enable(f->vm, 129), VMMU_EINVAL);
	assert_int_equal(vmmu_dirty_ring_enable(f->vm, VMMU_DIRTY_RING_MAX * 2), VMMU_EINVAL);
	assert_int_equal(vmmu_dirty_ring_enable(f->vm, 1024), VMMU_EBUSY); /* vCPUs exist */
	region_set(r, LOG, PAGES);
	assert_int_equal(vmmu_dirty_get(r->vm, 0, SLOT, r->bitmap, WORDS), VMMU_EBUSY);
	assert_int_equal(clear(r, 0, PAGES, 0), VMMU_EBUSY);
	fixture_free(f);
	fixture_free(r);
}

/* --- rings --- */

/* The program's part: collect what is DIRTY, in order, and mark it RESET. Returns: pages found. */
static unsigned harvest(struct fixture *f, unsigned cpu, uint64_t *pages, unsigned most)
{
	unsigned count = 0;

	while (count < most) {
		struct vmmu_dirty_gfn *entry = &f->ring[cpu][f->harvested[cpu] % RING_SIZE];

		if (!(load_acquire(&entry->flags) & VMMU_DIRTY_GFN_DIRTY))
			break;
		CHECK(load_relaxed(&entry->slot) == SLOT && load_relaxed(&entry->offset) < PAGES);
		pages[count++] = load_relaxed(&entry->offset);
		store_release(&entry->flags, VMMU_DIRTY_GFN_RESET);
		f->harvested[cpu]++;
	}
	return count;
}

static uint64_t reset(struct fixture *f)
{
	uint64_t count;

	assert_int_equal(vmmu_dirty_ring_reset(f->vm, &count), VMMU_OK);
	return count;
}

static void test_ring_reports_a_page_again_only_after_its_reset(void **state)
{
	struct fixture *f = fixture_make(0, true, VMMU_FORMAT_EPT4);
	uint64_t pages[RING_SIZE];

	(void)state;
	guest_write(f, 0, 9);
	region_set(f, LOG, PAGES);
	assert_int_equal(harvest(f, 0, pages, RING_SIZE), 0);
	guest_write(f, 0, 9);
	guest_write(f, 0, 9);
	guest_write(f, 0, 700);
	guest_write(f, 1, 10);
	assert_int_equal(reset(f), 0); /* nothing harvested */
	assert_int_equal(harvest(f, 0, pages, RING_SIZE), 2);
	assert_int_equal(pages[0], 9);
	assert_int_equal(pages[1], 700);
	guest_write(f, 0, 9); /* still writable: no entry */
	assert_int_equal(harvest(f, 0, pages, RING_SIZE), 0);
	assert_int_equal(reset(f), 2);
	guest_write(f, 0, 10); /* dirty in the other ring, and writable: no entry */
	guest_write(f, 0, 9);
	assert_int_equal(harvest(f, 0, pages, RING_SIZE), 1);
	assert_int_equal(pages[0], 9);
	assert_int_equal(harvest(f, 1, pages, RING_SIZE), 1);
	assert_int_equal(pages[0], 10);
	assert_int_equal(reset(f), 2);
	fixture_free(f);
}

static void test_ring_nearly_full_stops_the_vcpu_until_reset(void **state)
{
	struct fixture *f = fixture_make(0, true, VMMU_FORMAT_NPT4);
	enum mcpu_result result = MCPU_OK;
	uint64_t pages[RING_SIZE];
	unsigned written = 0;

	(void)state;
	region_set(f, LOG, PAGES);
	while (result == MCPU_OK && written < PAGES)
		result = guest_try(f, 0, written++);
	assert_int_equal(result, MCPU_RING_FULL);
	assert_int_equal(written, RING_SIZE - VMMU_DIRTY_RING_RESERVED);
	assert_int_equal(guest_try(f, 0, 0), MCPU_RING_FULL);
	guest_write(f, 1, 1000); /* the other one is not full */
	assert_int_equal(harvest(f, 0, pages, 2), 2);
	assert_int_equal(guest_try(f, 0, 0), MCPU_RING_FULL); /* harvested is not enough */
	assert_int_equal(reset(f), 2);
	guest_write(f, 0, 1001);
	assert_int_equal(guest_try(f, 0, 1002), MCPU_RING_FULL);
	fixture_free(f);
}

/* Zoo 20: whatever the program puts into its ring, the VM stays whole; entries that name real pages are still right. */
static void test_ring_with_forged_contents_is_harmless(void **state)
{
	static const struct vmmu_dirty_gfn forged[] = {
		{ VMMU_DIRTY_GFN_RESET, UINT32_MAX, UINT64_MAX },
		{ VMMU_DIRTY_GFN_RESET, SLOT, UINT64_MAX },
		{ VMMU_DIRTY_GFN_RESET, SLOT, PAGES },
		{ VMMU_DIRTY_GFN_RESET, SLOT, PAGES + 40 }, /* same word as the last pages */
		{ VMMU_DIRTY_GFN_RESET, SLOT, UINT64_C(1) << 52 },
		{ VMMU_DIRTY_GFN_RESET, SLOT, (UINT64_C(1) << 63) + 5 },
		{ VMMU_DIRTY_GFN_RESET, SLOT + 1, 0 },
		{ VMMU_DIRTY_GFN_RESET, 1u << 16 | SLOT, 0 },
		{ VMMU_DIRTY_GFN_RESET, 0xffffu << 16, 3 },
		{ UINT32_MAX, 0xffff, 0 },
		{ VMMU_DIRTY_GFN_RESET, SLOT, PAGES - 1 },
	};
	struct fixture *f = fixture_make(0, true, VMMU_FORMAT_NPT4);
	struct rng rng = rng_make(6);

	(void)state;
	region_set(f, LOG, PAGES);
	for (unsigned round = 0; round < 60; round++) {
		uint32_t first = f->vcpu[0]->ring.next;
		uint64_t taken;

		for (unsigned i = 0; i < array_size(forged); i++)
			guest_write(f, 0, (round * array_size(forged) + i) % PAGES);
		for (unsigned i = 0; i < RING_SIZE; i++)
			f->ring[0][(first + i) % RING_SIZE] =
				round % 2 ? forged[i % array_size(forged)]
				          : (struct vmmu_dirty_gfn){ (uint32_t)rng_next(&rng) | VMMU_DIRTY_GFN_RESET, SLOT, rng_next(&rng) };
		taken = reset(f);
		/* Never more than were filled: all of them, since all were marked. */
		assert_int_equal(taken, f->vcpu[0]->ring.next - first);
		assert_false(vmmu_vm_is_dead(f->vm));
	}
	/* The program lost pages of its own log, as it asked for. All the rest is as it should be. */
	region_set(f, 0, PAGES);
	fixture_free(f);
}

/* An offset beyond the slot does not reach what lies behind it: another slot's pages stay writable. */
static void test_ring_with_forged_offset_does_not_touch_the_next_slot(void **state)
{
	struct fixture *f = fixture_make(0, true, VMMU_FORMAT_NPT4);
	struct vmmu_region next = { .slot = 4, .gpa = { (BASE + PAGES) * 4096 }, .bytes = 256 * 4096, .hva = { (uintptr_t)f->memory } };
	uint64_t faults;

	(void)state;
	assert_int_equal(vmmu_region_set(f->vm, &next), VMMU_OK);
	region_set(f, LOG, PAGES);
	for (uint64_t page = 0; page < 128; page++)
		guest_write(f, 1, PAGES + page); /* not logged */
	faults = f->cpu[1].faults;
	for (unsigned i = 0; i < 128; i++)
		guest_write(f, 0, i);
	for (unsigned i = 0; i < 128; i++)
		f->ring[0][i] = (struct vmmu_dirty_gfn){ VMMU_DIRTY_GFN_RESET, SLOT, PAGES + i };
	assert_int_equal(reset(f), 128);
	mcpu_forget(&f->cpu[1]);
	for (uint64_t page = 0; page < 128; page++)
		guest_write(f, 1, PAGES + page);
	assert_int_equal(f->cpu[1].faults, faults);
	region_set(f, 0, PAGES);
	fixture_free(f);
}

/* --- migrations --- */

struct writer {
	struct fixture *f;
	unsigned cpu;
};

static void *writer_thread(void *arg)
{
	const struct writer *writer = arg;
	struct fixture *f = writer->f;
	struct rng rng = rng_make(writer->cpu);

	while (!load_relaxed(&f->done)) {
		uint64_t page = rng_below(&rng, 4) ? rng_below(&rng, 5) : rng_below(&rng, PAGES);
		enum mcpu_result result = mcpu_write(&f->cpu[writer->cpu], (BASE + page) * 4096, rng_next(&rng));

		CHECK(result == MCPU_OK || (f->rings && result == MCPU_RING_FULL));
		if (result == MCPU_RING_FULL)
			port_yield();
	}
	mcpu_leave(&f->cpu[writer->cpu]);
	return NULL;
}

static void copy_page(struct fixture *f, uint64_t page)
{
	f->copy[page] = load_relaxed(word_of(f, page));
}

static void copy_bits(struct fixture *f, const uint64_t *bits, uint64_t first, uint64_t words)
{
	for (uint64_t word = 0; word < words; word++)
		for (uint64_t rest = bits[word]; rest; rest &= rest - 1)
			copy_page(f, first + word * 64 + __builtin_ctzll(rest));
}

static void round_legacy(struct fixture *f, struct rng *rng)
{
	(void)rng;
	CHECK(vmmu_dirty_get(f->vm, 0, SLOT, f->bitmap, WORDS) == VMMU_OK);
	copy_bits(f, f->bitmap, 0, WORDS);
}

/* Get all, clear in pieces, copy each piece after its clear. */
static void round_manual(struct fixture *f, struct rng *rng)
{
	CHECK(vmmu_dirty_get(f->vm, 0, SLOT, f->bitmap, WORDS) == VMMU_OK);
	for (uint64_t word = 0; word < WORDS;) {
		uint64_t words = 1 + rng_below(rng, WORDS - word), npages = words * 64;

		if (npages > PAGES - word * 64)
			npages = PAGES - word * 64;
		CHECK(vmmu_dirty_clear(f->vm, 0, SLOT, word * 64, npages, &f->bitmap[word]) == VMMU_OK);
		copy_bits(f, &f->bitmap[word], word * 64, words);
		word += words;
	}
}

static void round_ring(struct fixture *f, struct rng *rng)
{
	uint64_t pages[VCPUS * RING_SIZE];
	unsigned count = 0;

	(void)rng;
	for (unsigned cpu = 0; cpu < VCPUS; cpu++)
		count += harvest(f, cpu, pages + count, RING_SIZE);
	CHECK(vmmu_dirty_ring_reset(f->vm, &(uint64_t){ 0 }) == VMMU_OK);
	for (unsigned i = 0; i < count; i++)
		copy_page(f, pages[i]);
}

static void migration(unsigned mode, bool rings, bool start_late, void (*round)(struct fixture *f, struct rng *rng))
{
	struct fixture *f = fixture_make(mode, rings, VMMU_FORMAT_NPT4);
	struct rng rng = rng_make(mode + rings);
	struct writer writers[VCPUS];
	pthread_t threads[VCPUS];

	if (!start_late)
		region_set(f, LOG, PAGES);
	for (unsigned i = 0; i < VCPUS; i++) {
		writers[i] = (struct writer){ f, i };
		threads[i] = thread_start(writer_thread, &writers[i]);
	}
	for (unsigned part = 0; part < 3; part++) {
		if (start_late) {
			/* The log starts under a guest that runs on huge leaves; then everything is copied once. */
			sleep_us(3000);
			region_set(f, LOG, PAGES);
			for (uint64_t page = 0; page < PAGES; page++)
				copy_page(f, page);
		}
		for (long end = now_ms() + 50; now_ms() < end;)
			round(f, &rng);
		if (start_late && part < 2)
			region_set(f, 0, PAGES);
	}
	store_relaxed(&f->done, 1);
	for (unsigned i = 0; i < VCPUS; i++)
		thread_join(threads[i]);
	round(f, &rng);
	for (uint64_t page = 0; page < PAGES; page++)
		assert_int_equal(f->copy[page], *word_of(f, page));
	fixture_free(f);
}

static void test_migration_by_bitmap(void **state)
{
	(void)state;
	migration(0, false, false, round_legacy);
	migration(0, false, true, round_legacy);
}

static void test_migration_by_manual_clear(void **state)
{
	(void)state;
	migration(MANUAL, false, false, round_manual);
	migration(MANUAL, false, true, round_manual);
}

static void test_migration_by_manual_clear_initially_set(void **state)
{
	(void)state;
	migration(MANUAL | INITIALLY, false, true, round_manual);
}

static void test_migration_by_ring(void **state)
{
	(void)state;
	migration(0, true, false, round_ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_legacy_get_reports_each_write_once_and_protects_again),
		cmocka_unit_test(test_get_into_memory_that_is_gone_loses_no_mark),
		cmocka_unit_test(test_manual_get_clears_nothing_and_clear_only_what_it_is_told),
		cmocka_unit_test(test_initially_set_protects_only_as_pages_are_cleared),
		cmocka_unit_test(test_calls_with_bad_numbers_are_refused),
		cmocka_unit_test(test_ring_reports_a_page_again_only_after_its_reset),
		cmocka_unit_test(test_ring_nearly_full_stops_the_vcpu_until_reset),
		cmocka_unit_test(test_ring_with_forged_contents_is_harmless),
		cmocka_unit_test(test_ring_with_forged_offset_does_not_touch_the_next_slot),
		cmocka_unit_test(test_migration_by_bitmap),
		cmocka_unit_test(test_migration_by_manual_clear),
		cmocka_unit_test(test_migration_by_manual_clear_initially_set),
		cmocka_unit_test(test_migration_by_ring),
	};

	return cmocka_run_group_tests(tests, watchdog_setup, NULL);
}
