/* SPDX-License-Identifier: MIT */
/*
 * The fuzzer of the translator.
 *
 *     translate-fuzz [--seed N] [--cases N] [--blocks N] [--first N] [--whole 1]
 *
 * Runs cases until so many are done, or until so many blocks were entered by the CPUs that translate. A case depends on
 * the seed and its number alone. --whole: shows the program before it is shrunk, too.
 * At a difference: prints both, and the smallest program that still shows it; exit 1.
 */
#include "fuzz.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#define TRANSLATORS 3u
#define TRAP_FLAG 0x100u

static struct {
	uint64_t seed, cases, blocks, first, whole;
} options = { .seed = 13, .cases = 4000 };

static struct machine *oracle, *translator[TRANSLATORS];
/* The second lets flags be lost where nobody reads them, but who looks at a fault. */
static const struct cpu_translate_tuning tunings[TRANSLATORS] = {
	{ .runs = 1, .exact = true }, { .runs = 1 }, { .runs = 2, .miss = true, .exact = true },
};
static struct program program;
static struct choices choices;
static struct outcome wanted, got;
static uint64_t ends[END_RUNAWAY + 1];
static struct cpu_state reset;
static volatile uint64_t case_now;

/* ---- comparing --------------------------------------------------------------------------------------------------- */

static const char *different;

static bool fail(const char *what)
{
	different = what;
	return false;
}

static bool same_events(bool exact)
{
	if (wanted.events != got.events)
		return fail("number of exits");
	for (unsigned i = 0; i < wanted.events; i++) {
		struct event a = wanted.event[i], b = got.event[i];
		uint64_t unknown = exact ? fuzz_undefined(&program, a.rip) : ARITHMETIC;

		a.rflags |= unknown;
		b.rflags |= unknown;
		if (memcmp(&a, &b, sizeof(a)) != 0)
			return fail("an exit");
	}
	return true;
}

/* Flags that may differ at the end, and those on the stack of the last exception. */
static uint64_t flags_unknown(const uint8_t *ram, bool exact)
{
	uint32_t frame = wanted.end == END_EXCEPTION ? machine_frame(&wanted) : 0;
	uint64_t rip = wanted.state.rip;

	if (frame != 0)
		memcpy(&rip, ram + frame, 8);
	if (rip == program.start + program.length)
		return 0; /* the INT3 at the end */
	return exact ? fuzz_undefined(&program, rip) : ARITHMETIC;
}

static bool same_memory(uint64_t unknown, struct machine *one, struct machine *other)
{
	static uint8_t ram[2][RAM_PAGES * 4096];
	uint32_t frame = wanted.end == END_EXCEPTION ? machine_frame(&wanted) : 0;

	memcpy(ram[0], machine_ram(one), sizeof(ram[0]));
	memcpy(ram[1], machine_ram(other), sizeof(ram[1]));
	/* A CPU may fetch ahead, which sets Accessed. */
	for (unsigned i = 0; i < 2; i++)
		for (unsigned page = 0; page < CODE_PAGES; page++)
			ram[i][MACHINE_TABLE + 8 * page] |= 0x20;
	for (unsigned i = 0; i < 2 && frame != 0; i++) {
		ram[i][frame + 16] |= unknown & 0xff;
		ram[i][frame + 17] |= unknown >> 8;
	}
	for (unsigned i = 0; i < sizeof(ram[0]); i++) {
		static char text[64];

		if (ram[0][i] == ram[1][i])
			continue;
		snprintf(text, sizeof(text), "memory at %#x: %02x, %02x", i, ram[0][i], ram[1][i]);
		return fail(text);
	}
	return true;
}

static bool same_state(uint64_t unknown)
{
	static struct cpu_state a, b;

	a = wanted.state;
	b = got.state;
	a.rflags |= unknown;
	b.rflags |= unknown;
	/* Of the last x87 instruction: AMD's processors keep them for a pending exception only. */
	a.fx.fop = b.fx.fop = 0;
	a.fx.fip = b.fx.fip = a.fx.fdp = b.fx.fdp = 0;
	if (memcmp(a.gpr, b.gpr, sizeof(a.gpr)) != 0)
		return fail("registers");
	if (a.rip != b.rip || a.rflags != b.rflags)
		return fail("RIP or RFLAGS");
	if (memcmp(&a.fx, &b.fx, sizeof(a.fx)) != 0)
		return fail("x87 or MXCSR");
	if (memcmp(&a.vectors, &b.vectors, sizeof(a.vectors)) != 0)
		return fail("vector registers");
	if (a.cr2 != b.cr2)
		return fail("CR2");
	if (memcmp(&a, &b, sizeof(a)) != 0)
		return fail("the rest of the state");
	return true;
}

