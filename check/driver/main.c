/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "check/driver/commands.h"
#include "check/driver/options.h"
#include "check/driver/table.h"
#include "check/driver/weigh.h"
#include "check/driver/zoo.h"
#include "check/runtime/search.h"

static const char help[] =
	"vmmu-check: the library's code under every interleaving, and every outcome of the memory model\n"
	"\n"
	"  vmmu-check check                 every scenario within a budget (10m), with a table\n"
	"  vmmu-check list                  the scenarios: name, protocols, threads, what must hold\n"
	"  vmmu-check run SCENARIO          one of them (60s); a failure is shrunk, drawn, and written as a page\n"
	"  vmmu-check replay SEED           one execution again, as a failure printed it\n"
	"  vmmu-check why SITE              is the barrier, order or lock there needed, and who fails without it?\n"
	"  vmmu-check sites                 all ordering sites of core/, and what is known of each\n"
	"  vmmu-check weigh [SITE...]       make each site weaker in turn, search, and print a line of what was found\n"
	"  vmmu-check confirm [SITE...]     what is recorded as needed: does it still fail without its site?\n"
	"  vmmu-check zoo [NUMBER...]       historical bugs, put back one at a time: each must be found\n"
	"\n"
	"searching:\n"
	"  --budget TIME       90s, 10m, 2h\n"
	"  --strategy NAME     auto (default): bounded, then exhaustive, then samples; dfs (exhaustive, unless a "
	"bound is given), pct, random\n"
	"  --preemptions N     dfs: at most N preemptions, without reduction (any: no bound)\n"
	"  --stale N           at most N reads of other than the newest store\n"
	"  --seed S            pct, random: a number\n"
	"  --tso               the memory model of x86 instead of C11's\n"
	"  --weaken SITE=WAY   SITE as FILE:LINE, FUNCTION, 'FUNCTION NAME', or a key of `sites --tabs`;\n"
	"                      WAY: relaxed, acquire, release, acq_rel, dropped (a fence),\n"
	"                      skipped (a lock), split (a compare-and-swap); may be given more than once\n"
	"  --each TIME         check: each scenario for so much CPU time, and stop at the first failure\n"
	"  --protocol P3       check: only scenarios of that protocol\n"
	"  --jobs N            check, weigh, zoo: at most N processes; one for each core\n"
	"\n"
	"reporting:\n"
	"  --html DIR          where pages go (check-report, beside this program); replay writes one only with it\n"
	"  --all               also what concerns one thread alone\n"
	"  --tabs              list, sites: fields between tabs, for programs\n"
	"\n"
	"Exit codes: 0 nothing was found; 1 a failure was found; 2 the command line is wrong; 3 this program failed.\n"
	"\"No violation in N executions\" proves nothing; \"exhaustive\" means every execution of that scenario "
	"that the memory model has.\n";

static int command_help(const struct options *options)
{
	(void)options;
	fputs(help, stdout);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(const struct options *options);
	} commands[] = {
		{ "help", command_help },   { "check", check_all },       { "list", command_list },
		{ "run", command_run },     { "replay", command_replay }, { "why", command_why },
		{ "sites", command_sites }, { "weigh", command_weigh },   { "confirm", command_confirm },
		{ "zoo", command_zoo },
	};
	struct options options;

	check_start(argc, argv);
	if (!options_read(&options, argc, argv))
		return 2;
	for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(commands[i].name, options.command))
			return commands[i].run(&options);
	fprintf(stderr, "vmmu-check: there is no command '%s'; see --help\n", options.command);
	return 2;
}
