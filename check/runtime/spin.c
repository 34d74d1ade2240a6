/* SPDX-License-Identifier: MIT */
/* Loops that wait for a store. A turn that read nothing new ends with standing still. */
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
	t->spin_count = 0;
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
