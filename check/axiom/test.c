/* SPDX-License-Identifier: MIT */
/*
 * Compares the oracle with the verdicts of the literature. Each line: a program, one outcome of it ('.' is any
 * value), and which models allow it.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check/axiom/parse.h"

#define C11 1u
#define TSO 2u

static const struct verdict {
	const char *name, *program, *outcome;
	unsigned allowed;
} verdicts[] = {
	{ "SB", "x=1 y | y=1 x", "00..", C11 | TSO },
	{ "SB, release and acquire", "x=1r ya | y=1r xa", "00..", C11 | TSO },
	{ "SB, sequentially consistent", "x=1s ys | y=1s xs", "00..", 0 },
	{ "SB, fences", "x=1 Fs y | y=1 Fs x", "00..", 0 },
	{ "SB, one fence", "x=1 Fs y | y=1 x", "00..", C11 | TSO },
	{ "SB, acquire-release fences", "x=1 Fq y | y=1 Fq x", "00..", C11 | TSO },
	{ "SB, exchanges", "x<1q y | y<1q x", "00.0..", C11 },
	{ "SB, sequentially consistent exchanges, relaxed loads", "x<1s y | y<1s x", "0000..", C11 },
	{ "MP", "x=1 y=1 | y x", "10..", C11 },
	{ "MP, release and acquire", "x=1 y=1r | ya x", "10..", 0 },
	{ "MP, release only", "x=1 y=1r | y x", "10..", C11 },
	{ "MP, acquire only", "x=1 y=1 | ya x", "10..", C11 },
	{ "MP, fences", "x=1 Fr y=1 | y Fa x", "10..", 0 },
	{ "MP, release fence and acquire", "x=1 Fr y=1 | ya x", "10..", 0 },
	{ "MP, a read-modify-write carries it on", "x=1 y=1r | y+1 | ya x", "120..", 0 },
	{ "MP, another thread's store does not", "x=1 y=1r | y=2 | ya x", "20.2", C11 },
	{ "MP, the same thread's store does", "x=1 y=1r y=2 | ya x", "20..", 0 },
	{ "LB", "x y=1 | y x=1", "11..", 0 },
	{ "LB, one way", "x y=1 | y x=1", "01..", C11 | TSO },
	{ "IRIW", "x=1 | y=1 | x y | y x", "1010..", C11 },
	{ "IRIW, acquire", "x=1r | y=1r | xa ya | ya xa", "1010..", C11 },
	{ "IRIW, sequentially consistent", "x=1s | y=1s | xs ys | ys xs", "1010..", 0 },
	{ "IRIW, fences between the reads", "x=1 | y=1 | x Fs y | y Fs x", "1010..", 0 },
	{ "WRC", "x=1 | x y=1 | y x", "110..", C11 },
	{ "WRC, release and acquire", "x=1 | xa y=1r | ya x", "110..", 0 },
	{ "ISA2", "x=1 y=1 | y z=1 | z x", "110...", C11 },
	{ "ISA2, release and acquire", "x=1 y=1r | ya z=1r | za x", "110...", 0 },
	{ "2+2W", "x=1 y=2 | y=1 x=2", "11", C11 },
	{ "2+2W, release", "x=1r y=2r | y=1r x=2r", "11", C11 },
	{ "2+2W, sequentially consistent", "x=1s y=2s | y=1s x=2s", "11", 0 },
	{ "2+2W, fences", "x=1 Fs y=2 | y=1 Fs x=2", "11", 0 },
	{ "R", "x=1 y=1 | y=2 x", "0.2", C11 | TSO },
	{ "R, fences", "x=1 Fs y=1 | y=2 Fs x", "0.2", 0 },
	{ "S", "x=2 y=1 | y x=1", "12.", C11 },
	{ "S, release and acquire", "x=2 y=1r | ya x=1", "12.", 0 },
	{ "CoRR", "x=1 | x x", "10.", 0 },
	{ "CoRR, two readers", "x=1 | x=2 | x x | x x", "1221.", 0 },
	{ "CoWW", "x=1 x=2", "1", 0 },
	{ "CoWR", "x=1 x | x=2", "0.", 0 },
	{ "CoRW", "x x=1 | x=2", "1.", 0 },
	{ "CoRW1", "x x=1 | x=2", "21", C11 | TSO },
	{ "CoRW2", "x x=1 | x=2", "22", 0 },
	{ "two additions", "x+1 | x+1", "002", 0 },
	{ "two additions, one after the other", "x+1 | x+1", "012", C11 | TSO },
	{ "two locks", "x?0:1 | x?0:2", "00.", 0 },
	{ "a failed swap does not order", "x=1 y=1r | y?0:2q x", "10..", C11 },
	{ "a swap that succeeds does", "x=1 y=1r | y?1:2q x", "10..", 0 },
	/* RC11's own examples: what C11's first wording forbade and hardware shows. */
	{ "an SC load after a relaxed one", "x=1s y=1 | y xs", "10..", C11 },
	{ "Z6.U", "x=1s y=1r | y+1s y | y=3s xs", "130..", C11 },
	{ "RWC, SC", "x=1s | xs ys | y=1s xs", "100..", 0 },
	{ "RWC, fences", "x=1 | x Fs y | y=1 Fs x", "100..", 0 },
	{ "W+RWC, one fence missing", "x=1 y=1 | y z | z=1 x", "100...", C11 | TSO },
};

static bool matches(uint64_t outcome, const char *want)
{
	for (; *want; want++, outcome >>= 4)
		if (*want != '.' && (outcome & 15) != (unsigned)(*want - '0'))
			return false;
	return true;
}

static bool allows(const struct verdict *v, const struct ax_program *program, enum ax_model model)
{
	struct ax_outcomes outcomes;
	bool found = false;

	if (ax_enumerate(program, model, &outcomes)) {
		fprintf(stderr, "%s: too large\n", v->name);
		exit(1);
	}
	for (size_t i = 0; i < outcomes.count; i++)
		found |= matches(outcomes.outcome[i], v->outcome);
	free(outcomes.outcome);
	return found;
}

int main(void)
{
	unsigned passed = 0, failed = 0;

	for (size_t i = 0; i < sizeof(verdicts) / sizeof(verdicts[0]); i++) {
		const struct verdict *v = &verdicts[i];
		struct ax_program program;
		unsigned allowed;

		if (ax_parse(v->program, &program) || ax_results(&program) != strlen(v->outcome)) {
			printf("%s: %s has not the results %s\n", v->name, v->program, v->outcome);
			failed++;
			continue;
		}
		allowed = (allows(v, &program, AX_C11) ? C11 : 0) | (allows(v, &program, AX_TSO) ? TSO : 0);
		if (allowed == v->allowed) {
			passed++;
			continue;
		}
		failed++;
		printf("%s: %s, outcome %s: C11 %s, TSO %s, should be C11 %s, TSO %s\n", v->name, v->program,
		       v->outcome, allowed & C11 ? "allows" : "forbids", allowed & TSO ? "allows" : "forbids",
		       v->allowed & C11 ? "allows" : "forbids", v->allowed & TSO ? "allows" : "forbids");
	}
	printf("%u passed, %u failed\n", passed, failed);
	return failed != 0;
}
