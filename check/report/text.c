/* SPDX-License-Identifier: MIT */
/*
 * A picture for a terminal. Each event takes two lines in the column of its thread: what it
 * did, and where that is written.
 */
#include <stdarg.h>
#include <string.h>

#include "check/report/picture.h"

#define GUTTER 6 /* columns for the step's number */
#define CELL   512

struct canvas {
	FILE *out;
	unsigned columns, column_width;
	bool colour;
};

static const char *style(const struct canvas *canvas, const char *code)
{
	return canvas->colour ? code : "";
}

#define BOLD   "\033[1m"
#define DIM    "\033[2m"
#define RED    "\033[1;31m"
#define YELLOW "\033[33m"
#define RESET  "\033[0m"

static const char *row_style(const struct row *row)
{
	if (row->mark == MARK_RACE || row->mark == MARK_FAIL)
		return RED;
	if (row->stale || row->mark == MARK_BLOCK)
		return YELLOW;
	return row->kind == ROW_NOTE ? DIM : BOLD;
}

/* The width of UTF-8 text in characters. */
static unsigned text_width(const char *text)
{
	unsigned width = 0;

	for (; *text; text++)
		width += (*text & 0xc0) != 0x80;
	return width;
}

static void cut_put(FILE *out, const char *text, unsigned width)
{
	unsigned left = width, total = text_width(text);

	for (; *text; text++) {
		if ((*text & 0xc0) != 0x80) {
			if (total > width && left == 1) {
				fputs("…", out);
				return;
			}
			if (left == 0)
				return;
			left--;
		}
		putc(*text, out);
	}
	while (left--)
		putc(' ', out);
}

/* One line of the drawing: `text` in one column, the others empty. */
static void line_put(const struct canvas *canvas, const char *number, int column, const char *code, const char *text)
{
	fprintf(canvas->out, "%*s ", GUTTER - 2, number);
	for (unsigned c = 0; c < canvas->columns; c++) {
		fputs(c ? "│ " : " ", canvas->out);
		if ((int)c == column)
			fputs(style(canvas, code), canvas->out);
		cut_put(canvas->out, (int)c == column ? text : "", canvas->column_width);
		if ((int)c == column)
			fputs(style(canvas, RESET), canvas->out);
	}
	putc('\n', canvas->out);
}

static void wide_put(const struct canvas *canvas, const char *number, const char *code, const char *text)
{
	fprintf(canvas->out, "%*s  %s%s%s\n", GUTTER - 2, number, style(canvas, code), text, style(canvas, RESET));
}

static const char *equals(const struct row *row)
{
	return row->kind == ROW_WRITE ? " := " : row->kind == ROW_READ ? " = " : " ";
}

static void what_happened(const struct picture *picture, const struct row *row, char *cell)
{
	int length = snprintf(cell, CELL, "%s%s%s%s%s", row->mark == MARK_RACE ? "✗ " : "", row->verb,
	                      *row->object ? " " : "", row->object, *row->value ? equals(row) : "");

	length += snprintf(cell + length, CELL - (size_t)length, "%s", row->value);
	if (row->stale && row->from >= 0)
		snprintf(cell + length, CELL - (size_t)length, "  (old: from step %u)",
		                   picture->row[row->from].step);
	else if (row->stale)
		snprintf(cell + length, CELL - (size_t)length, "  (old: from the beginning)");
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static void row_put(const struct canvas *canvas, const struct picture *picture, const struct row *row)
{
	const struct source_place *place = row_place(row);
	char number[16], cell[CELL + 64];
	bool noted = !row->note;

	snprintf(number, sizeof(number), "%u", row->step);
	what_happened(picture, row, cell);
	if (row->note && text_width(cell) + text_width(row->note) + 2 <= canvas->column_width) {
		strcat(strcat(cell, "  "), row->note);
		noted = true;
	}
	if (row->thread < 0) {
		wide_put(canvas, number, row_style(row), cell);
		if (row->kind != ROW_FAIL || !place->line)
			return;
		snprintf(cell, sizeof(cell), "in %s, %s:%u", place->function, base_name(place->file), place->line);
		wide_put(canvas, "", DIM, cell);
		return;
	}
	line_put(canvas, number, row->thread, row_style(row), cell);
	if (!noted) {
		snprintf(cell, sizeof(cell), "  %s", row->note);
		line_put(canvas, "", row->thread, row_style(row), cell);
	}
	if (!place->line)
		return;
	snprintf(cell, sizeof(cell), "  %s:%u  %s", base_name(place->file), place->line,
	         source_text(place->file, place->line));
	line_put(canvas, "", row->thread, DIM, cell);
}

static void header_put(const struct canvas *canvas, const struct picture *picture)
{
	FILE *out = canvas->out;

	fprintf(out, "\n%s%s: %s%s\n", style(canvas, RED), picture->scenario, picture->kind, style(canvas, RESET));
	fprintf(out, "  %s\n", picture->message);
	if (*picture->claim)
		fprintf(out, "  claim      %s%s%s\n", picture->protocol, *picture->protocol ? ": " : "",
		        picture->claim);
	if (picture->weakened)
		fprintf(out, "  weakened   %s\n", picture->weakened);
	fprintf(out, "  found by   %s\n", picture->search);
	if (picture->tso)
		fprintf(out, "  under TSO  %s\n", picture->tso);
	fprintf(out, "  shrunk to  %u switch%s of thread (%u preemption%s), %u stale read%s\n", picture->switches,
	        picture->switches == 1 ? "" : "es", picture->preemptions, picture->preemptions == 1 ? "" : "s",
	        picture->stale_reads, picture->stale_reads == 1 ? "" : "s");
	fprintf(out, "  again      %s\n\n", picture->replay);
}

static void columns_put(const struct canvas *canvas, const struct picture *picture)
{
	fprintf(canvas->out, "%*s ", GUTTER - 2, "step");
	for (unsigned c = 0; c < canvas->columns; c++) {
		fputs(c ? "│ " : " ", canvas->out);
		fputs(style(canvas, BOLD), canvas->out);
		cut_put(canvas->out, picture->thread_name[c], canvas->column_width);
		fputs(style(canvas, RESET), canvas->out);
	}
	putc('\n', canvas->out);
}

void picture_text(const struct picture *picture, FILE *out, unsigned width, bool colour, bool all)
{
	struct canvas canvas = { .out = out, .columns = picture->threads, .colour = colour };

	canvas.column_width = (width > GUTTER + 24 ? width - GUTTER : 24) / (picture->threads ? picture->threads : 1);
	canvas.column_width = canvas.column_width > 2 ? canvas.column_width - 2 : 1;
	header_put(&canvas, picture);
	columns_put(&canvas, picture);
	for (unsigned i = 0; i < picture->count; i++) {
		const struct row *row = &picture->row[i];

		if (row->shared || all)
			row_put(&canvas, picture, row);
	}
	putc('\n', out);
}

const struct source_place *row_place(const struct row *row)
{
	static const struct source_place nowhere = { "?", "?", 0, 0 };

	return row->source && row->place < row->source->depth ? &row->source->place[row->place] : &nowhere;
}
