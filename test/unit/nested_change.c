/* SPDX-License-Identifier: MIT */
/* Nested guests while something changes: L1's table, slots, host pages, the log, the root, the memory of the host. */
#include "test/unit/nested_fixture.h"

#include "core/shadow/shadow_int.h"

#define L2 UINT64_C(0x12345000)

static struct vmmu_hva hva_of(const struct nest *n, uint64_t gpa)
{
	return (struct vmmu_hva){ (uintptr_t)n->ram + (gpa - RAM_GPA) };
}

/* A VM with one page mapped that L2 has written. */
static struct nest *nest_used(unsigned levels, bool rings)
{
	struct nest *n = nest_make(levels, rings);

	l1_map(n, L2, 1, DATA_GPA | E_RWX);
	l2_enter(n, 0);
	l2_ok(n, 0, L2, WRITE, DATA_GPA);
	assert_int_equal(l2_ok(n, 0, L2, WRITE, DATA_GPA), 0);
	return n;
}

/* Guest mode is over: L1's access to the page has its own root, whatever happened before. N5 */
static void l1_is_back(struct nest *n)
{
	struct vmmu_vcpu *vcpu = n->cpu[0].vcpu;
	const uint64_t *root = n->cpu[0].entry.root;
	struct vmmu_gpa gpa = { DATA_GPA };
	struct vmmu_entry entry;

	vmmu_nested_leave(vcpu);
	assert_int_equal(vmmu_vcpu_enter(vcpu, &entry), VMMU_ENTER_RUN);
	vmmu_vcpu_leave(vcpu);
	assert_int_equal(entry.levels, 4);
	assert_ptr_not_equal(entry.root, root);
	assert_int_equal(vmmu_fault(vcpu, gpa, VMMU_PF_USER | VMMU_PF_WRITE), VMMU_FAULT_FIXED);
	vmmu_nested_leave(vcpu); /* outside guest mode: no effect */
	assert_int_equal(vmmu_vcpu_enter(vcpu, &entry), VMMU_ENTER_RUN);
	vmmu_vcpu_leave(vcpu);
	assert_int_equal(entry.levels, 4);
	nest_audit(n);
	l2_enter(n, 0);
}

static void test_l1_changes_an_entry_of_any_level(void **state)
{
	(void)state;
	for (unsigned levels = 2; levels <= 5; levels++)
		for (unsigned at = 1; at <= (levels == 3 ? 2 : levels); at++) {
			struct nest *n = nest_used(levels, false);
			uint64_t where = l1_entry(n, L2, at), old = l1_load(n, where);

			l1_store(n, where, 0);
			l2_npf(n, 0, L2, READ, READ | VMMU_PF_USER);
			l1_store(n, where, old);
			l2_ok(n, 0, L2, READ, DATA_GPA);
			l1_store(n, where, old & ~E_W);
			l2_npf(n, 0, L2, WRITE, WRITE | VMMU_PF_USER | VMMU_PF_PRESENT);
			l1_store(n, l1_entry(n, L2, 1), (DATA_GPA + 0x1000) | E_RWX);
			l2_ok(n, 0, L2, READ, DATA_GPA + 0x1000);
			l1_is_back(n);
			nest_free(n);
		}
}

static void test_pdptes_are_read_from_memory(void **state)
{
	struct nest *n = nest_used(3, false);
	uint64_t where = l1_entry(n, L2, 3), old = l1_load(n, where), other = L2 | UINT64_C(1) << 30;

	(void)state;
	/* One that was not present: at once, without a flush. */
	l2_npf(n, 0, other, READ, READ | VMMU_PF_USER);
	l1_map(n, other, 1, (DATA_GPA + 0x2000) | E_RWX);
	l2_ok(n, 0, other, READ, DATA_GPA + 0x2000);
	/* One that was: L1 flushes, and enters anew. */
	l1_store(n, where, 0);
	l2_enter(n, 0);
	l2_forget(n, 0);
	l2_npf(n, 0, L2, READ, READ | VMMU_PF_USER);
	l1_store(n, where, old);
	l2_ok(n, 0, L2, READ, DATA_GPA);
	nest_free(n);
}

