/* SPDX-License-Identifier: MIT */
/*
 * Every encoding of the vector and bit-manipulation sets, on the host's CPU and on the software one.
 *
 *     native-sweep [--seed N] [--cases N] [--extension NAME] [--only MNEMONIC] [--number N] [--all] [--table] [--list]
 *                  [--real]
 *
 * --cases: for each extension, over its instructions in turn. --number: this case alone. --all: print every difference.
 * --table: a line for each instruction. --list: the extensions, and how many forms they have. --real: only the host's
 * CPU runs; the table says how its cases ended, so it shows what the cases are worth.
 *
 * An extension is an instruction set as Zydis names it. Of sets that the host's CPU lacks both must say so. Sets that
 * the software CPU does not show in CPUID are left out and counted. The extension INVALID is all the rest: encodings
 * that are no instruction. Options that leave nothing to run are an error.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "native_compare.h"
#include "native_xstate.h"
#include "opcode_case.h"
#include "opcode_cpuid.h"

#define SHOWN 3 /* differences of one instruction */

static struct {
	uint64_t seed;
	unsigned int cases;
	const char *extension, *only;
	long number;
	bool all, table, list, real;
} options = { .seed = 20220505, .cases = 1500, .number = -1 };

struct count {
	unsigned long cases, faults, ended[32], differed, unimplemented, unencoded;
};

static struct {
	struct count count;
	unsigned int absent, hidden;
	unsigned int matched; /* instructions, and sets that are not run, that the options name */
	unsigned int modes;
} total;

static void add(struct count *to, const struct count *from)
{
	to->cases += from->cases;
	to->faults += from->faults;
	for (unsigned int i = 0; i < 32; i++)
		to->ended[i] += from->ended[i];
	to->differed += from->differed;
	to->unimplemented += from->unimplemented;
	to->unencoded += from->unencoded;
}

static void print_count(const char *set, const char *mnemonic, const struct count *c)
{
	if (options.real) {
		printf("%-24s %-18s %8lu cases:", set, mnemonic, c->cases);
		for (unsigned int i = 0; i < 32; i++)
			if (c->ended[i])
				printf(" %lu by vector %u", c->ended[i], i);
		printf("\n");
		return;
	}
	printf("%-24s %-18s %8lu cases %7lu ended in faults %6lu differed %6lu unimplemented %lu not encoded\n", set,
	       mnemonic, c->cases, c->faults, c->differed, c->unimplemented, c->unencoded);
}

static void run_case(const struct gen_case *c, struct count *count, const char *set, unsigned int number)
{
	bool show = options.all || count->differed < SHOWN;
	struct native_result n;
	enum compared how;

	native_run(c, &n.after, &n.end);
	count->cases++;
	count->faults += n.end.vector != 3;
	count->ended[n.end.vector % 32]++;
	if (options.real)
		return;
	how = native_compare(c, &n, SOFT_BLOCK, show);
	if (how == COMPARED_SAME)
		how = native_compare(c, &n, SOFT_STEP, show);
	count->differed += how == COMPARED_DIFFERENT;
	count->unimplemented += how == COMPARED_UNIMPLEMENTED;
	if (how == COMPARED_DIFFERENT && show)
		printf("    again: --seed %llu --extension %s --number %u\n", (unsigned long long)options.seed, set,
		       number);
}

static void run_number(const struct opcode_list *list, const struct opcode_set *set, unsigned int number,
                       struct count *count)
{
	const struct opcode_form *form;
	struct gen_case c;

	if (!opcode_case(options.seed, list, set, number, total.modes, &c, &form)) {
		count->unencoded++;
		return;
	}
	native_xstate_trim(&c.in);
	run_case(&c, count, ZydisISASetGetString(set->set), number);
}

static void run_invalid(void)
{
	const char *name = ZydisISASetGetString(ZYDIS_ISA_SET_INVALID);
	unsigned int first = options.number >= 0 ? (unsigned int)options.number : 0;
	struct count count = { 0 };

	if ((options.extension && strcasecmp(options.extension, name) != 0) || options.list || options.only)
		return;
	total.matched++;
	for (unsigned int i = first; i < (options.number >= 0 ? first + 1 : options.cases); i++) {
		struct gen_case c;

		if (!opcode_case_invalid(options.seed, i, total.modes, &c)) {
			count.unencoded++;
			continue;
		}
		native_xstate_trim(&c.in);
		run_case(&c, &count, name, i);
	}
	print_count(name, "", &count);
	add(&total.count, &count);
}

