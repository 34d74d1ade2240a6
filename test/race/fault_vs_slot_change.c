/* SPDX-License-Identifier: MIT */
/*
 * P3, P10, zoo 10: vCPUs fault on a slot while it is deleted, created with other memory, and moved.
 * Roots become obsolete meanwhile.
 */
#include "test/race/storm.h"

int main(int argc, char **argv)
{
	static const struct storm_plan plan = {
		.name = "fault_vs_slot_change",
		.vcpu_work = DO_SWAP | DO_PREFAULT | DO_COPY | DO_MMIO,
		.actors = { { "swap", actor_swap }, { "zap", actor_zap } },
		.page_delay_us = 100,
	};

	return storm_main(&plan, 1, argc, argv);
}
