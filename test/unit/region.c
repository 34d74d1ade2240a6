/* SPDX-License-Identifier: MIT */
/* vmmu_region_set and vmmu_region_get on a whole VM: their answers, and that nothing of an old slot is left (I3.1). */
#include "test/unit/threads.h"

#include <sys/mman.h>

#include "core/audit/audit.h"
#include "core/vm/vm_int.h"
#include "test/common/mcpu.h"
#include "test/common/thost.h"

#define PAGES UINT64_C(600)

struct fixture {
	struct vmmu_vm *vm;
	struct vmmu_vcpu *vcpu;
	struct thost host;
	struct mcpu cpu;
	uint64_t *memory[2];
};

static struct fixture *fixture_make(bool delete_zaps_slot)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct vmmu_config config = {
		.size = sizeof(config),
		.host = &thost_ops,
		.host_state = &f->host,
		.address_spaces = 2,
		.slot_delete_zaps_slot = delete_zaps_slot,
	};

	assert_int_equal(vmmu_vm_create(&config, &f->vm), VMMU_OK);
	assert_int_equal(vmmu_vcpu_create(f->vm, 0, NULL, &f->vcpu), VMMU_OK);
	mcpu_init(&f->cpu, f->vcpu);
	for (unsigned i = 0; i < 2; i++) {
		f->memory[i] = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		assert_ptr_not_equal(f->memory[i], MAP_FAILED);
		for (uint64_t page = 0; page < PAGES; page++)
			f->memory[i][page * 512] = i * 10000 + page;
	}
	return f;
}

static void audit(struct fixture *f)
{
	struct audit_report report = { .max_lines = 5 };

	mcpu_leave(&f->cpu);
	assert_true(audit_vm(&f->vm->vm, &report));
}

static void fixture_free(struct fixture *f)
{
	mcpu_leave(&f->cpu);
	vmmu_vcpu_destroy(f->vcpu);
	vmmu_vm_destroy(f->vm);
	assert_true(thost_is_empty(&f->host));
	for (unsigned i = 0; i < 2; i++)
		munmap(f->memory[i], PAGES * 4096);
	free(f);
}

static struct vmmu_region region_of(struct fixture *f, uint32_t slot, uint64_t gfn, unsigned memory)
{
	return (struct vmmu_region){
		.slot = slot,
		.gpa = { gfn * 4096 },
		.bytes = PAGES * 4096,
		.hva = { (uintptr_t)f->memory[memory] },
	};
}

/* What the guest reads at a page; -1: there is no memory. */
static int64_t guest_reads(struct fixture *f, uint64_t gfn)
{
	uint64_t value = 0;
	enum mcpu_result result = mcpu_read(&f->cpu, gfn * 4096, &value);

	mcpu_leave(&f->cpu);
	assert_true(result == MCPU_OK || result == MCPU_MMIO);
	return result == MCPU_OK ? (int64_t)value : -1;
}

static void test_get_returns_what_was_set(void **state)
{
	struct fixture *f = fixture_make(false);
	struct vmmu_region set = region_of(f, 77, 1000, 0), got;

	(void)state;
	memset(&got, 0x5a, sizeof(got));
	assert_int_equal(vmmu_region_get(f->vm, 0, 77, &got), VMMU_ENOENT);
	assert_int_equal(vmmu_region_get(f->vm, 2, 77, &got), VMMU_ENOENT);
	assert_int_equal(vmmu_region_get(f->vm, UINT32_MAX, UINT32_MAX, &got), VMMU_ENOENT);
	assert_int_equal(got.slot, 0x5a5a5a5a);
	set.address_space = 1;
	set.flags = VMMU_SLOT_READONLY;
	assert_int_equal(vmmu_region_set(f->vm, &set), VMMU_OK);
	assert_int_equal(vmmu_region_get(f->vm, 0, 77, &got), VMMU_ENOENT);
	assert_int_equal(vmmu_region_get(f->vm, 1, 77, &got), VMMU_OK);
	assert_int_equal(got.slot, set.slot);
	assert_int_equal(got.address_space, set.address_space);
	assert_int_equal(got.flags, set.flags);
	assert_int_equal(got.gpa.v, set.gpa.v);
	assert_int_equal(got.bytes, set.bytes);
	assert_int_equal(got.hva.v, set.hva.v);
	fixture_free(f);
}

