/* SPDX-License-Identifier: MIT */
/*
 * N1: frames that hold mirrored tables, in a VM with both MMUs. vCPU 0 is L1's: it walks a TDP root, and writes the
 * tables. vCPU 1 walks a shadow of these tables, as a nested guest does. The CPUs keep all translations that they are
 * not told to drop, and the audit at the end of each test compares the shadow with the tables.
 */
#include "test/unit/dirty_fixture.h"

#include "core/audit/audit.h"
#include "core/fault/context.h"
#include "core/fault/vcpu.h"
#include "core/format/spte.h"
#include "core/shadow/shadow.h"
#include "core/tdp/tdp_int.h"

#define L1 0
#define L2 1

/* Pages of the slot, in its second block of 2 MiB. The tables map linear page n to page n of the slot. */
#define TABLES 600
#define PML4   TABLES
#define PDPT   (TABLES + 1)
#define PD     (TABLES + 2)
#define PT     (TABLES + 3)
#define OTHER  610 /* in the same block, and no table */

#define P_W_U (VMMU_NPT_P | VMMU_NPT_W | VMMU_NPT_U)
#define A_D   (VMMU_NPT_A | VMMU_NPT_D)

static uint64_t entry_to(uint64_t page)
{
	return (BASE + page) << 12 | P_W_U | A_D;
}

static uint64_t *table_at(struct fixture *f, uint64_t page)
{
	return (uint64_t *)(f->memory + page * 4096);
}

static struct fixture *both_make(unsigned mode, uint32_t flags)
{
	struct fixture *f = fixture_make(mode, false, VMMU_FORMAT_NPT4);
	struct vmmu_guest_regs regs = { .cr0 = UINT64_C(0x80010001), .cr3 = (BASE + PML4) << 12, .cr4 = 0x20,
		                        .efer = 0x500, .phys_bits = 48, .gbpages = true };

	if (flags)
		region_set(f, flags, PAGES);
	assert_int_equal(shadow_init(&f->vm->vm), VMMU_OK);
	*table_at(f, PML4) = entry_to(PDPT);
	*table_at(f, PDPT) = entry_to(PD);
	*table_at(f, PD) = entry_to(PT);
	for (unsigned n = 0; n < 512; n++)
		table_at(f, PT)[n] = entry_to(n);
	assert_int_equal(vcpu_context_set(f->vcpu[L2], &context_shadow), VMMU_OK);
	vmmu_guest_regs_set(f->vcpu[L2], &regs, false);
	return f;
}

/* L2 touches a page of its own: its tables are mirrored from now on. */
static enum mcpu_result l2_try(struct fixture *f, uint64_t page, bool write)
{
	uint64_t value = page;
	enum mcpu_result result = write ? mcpu_write(&f->cpu[L2], page * 4096, value)
	                                : mcpu_read(&f->cpu[L2], page * 4096, &value);

	mcpu_leave(&f->cpu[L2]);
	return result;
}

static void l2_touch(struct fixture *f, uint64_t page)
{
	assert_int_equal(l2_try(f, page, true), MCPU_OK);
}

/* L1 stores a word of a page. Returns: was the store emulated? */
static bool l1_store(struct fixture *f, uint64_t page, unsigned index, uint64_t value)
{
	uint64_t before = f->cpu[L1].emulated;

	assert_int_equal(mcpu_write(&f->cpu[L1], (BASE + page) * 4096 + index * 8, value), MCPU_OK);
	mcpu_leave(&f->cpu[L1]);
	assert_int_equal(table_at(f, page)[index], value);
	return f->cpu[L1].emulated != before;
}

/* TDP's leaf of a page of the slot, in the root of an address space; 0, at level 0: none. */
static spte_t leaf_in(struct vm *vm, unsigned as_id, uint64_t page, int *level)
{
	struct table *root = tdp_next_root(vm, NULL, as_id, true);
	spte_t spte = tdp_leaf(vm, root, GFN(BASE + page), level);

	tdp_root_put(vm, root);
	if (!spte_is_leaf(spte, *level))
		*level = 0;
	return *level ? spte : 0;
}

static spte_t leaf_of(struct fixture *f, uint64_t page, int *level)
{
	return leaf_in(&f->vm->vm, 0, page, level);
}

#define RIGHTS (VMMU_NPT_W | SPTE_HOST_W | SPTE_MMU_W)

static void assert_leaf(struct fixture *f, uint64_t page, int level, spte_t rights)
{
	int found;
	spte_t spte = leaf_of(f, page, &found);

	assert_int_equal(found, level);
	assert_int_equal(spte & RIGHTS, rights);
}

