/* SPDX-License-Identifier: MIT */
#include "check/report/location.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "check/report/memory.h"

/* Code that only passes on its caller's call. A reader looks for the caller. */
static const char *const wrappers[] = {
	"check/scenario/abstract.c", "check/runtime/", "check/tool/", "port/check/", "core/sync/mutex.h"
};

static bool is_wrapper(const struct source_place *place)
{
	for (unsigned i = 0; i < sizeof(wrappers) / sizeof(wrappers[0]); i++)
		if (!strncmp(place->file, wrappers[i], strlen(wrappers[i])))
			return true;
	return false;
}

bool location_is_shim(uint32_t pc)
{
	const struct source *source = source_of_return(pc);

	return source->depth && !strncmp(source->place[0].file, "check/tool/", 11);
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

	if (event->pc && location_frame(source, place))
		return source;
	if (!event->pc && event->kind != CHECK_EV_FAIL)
		return source;
	for (unsigned i = 0; i < event->stack_count; i++) {
		const struct source *outer = source_of_return(event->stack[i]);

		if (location_frame(outer, place))
			return outer;
	}
	*place = 0;
	return source;
}

/* The names of locks for calls that do not name them. */
static const struct {
	const char *call, *name;
} implied[] = { { "mmu_", "mmu_lock" }, { "srcu_", "srcu" }, { "rcu_read_", "rcu" } };

static bool name_implied(const struct check_event *event, const char *text, char *name, size_t size)
{
	if (event->kind < CHECK_EV_LOCK || event->kind > CHECK_EV_SYNC_END)
		return false;
	for (unsigned i = 0; i < sizeof(implied) / sizeof(implied[0]); i++)
		if (strstr(text, implied[i].call)) {
			snprintf(name, size, "%s", implied[i].name);
			return true;
		}
	return false;
}

/* From "load_acquire(&vcpu->mode)", anywhere on the line, take "vcpu->mode". */
static bool name_from_call(const char *text, char *name, size_t size)
{
	static const char *const calls[] = {
		"atomic_", "load_", "store_", "add_", "sub_", "or_", "and_", "swap_", "cas_", "__atomic_", "lock(",
		"wait(", "wake(", "notifier_snapshot"
	};
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

static bool is_expression(const char *text, size_t at)
{
	return isalnum((unsigned char)text[at]) || strchr("_.[]", text[at]) ||
	       (text[at] == '-' && text[at + 1] == '>') || (text[at] == '>' && at && text[at - 1] == '-');
}

/*
 * For a plain access take the text at the compiler's column, if it looks like a place in memory ("new->base"). At an
 * operator take what is left of it.
 */
static bool name_at_column(const char *line, unsigned column, char *name, size_t size)
{
	size_t from = column ? column - 1 : 0, end, length = strlen(line);

	if (!column || from >= length)
		return false;
	while (from && !is_expression(line, from) && strchr("+-|&= ", line[from]))
		from--;
	if (!is_expression(line, from))
		return false;
	for (end = from; end < length && is_expression(line, end); end++)
		;
	while (from && is_expression(line, from - 1))
		from--;
	snprintf(name, size, "%.*s", (int)(end - from), line + from);
	return true;
}

static bool name_from_source(const struct check_event *event, const struct source_place *place, char *name, size_t size)
{
	const char *text = source_text(place->file, place->line);
	bool local;
	int thread;

	switch (event->kind) {
	case CHECK_EV_READ:
	case CHECK_EV_WRITE:
		/* A lone word may be anything, but on a stack it is the variable. */
		return name_at_column(source_line(place->file, place->line), place->column, name, size) &&
		       (strpbrk(name, ".>[") || check_stack_of(event->address, &thread, &local));
	case CHECK_EV_ALLOC:
	case CHECK_EV_FREE:
		return false;
	default:
		return name_implied(event, text, name, size) || name_from_call(text, name, size);
	}
}

/* "block 2 of setup+8": the blocks of check_alloc have no names, but each thread allocates in one order. */
static bool name_of_memory(uint64_t address, char *name, size_t size)
{
	uint64_t start, offset = 0;
	const char *variable;
	char of[32], add[24];
	unsigned number;
	bool local;
	int thread;

	variable = source_variable(address, &offset);
	if (variable) {
		snprintf(name, size, offset ? "%s+%llu" : "%s", variable, (unsigned long long)offset);
		return true;
	}
	if (check_block_of(address, &start, &thread, &number)) {
		offset = address - start;
		*add = 0;
		if (offset)
			snprintf(add, sizeof(add), "+%llu", (unsigned long long)offset);
		snprintf(of, sizeof(of), thread < 0 ? "setup" : "thread %d", thread);
		snprintf(name, size, "block %u of %s%s", number, of, add);
		return true;
	}
	if (!check_stack_of(address, &thread, &local))
		return false;
	snprintf(of, sizeof(of), thread < 0 ? "setup" : "thread %d", thread);
	snprintf(name, size, local ? "a thread-local of %s" : "the stack of %s", of);
	return true;
}

const char *location_of_value(uint64_t value)
{
	const char *given;
	char name[256];

	if (value < 4096 || value >> 48)
		return NULL;
	given = check_name_of(value);
	if (given)
		return memory_text(given);
	return name_of_memory(value, name, sizeof(name)) ? memory_text(name) : NULL;
}

const char *location_name(const struct check_event *event, const struct source *source, unsigned place)
{
	const char *given = check_name_of(event->address);
	char name[256];

	if (given)
		return memory_text(given);
	if (source && place < source->depth && name_from_source(event, &source->place[place], name, sizeof(name)))
		return memory_text(name);
	if (!name_of_memory(event->address, name, sizeof(name)))
		snprintf(name, sizeof(name), "%#llx", (unsigned long long)event->address);
	return memory_text(name);
}
