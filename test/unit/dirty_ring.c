/* SPDX-License-Identifier: MIT */
/* The dirty rings as a program sees them, step by step, and with a program that means harm (P11, zoo 20). */
#include "test/unit/dirty_fixture.h"

#include <sys/mman.h>

#include "core/base/types.h"
#include "core/fault/vcpu.h"

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
	assert_int_equal(reset(f), 0); /* nothing was harvested */
	assert_int_equal(harvest(f, 0, pages, RING_SIZE), 2);
	assert_int_equal(pages[0], 9);
	assert_int_equal(pages[1], 700);
	guest_write(f, 0, 9); /* still writable: no entry */
	assert_int_equal(harvest(f, 0, pages, RING_SIZE), 0);
	assert_int_equal(reset(f), 2);
	guest_write(f, 0, 10); /* dirty in the other ring, and still writable: no entry */
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
	guest_write(f, 1, 1000); /* the other vCPU's ring is not full */
	assert_int_equal(harvest(f, 0, pages, 2), 2);
	assert_int_equal(guest_try(f, 0, 0), MCPU_RING_FULL); /* to harvest is not enough */
	assert_int_equal(reset(f), 2);
	guest_write(f, 0, 1001);
	assert_int_equal(guest_try(f, 0, 1002), MCPU_RING_FULL);
	fixture_free(f);
}

/* One fault of vCPU 0, which does not enter the guest before or after it. Returns: is the answer "retry"? */
static bool fault_again(struct fixture *f, uint64_t address, uint64_t error)
{
	struct vmmu_page_info info;

	if (!f->cpu[0].entry.shadow) {
		enum vmmu_fault answer = vmmu_fault(f->vcpu[0], GPA(address), error | VMMU_PF_USER);

		assert_true(answer == VMMU_FAULT_FIXED || answer == VMMU_FAULT_RETRY);
		return answer == VMMU_FAULT_RETRY;
	}
	switch (vmmu_page_fault(f->vcpu[0], GVA(address), error, 0, &info)) {
	case VMMU_PAGE_FIXED:
		return false;
	case VMMU_PAGE_RETRY:
		return true;
	default:
		fail();
	}
	return false;
}

static void vcpu_reenter(struct fixture *f, enum vmmu_enter expected)
{
	enum vmmu_enter answer = vmmu_vcpu_enter(f->vcpu[0], &f->cpu[0].entry);

	assert_int_equal(answer, expected);
	if (answer == VMMU_ENTER_RUN)
		vmmu_vcpu_leave(f->vcpu[0]);
}

/*
 * Many faults without entering the guest in between, each of which may fill an entry of the ring. When the ring runs
 * out of room the answer is "retry", and no entry is lost.
 */
static void faults_without_entries(enum vmmu_mmu mmu)
{
	struct fixture *f = fixture_make_on(mmu, 0, true, VMMU_FORMAT_NPT4);
	uint64_t pages[RING_SIZE];
	uint64_t page = 0;

	region_set(f, LOG, PAGES);
	while (page < PAGES) {
		unsigned most = RING_SIZE - VMMU_DIRTY_RING_RESERVED, found;

		vcpu_reenter(f, VMMU_ENTER_RUN);
		for (uint64_t first = page; page < PAGES && !fault_again(f, (BASE + page) * 4096, VMMU_PF_WRITE);
		     page++)
			assert_true(page - first < most);
		assert_false(vmmu_vm_is_dead(f->vm));
		if (page < PAGES) {
			assert_true(fault_again(f, (BASE + page) * 4096, VMMU_PF_WRITE));
			assert_false(fault_again(f, (BASE + page) * 4096, 0)); /* a read needs no entry */
			vcpu_reenter(f, VMMU_ENTER_RING_FULL);
		}
		found = harvest(f, 0, pages, RING_SIZE);
		assert_int_equal(found, page == PAGES ? (PAGES - 1) % most + 1 : most);
		for (unsigned i = 0; i < found; i++)
			assert_int_equal(pages[i], page - found + i);
		assert_int_equal(reset(f), found);
	}
	fixture_free(f);
}

static void test_faults_without_an_entry_between_them_lose_no_page(void **state)
{
	(void)state;
	faults_without_entries(VMMU_MMU_TDP);
	faults_without_entries(VMMU_MMU_SHADOW);
}

#define ACCESSED UINT64_C(0x20)

