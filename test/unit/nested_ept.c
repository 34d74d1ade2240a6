/* SPDX-License-Identifier: MIT */
/* EPT as L1's nested table: rights, misconfigurations, exit qualifications, A and D bits (SDM vol. 3, 29.3). */
#include "test/unit/nested_fixture.h"

#define L2 UINT64_C(0x12345000)

#define R 1u
#define W 2u
#define X 4u
#define RWX 7u
#define WB (UINT64_C(6) << 3)
#define PS UINT64_C(0x80)
#define A  UINT64_C(0x100)
#define D  UINT64_C(0x200)
#define AD UINT64_C(0x40) /* of the EPT pointer */

#define LINEAR 0x80u
#define FINAL  0x180u

struct ept {
	struct nest *n;
	uint64_t entry[6]; /* [level]: where it is, of L2 */
};

static struct ept ept_make(unsigned levels, uint64_t ad, unsigned size, uint64_t leaf)
{
	struct ept e = { .n = nest_make(levels, false) };
	uint64_t table = e.n->l1.root;

	e.n->l1.format = VMMU_NESTED_EPT;
	e.n->l1.root |= 6 | (levels - 1) << 3 | ad;
	e.n->l1.cr4 = e.n->l1.efer = 0;
	for (unsigned level = levels; level >= size; level--) {
		e.entry[level] = table + 8 * (L2 >> (12 + 9 * (level - 1)) & 511);
		if (level > size) {
			table = l1_frame(e.n);
			l1_store(e.n, e.entry[level], table | RWX);
		}
	}
	l1_store(e.n, e.entry[size], leaf);
	l2_enter(e.n, 0);
	return e;
}

static uint64_t block_of(unsigned size)
{
	return size == 1 ? DATA_GPA + (L2 & 0x1ff000) : size == 2 ? DATA_GPA : 0;
}

static void test_rights_and_what_the_exit_says_of_them(void **state)
{
	static const uint64_t accesses[] = { READ, WRITE, FETCH };
	static const unsigned bit[] = { R, W, X };

	(void)state;
	for (unsigned levels = 4; levels <= 5; levels++)
		for (unsigned size = 1; size <= 2; size++)
			for (unsigned at = size; at <= levels; at++)
				for (unsigned rights = 0; rights < 8; rights++)
					for (unsigned i = 0; i < 3; i++) {
						struct ept e = ept_make(levels, AD, size, block_of(size) | RWX | WB |
						                        (size > 1 ? PS : 0));
						uint64_t old = l1_load(e.n, e.entry[at]);

						l1_store(e.n, e.entry[at], (old & ~UINT64_C(7)) | rights);
						if (rights && !(rights & R))
							l2_npf(e.n, 0, L2, accesses[i], VMMU_NESTED_MISCONFIG);
						else if (rights & bit[i])
							l2_ok(e.n, 0, L2, accesses[i], DATA_GPA + (L2 & 0x1ff000));
						else
							l2_npf(e.n, 0, L2, accesses[i], bit[i] | rights << 3 | FINAL);
						nest_free(e.n);
					}
}

static void misconfigured(unsigned size, unsigned at, uint64_t bits, bool gbpages)
{
	struct ept e = ept_make(4, AD, size, block_of(size) | RWX | (size > 1 ? PS : 0));

	e.n->l1.gbpages = gbpages;
	l2_enter(e.n, 0);
	l1_store(e.n, e.entry[at], l1_load(e.n, e.entry[at]) | bits);
	l2_npf(e.n, 0, L2, READ, VMMU_NESTED_MISCONFIG);
	nest_free(e.n);
}

static void test_misconfigurations(void **state)
{
	struct ept e;

	(void)state;
	for (unsigned at = 1; at <= 4; at++) {
		misconfigured(1, at, UINT64_C(1) << 40, true);
		misconfigured(1, at, UINT64_C(1) << 51, true);
		for (unsigned bit = 3; at > 1 && bit <= (at > 3 ? 7 : 6); bit++)
			misconfigured(1, at, UINT64_C(1) << bit, true);
	}
	for (unsigned size = 1; size <= 3; size++) {
		misconfigured(size, size, UINT64_C(2) << 3, true); /* memory types that are none */
		misconfigured(size, size, UINT64_C(3) << 3, true);
		misconfigured(size, size, UINT64_C(7) << 3, true);
	}
	misconfigured(2, 2, 0x1000, true);
	misconfigured(2, 2, 0x100000, true);
	misconfigured(3, 3, 0x1000, true);
	misconfigured(3, 3, 0x20000000, true);
	misconfigured(3, 3, 0, false); /* no 1 GiB pages */
	/* Other memory types, IPAT and ignored bits are in order. */
	for (unsigned type = 0; type < 8; type++)
		if (type != 2 && type != 3 && type != 7) {
			e = ept_make(4, AD, 1, block_of(1) | RWX | type << 3 | 0xc40 | UINT64_C(0xfff) << 52);
			l2_ok(e.n, 0, L2, WRITE, block_of(1));
			nest_free(e.n);
		}
}

