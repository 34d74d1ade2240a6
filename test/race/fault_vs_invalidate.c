/* SPDX-License-Identifier: MIT */
/* P5, P7, P9: faults on pages that are being taken away; page look-ups that take their time. */
#include "test/race/storm.h"

int main(int argc, char **argv)
{
	static const struct storm_plan plan = {
		.name = "fault_vs_invalidate",
		.vcpu_work = DO_INV | DO_PREFAULT,
		.actors = { { "invalidate", actor_invalidate }, { "invalidate", actor_invalidate }, { "other", actor_invalidate_other } },
		.page_delay_us = 100,
	};

	return storm_main(&plan, 1, argc, argv);
}
