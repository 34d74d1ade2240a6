/* SPDX-License-Identifier: MIT */
/*
 * Random small programs in all searches. The graph search must find what the search without reduction finds, no more
 * and no less. Random and PCT searches must find nothing else. A failing execution must replay. Programs of atomics
 * only are also compared with the axioms.
 *
 *     fuzz [SECONDS [SEED]]     CPU time, default 10; ends with "N passed, N failed"
 *
 * A failing program is made smaller, and printed with its seed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check/fuzz/steps.h"
#include "check/litmus/program.h"

#define DFS_MOST   60000
#define GRAPH_MOST 200000
#define TEXTS      8192

static uint64_t random_state;

static unsigned below(unsigned n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (unsigned)((random_state >> 20) % n);
}

/* ---- programs ------------------------------------------------------------------------------------- */

/* The orders in a program. If all orders were equally likely, those that need each other would hardly ever meet. */
enum style { ANY, ALL_SC, SC_FENCES, RELEASE_ACQUIRE, STYLES };

static enum ax_order random_order(enum step_kind kind, enum style style)
{
	static const enum ax_order loads[] = { AX_RLX, AX_ACQ, AX_SC }, stores[] = { AX_RLX, AX_REL, AX_SC };
	bool load = kind == STEP_LOAD || kind == STEP_SPIN || kind == STEP_WAIT, store = kind == STEP_STORE;

	if (style == ALL_SC && below(8))
		return AX_SC;
	if (style == SC_FENCES && below(8))
		return kind == STEP_FENCE ? AX_SC : AX_RLX;
	if (style == RELEASE_ACQUIRE && below(8))
		return load ? AX_ACQ : store ? AX_REL : AX_ACQ_REL;
	if (load)
		return loads[below(3)];
	if (store)
		return stores[below(3)];
	if (kind == STEP_FENCE)
		return (enum ax_order)(AX_ACQ + below(4));
	return (enum ax_order)below(5);
}

static struct step random_step(bool atomics_only, enum style style, unsigned locations)
{
	static const enum step_kind atomics[] = {
		STEP_LOAD, STEP_LOAD, STEP_LOAD, STEP_STORE, STEP_STORE, STEP_STORE, STEP_ADD, STEP_SWAP,
		STEP_CAS, STEP_FENCE
	};
	struct step s = { .location = below(locations), .value = 1 + below(2), .expected = below(2) };

	if (atomics_only || below(2))
		s.kind = atomics[below(sizeof(atomics) / sizeof(atomics[0]))];
	else
		s.kind = (enum step_kind)(STEP_READ + below(STEP_KINDS - STEP_READ));
	if (style == SC_FENCES && below(3) == 0)
		s.kind = STEP_FENCE;
	if (s.kind == STEP_SPIN_SWAP)
		s.expected = 0;
	s.order = random_order(s.kind, style);
	return s;
}

static bool opens(enum step_kind kind)
{
	/* the step that closes it comes next in enum step_kind */
	return kind == STEP_LOCK || kind == STEP_RCU_LOCK || kind == STEP_RW_LOCK;
}

static bool closes(enum step_kind kind)
{
	return kind == STEP_UNLOCK || kind == STEP_RCU_UNLOCK || kind == STEP_RW_UNLOCK;
}

/* Close every section, the last opened first. A step that would close what is not open is dropped. */
static void balance(struct steps *p, unsigned t)
{
	struct step open[STEPS];
	unsigned depth = 0, n = 0, count = p->thread[t].count;
	struct step out[2 * STEPS];

	for (unsigned i = 0; i < count; i++) {
		struct step s = p->thread[t].step[i];
		bool held = false;

		for (unsigned d = 0; d < depth; d++)
			held |= open[d].kind != STEP_RCU_LOCK && open[d].location == s.location;
		if (closes(s.kind) || (held && (opens(s.kind) || s.kind == STEP_TRYLOCK)) ||
		    (depth && s.kind == STEP_SYNCHRONIZE))
			continue;
		out[n++] = s;
		if (opens(s.kind))
			open[depth++] = s;
		if (depth && below(2)) {
			out[n] = open[--depth];
			out[n++].kind++;
		}
	}
	while (depth) {
		out[n] = open[--depth];
		out[n++].kind++;
	}
	p->thread[t].count = n < STEPS ? n : 0;
	memcpy(p->thread[t].step, out, p->thread[t].count * sizeof(out[0]));
}

