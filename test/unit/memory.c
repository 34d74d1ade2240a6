/* SPDX-License-Identifier: MIT */
/* Reading and writing guest memory on a thread that is not a vCPU's, as a device model does. */
#include "test/unit/dirty_fixture.h"

#include <pthread.h>
#include <sys/mman.h>
#include <vmmu/memory.h>

#include "core/base/types.h"

#define GPA_OF(page) ((struct vmmu_gpa){ (BASE + (page)) * 4096 })

static uint64_t log_take(struct fixture *f, uint64_t page)
{
	memset(f->bitmap, 0, sizeof(f->bitmap));
	assert_int_equal(vmmu_dirty_get(f->vm, 0, SLOT, f->bitmap, WORDS), VMMU_OK);
	return f->bitmap[page / 64] >> (page % 64);
}

static void test_memory_write_is_read_and_logged(void **state)
{
	static const enum vmmu_mmu mmus[] = { VMMU_MMU_TDP, VMMU_MMU_SHADOW };

	(void)state;
	for (unsigned i = 0; i < array_size(mmus); i++) {
		struct fixture *f = fixture_make_on(mmus[i], 0, false, VMMU_FORMAT_NPT4);
		struct vmmu_gpa across = { GPA_OF(21).v - 4 };
		char got[8];

		region_set(f, LOG, PAGES);
		assert_int_equal(vmmu_memory_write(f->vm, 0, across, "12345678", 8), VMMU_OK);
		assert_int_equal(log_take(f, 20) & 7, 3);
		assert_int_equal(vmmu_memory_read(f->vm, 0, across, got, 8), VMMU_OK);
		assert_memory_equal(got, "12345678", 8);
		assert_int_equal(log_take(f, 20), 0); /* a read marks nothing */
		/* The device writes through its own mapping of the page, and marks it. */
		*word_of(f, 40) = 1;
		assert_int_equal(vmmu_memory_written(f->vm, 0, GPA_OF(40), 4096 + 1), VMMU_OK);
		assert_int_equal(log_take(f, 40) & 7, 3);
		assert_int_equal(log_take(f, 40), 0);
		assert_int_equal(vmmu_memory_written(f->vm, 0, GPA_OF(40), 0), VMMU_OK);
		assert_int_equal(log_take(f, 40), 0);
		fixture_free(f);
	}
}

static void test_memory_write_is_all_or_nothing(void **state)
{
	struct fixture *f = fixture_make(0, false, VMMU_FORMAT_NPT4);
	struct vmmu_region rom = { .slot = SLOT + 1, .flags = VMMU_SLOT_READONLY | LOG, .gpa = { 16 << 20 },
	                           .bytes = 4096, .hva = { (uintptr_t)f->memory } };
	struct vmmu_gpa last = { GPA_OF(PAGES).v - 4 };
	uint64_t word = ~UINT64_C(0), bitmap;

	(void)state;
	region_set(f, LOG, PAGES);
	assert_int_equal(vmmu_region_set(f->vm, &rom), VMMU_OK);
	*(uint32_t *)((char *)word_of(f, 0) + (last.v - GPA_OF(0).v)) = 7;
	assert_int_equal(vmmu_memory_write(f->vm, 0, last, &word, 8), VMMU_ENOENT);
	assert_int_equal(vmmu_memory_written(f->vm, 0, last, 8), VMMU_ENOENT);
	assert_int_equal(vmmu_memory_read(f->vm, 0, last, &word, 8), VMMU_ENOENT);
	assert_int_equal(word, ~UINT64_C(0));
	assert_int_equal(log_take(f, PAGES - 1), 0);
	assert_int_equal(vmmu_memory_read(f->vm, 0, (struct vmmu_gpa){ UINT64_MAX - 3 }, &word, 8), VMMU_ENOENT);
	assert_int_equal(vmmu_memory_write(f->vm, 1, last, &word, 1), VMMU_EINVAL);
	/* Neither the guest nor a device may write a ROM. A device that wrote through its own mapping may mark it. */
	assert_int_equal(vmmu_memory_write(f->vm, 0, rom.gpa, &word, 8), VMMU_ENOENT);
	assert_int_equal(vmmu_memory_written(f->vm, 0, rom.gpa, 8), VMMU_OK);
	assert_int_equal(vmmu_dirty_get(f->vm, 0, SLOT + 1, &bitmap, 1), VMMU_OK);
	assert_int_equal(bitmap, 1);
	/* The host memory is gone. */
	memory_goes((char *)word_of(f, 30) - (uintptr_t)word_of(f, 30) % 4096, 4096);
	assert_int_equal(vmmu_memory_write(f->vm, 0, GPA_OF(30), &word, 8), VMMU_EFAULT);
	assert_int_equal(vmmu_memory_read(f->vm, 0, GPA_OF(30), &word, 8), VMMU_EFAULT);
	assert_int_equal(log_take(f, 30), 0);
	fixture_free(f);
}

