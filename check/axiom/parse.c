/* SPDX-License-Identifier: MIT */
#include "check/axiom/parse.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static enum ax_order order(const char **p)
{
	static const char letters[] = { [AX_ACQ] = 'a', [AX_REL] = 'r', [AX_ACQ_REL] = 'q', [AX_SC] = 's' };

	for (unsigned i = AX_ACQ; i <= AX_SC; i++)
		if (**p == letters[i]) {
			++*p;
			return (enum ax_order)i;
		}
	return AX_RLX;
}

static bool number(const char **p, unsigned *value)
{
	if (**p < '0' || **p > '9')
		return false;
	for (*value = 0; **p >= '0' && **p <= '9'; ++*p)
		*value = 10 * *value + (unsigned)(**p - '0');
	return *value < 16;
}

static bool operation(const char **p, char *names, struct ax_program *program, struct ax_op *op)
{
	char name = *(*p)++, *known;

	*op = (struct ax_op){ .kind = AX_LOAD };
	if (name == 'F') {
		op->kind = AX_FENCE;
		op->order = order(p);
		return true;
	}
	if (name < 'w' || name > 'z')
		return false;
	known = strchr(names, name);
	if (!known) {
		known = &names[program->locations++];
		*known = name;
	}
	op->location = (unsigned)(known - names);
	if (strchr("=+<?", **p) && **p) {
		char kind = *(*p)++;

		op->kind = kind == '=' ? AX_STORE : kind == '+' ? AX_ADD : kind == '<' ? AX_SWAP : AX_CAS;
		if (kind == '?' && (!number(p, &op->expected) || *(*p)++ != ':'))
			return false;
		if (!number(p, &op->value))
			return false;
	}
	op->order = order(p);
	return true;
}

int ax_parse(const char *text, struct ax_program *program)
{
	char names[AX_LOCATIONS + 1] = "";

	*program = (struct ax_program){ .threads = 1 };
	for (const char *p = text; *p;) {
		unsigned t = program->threads - 1;

		if (*p == ' ') {
			p++;
		} else if (*p == '|') {
			p++;
			if (program->threads++ == AX_THREADS)
				return -1;
		} else if (program->thread[t].count == AX_OPS ||
		           !operation(&p, names, program, &program->thread[t].op[program->thread[t].count++])) {
			return -1;
		}
	}
	return 0;
}

static int op_print(const struct ax_op *op, char *text, size_t bytes)
{
	static const char *const letter[] = { "", "a", "r", "q", "s" };
	char name = "xyzw"[op->location & 3];

	switch (op->kind) {
	case AX_STORE: return snprintf(text, bytes, "%c=%u%s", name, op->value, letter[op->order]);
	case AX_ADD: return snprintf(text, bytes, "%c+%u%s", name, op->value, letter[op->order]);
	case AX_SWAP: return snprintf(text, bytes, "%c<%u%s", name, op->value, letter[op->order]);
	case AX_CAS: return snprintf(text, bytes, "%c?%u:%u%s", name, op->expected, op->value, letter[op->order]);
	case AX_FENCE: return snprintf(text, bytes, "F%s", letter[op->order]);
	default: return snprintf(text, bytes, "%c%s", name, letter[op->order]);
	}
}

void ax_print(const struct ax_program *program, char *text, size_t bytes)
{
	size_t at = 0;

	text[0] = '\0';
	for (unsigned t = 0; t < program->threads; t++) {
		at += (size_t)snprintf(text + at, bytes - at, "%s", t ? " | " : "");
		for (unsigned i = 0; i < program->thread[t].count && at + 16 < bytes; i++) {
			at += (size_t)snprintf(text + at, bytes - at, "%s", i ? " " : "");
			at += (size_t)op_print(&program->thread[t].op[i], text + at, bytes - at);
		}
	}
}
