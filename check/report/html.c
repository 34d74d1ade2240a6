/* SPDX-License-Identifier: MIT */
/* A picture as one page that needs no other file: style and script are inside. */
#include <string.h>

#include "check/report/page.h"
#include "check/report/picture.h"

static void escaped_put(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '<')
			fputs("&lt;", out);
		else if (*text == '>')
			fputs("&gt;", out);
		else if (*text == '&')
			fputs("&amp;", out);
		else if (*text == '"')
			fputs("&quot;", out);
		else
			putc(*text, out);
	}
}

/* <tag class="class">text</tag>, if there is text. */
static void element_put(FILE *out, const char *tag, const char *class, const char *text)
{
	if (!text || !*text)
		return;
	fprintf(out, *class ? "<%s class=\"%s\">" : "<%s>", tag, class);
	escaped_put(out, text);
	fprintf(out, "</%s>", tag);
}

static void term_put(FILE *out, const char *term, const char *text)
{
	if (!text || !*text)
		return;
	element_put(out, "dt", "", term);
	element_put(out, "dd", "", text);
	putc('\n', out);
}

static const char *plural(unsigned count)
{
	return count == 1 ? "" : "s";
}

static void header_put(FILE *out, const struct picture *picture)
{
	char shrunk[160];

	snprintf(shrunk, sizeof(shrunk), "%u switch%s of thread, %u of them preemption%s; %u stale read%s",
	         picture->switches, picture->switches == 1 ? "" : "es", picture->preemptions,
	         plural(picture->preemptions), picture->stale_reads, plural(picture->stale_reads));
	fputs("<header>\n<h1>", out);
	escaped_put(out, picture->scenario);
	fputs(": ", out);
	element_put(out, "span", "kind", picture->kind);
	fputs("</h1>\n", out);
	element_put(out, "p", "message", picture->message);
	fputs("\n<dl>\n", out);
	term_put(out, "claim", picture->claim);
	term_put(out, "protocol", picture->protocol);
	term_put(out, "weakened", picture->weakened);
	term_put(out, "found by", picture->search);
	term_put(out, "under TSO", picture->tso);
	term_put(out, "shrunk to", shrunk);
	fputs("<dt>again</dt><dd><code>", out);
	escaped_put(out, picture->replay);
	fprintf(out,
	        "</code></dd>\n</dl>\n<p class=\"legend\"><b><span class=\"swatch\"></span>an old value is read</b>"
	        "<b><span class=\"swatch race\"></span>race</b><b><span class=\"swatch reads\"></span>read from "
	        "(point at a card)</b>"
	        "%s</p>\n</header>\n",
	        picture->full ? "<label for=\"all\">also each thread's own business</label>" : "");
}

static const char *row_class(const struct row *row)
{
	static const char *const class[] = {
		[ROW_READ] = "read", [ROW_WRITE] = "write",   [ROW_UPDATE] = "update", [ROW_FENCE] = "fence",
		[ROW_LOCK] = "lock", [ROW_MEMORY] = "memory", [ROW_NOTE] = "said",     [ROW_FAIL] = "fail",
	};
	static const char *const mark[] = { [MARK_RACE] = "race", [MARK_BLOCK] = "block", [MARK_FAIL] = "fail" };

	return row->mark != MARK_NONE ? mark[row->mark] : row->stale ? "old" : class[row->kind];
}

static void chain_put(FILE *out, const struct row *row)
{
	if (!row->source || row->source->depth < 2)
		return;
	fputs("<div class=\"chain\">", out);
	for (unsigned i = 0; i < row->source->depth; i++) {
		const struct source_place *place = &row->source->place[i];

		fputs(i ? "<br>in " : "", out);
		escaped_put(out, place->function);
		fprintf(out, " (%s:%u)", source_shown(place->file), place->line);
	}
	fputs("</div>", out);
}

static void card_put(FILE *out, const struct picture *picture, const struct row *row)
{
	const struct source_place *place = row_place(row);

	fputs("<div class=\"what\">", out);
	element_put(out, "span", "verb", row->verb);
	element_put(out, "span", "object", row->object);
	if (*row->value) {
		fputs(row->kind == ROW_WRITE ? "<span>:=</span>" : row->kind == ROW_READ ? "<span>=</span>" : "", out);
		element_put(out, "span", "value", row->value);
	}
	if (row->stale && row->from >= 0)
		fprintf(out, "<span class=\"note\">old: from step %u</span>", picture->row[row->from].step);
	else if (row->stale)
		fputs("<span class=\"note\">old: from the beginning</span>", out);
	element_put(out, "span", "note", row->note);
	fputs("</div>", out);
	if (place->line) {
		element_put(out, "div", "source", source_text(place->file, place->line));
		fputs("<div class=\"place\">", out);
		escaped_put(out, place->function);
		fprintf(out, ", %s:%u</div>", source_shown(place->file), place->line);
		chain_put(out, row);
	}
}

static void row_put(FILE *out, const struct picture *picture, unsigned i, bool switched)
{
	const struct row *row = &picture->row[i];

	fprintf(out, "<div class=\"row %s%s%s%s\" data-i=\"%u\"", row_class(row), row->shared ? "" : " own",
	        switched ? " switch" : "", row->thread < 0 ? " wide" : "", i);
	if (row->from >= 0)
		fprintf(out, " data-from=\"%d\"", row->from);
	if (row->address)
		fprintf(out, " data-at=\"%llx\"", (unsigned long long)row->address);
	fprintf(out, "><span class=\"step\">%u</span>", row->step);
	if (row->thread >= 0)
		fprintf(out, "<div class=\"card\" style=\"grid-column:%d\">", row->thread + 2);
	else
		fputs("<div class=\"card\">", out);
	card_put(out, picture, row);
	fputs("</div></div>\n", out);
}

static void rows_put(FILE *out, const struct picture *picture)
{
	int last = -2;

	for (unsigned i = 0; i < picture->count; i++) {
		const struct row *row = &picture->row[i];

		if (!row->shared && !picture->full)
			continue;
		row_put(out, picture, i, row->shared && last != -2 && row->thread != last);
		if (row->shared)
			last = row->thread;
	}
}

void picture_html(const struct picture *picture, FILE *out)
{
	fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
	      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>",
	      out);
	escaped_put(out, picture->scenario);
	fputs(": ", out);
	escaped_put(out, picture->kind);
	fprintf(out, "</title>\n<style>\n%s</style>\n<input type=\"checkbox\" id=\"all\">\n", page_css);
	header_put(out, picture);
	fprintf(out, "<main style=\"--threads:%u\">\n<div class=\"row names\"><span></span>", picture->threads);
	for (unsigned i = 0; i < picture->threads; i++)
		element_put(out, "div", "", picture->thread_name[i]);
	fputs("</div>\n", out);
	rows_put(out, picture);
	fputs("<svg class=\"edges\" aria-hidden=\"true\"><defs>", out);
	for (unsigned i = 0; i < 2; i++)
		fprintf(out,
		        "<marker id=\"tip-%s\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" "
		        "markerHeight=\"7\" orient=\"auto\">"
		        "<path d=\"M0,0 L8,4 L0,8 z\"/></marker>",
		        i ? "reads" : "old");
	fprintf(out,
	        "</defs></svg>\n</main>\n<footer>Drawn by vmmu-check.</footer>\n<script>\n%s</script>\n</html>\n",
	        page_js);
}
