/* SPDX-License-Identifier: MIT */
/* L1's nested tables while L1 works on them: filling them, changing much at once, taking them apart (F42, N1, N6). */
#include "test/unit/nested_fixture.h"

#include "core/shadow/shadow_int.h"

#define L2   (UINT64_C(3) << 30)
#define BIG  (2 * MIB)
#define PAGE UINT64_C(4096)

static uint64_t pages(const struct nest *n)
{
	return n->vm->vm.shadow->used;
}

static const struct shadow *mirror_of(const struct nest *n, uint64_t gpa)
{
	return shadow_next_of(&n->vm->vm, GFN(gpa >> 12), NULL);
}

/* What a store of L1's own CPU to this address would be answered. */
static enum vmmu_fault l1_write_fault(struct nest *n, uint64_t gpa)
{
	struct vmmu_vcpu *vcpu = n->cpu[1].vcpu;
	struct vmmu_entry entry;

	vmmu_nested_leave(vcpu);
	assert_int_equal(vmmu_vcpu_enter(vcpu, &entry), VMMU_ENTER_RUN);
	vmmu_vcpu_leave(vcpu);
	return vmmu_fault(vcpu, (struct vmmu_gpa){ gpa }, VMMU_PF_WRITE | VMMU_PF_USER);
}

static struct nest *make(unsigned levels)
{
	struct nest *n = nest_make(levels, false);

	l2_enter(n, 0);
	return n;
}

/* The table that L1's entry of `level` leads to. */
static uint64_t table_below(const struct nest *n, uint64_t l2, unsigned level)
{
	return l1_load(n, l1_entry(n, l2, level)) & ~UINT64_C(0xfff);
}

/* --- filling --- */

/* L2 touches a page, L1 stores one entry for it, L2 goes on. */
static void test_a_table_that_is_filled_entry_by_entry_stays(void **state)
{
	struct nest *n = make(4);
	const struct shadow *mirror;
	uint64_t used;

	(void)state;
	l1_map(n, L2, 1, DATA_GPA | E_RWX);
	l2_ok(n, 0, L2, WRITE, DATA_GPA);
	mirror = mirror_of(n, table_below(n, L2, 2));
	used = pages(n);
	assert_int_equal(used, 4);
	for (uint64_t i = 1; i < 512; i++) {
		l2_npf(n, 0, L2 + i * PAGE, WRITE, WRITE | VMMU_PF_USER);
		l1_map(n, L2 + i * PAGE, 1, (DATA_GPA + i * PAGE) | E_RWX | E_A | E_D);
		assert_int_equal(l2_ok(n, 0, L2 + i * PAGE, WRITE, DATA_GPA + i * PAGE), 1);
		assert_int_equal(pages(n), used);
	}
	assert_ptr_equal(mirror_of(n, table_below(n, L2, 2)), mirror);
	l2_forget(n, 0);
	for (uint64_t i = 0; i < 512; i++)
		assert_int_equal(l2_ok(n, 0, L2 + i * PAGE, WRITE, DATA_GPA + i * PAGE), 0);
	nest_free(n);
}

/* The same a level above: L1 stores an entry for each new table. */
static void test_a_directory_that_is_filled_stays(void **state)
{
	struct nest *n = make(4);
	uint64_t used = 4;

	(void)state;
	for (uint64_t i = 0; i < 40; i++) {
		l1_map(n, L2 + i * BIG, 1, (DATA_GPA + i * PAGE) | E_RWX | E_A | E_D);
		assert_int_equal(l2_ok(n, 0, L2 + i * BIG, WRITE, DATA_GPA + i * PAGE), 1);
		assert_int_equal(pages(n), used++);
	}
	l2_forget(n, 0);
	for (uint64_t i = 0; i < 40; i++)
		assert_int_equal(l2_ok(n, 0, L2 + i * BIG, WRITE, DATA_GPA + i * PAGE), 0);
	nest_free(n);
}

/* Several vCPUs of L1 fill entries before a guest of theirs runs on. */
static void test_a_few_entries_at_once_are_no_flood(void **state)
{
	struct nest *n = make(4);

	(void)state;
	l1_map(n, L2, 1, DATA_GPA | E_RWX);
	l2_ok(n, 0, L2, WRITE, DATA_GPA);
	for (uint64_t i = 1; i <= 64; i++) {
		l1_map(n, L2 + i * PAGE, 1, (DATA_GPA + i * PAGE) | E_RWX);
		if (i % 8 == 0)
			l2_ok(n, 0, L2 + i * PAGE, READ, DATA_GPA + i * PAGE);
	}
	l2_forget(n, 0);
	assert_int_equal(l2_ok(n, 0, L2, WRITE, DATA_GPA), 0);
	nest_free(n);
}

