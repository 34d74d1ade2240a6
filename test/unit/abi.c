/* SPDX-License-Identifier: MIT */
/* How a program and a library of different versions recognise each other. */
#include "test/unit/test.h"

#include <vmmu/vmmu.h>

static enum vmmu_status create(const struct vmmu_config *config)
{
	struct vmmu_vm *vm;
	enum vmmu_status status = vmmu_vm_create(config, &vm);

	if (status == VMMU_OK)
		vmmu_vm_destroy(vm);
	return status;
}

static void test_version_is_the_project_s(void **state)
{
	char text[32];

	(void)state;
	snprintf(text, sizeof(text), "%u.%u.%u", vmmu_version() >> 16, vmmu_version() >> 8 & 255, vmmu_version() & 255);
	assert_string_equal(text, PROJECT_VERSION);
	assert_int_equal(vmmu_version(), VMMU_VERSION);
}

static void test_config_of_another_version_is_read_as_far_as_both_know(void **state)
{
	struct {
		struct vmmu_config config;
		uint64_t later;
	} big = { .config = { .size = sizeof(big), .host = &vmmu_host_posix } };
	struct vmmu_config config = { .host = &vmmu_host_posix };

	(void)state;
	assert_int_equal(create(&config), VMMU_EINVAL); /* no size */
	config.size = offsetof(struct vmmu_config, host) + sizeof(config.host);
	config.max_vcpus = VMMU_MAX_VCPUS + 1; /* a field that lies beyond the size that the program gives */
	assert_int_equal(create(&config), VMMU_OK);
	config.size = sizeof(config);
	assert_int_equal(create(&config), VMMU_EINVAL);
	assert_int_equal(create(&big.config), VMMU_OK);
	big.later = 1;
	assert_int_equal(create(&big.config), VMMU_E2BIG);
}

static void test_stats_are_as_long_as_the_program_knows(void **state)
{
	const struct vmmu_config config = { .size = sizeof(config), .host = &vmmu_host_posix };
	struct {
		struct vmmu_stats stats;
		uint64_t later, beyond;
	} got;
	struct vmmu_vm *vm;

	(void)state;
	assert_int_equal(vmmu_vm_create(&config, &vm), VMMU_OK);
	memset(&got, 0xff, sizeof(got));
	vmmu_stats_get(vm, &got.stats, sizeof(got.stats) + 8);
	assert_int_equal(got.later, 0);
	assert_int_equal(got.beyond, ~UINT64_C(0));
	assert_int_equal(got.stats.faults_fixed, 0);
	assert_true(got.stats.slot_bytes > 0);
	memset(&got, 0xff, sizeof(got));
	vmmu_stats_get(vm, &got.stats, 8);
	assert_int_equal(got.stats.faults_fixed, 0);
	assert_int_equal(got.stats.faults_fast, ~UINT64_C(0));
	vmmu_vm_destroy(vm);
}

static void test_address_space_that_is_not_there_is_refused(void **state)
{
	const struct vmmu_config config = { .size = sizeof(config), .host = &vmmu_host_posix, .address_spaces = 2 };
	struct vmmu_vcpu *vcpu;
	struct vmmu_vm *vm;

	(void)state;
	assert_int_equal(vmmu_vm_create(&config, &vm), VMMU_OK);
	assert_int_equal(vmmu_vcpu_create(vm, 0, NULL, &vcpu), VMMU_OK);
	assert_int_equal(vmmu_vcpu_address_space_set(vcpu, 0), VMMU_OK);
	assert_int_equal(vmmu_vcpu_address_space_set(vcpu, 1), VMMU_OK);
	assert_int_equal(vmmu_vcpu_address_space_set(vcpu, 2), VMMU_EINVAL);
	vmmu_vcpu_destroy(vcpu);
	vmmu_vm_destroy(vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_version_is_the_project_s),
		cmocka_unit_test(test_config_of_another_version_is_read_as_far_as_both_know),
		cmocka_unit_test(test_stats_are_as_long_as_the_program_knows),
		cmocka_unit_test(test_address_space_that_is_not_there_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
