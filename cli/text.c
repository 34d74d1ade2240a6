/* SPDX-License-Identifier: MIT */
#include "cli/cli.h"
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

static bool wants_colour(FILE *out)
{
	const char *no = getenv("NO_COLOR");

	return isatty(fileno(out)) && !(no && *no);
}

void print_coloured(FILE *out, const char *code, const char *text)
{
	if (wants_colour(out))
		fprintf(out, "\033[%sm%s\033[0m", code, text);
	else
		fputs(text, out);
}

void complain(const char *format, ...)
{
	va_list list;

	print_coloured(stderr, "31;1", "vmmu: ");
	va_start(list, format);
	vfprintf(stderr, format, list);
	va_end(list);
	fputc('\n', stderr);
}
