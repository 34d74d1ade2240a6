/* SPDX-License-Identifier: MIT */
#include "core/memslot/gate.h"

#include "core/sync/atomic.h"

void gate_init(struct gate *gate)
{
	*gate = (struct gate){ 0 };
}

void gate_enter(struct gate *gate)
{
	spin_lock(&gate->lock);
	gate->active++;
	spin_unlock(&gate->lock);
}

/*
 * With the lock held and nothing in flight. Returns: whether the waiter is to be woken, once the lock is free: it was asleep on a value of
 * `event` that it read under the lock, so it sleeps no more, whether it has reached port_wait yet or not (I5.6).
 */
static bool waiter_release(struct gate *gate)
{
	if (!gate->waiting)
		return false;
	add_relaxed(&gate->event, 1);
	return true;
}

bool gate_leave(struct gate *gate)
{
	bool found, wake = false;

	spin_lock(&gate->lock);
	found = gate->active != 0;
	if (found && --gate->active == 0)
		wake = waiter_release(gate);
	spin_unlock(&gate->lock);
	if (wake)
		port_wake(&gate->event);
	return found;
}

void gate_publish(struct gate *gate, void (*publish)(void *arg), void *arg)
{
	spin_lock(&gate->lock);
	while (gate->active) {
		uint32_t event = load_relaxed(&gate->event);

		gate->waiting = true;
		spin_unlock(&gate->lock);
		port_wait(&gate->event, event);
		spin_lock(&gate->lock);
	}
	gate->waiting = false;
	/* Inside the lock (I5.2): an invalidation that began before has ended, and one that begins later sees the new set. */
	publish(arg);
	spin_unlock(&gate->lock);
}

void gate_force_open(struct gate *gate)
{
	bool wake;

	spin_lock(&gate->lock);
	gate->active = 0;
	wake = waiter_release(gate);
	spin_unlock(&gate->lock);
	if (wake)
		port_wake(&gate->event);
}
