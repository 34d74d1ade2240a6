/* SPDX-License-Identifier: MIT */
/* Abstract locks, waits and pauses. They are made of read-modify-writes and awaits of abstract locations. */
#include "check/runtime/model.h"
#include "check/runtime/tell.h"
#include "check/runtime/weaken.h"

#define HERE   ((uint32_t)(uintptr_t)__builtin_return_address(0))
#define KEY(class, object) ((uint64_t)(class) << 56 | (uint64_t)(object))
#define WRITER (1ull << 32)
#define HELD   64

enum { CLASS_LOCK = 1, CLASS_WAIT = 2, CLASS_PART = 7 };

/* The locks that each thread holds, for check_lock_held. A skipped one was not really taken: its site was weakened. */
static struct held {
	const void *object;
	bool exclusive, skipped;
} held[THREADS][HELD];
static struct { uint32_t execution; unsigned count; } holds[THREADS];

static struct held *held_find(const void *object, bool exclusive)
{
	if (rt.self < 0 || holds[rt.self].execution != rt.execution)
		return NULL;
	for (unsigned i = holds[rt.self].count; i-- > 0;)
		if (held[rt.self][i].object == object && (!exclusive || held[rt.self][i].exclusive))
			return &held[rt.self][i];
	return NULL;
}

static void held_add(const void *object, bool exclusive, bool skipped)
{
	if (holds[rt.self].execution != rt.execution) {
		holds[rt.self].execution = rt.execution;
		holds[rt.self].count = 0;
	}
	if (holds[rt.self].count == HELD)
		rt_fail(CHECK_LIMIT, "thread %d holds more than %u locks", rt.self, HELD);
	held[rt.self][holds[rt.self].count++] = (struct held){ object, exclusive, skipped };
}

static void held_remove(const struct held *which)
{
	struct held *all = held[rt.self];
	unsigned at = (unsigned)(which - all);

	holds[rt.self].count--;
	for (; at < holds[rt.self].count; at++)
		all[at] = all[at + 1];
}

static bool is_free(uint64_t value, uint64_t wanted)
{
	return wanted == WRITER ? value == 0 : value < WRITER;
}

static uint64_t add(uint64_t value, uint64_t operand)
{
	return value + operand;
}

static struct op lock_op(enum operation kind, const void *object, bool exclusive, uint32_t pc)
{
	return (struct op){ .kind = kind,
		            .size = 8,
		            .order = __ATOMIC_ACQUIRE,
		            .abstract = true,
		            .address = KEY(CLASS_LOCK, object),
		            .operand = exclusive ? WRITER : 1,
		            .ready = is_free,
		            .change = add,
		            .waits_for = exclusive ? "lock" : "lock, shared,",
		            .shown = CHECK_EV_LOCK + 1,
		            .pc = pc,
		            .caller = weaken_caller() };
}

void check_lock(const void *object, bool exclusive)
{
	struct op op = lock_op(OP_AWAIT_RMW, object, exclusive, HERE);

	if (rt.mode != RT_THREADS)
		return;
	if (weaken_drops_lock(&op)) {
		held_add(object, exclusive, true);
		return;
	}
	if (held_find(object, false))
		rt_fail(CHECK_LOCKING, "thread %d takes lock %p, which it holds (pc %#x)", rt.self, object, HERE);
	model_do(&op);
	held_add(object, exclusive, false);
}

bool check_trylock(const void *object, bool exclusive)
{
	struct op op = lock_op(OP_TRY, object, exclusive, HERE);

	if (rt.mode != RT_THREADS)
		return true;
	model_do(&op);
	if (op.swapped)
		held_add(object, exclusive, false);
	return op.swapped;
}

static struct op unlock_op(const void *object, bool exclusive, uint32_t pc)
{
	return (struct op){ .kind = OP_RMW,
		            .size = 8,
		            .order = __ATOMIC_RELEASE,
		            .abstract = true,
		            .address = KEY(CLASS_LOCK, object),
		            .operand = -(exclusive ? WRITER : 1),
		            .change = add,
		            .shown = CHECK_EV_UNLOCK + 1,
		            .pc = pc,
		            .caller = weaken_caller() };
}

static const struct held *held_to_let_go(const void *object, bool exclusive, uint32_t pc)
{
	const struct held *h = held_find(object, exclusive);

	if (!h || h->exclusive != exclusive)
		rt_fail(CHECK_LOCKING, "thread %d lets go of lock %p, which it does not hold so (pc %#x)", rt.self,
		        object, pc);
	return h;
}

void check_unlock(const void *object, bool exclusive)
{
	struct op op = unlock_op(object, exclusive, HERE);
	const struct held *h;

	if (rt.mode != RT_THREADS)
		return;
	h = held_to_let_go(object, exclusive, HERE);
	if (!h->skipped)
		model_do(&op);
	held_remove(h);
}

/* ---- a lock in parts: a reader takes its own part, a writer all parts in order ------------------------- */

