/* SPDX-License-Identifier: MIT */
/* Nested guests: what L1's nested table says is what L2 gets, and what L1 changes L2 loses. */
#include "test/unit/nested_fixture.h"

#define L2 UINT64_C(0x12345000) /* an L2 address, in the middle of everything */

static const unsigned all_levels[] = { 2, 3, 4, 5 };

#define for_each_mode(levels) \
	for (unsigned i_ = 0, levels; i_ < 4 && (levels = all_levels[i_], true); i_++)

static void test_l2_reaches_what_l1_maps(void **state)
{
	(void)state;
	for_each_mode(levels) {
		struct nest *n = nest_make(levels, false);
		uint64_t at = l1_map(n, L2, 1, (DATA_GPA + 0x5000) | E_RWX);

		l2_enter(n, 0);
		assert_true(l2_ok(n, 0, L2 + 0x123, READ, DATA_GPA + 0x5123) > 0);
		assert_int_equal(n->cpu[0].entry.levels, levels < 4 ? 3 : levels);
		assert_int_equal(l1_load(n, at) & (E_A | E_D), E_A);
		l2_ok(n, 0, L2 + 8, WRITE, DATA_GPA + 0x5008);
		assert_int_equal(l1_load(n, at) & (E_A | E_D), E_A | E_D);
		assert_int_equal(l2_ok(n, 0, L2, FETCH, DATA_GPA + 0x5000), 0);
		nest_free(n);
	}
}

static void test_what_l1_has_not_mapped_is_l1s_fault(void **state)
{
	(void)state;
	for_each_mode(levels) {
		struct nest *n = nest_make(levels, false);

		l2_enter(n, 0);
		l2_npf(n, 0, L2, READ, READ | VMMU_PF_USER);
		l2_npf(n, 0, L2, TABLE, TABLE | VMMU_PF_USER);
		l1_map(n, L2, 1, (DATA_GPA + 0x5000) | E_P | E_U);
		l2_npf(n, 0, L2, WRITE, WRITE | VMMU_PF_USER | VMMU_PF_PRESENT);
		l2_ok(n, 0, L2, READ, DATA_GPA + 0x5000);
		l2_npf(n, 0, L2, WRITE, WRITE | VMMU_PF_USER | VMMU_PF_PRESENT);
		l2_npf(n, 0, L2 + 0x1000, FETCH, VMMU_PF_GUEST_FINAL | VMMU_PF_USER | (levels > 2 ? VMMU_PF_FETCH : 0));
		if (levels < 4)
			l2_npf(n, 0, L2 | UINT64_C(1) << 32, READ, READ | VMMU_PF_USER);
		nest_free(n);
	}
}

static void test_below_l1_there_may_be_no_memory(void **state)
{
	struct nest *n = nest_make(4, false);

	(void)state;
	l1_map(n, L2, 1, HOLE_GPA | E_RWX);
	l1_map(n, L2 + 0x1000, 1, (ROM_GPA + 0x3000) | E_RWX);
	l2_enter(n, 0);
	l2_answer(n, 0, L2 + 0x44, READ, VMMU_PAGE_MMIO, HOLE_GPA + 0x44);
	l2_answer(n, 0, L2 + 0x48, WRITE, VMMU_PAGE_MMIO, HOLE_GPA + 0x48);
	l2_ok(n, 0, L2 + 0x1000, READ, ROM_GPA + 0x3000);
	l2_answer(n, 0, L2 + 0x1008, WRITE, VMMU_PAGE_MMIO, ROM_GPA + 0x3008);
	nest_free(n);
}

static void test_l1_goes_on_where_it_was(void **state)
{
	struct nest *n = nest_make(4, false);
	struct vmmu_entry before, after;
	struct vmmu_stats stats;

	(void)state;
	l1_map(n, L2, 1, DATA_GPA | E_RWX);
	assert_int_equal(vmmu_vcpu_enter(n->cpu[0].vcpu, &before), VMMU_ENTER_RUN);
	vmmu_vcpu_leave(n->cpu[0].vcpu);
	vmmu_stats_get(n->vm, &stats, sizeof(stats));
	assert_int_equal(stats.rmap_bytes, 0);
	l2_enter(n, 0);
	l2_ok(n, 0, L2, WRITE, DATA_GPA);
	assert_ptr_not_equal(n->cpu[0].entry.root, before.root);
	vmmu_stats_get(n->vm, &stats, sizeof(stats));
	assert_int_not_equal(stats.rmap_bytes, 0);
	assert_int_equal(vmmu_fault(n->cpu[0].vcpu, (struct vmmu_gpa){ DATA_GPA }, VMMU_PF_USER), VMMU_FAULT_DEAD);
	vmmu_nested_leave(n->cpu[0].vcpu);
	assert_int_equal(vmmu_vcpu_enter(n->cpu[0].vcpu, &after), VMMU_ENTER_RUN);
	vmmu_vcpu_leave(n->cpu[0].vcpu);
	assert_ptr_equal(after.root, before.root);
	assert_false(after.flush);
	nest_free(n);
}

static void test_values_that_no_cpu_enters_with(void **state)
{
	struct nest *n = nest_make(4, false);
	struct vmmu_nested bad;

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		bad = n->l1;
		switch (i) {
		case 0: bad.phys_bits = 31; break;
		case 1: bad.phys_bits = 49; break;
		case 2: bad.root |= UINT64_C(1) << 40; break;
		case 3: bad.cr4 = 0; break;
		default: bad.format = (enum vmmu_nested_format)7;
		}
		assert_int_equal(vmmu_nested_enter(n->cpu[0].vcpu, &bad), VMMU_EINVAL);
		assert_int_equal(vmmu_fault(n->cpu[0].vcpu, (struct vmmu_gpa){ DATA_GPA }, VMMU_PF_USER),
		                 VMMU_FAULT_RETRY); /* still L1, which has not entered */
	}
	nest_free(n);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_l2_reaches_what_l1_maps),
		cmocka_unit_test(test_what_l1_has_not_mapped_is_l1s_fault),
		cmocka_unit_test(test_below_l1_there_may_be_no_memory),
		cmocka_unit_test(test_l1_goes_on_where_it_was),
		cmocka_unit_test(test_values_that_no_cpu_enters_with),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
