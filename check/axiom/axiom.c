/* SPDX-License-Identifier: MIT */
#include "check/axiom/axiom.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "check/axiom/relation.h"

#define NONE UINT8_MAX

/* An event. The first events write the 0 of each location. A read-modify-write is one event that reads and writes. */
struct event {
	struct ax_op op;
	uint8_t thread; /* NONE for those first events */
	uint8_t from;   /* the event that it reads from */
	uint8_t mo;     /* its place in the modification order of its location */
	uint8_t read, written;
	bool reads, writes;
};

struct graph {
	const struct ax_program *program;
	enum ax_model model;
	struct event event[EVENTS];
	unsigned count;
	uint8_t reader[EVENTS], readers; /* the events that read, in the order of the results */
	struct relation sb, rf;
	struct ax_outcomes *found;
	size_t room;
	bool failed;
};

static bool at_least(enum ax_order order, enum ax_order want)
{
	if (order == AX_SC || order == want)
		return true;
	return order == AX_ACQ_REL && (want == AX_ACQ || want == AX_REL);
}

static bool same_location(const struct event *a, const struct event *b)
{
	return a->op.kind != AX_FENCE && b->op.kind != AX_FENCE && a->op.location == b->op.location;
}

/* ---- the relations of a complete graph ------------------------------------------------------------ */

static struct relation modification_order(const struct graph *g)
{
	struct relation mo = { 0 };

	for (unsigned a = 0; a < g->count; a++)
		for (unsigned b = 0; b < g->count; b++)
			if (g->event[a].writes && g->event[b].writes && same_location(&g->event[a], &g->event[b]) &&
			    g->event[a].mo < g->event[b].mo)
				rel_add(&mo, a, b);
	return mo;
}

/* from-read: from a read to every write that overwrites what it read. */
static struct relation from_read(const struct graph *g, const struct relation *mo)
{
	struct relation fr = { 0 };

	for (unsigned r = 0; r < g->count; r++)
		if (g->event[r].reads)
			fr.row[r] = mo->row[g->event[r].from] & ~rel_bit(r);
	return fr;
}

/*
 * Is `member` in the release sequence of `head`? The sequence goes on by writes of the same
 * thread, then by read-modify-writes.
 */
static bool in_release_sequence(const struct graph *g, unsigned head, unsigned member)
{
	for (;;) {
		const struct event *e = &g->event[member];

		if (member == head || (rel_has(&g->sb, head, member) && same_location(&g->event[head], e)))
			return true;
		if (!e->reads)
			return false;
		member = e->from;
	}
}

/* Does `a` release at the write `w`: is it a release fence before `w`, or `w` itself? */
static bool releases(const struct graph *g, unsigned a, unsigned w)
{
	if (!at_least(g->event[a].op.order, AX_REL))
		return false;
	return g->event[a].op.kind == AX_FENCE ? rel_has(&g->sb, a, w) : a == w;
}

static bool acquires(const struct graph *g, unsigned r, unsigned b)
{
	/* A failed compare-and-swap is relaxed. */
	if (!at_least(g->event[b].op.order, AX_ACQ) || (g->event[b].op.kind == AX_CAS && !g->event[b].writes))
		return false;
	return g->event[b].op.kind == AX_FENCE ? rel_has(&g->sb, r, b) : r == b;
}

static struct relation happens_before(const struct graph *g)
{
	struct relation hb = g->sb;

	for (unsigned w = 0; w < g->count; w++)
		for (unsigned r = 0; r < g->count; r++) {
			if (!g->event[w].writes || !g->event[r].reads || !in_release_sequence(g, w, g->event[r].from))
				continue;
			for (unsigned a = 0; a < g->count; a++)
				for (unsigned b = 0; b < g->count; b++)
					if (releases(g, a, w) && acquires(g, r, b))
						rel_add(&hb, a, b);
		}
	return rel_closure(hb);
}

/* ---- RC11 ----------------------------------------------------------------------------------------- */