static uint64_t part_key(const void *object, unsigned thread)
{
	return (uint64_t)CLASS_PART << 56 | (uint64_t)thread << 48 | (uint64_t)object;
}

/* The part of this thread. A thread that runs calls after grace periods shares its caller's. */
static unsigned own_part(void)
{
	return (unsigned)rt.self < rt.thread_count ? (unsigned)rt.self : (unsigned)rt.self - rt.thread_count;
}

void check_rw_lock(const void *object, bool exclusive)
{
	struct op op = lock_op(OP_AWAIT_RMW, object, exclusive, HERE);

	if (rt.mode != RT_THREADS)
		return;
	if (weaken_drops_lock(&op)) {
		held_add(object, exclusive, true);
		return;
	}
	if (held_find(object, false))
		rt_fail(CHECK_LOCKING, "thread %d takes lock %p, which it holds (pc %#x)", rt.self, object, HERE);
	for (unsigned t = exclusive ? 0 : own_part(); t < (exclusive ? rt.thread_count : own_part() + 1); t++) {
		op.address = part_key(object, t);
		op.shown = !exclusive || t + 1 == rt.thread_count ? CHECK_EV_LOCK + 1 : -1;
		model_do(&op);
	}
	held_add(object, exclusive, false);
}

void check_rw_unlock(const void *object, bool exclusive)
{
	struct op op = unlock_op(object, exclusive, HERE);
	const struct held *h;

	if (rt.mode != RT_THREADS)
		return;
	h = held_to_let_go(object, exclusive, HERE);
	for (unsigned t = exclusive ? 0 : own_part();
	     !h->skipped && t < (exclusive ? rt.thread_count : own_part() + 1); t++) {
		op.address = part_key(object, t);
		op.shown = !exclusive || t == 0 ? CHECK_EV_UNLOCK + 1 : -1;
		model_do(&op);
	}
	held_remove(h);
}

bool check_lock_held(const void *object, bool exclusive)
{
	return rt.mode != RT_THREADS || held_find(object, exclusive);
}

/* ---- sleeping: a word of one bit for each thread that sleeps ------------------------------------- */

static uint64_t set_bit(uint64_t value, uint64_t operand)
{
	return value | operand;
}

static uint64_t clear_bits(uint64_t value, uint64_t operand)
{
	return value & ~operand;
}

static bool bit_is_clear(uint64_t value, uint64_t operand)
{
	return !(value & operand);
}

static struct op wait_op(const uint32_t *word, uint64_t bits, uint32_t pc)
{
	return (struct op){ .kind = OP_RMW,
		            .size = 8,
		            .order = __ATOMIC_ACQ_REL,
		            .abstract = true,
		            .address = KEY(CLASS_WAIT, word),
		            .operand = bits,
		            .change = set_bit,
		            .ready = bit_is_clear,
		            .waits_for = "a wake-up of",
		            .shown = -1,
		            .pc = pc,
		            .caller = weaken_caller() };
}

/*
 * A thread queues itself, then looks at the word. A wake-up before that finds no thread in the queue. But then the
 * thread's look sees everything stored before the wake-up, because both went through the queue.
 */
void check_wait(const uint32_t *word, uint32_t expected)
{
	uint64_t bit = rt.self >= 0 ? 1ull << rt.self : 0;
	struct op op = wait_op(word, bit, HERE);
	struct op look = {
		.kind = OP_LOAD, .size = 4, .order = __ATOMIC_RELAXED, .address = (uint64_t)word, .pc = HERE
	};

	if (rt.mode != RT_THREADS)
		return;
	if (telling())
		tell_simple(CHECK_EV_WAIT, (uint64_t)word, expected, 0, 4, HERE, NULL);
	model_do(&op);
	if ((uint32_t)model_do(&look) != expected) {
		op.change = clear_bits;
		model_do(&op);
		return;
	}
	op.kind = OP_AWAIT;
	op.order = __ATOMIC_ACQUIRE;
	model_do(&op);
}

void check_wake(const uint32_t *word)
{
	struct op op = wait_op(word, ~0ull, HERE);

	if (rt.mode != RT_THREADS)
		return;
	op.change = clear_bits;
	op.shown = CHECK_EV_WAKE + 1;
	model_do(&op);
}

void check_pause(void)
{
	struct op op = { .kind = OP_PAUSE, .pc = HERE };

	if (rt.mode == RT_THREADS)
		model_do(&op);
}

void check_yield(void)
{
	if (rt.mode == RT_THREADS)
		self_thread()->yielded = true;
}

unsigned check_choose(unsigned n)
{
	struct op op = { .kind = OP_CHOOSE, .operand = n, .pc = HERE };

	if (n == 0 || n > 255)
		rt_fail(CHECK_LIMIT, "check_choose(%u)", n);
	if (rt.mode != RT_THREADS)
		rt_fail(CHECK_LIMIT, "check_choose: only threads choose");
	return (unsigned)model_do(&op);
}

int check_self(void)
{
	return rt_is_up && rt.mode == RT_THREADS ? rt.self : -1;
}
