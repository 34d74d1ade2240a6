/* SPDX-License-Identifier: MIT */
/*
 * Flushes that the library itself needs, whatever the guest does. In each test vCPU a has a writable translation, and
 * no reason to flush it; vCPU b then brings about a state in which that translation would do harm. Each test is one
 * interleaving of the two, on a CPU whose TLB drops nothing by itself (scpu.h).
 *
 * Also here: shadow pages that two uses of a guest's table must share, or must not share.
 */
#include "test/shadow/scpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "core/shadow/shadow_int.h"
#include "test/common/quiet.h"

#define RAM  (4u << 20)
#define PML4 0x1000u
#define PDPT 0x2000u
#define PD   0x3000u
#define PT   0x4000u   /* maps the first 2 MiB one to one */
#define V    0x100000u
#define T    0x180000u /* a frame that is used as a table later */
#define ALL  0x67u     /* P W U A D */

struct lazy {
	uint8_t *ram;
	struct vmmu_vm *vm;
	struct scpu a, b;
};

static void put(struct lazy *l, uint64_t at, uint64_t value)
{
	memcpy(l->ram + at, &value, 8);
}

static void cpu_make(struct lazy *l, struct scpu *cpu, unsigned id)
{
	memset(cpu, 0, sizeof(*cpu));
	assert_int_equal(vmmu_vcpu_create(l->vm, id, NULL, &cpu->vcpu), VMMU_OK);
	cpu->regs = (struct ref_cpu){ .cr0 = 0x80010001, .cr3 = PML4, .cr4 = 0x20, .efer = 0x500 };
	scpu_regs(cpu);
}

static void slot_set(struct lazy *l, unsigned flags)
{
	struct vmmu_region region = { .bytes = RAM, .flags = flags, .hva = { (uintptr_t)l->ram } };

	assert_int_equal(vmmu_region_set(l->vm, &region), VMMU_OK);
}

static int setup(void **state)
{
	static struct lazy lazy;
	struct lazy *l = &lazy;
	struct vmmu_config config = { .size = sizeof(config), .host = &vmmu_host_posix, .mmu = VMMU_MMU_SHADOW };

	l->ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	put(l, PML4, PDPT | ALL);
	put(l, PDPT, PD | ALL);
	put(l, PD, PT | ALL);
	put(l, PD + 8, T | ALL);
	for (uint64_t i = 0; i < 512; i++)
		put(l, PT + 8 * i, i << 12 | ALL);
	assert_int_equal(vmmu_vm_create(&config, &l->vm), VMMU_OK);
	slot_set(l, 0);
	cpu_make(l, &l->a, 0);
	cpu_make(l, &l->b, 1);
	*state = l;
	return 0;
}

static int teardown(void **state)
{
	struct lazy *l = *state;

	assert_true(quiet_audit(l->vm, NULL));
	assert_false(vmmu_vm_is_dead(l->vm));
	vmmu_vcpu_destroy(l->a.vcpu);
	vmmu_vcpu_destroy(l->b.vcpu);
	vmmu_vm_destroy(l->vm);
	munmap(l->ram, RAM);
	return 0;
}

static enum scpu_outcome write_at(struct scpu *cpu, uint64_t at, uint64_t value)
{
	uint64_t error;

	return scpu_access(cpu, at, REF_WRITE, 8, &value, &error);
}

static uint64_t read_at(struct scpu *cpu, uint64_t at)
{
	uint64_t value = 0, error;

	assert_int_equal(scpu_access(cpu, at, REF_READ, 8, &value, &error), SCPU_DONE);
	return value;
}

/*
 * P8: a writes the table, b flushes, a writes the table again. At b's flush the table must be write-protected before
 * it is read. Then a's second write faults, the page is unsync again, and b's next flush reads the table again.
 */
static void test_flush_before_a_table_is_read_again(void **state)
{
	struct lazy *l = *state;

	for (uint64_t i = 0; i < 16; i++) {
		put(l, V + 0x1000 * i, 1000 + i);
		assert_int_equal(write_at(&l->a, PT + 8 * (V >> 12), (V + 0x1000 * i) | ALL), SCPU_DONE);
		scpu_regs(&l->b);
		assert_int_equal(read_at(&l->b, V), 1000 + i);
	}
}

