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

/* --- rights and reserved bits --- */

/* EXITINFO1 for an access to an entry with these rights; 0: the access is allowed. */
static uint64_t expected(unsigned levels, uint64_t entry, uint64_t access)
{
	uint64_t info = access | VMMU_PF_USER | VMMU_PF_PRESENT;

	if (levels == 2)
		info &= ~VMMU_PF_FETCH; /* the bit is there only where something can forbid a fetch */
	if (!(entry & E_U) || ((access & VMMU_PF_WRITE) && !(entry & E_W)) ||
	    ((access & VMMU_PF_FETCH) && levels > 2 && (entry & E_NX)))
		return info;
	return 0;
}

/* L1's leaf is of `size` level, and the entry of level `at` has these rights; all others have all rights. */
static void rights_try(unsigned levels, unsigned size, unsigned at, uint64_t rights)
{
	static const uint64_t accesses[] = { READ, WRITE, FETCH, TABLE };
	uint64_t page = DATA_GPA + 0x5000, block = size == 1 ? page : size == 2 ? DATA_GPA : 0;
	uint64_t l2 = size == 1 ? L2 : size == 2 ? 0x12200000 + 0x5000 : UINT64_C(0x40000000) + page;

	if (levels == 2 && size == 2) {
		block = RAM_GPA; /* of 4 MiB */
		l2 = 0x12400000 + (page - RAM_GPA);
	}
	for (unsigned i = 0; i < 4; i++) {
		struct nest *n = nest_make(levels, false);
		uint64_t where, info = expected(levels, rights, accesses[i]);

		l1_map(n, l2, size, block | E_RWX | (size > 1 ? E_PS : 0));
		where = l1_entry(n, l2, at);
		l1_store(n, where, (l1_load(n, where) & ~(E_W | E_U | E_NX)) | rights);
		l2_enter(n, 0);
		if (info)
			l2_npf(n, 0, l2, accesses[i], info);
		else
			l2_ok(n, 0, l2, accesses[i], page);
		/* Neither answer depends on what came before. */
		for (unsigned k = 0; k < 4; k++) {
			info = expected(levels, rights, accesses[k]);
			if (info)
				l2_npf(n, 0, l2, accesses[k], info);
			else
				l2_ok(n, 0, l2, accesses[k], page);
		}
		/* D only in the leaf, and only after a write. */
		where = l1_entry(n, l2, size);
		assert_int_equal(!(l1_load(n, where) & E_D), expected(levels, rights, WRITE) != 0);
		nest_free(n);
	}
}

static void test_rights_of_each_level_and_size(void **state)
{
	(void)state;
	for_each_mode(levels)
		for (unsigned size = 1; size <= (levels >= 4 ? 3 : 2); size++)
			for (unsigned at = size; at <= (levels == 3 ? 2 : levels); at++)
				for (unsigned bits = 0; bits < (levels == 2 ? 4 : 8); bits++)
					rights_try(levels, size, at, (bits & 1 ? E_W : 0) | (bits & 2 ? E_U : 0) |
					                             (bits & 4 ? E_NX : 0));
}

static void reserved_try(unsigned levels, unsigned size, unsigned at, uint64_t bits, bool nxe, bool gbpages)
{
	uint64_t l2 = size == 3 ? UINT64_C(0x40000000) + DATA_GPA : size == 2 ? 0x12200000 : L2, where;
	struct nest *n = nest_make(levels, false);

	n->l1.gbpages = gbpages;
	if (!nxe)
		n->l1.efer &= ~R_NXE;
	/* A large page of two levels has 4 MiB: DATA_GPA is in the middle of it. */
	l1_map(n, l2, size, (size == 3 ? 0 : levels == 2 ? RAM_GPA : DATA_GPA) | E_RWX | (size > 1 ? E_PS : 0));
	l2_enter(n, 0);
	if (bits & ~E_PS)
		l2_ok(n, 0, l2, READ, DATA_GPA);
	where = l1_entry(n, l2, at);
	l1_store(n, where, l1_load(n, where) | bits);
	l2_npf(n, 0, l2, WRITE, WRITE | VMMU_PF_USER | VMMU_PF_PRESENT | VMMU_PF_RSVD);
	nest_free(n);
}

static void test_reserved_bits_are_reported_with_p(void **state)
{
	(void)state;
	for (unsigned levels = 3; levels <= 5; levels++) {
		for (unsigned at = 1; at <= levels; at++) {
			reserved_try(levels, 1, at, UINT64_C(1) << 40, true, true);
			reserved_try(levels, 1, at, UINT64_C(1) << 51, true, true);
			reserved_try(levels, 1, at, E_NX, false, true);
			if (levels == 3)
				reserved_try(levels, 1, at, UINT64_C(1) << 52, true, true);
		}
		reserved_try(levels, 2, 2, 0x2000, true, true);
		reserved_try(levels, 2, 2, 0x100000, true, true);
	}
	for (unsigned levels = 4; levels <= 5; levels++) {
		reserved_try(levels, 1, 4, E_PS, true, true);
		reserved_try(levels, 1, levels, E_PS, true, true);
		reserved_try(levels, 3, 3, 0x20000000, true, true);
		reserved_try(levels, 3, 3, E_PS, true, false);
	}
	reserved_try(3, 1, 3, E_W, true, true); /* a PDPTE has no rights */
	reserved_try(2, 2, 2, 0x200000, false, true);
}

/* --- what is below L1 --- */

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
	/* A table for each level of L1's, and one fault. */
	assert_int_equal(stats.nested_tables, 4);
	assert_int_equal(stats.nested_faults, 1);
	assert_int_equal(stats.nested_faults_guest, 0);
	l2_npf(n, 0, L2 + 0x1000, READ, READ | VMMU_PF_USER);
	assert_int_equal(vmmu_fault(n->cpu[0].vcpu, (struct vmmu_gpa){ DATA_GPA }, VMMU_PF_USER), VMMU_FAULT_DEAD);
	vmmu_nested_leave(n->cpu[0].vcpu);
	assert_int_equal(vmmu_vcpu_enter(n->cpu[0].vcpu, &after), VMMU_ENTER_RUN);
	vmmu_vcpu_leave(n->cpu[0].vcpu);
	assert_ptr_equal(after.root, before.root);
	assert_false(after.flush);
	/* L1 removes its upper tables: the shadow of what is below goes, too. */
	l1_store(n, l1_entry(n, L2, 4), 0);
	vmmu_stats_get(n->vm, &stats, sizeof(stats));
	assert_int_equal(stats.nested_tables, 1);
	assert_int_equal(stats.nested_tables_allocated, 4);
	assert_int_equal(stats.nested_faults, 2);
	assert_int_equal(stats.nested_faults_guest, 1);
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
		cmocka_unit_test(test_rights_of_each_level_and_size),
		cmocka_unit_test(test_reserved_bits_are_reported_with_p),
		cmocka_unit_test(test_below_l1_there_may_be_no_memory),
		cmocka_unit_test(test_l1_goes_on_where_it_was),
		cmocka_unit_test(test_values_that_no_cpu_enters_with),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
