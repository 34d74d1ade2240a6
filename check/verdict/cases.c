/* SPDX-License-Identifier: MIT */
/* Small scenarios. The name of each begins with its verdict. */
#include <string.h>

#include "check/check.h"

#define RELAXED __ATOMIC_RELAXED
#define ACQUIRE __ATOMIC_ACQUIRE
#define RELEASE __ATOMIC_RELEASE

static uint32_t x, y, data;
static volatile uint32_t other;
static volatile uint64_t wide;
static struct { uint8_t a, b; uint16_t c; uint32_t d; } parts;
static void *shared;
static char lock_a, lock_b, domain;
static unsigned zero;

#define CASE(id, why, setup_fn, finish_fn, ...)                                                                    \
	CHECK_SCENARIO(id) = { .name = #id, .protocol = "", .claim = why, .setup = setup_fn, .finish = finish_fn,  \
	                       .threads = sizeof((void (*[])(void)){ __VA_ARGS__ }) / sizeof(void *),              \
	                       .thread = { __VA_ARGS__ } }

/* ---- data races ----------------------------------------------------------------------------------- */

static void write_data(void) { data = 1; }
static void read_data(void) { other = data; }
static void read_data_again(void) { wide = data; }
static void atomic_data(void) { __atomic_store_n(&data, 2, __ATOMIC_SEQ_CST); }
static void atomic_read_data(void) { (void)__atomic_load_n(&data, RELAXED); }
static void write_a(void) { parts.a = 1; }
static void write_b(void) { parts.b = 1; }
static void write_c(void) { parts.c = 1; }
static void write_word(void) { memset(&parts, 0, sizeof(parts)); }
static void copy_parts(void) { uint64_t copy; memcpy(&copy, &parts, 8); wide = copy; }
static void publish(void) { data = 1; __atomic_store_n(&x, 1, RELEASE); }
static void publish_weakly(void) { data = 1; __atomic_store_n(&x, 1, RELAXED); }
static void consume(void) { if (__atomic_load_n(&x, ACQUIRE)) data = 2; }
static void consume_weakly(void) { if (__atomic_load_n(&x, RELAXED)) data = 2; }
static void consume_by_fence(void) { if (__atomic_load_n(&x, RELAXED)) { __atomic_thread_fence(ACQUIRE); data = 2; } }
static void pass_on(void) { if (__atomic_load_n(&x, ACQUIRE)) __atomic_store_n(&y, 1, RELEASE); }
static void consume_passed(void) { if (__atomic_load_n(&y, ACQUIRE)) data = 2; }
static void publish_then_touch(void) { data = 1; __atomic_store_n(&x, 1, RELEASE); data = 3; }
static void init_then_publish(void) { y = 5; __atomic_store_n(&y, 6, RELAXED); __atomic_store_n(&x, 1, RELEASE); }
static void read_atomic_plainly(void) { if (__atomic_load_n(&x, ACQUIRE)) check_assert(y == 6); }

CASE(race_write_write, "", NULL, NULL, write_data, write_data);
CASE(race_read_write, "", NULL, NULL, read_data, write_data);
CASE(race_write_atomic, "", NULL, NULL, write_data, atomic_data);
CASE(race_read_atomic_store, "", NULL, NULL, read_data, atomic_data);
CASE(race_atomic_load_write, "", NULL, NULL, atomic_read_data, write_data);
CASE(race_part_of_word, "", NULL, NULL, write_b, write_word);
CASE(race_copy, "memcpy is seen", NULL, NULL, write_c, copy_parts);
CASE(race_relaxed_publication, "", NULL, NULL, publish_weakly, consume);
CASE(race_relaxed_consumption, "", NULL, NULL, publish, consume_weakly);
CASE(race_after_publication, "what comes after a release is not published", NULL, NULL, publish_then_touch, consume);
CASE(passed_reads_together, "", NULL, NULL, read_data, read_data_again);
CASE(passed_atomic_load_beside_read, "", NULL, NULL, read_data, atomic_read_data);
CASE(passed_neighbours, "bytes of one word are not one another's", NULL, NULL, write_a, write_b, write_c);
CASE(passed_publication, "", NULL, NULL, publish, consume);
CASE(passed_fence, "", NULL, NULL, publish, consume_by_fence);
CASE(passed_transitive, "", NULL, NULL, publish, pass_on, consume_passed);
CASE(passed_plain_before_and_after_atomics, "", NULL, NULL, init_then_publish, read_atomic_plainly);