/* P4: a frame for which a has a writable translation becomes a table that b uses. */
static void test_flush_after_a_table_was_protected(void **state)
{
	struct lazy *l = *state;

	for (uint64_t i = 0; i < 16; i++) {
		put(l, V + 0x1000 * i, 1000 + i);
		assert_int_equal(write_at(&l->a, T + 8, V | ALL), SCPU_DONE);
		scpu_regs(&l->b);
		assert_int_equal(read_at(&l->b, 0x201000), 1000);
		assert_int_equal(write_at(&l->a, T + 8, (V + 0x1000 * i) | ALL), SCPU_DONE);
		scpu_regs(&l->b);
		assert_int_equal(read_at(&l->b, 0x201000), 1000 + i);
		/* Drop its shadow page, so that the next round begins anew. */
		vmmu_unprotect(l->b.vcpu, (struct vmmu_gpa){ T });
	}
}

/*
 * Rights shrink: b makes the page read-only and flushes. a has not flushed, and may go on writing. But then its write
 * must be logged, although the entry is read-only already when the log is fetched.
 */
static void test_flush_when_rights_shrink(void **state)
{
	struct lazy *l = *state;
	uint64_t log[RAM / 4096 / 64];

	slot_set(l, VMMU_SLOT_LOG_DIRTY);
	for (uint64_t i = 0; i < 8; i++) {
		enum scpu_outcome outcome;

		scpu_regs(&l->a);
		assert_int_equal(write_at(&l->a, V, i), SCPU_DONE);
		assert_int_equal(write_at(&l->b, PT + 8 * (V >> 12), V | (ALL & ~2u)), SCPU_DONE);
		scpu_regs(&l->b);
		assert_int_equal(read_at(&l->b, V), i);
		assert_int_equal(vmmu_dirty_get(l->vm, 0, 0, log, RAM / 4096 / 64), VMMU_OK);
		outcome = write_at(&l->a, V, 100 + i);
		assert_true(outcome == SCPU_DONE || outcome == SCPU_FAULT);
		assert_int_equal(vmmu_dirty_get(l->vm, 0, 0, log, RAM / 4096 / 64), VMMU_OK);
		if (outcome == SCPU_DONE)
			assert_true(log[(V >> 12) / 64] >> ((V >> 12) % 64) & 1);
		assert_int_equal(write_at(&l->b, PT + 8 * (V >> 12), V | ALL), SCPU_DONE);
		scpu_regs(&l->b);
	}
}

/*
 * CR0.WP = 0: a's write to a user's read-only page makes the entry a writable one for the supervisor, until b touches
 * the page as a user. From then on the entry is read-only, so fetching the log finds nothing to protect and does not
 * flush. So a's translation must be gone already, or a's next write is not logged.
 */
static void test_flush_when_a_page_is_the_users_again(void **state)
{
	struct lazy *l = *state;
	uint64_t log[RAM / 4096 / 64];

	put(l, PT + 8 * (V >> 12), V | (ALL & ~2u));
	slot_set(l, VMMU_SLOT_LOG_DIRTY);
	l->a.regs.cr0 = l->b.regs.cr0 = 0x80000001;
	l->b.regs.user = true;
	scpu_regs(&l->a);
	scpu_regs(&l->b);
	for (uint64_t i = 0; i < 8; i++) {
		assert_int_equal(write_at(&l->a, V, i), SCPU_DONE);
		assert_int_equal(read_at(&l->b, V), i);
		assert_int_equal(vmmu_dirty_get(l->vm, 0, 0, log, RAM / 4096 / 64), VMMU_OK);
		assert_int_equal(write_at(&l->a, V, 100 + i), SCPU_DONE);
		assert_int_equal(vmmu_dirty_get(l->vm, 0, 0, log, RAM / 4096 / 64), VMMU_OK);
		assert_true(log[(V >> 12) / 64] >> ((V >> 12) % 64) & 1);
	}
}

