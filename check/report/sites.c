/* SPDX-License-Identifier: MIT */
#include "check/report/sites.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check/report/calls.h"
#include "check/report/memory.h"
#include "check/report/source.h"

/* The name of a function that the linker's --wrap replaces, without the prefix. */
static const char *plain_name(const char *symbol)
{
	return !strncmp(symbol, "__wrap_", 7) ? symbol + 7 : symbol;
}

static bool is_atomic(const char *symbol)
{
	return !strncmp(symbol, "__tsan_atomic", 13);
}

static bool is_wanted(const char *symbol)
{
	return is_atomic(symbol) || seam_is_lock(plain_name(symbol));
}

static bool kind_fits(enum seam_kind kind, const char *callee)
{
	if (!is_atomic(callee))
		return kind == SEAM_LOCK;
	switch (kind) {
	case SEAM_FENCE:
		return strstr(callee, "_fence");
	case SEAM_LOAD:
		return strstr(callee, "_load");
	case SEAM_STORE:
		return strstr(callee, "_store");
	case SEAM_CAS:
		return strstr(callee, "_compare_exchange");
	case SEAM_RMW:
		return strstr(callee, "_fetch_") || strstr(callee, "_exchange");
	default:
		return false;
	}
}

/* spin_lock calls mutex_lock. The site is the call of spin_lock, not the call within it. */
static bool is_inside_lock(const struct seam *seam)
{
	return seam->kind == SEAM_LOCK && seam_is_lock(seam->function);
}

/*
 * The site written at this place. The column tells two sites on one line apart. When the compiler's column is not
 * that of the name, the first site that fits is taken.
 */
static struct site *site_at(struct sites *sites, const struct source_place *place, const char *callee)
{
	struct site *found = NULL;

	for (unsigned i = 0; i < sites->count; i++) {
		const struct seam *seam = sites->site[i].seam;

		if (seam->line != place->line || strcmp(seam->file, place->file) || !kind_fits(seam->kind, callee))
			continue;
		if (seam->column == place->column)
			return &sites->site[i];
		if (!found)
			found = &sites->site[i];
	}
	return found;
}

static bool is_core(const char *file)
{
	return !strncmp(file, "core/", 5) && strcmp(file, "core/sync/atomic.h");
}

/* The argument that is the order of an atomic call. */
static long call_order(const struct call *call)
{
	if (strstr(call->callee, "_fence"))
		return call->argument[0];
	if (strstr(call->callee, "_load"))
		return call->argument[1];
	return call->argument[strstr(call->callee, "_compare_exchange") ? 3 : 2];
}

static void number_add(uint32_t **list, unsigned *count, uintptr_t pc)
{
	*list = memory_resize(*list, (*count + 1) * sizeof(**list));
	(*list)[(*count)++] = (uint32_t)pc;
}

static void call_place(struct sites *sites, const struct call *call)
{
	const struct source *source = source_of_return(call->pc);
	bool core = false;

	for (unsigned i = 0; i < source->depth; i++) {
		struct site *site;

		if (!is_core(source->place[i].file))
			continue;
		core = true;
		site = site_at(sites, &source->place[i], call->callee);
		if (site) {
			number_add(&site->call, &site->calls, call->pc);
			return;
		}
		if (is_atomic(call->callee))
			break; /* an atomic call is written in its innermost place, or nowhere */
	}
	/* A relaxed access is no site. A lock taken within a lock belongs to its caller. */
	if (core && is_atomic(call->callee) && call_order(call) != __ATOMIC_RELAXED)
		number_add(&sites->stray, &sites->strays, call->pc);
}

const struct sites *sites_of_core(void)
{
	static struct sites sites;
	const struct seams *seams = seams_of_core();
	struct calls calls;

	if (sites.site)
		return &sites;
	sites.site = memory_get((seams->count + 1) * sizeof(*sites.site));
	for (unsigned i = 0; i < seams->count; i++)
		if (!is_inside_lock(&seams->seam[i]))
			sites.site[sites.count++].seam = &seams->seam[i];
	if (calls_find(is_wanted, &calls))
		for (unsigned i = 0; i < calls.count; i++)
			call_place(&sites, &calls.call[i]);
	return &sites;
}

static bool ends_with(const char *text, const char *end, size_t length)
{
	size_t all = strlen(text);

	return all >= length && !strncmp(text + all - length, end, length) &&
	       (all == length || text[all - length - 1] == '/');
}

#define MOST_TOLD 8u

/* Are `words` a run of whole words of the site's key (file, function, name, ordinal)? */
static bool words_fit(const struct site *site, const char *words)
{
	const char *key = site->seam->key;
	size_t length = strlen(words);

	if (!length)
		return false;
	for (const char *at = strstr(key, words); at; at = strstr(at + 1, words))
		if ((at == key || at[-1] == ' ') && (!at[length] || at[length] == ' '))
			return true;
	return false;
}

