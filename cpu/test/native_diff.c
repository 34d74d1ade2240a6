/* SPDX-License-Identifier: MIT */
/*
 * The same instruction on the host's CPU and on the software one: registers, flags, memory and the way it ended must
 * agree. Only flags that the architecture leaves undefined for the instruction are not compared.
 *
 *     native-diff [--seed N] [--count N] [--only MNEMONIC] [--all]
 *
 * --count: cases for each row of the table, operand size and mode. --all: print every failure, not the first few.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "native_compare.h"
#include "native_xstate.h"

#define SHOWN 10
#define SEQUENCES 300	/* times count */

static struct {
	uint64_t seed;
	unsigned int count;
	const char *only;
	bool all;
} options = { .seed = 20220505, .count = 60 };

static struct {
	unsigned long compared, failed, shown, rows;
	unsigned long unimplemented;
	unsigned int slot;
} total;

static void compare(const struct gen_case *c, const struct native_result *n, enum soft_mode mode, bool *unimplemented)
{
	switch (native_compare(c, n, mode, options.all || total.shown < SHOWN)) {
	case COMPARED_UNIMPLEMENTED:
		*unimplemented = true;
		return;
	case COMPARED_DIFFERENT:
		total.shown++;
		total.failed++;
		break;
	case COMPARED_SAME:
		break;
	}
	total.compared++;
}

/* A slot is used again. The CPU must notice that the code there is no longer the code that it decoded. */
static void next_slot(void)
{
	total.slot = (total.slot + 1) % GEN_SLOT_MAX;
}

static void run_row(const struct gen_row *row, unsigned int size, unsigned int bits)
{
	unsigned long made = 0, unimplemented = 0, failed = total.failed;

	for (unsigned int i = 0; i < options.count; i++) {
		struct gen_case c;
		struct native_result n;
		bool none = false;

		if (!gen_case(options.seed, row, size, bits, i, total.slot, &c))
			continue;
		made++;
		next_slot();
		native_run(&c, &n.after, &n.end);
		if (n.end.vector == 6 && row->mnemonic != ZYDIS_MNEMONIC_UD2)
			continue; /* the host's CPU is too old for it */
		compare(&c, &n, SOFT_BLOCK, &none);
		if (!none)
			compare(&c, &n, SOFT_STEP, &none);
		unimplemented += none;
	}
	total.unimplemented += unimplemented;
	if (made == 0 && size == 0)
		printf("  NOT ENCODED: %s %s %u-bit\n", ZydisMnemonicGetString(row->mnemonic), row->form,
		       bits);
	if (unimplemented)
		printf("  NOT THERE: %s %s %u %u-bit: %lu cases\n", ZydisMnemonicGetString(row->mnemonic), row->form,
		       size, bits, unimplemented);
	if (total.failed != failed && (options.all || total.rows++ < 40))
		printf("  FAILED: %s %s %u %u-bit: %lu of %lu runs\n", ZydisMnemonicGetString(row->mnemonic),
		       row->form, size, bits, total.failed - failed, 2 * made);
}

static void run_table(const char *name, const struct gen_table *table)
{
	unsigned long before = total.compared;

	for (size_t i = 0; i < table->count; i++) {
		const struct gen_row *row = &table->row[i];

		if (options.only && strcmp(options.only, ZydisMnemonicGetString(row->mnemonic)) != 0)
			continue;
		for (unsigned int bits = 64; bits >= 16; bits /= 2) {
			if (!gen_row_has(row, bits) || !native_has(bits))
				continue;
			if (row->sizes == 0)
				run_row(row, 0, bits);
			for (unsigned int size = 1; size <= (bits == 64 ? 8 : 4); size *= 2)
				if (row->sizes & size)
					run_row(row, size, bits);
		}
	}
	printf("%s: %lu compared\n", name, total.compared - before);
	fflush(stdout);
}

static void run_sequences(void)
{
	unsigned long before = total.compared, failed = total.failed;

	for (unsigned int i = 0; i < options.count * SEQUENCES; i++) {
		unsigned int bits = i % 2 ? 64 : i % 4 ? 32 : 16;
		bool none = false;
		struct gen_case c;
		struct native_result n;

		if (!native_has(bits) || !gen_sequence(options.seed, bits, i, total.slot, &c))
			continue;
		next_slot();
		native_run(&c, &n.after, &n.end);
		if (n.end.vector == 6)
			continue; /* the host's CPU is too old for one of them */
		compare(&c, &n, SOFT_BLOCK, &none);
		total.unimplemented += none;
	}
	printf("sequences: %lu compared, %lu different\n", total.compared - before, total.failed - failed);
}

static void parse(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--all") == 0)
			options.all = true;
		else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
			options.seed = strtoull(argv[++i], NULL, 0);
		else if (strcmp(argv[i], "--count") == 0 && i + 1 < argc)
			options.count = (unsigned int)strtoul(argv[++i], NULL, 0);
		else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc)
			options.only = argv[++i];
		else {
			fprintf(stderr, "usage: %s [--seed N] [--count N] [--only MNEMONIC] [--all]\n", argv[0]);
			exit(2);
		}
	}
}

int main(int argc, char **argv)
{
	static uint8_t pattern[GEN_DATA_SIZE];

	parse(argc, argv);
	setvbuf(stdout, NULL, _IOLBF, 0);
	gen_pattern(options.seed, pattern);
	if (!native_init(pattern) || !soft_init(pattern, native_xcr0())) {
		printf("skipped: cannot map the test's addresses here\n");
		return 77;
	}
	printf("seed %llu, %u cases for each form, 32-bit code %s, 16-bit code %s\n", (unsigned long long)options.seed,
	       options.count, native_has(32) ? "too" : "not possible here",
	       native_has(16) ? "too" : "not possible here");
	run_table("integer", &gen_table_int);
	run_table("sse", &gen_table_sse);
	run_table("mmx", &gen_table_mmx);
	run_table("x87", &gen_table_x87);
	if (!options.only)
		run_sequences();
	soft_fini();
	printf("native-diff: %lu cases compared, %lu different, %lu not there yet\n", total.compared, total.failed,
	       total.unimplemented);
	return total.failed || total.unimplemented ? 1 : 0;
}
