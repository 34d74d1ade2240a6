/* SPDX-License-Identifier: MIT */
/* A fault that must not wait for the host's page (F68), on both MMUs. */
#include "test/unit/dirty_fixture.h"

#include <vmmu/memory.h>
#include <vmmu/mmu.h>

#include "core/base/types.h"

#define PAGE   40
#define GPA_OF(page) ((BASE + (page)) * 4096)

static const enum vmmu_mmu mmus[] = { VMMU_MMU_TDP, VMMU_MMU_SHADOW };

/* One fault of vCPU 0, which is outside the guest. */
static enum vmmu_page_fault fault(struct fixture *f, enum vmmu_mmu mmu, uint64_t page, uint64_t error)
{
	struct vmmu_page_info info;
	enum vmmu_page_fault answer;

	if (mmu == VMMU_MMU_TDP)
		return (enum vmmu_page_fault)vmmu_fault(f->vcpu[0], GPA(GPA_OF(page)), error | VMMU_PF_USER);
	answer = vmmu_page_fault(f->vcpu[0], GVA(GPA_OF(page)), error, 0, &info);
	assert_int_equal(info.gpa.v, GPA_OF(page));
	return answer;
}

static void test_fault_says_that_it_would_wait(void **state)
{
	(void)state;
	for (unsigned i = 0; i < array_size(mmus); i++) {
		struct fixture *f = fixture_make_on(mmus[i], 0, false, VMMU_FORMAT_NPT4);
		enum vmmu_mmu mmu = mmus[i];

		region_set(f, LOG, PAGES);
		guest_read(f, 0, 0); /* the root is there */
		f->host.busy = true;
		assert_int_equal(fault(f, mmu, PAGE, VMMU_PF_NOWAIT), VMMU_PAGE_WAIT);
		assert_int_equal(fault(f, mmu, PAGE, VMMU_PF_NOWAIT | VMMU_PF_WRITE), VMMU_PAGE_WAIT);
		assert_int_equal(fault(f, mmu, PAGE, VMMU_PF_NOWAIT | VMMU_PF_FETCH), VMMU_PAGE_WAIT);
		/* Nothing was mapped, and nothing marked. */
		memset(f->bitmap, 0, sizeof(f->bitmap));
		assert_int_equal(vmmu_dirty_get(f->vm, 0, SLOT, f->bitmap, WORDS), VMMU_OK);
		assert_int_equal(f->bitmap[PAGE / 64], 0);
		/* Who does not say so waits. */
		assert_int_equal(fault(f, mmu, PAGE, VMMU_PF_WRITE), VMMU_PAGE_FIXED);
		/* What is mapped needs no page. What the host has is mapped at once. */
		assert_int_equal(fault(f, mmu, PAGE, VMMU_PF_NOWAIT | VMMU_PF_WRITE | VMMU_PF_PRESENT),
		                 mmu == VMMU_MMU_TDP ? VMMU_PAGE_FIXED : VMMU_PAGE_WAIT);
		f->host.busy = false;
		assert_int_equal(fault(f, mmu, PAGE + 1, VMMU_PF_NOWAIT | VMMU_PF_WRITE), VMMU_PAGE_FIXED);
		fixture_free(f);
	}
}

static void test_host_that_is_busy_by_itself_has_no_page(void **state)
{
	struct fixture *f = fixture_make(0, false, VMMU_FORMAT_NPT4);

	(void)state;
	guest_read(f, 0, 0);
	f->host.page_fail_with = VMMU_EBUSY;
	f->host.page_fail = 1;
	assert_int_equal(fault(f, VMMU_MMU_TDP, PAGE, 0), VMMU_PAGE_HOST);
	fixture_free(f);
}

static void test_host_address_is_that_of_the_slot(void **state)
{
	static const enum { BITMAP, RINGS } logs[] = { BITMAP, RINGS };

	(void)state;
	for (unsigned i = 0; i < array_size(logs); i++) {
		struct fixture *f = fixture_make(0, logs[i] == RINGS, VMMU_FORMAT_NPT4);
		struct vmmu_hva hva;

		region_set(f, LOG, PAGES);
		assert_int_equal(vmmu_memory_hva(f->vm, 0, GPA(GPA_OF(PAGE) + 5), &hva), VMMU_OK);
		assert_int_equal(hva.v, (uintptr_t)f->memory + PAGE * 4096 + 5);
		assert_int_equal(vmmu_memory_hva(f->vm, 0, GPA(GPA_OF(PAGES)), &hva), VMMU_ENOENT);
		assert_int_equal(vmmu_memory_hva(f->vm, 1, GPA(GPA_OF(PAGE)), &hva), VMMU_EINVAL);
		fixture_free(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fault_says_that_it_would_wait),
		cmocka_unit_test(test_host_that_is_busy_by_itself_has_no_page),
		cmocka_unit_test(test_host_address_is_that_of_the_slot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
