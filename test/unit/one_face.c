/* SPDX-License-Identifier: MIT */
/*
 * One VM with both MMUs, driven through the one interface (core/mmu/mmu.h, core/fault/context.h). vCPU 0 walks a TDP
 * root. vCPU 1 walks shadow pages; its guest has paging off, so that both map the same gfns. A call on a range must
 * change the leaves of both MMUs: each test changes a page and then asks each vCPU whether it noticed. The CPUs keep
 * all translations that they are not told to drop.
 */
#include "test/unit/dirty_fixture.h"

#include "core/audit/audit.h"
#include "core/fault/context.h"
#include "core/fault/vcpu.h"
#include "core/mmu/mmu.h"
#include "core/shadow/arrays.h"
#include "core/shadow/shadow.h"

#define TDP    0
#define SHADOW 1

static const struct context_ops *const context_of[VCPUS] = { [TDP] = &context_tdp, [SHADOW] = &context_shadow };

/* A VM on TDP that may shadow as well, which no config asks for before there are nested guests. */
static struct fixture *both_make(unsigned mode, bool rings)
{
	struct fixture *f = fixture_make(mode, rings, VMMU_FORMAT_NPT4);

	assert_int_equal(shadow_init(&f->vm->vm), VMMU_OK);
	for (unsigned i = 0; i < VCPUS; i++)
		assert_int_equal(vcpu_context_set(f->vcpu[i], context_of[i]), VMMU_OK);
	return f;
}

static struct vmmu_hva hva_of(const struct fixture *f, uint64_t page)
{
	return (struct vmmu_hva){ (uintptr_t)f->memory + page * 4096 };
}

static uint64_t leaves(struct fixture *f)
{
	struct vmmu_stats stats;

	vmmu_stats_get(f->vm, &stats, sizeof(stats));
	return stats.pages_4k + stats.pages_2m;
}

/* Does an access of this vCPU to the page fault? */
static bool faults(struct fixture *f, unsigned cpu, uint64_t page, bool write)
{
	uint64_t before = f->cpu[cpu].faults;

	if (write)
		guest_write(f, cpu, page);
	else
		guest_read(f, cpu, page);
	return f->cpu[cpu].faults != before;
}

static void dirty_get(struct fixture *f)
{
	assert_int_equal(vmmu_dirty_get(f->vm, 0, SLOT, f->bitmap, WORDS), VMMU_OK);
}

static bool is_dirty(const struct fixture *f, uint64_t page)
{
	return f->bitmap[page / 64] >> (page % 64) & 1;
}

/* --- a range --- */

static void test_one_page_has_a_leaf_in_each_mmu_and_an_invalidation_takes_both(void **state)
{
	struct fixture *f = both_make(0, false);

	(void)state;
	region_set(f, LOG, PAGES); /* 4K leaves */
	for (unsigned cpu = 0; cpu < VCPUS; cpu++)
		for (uint64_t page = 0; page < 8; page++)
			guest_write(f, cpu, page);
	assert_int_equal(leaves(f), 16);
	audit(f);
	for (unsigned cpu = 0; cpu < VCPUS; cpu++)
		assert_false(faults(f, cpu, 1, true));
	vmmu_invalidate_begin(f->vm, hva_of(f, 1), hva_of(f, 3));
	assert_int_equal(leaves(f), 12);
	vmmu_invalidate_end(f->vm, hva_of(f, 1), hva_of(f, 3));
	for (unsigned cpu = 0; cpu < VCPUS; cpu++) {
		assert_true(faults(f, cpu, 1, true));
		assert_true(faults(f, cpu, 2, true));
		assert_false(faults(f, cpu, 3, true));
	}
	fixture_free(f);
}

static void test_a_page_is_old_only_when_neither_mmu_has_used_it(void **state)
{
	struct fixture *f = both_make(0, false);

	(void)state;
	region_set(f, LOG, PAGES);
	for (unsigned cpu = 0; cpu < VCPUS; cpu++)
		guest_write(f, cpu, 5);
	assert_true(vmmu_age(f->vm, hva_of(f, 5), hva_of(f, 6), true));
	/* Both were aged by that, not only the first that was young. */
	assert_false(vmmu_age(f->vm, hva_of(f, 5), hva_of(f, 6), true));
	for (unsigned cpu = 0; cpu < VCPUS; cpu++) {
		mcpu_forget(&f->cpu[cpu]); /* aging flushes nothing */
		guest_read(f, cpu, 5);
		assert_true(vmmu_age(f->vm, hva_of(f, 5), hva_of(f, 6), false));
		assert_true(vmmu_age(f->vm, hva_of(f, 5), hva_of(f, 6), true));
		assert_false(vmmu_age(f->vm, hva_of(f, 5), hva_of(f, 6), true));
	}
	fixture_free(f);
}