/* Make the guest's own tables, in pages 0 to 3 of the slot, which are logged. Linear page 0 is mapped to page 4. */
static void guest_tables_make(struct fixture *f)
{
	const struct vmmu_guest_regs regs = {
		.cr0 = UINT64_C(0x80010001), .cr3 = BASE * 4096, .cr4 = 0x20, .efer = 0x500, .phys_bits = 48
	};

	for (uint64_t page = 0; page < 4; page++)
		*word_of(f, page) = (BASE + page + 1) * 4096 | 7;
	vmmu_guest_regs_set(f->vcpu[0], &regs, false);
}

/*
 * A walk of the guest's tables marks each table in which it sets an A bit, also for a read. One walk may set many, if
 * other vCPUs keep changing the tables. However many it sets, it must leave the ring's reserve alone. Here many walks
 * are made one after another, without entering the guest in between.
 */
static void test_walks_of_logged_tables_lose_no_page(void **state)
{
	struct fixture *f = fixture_make_on(VMMU_MMU_SHADOW, 0, true, VMMU_FORMAT_NPT4);
	uint64_t pages[RING_SIZE];
	bool again = false;
	unsigned walks = 0;

	(void)state;
	guest_tables_make(f);
	region_set(f, LOG, PAGES);
	vcpu_reenter(f, VMMU_ENTER_RUN);
	while (walks < RING_SIZE) {
		for (uint64_t page = 0; page < 4; page++)
			*word_of(f, page) &= ~ACCESSED;
		again = fault_again(f, 0, 0);
		assert_false(vmmu_vm_is_dead(f->vm));
		if (again)
			break;
		walks++;
	}
	assert_true(again);
	assert_int_equal(walks, (RING_SIZE - VMMU_DIRTY_RING_RESERVED) / 4);
	for (uint64_t page = 0; page < 4; page++)
		assert_false(*word_of(f, page) & ACCESSED); /* a bit that was set would have to be logged */
	vcpu_reenter(f, VMMU_ENTER_RING_FULL);
	assert_int_equal(harvest(f, 0, pages, RING_SIZE), 4 * walks);
	assert_int_equal(reset(f), 4 * walks);
	vcpu_reenter(f, VMMU_ENTER_RUN);
	assert_false(fault_again(f, 0, 0));
	fixture_free(f);
}

static void vcpu_make(struct fixture *f, unsigned id, struct vmmu_dirty_gfn *ring)
{
	assert_int_equal(vmmu_vcpu_create(f->vm, id, f, &f->vcpu[id]), VMMU_OK);
	vmmu_vcpu_dirty_ring_set(f->vcpu[id], ring);
	mcpu_init(&f->cpu[id], f->vcpu[id]);
	f->harvested[id] = 0;
}

/* One write by vCPU `cpu`, whose TLB is empty. Returns: did it fault? */
static bool write_faults(struct fixture *f, unsigned cpu, uint64_t page)
{
	uint64_t faults = f->cpu[cpu].faults;

	mcpu_forget(&f->cpu[cpu]);
	guest_write(f, cpu, page);
	return f->cpu[cpu].faults != faults;
}

/*
 * A vCPU goes, and its ring with it, with entries that the program did not read or did not give back, and the ring's
 * memory is gone. The next reset takes those pages back all the same: a later write to them is logged, by a vCPU that
 * was there all the time as by a new one.
 */
static void ring_goes_with_its_vcpu(enum vmmu_mmu mmu, bool harvested)
{
	struct fixture *f = fixture_make_on(mmu, 0, true, VMMU_FORMAT_NPT4);
	void *ring = mmap(NULL, sizeof(f->ring[0]), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t pages[RING_SIZE];

	assert_ptr_not_equal(ring, MAP_FAILED);
	vmmu_vcpu_dirty_ring_set(f->vcpu[0], ring);
	region_set(f, LOG, PAGES);
	guest_write(f, 1, 1000);
	guest_write(f, 0, 9);
	guest_write(f, 0, 700);
	guest_write(f, 1, 700); /* writable already: no entry */
	for (unsigned i = 0; i < 2 && harvested; i++)
		((struct vmmu_dirty_gfn *)ring)[i].flags = VMMU_DIRTY_GFN_RESET;
	assert_int_equal(harvest(f, 1, pages, RING_SIZE), 1);
	memory_goes(ring, sizeof(f->ring[0]));
	mcpu_leave(&f->cpu[0]);
	vmmu_vcpu_destroy(f->vcpu[0]);
	vcpu_make(f, 0, f->ring[0]);
	audit(f);
	/* Nothing is done before the reset: a VM that ends does not pay for each vCPU. */
	assert_false(write_faults(f, 1, 700));
	assert_int_equal(reset(f), 1);
	audit(f);
	assert_true(write_faults(f, 1, 700));
	assert_true(write_faults(f, 0, 9));
	assert_int_equal(harvest(f, 1, pages, RING_SIZE), 1);
	assert_int_equal(pages[0], 700);
	assert_int_equal(reset(f), 1); /* only page 700: the ring that had gone is forgotten */
	assert_false(write_faults(f, 1, 9));
	assert_int_equal(harvest(f, 0, pages, RING_SIZE), 1);
	assert_int_equal(pages[0], 9);
	assert_int_equal(reset(f), 1);
	fixture_free(f);
}

static void test_ring_that_goes_with_its_vcpu_is_taken_back_by_the_next_reset(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++)
		ring_goes_with_its_vcpu(i % 2 ? VMMU_MMU_SHADOW : VMMU_MMU_TDP, i / 2);
}

