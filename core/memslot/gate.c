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
 * Nothing is in flight. Holds: gate->lock.
 * Returns: whether to wake the waiter once the lock is free. The waiter read `event` under the lock and sleeps on that
 * value. Moving `event` ends that sleep, also if the waiter has not reached port_wait yet (I5.6).
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
	/* Inside the lock (I5.2): earlier invalidations have ended, and later ones see the new set. */
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