/* ---- sizes ---------------------------------------------------------------------------------------- */

static void store_wide(void) { __atomic_store_n(&wide, UINT64_C(0x100000002), RELAXED); }
static void load_half(void) { (void)__atomic_load_n((uint32_t *)&wide, RELAXED); }
static void store_wide_publish(void) { store_wide(); __atomic_store_n(&x, 1, RELEASE); }
static void load_half_after(void)
{
	if (__atomic_load_n(&x, ACQUIRE))
		check_assert(__atomic_load_n((uint32_t *)&wide, RELAXED) == 2);
}
static void store_bytes(void) { __atomic_store_n(&parts.a, 1, RELAXED); __atomic_fetch_add(&parts.c, 3, RELAXED); }
static void store_other_bytes(void) { __atomic_store_n(&parts.b, 2, RELAXED); __atomic_fetch_or(&parts.d, 8, RELAXED); }
static void bytes_are_all_there(void) { check_assert(parts.a == 1 && parts.b == 2 && parts.c == 3 && parts.d == 8); }
static void overflow_byte(void) { check_assert(__atomic_fetch_sub(&parts.a, 1, RELAXED) == 0); }
static void byte_wrapped(void) { check_assert(parts.a == 255 && parts.b == 0); }

static struct { uint32_t a, b; } pair;
static void store_pair_late(void) { __atomic_store_n(&pair.a, 1, RELAXED); }
static void copy_pair(void) { uint64_t copy; memcpy(&copy, &pair, 8); wide = copy; __atomic_store_n(&x, 1, RELEASE); }
static void copied_then_store(void) { if (__atomic_load_n(&x, ACQUIRE)) __atomic_store_n(&pair.a, 1, RELAXED); }
static void never_new(void) { check_assert(!__atomic_load_n(&pair.a, RELAXED)); }

CASE(race_copy_of_atomics, "a copy is a plain read of all", NULL, NULL, store_pair_late, copy_pair);
CASE(assertion_copy_does_not_hide_stores, "a load may read what is stored after others copied", NULL, NULL,
     never_new, copy_pair, copied_then_store);
CASE(mixed_sizes_together, "", NULL, NULL, store_wide, load_half);
CASE(passed_mixed_sizes_in_order, "", NULL, NULL, store_wide_publish, load_half_after);
CASE(passed_small_atomics_of_one_word, "", NULL, bytes_are_all_there, store_bytes, store_other_bytes);
CASE(passed_small_atomic_wraps, "", NULL, byte_wrapped, overflow_byte);

/* ---- memory --------------------------------------------------------------------------------------- */

static void share(void) { shared = check_alloc(64, 8); }
static void free_shared(void) { check_free(shared); }
static void use_shared(void) { *(volatile char *)shared = 1; }
static void use_then_publish(void) { use_shared(); __atomic_store_n(&x, 1, RELEASE); }
static void free_after(void) { if (__atomic_load_n(&x, ACQUIRE)) check_free(shared); }
static void free_and_use(void) { check_free(shared); use_shared(); }
static void free_atomics(void) { check_free(shared); __atomic_fetch_add((uint32_t *)shared, 1, RELAXED); }
static void free_twice(void) { check_free(shared); check_free(shared); }
static void free_middle(void) { check_free((char *)shared + 8); }
static void leak(void) { check_assert(check_alloc(8, 8)); }
static void leak_sometimes(void) { void *p = check_alloc(8, 8); if (!__atomic_load_n(&x, RELAXED)) check_free(p); }
static void set_x(void) { __atomic_store_n(&x, 1, RELAXED); }
static void alloc_zeroed(void)
{
	uint64_t *p = check_alloc(32, 32);

	check_assert(!p[0] && !p[3] && !((uintptr_t)p & 31));
	p[3] = 1;
	check_free(p);
}