#define PML4B 0x5000u /* another root, with its own tables */
#define PTB   0x8000u
#define G     0x100u

static void second_root_make(struct lazy *l)
{
	put(l, PML4B, 0x6000 | ALL);
	put(l, 0x6000, 0x7000 | ALL);
	put(l, 0x7000, PTB | ALL);
	for (uint64_t i = 0; i < 512; i++)
		put(l, PTB + 8 * i, i << 12 | ALL | G);
}

/* MOV to CR3 with bit 63 set ("keep"): translations stay. */
static void cr3_keep(struct lazy *l, uint64_t cr3)
{
	struct vmmu_guest_regs regs = { .cr0 = l->a.regs.cr0, .cr3 = cr3, .cr4 = l->a.regs.cr4, .efer = l->a.regs.efer,
	                                .phys_bits = 48 };

	l->a.regs.cr3 = cr3;
	vmmu_guest_regs_set(l->a.vcpu, &regs, true);
	memset(l->a.tlb, 0, sizeof(l->a.tlb));
}

/*
 * A flush of all contexts, or of another one, must reach a cached root (F34), which the guest then loads with "keep".
 */
static void test_flush_of_all_contexts_reaches_cached_roots(void **state)
{
	struct lazy *l = *state;

	second_root_make(l);
	l->a.regs.cr4 |= 0x80; /* PGE: INVLPG reaches a global page in every context */
	for (uint64_t i = 1; i < 12; i++) {
		put(l, V + 0x1000 * i, 1000 + i);
		l->a.regs.cr3 = PML4B;
		scpu_regs(&l->a);
		read_at(&l->a, V);
		assert_int_equal(write_at(&l->a, PTB + 8 * (V >> 12), (V + 0x1000 * i) | ALL | G), SCPU_DONE);
		cr3_keep(l, PML4);
		read_at(&l->a, V);
		if (i % 5 == 0) {
			scpu_invlpg(&l->a, V);
		} else if (i % 4) {
			vmmu_invpcid(l->a.vcpu, i % 4, 0, (struct vmmu_gva){ 0 });
		} else {
			for (int off = 0; off < 2; off++) {
				l->a.regs.cr4 ^= 0x80;
				scpu_regs(&l->a);
			}
		}
		read_at(&l->a, V);
		cr3_keep(l, PML4B);
		assert_int_equal(read_at(&l->a, V), 1000 + i);
	}
}

/* Bit 52 is ignored in long mode and reserved with PAE paging: the same table needs two shadow pages (F23). */
static void test_table_of_long_mode_and_of_pae(void **state)
{
	struct lazy *l = *state;
	uint64_t value, error = 0;

	put(l, V, 77);
	put(l, PT + 8 * (V >> 12), V | ALL | 1ull << 52);
	assert_int_equal(read_at(&l->a, V), 77);
	l->b.regs.efer = 0;
	l->b.regs.cr3 = PDPT;
	l->b.regs.pdpte[0] = PD | 1;
	scpu_regs(&l->b);
	assert_int_equal(scpu_access(&l->b, V, REF_READ, 8, &value, &error), SCPU_FAULT);
	assert_int_equal(error, 9);
	assert_int_equal(read_at(&l->a, V), 77);
}

/*
 * CR0.WP = 0, SMAP. The same gigabyte is mapped for the supervisor, and mapped again for users, read-only. A write to
 * a device through the second mapping must not make it share shadow pages with the first. Otherwise the supervisor
 * could read memory through the second mapping that SMAP keeps from it.
 */
static void test_write_to_a_device_shares_nothing_with_memory(void **state)
{
	struct lazy *l = *state;
	uint64_t value = 1, error = 0;

	put(l, PDPT + 8, 0xe3);
	put(l, PDPT + 16, 0xe5);
	l->a.regs.cr0 = 0x80000001;
	l->a.regs.cr4 |= 1u << 21;
	scpu_regs(&l->a);
	assert_int_equal(write_at(&l->a, 0x40300000, 5), SCPU_DONE);
	l->a.regs.ac = true;
	assert_int_equal(scpu_access(&l->a, 0x90000000, REF_WRITE, 8, &value, &error), SCPU_MMIO);
	l->a.regs.ac = false;
	assert_int_equal(scpu_access(&l->a, 0x80300000, REF_READ, 8, &value, &error), SCPU_FAULT);
	assert_int_equal(error, 1);
}