/* --- logs --- */

static void test_a_log_sees_the_writes_of_both_and_protects_both_again(void **state)
{
	struct fixture *f = both_make(0, false);

	(void)state;
	for (unsigned cpu = 0; cpu < VCPUS; cpu++)
		for (uint64_t page = 0; page < 3; page++)
			guest_write(f, cpu, page);
	region_set(f, LOG, PAGES);
	for (unsigned cpu = 0; cpu < VCPUS; cpu++)
		assert_true(faults(f, cpu, cpu, true)); /* the log began for the leaves of both */
	dirty_get(f);
	assert_true(is_dirty(f, TDP) && is_dirty(f, SHADOW) && !is_dirty(f, 2));
	/* The page that one MMU wrote: its leaf in the other may not have stayed writable. */
	for (unsigned writer = 0; writer < VCPUS; writer++) {
		for (unsigned cpu = 0; cpu < VCPUS; cpu++)
			guest_write(f, cpu, 2);
		dirty_get(f);
		assert_true(is_dirty(f, 2));
		assert_true(faults(f, writer, 2, true));
		dirty_get(f);
		assert_true(is_dirty(f, 2));
		dirty_get(f);
		assert_false(is_dirty(f, 2));
	}
	fixture_free(f);
}

/* The harvest begins with mmu_lock for read, and must go on with it for write. */
static void test_the_first_shadow_root_comes_into_a_log(void **state)
{
	struct fixture *f = both_make(0, false);

	(void)state;
	region_set(f, LOG, PAGES);
	guest_write(f, TDP, 7);
	dirty_get(f);
	assert_false(arrays_exist(&f->vm->vm));
	guest_write(f, SHADOW, 7);
	guest_write(f, TDP, 7);
	assert_true(arrays_exist(&f->vm->vm));
	dirty_get(f);
	assert_true(is_dirty(f, 7));
	assert_true(faults(f, SHADOW, 7, true));
	assert_true(faults(f, TDP, 7, true));
	dirty_get(f);
	assert_true(is_dirty(f, 7));
	fixture_free(f);
}

/* As when the first shadow root comes between two words of one harvest. */
static void test_a_harvest_that_holds_the_lock_for_read_turns_to_writing(void **state)
{
	struct fixture *f = both_make(0, false);
	struct vm *vm = &f->vm->vm;
	struct mmu_protect p = { .vm = vm };
	const struct memslot *slot;

	(void)state;
	region_set(f, LOG, PAGES);
	guest_write(f, TDP, 0);
	guest_write(f, TDP, 64);
	mutex_lock(&vm->slots_lock);
	slot = memslot_find_id(memslots_current(vm, 0), SLOT);
	mmu_protect_word(&p, slot, 0, 1);
	assert_false(p.token->write);
	mmu_drop(p.token); /* somebody waited: the first shadow root */
	guest_write(f, SHADOW, 64);
	mmu_retake(p.token);
	mmu_protect_word(&p, slot, 1, 1);
	assert_true(p.token->write);
	mmu_protect_end(&p);
	mutex_unlock(&vm->slots_lock);
	for (unsigned cpu = 0; cpu < VCPUS; cpu++)
		assert_true(faults(f, cpu, 64, true));
	fixture_free(f);
}

static void test_manual_clears_protect_both_and_split_what_is_huge(void **state)
{
	struct fixture *f = both_make(MANUAL | INITIALLY, false);
	uint64_t mask = 1;

	(void)state;
	for (unsigned cpu = 0; cpu < VCPUS; cpu++)
		guest_write(f, cpu, 0);
	region_set(f, LOG, PAGES);
	assert_int_equal(vmmu_dirty_clear(f->vm, 0, SLOT, 0, 64, &mask), VMMU_OK);
	for (unsigned cpu = 0; cpu < VCPUS; cpu++)
		assert_true(faults(f, cpu, 0, true));
	dirty_get(f);
	assert_true(is_dirty(f, 0));
	fixture_free(f);
}

static void test_each_vcpu_has_its_ring_and_a_reset_protects_both(void **state)
{
	struct fixture *f = both_make(0, true);
	uint64_t pages[4];

	(void)state;
	region_set(f, LOG, PAGES);
	for (unsigned cpu = 0; cpu < VCPUS; cpu++)
		guest_write(f, cpu, 9);
	for (unsigned cpu = 0; cpu < VCPUS; cpu++) {
		assert_int_equal(harvest(f, cpu, pages, 4), 1);
		assert_int_equal(pages[0], 9);
	}
	assert_int_equal(reset(f), 2);
	for (unsigned cpu = 0; cpu < VCPUS; cpu++) {
		assert_true(faults(f, cpu, 9, true));
		assert_int_equal(harvest(f, cpu, pages, 4), 1);
	}
	fixture_free(f);
}

