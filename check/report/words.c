/* SPDX-License-Identifier: MIT */
#include "check/report/words.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "check/report/location.h"
#include "check/report/memory.h"
#include "check/report/seam.h"

const char *words_format(const char *pattern, ...)
{
	char text[512];
	va_list args;

	va_start(args, pattern);
	vsnprintf(text, sizeof(text), pattern, args);
	va_end(args);
	return memory_text(text);
}

static const char *value_text(uint64_t value)
{
	const char *at = location_of_value(value);

	if (at)
		return words_format("&%s", at);
	return value < 4096 ? words_format("%llu", (unsigned long long)value)
	                    : words_format("%#llx", (unsigned long long)value);
}

static const struct {
	const char *verb;
	enum row_kind kind;
	bool ordered; /* the verb is followed by the memory order */
} verbs[] = {
	[CHECK_EV_LOAD] = { "load", ROW_READ, true },
	[CHECK_EV_STORE] = { "store", ROW_WRITE, true },
	[CHECK_EV_RMW] = { "update", ROW_UPDATE, true },
	[CHECK_EV_CAS_FAILED] = { "compare, not swapped", ROW_READ, false },
	[CHECK_EV_FENCE] = { "fence", ROW_FENCE, true },
	[CHECK_EV_READ] = { "read", ROW_READ, false },
	[CHECK_EV_WRITE] = { "write", ROW_WRITE, false },
	[CHECK_EV_ALLOC] = { "allocate", ROW_MEMORY, false },
	[CHECK_EV_FREE] = { "free", ROW_MEMORY, false },
	[CHECK_EV_LOCK] = { "lock", ROW_LOCK, false },
	[CHECK_EV_UNLOCK] = { "unlock", ROW_LOCK, false },
	[CHECK_EV_RCU_LOCK] = { "read section begins", ROW_LOCK, false },
	[CHECK_EV_RCU_UNLOCK] = { "read section ends", ROW_LOCK, false },
	[CHECK_EV_SYNC_BEGIN] = { "grace period begins", ROW_LOCK, false },
	[CHECK_EV_SYNC_END] = { "grace period is over", ROW_LOCK, false },
	[CHECK_EV_RCU_CALL] = { "freed after a grace period", ROW_MEMORY, false },
	[CHECK_EV_WAIT] = { "sleeps on", ROW_LOCK, false },
	[CHECK_EV_WAKE] = { "wakes", ROW_LOCK, false },
	[CHECK_EV_BLOCK] = { "stands still at", ROW_LOCK, false },
	[CHECK_EV_UNBLOCK] = { "goes on", ROW_LOCK, false },
	[CHECK_EV_PAUSE] = { "pause", ROW_LOCK, false },
	[CHECK_EV_CHOOSE] = { "choice", ROW_NOTE, false },
	[CHECK_EV_BEGIN] = { "begins", ROW_NOTE, false },
	[CHECK_EV_END] = { "ends", ROW_NOTE, false },
	[CHECK_EV_LOG] = { "", ROW_NOTE, false },
	[CHECK_EV_FAIL] = { "", ROW_FAIL, false },
};

const char *words_without_dots(const char *text)
{
	return memory_text(!strncmp(text, "../", 3) ? text + 3 : text);
}

enum row_kind words_kind(const struct check_event *event)
{
	return verbs[event->kind].kind;
}

const char *words_verb(const struct check_event *event)
{
	if (event->text)
		return words_without_dots(event->text);
	if (event->kind == CHECK_EV_LOCK)
		return event->value ? "lock" : "lock, shared";
	if (!verbs[event->kind].ordered)
		return verbs[event->kind].verb;
	return words_format("%s %s", verbs[event->kind].verb, seam_order_name(event->order));
}

const char *words_value(const struct check_event *event)
{
	switch (event->kind) {
	case CHECK_EV_LOAD:
	case CHECK_EV_CAS_FAILED:
		return value_text(event->old);
	case CHECK_EV_READ:
		return event->size <= 8 ? value_text(event->old) : "";
	case CHECK_EV_STORE:
		return value_text(event->value);
	case CHECK_EV_RMW:
		return words_format("%s → %s", value_text(event->old), value_text(event->value));
	case CHECK_EV_CHOOSE:
		return words_format("%llu of %llu", (unsigned long long)event->value, (unsigned long long)event->old);
	case CHECK_EV_ALLOC:
		return words_format("%llu bytes", (unsigned long long)event->value);
	default:
		return "";
	}
}

/* "lock 0x428540" becomes "lock accounts+64", where it has a name. Returns: how long the address is; 0: none. */
static int address_put(const char *message, char *text, size_t size)
{
	unsigned long long address;
	const char *name;
	int length = 0;

	if (sscanf(message, "0x%llx%n", &address, &length) != 1)
		return 0;
	name = location_of_value(address);
	snprintf(text, size, "%s", name ? name : words_format("%#llx", address));
	return length;
}

/* The last place of a thread outside the wrappers. */
static const struct source_place *last_place(const struct picture *picture, int thread)
{
	for (unsigned i = picture->count; i-- > 0;)
		if (picture->row[i].thread == thread && picture->row[i].kind != ROW_FAIL &&
		    row_place(&picture->row[i])->line)
			return row_place(&picture->row[i]);
	return NULL;
}

/* The file and line of a pc. When the pc is in a wrapper, the last place of the thread says more. */
static const char *pc_text(const struct picture *picture, uint32_t pc, int thread)
{
	const struct source *source = source_of_return(pc);
	const struct source_place *place = NULL;
	unsigned frame;

	if (source->depth && (location_frame(source, &frame) || !(place = last_place(picture, thread))))
		place = &source->place[frame];
	return place ? words_format("%s:%u", source_shown(place->file), place->line) : words_format("pc %#x", pc);
}

const char *words_message(const struct picture *picture, const char *message)
{
	char text[2048];
	size_t used = 0;
	int thread = -1; /* who did it, where a pc is */

	while (*message && used < sizeof(text) - 256) {
		unsigned number;
		int length = 0;

		if (sscanf(message, "thread %u%n", &number, &length) == 1 && number < picture->threads) {
			/* not that of "main waits for the end of thread 1" */
			if (used < 7 || strncmp(text + used - 7, "end of ", 7))
				thread = (int)number;
			used += (size_t)snprintf(text + used, 128, "%s", picture->thread_name[number]);
		} else if (sscanf(message, "pc 0x%x%n", &number, &length) == 1) {
			used += (size_t)snprintf(text + used, 200, "%s", pc_text(picture, number, thread));
		} else if (!strncmp(message, "thread -1", 9)) {
			used += (size_t)snprintf(text + used, 64, "finish");
			length = 9;
		} else if (*message == '\n') {
			length = (int)strspn(message, "\n ");
			used += (size_t)snprintf(text + used, 4, "%s",
			                         !message[length]                ? ""
			                         : used && text[used - 1] == ':' ? " "
			                                                         : "; ");
		} else if ((length = address_put(message, text + used, 200))) {
			used += strlen(text + used);
		} else {
			text[used++] = *message;
			length = 1;
		}
		message += length;
	}
	text[used] = '\0';
	return memory_text(text);
}

const char *words_party(const struct picture *picture, uint32_t pc, int thread)
{
	const struct source *source = source_of_return(pc);
	const struct source_place *place;
	unsigned frame;

	location_frame(source, &frame);
	place = source->depth ? &source->place[frame] : NULL;
	return words_format("%s, at %s:%u",
	                    thread >= 0 && thread < (int)picture->threads ? picture->thread_name[thread] : "finish",
	                    place ? source_shown(place->file) : "?", place ? place->line : 0);
}
