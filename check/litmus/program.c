/* SPDX-License-Identifier: MIT */
#include "check/litmus/program.h"

static const struct ax_program *program;
static uint32_t memory[AX_LOCATIONS];
static uint32_t got[AX_THREADS][AX_OPS];

/* An order must be a constant where it is used: each gets its own call. */
#define EACH_ORDER(order, use)                                   \
	switch (order) {                                         \
	case AX_RLX: use(__ATOMIC_RELAXED); break;               \
	case AX_ACQ: use(__ATOMIC_ACQUIRE); break;               \
	case AX_REL: use(__ATOMIC_RELEASE); break;               \
	case AX_ACQ_REL: use(__ATOMIC_ACQ_REL); break;           \
	case AX_SC: use(__ATOMIC_SEQ_CST); break;                \
	}

static uint32_t load(const uint32_t *p, enum ax_order order)
{
	switch (order) {
	case AX_SC: return __atomic_load_n(p, __ATOMIC_SEQ_CST);
	case AX_ACQ: return __atomic_load_n(p, __ATOMIC_ACQUIRE);
	default: return __atomic_load_n(p, __ATOMIC_RELAXED);
	}
}

static void store(uint32_t *p, uint32_t value, enum ax_order order)
{
	switch (order) {
	case AX_SC: __atomic_store_n(p, value, __ATOMIC_SEQ_CST); break;
	case AX_REL: __atomic_store_n(p, value, __ATOMIC_RELEASE); break;
	default: __atomic_store_n(p, value, __ATOMIC_RELAXED); break;
	}
}

static uint32_t add(uint32_t *p, uint32_t value, enum ax_order order)
{
	uint32_t old = 0;

#define USE(o) old = __atomic_fetch_add(p, value, o)
	EACH_ORDER(order, USE)
#undef USE
	return old;
}

static uint32_t swap(uint32_t *p, uint32_t value, enum ax_order order)
{
	uint32_t old = 0;

#define USE(o) old = __atomic_exchange_n(p, value, o)
	EACH_ORDER(order, USE)
#undef USE
	return old;
}

static uint32_t compare_and_swap(uint32_t *p, uint32_t expected, uint32_t value, enum ax_order order)
{
#define USE(o) __atomic_compare_exchange_n(p, &expected, value, false, o, __ATOMIC_RELAXED)
	EACH_ORDER(order, USE)
#undef USE
	return expected;
}

static void fence(enum ax_order order)
{
#define USE(o) __atomic_thread_fence(o)
	EACH_ORDER(order, USE)
#undef USE
}

static void run(unsigned thread)
{
	for (unsigned i = 0; i < program->thread[thread].count; i++) {
		const struct ax_op *op = &program->thread[thread].op[i];
		uint32_t *p = &memory[op->location];

		switch (op->kind) {
		case AX_LOAD: got[thread][i] = load(p, op->order); break;
		case AX_STORE: store(p, op->value, op->order); break;
		case AX_ADD: got[thread][i] = add(p, op->value, op->order); break;
		case AX_SWAP: got[thread][i] = swap(p, op->value, op->order); break;
		case AX_CAS: got[thread][i] = compare_and_swap(p, op->expected, op->value, op->order); break;
		case AX_FENCE: fence(op->order); break;
		}
	}
}

static void thread0(void) { run(0); }
static void thread1(void) { run(1); }
static void thread2(void) { run(2); }
static void thread3(void) { run(3); }

uint64_t program_outcome(void)
{
	uint64_t outcome = 0;
	unsigned shift = 0;

	for (unsigned t = 0; t < program->threads; t++)
		for (unsigned i = 0; i < program->thread[t].count; i++)
			if (program->thread[t].op[i].kind != AX_STORE && program->thread[t].op[i].kind != AX_FENCE) {
				outcome |= (uint64_t)(got[t][i] & 15) << shift;
				shift += 4;
			}
	for (unsigned l = 0; l < program->locations; l++, shift += 4)
		outcome |= (uint64_t)(memory[l] & 15) << shift;
	return outcome;
}

static void finish(void)
{
	check_outcome("%lx", (unsigned long)program_outcome());
}

const struct check_scenario *program_scenario(const struct ax_program *which)
{
	static struct check_scenario scenario = {
		.name = "litmus",
		.protocol = "",
		.claim = "",
		.thread = { thread0, thread1, thread2, thread3 },
		.finish = finish,
	};

	program = which;
	scenario.threads = which->threads;
	return &scenario;
}
