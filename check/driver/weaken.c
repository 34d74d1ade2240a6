/* SPDX-License-Identifier: MIT */
#include "check/driver/weaken.h"

#include <stdio.h>
#include <string.h>

#include "check/report/memory.h"
#include "check/report/sites.h"

/* "SITE=WAY". The way follows the last '='; without one it is the site's weakest. */
static const struct site *site_and_way(const char *text, struct way *way)
{
	const char *equals = strrchr(text, '=');
	struct way ways[5];
	const struct site *site;
	unsigned count;
	char *name = memory_text(text);

	if (equals)
		name[equals - text] = '\0';
	site = site_find(name);
	free(name);
	if (!site)
		return NULL;
	count = site_ways(site, ways);
	for (unsigned i = 0; i < count; i++)
		if (!equals || !strcmp(equals + 1, ways[i].name)) {
			*way = ways[i];
			return site;
		}
	fprintf(stderr, "vmmu-check: %s cannot be made '%s'; it can be:", site->seam->key, equals ? equals + 1 : "");
	for (unsigned i = 0; i < count; i++)
		fprintf(stderr, " %s", ways[i].name);
	fputc('\n', stderr);
	return NULL;
}

static void text_add(char **text, const char *before, const char *more, const char *after)
{
	size_t length = *text ? strlen(*text) : 0, room = length + strlen(before) + strlen(more) + strlen(after) + 1;

	*text = memory_resize(*text, room);
	snprintf(*text + length, room - length, "%s%s%s", before, more, after);
}

bool weakened_read(const struct options *options, struct weakened *weakened)
{
	*weakened = (struct weakened){ .options = memory_text("") };
	for (unsigned i = 0; i < options->weakened; i++) {
		struct way way = { CHECK_TO_RELAXED, "" };
		const struct site *site = site_and_way(options->weaken[i], &way);
		char words[512];

		if (!site)
			return false;
		if (!site->calls) {
			fprintf(stderr, "vmmu-check: nothing in this program was compiled from %s\n", site->seam->key);
			return false;
		}
		weakened->weak =
			memory_resize(weakened->weak, (weakened->count + site->calls) * sizeof(*weakened->weak));
		site_weaken(site, way.how, weakened->weak + weakened->count);
		weakened->count += site->calls;
		snprintf(words, sizeof(words), "%s:%u, %s in %s: %s", site->seam->file, site->seam->line,
		         site->seam->name, site->seam->function, way.name);
		text_add(&weakened->words, weakened->words ? "; " : "", words, "");
		snprintf(words, sizeof(words), "%s=%s", site->seam->key, way.name);
		text_add(&weakened->options, " --weaken '", words, "'");
	}
	return true;
}
