/* SPDX-License-Identifier: MIT */
/* Long passes under mmu_lock skip what is not mapped, and let others have the lock meanwhile. */
#include "test/unit/dirty_fixture.h"

#include <signal.h>
#include <sys/mman.h>

#include "core/memslot/dirty.h"
#include "core/shadow/shadow_int.h"
#include "core/tdp/tdp.h"
#include "core/vm/vm_int.h"

#define BIG       7
#define BIG_BASE  (UINT64_C(16) << 20)
#define BIG_BYTES (UINT64_C(64) << 30)
#define BLOCKS    40                  /* each of the first so many 2M blocks has one mapped page */
#define FAR       (UINT64_C(3) << 30) /* one more mapped page; a guest without paging reaches 4 GiB */

struct big {
	struct fixture *f;
	struct vm *vm;
	char *memory;
	uint32_t entered; /* atomic: the reader has had the lock */
};

static void big_set(struct big *b, uint32_t flags)
{
	struct vmmu_region region = { .slot = BIG, .flags = flags, .gpa = { BIG_BASE }, .bytes = BIG_BYTES,
	                              .hva = { (uintptr_t)b->memory } };

	assert_int_equal(vmmu_region_set(b->f->vm, &region), VMMU_OK);
}

static const struct memslot *big_slot(const struct big *b)
{
	return memslot_find_id(memslots_current(b->vm, 0), BIG);
}

static gfn_t big_end(const struct big *b)
{
	return GFN(big_slot(b)->base.v + big_slot(b)->npages);
}

static void touch(struct big *b, uint64_t gpa)
{
	assert_int_equal(mcpu_write(&b->f->cpu[0], gpa, 1), MCPU_OK);
	mcpu_leave(&b->f->cpu[0]);
}

