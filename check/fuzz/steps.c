/* SPDX-License-Identifier: MIT */
#include "check/fuzz/steps.h"

#include "check/litmus/orders.h"

static const struct steps *steps;
static uint32_t memory[STEP_LOCATIONS];
static uint32_t plain[STEP_LOCATIONS];
static uint32_t got[STEP_THREADS][STEPS];
static char locks[STEP_LOCATIONS], rw_locks[STEP_LOCATIONS], domain;

static void call(void *arg)
{
	const struct step *s = arg;

	__atomic_store_n(&memory[s->location], s->value, __ATOMIC_RELAXED);
}

static uint32_t spin(const struct step *s)
{
	uint32_t value;

	while ((value = order_load(&memory[s->location], s->order)) == s->expected)
		if (!steps->silent)
			check_pause();
	return value;
}

static uint32_t spin_swap(const struct step *s)
{
	uint32_t turns = 0;

	while (order_swap(&memory[s->location], s->value, s->order) != s->expected) {
		if (!steps->silent)
			check_pause();
		turns = 1;
	}
	(void)turns;
	return 0;
}

static uint32_t wait(const struct step *s)
{
	uint32_t value;

	while ((value = order_load(&memory[s->location], s->order)) == s->expected)
		check_wait(&memory[s->location], s->expected);
	return value;
}

static uint32_t try(const struct step *s)
{
	if (!check_trylock(&locks[s->location], s->value & 1))
		return 0;
	plain[s->location]++;
	check_unlock(&locks[s->location], s->value & 1);
	return 1;
}

static uint32_t once(const struct step *s)
{
	uint32_t *p = &memory[s->location];

	switch (s->kind) {
	case STEP_LOAD: return order_load(p, s->order);
	case STEP_STORE: order_store(p, s->value, s->order); return 0;
	case STEP_ADD: return order_add(p, s->value, s->order);
	case STEP_SWAP: return order_swap(p, s->value, s->order);
	case STEP_CAS: return order_cas(p, s->expected, s->value, s->order);
	case STEP_FENCE: order_fence(s->order); return 0;
	case STEP_READ: return plain[s->location];
	case STEP_WRITE: plain[s->location] = s->value; return 0;
	case STEP_LOCK: check_lock(&locks[s->location], s->value & 1); return 0;
	case STEP_UNLOCK: check_unlock(&locks[s->location], s->value & 1); return 0;
	case STEP_TRYLOCK: return try(s);
	case STEP_SPIN: return spin(s);
	case STEP_SPIN_SWAP: return spin_swap(s);
	case STEP_WAIT: return wait(s);
	case STEP_WAKE: check_wake(p); return 0;
	case STEP_CHOOSE: return check_choose(2);
	case STEP_RCU_LOCK: check_rcu_read_lock(&domain); return 0;
	case STEP_RCU_UNLOCK: check_rcu_read_unlock(&domain); return 0;
	case STEP_SYNCHRONIZE: check_synchronize(&domain); return 0;
	case STEP_RW_LOCK: check_rw_lock(&rw_locks[s->location], s->value & 1); return 0;
	case STEP_RW_UNLOCK: check_rw_unlock(&rw_locks[s->location], s->value & 1); return 0;
	case STEP_CALL: check_rcu_call(&domain, call, (void *)s); return 0;
	default: return 0;
	}
}

static void run(unsigned thread)
{
	for (unsigned i = 0; i < steps->thread[thread].count; i++)
		got[thread][i] = once(&steps->thread[thread].step[i]);
}

static void thread0(void) { run(0); }
static void thread1(void) { run(1); }
static void thread2(void) { run(2); }
static void thread3(void) { run(3); }

static void finish(void)
{
	char text[STEP_THREADS * STEPS + STEP_LOCATIONS + 1], *p = text;

	for (unsigned t = 0; t < steps->threads; t++)
		for (unsigned i = 0; i < steps->thread[t].count; i++)
			*p++ = (char)('0' + (got[t][i] & 31));
	for (unsigned l = 0; l < STEP_LOCATIONS; l++)
		*p++ = (char)('0' + (memory[l] & 31));
	*p = 0;
	check_outcome("%s", text);
}

const struct check_scenario *steps_scenario(const struct steps *which)
{
	static struct check_scenario scenario = {
		.name = "fuzz",
		.protocol = "",
		.claim = "",
		.thread = { thread0, thread1, thread2, thread3 },
		.finish = finish,
	};

	steps = which;
	scenario.threads = which->threads;
	return &scenario;
}
