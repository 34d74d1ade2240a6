/* SPDX-License-Identifier: MIT */
/*
 * P11, P6: vCPUs write while a thread reads and clears the log; the fast path restores write rights all the time.
 * Zaps and invalidations are added.
 */
#include "test/race/storm.h"

int main(int argc, char **argv)
{
	static const struct storm_plan plans[] = {
		{
			.name = "write_vs_dirty_log",
			.vcpu_work = DO_LOG | DO_COPY,
			.actors = { { "log", actor_log } },
			.log_from_start = true,
		},
		{
			.name = "write_vs_dirty_log, zaps",
			.vcpu_work = DO_LOG | DO_COPY | DO_PREFAULT,
			.actors = {
				{ "log", actor_log }, { "zap", actor_zap }, { "other", actor_invalidate_other },
				{ "age", actor_age }
			},
			.log_from_start = true,
			.page_delay_us = 50,
		},
		{
			.name = "write_vs_dirty_log, hammer",
			.vcpu_work = DO_LOG,
			.actors = { { "log", actor_log }, { "hammer", actor_hammer } },
			.log_from_start = true,
		},
	};

	return storm_main(plans, 3, argc, argv);
}