static struct vmmu_stats stats(struct fixture *f)
{
	struct vmmu_stats stats;

	vmmu_stats_get(f->vm, &stats, sizeof(stats));
	return stats;
}

/* --- a table is mirrored --- */

static void test_a_huge_leaf_over_a_table_goes_and_does_not_come_back(void **state)
{
	struct fixture *f = both_make(0, 0);

	(void)state;
	assert_false(l1_store(f, PT, 0, entry_to(0)));
	assert_false(l1_store(f, 0, 0, 1));
	assert_leaf(f, PT, 2, RIGHTS);
	l2_touch(f, 5);
	assert_leaf(f, PT, 0, 0);
	assert_leaf(f, 0, 2, RIGHTS); /* no table is in this block */
	/* The next access maps the page and its neighbours: tables read-only, and the fast path may not change that. */
	assert_false(l1_store(f, PT + 1, 0, 1));
	for (uint64_t page = PML4; page <= PT; page++)
		assert_leaf(f, page, 1, SPTE_HOST_W);
	for (uint64_t page = PT + 1; page < (PML4 | 7) + 1; page++)
		assert_leaf(f, page, 1, RIGHTS);
	fixture_free(f);
}

static void test_a_small_leaf_loses_the_right_and_no_path_gives_it_back(void **state)
{
	struct fixture *f = both_make(0, LOG);
	uint64_t fast;

	(void)state;
	assert_false(l1_store(f, PT, 7, 0));
	assert_leaf(f, PT, 1, RIGHTS);
	l2_touch(f, 5);
	assert_leaf(f, PT, 1, SPTE_HOST_W);
	fast = stats(f).faults_fast;
	/* L1's CPU had the translation. */
	assert_true(l1_store(f, PT, 7, entry_to(9)));
	assert_true(l1_store(f, PT, 7, entry_to(7)));
	assert_leaf(f, PT, 1, SPTE_HOST_W);
	assert_int_equal(stats(f).faults_fast, fast);
	fixture_free(f);
}

static void test_a_store_to_a_table_is_seen(void **state)
{
	struct fixture *f = both_make(0, 0);

	(void)state;
	l2_touch(f, 5);
	l2_touch(f, 6);
	assert_true(l1_store(f, PT, 5, 0));
	assert_int_equal(l2_try(f, 5, false), MCPU_GUEST);
	assert_true(l1_store(f, PT, 5, entry_to(OTHER)));
	assert_int_equal(l2_try(f, 5, true), MCPU_OK);
	assert_int_equal(*word_of(f, OTHER), 5);
	assert_true(l1_store(f, PML4, 0, 0));
	assert_int_equal(l2_try(f, 6, false), MCPU_GUEST);
	fixture_free(f);
}

static void test_reads_of_a_table_need_no_help(void **state)
{
	struct fixture *f = both_make(0, 0);
	uint64_t faults;

	(void)state;
	l2_touch(f, 5);
	guest_read(f, L1, PT);
	faults = f->cpu[L1].faults;
	guest_read(f, L1, PT);
	assert_int_equal(f->cpu[L1].faults, faults);
	fixture_free(f);
}

/* One fault makes the leaf and gives the answer. */
static void test_a_store_where_nothing_is_mapped_faults_once(void **state)
{
	struct fixture *f = both_make(0, 0);
	uint64_t faults = f->cpu[L1].faults;

	(void)state;
	l2_touch(f, 5);
	assert_true(l1_store(f, PT, 7, 0));
	assert_int_equal(f->cpu[L1].faults, faults + 1);
	assert_leaf(f, PT, 1, SPTE_HOST_W);
	fixture_free(f);
}

static void test_a_store_to_a_table_is_logged(void **state)
{
	struct fixture *f = both_make(0, LOG);

	(void)state;
	l2_touch(f, 5);
	assert_int_equal(vmmu_dirty_get(f->vm, 0, SLOT, f->bitmap, WORDS), VMMU_OK);
	for (unsigned turn = 0; turn < 2; turn++) {
		assert_true(l1_store(f, PT, 7, turn));
		assert_int_equal(vmmu_dirty_get(f->vm, 0, SLOT, f->bitmap, WORDS), VMMU_OK);
		assert_true(f->bitmap[PT / 64] >> PT % 64 & 1);
	}
	assert_int_equal(vmmu_dirty_get(f->vm, 0, SLOT, f->bitmap, WORDS), VMMU_OK);
	assert_false(f->bitmap[PT / 64] >> PT % 64 & 1);
	fixture_free(f);
}

/* --- the mirror goes --- */

