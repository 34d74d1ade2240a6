/* SPDX-License-Identifier: MIT */
#include "check/driver/record.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "check/report/memory.h"

#define FIELDS 9

static char *line_read(FILE *file, char *line, size_t size)
{
	if (!fgets(line, (int)size, file))
		return NULL;
	line[strcspn(line, "\n")] = '\0';
	return line;
}

const struct record *record_find(const char *key)
{
	static struct record record;
	char line[32768];
	FILE *file = fopen(CHECK_SOURCE_ROOT "/check/ordering.tsv", "r");
	const struct record *found = NULL;

	while (file && !found && line_read(file, line, sizeof(line))) {
		char *field[FIELDS], *rest = line;

		for (unsigned i = 0; i < FIELDS; i++)
			field[i] = rest ? strsep(&rest, "\t") : "";
		if (strcmp(field[0], key))
			continue;
		for (unsigned i = 0; i < FIELDS; i++)
			field[i] = memory_text(field[i]);
		record = (struct record){
			field[0], field[1], field[2], field[3], field[4], field[5], field[6], field[7], field[8]
		};
		found = &record;
	}
	if (file)
		fclose(file);
	return found;
}

/*
 * A reason stands below the keys that it is about:
 *
 *     core/memslot/gate.c gate_enter spin_lock 1
 *     core/memslot/gate.c gate_leave spin_lock 1
 *         Text, as long as it takes.
 */
const char *record_reason(const char *key)
{
	static char reason[8192];
	FILE *file = fopen(CHECK_SOURCE_ROOT "/check/ordering.reasons", "r");
	bool here = false, in_text = false;
	char line[2048];

	reason[0] = '\0';
	while (file && line_read(file, line, sizeof(line))) {
		const char *text = line + strspn(line, " \t");

		if (line[0] == '#' || !*text)
			continue;
		if (text == line) {
			if (in_text && here)
				break;
			here = (here && !in_text) || !strcmp(line, key);
			in_text = false;
			continue;
		}
		in_text = true;
		if (here)
			snprintf(reason + strlen(reason), sizeof(reason) - strlen(reason), "%s%s",
			         reason[0] ? " " : "", text);
	}
	if (file)
		fclose(file);
	return reason[0] ? reason : NULL;
}
