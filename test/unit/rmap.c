/* SPDX-License-Identifier: MIT */
/* Reverse maps by themselves. */
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "core/shadow/rmap.h"
#include "test/unit/test.h"

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
 * Heads lie in memory that nobody has touched. If the first access to a page of them were a read, the host would map its zero page there, and for the
 * write that follows replace it and interrupt every CPU of the process.
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
		cmocka_unit_test(test_rmap_add_writes_a_fresh_head_before_it_reads_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