CASE(use_after_free_beside_free, "", share, NULL, free_shared, use_shared);
CASE(use_after_free_in_one_thread, "", share, NULL, free_and_use);
CASE(use_after_free_by_an_atomic, "", share, NULL, free_atomics);
CASE(bad_free_twice, "", share, NULL, free_twice);
CASE(bad_free_of_the_middle, "", share, NULL, free_middle);
CASE(leak_always, "", NULL, NULL, leak);
CASE(leak_in_one_execution, "", NULL, NULL, leak_sometimes, set_x);
CASE(leak_of_what_setup_made, "said by check_setup_freed", share, check_setup_freed, set_x, set_x);
CASE(passed_setup_freed, "", share, check_setup_freed, free_shared);
CASE(passed_setup_not_looked_at, "", share, NULL, set_x);
CASE(passed_free_in_order, "", share, NULL, use_then_publish, free_after);
CASE(passed_alloc, "memory is zero in every execution", NULL, NULL, alloc_zeroed, alloc_zeroed);

/* ---- standing still ------------------------------------------------------------------------------- */

static void lock_ab(void)
{
	check_lock(&lock_a, true);
	check_lock(&lock_b, true);
	check_unlock(&lock_b, true);
	check_unlock(&lock_a, true);
}
static void lock_ba(void)
{
	check_lock(&lock_b, true);
	check_lock(&lock_a, true);
	check_unlock(&lock_a, true);
	check_unlock(&lock_b, true);
}
static void count_locked(void) { check_lock(&lock_a, true); data++; check_unlock(&lock_a, true); }
static void count_shared(void) { check_lock(&lock_a, false); data++; check_unlock(&lock_a, false); }
static void look_shared(void)
{
	check_lock(&lock_a, false);
	(void)*(volatile uint32_t *)&data;
	check_unlock(&lock_a, false);
}
static void counted_two(void) { check_assert(data == 2); }
static void try_both(void) { if (check_trylock(&lock_a, true)) { data++; check_unlock(&lock_a, true); } }
static void never_both_failed(void) { check_assert(data == 1 || data == 2); }
static void rw_count(void) { check_rw_lock(&lock_a, true); data++; check_rw_unlock(&lock_a, true); }
static void rw_look(void)
{
	check_rw_lock(&lock_a, false);
	(void)*(volatile uint32_t *)&data;
	check_rw_unlock(&lock_a, false);
}
static void rw_count_shared(void) { check_rw_lock(&lock_a, false); data++; check_rw_unlock(&lock_a, false); }
static void rw_then_b(void)
{
	check_rw_lock(&lock_a, false);
	check_lock(&lock_b, true);
	check_unlock(&lock_b, true);
	check_rw_unlock(&lock_a, false);
}
static void b_then_rw(void)
{
	check_lock(&lock_b, true);
	check_rw_lock(&lock_a, true);
	check_rw_unlock(&lock_a, true);
	check_unlock(&lock_b, true);
}
static void keep_lock(void) { check_lock(&lock_a, true); }
static void unlock_not_held(void) { check_unlock(&lock_a, true); }
static void lock_twice(void) { check_lock(&lock_a, true); check_lock(&lock_a, false); }
static void spin_on_x(void) { while (!__atomic_load_n(&x, ACQUIRE)) check_pause(); data = 2; }
static void spin_on_nothing(void) { while (!__atomic_load_n(&y, RELAXED)) check_pause(); }
static void sleep_on_x(void) { while (!__atomic_load_n(&x, RELAXED)) check_wait(&x, 0); }
static void wake_x(void) { __atomic_store_n(&x, 1, RELAXED); check_wake(&x); }
static void wake_early(void) { check_wake(&x); __atomic_store_n(&x, 1, RELAXED); }
static void test_and_set(void)
{
	while (__atomic_exchange_n(&x, 1, ACQUIRE))
		check_pause();
	data++;
	__atomic_store_n(&x, 0, RELEASE);
}
static void test_and_set_no_release(void)
{
	while (__atomic_exchange_n(&x, 1, ACQUIRE))
		check_pause();
	data++;
	__atomic_store_n(&x, 0, RELAXED);
}

