/* SPDX-License-Identifier: MIT */
/* Whether the software CPU left what the host's CPU left; and the words for it when not. */
#include "native_compare.h"

#include <stdio.h>
#include <string.h>

#define FSW_ES 0x80u /* an exception is pending */

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

static void print_vectors(const struct gen_case *c, const struct native_result *n, const struct native_result *s)
{
	char name[16];

	for (unsigned int i = 0; i < 32; i++)
		for (unsigned int part = 8; part-- > 0;) {
			snprintf(name, sizeof(name), "v%u.%u", i, part);
			print_difference(name, c->in.v[i].q[part], n->after.v[i].q[part], s->after.v[i].q[part]);
		}
	for (unsigned int i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "k%u", i);
		print_difference(name, c->in.k[i], n->after.k[i], s->after.k[i]);
	}
}

static void print_failure(const struct gen_case *c, const struct native_result *n, const struct native_result *s,
                          const uint8_t *soft, const char *how)
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
	print_vectors(c, n, s);
	print_difference("fcw", c->in.fcw, n->after.fcw, s->after.fcw);
	print_difference("fsw", c->in.fsw, n->after.fsw, s->after.fsw);
	print_difference("ftw", c->in.ftw, n->after.ftw, s->after.ftw);
	if (n->after.fsw & FSW_ES) {
		print_difference("fop", c->in.fop, n->after.fop, s->after.fop);
		print_difference("fip", c->in.fip, n->after.fip, s->after.fip);
		print_difference("fdp", c->in.fdp, n->after.fdp, s->after.fdp);
	}
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

static bool same_end(const struct gen_case *c, const struct native_result *n, const struct native_result *s)
{
	if (n->end.vector != s->end.vector)
		return false;
	if (n->end.vector == 14)
		return n->end.error == s->end.error &&
		       ((n->end.cr2 ^ s->end.cr2) & (c->pieces ? ~UINT64_C(0xfff) : ~UINT64_C(0))) == 0;
	return (n->end.vector != 13 && n->end.vector != 12) || n->end.error == s->end.error;
}

/* The handler of #MF looks at them. Without an exception pending, AMD's processors store zeros. */
static bool same_pointers(const struct native_result *n, const struct native_result *s)
{
	return !(n->after.fsw & FSW_ES) || (n->after.fop == s->after.fop && n->after.fip == s->after.fip &&
	                                    n->after.fdp == s->after.fdp);
}

static bool same_state(const struct gen_case *c, const struct native_result *n, const struct native_result *s)
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
	       n->after.ftw == s->after.ftw && same_pointers(n, s) &&
	       memcmp(n->after.st, s->after.st, sizeof(n->after.st)) == 0 &&
	       memcmp(n->after.v, s->after.v, sizeof(n->after.v)) == 0 &&
	       memcmp(n->after.k, s->after.k, sizeof(n->after.k)) == 0;
}

/*
 * AMD's processors store zeros for the pointers of an instruction without a pending exception. And they have a bit more
 * of MXCSR than the mask of the software CPU, which has not the feature that it is for.
 */
static void image_forget(const struct gen_case *c, uint16_t fsw, uint8_t data[GEN_DATA_SIZE])
{
	if (!c->fxsave)
		return;
	memset(data + c->image + 28, 0, 4);
	if (!(fsw & FSW_ES))
		memset(data + c->image + 6, 0, 18);
}

enum compared native_compare(const struct gen_case *c, const struct native_result *n, enum soft_mode mode, bool show)
{
	static uint8_t data[GEN_DATA_SIZE], native[GEN_DATA_SIZE];
	struct native_result s = { 0 };
	enum soft_result how = soft_run(c, mode, &s.after, &s.end);

	if (how == SOFT_UNIMPLEMENTED)
		return COMPARED_UNIMPLEMENTED;
	soft_data(data);
	memcpy(native, native_data(), sizeof(native));
	image_forget(c, n->after.fsw, data);
	image_forget(c, n->after.fsw, native);
	if (how == SOFT_OK && same_end(c, n, &s) && same_state(c, n, &s) &&
	    ((c->partial && n->end.vector != 3) || memcmp(data, native, GEN_DATA_SIZE) == 0))
		return COMPARED_SAME;
	if (show)
		print_failure(c, n, &s, data,
		              how == SOFT_STRANGE ? "no answer" : mode == SOFT_STEP ? "stepped" : "run");
	return COMPARED_DIFFERENT;
}