/* A ring that is empty when its vCPU goes loses no page, so the reset leaves the pages of other vCPUs alone. */
static void test_empty_ring_that_goes_with_its_vcpu_costs_nothing(void **state)
{
	struct fixture *f = fixture_make(0, true, VMMU_FORMAT_NPT4);
	uint64_t pages[RING_SIZE];

	(void)state;
	region_set(f, LOG, PAGES);
	guest_write(f, 0, 9);
	assert_int_equal(harvest(f, 0, pages, RING_SIZE), 1);
	assert_int_equal(reset(f), 1);
	guest_write(f, 1, 700);
	mcpu_leave(&f->cpu[0]);
	vmmu_vcpu_destroy(f->vcpu[0]);
	assert_int_equal(reset(f), 0);
	assert_false(write_faults(f, 1, 700));
	vcpu_make(f, 0, f->ring[0]);
	fixture_free(f);
}

/*
 * Zoo 20: whatever the program puts into its ring, the VM stays whole, and entries that name real pages are taken
 * back.
 */
static void test_ring_with_forged_contents_is_harmless(void **state)
{
	static const struct vmmu_dirty_gfn forged[] = {
		{ VMMU_DIRTY_GFN_RESET, UINT32_MAX, UINT64_MAX },
		{ VMMU_DIRTY_GFN_RESET, SLOT, UINT64_MAX },
		{ VMMU_DIRTY_GFN_RESET, SLOT, PAGES },
		{ VMMU_DIRTY_GFN_RESET, SLOT, PAGES + 40 }, /* in the same word of the bitmap as the last pages */
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
				          : (struct vmmu_dirty_gfn){ (uint32_t)rng_next(&rng) | VMMU_DIRTY_GFN_RESET,
				                                     SLOT, rng_next(&rng) };
		taken = reset(f);
		/* Never more than were filled. Here it is all of them, since all are marked RESET. */
		assert_int_equal(taken, f->vcpu[0]->ring.next - first);
		assert_false(vmmu_vm_is_dead(f->vm));
	}
	/* By its forgeries the program has lost pages of its own log. Nothing else has come to harm. */
	region_set(f, 0, PAGES);
	fixture_free(f);
}

/* A forged offset beyond the slot does not reach the slot behind it, whose pages stay writable. */
static void test_ring_with_forged_offset_does_not_touch_the_next_slot(void **state)
{
	struct fixture *f = fixture_make(0, true, VMMU_FORMAT_NPT4);
	struct vmmu_region next = { .slot = 4, .gpa = { (BASE + PAGES) * 4096 }, .bytes = 256 * 4096,
	                            .hva = { (uintptr_t)f->memory } };
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

/* Each vCPU counts its marks by itself. When it goes, its count is added to the VM's counter, which all vCPUs share. */
static void test_marks_are_counted_by_each_vcpu(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct fixture *f = fixture_make_on(i % 2 ? VMMU_MMU_SHADOW : VMMU_MMU_TDP, 0, i / 2, VMMU_FORMAT_NPT4);
		struct vmmu_stats stats;

		region_set(f, LOG, PAGES);
		for (unsigned page = 0; page < 5; page++)
			guest_write(f, page % 2, 3 * page);
		guest_write(f, 1, 0); /* the page is dirty already */
		assert_int_equal(vmmu_guest_write(f->vcpu[0], (struct vmmu_gpa){ (BASE + 20) * 4096 }, "1", 1),
		                 VMMU_OK);
		assert_int_equal(f->vm->vm.stats.dirty, 0);
		vmmu_stats_get(f->vm, &stats, sizeof(stats));
		assert_int_equal(stats.dirty_pages, 6);
		mcpu_leave(&f->cpu[0]);
		vmmu_vcpu_destroy(f->vcpu[0]);
		assert_int_equal(f->vm->vm.stats.dirty, 4);
		vcpu_make(f, 0, f->rings ? f->ring[0] : NULL);
		vmmu_stats_get(f->vm, &stats, sizeof(stats));
		assert_int_equal(stats.dirty_pages, 6);
		fixture_free(f);
	}
}