/* Returns: true when both did the same, or when one of them took too long. */
static bool run_on(struct machine *one, struct machine *other, bool exact)
{
	uint64_t unknown;

	/* Where flags may be lost, what would have overwritten them must run. */
	choices.skip = exact;
	machine_run(one, &program, &choices, &wanted);
	if (wanted.end == END_RUNAWAY)
		return true;
	machine_run(other, &program, &choices, &got);
	if (got.end == END_RUNAWAY && got.events != 0)
		return true;
	if (wanted.end != got.end)
		return fail("how it ended");
	unknown = flags_unknown(machine_ram(one), exact);
	return same_events(exact) && same_state(unknown) && same_memory(unknown, one, other);
}

static bool run_both(unsigned which)
{
	struct machine *one, *other;
	bool same;

	if (choices.dr[7] == 0 && !(choices.state.rflags & TRAP_FLAG))
		return run_on(oracle, translator[which], tunings[which].exact);
	/* A CPU remembers breakpoints that it met, and the next case is not to see that. */
	one = machine_make(CPU_ENGINE_INTERPRET, &tunings[which]);
	other = machine_make(CPU_ENGINE_TRANSLATE, &tunings[which]);
	same = run_on(one, other, tunings[which].exact);
	machine_free(one);
	machine_free(other);
	return same;
}

/* ---- a case ------------------------------------------------------------------------------------------------------ */

static void choose_state(struct gen_rand *r, struct cpu_state *s)
{
	static const uint32_t mxcsr[] = { 0x1f80, 0x1f80, 0x1f80, 0x1f80, 0x5f80, 0x9fc0, 0xffbf, 0x1f00 };

	*s = reset;
	for (unsigned i = 0; i < 16; i++)
		s->gpr[i] = gen_percent(r, 50) ? DATA_AT + gen_below(r, DATA_PAGES * 4096) : gen_integer(r);
	s->gpr[CPU_RCX] = gen_percent(r, 80) ? gen_below(r, 40) : s->gpr[CPU_RCX];
	s->gpr[CPU_RSP] = STACK_AT + 4096 + gen_below(r, 300) * 8 - 1200;
	s->rflags = 2 | (gen_next(r) & ARITHMETIC) | (gen_percent(r, 10) ? 0x400 : 0) |
	            (gen_percent(r, 10) ? 1u << 18 : 0);
	for (unsigned i = 0; i < 16; i++)
		for (unsigned n = 0; n < 32; n += 8) {
			uint64_t lane = gen_percent(r, 50) ? gen_float(r) : gen_lane(r);

			memcpy(&s->vectors.v[i][n], &lane, 8);
		}
	s->fx.mxcsr = mxcsr[gen_below(r, 8)];
	for (unsigned i = 0; i < 8; i++) {
		uint64_t mantissa = gen_next(r) | UINT64_C(1) << 63;
		uint16_t exponent = (uint16_t)(0x3fff + gen_below(r, 64) - 32);

		memcpy(s->fx.st[i], &mantissa, 8);
		memcpy(s->fx.st[i] + 8, &exponent, 2);
	}
	s->fx.ftw = (uint8_t)gen_next(r);
	s->fx.fsw = (uint16_t)(gen_below(r, 8) << 11);
	s->fx.fcw = gen_percent(r, 90) ? 0x37f : 0x27f;
	s->xcr0 = gen_percent(r, 80) ? 7 : 3;
}

static void choose(struct gen_rand *r, struct choices *c)
{
	bool plain = gen_percent(r, 40);

	*c = (struct choices){ .user = gen_percent(r, 50), .count = 3 + (uint32_t)gen_below(r, 60) };
	choose_state(r, &c->state);
	c->smap = !c->user && gen_percent(r, 30);
	c->align = gen_percent(r, 5);
	c->take_at = (unsigned)gen_below(r, 4);
	for (unsigned i = 0; i < sizeof(c->kind); i++) {
		if (plain || !gen_percent(r, i < DATA_PAGES ? 45 : 8))
			continue;
		c->kind[i] = (uint8_t)gen_below(r, PAGE_KINDS);
		if (i >= DATA_PAGES && (c->kind[i] == PAGE_DEVICE || c->kind[i] == PAGE_MIRRORED))
			c->kind[i] = PAGE_PLAIN;
	}
	if (gen_percent(r, 15))
		c->kick_fault = 1 + (unsigned)gen_below(r, 40);
	else if (gen_percent(r, 15))
		c->kick_us = 1 + (unsigned)gen_below(r, 60);
	if (gen_percent(r, 15))
		c->steps = 1 + (unsigned)gen_below(r, 12);
	c->switching = gen_percent(r, 20);
}