static void test_leaves_of_both_grow_when_the_log_ends(void **state)
{
	struct fixture *f = both_make(0, false);
	struct vmmu_stats stats;

	(void)state;
	region_set(f, LOG, PAGES);
	for (unsigned cpu = 0; cpu < VCPUS; cpu++)
		for (uint64_t page = 0; page < 512; page++)
			guest_write(f, cpu, page);
	assert_int_equal(leaves(f), 1024);
	region_set(f, 0, PAGES);
	for (unsigned cpu = 0; cpu < VCPUS; cpu++)
		guest_write(f, cpu, 100);
	vmmu_stats_get(f->vm, &stats, sizeof(stats));
	assert_int_equal(stats.pages_2m, 2);
	assert_int_equal(stats.pages_4k, 0);
	fixture_free(f);
}

/* --- slots, roots, contexts --- */

static void test_a_slot_that_goes_is_gone_for_both(void **state)
{
	struct fixture *f = both_make(0, false);

	(void)state;
	for (unsigned cpu = 0; cpu < VCPUS; cpu++)
		guest_write(f, cpu, 3);
	region_set(f, 0, 0);
	assert_int_equal(leaves(f), 0);
	for (unsigned cpu = 0; cpu < VCPUS; cpu++)
		assert_int_equal(guest_try(f, cpu, 3), MCPU_MMIO);
	region_set(f, 0, PAGES);
	/* The MMIO entries that both have now are of an older generation. */
	for (unsigned cpu = 0; cpu < VCPUS; cpu++)
		guest_write(f, cpu, 3);
	fixture_free(f);
}

static void test_one_request_frees_the_obsolete_roots_of_both(void **state)
{
	struct fixture *f = both_make(0, false);
	const uint64_t *before[VCPUS];

	(void)state;
	for (unsigned cpu = 0; cpu < VCPUS; cpu++) {
		guest_write(f, cpu, 3);
		before[cpu] = f->cpu[cpu].entry.root;
	}
	mutex_lock(&f->vm->vm.slots_lock);
	mmu_zap_all_fast(&f->vm->vm);
	mutex_unlock(&f->vm->vm.slots_lock);
	assert_int_equal(leaves(f), 0);
	assert_null(f->vcpu[SHADOW]->root);
	for (unsigned cpu = 0; cpu < VCPUS; cpu++) {
		assert_true(faults(f, cpu, 3, true));
		assert_true(f->cpu[cpu].entry.flush || f->cpu[cpu].flushes > 1);
	}
	assert_ptr_not_equal(f->cpu[TDP].entry.root, before[TDP]);
	fixture_free(f);
}

static void test_a_vcpu_goes_from_one_kind_to_the_other_and_back(void **state)
{
	struct fixture *f = both_make(0, false);
	const struct table *root;

	(void)state;
	region_set(f, LOG, PAGES);
	guest_write(f, TDP, 3);
	root = f->vcpu[TDP]->root;
	for (unsigned turn = 0; turn < 3; turn++)
		for (unsigned kind = VCPUS; kind-- > 0;) {
			assert_int_equal(vcpu_context_set(f->vcpu[0], context_of[kind]), VMMU_OK);
			guest_write(f, 0, 3);
			assert_int_equal(f->cpu[0].entry.shadow, kind == SHADOW);
			assert_ptr_equal(f->vcpu[0]->root, root); /* it waits for the way back */
		}
	assert_int_equal(leaves(f), 1 + 8); /* in the shadow with its neighbours */
	audit(f);
	/* What waits is no less obsolete (P3): the request takes it, too. */
	assert_int_equal(vcpu_context_set(f->vcpu[0], &context_shadow), VMMU_OK);
	mutex_lock(&f->vm->vm.slots_lock);
	mmu_zap_all_fast(&f->vm->vm);
	mutex_unlock(&f->vm->vm.slots_lock);
	guest_write(f, 0, 3);
	assert_null(f->vcpu[0]->root);
	assert_int_equal(vcpu_context_set(f->vcpu[0], &context_tdp), VMMU_OK);
	guest_write(f, 0, 3);
	/* An invalidation while the vCPU walks the one reaches what it left in the other. */
	vmmu_invalidate_begin(f->vm, hva_of(f, 3), hva_of(f, 4));
	vmmu_invalidate_end(f->vm, hva_of(f, 3), hva_of(f, 4));
	for (unsigned kind = 0; kind < VCPUS; kind++) {
		assert_int_equal(vcpu_context_set(f->vcpu[0], context_of[kind]), VMMU_OK);
		assert_true(faults(f, 0, 3, true));
	}
	fixture_free(f);
}