CASE(deadlock_two_locks, "", NULL, NULL, lock_ab, lock_ba);
CASE(deadlock_lock_kept, "", NULL, NULL, keep_lock, count_locked);
CASE(deadlock_spin, "", NULL, NULL, spin_on_nothing, set_x);
CASE(deadlock_sleep, "", NULL, NULL, sleep_on_x, set_x);
CASE(deadlock_lost_wake_up, "", NULL, NULL, sleep_on_x, wake_early);
CASE(race_shared_lock, "", NULL, NULL, count_shared, count_shared);
CASE(race_lock_without_release, "", NULL, NULL, test_and_set_no_release, test_and_set_no_release);
CASE(race_rw_lock_shared, "", NULL, NULL, rw_count_shared, rw_count_shared);
CASE(passed_rw_lock, "", NULL, counted_two, rw_count, rw_look, rw_count);
CASE(passed_rw_readers, "", NULL, NULL, rw_look, rw_look, rw_look);
CASE(deadlock_rw_lock, "", NULL, NULL, rw_then_b, b_then_rw);
CASE(locking_not_held, "", NULL, NULL, unlock_not_held);
CASE(locking_twice, "", NULL, NULL, lock_twice);
CASE(passed_lock, "", NULL, counted_two, count_locked, count_locked);
CASE(passed_shared_lock, "", NULL, NULL, count_locked, look_shared, look_shared);
CASE(passed_trylock, "", NULL, never_both_failed, try_both, try_both);
CASE(passed_spin, "", NULL, NULL, publish, spin_on_x);
CASE(passed_sleep, "", NULL, NULL, sleep_on_x, wake_x, sleep_on_x);
CASE(passed_test_and_set, "", NULL, counted_two, test_and_set, test_and_set);

/* ---- grace periods -------------------------------------------------------------------------------- */

static void share_atomically(void) { share(); }
static void read_section(void)
{
	uint32_t *p;

	check_rcu_read_lock(&domain);
	p = __atomic_load_n((uint32_t **)&shared, ACQUIRE);
	if (p)
		check_assert(*p == 0);
	check_rcu_read_unlock(&domain);
}
static void read_outside(void)
{
	uint32_t *p;

	check_rcu_read_lock(&domain);
	p = __atomic_load_n((uint32_t **)&shared, ACQUIRE);
	check_rcu_read_unlock(&domain);
	if (p)
		check_assert(*p == 0);
}
static void unlink_and_free(void)
{
	uint32_t *p = __atomic_exchange_n((uint32_t **)&shared, NULL, __ATOMIC_ACQ_REL);

	check_synchronize(&domain);
	*p = 1;
	check_free(p);
}
static void unlink_and_call(void)
{
	void *p = __atomic_exchange_n((uint32_t **)&shared, NULL, __ATOMIC_ACQ_REL);

	check_rcu_call(&domain, check_free, p);
}
static void unlink_call_and_wait(void)
{
	unlink_and_call();
	check_rcu_barrier(&domain);
	check_assert(!check_rcu_held(&domain));
}
static void unlink_after(void)
{
	check_synchronize(&domain);
	unlink_and_call();
	check_free(check_alloc(8, 8));
}
static void free_without_waiting(void)
{
	check_free(__atomic_exchange_n((uint32_t **)&shared, NULL, __ATOMIC_ACQ_REL));
}
static void wait_inside(void) { check_rcu_read_lock(&domain); check_synchronize(&domain); }
static void nested(void)
{
	check_rcu_read_lock(&domain);
	read_section();
	check_assert(check_rcu_held(&domain));
	read_section();
	check_rcu_read_unlock(&domain);
}

CASE(passed_synchronize, "", share_atomically, NULL, unlink_and_free, read_section, read_section);
CASE(passed_call, "", share_atomically, NULL, unlink_and_call, read_section, read_section);
CASE(passed_barrier, "", share_atomically, NULL, unlink_call_and_wait, read_section);
CASE(passed_nested, "", share_atomically, NULL, unlink_and_free, nested);
CASE(passed_synchronize_then_call, "", share_atomically, NULL, unlink_after, read_section);
CASE(use_after_free_no_grace_period, "", share_atomically, NULL, free_without_waiting, read_section);
CASE(use_after_free_outside_section, "", share_atomically, NULL, unlink_and_call, read_outside);
CASE(locking_wait_inside, "", NULL, NULL, wait_inside);

