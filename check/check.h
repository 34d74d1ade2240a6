/* SPDX-License-Identifier: MIT */
/*
 * What a scenario is, and what it may call. A scenario is ordinary C11 code, compiled with -fsanitize=thread and linked with check/runtime
 * instead of libtsan: its atomics and plain accesses arrive at the checker by themselves, and need nothing from this file. README.md beside it
 * tells how to check code of one's own.
 *
 * Rules for checked code: no libc state, no threads, no inline assembly that touches memory; memory comes from check_alloc or is static;
 * memory is written only by instrumented code (and memcpy, memmove, memset): that is what is put back between two executions.
 */
#ifndef CHECK_CHECK_H
#define CHECK_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#error "C only"
#endif

/* Most threads of a scenario. check_rcu_call makes one more for each thread that uses it, from the same 8. */
#define CHECK_MAX_THREADS 8

enum check_flags {
	CHECK_EXPECT_FAILURE = 1u << 0, /* an example, or a bug kept on purpose: the search must find a violation */
	CHECK_NO_LEAK_CHECK  = 1u << 1,
	CHECK_NO_DFS         = 1u << 2, /* too big for an exhaustive search: sample it */
	CHECK_USER_FLAGS     = 1u << 16 /* from here on: the scenarios' own */
};

struct check_scenario {
	const char *name;     /* as in `run NAME` */
	const char *protocol; /* "P3 P5": ids, space separated; "" for none */
	const char *claim;    /* one line: what must hold */
	unsigned threads;
	void (*setup)(void);  /* once, alone, before the search; memory is as it leaves it at the start of every execution. May be NULL */
	void (*thread[CHECK_MAX_THREADS])(void);
	void (*finish)(void); /* alone, when all threads have ended, in every execution. Leaks are looked for after it. May be NULL */
	unsigned flags;
};

/* CHECK_SCENARIO(id) = { .name = "id", ... }; the driver finds it by itself. */
#define CHECK_SCENARIO(id)                                                                                             \
	static const struct check_scenario id;                                                                         \
	static const struct check_scenario *const id##_entry __attribute__((used, section("check_scenarios"))) = &id;  \
	static const struct check_scenario id

/** A violation, which ends the execution. From threads and finish; from setup: of the whole search. */
#define check_assert(cond) ((cond) ? (void)0 : check_fail("%s:%d: %s", __FILE__, __LINE__, #cond))
_Noreturn void check_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** Ends this execution without a verdict: what it does from here on is of no interest. */
_Noreturn void check_prune(void);

/** A choice of 0 .. n-1, all of which are explored. n: 1 .. 255. */
unsigned check_choose(unsigned n);

/**
 * In a spin loop: nothing that was read since the last pause made the loop end, so the thread stands still until one of those locations has
 * another store to read. Until then it would only go round again. When nobody will store, that is a deadlock.
 *
 * A loop that gives up after N turns must be compiled with N = 1: standing still means that turn N never comes.
 */
void check_pause(void);

/** Let others run. The exhaustive search does not need it. */
void check_yield(void);

/** A futex: sleep while *word is `expected`, until check_wake(word). A wake that follows a store to *word is never lost. No spurious wake-ups. */
void check_wait(const uint32_t *word, uint32_t expected);
void check_wake(const uint32_t *word);

/**
 * Memory that is poisoned when freed and never used again within an execution. `align`: a power of two, at most 4096; contents zero. The address depends only on what
 * this thread allocated before. From setup: never a leak.
 */
void *check_alloc(size_t size, size_t align);
void check_free(void *ptr);

/**
 * An abstract reader-writer lock: `object` is only a name, no memory is touched. Not fair, not recursive. One scheduling point each; deadlocks are found.
 * check_trylock: never blocks; false when it is taken.
 */
void check_lock(const void *object, bool exclusive);
bool check_trylock(const void *object, bool exclusive);
void check_unlock(const void *object, bool exclusive);
/**
 * The same for a lock that is mostly taken shared: readers are not ordered with one another, so there is far less to explore. Writers are preferred: a reader may have
 * to wait for a writer that waits for another reader.
 */
void check_rw_lock(const void *object, bool exclusive);
void check_rw_unlock(const void *object, bool exclusive);
/** Whether the calling thread holds it; exclusively, if asked. Not a scheduling point. */
bool check_lock_held(const void *object, bool exclusive);

/**
 * Abstract grace periods; `domain` is a name. Sections may nest. check_synchronize: what the caller did before is seen by every section that begins
 * later, and sections that were open have ended when it returns. check_rcu_call: fn(arg) runs after such a grace period, on a thread of its own that belongs to the
 * caller (calls of one thread run in order). check_rcu_barrier: waits until all calls that this thread made, and all that it has seen made, have run.
 */
void check_rcu_read_lock(const void *domain);
void check_rcu_read_unlock(const void *domain);
bool check_rcu_held(const void *domain);
void check_synchronize(const void *domain);
void check_rcu_call(const void *domain, void (*fn)(void *arg), void *arg);
void check_rcu_barrier(const void *domain);

/**
 * From setup: what lies here only counts (statistics), and nothing that is checked depends on it. Accesses to it are no steps, and in no order; each is whole. Once.
 */
void check_counters(const void *ptr, size_t size);

/** The number of this thread, 0 .. threads-1; beyond: one of check_rcu_call's. From setup and finish: -1. */
int check_self(void);

/** What this execution amounts to, for searches that want the set of all outcomes (litmus tests). Once, from finish. */
void check_outcome(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** A line in the trace, when a failing execution is replayed. No scheduling point. */
void check_log(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** A name for a location, for drawings. Usually from setup. */
void check_name(const void *ptr, size_t size, const char *name);

#endif
