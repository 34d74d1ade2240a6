/* SPDX-License-Identifier: MIT */
/*
 * Zoo 15, P3: vCPUs prefault a slot while it is deleted. A prefault neither waits for the deletion nor maps the slot.
 */
#include "test/race/storm.h"

int main(int argc, char **argv)
{
	static const struct storm_plan plan = {
		.name = "prefault_vs_delete",
		.vcpu_work = DO_SWAP | DO_PREFAULT,
		.actors = { { "swap", actor_swap }, { "other", actor_invalidate_other } },
		.page_delay_us = 300,
	};

	return storm_main(&plan, 1, argc, argv);
}
