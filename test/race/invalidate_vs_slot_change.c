/* SPDX-License-Identifier: MIT */
/*
 * P5: the host invalidates memory while slots come and go. begin and end of an invalidation see the same slots
 * (I5.2), and the waiter at the gate wakes up (I5.6).
 */
#include "test/race/storm.h"

int main(int argc, char **argv)
{
	static const struct storm_plan plan = {
		.name = "invalidate_vs_slot_change",
		.vcpu_work = DO_INV | DO_SWAP,
		.actors = {
			{ "invalidate", actor_invalidate }, { "swap", actor_swap },
			{ "other", actor_invalidate_other }, { "other", actor_invalidate_other }
		},
	};

	return storm_main(&plan, 1, argc, argv);
}
