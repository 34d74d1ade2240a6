/* SPDX-License-Identifier: MIT */
/*
 * system and popen. In libc they start the shell past posix_spawn, with the client's environment. Where the client took
 * the front end out of that, the shell gets a command by which it starts another one, with the variables put back; as
 * start_whole (exec.c) does it, and for the same reason.
 */
#include "kvm/interpose/interpose.h"
#include "kvm/process/signals.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char shell[] = "/bin/sh"; /* libc's */

/* Room for `text` once it is quoted. */
static size_t quoted_room(const char *text)
{
	size_t room = 3;

	for (; *text; text++)
		room += *text == '\'' ? 4 : 1;
	return room;
}

/* Append `text` so that a shell takes it as it is. Returns: behind it. */
static char *quote(char *to, const char *text)
{
	*to++ = '\'';
	for (; *text; text++) {
		if (*text == '\'')
			to = stpcpy(to, "'\\'");
		*to++ = *text;
	}
	return stpcpy(to, "'");
}

/* `count` assignments of what is missing, then `command` in a shell of its own. Returns: NULL without memory. */
static char *text_make(char *const missing[], int count, const char *command)
{
	static const char start[] = "exec /bin/sh -c ";
	size_t room = sizeof(start) + quoted_room(command);
	char *text, *to;

	for (int i = 0; i < count; i++)
		room += quoted_room(missing[i]) + 1;
	text = to = malloc(room);
	for (int i = 0; text && i < count; i++) {
		const char *value = strchr(missing[i], '=') + 1;

		to = mempcpy(to, missing[i], (size_t)(value - missing[i]));
		to = quote(to, value);
		to = stpcpy(to, " ");
	}
	if (text)
		quote(stpcpy(to, start), command);
	return text;
}

/*
 * Find the command to run in the place of `command`: `out`, which command_free frees, or NULL when nothing is missing.
 * Returns: false without memory.
 */
static bool command_make(const char *command, char **out)
{
	char *missing[EXEC_MISSING];
	int count;

	*out = NULL;
	signals_hold(); /* a handler of the client may be here, too, and the allocator has a lock */
	count = exec_missing(shell, environ, missing);
	if (count > 0)
		*out = text_make(missing, count, command);
	for (int i = 0; i < count; i++)
		free(missing[i]);
	signals_release();
	return count == 0 || *out;
}

static void command_free(char *made)
{
	signals_hold();
	free(made);
	signals_release();
}

EXPORT int system(const char *command)
{
	char *made = NULL;
	int status;

	if (command && !command_make(command, &made))
		return -1;
	status = REAL(system, int (*)(const char *))(made ? made : command);
	command_free(made);
	return status;
}

EXPORT FILE *popen(const char *command, const char *mode)
{
	char *made;
	FILE *stream;

	if (!command_make(command, &made))
		return NULL;
	stream = REAL(popen, FILE *(*)(const char *, const char *))(made ? made : command, mode);
	command_free(made);
	return stream;
}