/* The model CPU keeps its translations unless it is told to flush. So an entry or a cache that survives is noticed. */
static void nothing_of_the_old_slot_is_left(bool delete_zaps_slot)
{
	struct fixture *f = fixture_make(delete_zaps_slot);
	struct vmmu_region a = region_of(f, 0, 1000, 0), b = region_of(f, 1, 5000, 1);

	assert_int_equal(vmmu_region_set(f->vm, &a), VMMU_OK);
	assert_int_equal(vmmu_region_set(f->vm, &b), VMMU_OK);
	for (unsigned round = 0; round < 5; round++) {
		for (uint64_t page = 0; page < PAGES; page += 37) {
			assert_int_equal(guest_reads(f, 1000 + page), page);
			assert_int_equal(guest_reads(f, 5000 + page), 10000 + page);
			assert_int_equal(guest_reads(f, 3000 + page), -1);
		}
		/* Move it: the old place becomes empty, and at the new one the MMIO entries are stale (P10). */
		a.gpa.v = 3000 * 4096;
		assert_int_equal(vmmu_region_set(f->vm, &a), VMMU_OK);
		audit(f);
		for (uint64_t page = 0; page < PAGES; page += 37) {
			assert_int_equal(guest_reads(f, 1000 + page), -1);
			assert_int_equal(guest_reads(f, 3000 + page), page);
			assert_int_equal(guest_reads(f, 5000 + page), 10000 + page);
		}
		/* Delete it, and put other memory in the same place. */
		a.bytes = 0;
		assert_int_equal(vmmu_region_set(f->vm, &a), VMMU_OK);
		audit(f);
		assert_int_equal(guest_reads(f, 3000), -1);
		a = region_of(f, 0, 3000, 1);
		assert_int_equal(vmmu_region_set(f->vm, &a), VMMU_OK);
		assert_int_equal(guest_reads(f, 3000), 10000);
		assert_int_equal(guest_reads(f, 3001), 10001);
		a.bytes = 0;
		assert_int_equal(vmmu_region_set(f->vm, &a), VMMU_OK);
		a = region_of(f, 0, 1000, 0);
		assert_int_equal(vmmu_region_set(f->vm, &a), VMMU_OK);
		audit(f);
	}
	fixture_free(f);
}

static void test_move_and_delete_leave_no_mapping(void **state)
{
	(void)state;
	nothing_of_the_old_slot_is_left(false);
	nothing_of_the_old_slot_is_left(true);
}

/* A deleted slot takes all mappings with it or only its own, as was chosen last. */
static void test_deletion_zaps_what_was_chosen(void **state)
{
	struct fixture *f = fixture_make(true);
	struct vmmu_stats stats;

	(void)state;
	for (unsigned round = 0; round < 4; round++) {
		struct vmmu_region a = region_of(f, 0, 1000, 0), b = region_of(f, 1, 5000, 1);
		bool zaps_slot = round == 0 || round == 2;

		if (round > 0)
			vmmu_slot_delete_set(f->vm, zaps_slot);
		assert_int_equal(vmmu_region_set(f->vm, &a), VMMU_OK);
		assert_int_equal(vmmu_region_set(f->vm, &b), VMMU_OK);
		assert_int_equal(guest_reads(f, 1000), 0);
		assert_int_equal(guest_reads(f, 5000), 10000);
		b.bytes = 0;
		assert_int_equal(vmmu_region_set(f->vm, &b), VMMU_OK);
		vmmu_stats_get(f->vm, &stats, sizeof(stats));
		assert_int_equal(stats.pages_4k + stats.pages_2m > 0, zaps_slot);
		a.bytes = 0;
		assert_int_equal(vmmu_region_set(f->vm, &a), VMMU_OK);
	}
	fixture_free(f);
}

static void test_dead_vm_changes_no_slot(void **state)
{
	struct fixture *f = fixture_make(false);
	struct vmmu_region a = region_of(f, 0, 1000, 0);
	uint64_t count, bitmap[16];

	(void)state;
	vm_die(&f->vm->vm, __FILE__, __LINE__, "on purpose");
	assert_true(vmmu_vm_is_dead(f->vm));
	assert_int_equal(vmmu_region_set(f->vm, &a), VMMU_EDEAD);
	assert_int_equal(vmmu_region_get(f->vm, 0, 0, &a), VMMU_ENOENT);
	assert_int_equal(vmmu_dirty_get(f->vm, 0, 0, bitmap, 16), VMMU_EDEAD);
	assert_int_equal(vmmu_dirty_clear(f->vm, 0, 0, 0, 64, bitmap), VMMU_EDEAD);
	assert_int_equal(vmmu_dirty_ring_reset(f->vm, &count), VMMU_EDEAD);
	fixture_free(f);
}

/* An invalidation that never ends does not keep the VM from being destroyed. */
static void test_vm_is_destroyed_with_an_invalidation_in_flight(void **state)
{
	struct fixture *f = fixture_make(false);
	struct vmmu_region a = region_of(f, 0, 1000, 0);

	(void)state;
	assert_int_equal(vmmu_region_set(f->vm, &a), VMMU_OK);
	assert_int_equal(guest_reads(f, 1000), 0);
	vmmu_invalidate_begin(f->vm, (struct vmmu_hva){ a.hva.v }, (struct vmmu_hva){ a.hva.v + 4096 });
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_get_returns_what_was_set),
		cmocka_unit_test(test_move_and_delete_leave_no_mapping),
		cmocka_unit_test(test_deletion_zaps_what_was_chosen),
		cmocka_unit_test(test_dead_vm_changes_no_slot),
		cmocka_unit_test(test_vm_is_destroyed_with_an_invalidation_in_flight),
	};

	return cmocka_run_group_tests(tests, watchdog_setup, NULL);
}
