/* SPDX-License-Identifier: MIT */
#include "check/litmus/program.h"

#include "check/litmus/orders.h"

static const struct ax_program *program;
static uint32_t memory[AX_LOCATIONS];
static uint32_t got[AX_THREADS][AX_OPS];

static void run(unsigned thread)
{
	for (unsigned i = 0; i < program->thread[thread].count; i++) {
		const struct ax_op *op = &program->thread[thread].op[i];
		uint32_t *p = &memory[op->location];

		switch (op->kind) {
		case AX_LOAD: got[thread][i] = order_load(p, op->order); break;
		case AX_STORE: order_store(p, op->value, op->order); break;
		case AX_ADD: got[thread][i] = order_add(p, op->value, op->order); break;
		case AX_SWAP: got[thread][i] = order_swap(p, op->value, op->order); break;
		case AX_CAS: got[thread][i] = order_cas(p, op->expected, op->value, op->order); break;
		case AX_FENCE: order_fence(op->order); break;
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