static bool is_sc(const struct event *e)
{
	return e->op.order == AX_SC && e->thread != NONE && !(e->op.kind == AX_CAS && !e->writes);
}

/* The order that sequentially consistent events must not contradict: psc of the paper, section 4. */
static struct relation psc(const struct graph *g, const struct relation *hb, const struct relation *mo,
                           const struct relation *fr, const struct relation *eco)
{
	struct relation other = { 0 }, scb, id_sc = { 0 }, id_fence = { 0 }, before, after, fences;
	struct relation hb_or_same = rel_reflexive(*hb, g->count);

	for (unsigned a = 0; a < g->count; a++) {
		for (unsigned b = 0; b < g->count; b++)
			if (rel_has(&g->sb, a, b) && !same_location(&g->event[a], &g->event[b]))
				rel_add(&other, a, b);
		if (is_sc(&g->event[a]))
			rel_add(g->event[a].op.kind == AX_FENCE ? &id_fence : &id_sc, a, a);
	}
	scb = rel_or(rel_or(g->sb, rel_then(rel_then(other, *hb), other)), rel_or(*mo, *fr));
	for (unsigned a = 0; a < g->count; a++)
		for (unsigned b = 0; b < g->count; b++)
			if (rel_has(hb, a, b) && same_location(&g->event[a], &g->event[b]))
				rel_add(&scb, a, b);
	before = rel_or(id_sc, rel_then(id_fence, hb_or_same));
	after = rel_or(id_sc, rel_then(hb_or_same, id_fence));
	fences = rel_or(*hb, rel_then(rel_then(*hb, *eco), *hb));
	return rel_or(rel_then(rel_then(before, scb), after), rel_then(rel_then(id_fence, fences), id_fence));
}

static bool c11_allows(const struct graph *g)
{
	struct relation mo = modification_order(g), fr = from_read(g, &mo);
	struct relation eco = rel_closure(rel_or(rel_or(g->rf, mo), fr));
	struct relation hb = happens_before(g);

	if (!rel_is_acyclic(rel_or(g->sb, g->rf))) /* no thin air */
		return false;
	if (!rel_is_irreflexive(rel_then(hb, rel_reflexive(eco, g->count)))) /* coherence */
		return false;
	return rel_is_acyclic(psc(g, &hb, &mo, &fr, &eco));
}

/* ---- TSO ------------------------------------------------------------------------------------------ */

static bool tso_drains(const struct event *e)
{
	switch (e->op.kind) {
	case AX_STORE: case AX_FENCE: return e->op.order == AX_SC;
	case AX_ADD: case AX_SWAP: case AX_CAS: return true;
	default: return false;
	}
}

/* A fence that is no instruction on x86. */
static bool tso_is_nothing(const struct event *e)
{
	return e->op.kind == AX_FENCE && !tso_drains(e);
}

/*
 * The program order that TSO keeps: all pairs except a store before a load with nothing
 * between that drains the buffer.
 */
static bool tso_keeps(const struct graph *g, unsigned a, unsigned b)
{
	if (g->event[a].op.kind != AX_STORE || g->event[b].op.kind != AX_LOAD || tso_drains(&g->event[a]))
		return true;
	for (unsigned between = 0; between < g->count; between++)
		if (rel_has(&g->sb, a, between) && rel_has(&g->sb, between, b) && tso_drains(&g->event[between]))
			return true;
	return false;
}

static bool tso_allows(const struct graph *g)
{
	struct relation mo = modification_order(g), fr = from_read(g, &mo);
	struct relation global = rel_or(mo, fr), local = rel_or(rel_or(mo, fr), g->rf);

	for (unsigned a = 0; a < g->count; a++)
		for (unsigned b = 0; b < g->count; b++) {
			if (rel_has(&g->rf, a, b) && g->event[a].thread != g->event[b].thread)
				rel_add(&global, a, b);
			if (!rel_has(&g->sb, a, b))
				continue;
			if (!tso_is_nothing(&g->event[a]) && !tso_is_nothing(&g->event[b]) && tso_keeps(g, a, b))
				rel_add(&global, a, b);
			if (same_location(&g->event[a], &g->event[b]))
				rel_add(&local, a, b);
		}
	return rel_is_acyclic(global) && rel_is_acyclic(local);
}