/* ---- the rest ------------------------------------------------------------------------------------- */

static void fail_on_two(void) { check_assert(check_choose(3) != 2); }
static void choose_twice(void)
{
	unsigned a = check_choose(2), b = check_choose(2);

	__atomic_fetch_add(&x, 2 * a + b, RELAXED);
}
static void at_most_six(void) { check_assert(x <= 6); }
static void not_six(void) { check_assert(x != 6); }
static void crash(void) { *(volatile int *)(uintptr_t)8 = 1; }
static void divide(void) { data = 10 / *(volatile unsigned *)&zero; }
static void prune_if_set(void)
{
	if (__atomic_load_n(&x, RELAXED))
		check_prune();
	check_assert(!__atomic_load_n(&y, RELAXED));
}
static void set_x_then_y(void) { __atomic_store_n(&x, 1, RELAXED); __atomic_store_n(&y, 1, RELAXED); }
static void setup_values(void) { x = 7; data = 9; }
static void spoil_values(void) { check_assert(x == 7 && !wide); x = 8; wide = 3; }
static void spoil_more(void) { check_assert(data == 9); memset(&data, 0xff, sizeof(data)); }
static void finish_spoils(void) { check_assert(x == 8 && data == 0xffffffff && wide == 3); x = 0; }

CASE(assertion_choice, "", NULL, NULL, fail_on_two);
CASE(assertion_all_choices, "", NULL, not_six, choose_twice, choose_twice);
CASE(assertion_prune_lets_others_go_on, "y may be set with x not seen", NULL, NULL, prune_if_set, set_x_then_y);
CASE(crash_null, "", NULL, NULL, crash, set_x);
CASE(crash_divide, "", NULL, NULL, divide);
CASE(passed_choices, "", NULL, at_most_six, choose_twice, choose_twice);
static void setup_fails(void) { check_assert(x != 0); }
static void setup_crashes(void) { *(volatile int *)64 = 1; }
static void setup_frees_twice(void) { void *p = check_alloc(8, 8); check_free(p); check_free(p); }
CASE(assertion_in_setup, "", setup_fails, NULL, spoil_values, spoil_more);
CASE(crash_in_setup, "", setup_crashes, NULL, spoil_values, spoil_more);
CASE(bad_free_in_setup, "", setup_frees_twice, NULL, spoil_values, spoil_more);

CASE(passed_memory_is_put_back, "", setup_values, finish_spoils, spoil_values, spoil_more);

/* ---- loops that say nothing ----------------------------------------------------------------------- */

static struct link { struct link *volatile next; } ring; /* volatile: clang leaves an endless loop out otherwise */
static unsigned turns;
static __thread unsigned own_turns;