/* What waits is of the old address space, and so is its role. */
static void test_the_address_space_changes_while_a_kind_waits(void **state)
{
	static struct mcpu cpu;
	struct audit_report report = { .max_lines = 5 };
	struct thost host = { 0 };
	struct vmmu_config config = {
		.size = sizeof(config), .host = &thost_ops, .host_state = &host, .address_spaces = 2
	};
	char *memory = aligned_alloc(4096, 4 * 4096);
	struct vmmu_region region = {
		.address_space = 1, .gpa = { BASE * 4096 }, .bytes = 4 * 4096, .hva = { (uintptr_t)memory }
	};
	struct vmmu_vcpu *vcpu;
	struct vmmu_vm *vm;

	(void)state;
	assert_int_equal(vmmu_vm_create(&config, &vm), VMMU_OK);
	assert_int_equal(shadow_init(&vm->vm), VMMU_OK);
	assert_int_equal(vmmu_region_set(vm, &region), VMMU_OK);
	assert_int_equal(vmmu_vcpu_create(vm, 0, NULL, &vcpu), VMMU_OK);
	assert_int_equal(vcpu_context_set(vcpu, &context_shadow), VMMU_OK);
	assert_int_equal(vcpu_context_set(vcpu, &context_tdp), VMMU_OK);
	assert_int_equal(vmmu_vcpu_address_space_set(vcpu, 1), VMMU_OK);
	mcpu_init(&cpu, vcpu);
	for (unsigned kind = 0; kind < VCPUS; kind++) {
		assert_int_equal(vcpu_context_set(vcpu, context_of[kind]), VMMU_OK);
		assert_int_equal(mcpu_write(&cpu, BASE * 4096, kind), MCPU_OK);
		mcpu_leave(&cpu);
	}
	assert_true(audit_vm(&vm->vm, &report));
	vmmu_vcpu_destroy(vcpu);
	assert_false(vmmu_vm_is_dead(vm));
	vmmu_vm_destroy(vm);
	assert_true(thost_is_empty(&host));
	free(memory);
}

static void test_what_a_context_has_not_is_refused(void **state)
{
	struct fixture *f = both_make(0, false);
	struct vmmu_page_info info;
	uint64_t done;

	(void)state;
	assert_int_equal(vmmu_prefault(f->vcpu[TDP], (struct vmmu_gpa){ BASE * 4096 }, 4096, &done), VMMU_OK);
	assert_int_equal(vmmu_prefault(f->vcpu[SHADOW], (struct vmmu_gpa){ BASE * 4096 }, 4096, &done), VMMU_EINVAL);
	assert_int_equal(vmmu_page_fault(f->vcpu[TDP], (struct vmmu_gva){ BASE * 4096 }, 0, 0, &info), VMMU_PAGE_DEAD);
	assert_int_equal(vmmu_fault(f->vcpu[SHADOW], (struct vmmu_gpa){ BASE * 4096 }, 0), VMMU_FAULT_DEAD);
	assert_false(vmmu_vm_is_dead(f->vm));
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_page_has_a_leaf_in_each_mmu_and_an_invalidation_takes_both),
		cmocka_unit_test(test_a_page_is_old_only_when_neither_mmu_has_used_it),
		cmocka_unit_test(test_a_log_sees_the_writes_of_both_and_protects_both_again),
		cmocka_unit_test(test_the_first_shadow_root_comes_into_a_log),
		cmocka_unit_test(test_a_harvest_that_holds_the_lock_for_read_turns_to_writing),
		cmocka_unit_test(test_manual_clears_protect_both_and_split_what_is_huge),
		cmocka_unit_test(test_each_vcpu_has_its_ring_and_a_reset_protects_both),
		cmocka_unit_test(test_leaves_of_both_grow_when_the_log_ends),
		cmocka_unit_test(test_a_slot_that_goes_is_gone_for_both),
		cmocka_unit_test(test_one_request_frees_the_obsolete_roots_of_both),
		cmocka_unit_test(test_a_vcpu_goes_from_one_kind_to_the_other_and_back),
		cmocka_unit_test(test_the_address_space_changes_while_a_kind_waits),
		cmocka_unit_test(test_what_a_context_has_not_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