static void test_a_frame_is_writable_again_and_its_block_huge(void **state)
{
	struct fixture *f = both_make(0, 0);

	(void)state;
	l2_touch(f, 5);
	assert_true(l1_store(f, PT, 7, 0));
	assert_true(vmmu_unprotect(f->vcpu[L2], (struct vmmu_gpa){ (BASE + PT) * 4096 }));
	assert_false(l1_store(f, PT, 7, 1));
	assert_leaf(f, PT, 1, RIGHTS); /* the other tables are still mirrored */
	for (uint64_t page = PML4; page < PT; page++)
		assert_true(vmmu_unprotect(f->vcpu[L2], (struct vmmu_gpa){ (BASE + page) * 4096 }));
	assert_leaf(f, PD, 1, SPTE_HOST_W); /* until somebody writes there */
	assert_false(l1_store(f, PD, 7, 1));
	assert_leaf(f, PD, 2, RIGHTS);
	*table_at(f, PD) = entry_to(PT);
	table_at(f, PD)[7] = table_at(f, PT)[7] = 0;
	fixture_free(f);
}

/* --- others that make leaves writable or huge --- */

static void test_the_end_of_a_log_leaves_a_block_with_a_table_small(void **state)
{
	struct fixture *f = both_make(0, LOG);

	(void)state;
	for (uint64_t page = 0; page < 1024; page++)
		guest_read(f, L1, page);
	l2_touch(f, 5);
	region_set(f, 0, PAGES);
	assert_int_equal(stats(f).recovered, 1);
	assert_leaf(f, 0, 2, RIGHTS);
	assert_leaf(f, PT, 1, SPTE_HOST_W);
	assert_true(l1_store(f, PT, 7, 0));
	fixture_free(f);
}

static void test_a_log_that_begins_splits_into_no_writable_table(void **state)
{
	struct fixture *f = both_make(0, 0);

	(void)state;
	assert_false(l1_store(f, OTHER, 0, 1));
	l2_touch(f, 5);
	assert_false(l1_store(f, OTHER, 0, 2));
	region_set(f, LOG, PAGES);
	assert_true(l1_store(f, PT, 7, 0));
	assert_leaf(f, PT, 1, SPTE_HOST_W);
	fixture_free(f);
}

static void test_a_prefault_maps_a_table_read_only(void **state)
{
	struct fixture *f = both_make(0, 0);
	uint64_t done;

	(void)state;
	l2_touch(f, 5);
	guest_read(f, L1, 0);
	assert_int_equal(vmmu_prefault(f->vcpu[L1], (struct vmmu_gpa){ (BASE + PT) * 4096 }, 4096, &done), VMMU_OK);
	assert_leaf(f, PT, 1, SPTE_HOST_W);
	fixture_free(f);
}

/* A device writes, and a hypervisor on L1's behalf: both are followed up, with no leaf to forbid it. */
static void test_stores_that_use_no_leaf_are_seen(void **state)
{
	struct fixture *f = both_make(0, 0);
	uint64_t entry = entry_to(OTHER);
	struct vmmu_gpa gpa = { (BASE + PT) * 4096 + 5 * 8 };

	(void)state;
	l2_touch(f, 5);
	assert_int_equal(vmmu_memory_write(f->vm, 0, gpa, &entry, 8), VMMU_OK);
	l2_touch(f, 5);
	assert_int_equal(*word_of(f, OTHER), 5);
	fixture_free(f);
}

/* --- address spaces --- */

