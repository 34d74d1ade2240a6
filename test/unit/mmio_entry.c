/* SPDX-License-Identifier: MIT */
/* MMIO entries (F48, F50): their contents can be read back, and on a CPU with L1TF they name no address of memory. */
#include "test/unit/threads.h"

#include "core/format/spte.h"
#include "test/common/quiet.h"
#include "test/common/thost.h"

static const struct format *const formats[] = { &format_npt, &format_ept, &format_ept_no_ad };

static void entry_check(const struct format *format, unsigned l1d_phys_bits, uint64_t gfn, uint64_t generation)
{
	spte_t guard = mmio_guard(l1d_phys_bits), spte = spte_make_mmio(format, guard, GFN(gfn), generation);
	uint64_t top = l1d_phys_bits ? spte >> (l1d_phys_bits - 5) & 31 : 31;

	assert_true(spte_is_mmio(format, spte));
	assert_false(spte_is_present(spte));
	assert_int_equal(spte_mmio_gfn(guard, spte).v, gfn);
	assert_int_equal(spte_mmio_generation(spte), generation & MMIO_GENERATION_MASK);
	assert_int_equal(top, 31); /* the address, in the bits that the cache compares, is at the very top */
	assert_true(spte & VMMU_ENTRY_RSVD); /* hardware faults on the entry */
}

static void test_what_is_put_in_comes_out(void **state)
{
	(void)state;
	for (unsigned f = 0; f < array_size(formats); f++)
		for (unsigned bits = 0; bits <= 46; bits += bits ? 1 : 36) {
			unsigned wide = bits ? bits : VMMU_HOST_PHYS_BITS;

			for (unsigned bit = 0; bit < wide - PAGE_SHIFT; bit++) {
				entry_check(formats[f], bits, BIT(bit), bit);
				entry_check(formats[f], bits, BIT(wide - PAGE_SHIFT) - 1 - BIT(bit), ~BIT(bit % 18));
			}
			entry_check(formats[f], bits, 0, 0);
			entry_check(formats[f], bits, BIT(wide - PAGE_SHIFT) - 1, ~UINT64_C(0));
		}
}

static enum vmmu_status make(unsigned l1d_phys_bits, unsigned guest_phys_bits)
{
	struct thost host = { 0 };
	struct vmmu_config config = {
		.size = sizeof(config),
		.host = &thost_ops, .host_state = &host,
		.l1d_phys_bits = l1d_phys_bits, .guest_phys_bits = guest_phys_bits
	};
	struct vmmu_vm *vm;
	enum vmmu_status status = vmmu_vm_create(&config, &vm);

	if (status == VMMU_OK)
		vmmu_vm_destroy(vm);
	return status;
}

static void test_widths_that_leave_no_room_are_refused(void **state)
{
	(void)state;
	assert_int_equal(make(46, 46), VMMU_OK);
	assert_int_equal(make(36, 36), VMMU_OK);
	assert_int_equal(make(44, 40), VMMU_OK);
	assert_int_equal(make(44, 0), VMMU_EINVAL); /* 0 means 48 bits */
	assert_int_equal(make(44, 45), VMMU_EINVAL);
	assert_int_equal(make(47, 40), VMMU_EINVAL);
	assert_int_equal(make(35, 32), VMMU_EINVAL);
}

/* The first fault installs the entry, and a later one recognises it. */
static void test_a_guarded_entry_is_known_again(void **state)
{
	(void)state;
	for (enum vmmu_format format = VMMU_FORMAT_NPT4; format <= VMMU_FORMAT_EPT5_NO_AD; format++) {
		struct thost host = { 0 };
		struct vmmu_config config = {
			.size = sizeof(config),
			.host = &thost_ops, .host_state = &host,
			.format = format, .l1d_phys_bits = 44, .guest_phys_bits = 44
		};
		struct vmmu_gpa gpa = { (UINT64_C(1) << 43) + 0x5000 }, other = { gpa.v + 0x1000 };
		uint64_t again = VMMU_PF_USER | VMMU_PF_PRESENT | VMMU_PF_RSVD;
		struct vmmu_vcpu *vcpu;
		struct vmmu_entry entry;
		struct vmmu_vm *vm;

		assert_int_equal(vmmu_vm_create(&config, &vm), VMMU_OK);
		assert_int_equal(vmmu_vcpu_create(vm, 0, NULL, &vcpu), VMMU_OK);
		assert_int_equal(vmmu_vcpu_enter(vcpu, &entry), VMMU_ENTER_RUN);
		vmmu_vcpu_leave(vcpu);
		assert_int_equal(vmmu_fault(vcpu, gpa, VMMU_PF_USER), VMMU_FAULT_MMIO);
		/* Now the vCPU's cache holds the other address, so that the next fault must read the entry. */
		assert_int_equal(vmmu_fault(vcpu, other, VMMU_PF_USER), VMMU_FAULT_MMIO);
		assert_int_equal(vmmu_fault(vcpu, gpa, again), VMMU_FAULT_MMIO);
		assert_true(quiet_audit(vm, NULL)); /* checks that each entry names its own gfn, with the VM's guard */
		vmmu_vcpu_destroy(vcpu);
		vmmu_vm_destroy(vm);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_put_in_comes_out),
		cmocka_unit_test(test_widths_that_leave_no_room_are_refused),
		cmocka_unit_test(test_a_guarded_entry_is_known_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
