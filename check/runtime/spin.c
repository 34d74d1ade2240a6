/* SPDX-License-Identifier: MIT */
/*
 * Loops that wait for a store. A turn that read nothing new ends with standing still. Where a turn ends is said by
 * check_pause, or is seen here: at a load of the same place in the code, the thread's registers and stack are what they
 * were at an earlier load, and it has written nothing else in between. So it would go on in the same way for ever.
 */
#include "check/runtime/model.h"

#include "check/runtime/graph.h"
#include "check/runtime/tell.h"

/* For check_pause: note what this thread has read since the last pause. */
void spin_note(uint32_t location, event_id from)
{
	const struct location *l = &rt.location[location];
	struct thread *t = self_thread();

	for (unsigned i = 0; i < t->spin_count; i++)
		if (t->spin[i].location == location) {
			t->spin[i].differs |= value_of(l, t->spin[i].from) != value_of(l, from);
			t->spin[i].from = from;
			return;
		}
	if (t->spin_count == SPIN_READS)
		t->spin_overflow = true;
	else
		t->spin[t->spin_count++] = (struct spin_read){ location, from, false };
}

/* The thread's store changed a value, so what it read before belongs to no idle turn. */
void spin_forget(void)
{
	self_thread()->spin_count = self_thread()->turn_count = 0;
	self_thread()->spin_overflow = false;
	self_thread()->visit_count = 0;
}

/*
 * What decides how the thread goes on: the registers that its code keeps over a call, which the hook saved right below
 * its frame (abi.c), and all of the stack above.
 */
static uint64_t state_at(uint64_t frame)
{
	const uint64_t *end = (const uint64_t *)fibre_stack_top((unsigned)rt.self);
	uint64_t state = frame;

	for (const uint64_t *word = (const uint64_t *)frame - SAVED_REGISTERS; word < end; word++) {
		state = (state ^ *word) * 0x9e3779b97f4a7c15ull;
		state ^= state >> 32;
	}
	return state | 1;
}

static bool loads_of_turn(struct thread *t, unsigned first)
{
	t->spin_count = 0;
	t->spin_overflow = false;
	for (unsigned i = first; i < t->visit_count; i++)
		spin_note(t->visit[i].location, t->visit[i].from);
	t->visit_count = 0;
	return true;
}

bool spin_turns(const struct op *op)
{
	struct thread *t = self_thread();

	t->load_state = 0;
	if (!op->frame)
		return false;
	for (unsigned i = t->visit_count; i-- > 0;) {
		if (t->visit[i].pc != op->pc || t->visit[i].frame != op->frame)
			continue;
		if (!t->load_state)
			t->load_state = state_at(op->frame);
		if (t->visit[i].state == t->load_state)
			return loads_of_turn(t, i);
	}
	return false;
}

void spin_visit(const struct op *op, uint32_t location, event_id from)
{
	struct thread *t = self_thread();

	if (t->visit_count == VISITS) {
		for (unsigned i = 0; i < VISITS / 2; i++)
			t->visit[i] = t->visit[i + VISITS / 2];
		t->visit_count = VISITS / 2;
	}
	t->visit[t->visit_count++] = (struct visit){ op->pc, location, op->frame, t->load_state, from };
}

/* Did the loop's turn that ends here read the same values as the turn before? */
static bool is_same_turn(const struct thread *t)
{
	if (t->spin_count != t->turn_count || !t->spin_count || t->spin_overflow)
		return false;
	for (unsigned i = 0; i < t->spin_count; i++) {
		const struct location *l = &rt.location[t->spin[i].location];

		if (t->spin[i].location != t->turn[i].location || t->spin[i].differs || t->turn[i].differs ||
		    value_of(l, t->spin[i].from) != value_of(l, t->turn[i].from))
			return false;
	}
	return true;
}

uint64_t spin_pause(struct op *op)
{
	struct thread *t = self_thread();

	/* In a graph search another turn is another graph: the one in which the loads read what ends the loop. */
	if (rt.graph && t->spin_count && !t->spin_overflow) {
		t->state = TH_BLOCKED;
		tell_block(op);
		if (!rt.probing)
			graph_stands_still(&rt.event[rt.self][t->count]);
		rt_point(); /* returns for a probe (graph.c) */
	}
	if (rt.search->strategy == CHECK_DFS && is_same_turn(t))
		rt_give_up(true); /* the execution without this turn ends in the same way */
	for (unsigned i = 0; i < t->spin_count; i++)
		t->turn[i] = t->spin[i];
	t->turn_count = t->spin_count;
	t->spin_count = t->visit_count = 0;
	t->spin_overflow = false;
	return 0;
}

bool model_spins(unsigned thread)
{
	const struct thread *t = &rt.thread[thread];

	if (t->spin_overflow || !t->spin_count)
		return false;
	for (unsigned i = 0; i < t->spin_count; i++) {
		const struct location *l = &rt.location[t->spin[i].location];

		/* A newer store of the same value would not end the loop. */
		if (t->spin[i].differs || value_of(l, l->store[l->count - 1]) != value_of(l, t->spin[i].from))
			return false;
	}
	return true;
}
