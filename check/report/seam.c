/* SPDX-License-Identifier: MIT */
#include "check/report/seam.h"

#include <ctype.h>
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check/report/memory.h"

static const char *const locks[] = {
	"mutex_lock", "spin_lock", "mmu_read_lock", "mmu_write_lock", "mmu_retake", "srcu_read_lock",
	"rmap_lock", "port_rcu_read_lock", NULL
};

static const struct {
	const char *suffix;
	int order;
} orders[] = {
	{ "_acquire", __ATOMIC_ACQUIRE }, { "_release", __ATOMIC_RELEASE }, { "_acqrel", __ATOMIC_ACQ_REL },
	{ "_seqcst", __ATOMIC_SEQ_CST },  { "_relaxed", __ATOMIC_RELAXED }, { "_full", __ATOMIC_SEQ_CST },
};

static const struct {
	const char *prefix; /* followed by one of the orders above */
	enum seam_kind kind;
} names[] = {
	{ "load", SEAM_LOAD }, { "store", SEAM_STORE }, { "add", SEAM_RMW },
	{ "sub", SEAM_RMW },   { "or", SEAM_RMW },      { "and", SEAM_RMW },
	{ "swap", SEAM_RMW },  { "cas", SEAM_CAS },     { "fence", SEAM_FENCE },
};

bool seam_is_lock(const char *function)
{
	for (unsigned i = 0; locks[i]; i++)
		if (!strcmp(locks[i], function))
			return true;
	return false;
}

const char *seam_order_name(int order)
{
	static const char *const name[] = {
		[__ATOMIC_RELAXED] = "relaxed", [__ATOMIC_CONSUME] = "consume", [__ATOMIC_ACQUIRE] = "acquire",
		[__ATOMIC_RELEASE] = "release", [__ATOMIC_ACQ_REL] = "acq_rel", [__ATOMIC_SEQ_CST] = "seq_cst",
	};

	return order >= 0 && order <= __ATOMIC_SEQ_CST ? name[order] : "?";
}

/* --- one word of source: is it a site? --- */

/* `__atomic_fetch_or(p, v, __ATOMIC_RELEASE)`: the first order among the arguments. */
static int builtin_order(const char *arguments)
{
	static const char *const name[] = { "RELAXED", "ACQUIRE", "RELEASE", "ACQ_REL", "SEQ_CST" };
	static const int value[] = {
		__ATOMIC_RELAXED, __ATOMIC_ACQUIRE, __ATOMIC_RELEASE, __ATOMIC_ACQ_REL, __ATOMIC_SEQ_CST
	};
	const char *at = strstr(arguments, "__ATOMIC_"), *end = strchr(arguments, ';');

	for (unsigned i = 0; at && (!end || at < end) && i < 5; i++)
		if (!strncmp(at + strlen("__ATOMIC_"), name[i], strlen(name[i])))
			return value[i];
	return __ATOMIC_SEQ_CST;
}

static enum seam_kind builtin_kind(const char *word)
{
	if (strstr(word, "fence"))
		return SEAM_FENCE;
	if (strstr(word, "compare_exchange"))
		return SEAM_CAS;
	if (strstr(word, "load"))
		return SEAM_LOAD;
	return strstr(word, "store") ? SEAM_STORE : SEAM_RMW;
}

static bool macro_parts(const char *word, enum seam_kind *kind, int *order)
{
	for (unsigned n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
		size_t length = strlen(names[n].prefix);

		if (strncmp(word, names[n].prefix, length))
			continue;
		for (unsigned o = 0; o < sizeof(orders) / sizeof(orders[0]); o++)
			if (!strcmp(word + length, orders[o].suffix)) {
				*kind = names[n].kind;
				*order = orders[o].order;
				return true;
			}
	}
	return false;
}

/* A relaxed access orders nothing and is no site. A relaxed compare-and-swap is a site, because it is one step. */
static bool word_is_site(const char *word, const char *rest, enum seam_kind *kind, int *order)
{
	if (seam_is_lock(word)) {
		*kind = SEAM_LOCK;
		*order = __ATOMIC_ACQUIRE;
		return true;
	}
	if (!strncmp(word, "__atomic_", 9)) {
		*kind = builtin_kind(word);
		*order = builtin_order(rest);
	} else if (!macro_parts(word, kind, order)) {
		return false;
	}
	return *order != __ATOMIC_RELAXED || *kind == SEAM_CAS;
}

/* --- one file --- */

struct scan {
	struct seams *seams;
	const char *file;
	char function[128];
	bool inside;
	unsigned line;
	unsigned first; /* the first seam of this file */
};

