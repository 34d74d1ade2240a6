/* SPDX-License-Identifier: MIT */
#include "check/runtime/seed.h"

#include <stdio.h>
#include <stdlib.h>

static struct choice *script; /* the choices to replay */
static unsigned script_count, script_at;

void seed_write(char *to, size_t room)
{
	size_t used = (size_t)snprintf(to, room, "%s:%s:", rt.search->scenario->name, rt.tso ? "tso" : "c11");
	unsigned i = 0;

	while (i < rt.choice_count && used < room - 16) {
		const struct choice *c = &rt.choices[i];
		unsigned run = 1;

		to[used++] = (char)('a' + c->thread);
		if (c->option) {
			used += (size_t)snprintf(to + used, room - used, ".%u", c->option);
			i++;
			continue;
		}
		while (i + run < rt.choice_count && c[run].thread == c->thread && !c[run].option)
			run++;
		if (run > 1)
			used += (size_t)snprintf(to + used, room - used, "%u", run);
		i += run;
	}
	to[used] = 0;
	if (i < rt.choice_count) {
		to[used] = '!';
		to[used + 1] = 0;
	}
}

static const char *script_add(const char *at)
{
	unsigned thread = (unsigned)(*at - 'a'), number = 1, option = 0;
	char *end = (char *)at + 1;

	if (thread >= THREADS)
		return NULL;
	if (*end == '.')
		option = (unsigned)strtoul(end + 1, &end, 10);
	else if (*end >= '0' && *end <= '9')
		number = (unsigned)strtoul(end, &end, 10);
	for (unsigned i = 0; i < number; i++) {
		if (script_count == sizeof(rt.choices) / sizeof(rt.choices[0]))
			return NULL;
		script[script_count++] = (struct choice){ (uint8_t)thread, (uint16_t)option };
	}
	return end;
}

const char *seed_read(const char *seed)
{
	size_t name = strlen(rt.search->scenario->name);

	if (!script)
		script = rt_map(sizeof(rt.choices));
	script_count = script_at = 0;
	if (strncmp(seed, rt.search->scenario->name, name) || seed[name] != ':')
		return "the seed is of another scenario";
	seed += name + 1;
	if (strncmp(seed, "c11:", 4) && strncmp(seed, "tso:", 4))
		return "the seed names no memory model";
	rt.tso = seed[0] == 't';
	for (seed += 4; *seed;) {
		seed = script_add(seed);
		if (!seed)
			return "that is no seed (or one that was cut for length)";
	}
	return NULL;
}

static bool is_replay(void)
{
	return rt.search->strategy == CHECK_REPLAY && script_at < script_count;
}

bool replay_forced(unsigned *rank, unsigned newest)
{
	if (!is_replay())
		return false;
	*rank = newest - script[script_at++].option;
	return true;
}

bool replay_forced_choice(unsigned *value)
{
	if (!is_replay())
		return false;
	*value = script[script_at++].option;
	return true;
}

static bool replayed;

static void start(void)
{
	replayed = false;
	script_at = 0;
}

static bool next(void)
{
	bool first = !replayed;

	replayed = true;
	return first;
}

static unsigned thread(unsigned ready)
{
	if (script_at == script_count)
		return (unsigned)__builtin_ctz(ready);
	if (!(ready >> script[script_at].thread & 1))
		rt_fail(CHECK_UNSTABLE, "the replay is not what it was: thread %u cannot go on at step %u",
		        script[script_at].thread, script_at);
	return script[script_at].thread;
}

static unsigned option(unsigned count, bool costs)
{
	(void)count;
	(void)costs;
	return 0;
}

static void done(void)
{
}

const struct strategy replay_strategy = { start, next, thread, option, done };
