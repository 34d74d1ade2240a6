/* SPDX-License-Identifier: MIT */
/* P5, P7, P9: vCPUs fault on pages while the host takes them away, and page look-ups take their time. */
#include "test/race/storm.h"

int main(int argc, char **argv)
{
	static const struct storm_plan plans[] = {
		{
			.name = "fault_vs_invalidate",
			.vcpu_work = DO_INV | DO_PREFAULT,
			.actors = {
				{ "invalidate", actor_invalidate }, { "invalidate", actor_invalidate },
				{ "other", actor_invalidate_other }
			},
			.page_delay_us = 100,
		},
		{
			.name = "fault_vs_invalidate, frames",
			.vcpu_work = DO_FRAME,
			.actors = { { "frames", actor_frames } },
			.page_delay_us = 200,
		},
	};

	return storm_main(plans, 2, argc, argv);
}
