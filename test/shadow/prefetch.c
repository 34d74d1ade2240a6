/* SPDX-License-Identifier: MIT */
/*
 * Prefetch (F44): which neighbours a fault maps, and which it must not map. One vCPU in 64-bit mode, whose guest maps
 * memory one to one by 4 KiB entries.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <vmmu/vmmu.h>

#define RAM    (4u << 20)
#define ROOT   0x1000u
#define TABLES 0x4000u /* the 4K-level table, which maps 2 MiB */
#define FIRST  64u     /* pages FIRST .. FIRST + 7 share a cache line of entries */
#define HIT    (FIRST + 3)
#define ENTRY  0x67u   /* P W U A D */
#define GPTE_A 0x20u
#define GPTE_D 0x40u

static struct fixture {
	struct vmmu_host host;
	struct vmmu_vm *vm;
	struct vmmu_vcpu *vcpu;
	char *ram;
	bool neighbours;         /* what the host answers */
	enum vmmu_level level;
	uint64_t invalidating;   /* a page that the host begins to take away while it answers; 0: none */
} f;

static struct vmmu_hva hva_of(uint64_t page)
{
	return (struct vmmu_hva){ (uintptr_t)f.ram + page * 4096 };
}

static enum vmmu_status page_get(void *state, struct vmmu_hva hva, unsigned access, struct vmmu_host_page *out)
{
	enum vmmu_status status = vmmu_host_posix.page_get(state, hva, access, out);

	out->neighbours = f.neighbours;
	out->max_level = f.level;
	if (f.invalidating)
		vmmu_invalidate_begin(f.vm, hva_of(f.invalidating), hva_of(f.invalidating + 1));
	return status;
}

static uint64_t *guest_entry(uint64_t page)
{
	return (uint64_t *)(f.ram + TABLES) + page;
}

static void slot_set(uint32_t flags)
{
	struct vmmu_region region = { .bytes = RAM, .hva.v = (uintptr_t)f.ram, .flags = flags };

	assert_int_equal(vmmu_region_set(f.vm, &region), VMMU_OK);
}

static int setup(void **state)
{
	struct vmmu_config config = { .size = sizeof(config), .host = &f.host, .mmu = VMMU_MMU_SHADOW };
	struct vmmu_guest_regs regs = { .cr0 = 0x80010001, .cr3 = ROOT, .cr4 = 0x20, .efer = 0xd00, .phys_bits = 40 };

	(void)state;
	memset(&f, 0, sizeof(f));
	f.host = vmmu_host_posix;
	f.host.page_get = page_get;
	f.neighbours = true;
	f.level = VMMU_LEVEL_4K;
	f.ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (unsigned i = 0; i < 3; i++)
		*(uint64_t *)(f.ram + ROOT + i * 0x1000) = (ROOT + (i + 1) * 0x1000) | ENTRY;
	for (uint64_t page = 0; page < 512; page++)
		*guest_entry(page) = page << 12 | ENTRY;
	assert_int_equal(vmmu_vm_create(&config, &f.vm), VMMU_OK);
	slot_set(0);
	assert_int_equal(vmmu_vcpu_create(f.vm, 0, NULL, &f.vcpu), VMMU_OK);
	vmmu_guest_regs_set(f.vcpu, &regs, false);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_false(vmmu_vm_is_dead(f.vm));
	vmmu_vcpu_destroy(f.vcpu);
	vmmu_vm_destroy(f.vm);
	munmap(f.ram, RAM);
	return 0;
}

static enum vmmu_page_fault fault(bool write)
{
	struct vmmu_page_info info;
	struct vmmu_entry entry;

	assert_int_equal(vmmu_vcpu_enter(f.vcpu, &entry), VMMU_ENTER_RUN);
	vmmu_vcpu_leave(f.vcpu);
	return vmmu_page_fault(f.vcpu, (struct vmmu_gva){ HIT * 4096 }, write ? VMMU_PF_WRITE : 0, 0, &info);
}

/* The entry that the CPU would find for a page; 0: there is none. */
static uint64_t entry_of(uint64_t page)
{
	struct vmmu_entry entry;
	const uint64_t *table;
	uint64_t e = 0;

	assert_int_equal(vmmu_vcpu_enter(f.vcpu, &entry), VMMU_ENTER_RUN);
	table = entry.root;
	for (unsigned level = entry.levels; level > 0; level--) {
		e = table[page >> (9 * (level - 1)) & 511];
		if (!(e & VMMU_NPT_P))
			break;
		table = (const uint64_t *)(uintptr_t)(e & VMMU_ENTRY_ADDR);
	}
	vmmu_vcpu_leave(f.vcpu);
	return e & VMMU_NPT_P ? e : 0;
}

static unsigned mapped(void)
{
	unsigned count = 0;

	for (uint64_t page = 0; page < 512; page++)
		count += entry_of(page) != 0;
	return count;
}

static void test_prefetch_read_fault_maps_the_cache_line(void **state)
{
	(void)state;
	assert_int_equal(fault(false), VMMU_PAGE_FIXED);
	assert_int_equal(mapped(), 8);
	for (uint64_t page = FIRST; page < FIRST + 8; page++) {
		uint64_t e = entry_of(page);

		assert_int_equal(e & VMMU_ENTRY_ADDR, hva_of(page).v);
		assert_true(e & VMMU_NPT_W);
		assert_int_equal(!!(e & VMMU_NPT_A), page == HIT); /* a neighbour is not young before it is used */
		assert_false(e & VMMU_NPT_D);
	}
}