static void test_a_host_page_goes(void **state)
{
	struct nest *n = nest_used(4, false);

	(void)state;
	vmmu_invalidate_begin(n->vm, hva_of(n, DATA_GPA), hva_of(n, DATA_GPA + 0x1000));
	vmmu_invalidate_end(n->vm, hva_of(n, DATA_GPA), hva_of(n, DATA_GPA + 0x1000));
	assert_int_not_equal(l2_ok(n, 0, L2, WRITE, DATA_GPA), 0);
	assert_true(vmmu_age(n->vm, hva_of(n, DATA_GPA), hva_of(n, DATA_GPA + 0x1000), true));
	assert_false(vmmu_age(n->vm, hva_of(n, DATA_GPA), hva_of(n, DATA_GPA + 0x1000), true));
	l1_is_back(n);
	nest_free(n);
}

static bool is_dirty(struct nest *n, uint64_t gpa)
{
	uint64_t page = (gpa - RAM_GPA) >> 12;

	return n->bitmap[page / 64] >> (page % 64) & 1;
}

static void dirty_get(struct nest *n)
{
	assert_int_equal(vmmu_dirty_get(n->vm, 0, RAM_SLOT, n->bitmap, sizeof(n->bitmap) / 8), VMMU_OK);
}

static void test_a_log_has_l1s_frame_and_l1s_tables(void **state)
{
	struct nest *n = nest_used(4, false);
	uint64_t at = l1_map(n, L2 + 0x1000, 1, (DATA_GPA + 0x1000) | E_RWX);

	(void)state;
	nest_region(n, RAM_SLOT, VMMU_SLOT_LOG_DIRTY, RAM_BYTES);
	l2_ok(n, 0, L2, READ, DATA_GPA);
	dirty_get(n);
	assert_false(is_dirty(n, DATA_GPA));
	assert_int_not_equal(l2_ok(n, 0, L2, WRITE, DATA_GPA), 0);
	dirty_get(n);
	assert_true(is_dirty(n, DATA_GPA));
	assert_false(is_dirty(n, at)); /* A and D were set before */
	assert_int_not_equal(l2_ok(n, 0, L2, WRITE, DATA_GPA), 0);
	l2_ok(n, 0, L2 + 0x1000, READ, DATA_GPA + 0x1000);
	dirty_get(n);
	assert_true(is_dirty(n, DATA_GPA));
	assert_false(is_dirty(n, DATA_GPA + 0x1000));
	assert_true(is_dirty(n, at)); /* A is new */
	l1_is_back(n);
	nest_region(n, RAM_SLOT, 0, RAM_BYTES);
	l2_ok(n, 0, L2, WRITE, DATA_GPA);
	assert_int_equal(l2_ok(n, 0, L2, WRITE, DATA_GPA), 0);
	nest_free(n);
}

static void test_a_ring_has_l1s_frame(void **state)
{
	struct nest *n = nest_used(4, true);

	(void)state;
	nest_region(n, RAM_SLOT, VMMU_SLOT_LOG_DIRTY, RAM_BYTES);
	l2_ok(n, 0, L2, WRITE, DATA_GPA);
	l2_ok(n, 0, L2, WRITE, DATA_GPA);
	assert_int_equal(n->ring[0][0].flags, VMMU_DIRTY_GFN_DIRTY);
	assert_int_equal(n->ring[0][0].slot, RAM_SLOT);
	assert_int_equal(n->ring[0][0].offset, (DATA_GPA - RAM_GPA) >> 12);
	assert_int_equal(n->ring[0][1].flags, 0);
	nest_free(n);
}

static void test_a_slot_goes_and_comes(void **state)
{
	struct nest *n = nest_used(4, false);

	(void)state;
	l1_map(n, L2 + 0x1000, 1, ROM_GPA | E_RWX);
	l2_ok(n, 0, L2 + 0x1000, READ, ROM_GPA);
	/* Everything is zapped (P3), with both roots of the vCPU. */
	nest_region(n, ROM_SLOT, 0, 0);
	l2_answer(n, 0, L2 + 0x1000, READ, VMMU_PAGE_MMIO, ROM_GPA);
	assert_int_not_equal(l2_ok(n, 0, L2, WRITE, DATA_GPA), 0);
	l1_is_back(n);
	nest_region(n, ROM_SLOT, VMMU_SLOT_READONLY, ROM_BYTES);
	l2_ok(n, 0, L2 + 0x1000, READ, ROM_GPA); /* the MMIO entry is of an older generation */
	/* With the slot of L1's tables nothing is left, not even the root. */
	nest_region(n, RAM_SLOT, 0, 0);
	l2_npf(n, 0, L2, READ, READ | VMMU_PF_USER);
	nest_region(n, RAM_SLOT, 0, RAM_BYTES);
	l2_ok(n, 0, L2, READ, DATA_GPA);
	l1_is_back(n);
	nest_free(n);
}