/* One of instructions, one of writes, one of accesses. */
static void choose_breakpoints(struct gen_rand *r, struct choices *c)
{
	c->dr[0] = program.at[gen_below(r, program.items)];
	c->dr[1] = (DATA_AT + gen_below(r, DATA_PAGES * 4096)) & ~UINT64_C(7);
	c->dr[2] = (STACK_AT + 4096 + gen_below(r, 300) * 8 - 1200) & ~UINT64_C(7);
	c->dr[7] = 0x400 | 1 | 4 | 16 | (UINT64_C(9) << 20) | (UINT64_C(11) << 24);
}

static bool make_case(uint64_t number)
{
	struct gen_rand r = { options.seed * UINT64_C(0x9e3779b97f4a7c15) ^ number * UINT64_C(0xd1b54a32d192ed03) };

	gen_next(&r);
	fuzz_program(&r, &program);
	choose(&r, &choices);
	choices.state.rflags |= gen_percent(&r, 4) ? TRAP_FLAG : 0;
	if (program.no_step || (choices.state.rflags & TRAP_FLAG))
		choices.steps = 0;
	if (!fuzz_assemble(&program))
		return false;
	if (!program.no_step && !(choices.state.rflags & TRAP_FLAG) && gen_percent(&r, 8))
		choose_breakpoints(&r, &choices);
	return true;
}

/* ---- a failure --------------------------------------------------------------------------------------------------- */

/* Do both differ in one of a few runs? */
static bool still_differs(unsigned which)
{
	if (!fuzz_assemble(&program))
		return false;
	for (unsigned i = 0; i < (choices.kick_us != 0 ? 200 : 2); i++)
		if (!run_both(which))
			return true;
	return false;
}

static void shrink(unsigned which)
{
	for (unsigned round = 0; round < 3; round++)
		for (unsigned i = program.items; i-- > 0;) {
			if (program.item[i].gone)
				continue;
			program.item[i].gone = true;
			if (!still_differs(which))
				program.item[i].gone = false;
		}
	for (unsigned i = 0; i < sizeof(choices.kind); i++) {
		uint8_t kind = choices.kind[i];

		choices.kind[i] = PAGE_PLAIN;
		if (kind != PAGE_PLAIN && !still_differs(which))
			choices.kind[i] = kind;
	}
}

static void show(const char *who, const struct outcome *o)
{
	printf("%s: end %u, rip %" PRIx64 " rflags %" PRIx64 " mxcsr %x cr2 %" PRIx64 ", %u exits", who, o->end,
	       o->state.rip, o->state.rflags, o->state.fx.mxcsr, o->state.cr2, o->events);
	for (unsigned i = 0; i < 16; i++)
		printf("%s r%-2u %016" PRIx64, i % 4 == 0 ? "\n " : "", i, o->state.gpr[i]);
	printf("\n");
	for (unsigned i = 0; i < 16; i++)
		if (memcmp(wanted.state.vectors.v[i], got.state.vectors.v[i], 64) != 0) {
			printf("  v%u ", i);
			for (unsigned n = 64; n-- > 0;)
				printf("%02x%s", o->state.vectors.v[i][n], n % 8 == 0 ? " " : "");
			printf("\n");
		}
	for (unsigned i = 0; i < o->events; i++)
		printf("  exit %" PRIx64 " at %" PRIx64 ": %" PRIx64 " %" PRIx64 " rflags %" PRIx64 "\n",
		       o->event[i].what, o->event[i].rip, o->event[i].a, o->event[i].b, o->event[i].rflags);
}

static void report(uint64_t number, unsigned which)
{
	printf("case %" PRIu64 " of seed %" PRIu64 ", translator %u: differs in %s\n", number, options.seed, which,
	       different);
	if (options.whole) {
		fuzz_print(&program);
		show("interpreted", &wanted);
		show("translated", &got);
	}
	fflush(stdout);
	shrink(which);
	for (unsigned i = 0; i < 200 && !still_differs(which); i++)
		;
	printf("shrunk: differs in %s. user %d smap %d align %d kick_fault %u kick_us %u steps %u switching %d\n",
	       different, choices.user, choices.smap, choices.align, choices.kick_fault, choices.kick_us, choices.steps,
	       choices.switching);
	printf("pages:");
	for (unsigned i = 0; i < sizeof(choices.kind); i++)
		printf(" %u", choices.kind[i]);
	printf("\nbefore: rflags %" PRIx64 " mxcsr %x", choices.state.rflags, choices.state.fx.mxcsr);
	for (unsigned i = 0; i < 16; i++)
		printf("%s r%-2u %016" PRIx64, i % 4 == 0 ? "\n " : "", i, choices.state.gpr[i]);
	printf("\n");
	fuzz_print(&program);
	show("interpreted", &wanted);
	show("translated", &got);
}