/* Returns: how many sites the words fit; *found is the first. */
static unsigned sites_of_words(const char *words, const struct site **found)
{
	const struct sites *sites = sites_of_core();
	unsigned count = 0;

	for (unsigned i = 0; i < sites->count; i++)
		if (words_fit(&sites->site[i], words) && !count++)
			*found = &sites->site[i];
	return count;
}

static void several_put(const char *words, unsigned count)
{
	const struct sites *sites = sites_of_core();
	unsigned told = 0;

	fprintf(stderr, "vmmu-check: '%s' is more than one ordering site; say which:", words);
	for (unsigned i = 0; i < sites->count && told < MOST_TOLD; i++)
		if (words_fit(&sites->site[i], words))
			fprintf(stderr, "%s %s:%u (%s %s)", told++ ? "," : "", sites->site[i].seam->file,
			        sites->site[i].seam->line, sites->site[i].seam->function,
			        sites->site[i].seam->name);
	fputs(count > MOST_TOLD ? " and more\n" : "\n", stderr);
}

static const struct site *site_named(const char *text)
{
	const struct sites *sites = sites_of_core();
	const char *colon = strrchr(text, ':');
	const struct site *found = NULL, *near = NULL;
	unsigned line = colon ? (unsigned)strtoul(colon + 1, NULL, 10) : 0, away = ~0u;

	for (unsigned i = 0; i < sites->count && !found; i++) {
		const struct seam *seam = sites->site[i].seam;
		unsigned from;

		if (!strcmp(seam->key, text))
			found = &sites->site[i];
		if (!colon || !line || !ends_with(seam->file, text, (size_t)(colon - text)))
			continue;
		from = seam->line > line ? seam->line - line : line - seam->line;
		if (from < away) {
			away = from;
			near = &sites->site[i];
		}
	}
	if (!found && near && away == 0)
		found = near;
	if (!found && near)
		fprintf(stderr, "vmmu-check: there is no ordering site at %s; the nearest is %s:%u (%s)\n", text,
		        near->seam->file, near->seam->line, near->seam->key);
	else if (!found)
		fprintf(stderr,
		        "vmmu-check: '%s' is no ordering site of core/; name one as FILE:LINE, or by its function "
		        "(`vmmu-check sites` shows all)\n",
		        text);
	return found;
}

const struct site *site_find(const char *text)
{
	const struct site *found = NULL;
	unsigned count = sites_of_words(text, &found);

	if (count > 1)
		several_put(text, count);
	return count == 0 ? site_named(text) : count == 1 ? found : NULL;
}

bool site_is_met(const struct site *site, const struct check_site *met)
{
	for (unsigned i = 0; i < site->calls; i++)
		if (site->seam->kind == SEAM_LOCK ? met->caller == site->call[i] : met->pc == site->call[i])
			return true;
	return false;
}

unsigned site_ways(const struct site *site, struct way ways[5])
{
	enum seam_kind kind = site->seam->kind;
	int order = site->seam->order;
	bool both = (order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST) && kind != SEAM_LOAD && kind != SEAM_STORE;
	unsigned count = 0;

	/* rmap_lock is no single step: its compare-and-swap is split, and then excludes nobody */
	if (!strcmp(site->seam->name, "rmap_lock")) {
		ways[0] = (struct way){ CHECK_SPLIT, "split" };
		return 1;
	}
	if (kind == SEAM_LOCK || kind == SEAM_FENCE) {
		ways[0] = (struct way){ CHECK_DROP, kind == SEAM_LOCK ? "skipped" : "dropped" };
		return 1;
	}
	if (order != __ATOMIC_RELAXED)
		ways[count++] = (struct way){ CHECK_TO_RELAXED, "relaxed" };
	if (both) {
		ways[count++] = (struct way){ CHECK_TO_ACQUIRE, "acquire" };
		ways[count++] = (struct way){ CHECK_TO_RELEASE, "release" };
	}
	if (order == __ATOMIC_SEQ_CST)
		ways[count++] = (struct way){
			CHECK_TO_ACQ_REL,
			kind == SEAM_LOAD ? "acquire" : kind == SEAM_STORE ? "release" : "acq_rel"
		};
	if (kind == SEAM_CAS)
		ways[count++] = (struct way){ CHECK_SPLIT, "split" };
	return count;
}

void site_weaken(const struct site *site, enum check_weakening how, struct check_weak *weak)
{
	for (unsigned i = 0; i < site->calls; i++)
		weak[i] = site->seam->kind == SEAM_LOCK ? (struct check_weak){ 0, site->call[i], how }
		                                        : (struct check_weak){ site->call[i], 0, how };
}