/* ---- enumeration ---------------------------------------------------------------------------------- */

static void outcome_add(struct graph *g, uint64_t outcome)
{
	struct ax_outcomes *found = g->found;
	size_t at = 0;

	while (at < found->count && found->outcome[at] < outcome)
		at++;
	if (at < found->count && found->outcome[at] == outcome)
		return;
	if (found->count == g->room) {
		size_t room = g->room ? 2 * g->room : 64;
		uint64_t *more = realloc(found->outcome, room * sizeof(*more));

		if (!more) {
			g->failed = true;
			return;
		}
		found->outcome = more;
		g->room = room;
	}
	memmove(&found->outcome[at + 1], &found->outcome[at], (found->count - at) * sizeof(outcome));
	found->outcome[at] = outcome;
	found->count++;
}

static void graph_judge(struct graph *g)
{
	uint64_t outcome = 0;
	unsigned shift = 0;

	g->found->graphs++;
	if (!(g->model == AX_C11 ? c11_allows(g) : tso_allows(g)))
		return;
	for (unsigned i = 0; i < g->readers; i++, shift += 4)
		outcome |= (uint64_t)g->event[g->reader[i]].read << shift;
	for (unsigned l = 0; l < g->program->locations; l++, shift += 4) {
		unsigned last = l;

		for (unsigned e = 0; e < g->count; e++)
			if (g->event[e].writes && g->event[e].op.location == l && g->event[e].mo > g->event[last].mo)
				last = e;
		outcome |= (uint64_t)g->event[last].written << shift;
	}
	outcome_add(g, outcome);
}

/*
 * Place the writes of `location` after `last`, then those of the following locations. A read-modify-write comes right
 * after the write that it read and nowhere else, and no other write comes there (atomicity).
 */
static void enumerate_mo(struct graph *g, unsigned location, unsigned last, uint32_t placed)
{
	unsigned follows = NONE, left = 0;

	if (location == g->program->locations) {
		graph_judge(g);
		return;
	}
	for (unsigned e = 0; e < g->count; e++) {
		struct event *w = &g->event[e];

		if (!w->writes || w->op.location != location || (placed & rel_bit(e)))
			continue;
		left++;
		if (w->reads && w->from == last) {
			if (follows != NONE)
				return; /* two read-modify-writes read the same write */
			follows = e;
		}
	}
	if (!left) {
		enumerate_mo(g, location + 1, location + 1, placed | rel_bit(location + 1));
		return;
	}
	for (unsigned e = 0; e < g->count; e++) {
		struct event *w = &g->event[e];

		if (!w->writes || w->op.location != location || (placed & rel_bit(e)))
			continue;
		if (follows != NONE ? e != follows : w->reads)
			continue;
		w->mo = (uint8_t)(g->event[last].mo + 1);
		enumerate_mo(g, location, e, placed | rel_bit(e));
	}
}

/* The values that the event reads and writes, given the value of its source. */
static void evaluate(struct event *e, unsigned read)
{
	e->read = (uint8_t)read;
	e->writes = e->op.kind != AX_CAS || read == e->op.expected;
	e->written = (uint8_t)((e->op.kind == AX_ADD ? read + e->op.value : e->op.value) & 15);
}

/*
 * Compute all values along reads-from. Returns: false for a cycle of reads-from and program order, which is no
 * execution in either model, and for a source that wrote nothing.
 */