/* L2's tables are in one address space, and L1's CPU is in the other. */
static void two_spaces(unsigned l2_in)
{
	static struct mcpu cpu[2];
	struct audit_report report = { .max_lines = 5 };
	struct thost host = { 0 };
	struct vmmu_config config = {
		.size = sizeof(config), .host = &thost_ops, .host_state = &host, .address_spaces = 2
	};
	char *memory = aligned_alloc(4096, 8 * 4096);
	struct vmmu_guest_regs regs = { .cr0 = UINT64_C(0x80010001), .cr3 = BASE << 12, .cr4 = 0x20, .efer = 0x500,
		                        .phys_bits = 48 };
	uint64_t value, *tables = (uint64_t *)memory;
	unsigned space[2] = { [L1] = 1 - l2_in, [L2] = l2_in };
	struct vmmu_vcpu *vcpu[2];
	struct vmmu_vm *vm;
	int level;

	memset(memory, 0, 8 * 4096);
	for (unsigned i = 0; i < 4; i++)
		tables[i * 512] = entry_to(i + 1);
	assert_int_equal(vmmu_vm_create(&config, &vm), VMMU_OK);
	assert_int_equal(shadow_init(&vm->vm), VMMU_OK);
	for (unsigned i = 0; i < 2; i++) {
		struct vmmu_region region = {
			.address_space = i, .gpa = { BASE * 4096 }, .bytes = 8 * 4096, .hva = { (uintptr_t)memory }
		};

		assert_int_equal(vmmu_region_set(vm, &region), VMMU_OK);
		assert_int_equal(vmmu_vcpu_create(vm, i, NULL, &vcpu[i]), VMMU_OK);
		mcpu_init(&cpu[i], vcpu[i]);
		assert_int_equal(vmmu_vcpu_address_space_set(vcpu[i], space[i]), VMMU_OK);
	}
	assert_int_equal(mcpu_write(&cpu[L1], (BASE + 3) * 4096 + 8, 0), MCPU_OK);
	mcpu_leave(&cpu[L1]);
	assert_int_equal(leaf_in(&vm->vm, space[L1], 3, &level) & RIGHTS, RIGHTS);
	assert_int_equal(vcpu_context_set(vcpu[L2], &context_shadow), VMMU_OK);
	vmmu_guest_regs_set(vcpu[L2], &regs, false);
	assert_int_equal(mcpu_read(&cpu[L2], 0, &value), MCPU_OK);
	mcpu_leave(&cpu[L2]);
	assert_int_equal(leaf_in(&vm->vm, space[L1], 3, &level) & RIGHTS, SPTE_HOST_W);
	assert_int_equal(mcpu_write(&cpu[L1], (BASE + 3) * 4096 + 8, 0), MCPU_OK);
	mcpu_leave(&cpu[L1]);
	assert_int_equal(cpu[L1].emulated, 1);
	assert_int_equal(leaf_in(&vm->vm, space[L1], 3, &level) & RIGHTS, SPTE_HOST_W);
	assert_true(audit_vm(&vm->vm, &report));
	for (unsigned i = 0; i < 2; i++)
		vmmu_vcpu_destroy(vcpu[i]);
	vmmu_vm_destroy(vm);
	assert_true(thost_is_empty(&host));
	free(memory);
}

static void test_a_table_is_protected_in_every_address_space(void **state)
{
	(void)state;
	two_spaces(0);
	two_spaces(1);
}

/* --- the audit sees it --- */

/* Change TDP's leaf of a page behind the library's back. Returns: what it was. */
static spte_t leaf_set(struct fixture *f, uint64_t page, spte_t spte)
{
	struct table *root = tdp_next_root(&f->vm->vm, NULL, 0, true);
	struct tdp_iter iter;
	spte_t old = 0;

	tdp_for_each(&iter, root, GFN(BASE + page), GFN(BASE + page + 1), 1)
		if (iter.level == 1) {
			old = *iter.entry;
			*iter.entry = spte;
		}
	tdp_root_put(&f->vm->vm, root);
	return old;
}

static void test_the_audit_finds_a_leaf_that_may_be_written(void **state)
{
	static const spte_t wrong[] = { SPTE_MMU_W, SPTE_MMU_W | VMMU_NPT_W };
	struct fixture *f = both_make(0, 0);
	spte_t right;
	int level;

	(void)state;
	l2_touch(f, 5);
	guest_read(f, L1, PT);
	right = leaf_of(f, PT, &level);
	for (unsigned i = 0; i < 2; i++) {
		struct audit_report report = { .max_lines = 5 };

		assert_int_equal(leaf_set(f, PT, right | wrong[i]), right);
		assert_false(audit_vm(&f->vm->vm, &report));
		assert_int_equal(report.violations, 1);
		leaf_set(f, PT, right);
	}
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_huge_leaf_over_a_table_goes_and_does_not_come_back),
		cmocka_unit_test(test_a_small_leaf_loses_the_right_and_no_path_gives_it_back),
		cmocka_unit_test(test_a_store_to_a_table_is_seen),
		cmocka_unit_test(test_reads_of_a_table_need_no_help),
		cmocka_unit_test(test_a_store_where_nothing_is_mapped_faults_once),
		cmocka_unit_test(test_a_store_to_a_table_is_logged),
		cmocka_unit_test(test_a_frame_is_writable_again_and_its_block_huge),
		cmocka_unit_test(test_the_end_of_a_log_leaves_a_block_with_a_table_small),
		cmocka_unit_test(test_a_log_that_begins_splits_into_no_writable_table),
		cmocka_unit_test(test_a_prefault_maps_a_table_read_only),
		cmocka_unit_test(test_stores_that_use_no_leaf_are_seen),
		cmocka_unit_test(test_a_table_is_protected_in_every_address_space),
		cmocka_unit_test(test_the_audit_finds_a_leaf_that_may_be_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