static void seam_add(struct scan *scan, const char *word, unsigned column, enum seam_kind kind, int order)
{
	struct seams *seams = scan->seams;
	struct seam *seam;
	char key[512];
	unsigned ordinal = 1;

	for (unsigned i = scan->first; i < seams->count; i++)
		if (!strcmp(seams->seam[i].function, scan->function) && !strcmp(seams->seam[i].name, word))
			ordinal++;
	snprintf(key, sizeof(key), "%s %s %s %u", scan->file, scan->function, word, ordinal);
	seams->seam = memory_resize(seams->seam, (seams->count + 1) * sizeof(*seams->seam));
	seam = &seams->seam[seams->count++];
	*seam = (struct seam){ .key = memory_text(key),
		               .file = scan->file,
		               .function = memory_text(scan->function),
		               .name = memory_text(word),
		               .ordinal = ordinal,
		               .line = scan->line,
		               .column = column,
		               .kind = kind,
		               .order = order };
}

/* A definition begins in the first column. Its name is the last word before the first parenthesis. */
static void function_remember(struct scan *scan, const char *line)
{
	const char *open = strchr(line, '('), *end, *begin;

	if (!open || line[0] == '#' || !(isalpha((unsigned char)line[0]) || line[0] == '_'))
		return;
	for (end = open; end > line && isspace((unsigned char)end[-1]); end--)
		;
	for (begin = end; begin > line && (isalnum((unsigned char)begin[-1]) || begin[-1] == '_'); begin--)
		;
	snprintf(scan->function, sizeof(scan->function), "%.*s", (int)(end - begin), begin);
}

static void words_find(struct scan *scan, const char *line)
{
	for (const char *at = line; *at;) {
		const char *begin = at;
		enum seam_kind kind;
		char word[64];
		int order;

		if (!isalpha((unsigned char)*at) && *at != '_') {
			at++;
			continue;
		}
		while (isalnum((unsigned char)*at) || *at == '_')
			at++;
		snprintf(word, sizeof(word), "%.*s", (int)(at - begin), begin);
		if (*at == '(' && word_is_site(word, at, &kind, &order))
			seam_add(scan, word, (unsigned)(begin - line) + 1, kind, order);
	}
}

/* Blanks out comments, strings and characters, keeping every position. */
static void text_blank(char *text)
{
	char *c = text;

	while (*c) {
		char *end = c + 1;

		if (c[0] == '/' && c[1] == '*') {
			end = strstr(c + 2, "*/");
			end = end ? end + 2 : c + strlen(c);
		} else if (c[0] == '/' && c[1] == '/') {
			end = c + strcspn(c, "\n");
		} else if (c[0] == '"' || c[0] == '\'') {
			while (*end && *end != c[0])
				end += end[0] == '\\' && end[1] ? 2 : 1;
			end += *end != '\0';
		} else {
			c = end;
			continue;
		}
		for (; c < end; c++)
			if (*c != '\n')
				*c = ' ';
	}
}

static void line_scan(struct scan *scan, const char *line)
{
	scan->line++;
	if (!strcmp(line, "{")) {
		scan->inside = true;
	} else if (line[0] == '}') {
		scan->inside = false;
	} else if (scan->inside) {
		words_find(scan, line);
	} else {
		function_remember(scan, line);
	}
}

static void file_scan(struct seams *seams, const char *file, char *text)
{
	struct scan scan = { .seams = seams, .file = memory_text(file), .first = seams->count };

	text_blank(text);
	for (char *line = text, *next; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		line_scan(&scan, line);
	}
}

static char *file_text(const char *path)
{
	FILE *file = fopen(path, "r");
	char *text = NULL;
	size_t size = 0, got;

	if (!file)
		return NULL;
	do {
		text = memory_resize(text, size + 65537);
		got = fread(text + size, 1, 65536, file);
		size += got;
	} while (got);
	text[size] = '\0';
	fclose(file);
	return text;
}

/* --- the folder --- */

static bool is_source(const char *name)
{
	size_t length = strlen(name);

	return length > 2 && name[length - 2] == '.' && (name[length - 1] == 'c' || name[length - 1] == 'h');
}

static void folder_scan(struct seams *seams, const char *folder)
{
	struct dirent **entry;
	char path[4096];
	int count;

	snprintf(path, sizeof(path), CHECK_SOURCE_ROOT "/%s", folder);
	count = scandir(path, &entry, NULL, alphasort);
	for (int i = 0; i < count; i++) {
		char name[1024];

		snprintf(name, sizeof(name), "%s/%s", folder, entry[i]->d_name);
		if (entry[i]->d_name[0] != '.' && !is_source(entry[i]->d_name)) {
			folder_scan(seams, name);
		} else if (is_source(entry[i]->d_name) && strcmp(name, "core/sync/atomic.h")) {
			char *text;

			snprintf(path, sizeof(path), CHECK_SOURCE_ROOT "/%s", name);
			text = file_text(path);
			if (text)
				file_scan(seams, name, text);
			free(text);
		}
		free(entry[i]);
	}
	if (count >= 0)
		free(entry);
}

const struct seams *seams_of_core(void)
{
	static struct seams seams;

	if (!seams.seam)
		folder_scan(&seams, "core");
	return &seams;
}
