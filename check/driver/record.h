/* SPDX-License-Identifier: MIT */
/*
 * What `weigh` found out of the sites, kept in check/ordering.tsv: one line each, fields between tabs.
 *
 *     key  verdict  way  weakest  scenario  tso  failure  seed  effort
 *
 * verdict: "needed": `scenario` fails when the site is made `way`; "kept": nothing failed; "unmet": no scenario
 * runs it. weakest: the weakest way that nothing was seen to fail in ("" when every way fails). effort: what
 * was searched without a failure.
 */
#ifndef CHECK_DRIVER_RECORD_H
#define CHECK_DRIVER_RECORD_H

struct record {
	const char *key, *verdict, *way, *weakest, *scenario, *tso, *failure, *seed, *effort;
};

/** The record of a site. Returns: NULL when there is none. */
const struct record *record_find(const char *key);
/**
 * The reason, written by hand, why a site stays that nothing shows to be needed (check/ordering.reasons). NULL: none.
 */
const char *record_reason(const char *key);

#endif