static void random_steps(struct steps *p, bool atomics_only)
{
	static const unsigned most[] = { 0, 0, 5, 3, 2 };
	enum style style = (enum style)below(STYLES);
	unsigned locations = 2 + (below(3) == 0);

	memset(p, 0, sizeof(*p));
	p->threads = 2 + (below(3) == 0) + (atomics_only && below(4) == 0);
	for (unsigned t = 0; t < p->threads; t++) {
		p->thread[t].count = 1 + below(most[p->threads]);
		for (unsigned i = 0; i < p->thread[t].count; i++)
			p->thread[t].step[i] = random_step(atomics_only, style, locations);
		balance(p, t);
	}
}

static void print_steps(const struct steps *p)
{
	static const char *const names[STEP_KINDS] = {
		"load", "store", "add", "swap", "cas", "fence", "read", "write", "lock", "unlock", "trylock",
		"spin", "spin_swap", "wait", "wake", "choose", "rcu_lock", "rcu_unlock", "synchronize",
		"rw_lock", "rw_unlock", "call"
	};
	static const char *const orders[] = { "rlx", "acq", "rel", "acq_rel", "sc" };

	for (unsigned t = 0; t < p->threads; t++) {
		printf("  thread %u:", t);
		for (unsigned i = 0; i < p->thread[t].count; i++) {
			const struct step *s = &p->thread[t].step[i];

			printf(" %s(%c, %u, %u, %s)", names[s->kind], 'x' + (int)s->location, s->value, s->expected,
			       orders[s->order]);
		}
		printf("\n");
	}
}

/* ---- outcomes ------------------------------------------------------------------------------------- */

struct texts {
	unsigned count;
	bool full;
	char text[TEXTS][40];
};

