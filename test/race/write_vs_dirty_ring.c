/* SPDX-License-Identifier: MIT */
/* P11, zoo 20: vCPUs write while a thread harvests their rings, which are full again and again. */
#include "test/race/storm.h"

int main(int argc, char **argv)
{
	static const struct storm_plan plans[] = {
		{
			.name = "write_vs_dirty_ring",
			.vcpu_work = DO_LOG | DO_COPY,
			.actors = { { "ring", actor_ring } },
			.ring = true,
			.log_from_start = true,
		},
		{
			.name = "write_vs_dirty_ring, zaps",
			.vcpu_work = DO_LOG | DO_PREFAULT,
			.actors = { { "ring", actor_ring }, { "zap", actor_zap }, { "other", actor_invalidate_other } },
			.ring = true,
			.log_from_start = true,
			.page_delay_us = 50,
		},
	};

	return storm_main(plans, 2, argc, argv);
}