static bool values_settle(struct graph *g)
{
	struct relation order = rel_closure(rel_or(g->sb, g->rf));
	uint32_t done = 0;

	if (!rel_is_irreflexive(order))
		return false;
	for (unsigned round = 0; round < g->count; round++)
		for (unsigned i = 0; i < g->readers; i++) {
			struct event *e = &g->event[g->reader[i]];
			const struct event *source = &g->event[e->from];

			if ((done & rel_bit(g->reader[i])) || (source->reads && !(done & rel_bit(e->from))))
				continue;
			if (e->op.kind == AX_LOAD)
				e->read = source->written;
			else
				evaluate(e, source->written);
			done |= rel_bit(g->reader[i]);
		}
	for (unsigned i = 0; i < g->readers; i++)
		if (!g->event[g->event[g->reader[i]].from].writes)
			return false;
	return true;
}

static void enumerate_rf(struct graph *g, unsigned reader)
{
	struct event *e;

	if (g->failed)
		return;
	if (reader == g->readers) {
		if (values_settle(g))
			enumerate_mo(g, 0, 0, rel_bit(0));
		return;
	}
	e = &g->event[g->reader[reader]];
	for (unsigned w = 0; w < g->count; w++) {
		if (w == g->reader[reader] || !same_location(&g->event[w], e) || g->event[w].op.kind == AX_LOAD)
			continue;
		e->from = (uint8_t)w;
		rel_add(&g->rf, w, g->reader[reader]);
		enumerate_rf(g, reader + 1);
		rel_remove(&g->rf, w, g->reader[reader]);
	}
}

static void events_make(struct graph *g)
{
	for (unsigned l = 0; l < g->program->locations; l++)
		g->event[g->count++] = (struct event){
			.op = { .kind = AX_STORE, .location = l }, .thread = NONE, .writes = true
		};
	for (unsigned t = 0; t < g->program->threads; t++)
		for (unsigned i = 0; i < g->program->thread[t].count; i++) {
			struct event *e = &g->event[g->count];

			*e = (struct event){ .op = g->program->thread[t].op[i], .thread = (uint8_t)t };
			e->reads = e->op.kind != AX_STORE && e->op.kind != AX_FENCE;
			e->writes = e->op.kind == AX_STORE;
			e->written = (uint8_t)(e->op.value & 15);
			if (e->reads)
				g->reader[g->readers++] = (uint8_t)g->count;
			g->count++;
		}
	for (unsigned a = 0; a < g->count; a++)
		for (unsigned b = a + 1; b < g->count; b++)
			if (g->event[b].thread != NONE &&
			    (g->event[a].thread == NONE || g->event[a].thread == g->event[b].thread))
				rel_add(&g->sb, a, b);
}

unsigned ax_results(const struct ax_program *program)
{
	unsigned results = program->locations;

	for (unsigned t = 0; t < program->threads; t++)
		for (unsigned i = 0; i < program->thread[t].count; i++)
			results += program->thread[t].op[i].kind != AX_STORE &&
			           program->thread[t].op[i].kind != AX_FENCE;
	return results;
}

static bool fits(const struct ax_program *program)
{
	if (program->threads > AX_THREADS || program->locations > AX_LOCATIONS)
		return false;
	for (unsigned t = 0; t < program->threads; t++) {
		if (program->thread[t].count > AX_OPS)
			return false;
		for (unsigned i = 0; i < program->thread[t].count; i++)
			if (program->thread[t].op[i].kind != AX_FENCE &&
			    program->thread[t].op[i].location >= program->locations)
				return false;
	}
	return ax_results(program) <= AX_RESULTS;
}

int ax_enumerate(const struct ax_program *program, enum ax_model model, struct ax_outcomes *outcomes)
{
	struct graph g = { .program = program, .model = model, .found = outcomes };

	*outcomes = (struct ax_outcomes){ 0 };
	if (!fits(program))
		return -1;
	events_make(&g);
	enumerate_rf(&g, 0);
	if (g.failed) {
		free(outcomes->outcome);
		*outcomes = (struct ax_outcomes){ 0 };
		return -1;
	}
	return 0;
}
