/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/audit/audit.h"
#include "core/sync/vm.h"
#include "test/oracle/model.h"

#define TRACE 64

static char lines[TRACE][160];
static unsigned long traced;

void trace(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(lines[traced++ % TRACE], sizeof(lines[0]), format, args);
	va_end(args);
}

static void line_out(void *arg, const char *text)
{
	unsigned *left = arg;

	if (*left && (*left)--)
		fprintf(stderr, "    %s\n", text);
}

static void dump(struct model *m)
{
	unsigned left = 150;
	struct audit_out out = { line_out, &left };

	if (m->vm)
		audit_dump(&m->vm->vm, &out);
}

_Noreturn void mismatch(struct model *m, const char *format, ...)
{
	va_list args;

	for (unsigned long i = traced > TRACE ? traced - TRACE : 0; i < traced; i++)
		fprintf(stderr, "  %6lu %s\n", i, lines[i % TRACE]);
	dump(m);
	fprintf(stderr, "MISMATCH: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
	exit(1);
}

void audit_or_die(struct model *m)
{
	unsigned left = 20;
	struct audit_report report = { .out = { line_out, &left }, .invalidations = m->outstanding };

	for (unsigned n = 0; n < CPUS; n++)
		if (m->cpu[n].exists)
			mcpu_leave(&m->cpu[n].cpu);
	if (!audit_vm(&m->vm->vm, &report))
		mismatch(m, "the audit found %llu violations", (unsigned long long)report.violations);
}