static void walk_ring(void)
{
	ring.next = &ring;
	for (const struct link *at = &ring; at; at = at->next)
		;
}
static void loop(void)
{
	while (!__atomic_load_n(&y, RELAXED))
		;
}
static void loop_on_x(void)
{
	while (!__atomic_load_n(&x, ACQUIRE))
		;
	data = 2;
}
static void loop_on_x_weakly(void)
{
	while (!__atomic_load_n(&x, RELAXED))
		;
	data = 2;
}
static void test_and_set_loop(void)
{
	while (__atomic_exchange_n(&x, 1, ACQUIRE))
		;
	data++;
	__atomic_store_n(&x, 0, RELEASE);
}
static void compare_and_swap_loop(void)
{
	for (uint32_t seen = 1; seen;) {
		seen = 0;
		if (!__atomic_compare_exchange_n(&x, &seen, 1, false, ACQUIRE, RELAXED))
			seen = 1;
	}
	data++;
	__atomic_store_n(&x, 0, RELEASE);
}
static void write_pair(void)
{
	__atomic_store_n(&x, 1, RELAXED);
	__atomic_thread_fence(RELEASE);
	__atomic_store_n(&pair.a, 5, RELAXED);
	__atomic_store_n(&pair.b, 5, RELAXED);
	__atomic_store_n(&x, 2, RELEASE);
}
static void read_pair_again(void)
{
	uint32_t before, after, a, b;

	do {
		before = __atomic_load_n(&x, ACQUIRE);
		a = __atomic_load_n(&pair.a, RELAXED);
		b = __atomic_load_n(&pair.b, RELAXED);
		__atomic_thread_fence(ACQUIRE);
		after = __atomic_load_n(&x, RELAXED);
	} while (before != after || before & 1);
	check_assert(a == b);
}
static void four_turns_on_the_stack(void)
{
	for (unsigned n = 0; !__atomic_load_n(&x, RELAXED); n++)
		check_assert(n < 4);
}
static void four_turns_in_memory(void) { while (!__atomic_load_n(&x, RELAXED)) check_assert(++turns < 4); }
static void four_turns_of_its_own(void) { while (!__atomic_load_n(&x, RELAXED)) check_assert(++own_turns < 4); }
static void choose_until_two(void)
{
	while (!__atomic_load_n(&x, RELAXED) && check_choose(2) == 0)
		;
	data = 1;
}

CASE(hang_plain_loop, "a loop over plain memory", NULL, NULL, walk_ring, set_x);
CASE(deadlock_loop, "", NULL, NULL, loop, set_x);
CASE(passed_loop, "", NULL, NULL, publish, loop_on_x);
CASE(race_loop, "", NULL, NULL, publish, loop_on_x_weakly);
CASE(passed_test_and_set_loop, "", NULL, counted_two, test_and_set_loop, test_and_set_loop);
CASE(passed_compare_and_swap_loop, "", NULL, counted_two, compare_and_swap_loop, compare_and_swap_loop);
CASE(passed_sequence_loop, "", NULL, NULL, write_pair, read_pair_again);
CASE(assertion_loop_counts, "a loop that counts is none without effect", NULL, NULL, four_turns_on_the_stack, set_x);
CASE(assertion_loop_counts_in_memory, "", NULL, NULL, four_turns_in_memory, set_x);
CASE(assertion_loop_counts_of_its_own, "", NULL, NULL, four_turns_of_its_own, set_x);
CASE(hang_loop_of_choices, "a choice may end it, and may not", NULL, NULL, choose_until_two, write_data);

/* ---- thread-local variables ----------------------------------------------------------------------- */

static __thread uint32_t mine, seven = 7;

static void use_own(void)
{
	check_assert(mine == 0 && seven == 7);
	mine = ++seven;
	__atomic_fetch_add(&x, 1, RELAXED);
	check_assert(mine == 8 && seven == 8);
}
static void own_is_new(void) { check_assert(mine == 0 && seven == 7); seven = 9; }
static void lend(void) { mine = 3; __atomic_store_n((void **)&shared, &mine, RELEASE); }
static void lend_and_write(void) { __atomic_store_n((void **)&shared, &mine, RELEASE); mine = 3; }
static void borrow(void)
{
	const uint32_t *p = __atomic_load_n((uint32_t **)&shared, ACQUIRE);

	check_assert(p != &mine && (!p || *p == 3) && mine == 0);
}

CASE(passed_thread_locals, "each thread has its own, new in every execution", own_is_new, own_is_new, use_own, use_own);
CASE(passed_thread_local_of_another, "", NULL, NULL, lend, borrow);
CASE(race_thread_local_of_another, "", NULL, NULL, lend_and_write, borrow);

/* Enough operations that the search has sub-trees to give away. */
static void add_five(void)
{
	for (int i = 0; i < 5; i++)
		__atomic_fetch_add(&x, 1, RELAXED);
}
static void sum_is_right(void) { check_assert(x == 15); }

CHECK_SCENARIO(passed_many_graphs) = {
	.name = "passed_many_graphs", .protocol = "", .claim = "", .threads = 3, .flags = CHECK_NO_DFS,
	.thread = { add_five, add_five, add_five }, .finish = sum_is_right
};
