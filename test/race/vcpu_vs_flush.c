/* SPDX-License-Identifier: MIT */
/* P9: vCPUs leave the guest only when told, come and go, and are kicked, while other threads wait for them. */
#include "test/race/storm.h"

int main(int argc, char **argv)
{
	static const struct storm_plan plan = {
		.name = "vcpu_vs_flush",
		.vcpu_work = DO_INV,
		.actors = {
			{ "invalidate", actor_invalidate }, { "churn", actor_churn }, { "kick", actor_kick },
			{ "zap", actor_zap }
		},
	};

	return storm_main(&plan, 1, argc, argv);
}
