/* SPDX-License-Identifier: MIT */
/* Zoo 15, P3: prefault of a slot that is being deleted must neither wait for it nor map it. */
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