static void test_a_flood_gives_the_frame_back(void **state)
{
	struct nest *n = make(4);
	uint64_t table, used;

	(void)state;
	l1_map(n, L2, 1, DATA_GPA | E_RWX);
	l2_ok(n, 0, L2, WRITE, DATA_GPA);
	table = table_below(n, L2, 2);
	used = pages(n);
	assert_int_equal(l1_write_fault(n, table), VMMU_FAULT_EMULATE);
	for (uint64_t i = 1; i <= 16; i++)
		l1_map(n, L2 + i * PAGE, 1, (DATA_GPA + i * PAGE) | E_RWX);
	assert_int_equal(pages(n), used - 1);
	assert_int_equal(l1_write_fault(n, table), VMMU_FAULT_FIXED);
	l2_ok(n, 0, L2, WRITE, DATA_GPA);
	assert_int_equal(l1_write_fault(n, table), VMMU_FAULT_EMULATE);
	nest_free(n);
}

/* --- taking apart (N6) --- */

static void test_a_table_that_l1_unlinks_is_an_ordinary_frame(void **state)
{
	struct nest *n = make(4);
	uint64_t table[4];

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		l1_map(n, L2 + i * BIG, 1, (DATA_GPA + i * PAGE) | E_RWX);
		l2_ok(n, 0, L2 + i * BIG, WRITE, DATA_GPA + i * PAGE);
	}
	for (unsigned level = 2; level <= 4; level++)
		table[level - 1] = table_below(n, L2, level);
	assert_int_equal(pages(n), 6);
	l1_store(n, l1_entry(n, L2, 2), 0);
	assert_int_equal(pages(n), 5);
	assert_null(mirror_of(n, table[1]));
	assert_int_equal(l1_write_fault(n, table[1]), VMMU_FAULT_FIXED);
	assert_int_equal(l1_write_fault(n, table[2]), VMMU_FAULT_EMULATE);
	nest_audit(n);
	/* All that is below goes with an upper entry; the root is in use. */
	l1_store(n, l1_entry(n, L2, 4), 0);
	assert_int_equal(pages(n), 1);
	assert_int_equal(l1_write_fault(n, table[2]), VMMU_FAULT_FIXED);
	l2_npf(n, 0, L2 + BIG, READ, READ | VMMU_PF_USER);
	nest_free(n);
}

static void test_a_table_with_two_parents_stays_for_the_second(void **state)
{
	struct nest *n = make(4);
	uint64_t link;

	(void)state;
	l1_map(n, L2, 1, DATA_GPA | E_RWX);
	l1_map(n, L2 + BIG, 1, DATA_GPA | E_RWX);
	link = l1_load(n, l1_entry(n, L2, 2));
	l1_store(n, l1_entry(n, L2 + BIG, 2), link);
	l2_ok(n, 0, L2, WRITE, DATA_GPA);
	l2_ok(n, 0, L2 + BIG, WRITE, DATA_GPA);
	assert_int_equal(pages(n), 4);
	l1_store(n, l1_entry(n, L2, 2), 0);
	assert_int_equal(pages(n), 4);
	l2_forget(n, 0);
	assert_int_equal(l2_ok(n, 0, L2 + BIG, WRITE, DATA_GPA), 0);
	l1_store(n, l1_entry(n, L2 + BIG, 2), 0);
	assert_int_equal(pages(n), 3);
	nest_free(n);
}

/* A frame that is a table at three levels: its pages are neighbours in one bucket, and go with each other. */
static void test_a_table_that_leads_to_itself(void **state)
{
	struct nest *n = make(4);
	uint64_t self, entry;

	(void)state;
	l1_map(n, L2, 1, DATA_GPA | E_RWX);
	self = table_below(n, L2, 4);
	entry = l1_entry(n, L2, 3); /* in `self`, which from now on is the directory and the table, too */
	l1_store(n, entry, self | E_RWX | E_A | E_D);
	l2_ok(n, 0, L2 + (L2 >> 30 & 511) * (BIG + PAGE), READ, self);
	assert_int_equal(pages(n), 4);
	l1_store(n, entry, 0);
	assert_int_equal(pages(n), 2);
	assert_int_equal(l1_write_fault(n, self), VMMU_FAULT_EMULATE); /* PML4's entry still leads to it */
	l1_store(n, l1_entry(n, L2, 4), 0);
	assert_int_equal(l1_write_fault(n, self), VMMU_FAULT_FIXED);
	nest_free(n);
}

