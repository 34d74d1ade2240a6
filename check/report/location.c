/* SPDX-License-Identifier: MIT */
#include "check/report/location.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "check/report/memory.h"

/* Code that only passes on what its caller wants: the caller is what a reader looks for. */
static const char *const wrappers[] = { "check/scenario/abstract.c", "check/runtime/", "port/check/port", "core/sync/mutex.h" };

static bool is_wrapper(const struct source_place *place)
{
	for (unsigned i = 0; i < sizeof(wrappers) / sizeof(wrappers[0]); i++)
		if (!strncmp(place->file, wrappers[i], strlen(wrappers[i])))
			return true;
	return false;
}

bool location_frame(const struct source *source, unsigned *place)
{
	for (*place = 0; *place < source->depth; ++*place)
		if (source->place[*place].line && !is_wrapper(&source->place[*place]))
			return true;
	*place = 0;
	return false;
}

const struct source *location_source(const struct check_event *event, unsigned *place)
{
	const struct source *source = source_of_return(event->pc);

	if (!event->pc || location_frame(source, place))
		return source;
	for (unsigned i = 0; i < event->stack_count; i++) {
		const struct source *outer = source_of_return(event->stack[i]);

		if (location_frame(outer, place))
			return outer;
	}
	*place = 0;
	return source;
}

/* "load_acquire(&vcpu->mode)", at the column of the call or anywhere on the line: "vcpu->mode". */
static bool name_from_text(const char *text, char *name, size_t size)
{
	static const char *const calls[] = { "load_", "store_", "add_", "sub_", "or_", "and_", "swap_", "cas_", "__atomic_", "_lock(", "_wait(", "_wake(" };
	const char *open = NULL;
	unsigned depth = 0;
	size_t length;

	for (unsigned i = 0; i < sizeof(calls) / sizeof(calls[0]) && !open; i++) {
		const char *call = strstr(text, calls[i]);

		open = call ? strchr(call, '(') : NULL;
	}
	if (!open)
		return false;
	for (open++; *open == '&' || *open == ' ' || (*open == '(' && open[1] != '('); open++)
		;
	for (length = 0; open[length]; length++) {
		if (open[length] == '(' || open[length] == '[')
			depth++;
		else if ((open[length] == ')' || open[length] == ',' || open[length] == ']') && depth-- == 0)
			break;
	}
	if (!length || !open[length])
		return false;
	snprintf(name, size, "%.*s", (int)length, open);
	return true;
}

const char *location_name(const struct check_event *event, const struct source *source, unsigned place)
{
	const char *given = check_name_of(event->address), *variable;
	uint64_t start, size;
	char name[256];
	uint64_t offset;
	int thread;

	if (given)
		return memory_text(given);
	if (source && source->depth && event->kind != CHECK_EV_READ && event->kind != CHECK_EV_WRITE && event->kind != CHECK_EV_FREE &&
	    event->kind != CHECK_EV_ALLOC &&
	    name_from_text(source_text(source->place[place].file, source->place[place].line), name, sizeof(name)))
		return memory_text(name);
	variable = source_variable(event->address, &offset);
	if (variable)
		snprintf(name, sizeof(name), offset ? "%s+%llu" : "%s", variable, (unsigned long long)offset);
	else if (check_block_of(event->address, &start, &size, &thread))
		snprintf(name, sizeof(name), "block %#llx+%llu", (unsigned long long)start, (unsigned long long)(event->address - start));
	else
		snprintf(name, sizeof(name), "%#llx", (unsigned long long)event->address);
	return memory_text(name);
}