#define W     2u
#define U     4u
#define D     0x40u
#define PS    0x80u
#define PD2   0x5000u
#define ROM   0x800000u   /* a slot of one page, read-only */
/*
 * Linear: the second GiB, in which PD2 maps the first 2 MiB repeatedly by large pages. These contain the tables, so
 * none is mapped by a huge leaf.
 */
#define LARGE (1ull << 30)
#define FAR   (V + 0x10000) /* too far from V to be prefetched with it */

static void large_make(struct lazy *l, uint64_t path, uint64_t entry)
{
	put(l, PDPT + 8, PD2 | path);
	put(l, PD2, entry | PS);
	put(l, PD2 + 8, entry | PS);
}

/*
 * An instruction ends only when all its accesses are mapped at the same time. Makes two accesses in many rounds.
 * Returns: the number of faults in the last round.
 */
static uint64_t faults_of(struct scpu *cpu, uint64_t first, enum ref_access access, uint64_t written)
{
	uint64_t value, error, before = 0;

	scpu_regs(cpu);
	for (int round = 0; round < 10; round++) {
		before = cpu->faults;
		assert_int_equal(scpu_access(cpu, first, access, 8, &value, &error), SCPU_DONE);
		value = round;
		assert_int_equal(scpu_access(cpu, written, REF_WRITE, 8, &value, &error), SCPU_DONE);
	}
	return cpu->faults - before;
}

/*
 * CR0.WP = 0: pages within a large page that is read-only, by its own W bit or by that of the level above, and that
 * is a user's or the supervisor's.
 */
static void test_instruction_that_writes_a_read_only_large_page_ends(void **state)
{
	static const struct { uint64_t path, entry; } large[] = {
		{ ALL & ~W, ALL }, { ALL, ALL & ~W }, { ALL & ~W & ~U, ALL & ~W }, { ALL & ~W, ALL & ~D },
		{ ALL, ALL & ~W & ~D & ~U },
	};
	struct lazy *l = *state;

	l->a.regs.cr0 = 0x80000001;
	for (unsigned i = 0; i < sizeof(large) / sizeof(large[0]); i++)
		for (int smep = 0; smep < 2; smep++) {
			bool user = large[i].path & large[i].entry & U;

			large_make(l, large[i].path, large[i].entry);
			vmmu_unprotect(l->a.vcpu, (struct vmmu_gpa){ PDPT });
			vmmu_unprotect(l->a.vcpu, (struct vmmu_gpa){ PD2 });
			l->a.regs.cr4 = 0x20 | (smep ? 1u << 20 : 0);
			assert_int_equal(faults_of(&l->a, LARGE + V, REF_READ, LARGE + FAR), 0);
			assert_int_equal(faults_of(&l->a, LARGE + V, REF_READ, LARGE + V), 0);
			if (user && smep)
				continue;
			assert_int_equal(faults_of(&l->a, LARGE + V, REF_FETCH, LARGE + FAR), 0);
			/* Code that writes its own page. */
			assert_int_equal(faults_of(&l->a, LARGE + V, REF_FETCH, LARGE + V), 0);
		}
}

/* The same on 4 KiB pages. */
static void test_instruction_that_writes_its_own_read_only_page_ends(void **state)
{
	struct lazy *l = *state;

	l->a.regs.cr0 = 0x80000001;
	l->a.regs.cr4 = 0x20 | 1u << 20;
	put(l, PT + 8 * (V >> 12), V | (ALL & ~W & ~U));
	assert_int_equal(faults_of(&l->a, V, REF_FETCH, V), 0);
}

/*
 * D cannot be set in a table in read-only memory. A write goes on without it, and must use the shadow pages that
 * reads and fetches use.
 */
