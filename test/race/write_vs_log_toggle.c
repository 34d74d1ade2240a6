/* SPDX-License-Identifier: MIT */
/*
 * P7, P11: vCPUs write while the log starts, which splits huge leaves and write-protects everything, and stops, which
 * brings the huge leaves back.
 */
#include "test/race/storm.h"

int main(int argc, char **argv)
{
	static const struct storm_plan plans[] = {
		{
			.name = "write_vs_log_toggle",
			.vcpu_work = DO_LOG | DO_PREFAULT,
			.actors = { { "log", actor_log_toggle }, { "other", actor_invalidate_other } },
			.page_delay_us = 50,
		},
		{
			.name = "write_vs_log_toggle, rings",
			.vcpu_work = DO_LOG,
			.actors = { { "log", actor_log_toggle }, { "age", actor_age } },
			.ring = true,
		},
	};

	return storm_main(plans, 2, argc, argv);
}