static void test_prefetch_host_not_asked_maps_one(void **state)
{
	(void)state;
	f.neighbours = false;
	assert_int_equal(fault(false), VMMU_PAGE_FIXED);
	assert_int_equal(mapped(), 1);
	f.level = VMMU_LEVEL_2M; /* the host answers for a whole block: its other pages need not be asked for, either */
	*guest_entry(FIRST + 4) = (uint64_t)(FIRST + 600) << 12 | ENTRY; /* this one may be in another block */
	vmmu_invalidate_begin(f.vm, hva_of(0), hva_of(512));
	vmmu_invalidate_end(f.vm, hva_of(0), hva_of(512));
	assert_int_equal(fault(false), VMMU_PAGE_FIXED);
	for (uint64_t page = FIRST; page < FIRST + 8; page++) {
		uint64_t target = page == FIRST + 4 ? FIRST + 600 : page;
		bool same = hva_of(target).v >> 21 == hva_of(HIT).v >> 21;

		assert_int_equal(entry_of(page) != 0, same);
	}
}

static void test_prefetch_page_that_goes_away_is_not_mapped(void **state)
{
	(void)state;
	f.invalidating = FIRST + 5;
	assert_int_equal(fault(false), VMMU_PAGE_RETRY);
	assert_int_equal(entry_of(FIRST + 5), 0); /* I5.4 */
	vmmu_invalidate_end(f.vm, hva_of(f.invalidating), hva_of(f.invalidating + 1));
	f.invalidating = 0;
	assert_int_equal(fault(false), VMMU_PAGE_FIXED);
	assert_int_equal(mapped(), 8);
}

static void test_prefetch_logged_slot_is_read_only(void **state)
{
	uint64_t bitmap[RAM / 4096 / 64];

	(void)state;
	slot_set(VMMU_SLOT_LOG_DIRTY);
	assert_int_equal(fault(true), VMMU_PAGE_FIXED);
	assert_int_equal(mapped(), 8);
	for (uint64_t page = FIRST; page < FIRST + 8; page++)
		assert_int_equal(!!(entry_of(page) & VMMU_NPT_W), page == HIT);
	assert_int_equal(vmmu_dirty_get(f.vm, 0, 0, bitmap, RAM / 4096 / 64), VMMU_OK);
	assert_true(bitmap[HIT / 64] == 1ull << (HIT % 64));
}

static void test_prefetch_guest_bits_decide(void **state)
{
	uint64_t pristine[8];

	(void)state;
	*guest_entry(FIRST) &= ~(uint64_t)1;
	*guest_entry(FIRST + 1) &= ~(uint64_t)GPTE_A; /* the CPU would have to set A */
	*guest_entry(FIRST + 2) &= ~(uint64_t)GPTE_D; /* the CPU would have to set D for a write: read-only */
	*guest_entry(FIRST + 4) |= 1ull << 45;        /* reserved */
	*guest_entry(FIRST + 5) = (uint64_t)1 << 32 | ENTRY; /* there is no memory */
	*guest_entry(FIRST + 6) = (uint64_t)(FIRST + 9) << 12 | ENTRY; /* in the range of the host's answer */
	*guest_entry(FIRST + 7) = (uint64_t)(FIRST + 200) << 12 | ENTRY; /* outside that range */
	memcpy(pristine, guest_entry(FIRST), sizeof(pristine));
	assert_int_equal(fault(false), VMMU_PAGE_FIXED);
	assert_memory_equal(pristine, guest_entry(FIRST), sizeof(pristine));
	assert_int_equal(mapped(), 3);
	assert_true(entry_of(FIRST + 2) && !(entry_of(FIRST + 2) & VMMU_NPT_W));
	assert_int_equal(entry_of(FIRST + 6) & VMMU_ENTRY_ADDR, hva_of(FIRST + 9).v);
}

static void test_prefetch_guest_table_is_read_only(void **state)
{
	(void)state;
	*guest_entry(FIRST + 1) = TABLES | ENTRY;   /* its shadow page is in sync, and stays so */
	*guest_entry(HIT) = (TABLES / 4096 + 2) << 12 | ENTRY;
	*guest_entry(FIRST + 2) = ROOT | ENTRY;     /* a table above 4K level is never writable */
	assert_int_equal(fault(false), VMMU_PAGE_FIXED);
	assert_true(entry_of(FIRST + 1) && !(entry_of(FIRST + 1) & VMMU_NPT_W));
	assert_true(entry_of(FIRST + 2) && !(entry_of(FIRST + 2) & VMMU_NPT_W));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_prefetch_read_fault_maps_the_cache_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_prefetch_host_not_asked_maps_one, setup, teardown),
		cmocka_unit_test_setup_teardown(test_prefetch_page_that_goes_away_is_not_mapped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_prefetch_logged_slot_is_read_only, setup, teardown),
		cmocka_unit_test_setup_teardown(test_prefetch_guest_bits_decide, setup, teardown),
		cmocka_unit_test_setup_teardown(test_prefetch_guest_table_is_read_only, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
