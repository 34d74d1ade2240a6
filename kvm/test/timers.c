/* SPDX-License-Identifier: MIT */
/*
 * The timers of kvm/irq/timer.c, without a VM: none is early, each is called once for each time it was armed, in the
 * order of their times; after timer_cancel none is called. Then the same from several threads at once.
 */
#include "check.h"
#include "kvm/irq/timer.h"
#include <pthread.h>
#include <stdatomic.h>

#define COUNT   600u
#define THREADS 3u
#define MS      UINT64_C(1000000)

static struct entry {
	struct timer timer; /* first, so a pointer to it is one to the entry */
	atomic_uint calls, early;
	atomic_uint order;  /* how many calls there were before its last one */
	bool is_freed;      /* cancelled: no call may come */
} entries[COUNT];
static atomic_uint calls, late_calls;

static void expired(struct timer *timer)
{
	struct entry *e = (struct entry *)timer;

	atomic_fetch_add(&e->early, timer_now() < timer->due);
	atomic_store(&e->order, atomic_fetch_add(&calls, 1));
	atomic_fetch_add(&e->calls, 1);
	atomic_fetch_add(&late_calls, __atomic_load_n(&e->is_freed, __ATOMIC_SEQ_CST));
}

static unsigned long next(unsigned long *state)
{
	*state = *state * 6364136223846793005ul + 1442695040888963407ul;
	return *state >> 33;
}

static void wait_for_calls(unsigned wanted)
{
	for (unsigned i = 0; i < 10000 && atomic_load(&calls) < wanted; i++)
		usleep(1000);
}

static void cancel_all(void)
{
	for (unsigned i = 0; i < COUNT; i++)
		timer_cancel(&entries[i].timer);
}

static void reset(void)
{
	cancel_all();
	atomic_store(&calls, 0);
	for (unsigned i = 0; i < COUNT; i++)
		entries[i] = (struct entry){ .timer.expired = expired };
}

/*
 * All are armed at random times, some of them anew and some stopped, before the first is due. So the order of the
 * calls is that of the times.
 */
static void test_order(unsigned long seed)
{
	uint64_t begin = timer_now() + 60 * MS;
	bool is_armed[COUNT] = { false };
	unsigned wanted = 0;

	reset();
	for (unsigned i = 0; i < COUNT * 3; i++) {
		unsigned which = (unsigned)next(&seed) % COUNT;

		is_armed[which] = next(&seed) % 4 != 0;
		if (is_armed[which])
			timer_arm(&entries[which].timer, begin + next(&seed) % 20 * MS / 4);
		else
			timer_stop(&entries[which].timer);
	}
	for (unsigned i = 0; i < COUNT; i++)
		wanted += is_armed[i];
	NEED(timer_now() < begin);
	wait_for_calls(wanted);
	usleep(5000);
	cancel_all();
	CHECK(wanted > COUNT / 4 && atomic_load(&calls) == wanted);
	for (unsigned i = 0; i < COUNT; i++) {
		unsigned other = (unsigned)next(&seed) % COUNT;

		CHECK(entries[i].calls == is_armed[i] && !entries[i].early);
		if (entries[i].calls && entries[other].calls && entries[i].timer.due < entries[other].timer.due)
			CHECK(entries[i].order < entries[other].order);
	}
}

static void *disturb(void *argument)
{
	unsigned long seed = (unsigned long)argument + 7;

	/* Each thread has timers of its own, since a timer that is cancelled may not be armed by others. */
	for (unsigned n = 0; n < 30000; n++) {
		struct entry *e = &entries[next(&seed) % (COUNT / THREADS) * THREADS + (unsigned long)argument];

		switch (next(&seed) % 8) {
		case 0:
			timer_cancel(&e->timer);
			__atomic_store_n(&e->is_freed, true, __ATOMIC_SEQ_CST);
			break;
		case 1:
			timer_stop(&e->timer);
			break;
		default:
			timer_cancel(&e->timer);
			__atomic_store_n(&e->is_freed, false, __ATOMIC_SEQ_CST);
			timer_arm(&e->timer, timer_now() + next(&seed) % 200 * 1000);
			break;
		}
	}
	return NULL;
}

static void test_threads(void)
{
	pthread_t threads[THREADS];

	reset();
	for (unsigned long i = 0; i < THREADS; i++)
		NEED(pthread_create(&threads[i], NULL, disturb, (void *)i) == 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	cancel_all();
	CHECK(atomic_load(&calls) > 100 && atomic_load(&late_calls) == 0);
	for (unsigned i = 0; i < COUNT; i++)
		CHECK(!entries[i].early);
}

/* A function that takes its time: timer_cancel waits for it, timer_stop does not. */
static atomic_bool is_slow_inside;

static void slow(struct timer *timer)
{
	(void)timer;
	atomic_store(&is_slow_inside, true);
	usleep(50000);
	atomic_store(&is_slow_inside, false);
}

static void test_cancel_waits(void)
{
	struct timer timer = { .expired = slow };

	for (int i = 0; i < 2; i++) {
		timer_arm(&timer, timer_now());
		while (!atomic_load(&is_slow_inside))
			usleep(100);
		if (i == 0) {
			timer_stop(&timer);
			CHECK(atomic_load(&is_slow_inside));
		}
		timer_cancel(&timer);
		CHECK(!atomic_load(&is_slow_inside));
	}
}

/* A function that arms its timer again, as a periodic one does. */
static atomic_uint ticks;

static void tick(struct timer *timer)
{
	if (atomic_fetch_add(&ticks, 1) < 20)
		timer_arm(timer, timer->due + MS);
}

static void test_periodic(void)
{
	struct timer timer = { .expired = tick };
	uint64_t begin = timer_now();

	timer_arm(&timer, begin);
	for (unsigned i = 0; i < 5000 && atomic_load(&ticks) < 21; i++)
		usleep(1000);
	timer_cancel(&timer);
	CHECK(atomic_load(&ticks) == 21 && timer.due == begin + 20 * MS);
}

int main(void)
{
	NEED(timers_start() && timers_start());
	for (unsigned long i = 0; i < 5; i++)
		test_order(i);
	test_threads();
	test_cancel_waits();
	test_periodic();
	return check_end();
}
