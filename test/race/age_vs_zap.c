/* SPDX-License-Identifier: MIT */
/* P2, I3.7: aging walks without a lock, while everything that it walks is zapped, split and freed. */
#include "test/race/storm.h"

int main(int argc, char **argv)
{
	static const struct storm_plan plan = {
		.name = "age_vs_zap",
		.vcpu_work = DO_INV | DO_SWAP | DO_LOG,
		.actors = {
			{ "age", actor_age }, { "age", actor_age }, { "invalidate", actor_invalidate },
			{ "zap", actor_zap }, { "log", actor_log_toggle }, { "room", actor_room }
		},
	};

	return storm_main(&plan, 1, argc, argv);
}
