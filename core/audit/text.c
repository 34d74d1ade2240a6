/* SPDX-License-Identifier: MIT */
#include "core/audit/text.h"

static void text_char(struct text *text, char c)
{
	if (text->used < AUDIT_LINE - 1)
		text->line[text->used++] = c;
	text->line[text->used] = '\0';
}

void text_str(struct text *text, const char *str)
{
	while (*str)
		text_char(text, *str++);
}

static void text_number(struct text *text, uint64_t value, unsigned base)
{
	char digits[20];
	unsigned count = 0;

	do
		digits[count++] = "0123456789abcdef"[value % base];
	while (value /= base);
	while (count)
		text_char(text, digits[--count]);
}

void text_hex(struct text *text, const char *name, uint64_t value)
{
	text_str(text, name);
	text_str(text, "0x");
	text_number(text, value, 16);
}

void text_dec(struct text *text, const char *name, uint64_t value)
{
	text_str(text, name);
	text_number(text, value, 10);
}

void text_end(struct text *text, const struct audit_out *out)
{
	if (out->line)
		out->line(out->arg, text->line);
	text->used = 0;
	text->line[0] = '\0';
}