/* ---- all of them ------------------------------------------------------------------------------------------------- */

static void on_alarm(int signal)
{
	(void)signal;
	machine_kick(false);
}

/* Ticks: a case that is still there after two of them has a loop without end. */
static void on_tick(int signal)
{
	static uint64_t last;
	static unsigned ticks;

	(void)signal;
	ticks = last == case_now ? ticks + 1 : 0;
	last = case_now;
	if (ticks >= 2)
		machine_kick(true);
}

static void stats_sum(struct cpu_translate_stats *sum)
{
	*sum = (struct cpu_translate_stats){ 0 };
	for (unsigned i = 0; i < TRANSLATORS; i++) {
		struct cpu_translate_stats one;

		machine_stats(translator[i], &one);
		sum->blocks += one.blocks;
		sum->entries += one.entries;
		sum->accesses += one.accesses;
		sum->calls += one.calls;
		sum->kills += one.kills;
		sum->flushes += one.flushes;
	}
}

static bool done(uint64_t number)
{
	struct cpu_translate_stats sum;

	if (options.blocks == 0)
		return number >= options.first + options.cases;
	if (number % 256 != 0)
		return false;
	stats_sum(&sum);
	return sum.entries >= options.blocks;
}

static void parse(int argc, char **argv)
{
	for (int i = 1; i + 1 < argc; i += 2) {
		uint64_t value = strtoull(argv[i + 1], NULL, 0);

		if (strcmp(argv[i], "--seed") == 0)
			options.seed = value;
		else if (strcmp(argv[i], "--cases") == 0)
			options.cases = value;
		else if (strcmp(argv[i], "--blocks") == 0)
			options.blocks = value;
		else if (strcmp(argv[i], "--first") == 0)
			options.first = value;
		else if (strcmp(argv[i], "--whole") == 0)
			options.whole = value;
		else
			exit(2);
	}
	if (argc % 2 == 0) {
		fprintf(stderr, "usage: %s [--seed N] [--cases N] [--blocks N] [--first N] [--whole 1]\n", argv[0]);
		exit(2);
	}
}

static void machines_make(void)
{
	if (!cpu_engine_set(CPU_ENGINE_TRANSLATE)) {
		printf("skipped: no code can be made here\n");
		exit(77);
	}
	fuzz_code_init();
	cpu_signals_install();
	oracle = machine_make(CPU_ENGINE_INTERPRET, &tunings[0]);
	for (unsigned i = 0; i < TRANSLATORS; i++)
		translator[i] = machine_make(CPU_ENGINE_TRANSLATE, &tunings[i]);
	reset = *machine_reset(oracle);
	signal(SIGALRM, on_alarm);
	signal(SIGVTALRM, on_tick);
	setitimer(ITIMER_VIRTUAL, &(struct itimerval){ { 0, 100000 }, { 0, 100000 } }, NULL);
}

int main(int argc, char **argv)
{
	struct cpu_translate_stats sum;
	uint64_t number, ran = 0;

	parse(argc, argv);
	setvbuf(stdout, NULL, _IOLBF, 0);
	machines_make();
	for (number = options.first; !done(number); number++) {
		unsigned which = (unsigned)(number % TRANSLATORS);

		case_now = number;
		if (!make_case(number))
			continue;
		ran++;
		if (!run_both(which)) {
			report(number, which);
			return 1;
		}
		ends[wanted.end]++;
	}
	stats_sum(&sum);
	printf("translate-fuzz: seed %" PRIu64 ", %" PRIu64 " cases (%" PRIu64 " HLT, %" PRIu64 " exceptions, %" PRIu64
	       " shutdowns, %" PRIu64 " others, %" PRIu64 " too long), no difference\n",
	       options.seed, ran, ends[END_HLT], ends[END_EXCEPTION], ends[END_SHUTDOWN], ends[END_OTHER],
	       ends[END_RUNAWAY]);
	printf("translated: %" PRIu64 " blocks, %" PRIu64 " entered, %" PRIu64 " slow accesses, %" PRIu64 " calls, "
	       "%" PRIu64 " killed, %" PRIu64 " flushes\n",
	       sum.blocks, sum.entries, sum.accesses, sum.calls, sum.kills, sum.flushes);
	machine_free(oracle);
	for (unsigned i = 0; i < TRANSLATORS; i++)
		machine_free(translator[i]);
	return sum.entries < ran ? 1 : 0;
}