/* The page that goes is the next in the bucket that the walk is in. `flood`: it is also written for the last time. */
static void goes_before_its_turn(bool flood)
{
	struct nest *n = make(4);
	uint64_t self, entry;

	/* `self` is a table below another directory first, so that its page for that is the older one. */
	self = l1_frame(n);
	l1_map(n, L2, 1, DATA_GPA | E_RWX);
	l1_store(n, l1_entry(n, L2 + BIG, 2), self | E_RWX | E_A | E_D);
	l1_store(n, self, DATA_GPA | E_RWX | E_A | E_D);
	l2_ok(n, 0, L2 + BIG, WRITE, DATA_GPA);
	l1_store(n, l1_entry(n, L2 + (1 << 30), 3), self | E_RWX | E_A | E_D);
	entry = self + 8;
	l1_store(n, entry, self | E_RWX | E_A | E_D);
	l2_ok(n, 0, L2 + (1 << 30) + BIG, READ, DATA_GPA);
	l1_store(n, l1_entry(n, L2 + BIG, 2), 0);
	assert_int_equal(pages(n), 5);
	for (unsigned i = 0; flood && i < 15; i++)
		l1_store(n, self + 800 + i * 8, 0);
	l1_store(n, entry, 0);
	assert_int_equal(pages(n), flood ? 3 : 4);
	nest_free(n);
}

static void test_a_table_goes_before_its_own_turn(void **state)
{
	(void)state;
	goes_before_its_turn(false);
	goes_before_its_turn(true);
}

/* zoo 16: a root of one vCPU is a table below another's. It loses its parent, and stays for the vCPU. */
static void test_a_root_in_use_does_not_go_with_its_parent(void **state)
{
	struct nest *n = make(5);
	struct vmmu_nested four = n->l1;

	(void)state;
	l1_map(n, L2, 1, DATA_GPA | E_RWX);
	four.root = table_below(n, L2, 5);
	four.cr4 &= ~R_LA57;
	l2_ok(n, 0, L2, WRITE, DATA_GPA);
	assert_int_equal(vmmu_nested_enter(n->cpu[1].vcpu, &four), VMMU_OK);
	l2_ok(n, 1, L2, WRITE, DATA_GPA);
	assert_int_equal(pages(n), 5);
	l1_store(n, l1_entry(n, L2, 5), 0);
	assert_int_equal(pages(n), 5);
	l2_forget(n, 1);
	assert_int_equal(l2_ok(n, 1, L2, WRITE, DATA_GPA), 0);
	l2_npf(n, 0, L2, READ, READ | VMMU_PF_USER);
	nest_free(n);
}

/* The oldest pages go first, and what is below them with them. */
static void test_a_limit_takes_whole_branches(void **state)
{
	static const uint64_t branch[] = { L2, L2 + (UINT64_C(1) << 39), L2 + (UINT64_C(1) << 40) };
	struct nest *n = make(4);

	(void)state;
	for (unsigned b = 0; b < 3; b++)
		for (uint64_t i = 0; i < 20; i++) {
			l1_map(n, branch[b] + i * BIG, 1, (DATA_GPA + i * PAGE) | E_RWX);
			l2_ok(n, 0, branch[b] + i * BIG, WRITE, DATA_GPA + i * PAGE);
		}
	assert_int_equal(pages(n), 1 + 3 * 22);
	assert_int_equal(vmmu_shadow_limit_set(n->vm, 40), VMMU_OK);
	assert_int_equal(pages(n), 1 + 22);
	nest_audit(n);
	l2_forget(n, 0);
	assert_int_equal(l2_ok(n, 0, branch[2], WRITE, DATA_GPA), 0);
	for (uint64_t i = 0; i < 20; i++)
		l2_ok(n, 0, L2 + i * BIG, WRITE, DATA_GPA + i * PAGE);
	nest_free(n);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_table_that_is_filled_entry_by_entry_stays),
		cmocka_unit_test(test_a_directory_that_is_filled_stays),
		cmocka_unit_test(test_a_few_entries_at_once_are_no_flood),
		cmocka_unit_test(test_a_flood_gives_the_frame_back),
		cmocka_unit_test(test_a_table_that_l1_unlinks_is_an_ordinary_frame),
		cmocka_unit_test(test_a_table_with_two_parents_stays_for_the_second),
		cmocka_unit_test(test_a_table_that_leads_to_itself),
		cmocka_unit_test(test_a_table_goes_before_its_own_turn),
		cmocka_unit_test(test_a_limit_takes_whole_branches),
		cmocka_unit_test(test_a_root_in_use_does_not_go_with_its_parent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