static void test_instruction_that_writes_a_clean_large_page_of_a_table_in_rom_ends(void **state)
{
	struct lazy *l = *state;
	uint64_t *rom = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct vmmu_region region = { .slot = 1, .gpa = { ROM }, .bytes = 4096, .flags = VMMU_SLOT_READONLY,
	                              .hva = { (uintptr_t)rom } };

	assert_ptr_not_equal(rom, MAP_FAILED);
	assert_int_equal(vmmu_region_set(l->vm, &region), VMMU_OK);
	rom[0] = (ALL & ~D) | PS;
	put(l, PDPT + 8, ROM | ALL);
	assert_int_equal(faults_of(&l->a, LARGE + V, REF_READ, LARGE + FAR), 0);
	assert_int_equal(faults_of(&l->a, LARGE + V, REF_FETCH, LARGE + FAR), 0);
	assert_int_equal(rom[0], (ALL & ~D) | PS);
	assert_true(quiet_audit(l->vm, NULL));
	region.bytes = 0;
	assert_int_equal(vmmu_region_set(l->vm, &region), VMMU_OK);
	munmap(rom, 4096);
}

/*
 * CR0.WP = 0: one large page is mapped twice, read-only and clean. After a write through one mapping, a write through
 * the other must still set the D bit of its own entry.
 */
static void test_each_of_two_mappings_of_a_large_page_becomes_dirty(void **state)
{
	struct lazy *l = *state;
	uint64_t entry;

	large_make(l, ALL, ALL & ~W & ~D);
	l->a.regs.cr0 = 0x80000001;
	scpu_regs(&l->a);
	read_at(&l->a, LARGE + V);
	read_at(&l->a, LARGE + (2u << 20) + V);
	for (unsigned i = 0; i < 2; i++) {
		memcpy(&entry, l->ram + PD2 + 8 * i, 8);
		assert_false(entry & D);
		assert_int_equal(write_at(&l->a, LARGE + i * (2u << 20) + V, i), SCPU_DONE);
		memcpy(&entry, l->ram + PD2 + 8 * i, 8);
		assert_true(entry & D);
	}
}

/*
 * A frame is mapped more often than the limit of a chain. All mappings work, and the chain, which is walked when one
 * of them goes, stays short (F27).
 */
static void test_chain_of_a_frame_stays_short(void **state)
{
	struct lazy *l = *state;
	const struct rmap *rmap;

	for (uint64_t i = 0; i < 3 * 512; i++)
		put(l, 0x10000 + 8 * i, V | ALL);
	for (uint64_t i = 0; i < 3; i++)
		put(l, PD + 8 * (2 + i), (0x10000 + 0x1000 * i) | ALL);
	put(l, V, 4711);
	for (unsigned round = 0; round < 2; round++)
		for (uint64_t i = 0; i < 3 * 512; i++) {
			assert_int_equal(read_at(&l->a, (2 << 21) + i * 4096), 4711);
			rmap = gfn_rmap(memslot_find(memslots_current(&l->vm->vm, 0), GFN(V >> 12)), GFN(V >> 12), 1);
			assert_true(rmap_count(rmap) <= RMAP_MOST + 8);
		}
	assert_true(rmap_count(rmap) > 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_flush_before_a_table_is_read_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flush_after_a_table_was_protected, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flush_when_rights_shrink, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flush_when_a_page_is_the_users_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flush_of_all_contexts_reaches_cached_roots, setup, teardown),
		cmocka_unit_test_setup_teardown(test_table_of_long_mode_and_of_pae, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write_to_a_device_shares_nothing_with_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_instruction_that_writes_a_read_only_large_page_ends, setup,
		                                teardown),
		cmocka_unit_test_setup_teardown(test_instruction_that_writes_its_own_read_only_page_ends, setup,
		                                teardown),
		cmocka_unit_test_setup_teardown(test_instruction_that_writes_a_clean_large_page_of_a_table_in_rom_ends,
		                                setup, teardown),
		cmocka_unit_test_setup_teardown(test_each_of_two_mappings_of_a_large_page_becomes_dirty, setup,
		                                teardown),
		cmocka_unit_test_setup_teardown(test_chain_of_a_frame_stays_short, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
