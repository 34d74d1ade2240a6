/* SPDX-License-Identifier: MIT */
#include "check/runtime/weaken.h"

#include <stdlib.h>

#define SITES 4096

static struct check_site sites[SITES];
static unsigned site_count;
static uint16_t table[2 * SITES]; /* index + 1, by hash of the site */

unsigned check_sites(const struct check_site **to)
{
	*to = sites;
	return site_count;
}

void check_sites_forget(void)
{
	site_count = 0;
	memset(table, 0, sizeof(table));
}

static enum check_operation operation_of(const struct op *op)
{
	switch (op->kind) {
	case OP_LOAD: return CHECK_LOAD;
	case OP_STORE: return CHECK_STORE;
	case OP_RMW: return CHECK_RMW;
	case OP_CAS: return CHECK_CAS;
	case OP_FENCE: return CHECK_FENCE;
	default: return CHECK_LOCK_SITE;
	}
}

static void note(const struct op *op)
{
	unsigned at = (op->pc * 2654435761u ^ op->caller * 40503u) % (2 * SITES);

	for (; table[at]; at = (at + 1) % (2 * SITES)) {
		struct check_site *site = &sites[table[at] - 1];

		if (site->pc == op->pc && site->caller == op->caller) {
			site->met++;
			return;
		}
	}
	if (site_count == SITES)
		rt_fail(CHECK_LIMIT, "more than %u sites", SITES);
	sites[site_count++] = (struct check_site){ op->pc, op->caller, operation_of(op), op->order, 1 };
	table[at] = (uint16_t)site_count;
}

static unsigned weaker(unsigned order, enum check_weakening how, enum operation kind)
{
	bool acquire = order != __ATOMIC_RELAXED && order != __ATOMIC_RELEASE,
	     release = order != __ATOMIC_RELAXED && order != __ATOMIC_ACQUIRE && order != __ATOMIC_CONSUME;

	if (kind == OP_LOAD)
		release = false;
	if (kind == OP_STORE)
		acquire = false;
	switch (how) {
	case CHECK_TO_RELAXED: acquire = release = false; break;
	case CHECK_TO_ACQUIRE: release = false; break;
	case CHECK_TO_RELEASE: acquire = false; break;
	case CHECK_TO_ACQ_REL: break;
	default: return order;
	}
	return acquire && release ? __ATOMIC_ACQ_REL
	       : acquire          ? __ATOMIC_ACQUIRE
	       : release          ? __ATOMIC_RELEASE
	                          : __ATOMIC_RELAXED;
}

static const struct check_weak *find(const struct op *op)
{
	for (unsigned i = 0; i < rt.weak_count; i++)
		if ((!rt.weak[i].pc || rt.weak[i].pc == op->pc) &&
		    (!rt.weak[i].caller || rt.weak[i].caller == op->caller))
			return &rt.weak[i];
	return NULL;
}

bool weaken_site(struct op *op)
{
	const struct check_weak *weak;

	if (rt.collect)
		note(op);
	if (likely(!rt.weak_count))
		return false;
	weak = find(op);
	if (!weak)
		return false;
	op->weakened = true;
	op->order = (uint8_t)weaker(op->order, weak->how, op->kind);
	op->fail_order = (uint8_t)weaker(op->fail_order, weak->how, OP_LOAD);
	if (op->kind == OP_FENCE)
		return weak->how == CHECK_DROP || op->order == __ATOMIC_RELAXED;
	return weak->how == CHECK_SPLIT && (op->kind == OP_CAS || op->kind == OP_RMW);
}

bool weaken_drops_lock(struct op *op)
{
	const struct check_weak *weak;

	if (rt.collect)
		note(op);
	if (likely(!rt.weak_count))
		return false;
	weak = find(op);
	return weak && weak->how == CHECK_DROP;
}