static void test_a_zap_while_l1_runs_reaches_the_nested_root(void **state)
{
	struct nest *n = nest_used(4, false);

	(void)state;
	vmmu_nested_leave(n->cpu[0].vcpu);
	nest_region(n, ROM_SLOT, 0, 0);
	nest_audit(n); /* the root is obsolete, and the vCPU was told */
	l2_enter(n, 0);
	assert_int_not_equal(l2_ok(n, 0, L2, WRITE, DATA_GPA), 0);
	nest_free(n);
}

static void test_l2_writes_a_table_of_l1s(void **state)
{
	struct nest *n = nest_used(4, false);
	uint64_t at = l1_entry(n, L2, 1), table = at & ~UINT64_C(0xfff);

	(void)state;
	l1_map(n, L2 + 0x1000, 1, table | E_RWX);
	l2_ok(n, 0, L2 + 0x1000, READ, table);
	l2_answer(n, 0, L2 + 0x1000 + (at & 0xfff), WRITE, VMMU_PAGE_EMULATE, at);
	l1_store(n, at, 0); /* as the CPU does for L2 */
	l2_npf(n, 0, L2, READ, READ | VMMU_PF_USER);
	/* A locked store instead: the mirror is given up, and the page written. */
	assert_true(vmmu_unprotect(n->cpu[0].vcpu, (struct vmmu_gpa){ table }));
	assert_false(vmmu_unprotect(n->cpu[0].vcpu, (struct vmmu_gpa){ table }));
	nest_free(n);
}

static void test_two_vcpus_share_the_shadow(void **state)
{
	struct nest *n = nest_used(4, false);

	(void)state;
	l2_enter(n, 1);
	assert_int_equal(l2_ok(n, 1, L2, WRITE, DATA_GPA), 0); /* what the other has mapped is there */
	assert_ptr_equal(n->cpu[0].entry.root, n->cpu[1].entry.root);
	l1_store(n, l1_entry(n, L2, 1), (DATA_GPA + 0x3000) | E_RWX);
	for (unsigned cpu = 0; cpu < NEST_VCPUS; cpu++)
		l2_ok(n, cpu, L2, WRITE, DATA_GPA + 0x3000);
	nest_free(n);
}

/* N4 */
static void test_roots_are_kept_over_a_switch(void **state)
{
	struct nest *n = nest_make(4, false);
	uint64_t root[5], frame[5];

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		root[i] = i ? l1_root(n) : n->l1.root;
		frame[i] = DATA_GPA + i * 0x1000;
		l1_map(n, L2, 1, frame[i] | E_RWX);
	}
	for (unsigned round = 0; round < 3; round++)
		for (unsigned i = 0; i < 4; i++) {
			n->l1.root = root[i];
			l2_enter(n, 0);
			l2_forget(n, 0); /* as with an ASID of its own */
			assert_true(!l2_ok(n, 0, L2, WRITE, frame[i]) == (round > 0));
		}
	/* L1's entry changes while its root is not the current one. */
	n->l1.root = root[0];
	l1_store(n, l1_entry(n, L2, 1), frame[4] | E_RWX);
	l2_enter(n, 0);
	l2_forget(n, 0);
	l2_ok(n, 0, L2, READ, frame[4]);
	/* Under other registers the same nCR3 is another root. */
	l1_store(n, l1_entry(n, L2, 1), frame[1] | E_RWX | E_NX);
	l2_npf(n, 0, L2, FETCH, FETCH | VMMU_PF_USER | VMMU_PF_PRESENT);
	n->l1.efer &= ~R_NXE;
	l2_enter(n, 0);
	l2_npf(n, 0, L2, FETCH, READ | VMMU_PF_USER | VMMU_PF_PRESENT | VMMU_PF_RSVD);
	nest_free(n);
}

