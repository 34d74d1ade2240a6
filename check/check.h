/* SPDX-License-Identifier: MIT */
/*
 * What a scenario is, and what it may call. A scenario is ordinary C11 code, compiled with -fsanitize=thread and
 * linked with check/runtime instead of libtsan. Its atomics and plain accesses reach the checker by themselves and
 * need nothing from this file. README.md beside it tells how to check code of one's own.
 *
 * Rules for checked code. It uses no libc state and makes no threads, and no inline assembly that touches memory. Its
 * memory is static or comes from check_alloc. Only instrumented code (and memcpy, memmove, memset) writes it: such
 * writes are undone between two executions.
 */
#ifndef CHECK_CHECK_H
#define CHECK_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#error "C only"
#endif

/* The most threads of a scenario. A thread that uses check_rcu_call gets one more thread, out of the same 8. */
#define CHECK_MAX_THREADS 8

enum check_flags {
	CHECK_EXPECT_FAILURE = 1u << 0, /* an example, or a bug kept on purpose: the search must fail */
	CHECK_NO_LEAK_CHECK  = 1u << 1,
	CHECK_NO_DFS         = 1u << 2, /* too big for an exhaustive search: take samples */
	CHECK_USER_FLAGS     = 1u << 16 /* from here on: free for scenarios */
};

struct check_scenario {
	const char *name;     /* as in `run NAME` */
	const char *protocol; /* ids with blanks between, "P3 P5"; "" for none */
	const char *claim;    /* one line: what must hold */
	unsigned threads;
	/* runs once, alone, before the search; every execution starts with its memory. May be NULL */
	void (*setup)(void);
	void (*thread[CHECK_MAX_THREADS])(void);
	/* where thread[i] is NULL, thread i runs work[i](arg[i]) */
	void (*work[CHECK_MAX_THREADS])(void *arg);
	void *arg[CHECK_MAX_THREADS];
	unsigned more;        /* the most threads that its threads may begin; `threads` is without them */
	/*
	 * runs alone at the end of every execution, when all threads have ended; then leaks are looked for. May be
	 * NULL
	 */
	void (*finish)(void);
	unsigned flags;
};

/* CHECK_SCENARIO(id) = { .name = "id", ... }; the driver finds it without being told. */
#define CHECK_SCENARIO(id)                                                                                             \
	static const struct check_scenario id;                                                                         \
	static const struct check_scenario *const id##_entry __attribute__((used, section("check_scenarios"))) = &id;  \
	static const struct check_scenario id

/** A violation. In threads and finish it ends the execution, in setup the whole search. */
#define check_assert(cond) ((cond) ? (void)0 : check_fail("%s:%d: %s", __FILE__, __LINE__, #cond))
_Noreturn void check_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** End this execution without a verdict: nothing in it is of interest from here on. */
_Noreturn void check_prune(void);

/**
 * Begin a thread that runs fn(arg) and sees all that its creator did before. Returns: its number. At most `more` in one
 * execution, the ended ones included; check_rcu_call's threads need room beside them. check_thread_join waits until it
 * has ended, and sees all that it did. check_thread_exit ends the calling thread.
 */
unsigned check_thread_begin(void (*fn)(void *arg), void *arg);
void check_thread_join(unsigned thread);
_Noreturn void check_thread_exit(void);
/** Drawings name the calling thread after the function `fn`, rather than after the one it began with. */
void check_thread_shows(const void *fn);

/** A choice of 0 to n-1; the search explores each. n: 1 to 255. */
unsigned check_choose(unsigned n);

/**
 * Call this in a spin loop; a loop without it is found all the same, some turns later (runtime/spin.c). It says that
 * nothing the thread read since the last pause ends the loop, so the thread stands still until one of those locations
 * has another store to read. Before that it would only loop. When no thread will store, that is a deadlock.
 *
 * A loop that gives up after N turns must be compiled with N = 1: a thread that stands still never comes to turn N.
 */
void check_pause(void);

/** Let other threads run. The exhaustive search does not need it. */
void check_yield(void);

/**
 * A futex: check_wait sleeps while *word is `expected`, until check_wake(word). A wake that follows a store to *word
 * is never lost. There are no spurious wake-ups.
 */
void check_wait(const uint32_t *word, uint32_t expected);
void check_wake(const uint32_t *word);

/**
 * Memory for checked code. It is zeroed, and when freed it is poisoned and not used again in this execution.
 * `align`: a power of two, at most 4096. The address depends only on what this thread allocated before. Memory that
 * setup allocates is never a leak.
 */
void *check_alloc(size_t size, size_t align);
void check_free(void *ptr);
/** How many bytes check_alloc was asked for; 0: it did not return this. */
size_t check_size_of(const void *ptr);

/**
 * An abstract reader-writer lock. `object` is only a name; no memory is touched. Not fair, not recursive.
 * Each call is one scheduling point, and deadlocks are found. check_trylock never blocks; it returns
 * false when the lock is taken.
 */
void check_lock(const void *object, bool exclusive);
bool check_trylock(const void *object, bool exclusive);
void check_unlock(const void *object, bool exclusive);
/**
 * The same for a lock that is mostly taken shared. Readers are not ordered with one another, so there is far less to
 * explore. Writers are preferred: a reader may have to wait for a writer that waits for another reader.
 */
void check_rw_lock(const void *object, bool exclusive);
void check_rw_unlock(const void *object, bool exclusive);
/** Does the calling thread hold the lock; with `exclusive`, exclusively? Not a scheduling point. */
bool check_lock_held(const void *object, bool exclusive);

/**
 * Abstract grace periods. `domain` is only a name. Sections may nest.
 *
 * check_synchronize: every section that begins later sees what the caller did before, and every section that was open
 * has ended when the call returns. check_rcu_call: fn(arg) runs after such a grace period, on a thread that belongs
 * to the caller; calls of one thread run in order. check_rcu_barrier waits until all calls have run that this thread
 * made, or that it has seen made.
 */
void check_rcu_read_lock(const void *domain);
void check_rcu_read_unlock(const void *domain);
bool check_rcu_held(const void *domain);
void check_synchronize(const void *domain);
void check_rcu_call(const void *domain, void (*fn)(void *arg), void *arg);
void check_rcu_barrier(const void *domain);

/**
 * Call this in setup, once. The memory only counts (statistics), and nothing that is checked depends on it. Accesses
 * to it are no steps and in no order; each is whole.
 */
void check_counters(const void *ptr, size_t size);

/**
 * The number of this thread, 0 to threads-1; for a thread of check_rcu_call's a higher one. In setup and finish: -1.
 */
int check_self(void);

/**
 * The outcome of this execution, for searches that want the set of all outcomes (litmus
 * tests). Call it once, in finish.
 */
void check_outcome(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** A line in the trace when a failing execution is replayed. Not a scheduling point. */
void check_log(const char *format, ...) __attribute__((format(printf, 1, 2)));

/**
 * For finish, when it has taken all apart: what setup allocated and nobody freed is a leak, too. Without this call only
 * the memory of the threads is looked at.
 */
void check_setup_freed(void);

/** A name for a location in drawings. Usually called in setup. */
void check_name(const void *ptr, size_t size, const char *name);

#endif