static void run_set(const struct opcode_list *list, const struct opcode_set *set)
{
	const char *name = ZydisISASetGetString(set->set);
	struct count sum = { 0 };

	for (unsigned int i = 0; i < set->count; i++) {
		const char *mnemonic = ZydisMnemonicGetString(list->mnemonic[set->first + i].mnemonic);
		struct count count = { 0 };

		if (options.only && strcasecmp(options.only, mnemonic) != 0)
			continue;
		if (options.number >= 0) {
			if ((unsigned long)options.number % set->count != i)
				continue;
			run_number(list, set, (unsigned int)options.number, &count);
		} else {
			for (unsigned int number = i; number < options.cases; number += set->count)
				run_number(list, set, number, &count);
		}
		total.matched++;
		if (options.table || count.differed || count.unimplemented)
			print_count(name, mnemonic, &count);
		add(&sum, &count);
	}
	print_count(name, "", &sum);
	fflush(stdout);
	add(&total.count, &sum);
}

static void visit_set(const struct opcode_list *list, const struct opcode_set *set)
{
	const char *name = ZydisISASetGetString(set->set);
	bool host = opcode_set_on_host(set->set), offered = options.real || opcode_set_offered(set->set);
	unsigned long forms = 0;

	if (options.extension && strcasecmp(options.extension, name) != 0)
		return;
	for (unsigned int i = 0; i < set->count; i++)
		forms += list->mnemonic[set->first + i].count;
	total.absent += !host;
	total.hidden += host && !offered;
	if (options.list || (host && !offered)) {
		printf("%-24s %3u instructions, %5lu forms%s\n", name, set->count, forms,
		       !host ? ": the host has none" : !offered ? ": NOT OFFERED by the software CPU" : "");
		total.matched++;
		return;
	}
	run_set(list, set);
}

static void parse(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (strcmp(argv[i], "--all") == 0)
			options.all = true;
		else if (strcmp(argv[i], "--table") == 0)
			options.table = true;
		else if (strcmp(argv[i], "--real") == 0)
			options.real = true;
		else if (strcmp(argv[i], "--list") == 0)
			options.list = true;
		else if (strcmp(argv[i], "--seed") == 0 && value)
			options.seed = strtoull(argv[++i], NULL, 0);
		else if (strcmp(argv[i], "--cases") == 0 && value)
			options.cases = (unsigned int)strtoul(argv[++i], NULL, 0);
		else if (strcmp(argv[i], "--number") == 0 && value)
			options.number = strtol(argv[++i], NULL, 0);
		else if (strcmp(argv[i], "--extension") == 0 && value)
			options.extension = argv[++i];
		else if (strcmp(argv[i], "--only") == 0 && value)
			options.only = argv[++i];
		else {
			fprintf(stderr,
			        "usage: %s [--seed N] [--cases N] [--extension NAME] [--only MNEMONIC] [--number N] "
			        "[--all] [--table] [--list] [--real]\n", argv[0]);
			exit(2);
		}
	}
}

int main(int argc, char **argv)
{
	static uint8_t pattern[GEN_DATA_SIZE];
	struct opcode_list list;

	parse(argc, argv);
	setvbuf(stdout, NULL, _IOLBF, 0);
	gen_pattern(options.seed, pattern);
	if (!native_init(pattern) || !soft_init(pattern, native_xcr0())) {
		printf("skipped: cannot map the test's addresses here\n");
		return 77;
	}
	total.modes = GEN_64 | (native_has(32) ? GEN_32 : 0) | (native_has(16) ? GEN_16 : 0);
	opcode_list_make(&list, opcode_set_is_swept);
	printf("seed %llu, %u cases for each of %zu extensions, %zu instructions in %zu forms, XCR0 %#llx\n",
	       (unsigned long long)options.seed, options.cases, list.sets, list.mnemonics, list.forms,
	       (unsigned long long)native_xcr0());
	for (size_t i = 0; i < list.sets; i++)
		visit_set(&list, &list.set[i]);
	run_invalid();
	opcode_list_free(&list);
	soft_fini();
	if (total.matched == 0) {
		fprintf(stderr, "%s: no instruction is so named, or no case of it has that number\n", argv[0]);
		return 2;
	}
	print_count("native-sweep:", "", &total.count);
	printf("%u extensions that the host lacks, %u that the software CPU does not offer\n", total.absent,
	       total.hidden);
	return total.count.differed || total.count.unimplemented || total.count.unencoded ? 1 : 0;
}