/* A write with no room now, one that never fits, and one that cannot be logged get three different answers. */
static void test_write_for_guest_says_why_the_ring_has_no_room(void **state)
{
	static char buffer[(RING_SIZE + 1) * 4096];
	struct fixture *f = fixture_make(0, true, VMMU_FORMAT_NPT4);
	const struct vmmu_gpa base = { BASE * 4096 };
	struct vmmu_vcpu *bare;
	uint64_t pages[RING_SIZE];

	(void)state;
	region_set(f, LOG, PAGES);
	assert_int_equal(vmmu_guest_write(f->vcpu[0], base, buffer, sizeof(buffer)), VMMU_E2BIG);
	assert_int_equal(harvest(f, 0, pages, RING_SIZE), 0);
	/* As much as the ring holds. */
	assert_int_equal(vmmu_guest_write(f->vcpu[0], base, buffer, RING_SIZE * 4096), VMMU_OK);
	assert_int_equal(vmmu_guest_write(f->vcpu[0], base, buffer, 1), VMMU_EBUSY);
	assert_int_equal(harvest(f, 0, pages, RING_SIZE), RING_SIZE);
	assert_int_equal(reset(f), RING_SIZE);
	assert_int_equal(vmmu_guest_write(f->vcpu[0], base, buffer, 1), VMMU_OK);
	assert_int_equal(vmmu_vcpu_create(f->vm, VCPUS, NULL, &bare), VMMU_OK);
	assert_int_equal(vmmu_guest_write(bare, base, buffer, 1), VMMU_EINVAL); /* it would not be logged */
	region_set(f, 0, PAGES);
	assert_int_equal(vmmu_guest_write(bare, base, buffer, 1), VMMU_OK);
	vmmu_vcpu_destroy(bare);
	fixture_free(f);
}

/* Half of the reserve is there for what must not be left half done; and the vCPU is told as soon as that is done. */
static void test_ring_reserve_opens_and_closes(void **state)
{
	struct fixture *f = fixture_make(0, true, VMMU_FORMAT_NPT4);
	uint64_t page = 0, most = RING_SIZE - VMMU_DIRTY_RING_RESERVED;

	(void)state;
	region_set(f, LOG, PAGES);
	vcpu_reenter(f, VMMU_ENTER_RUN);
	while (!fault_again(f, (BASE + page) * 4096, VMMU_PF_WRITE))
		page++;
	assert_int_equal(page, most);
	vmmu_vcpu_dirty_ring_reserve(f->vcpu[0], true);
	vcpu_reenter(f, VMMU_ENTER_RUN);
	while (!fault_again(f, (BASE + page) * 4096, VMMU_PF_WRITE))
		page++;
	assert_int_equal(page, most + VMMU_DIRTY_RING_RESERVED / 2);
	vcpu_reenter(f, VMMU_ENTER_RING_FULL);
	assert_int_equal(harvest(f, 0, (uint64_t[RING_SIZE]){ 0 }, 1), 1);
	assert_int_equal(reset(f), 1);
	vcpu_reenter(f, VMMU_ENTER_RUN);
	vmmu_vcpu_dirty_ring_reserve(f->vcpu[0], false);
	vcpu_reenter(f, VMMU_ENTER_RING_FULL);
	assert_false(vmmu_vm_is_dead(f->vm));
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ring_reports_a_page_again_only_after_its_reset),
		cmocka_unit_test(test_ring_nearly_full_stops_the_vcpu_until_reset),
		cmocka_unit_test(test_ring_reserve_opens_and_closes),
		cmocka_unit_test(test_faults_without_an_entry_between_them_lose_no_page),
		cmocka_unit_test(test_walks_of_logged_tables_lose_no_page),
		cmocka_unit_test(test_ring_that_goes_with_its_vcpu_is_taken_back_by_the_next_reset),
		cmocka_unit_test(test_empty_ring_that_goes_with_its_vcpu_costs_nothing),
		cmocka_unit_test(test_ring_with_forged_contents_is_harmless),
		cmocka_unit_test(test_ring_with_forged_offset_does_not_touch_the_next_slot),
		cmocka_unit_test(test_marks_are_counted_by_each_vcpu),
		cmocka_unit_test(test_write_for_guest_says_why_the_ring_has_no_room),
	};

	return cmocka_run_group_tests(tests, watchdog_setup, NULL);
}
