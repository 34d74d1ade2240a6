/* SPDX-License-Identifier: MIT */
/*
 * Hints about the process's memory, compared with a model that has one word for each page. Hints do not affect each
 * other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "port/posix/hint.h"
#include "test/common/rng.h"

#define PAGE  4096ull
#define BASE  (1ull << 40)
#define PAGES 64u

static unsigned model[PAGES];

/* Compare a page with the model. Pages outside the model have no hints. */
static void page_check(unsigned page)
{
	bool neighbours, near = false;
	enum vmmu_level level = posix_hint_get(BASE + page * PAGE, &neighbours);

	for (unsigned i = page > 7 ? page - 7 : 0; i < PAGES && i < page + 8; i++)
		near |= model[i] & POSIX_HINT_ALONE;
	assert_int_equal(neighbours, !near);
	if (model[page])
		assert_int_equal(level, VMMU_LEVEL_4K);
	assert_int_equal(posix_hint_any(BASE + page * PAGE, BASE + (page + 1) * PAGE), model[page] != 0);
}

static void change(unsigned first, unsigned end, unsigned hints, bool set)
{
	assert_true((set ? posix_hint_set : posix_hint_clear)(BASE + first * PAGE, BASE + end * PAGE, hints));
	for (unsigned page = first; page < end; page++)
		model[page] = set ? model[page] | hints : model[page] & ~hints;
}

static void test_hint_small_pages_keep_memory_alone(void **state)
{
	bool neighbours;

	(void)state;
	change(0, PAGES, POSIX_HINT_ALONE, true); /* a userfaultfd */
	change(0, PAGES, POSIX_HINT_SMALL, true); /* then MADV_NOHUGEPAGE */
	posix_hint_get(BASE, &neighbours);
	assert_false(neighbours);
	change(0, PAGES, POSIX_HINT_SMALL, false); /* and MADV_HUGEPAGE */
	assert_int_equal(posix_hint_get(BASE, &neighbours), VMMU_LEVEL_4K);
	assert_false(neighbours);
	change(0, PAGES, POSIX_HINT_ALONE, false);
	assert_int_equal(posix_hint_get(BASE, &neighbours), VMMU_LEVEL_1G);
	assert_true(neighbours);
}

static void test_hint_random_changes_match_model(void **state)
{
	struct rng rng;

	(void)state;
	rng_seed(&rng, 1);
	for (unsigned i = 0; i < 3000; i++) {
		unsigned first = (unsigned)rng_below(&rng, PAGES),
		         end = first + 1 + (unsigned)rng_below(&rng, PAGES - first);

		change(first, end, 1 + (unsigned)rng_below(&rng, 3), rng_below(&rng, 2));
		for (unsigned page = 0; page < PAGES; page++)
			page_check(page);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hint_small_pages_keep_memory_alone),
		cmocka_unit_test(test_hint_random_changes_match_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