static void texts_add(void *arg, const char *text)
{
	struct texts *all = arg;
	unsigned low = 0, high = all->count;

	while (low < high) {
		unsigned mid = (low + high) / 2;
		int order = strcmp(all->text[mid], text);

		if (order == 0)
			return;
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	if (all->count == TEXTS) {
		all->full = true;
		return;
	}
	memmove(all->text[low + 1], all->text[low], (all->count - low) * sizeof(all->text[0]));
	snprintf(all->text[low], sizeof(all->text[low]), "%s", text);
	all->count++;
}

/* The first of `small` that is not in `large`; NULL: none. */
static const char *texts_missing(const struct texts *small, const struct texts *large)
{
	unsigned at = 0;

	for (unsigned i = 0; i < small->count; i++) {
		while (at < large->count && strcmp(large->text[at], small->text[i]) < 0)
			at++;
		if (at == large->count || strcmp(large->text[at], small->text[i]))
			return small->text[i];
	}
	return NULL;
}

static void search(const struct steps *p, enum check_strategy strategy, enum check_model model, uint64_t most,
                   struct texts *found, struct check_result *result)
{
	struct check_search s = {
		.scenario = steps_scenario(p), .strategy = strategy, .model = model,
		.preemptions = CHECK_NO_BOUND, .stale = CHECK_NO_BOUND, .depth = 3, .seed = 1,
		.executions = most, .outcome = texts_add, .arg = found
	};

	found->count = 0;
	found->full = false;
	check_run(&s, result);
}

/* ---- judging -------------------------------------------------------------------------------------- */

static uint64_t judged, against_dfs, against_axioms, against_silence, failing;
static char why[512];

static bool replays(const struct steps *p, const struct check_result *first)
{
	struct check_search s = {
		.scenario = steps_scenario(p), .strategy = CHECK_REPLAY, .replay = first->seed,
		.stale = CHECK_NO_BOUND
	};
	struct check_result again;

	if (first->verdict == CHECK_HANG)
		return true; /* replaying a hang takes long */
	check_run(&s, &again);
	if (again.verdict == first->verdict && !strcmp(again.message, first->message))
		return true;
	snprintf(why, sizeof(why), "seed %.100s: was %.100s, replay: %.100s", first->seed, first->message,
	         again.message);
	return false;
}

static bool is_atomic_only(const struct steps *p)
{
	for (unsigned t = 0; t < p->threads; t++)
		for (unsigned i = 0; i < p->thread[t].count; i++)
			if (p->thread[t].step[i].kind > STEP_FENCE)
				return false;
	return true;
}

static bool axioms_agree(const struct steps *p, enum check_model model)
{
	struct ax_program program = { .threads = p->threads, .locations = STEP_LOCATIONS };
	struct ax_outcomes want, found;
	struct check_result result;
	bool good;

	for (unsigned t = 0; t < p->threads; t++) {
		if (p->thread[t].count > AX_OPS)
			return true;
		program.thread[t].count = p->thread[t].count;
		for (unsigned i = 0; i < p->thread[t].count; i++) {
			const struct step *s = &p->thread[t].step[i];

			program.thread[t].op[i] = (struct ax_op){
				(enum ax_kind)s->kind, s->order, s->location, s->value, s->expected
			};
		}
	}
	if (ax_enumerate(&program, model == CHECK_TSO ? AX_TSO : AX_C11, &want))
		return true;
	good = program_search(program_scenario(&program), CHECK_GRAPH, model, CHECK_NO_BOUND, GRAPH_MOST, &found,
	                      &result);
	if (good && result.exhausted) {
		against_axioms++;
		good = outcomes_equal(&want, &found);
	}
	if (!good)
		snprintf(why, sizeof(why), "%s: the axioms allow %.150s, the search finds %.150s %.100s",
		         model == CHECK_TSO ? "tso" : "c11", outcomes_text(&want, ax_results(&program)),
		         outcomes_text(&found, ax_results(&program)), result.message);
	free(want.outcome);
	free(found.outcome);
	return good;
}

static bool sampled_is_part(const struct steps *p, enum check_strategy strategy, enum check_model model,
                            const struct texts *all, bool fails)
{
	static struct texts found;
	struct check_result result;
	const char *more;

	search(p, strategy, model, 300, &found, &result);
	if (fails)
		return true; /* the graph search does not explore what follows a failure */
	more = texts_missing(&found, all);
	if (!more)
		return true;
	snprintf(why, sizeof(why), "%s finds %s, which the search of graphs does not (%.200s)",
	         check_strategy_name(strategy), more, result.message);
	return false;
}

static bool has_loops(const struct steps *p)
{
	for (unsigned t = 0; t < p->threads; t++)
		for (unsigned i = 0; i < p->thread[t].count; i++)
			if (p->thread[t].step[i].kind == STEP_SPIN || p->thread[t].step[i].kind == STEP_SPIN_SWAP)
				return true;
	return false;
}

/* Loops that do not say that they spin must make no difference. */
static bool silence_agrees(const struct steps *p, enum check_model model, const struct texts *said,
                           const struct check_result *result)
{
	static struct texts found;
	struct steps silent = *p;
	struct check_result other;
	const char *more;

	silent.silent = true;
	search(&silent, CHECK_GRAPH, model, GRAPH_MOST, &found, &other);
	if (!other.failures && !other.exhausted)
		return true;
	against_silence++;
	more = texts_missing(said, &found);
	if (!more)
		more = texts_missing(&found, said);
	if (other.failures ? result->failures > 0 : !result->failures && !more)
		return true;
	snprintf(why, sizeof(why), "loops without check_pause differ: %.100s %.200s", more ? more : "",
	         other.failures ? other.message : result->message);
	return false;
}

static bool agrees(const struct steps *p, enum check_model model)
{
	static struct texts graph, dfs;
	struct check_result g, d;
	const char *more;

	search(p, CHECK_GRAPH, model, GRAPH_MOST, &graph, &g);
	if (g.failures && !replays(p, &g))
		return false;
	if (!g.failures && !g.exhausted)
		return true;
	judged++;
	failing += g.failures > 0;
	if (has_loops(p) && !silence_agrees(p, model, &graph, &g))
		return false;
	search(p, CHECK_DFS, model, DFS_MOST, &dfs, &d);
	if (d.failures && !replays(p, &d))
		return false;
	if (d.failures && !g.failures) {
		snprintf(why, sizeof(why), "dfs fails: %.200s; the search of graphs does not", d.message);
		return false;
	}
	if (!d.failures && d.exhausted && g.failures) {
		snprintf(why, sizeof(why), "the search of graphs fails: %.200s; dfs does not", g.message);
		return false;
	}
	if (!d.failures && !g.failures) {
		more = texts_missing(&dfs, &graph);
		if (more) {
			snprintf(why, sizeof(why), "dfs finds %s, which the search of graphs does not", more);
			return false;
		}
		more = d.exhausted && !dfs.full ? texts_missing(&graph, &dfs) : NULL;
		against_dfs += d.exhausted;
		if (more) {
			snprintf(why, sizeof(why), "the search of graphs finds %s, which dfs does not", more);
			return false;
		}
	}
	return sampled_is_part(p, CHECK_RANDOM, model, &graph, g.failures) &&
	       sampled_is_part(p, CHECK_PCT, model, &graph, g.failures);
}

static bool judge(const struct steps *p, enum check_model model)
{
	return is_atomic_only(p) && !axioms_agree(p, model) ? false : agrees(p, model);
}

/* Take steps away as long as the program stays wrong. */
static void shrink(struct steps *p, enum check_model model)
{
	bool smaller = true;

	while (smaller) {
		smaller = false;
		for (unsigned t = 0; t < p->threads; t++)
			for (unsigned i = 0; i < p->thread[t].count; i++) {
				struct steps less = *p;

				less.thread[t].count--;
				memmove(&less.thread[t].step[i], &less.thread[t].step[i + 1],
				        (less.thread[t].count - i) * sizeof(struct step));
				if (judge(&less, model))
					continue;
				*p = less;
				smaller = true;
				i--;
			}
	}
	judge(p, model);
}

int main(int argc, char **argv)
{
	double seconds;
	uint64_t seed, programs = 0, failed = 0;

	check_start(argc, argv);
	seconds = argc > 1 ? atof(argv[1]) : 10;
	seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	while ((double)clock() / CLOCKS_PER_SEC < seconds && failed < 5) {
		struct steps p;
		enum check_model model;

		random_state = (seed + programs) * 0x9e3779b97f4a7c15ull | 1;
		for (int i = 0; i < 8; i++)
			below(2);
		model = below(3) == 0 ? CHECK_TSO : CHECK_C11;
		random_steps(&p, below(3) == 0);
		programs++;
		if (judge(&p, model))
			continue;
		failed++;
		shrink(&p, model);
		printf("program %lu, %s: %s\n", (unsigned long)(seed + programs - 1),
		       model == CHECK_TSO ? "tso" : "c11", why);
		print_steps(&p);
		fflush(stdout);
	}
	printf("%lu programs: %lu against the search without reduction, %lu against the axioms, %lu with "
	       "silent loops, %lu fail as they should\n",
	       (unsigned long)programs, (unsigned long)against_dfs, (unsigned long)against_axioms,
	       (unsigned long)against_silence, (unsigned long)failing);
	printf("%lu passed, %lu failed\n", (unsigned long)(programs - failed), (unsigned long)failed);
	return failed != 0;
}
