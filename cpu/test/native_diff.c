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

#include "native.h"
#include "native_soft.h"

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

struct result {
	struct gen_state after;
	struct gen_end end;
};

/* ---- printing ------------------------------------------------------------------------------------------ */

static const char *const gpr_name[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					  "r8",	 "r9",	"r10", "r11", "r12", "r13", "r14", "r15" };

static void print_instructions(const struct gen_case *c)
{
	ZydisDisassembledInstruction d;
	ZydisMachineMode mode = c->bits == 64	? ZYDIS_MACHINE_MODE_LONG_64
				: c->bits == 32 ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32
						: ZYDIS_MACHINE_MODE_LONG_COMPAT_16;
	unsigned int at = 0, length;

	printf("%u-bit, at %#llx\n", c->bits, (unsigned long long)c->in.rip);
	for (; at < c->length; at += length) {
		bool known = ZYAN_SUCCESS(
			ZydisDisassembleIntel(mode, c->in.rip + at, c->bytes + at, c->length - at, &d));

		length = known ? d.info.length : c->length - at;
		printf("   ");
		for (unsigned int i = 0; i < length; i++)
			printf(" %02x", c->bytes[at + i]);
		printf("  %s\n", known ? d.text : "?");
	}
}

static void print_difference(const char *name, uint64_t in, uint64_t native, uint64_t soft)
{
	if (native != soft)
		printf("    %-6s before %016llx  real %016llx  vmmu %016llx\n", name, (unsigned long long)in,
		       (unsigned long long)native, (unsigned long long)soft);
}

static void print_memory(const uint8_t *native, const uint8_t *soft)
{
	unsigned int printed = 0;

	for (unsigned int i = 0; i < GEN_DATA_SIZE && printed < 16; i++)
		if (native[i] != soft[i] && ++printed)
			printf("    [%#x] real %02x  vmmu %02x\n", GEN_DATA + i, native[i], soft[i]);
}

static void print_failure(const struct gen_case *c, const struct result *n, const struct result *s, const uint8_t *soft,
			  const char *how)
{
	char name[16];

	printf("  DIFFERENT (%s): ", how);
	print_instructions(c);
	print_difference("vector", 0, n->end.vector, s->end.vector);
	if (n->end.vector == 14) {
		print_difference("error", 0, n->end.error, s->end.error);
		print_difference("cr2", 0, n->end.cr2, s->end.cr2);
	}
	for (unsigned int i = 0; i < 16; i++)
		print_difference(gpr_name[i], c->in.gpr[i], n->after.gpr[i], s->after.gpr[i]);
	print_difference("rip", c->in.rip, n->after.rip, s->after.rip);
	if ((n->after.rflags ^ s->after.rflags) & ~c->flags_undefined & (GEN_STATUS | GEN_DF | 0x200000))
		print_difference("flags", c->in.rflags, n->after.rflags, s->after.rflags);
	print_difference("mxcsr", c->in.mxcsr, n->after.mxcsr, s->after.mxcsr);
	for (unsigned int i = 0; i < 16; i++) {
		snprintf(name, sizeof(name), "xmm%uh", i);
		print_difference(name, c->in.xmm[i].q[1], n->after.xmm[i].q[1], s->after.xmm[i].q[1]);
		snprintf(name, sizeof(name), "xmm%ul", i);
		print_difference(name, c->in.xmm[i].q[0], n->after.xmm[i].q[0], s->after.xmm[i].q[0]);
	}
	print_difference("fcw", c->in.fcw, n->after.fcw, s->after.fcw);
	print_difference("fsw", c->in.fsw, n->after.fsw, s->after.fsw);
	print_difference("ftw", c->in.ftw, n->after.ftw, s->after.ftw);
	for (unsigned int i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "st%uh", i);
		print_difference(name, c->in.st[i].q[1], n->after.st[i].q[1], s->after.st[i].q[1]);
		snprintf(name, sizeof(name), "st%ul", i);
		print_difference(name, c->in.st[i].q[0], n->after.st[i].q[0], s->after.st[i].q[0]);
	}
	print_memory(native_data(), soft);
	printf("    in:");
	for (unsigned int i = 0; i < 16; i++)
		printf(" %s=%llx", gpr_name[i], (unsigned long long)c->in.gpr[i]);
	printf(" flags=%llx\n", (unsigned long long)c->in.rflags);
}

/* ---- comparing ----------------------------------------------------------------------------------------- */

static bool same_end(const struct gen_case *c, const struct result *n, const struct result *s)
{
	if (n->end.vector != s->end.vector)
		return false;
	if (n->end.vector == 14)
		return n->end.error == s->end.error &&
		       ((n->end.cr2 ^ s->end.cr2) & (c->pieces ? ~UINT64_C(0xfff) : ~UINT64_C(0))) == 0;
	return (n->end.vector != 13 && n->end.vector != 12) || n->end.error == s->end.error;
}

static bool same_state(const struct gen_case *c, const struct result *n, const struct result *s)
{
	uint64_t flags = GEN_STATUS | GEN_DF | 0x200000;
	uint32_t unknown = c->gpr_undefined;

	/* An exception leaves even the undefined flags alone. */
	if (n->end.vector == 3)
		flags &= ~c->flags_undefined;
	else if (c->partial)
		unknown |= 0xffefu; /* all but RSP */
	/* The host's kernel gives back only 16 bits of a 16-bit stack pointer. */
	if (c->bits == 16 && (uint16_t)n->after.gpr[4] == (uint16_t)s->after.gpr[4])
		unknown |= 1u << 4;
	for (unsigned int i = 0; i < 16; i++)
		if (!(unknown >> i & 1) && n->after.gpr[i] != s->after.gpr[i])
			return false;
	return n->after.rip == s->after.rip && ((n->after.rflags ^ s->after.rflags) & flags) == 0 &&
	       n->after.mxcsr == s->after.mxcsr && n->after.fcw == s->after.fcw && n->after.fsw == s->after.fsw &&
	       n->after.ftw == s->after.ftw &&
	       memcmp(n->after.st, s->after.st, sizeof(n->after.st)) == 0 &&
	       memcmp(n->after.xmm, s->after.xmm, sizeof(n->after.xmm)) == 0;
}

static void compare(const struct gen_case *c, const struct result *n, enum soft_mode mode, bool *unimplemented)
{
	static uint8_t data[GEN_DATA_SIZE];
	struct result s = { 0 };
	enum soft_result how = soft_run(c, mode, &s.after, &s.end);

	if (how == SOFT_UNIMPLEMENTED) {
		*unimplemented = true;
		return;
	}
	soft_data(data);
	total.compared++;
	if (how == SOFT_OK && same_end(c, n, &s) && same_state(c, n, &s) &&
	    ((c->partial && n->end.vector != 3) || memcmp(data, native_data(), GEN_DATA_SIZE) == 0))
		return;
	total.failed++;
	if (options.all || total.shown++ < SHOWN)
		print_failure(c, n, &s, data,
		              how == SOFT_STRANGE ? "no answer" : mode == SOFT_STEP ? "stepped" : "run");
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
		struct result n;
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
		struct result n;

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
	if (!native_init(pattern) || !soft_init(pattern)) {
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