/* A ring belongs to a vCPU. Where there are only rings a device's write cannot be logged, and is refused. */
static void test_memory_write_is_refused_where_only_rings_log(void **state)
{
	struct fixture *f = fixture_make(0, true, VMMU_FORMAT_NPT4);
	uint64_t word = 5;

	(void)state;
	assert_int_equal(vmmu_memory_write(f->vm, 0, GPA_OF(1), &word, 8), VMMU_OK); /* logging is off */
	region_set(f, LOG, PAGES);
	word = 6;
	assert_int_equal(vmmu_memory_write(f->vm, 0, GPA_OF(1), &word, 8), VMMU_EBUSY);
	assert_int_equal(vmmu_memory_written(f->vm, 0, GPA_OF(1), 8), VMMU_EBUSY);
	assert_int_equal(vmmu_memory_read(f->vm, 0, GPA_OF(1), &word, 8), VMMU_OK);
	assert_int_equal(word, 5);
	fixture_free(f);
}

struct device {
	struct fixture *f;
	bool own_mapping;
	bool stop;
	uint64_t stores;
};

static void *device_main(void *arg)
{
	struct device *device = arg;

	while (!__atomic_load_n(&device->stop, __ATOMIC_RELAXED)) {
		uint64_t page = device->stores % 64 * 8, value = device->stores / 64 + 1;

		if (device->own_mapping) {
			__atomic_store_n((uint64_t *)(device->f->memory + page * 4096), value, __ATOMIC_RELAXED);
			CHECK(vmmu_memory_written(device->f->vm, 0, GPA_OF(page), 8) == VMMU_OK);
		} else {
			CHECK(vmmu_memory_write(device->f->vm, 0, GPA_OF(page), &value, 8) == VMMU_OK);
		}
		__atomic_store_n(&device->stores, device->stores + 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* P11: a copy that follows the log has every store of the device once the device has stopped. */
static void test_memory_written_beside_harvests_loses_nothing(void **state)
{
	(void)state;
	for (unsigned own = 0; own < 2; own++) {
		struct fixture *f = fixture_make(0, false, VMMU_FORMAT_NPT4);
		struct device device = { f, own, false, 0 };
		pthread_t thread;

		region_set(f, LOG, PAGES);
		assert_int_equal(pthread_create(&thread, NULL, device_main, &device), 0);
		for (unsigned round = 0; !__atomic_load_n(&device.stop, __ATOMIC_RELAXED); round++) {
			if (round >= 2000 && __atomic_load_n(&device.stores, __ATOMIC_RELAXED) >= 2000) {
				__atomic_store_n(&device.stop, true, __ATOMIC_RELAXED);
				pthread_join(thread, NULL);
			}
			log_take(f, 0);
			for (uint64_t page = 0; page < PAGES; page++)
				if (f->bitmap[page / 64] >> (page % 64) & 1)
					f->copy[page] = __atomic_load_n((uint64_t *)(f->memory + page * 4096),
					                                __ATOMIC_RELAXED);
		}
		for (uint64_t page = 0; page < PAGES; page++)
			assert_int_equal(f->copy[page], *(uint64_t *)(f->memory + page * 4096));
		fixture_free(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory_write_is_read_and_logged),
		cmocka_unit_test(test_memory_write_is_all_or_nothing),
		cmocka_unit_test(test_memory_write_is_refused_where_only_rings_log),
		cmocka_unit_test(test_memory_written_beside_harvests_loses_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
