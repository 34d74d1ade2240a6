/* SPDX-License-Identifier: MIT */
/*
 * What `weigh` found out about the sites. It is kept in check/ordering.tsv, a line for each
 * site, with tabs between fields:
 *
 *     key  verdict  way  weakest  scenario  tso  failure  seed  effort
 *
 * verdict: "needed": `scenario` fails when the site is made `way`. "kept": nothing failed. "unmet": no scenario runs
 * the site. weakest: the weakest way in which nothing was seen to fail; "" when every way fails. effort: how much
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
 * The reason, written by hand, for which a site stays that no scenario shows to be needed
 * (check/ordering.reasons). NULL: none.
 */
const char *record_reason(const char *key);

#endif