/* How many shadow pages there are. */
static uint64_t pages(const struct nest *n)
{
	return n->vm->vm.shadow->used;
}

/* N6 */
static void test_a_table_that_l1_takes_away_is_not_mirrored_any_more(void **state)
{
	struct nest *n = nest_used(4, false);
	uint64_t top = l1_entry(n, L2, 4), table = l1_entry(n, L2, 1) & ~UINT64_C(0xfff);
	uint64_t before = pages(n);

	(void)state;
	l1_store(n, top, 0);
	assert_int_equal(before - pages(n), 3); /* of level 3, 2 and 1 */
	assert_false(vmmu_unprotect(n->cpu[0].vcpu, (struct vmmu_gpa){ table }));
	l2_npf(n, 0, L2, READ, READ | VMMU_PF_USER);
	nest_free(n);
}

/* A table that another one still points to stays. */
static void test_a_table_with_two_parents_goes_with_the_second(void **state)
{
	struct nest *n = nest_used(4, false);
	uint64_t first = l1_entry(n, L2, 2), second = first + 8, table = l1_load(n, first), before;

	(void)state;
	l1_store(n, second, table);
	l2_ok(n, 0, L2 + 2 * MIB, READ, DATA_GPA);
	before = pages(n);
	l1_store(n, first, 0);
	assert_int_equal(pages(n), before);
	assert_int_equal(l2_ok(n, 0, L2 + 2 * MIB, READ, DATA_GPA), 0);
	l1_store(n, second, 0);
	assert_int_equal(before - pages(n), 1);
	nest_free(n);
}

/* A table that maps itself is mirrored at every level, so zapping one mirror takes others of the same frame. */
static void test_a_table_that_maps_itself(void **state)
{
	struct nest *n = nest_make(4, false);
	uint64_t l2 = UINT64_C(0x7f) << 39 | UINT64_C(0x7f) << 30 | UINT64_C(0x7f) << 21 | UINT64_C(0x7f) << 12;
	uint64_t at = n->l1.root + 0x7f * 8;

	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		l1_store(n, at, n->l1.root | E_RWX);
		l2_enter(n, 0);
		l2_ok(n, 0, l2, READ, n->l1.root);
		l2_answer(n, 0, l2, WRITE, VMMU_PAGE_EMULATE, n->l1.root);
		if (round)
			assert_true(vmmu_unprotect(n->cpu[0].vcpu, (struct vmmu_gpa){ n->l1.root }));
		else
			l1_store(n, at, 0);
		nest_audit(n);
	}
	nest_free(n);
}

static void test_the_limit_of_shadow_pages(void **state)
{
	struct nest *n = nest_make(4, false);

	(void)state;
	assert_int_equal(vmmu_shadow_limit_set(n->vm, 8), VMMU_OK);
	l2_enter(n, 0);
	for (unsigned round = 0; round < 2; round++)
		for (uint64_t i = 0; i < 40; i++) {
			if (!round)
				l1_map(n, i << 30, 1, (DATA_GPA + i * 0x1000) | E_RWX);
			l2_ok(n, 0, i << 30, WRITE, DATA_GPA + i * 0x1000);
		}
	assert_true(pages(n) <= 12);
	nest_free(n);
}

static void test_smm_ends_guest_mode(void **state)
{
	struct nest *n = nest_used(4, false);
	struct vmmu_vcpu *vcpu = n->cpu[0].vcpu;
	struct vmmu_page_info info;

	(void)state;
	assert_int_equal(vmmu_vcpu_address_space_set(vcpu, 1), VMMU_OK);
	assert_int_equal(vmmu_nested_fault(vcpu, (struct vmmu_gpa){ L2 }, READ, &info), VMMU_PAGE_DEAD);
	assert_int_equal(vmmu_fault(vcpu, (struct vmmu_gpa){ DATA_GPA }, VMMU_PF_USER), VMMU_FAULT_RETRY);
	/* L1's handler there may run a guest, too: its memory is that of SMM, which has no slot. */
	l2_enter(n, 0);
	l2_npf(n, 0, L2, READ, READ | VMMU_PF_USER);
	assert_int_equal(vmmu_vcpu_address_space_set(vcpu, 0), VMMU_OK);
	l2_enter(n, 0);
	l2_ok(n, 0, L2, READ, DATA_GPA);
	nest_free(n);
}

