/* SPDX-License-Identifier: MIT */
/*
 * Reverse maps by themselves. The guest decides how many entries a chain has, so the cost of a step must not depend
 * on the number of steps before it. To see that, the tests spoil the descriptors that a walk has passed, and make
 * unreachable what an operation need not touch.
 */
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "core/shadow/rmap.h"
#include "test/unit/test.h"

#define MOST (40 * RMAP_DESC_ENTRIES + 3)

struct chain {
	struct rmap rmap;
	spte_t entry[MOST];
	bool seen[MOST];
	struct rmap_desc *desc[MOST]; /* all descriptors in use, the newest last */
	unsigned descs;
};

static void chain_make(struct chain *c, unsigned entries)
{
	*c = (struct chain){ .descs = 0 };
	for (unsigned i = 0; i < entries; i++) {
		struct rmap_desc *spare = calloc(1, sizeof(*spare)), *given = spare;

		assert_int_equal(rmap_add(&c->rmap, &c->entry[i], &spare), i + 1);
		if (spare)
			free(spare);
		else
			c->desc[c->descs++] = given;
	}
}

static void chain_free(struct chain *c)
{
	while (c->descs)
		free(c->desc[--c->descs]);
}

static void see(struct chain *c, const spte_t *entry)
{
	size_t i = entry - c->entry;

	assert_true(i < MOST);
	assert_false(c->seen[i]);
	c->seen[i] = true;
}

static void assert_seen(const struct chain *c, unsigned entries)
{
	for (unsigned i = 0; i < entries; i++)
		assert_true(c->seen[i]);
}

static void test_walk_visits_each_entry_once(void **state)
{
	(void)state;
	for (unsigned n = 0; n <= MOST; n += n < 2 * RMAP_DESC_ENTRIES + 2 ? 1 : 37) {
		struct rmap_iter iter;
		struct chain c;
		spte_t *entry;

		chain_make(&c, n);
		assert_int_equal(rmap_count(&c.rmap), n);
		assert_int_equal(rmap_is_empty(&c.rmap), n == 0);
		rmap_for_each(entry, &c.rmap, &iter)
			see(&c, entry);
		assert_seen(&c, n);
		chain_free(&c);
	}
}

/* Fill a descriptor with ones: it claims to be full, and its pointers lead nowhere. */
static void spoil(struct rmap_desc *desc)
{
	memset(desc, 0xff, sizeof(*desc));
}

/* If a step began at the head again, it would run into a spoilt descriptor. */
static void test_walk_does_not_look_back(void **state)
{
	struct rmap_iter iter;
	struct chain c;
	unsigned passed = 0, left;

	(void)state;
	chain_make(&c, MOST);
	left = c.descs;
	for (spte_t *entry = rmap_first(&c.rmap, &iter); entry; entry = rmap_next(&iter)) {
		see(&c, entry);
		c.rmap.head = ~UINT64_C(0);
		/* The walk begins at the newest descriptor. Spoil those that it has passed. */
		while (left && iter.desc != c.desc[left - 1]) {
			spoil(c.desc[--left]);
			passed++;
		}
	}
	assert_seen(&c, MOST);
	assert_int_equal(passed, c.descs - 1); /* all but the one where the walk ended */
	chain_free(&c);
}

/* Emptying a chain by rmap_any and rmap_remove looks at the first descriptor only, however many are behind it. */
static void test_chain_is_emptied_from_its_head(void **state)
{
	spte_t *entry;
	struct chain c;
	bool found;

	(void)state;
	chain_make(&c, MOST);
	for (unsigned left = MOST; (entry = rmap_any(&c.rmap)); left--) {
		struct rmap_desc *freed, *first = (struct rmap_desc *)(c.rmap.head & ~(uintptr_t)3),
		                 *behind = first->more;

		see(&c, entry);
		first->more = (void *)8; /* a look behind the first descriptor crashes */
		freed = rmap_remove(&c.rmap, entry, &found);
		assert_true(found);
		first->more = behind;
		if (freed) {
			assert_ptr_equal(freed, first);
			c.rmap.head = behind ? (uintptr_t)behind | 1 : 0; /* it was set from the spoilt pointer */
		}
		assert_int_equal(rmap_count(&c.rmap), left - 1);
	}
	assert_seen(&c, MOST);
	chain_free(&c);
}

/* In whatever order entries are removed, all others are still there, each once. */
static void test_remove_keeps_the_rest(void **state)
{
	(void)state;
	for (unsigned step = 1; step < 60; step += 7) {
		unsigned left = MOST, at = 0;
		bool found, gone[MOST] = { false };
		struct chain c;

		chain_make(&c, MOST);
		while (left) {
			struct rmap_iter iter;
			spte_t *entry;

			for (at = (at + step) % MOST; gone[at]; at = (at + 1) % MOST)
				continue;
			gone[at] = true;
			rmap_remove(&c.rmap, &c.entry[at], &found);
			assert_true(found);
			left--;
			assert_int_equal(rmap_count(&c.rmap), left);
			rmap_remove(&c.rmap, &c.entry[at], &found);
			assert_false(found);
			if (left % 41)
				continue;
			memcpy(c.seen, gone, sizeof(c.seen));
			rmap_for_each(entry, &c.rmap, &iter)
				see(&c, entry);
			assert_seen(&c, MOST);
		}
		assert_true(rmap_is_empty(&c.rmap));
		chain_free(&c);
	}
}

#define PAGE 4096

static void *watched;       /* a page that traps its first access */
static bool first_is_write; /* what that access was */

static void trapped(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	CHECK((uintptr_t)info->si_addr / PAGE == (uintptr_t)watched / PAGE);
	first_is_write = ((ucontext_t *)context)->uc_mcontext.gregs[REG_ERR] & 2;
	CHECK(mprotect(watched, PAGE, PROT_READ | PROT_WRITE) == 0);
}

/*
 * Heads lie in memory that nobody has touched yet. If the first access to a page of them were a read, the host would
 * map its zero page there, and the write that follows would make it replace that page and interrupt every CPU of the
 * process.
 */
static void test_rmap_add_writes_a_fresh_head_before_it_reads_it(void **state)
{
	struct sigaction trap = { .sa_sigaction = trapped, .sa_flags = SA_SIGINFO }, before;
	struct rmap_desc *spare = NULL;
	spte_t entry = 0;
	struct rmap *rmap;

	(void)state;
	rmap = watched = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(watched, MAP_FAILED);
	assert_int_equal(sigaction(SIGSEGV, &trap, &before), 0);
	rmap_add(rmap, &entry, &spare);
	assert_int_equal(sigaction(SIGSEGV, &before, NULL), 0);
	assert_true(first_is_write);
	assert_int_equal(rmap_count(rmap), 1);
	munmap(watched, PAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_walk_visits_each_entry_once),
		cmocka_unit_test(test_walk_does_not_look_back),
		cmocka_unit_test(test_chain_is_emptied_from_its_head),
		cmocka_unit_test(test_remove_keeps_the_rest),
		cmocka_unit_test(test_rmap_add_writes_a_fresh_head_before_it_reads_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
