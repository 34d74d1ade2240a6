/* SPDX-License-Identifier: MIT */
/*
 * Everything at once, for minutes if wanted: VMMU_STORM_SECONDS=1800, or an argument. Prints a line every 10 seconds.
 */
#include "test/race/storm.h"

#define WORK (DO_LOG | DO_INV | DO_SWAP | DO_PREFAULT | DO_COPY | DO_MMIO | DO_FRAME)

int main(int argc, char **argv)
{
	static const struct storm_plan plans[] = {
		{
			.name = "storm, bitmaps",
			.vcpu_work = WORK,
			.actors = {
				{ "invalidate", actor_invalidate }, { "frames", actor_frames },
				{ "other", actor_invalidate_other }, { "swap", actor_swap },
				{ "log", actor_log }, { "age", actor_age }, { "kick", actor_kick },
				{ "churn", actor_churn }, { "zap", actor_zap }, { "room", actor_room }
			},
			.log_from_start = true,
			.page_delay_us = 100,
		},
		{
			.name = "storm, rings",
			.vcpu_work = WORK,
			.actors = {
				{ "invalidate", actor_invalidate }, { "frames", actor_frames },
				{ "other", actor_invalidate_other }, { "swap", actor_swap },
				{ "ring", actor_ring }, { "age", actor_age }, { "kick", actor_kick },
				{ "churn", actor_churn }
			},
			.ring = true,
			.log_from_start = true,
			.page_delay_us = 100,
		},
		{
			.name = "storm, log toggled",
			.vcpu_work = WORK,
			.actors = {
				{ "invalidate", actor_invalidate }, { "other", actor_invalidate_other },
				{ "swap", actor_swap }, { "log", actor_log_toggle }, { "age", actor_age },
				{ "zap", actor_zap }
			},
			.page_delay_us = 50,
		},
	};

	return storm_main(plans, 3, argc, argv);
}