/* Every allocation on the way fails once. Nothing is lost, and the next try succeeds. */
static void test_a_host_without_memory(void **state)
{
	unsigned failures = 0;

	(void)state;
	for (int64_t nth = 1; nth < 200; nth++) {
		struct nest *n = nest_make(4, false);
		struct vmmu_vcpu *vcpu = n->cpu[0].vcpu;
		struct vmmu_page_info info;
		enum vmmu_page_fault answer = VMMU_PAGE_FIXED;
		struct vmmu_entry entry;
		bool failed;

		l1_map(n, L2, 1, DATA_GPA | E_RWX);
		n->host.alloc_fail = nth;
		failed = vmmu_nested_enter(vcpu, &n->l1) == VMMU_ENOMEM;
		if (failed) /* nothing has changed: not in guest mode */
			assert_int_equal(vmmu_nested_fault(vcpu, (struct vmmu_gpa){ L2 }, READ, &info), VMMU_PAGE_DEAD);
		else if (vmmu_vcpu_enter(vcpu, &entry) == VMMU_ENTER_NOMEM)
			failed = true;
		else
			vmmu_vcpu_leave(vcpu);
		if (!failed)
			answer = vmmu_nested_fault(vcpu, (struct vmmu_gpa){ L2 }, READ, &info);
		failed |= answer == VMMU_PAGE_NOMEM;
		assert_true(failed || answer == VMMU_PAGE_FIXED);
		failures += failed;
		n->host.alloc_fail = 0;
		l2_enter(n, 0);
		l2_ok(n, 0, L2, WRITE, DATA_GPA);
		nest_free(n);
		if (!failed)
			break;
	}
	assert_true(failures >= 3 && failures < 199);
}

static void test_a_page_to_wait_for(void **state)
{
	struct nest *n = nest_used(4, false);
	struct vmmu_page_info info;

	(void)state;
	l1_map(n, L2 + 0x1000, 1, (DATA_GPA + 0x1000) | E_RWX);
	n->host.busy = true;
	assert_int_equal(vmmu_nested_fault(n->cpu[0].vcpu, (struct vmmu_gpa){ L2 + 0x1000 }, READ | VMMU_PF_NOWAIT,
	                                   &info), VMMU_PAGE_WAIT);
	assert_int_equal(info.gpa.v, DATA_GPA + 0x1000);
	n->host.busy = false;
	n->host.page_fail = 1;
	l2_answer(n, 0, L2 + 0x1000, READ, VMMU_PAGE_HOST, DATA_GPA + 0x1000);
	l2_ok(n, 0, L2 + 0x1000, READ, DATA_GPA + 0x1000);
	nest_free(n);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_l1_changes_an_entry_of_any_level),
		cmocka_unit_test(test_pdptes_are_read_from_memory),
		cmocka_unit_test(test_a_host_page_goes),
		cmocka_unit_test(test_a_log_has_l1s_frame_and_l1s_tables),
		cmocka_unit_test(test_a_ring_has_l1s_frame),
		cmocka_unit_test(test_a_slot_goes_and_comes),
		cmocka_unit_test(test_a_zap_while_l1_runs_reaches_the_nested_root),
		cmocka_unit_test(test_l2_writes_a_table_of_l1s),
		cmocka_unit_test(test_two_vcpus_share_the_shadow),
		cmocka_unit_test(test_roots_are_kept_over_a_switch),
		cmocka_unit_test(test_a_table_that_l1_takes_away_is_not_mirrored_any_more),
		cmocka_unit_test(test_a_table_with_two_parents_goes_with_the_second),
		cmocka_unit_test(test_a_table_that_maps_itself),
		cmocka_unit_test(test_the_limit_of_shadow_pages),
		cmocka_unit_test(test_smm_ends_guest_mode),
		cmocka_unit_test(test_a_host_without_memory),
		cmocka_unit_test(test_a_page_to_wait_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
