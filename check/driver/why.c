/* SPDX-License-Identifier: MIT */
/* The command `why`, which is about one site. */
#include <stdio.h>
#include <string.h>

#include "check/driver/files.h"
#include "check/driver/record.h"
#include "check/driver/show.h"
#include "check/driver/weigh.h"
#include "check/driver/weight.h"
#include "check/report/memory.h"
#include "check/report/source.h"

#define WHY_SECONDS 6.0

static void needed_put(const struct options *options, struct weight *weight)
{
	const struct seam *seam = weight->site->seam;
	struct check_weak *weak = weak_room(weight->site);
	struct subject subject = subject_with(weight->scenario, weight->site, weight->fails.how, weak);
	char words[512], option[512], page[4400];
	struct show show = {
		.subject = &subject, .weakened = words, .weaken_options = option, .shrink_seconds = 2,
		.tso_seconds = 1, .all = options->all, .html = page
	};

	snprintf(words, sizeof(words), "%s:%u, %s in %s: %s", seam->file, seam->line, seam->name, seam->function,
	         weight->fails.name);
	snprintf(option, sizeof(option), " --weaken '%s=%s'", seam->key, weight->fails.name);
	files_path(page, sizeof(page), options->html, "why", "html");
	printf("Needed: made %s, %s fails.%s%s\n", weight->fails.name, weight->scenario->name,
	       weight->stayed ? " Nothing was seen to fail when it is " : "", weight->stayed ? weight->stays.name : "");
	show_failure(&show, &weight->verdict, stdout);
}

/* First try what failed when the site was last weighed. */
static bool fails_as_recorded(const struct site *site, const struct record *record, struct weight *weight)
{
	struct meeting meeting = { record ? check_scenario_find(record->scenario) : NULL, 1 };
	struct effort effort;
	struct way way;

	weight->site = site;
	weight->failed = meeting.scenario && way_named(site, record->way, &way) &&
	                 way_fails(site, &way, &meeting, 1, WHY_SECONDS / 2, weight, &effort);
	if (weight->failed && way_named(site, record->weakest, &weight->stays))
		weight->stayed = true;
	return weight->failed;
}

static void kept_put(const struct weight *weight)
{
	const char *reason = record_reason(weight->site->seam->key);

	if (!weight->scenarios)
		puts("No scenario runs it.");
	else
		printf("Not shown to be needed: nothing failed when it was made %s; %u scenarios, %u of them "
		       "exhausted, %llu executions.\n",
		       weight->stayed ? weight->stays.name : "weaker", weight->effort.scenarios,
		       weight->effort.exhausted, (unsigned long long)weight->effort.executions);
	printf("Why it stays: %s\n", reason ? reason : "nobody has written that down (check/ordering.reasons).");
}

int command_why(const struct options *options)
{
	const struct site *site = options->words == 1 ? site_find(options->word[0]) : NULL;
	struct weight *weight = memory_get(sizeof(*weight));

	if (options->words != 1)
		fprintf(stderr,
		        "vmmu-check: why wants one site: vmmu-check why FILE:LINE, or why FUNCTION; `vmmu-check "
		        "sites` shows them\n");
	if (!site)
		return 2;
	if (!files_make(options->html))
		return 3;
	printf("%s:%u: %s in %s (%s)\n  %s\n", site->seam->file, site->seam->line, site->seam->name,
	       site->seam->function, seam_order_name(site->seam->order),
	       source_text(site->seam->file, site->seam->line));
	if (!fails_as_recorded(site, record_find(site->seam->key), weight))
		site_weigh(site, options->budget > 0 ? options->budget : WHY_SECONDS, weight);
	if (weight->failed)
		needed_put(options, weight);
	else
		kept_put(weight);
	return 0;
}