/* Logging is on, so that pages are mapped by 4K leaves. */
static void big_make(struct big *b, enum vmmu_mmu mmu, unsigned mode)
{
	*b = (struct big){ .f = fixture_make_on(mmu, mode, false, VMMU_FORMAT_NPT4) };
	b->vm = &b->f->vm->vm;
	b->memory = mmap(NULL, BIG_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(b->memory, MAP_FAILED);
	big_set(b, LOG);
	for (uint64_t i = 0; i < BLOCKS; i++)
		touch(b, BIG_BASE + (i << 21));
	touch(b, FAR);
}

static void big_free(struct big *b)
{
	fixture_free(b->f);
	munmap(b->memory, BIG_BYTES);
}

/* --- what a pass skips --- */

/* How many host pages of the 4K rmap heads were ever touched. */
static uint64_t heads_seen(const struct big *b)
{
	const struct slot_arrays *arrays = big_slot(b)->arrays;
	uintptr_t start = (uintptr_t)arrays->rmap[0] & ~UINT64_C(4095),
	          pages = arrays->blocks[0] * sizeof(struct rmap) / 4096;
	unsigned char *there = malloc(pages);
	uint64_t count = 0;

	assert_int_equal(mincore((void *)start, pages * 4096, there), 0);
	for (uint64_t i = 0; i < pages; i++)
		count += there[i] & 1;
	free(there);
	return count;
}

static void test_passes_of_a_slot_do_not_look_where_nothing_is_mapped(void **state)
{
	struct vmmu_hva start, end;
	struct big b;

	(void)state;
	big_make(&b, VMMU_MMU_SHADOW, 0);
	start = (struct vmmu_hva){ (uintptr_t)b.memory };
	end = (struct vmmu_hva){ (uintptr_t)b.memory + BIG_BYTES };
	assert_true(vmmu_age(b.f->vm, start, end, true));
	big_set(&b, 0);
	big_set(&b, LOG);
	vmmu_invalidate_begin(b.f->vm, start, end);
	vmmu_invalidate_end(b.f->vm, start, end);
	assert_false(vmmu_age(b.f->vm, start, end, true));
	/* Of 32768 pages some 40 are needed. The host may give 512 at once. */
	assert_true(heads_seen(&b) <= 4 * 512);
	big_free(&b);
}

/* --- letting others in --- */

static void *reader(void *arg)
{
	struct big *b = arg;
	struct mmu_read token = mmu_read_lock(b->vm, 5);

	store_release(&b->entered, 1);
	mmu_read_unlock(&token);
	return NULL;
}

static pthread_t reader_wait(struct big *b)
{
	pthread_t thread = thread_start(reader, b);

	while (!load_acquire(&b->vm->mmu_lock.waiters))
		port_yield();
	return thread;
}

static void pass_shadow_write_protect(struct big *b, struct mmu_write *token)
{
	shadow_write_protect(token, big_slot(b), big_slot(b)->base, big_end(b));
}

static void pass_shadow_zap_range(struct big *b, struct mmu_write *token)
{
	shadow_zap_range(token, big_slot(b), big_slot(b)->base, big_end(b));
}

static void pass_shadow_zap_collapsible(struct big *b, struct mmu_write *token)
{
	shadow_zap_collapsible(token, big_slot(b));
}

/* The limit is lowered; the default falls in the same way when a slot goes. */
static void pass_shadow_make_room(struct big *b, struct mmu_write *token)
{
	b->vm->shadow->limit = 1;
	shadow_make_room(token);
}

static void pass_tdp_zap_range(struct big *b, struct mmu_write *token)
{
	tdp_zap_range(&token->token, 0, big_slot(b)->base, big_end(b));
}

static void pass_tdp_write_protect(struct big *b, struct mmu_write *token)
{
	tdp_write_protect(&token->token, big_slot(b), big_slot(b)->base, big_end(b), 1);
}

/* A reader that waits before the pass begins gets the lock before the pass ends. */
static void test_passes_over_a_slot_let_a_reader_in(void **state)
{
	static const struct {
		enum vmmu_mmu mmu;
		void (*run)(struct big *b, struct mmu_write *token);
	} pass[] = {
		{ VMMU_MMU_SHADOW, pass_shadow_write_protect },
		{ VMMU_MMU_SHADOW, pass_shadow_zap_range },
		{ VMMU_MMU_SHADOW, pass_shadow_zap_collapsible },
		{ VMMU_MMU_SHADOW, pass_shadow_make_room },
		{ VMMU_MMU_TDP, pass_tdp_zap_range },
		{ VMMU_MMU_TDP, pass_tdp_write_protect },
	};

	(void)state;
	for (unsigned i = 0; i < array_size(pass); i++) {
		struct mmu_write token;
		pthread_t thread;
		struct big b;

		big_make(&b, pass[i].mmu, 0);
		mutex_lock(&b.vm->slots_lock);
		token = mmu_write_lock(b.vm);
		thread = reader_wait(&b);
		pass[i].run(&b, &token);
		if (!load_acquire(&b.entered))
			print_error("pass %u kept the lock\n", i);
		assert_int_equal(load_acquire(&b.entered), 1);
		mmu_flush(&token.token);
		mmu_write_unlock(&token);
		mutex_unlock(&b.vm->slots_lock);
		thread_join(thread);
		big_free(&b);
	}
}

/* --- the same for a pass over a part of the bitmap where nothing is dirty --- */

static struct big *trapped_in;
static char *trap[2]; /* pages of the bitmap: a reader comes at the first, and must have had the lock at the second */
static pthread_t trap_reader;
static bool served;

static void trapped(int signal, siginfo_t *info, void *context)
{
	char *at = (char *)((uintptr_t)info->si_addr & ~UINT64_C(4095));

	(void)signal;
	(void)context;
	CHECK(at == trap[0] || at == trap[1]);
	if (at == trap[0])
		trap_reader = reader_wait(trapped_in);
	else
		served = load_acquire(&trapped_in->entered);
	CHECK(mprotect(at, 4096, PROT_READ | PROT_WRITE) == 0);
}

static void bitmap_pass(unsigned mode)
{
	struct sigaction action = { .sa_sigaction = trapped, .sa_flags = SA_SIGINFO }, before;
	uint64_t words = (BIG_BYTES / 4096 + 63) / 64, *bitmap = malloc(words * sizeof(*bitmap));
	struct big b;

	big_make(&b, VMMU_MMU_SHADOW, mode);
	memset(bitmap, 0xff, words * sizeof(*bitmap));
	trapped_in = &b;
	trap[0] = (char *)(((uintptr_t)big_slot(&b)->dirty + 2 * 4096 - 1) & ~UINT64_C(4095));
	trap[1] = trap[0] + 4 * 4096;
	served = false;
	assert_int_equal(sigaction(SIGSEGV, &action, &before), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(mprotect(trap[i], 4096, PROT_NONE), 0);
	if (mode & MANUAL)
		assert_int_equal(vmmu_dirty_clear(b.f->vm, 0, BIG, 0, BIG_BYTES / 4096, bitmap), VMMU_OK);
	else
		assert_int_equal(vmmu_dirty_get(b.f->vm, 0, BIG, bitmap, words), VMMU_OK);
	assert_int_equal(sigaction(SIGSEGV, &before, NULL), 0);
	thread_join(trap_reader);
	assert_true(served);
	big_free(&b);
	free(bitmap);
}

static void test_passes_over_a_bitmap_let_a_reader_in(void **state)
{
	(void)state;
#ifdef __SANITIZE_THREAD__
	skip(); /* the signal comes inside the runtime's atomic load, where a handler may not start a thread */
#endif
	bitmap_pass(0);
	bitmap_pass(MANUAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_passes_of_a_slot_do_not_look_where_nothing_is_mapped),
		cmocka_unit_test(test_passes_over_a_slot_let_a_reader_in),
		cmocka_unit_test(test_passes_over_a_bitmap_let_a_reader_in),
	};

	return cmocka_run_group_tests(tests, watchdog_setup, NULL);
}