static void test_accessed_and_dirty(void **state)
{
	(void)state;
	for (unsigned on = 0; on < 2; on++) {
		struct ept e = ept_make(4, on ? AD : 0, 1, block_of(1) | RWX | WB);

		l2_ok(e.n, 0, L2, READ, block_of(1));
		for (unsigned level = 1; level <= 4; level++)
			assert_int_equal(l1_load(e.n, e.entry[level]) & (A | D), on ? A : 0);
		/* Without D bits a read may map the page for writes, too. */
		assert_int_equal(l2_ok(e.n, 0, L2, WRITE, block_of(1)) != 0, on);
		for (unsigned level = 1; level <= 4; level++)
			assert_int_equal(l1_load(e.n, e.entry[level]) & (A | D), !on ? 0 : level > 1 ? A : A | D);
		/* An access to a table of L2's is a write as well, if there are such bits. */
		l1_store(e.n, e.entry[1], block_of(1) | R | WB);
		l2_npf(e.n, 0, L2, on ? TABLE : VMMU_PF_GUEST_PAGE | VMMU_PF_WRITE,
		       (on ? R | W : W) | R << 3 | LINEAR);
		l1_store(e.n, e.entry[1], 0);
		l2_npf(e.n, 0, L2, VMMU_PF_GUEST_PAGE | (on ? VMMU_PF_WRITE : 0), (on ? R | W : R) | LINEAR);
		nest_free(e.n);
	}
}

static void test_below_l1(void **state)
{
	struct ept e = ept_make(4, 0, 1, HOLE_GPA | RWX | WB);

	(void)state;
	l2_answer(e.n, 0, L2 + 8, WRITE, VMMU_PAGE_MMIO, HOLE_GPA + 8);
	l1_store(e.n, e.entry[1], ROM_GPA | RWX | WB);
	l2_ok(e.n, 0, L2, READ, ROM_GPA);
	l2_answer(e.n, 0, L2 + 8, WRITE, VMMU_PAGE_MMIO, ROM_GPA + 8);
	l2_npf(e.n, 0, UINT64_C(1) << 48, READ, R | FINAL);
	nest_free(e.n);
}

static void test_ept_pointers_that_no_cpu_enters_with(void **state)
{
	static const uint64_t wrong[] = { 1, 2, 7, 0x80, 0x100, 0x800, 4 << 3 ^ 3 << 3 ^ 5 << 3, UINT64_C(1) << 40 };
	struct ept e = ept_make(4, 0, 1, 0);
	uint64_t root = e.n->l1.root & ~UINT64_C(7);

	(void)state;
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		e.n->l1.root = root ^ wrong[i];
		assert_int_equal(vmmu_nested_enter(e.n->cpu[0].vcpu, &e.n->l1), VMMU_EINVAL);
	}
	e.n->l1.root = root; /* uncacheable */
	l2_enter(e.n, 0);
	nest_free(e.n);
}

/* The same table with A and D bits and without: two roots, and neither is taken for the other. */
static void test_the_bits_are_part_of_the_role(void **state)
{
	struct ept e = ept_make(4, 0, 1, block_of(1) | RWX | WB);

	(void)state;
	l2_ok(e.n, 0, L2, WRITE, block_of(1));
	e.n->l1.root |= AD;
	l2_enter(e.n, 0);
	l2_forget(e.n, 0);
	assert_int_not_equal(l2_ok(e.n, 0, L2, WRITE, block_of(1)), 0);
	assert_int_equal(l1_load(e.n, e.entry[1]) & (A | D), A | D);
	e.n->l1.root &= ~AD;
	l2_enter(e.n, 0);
	l2_forget(e.n, 0);
	assert_int_equal(l2_ok(e.n, 0, L2, WRITE, block_of(1)), 0);
	nest_free(e.n);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rights_and_what_the_exit_says_of_them),
		cmocka_unit_test(test_misconfigurations),
		cmocka_unit_test(test_accessed_and_dirty),
		cmocka_unit_test(test_below_l1),
		cmocka_unit_test(test_ept_pointers_that_no_cpu_enters_with),
		cmocka_unit_test(test_the_bits_are_part_of_the_role),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
