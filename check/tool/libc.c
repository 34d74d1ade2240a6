/* SPDX-License-Identifier: MIT */
/*
 * What else a checked program calls of libc, where the real thing would keep state over executions, print in each of
 * thousands, or not be seen. Instrumented, so that accesses and callers are known. Outside of an execution all is real.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "check/check.h"
#include "check/tool/shim.h"

#define NOW 1000000000 /* the time, always */

static bool is_checked(void)
{
	return check_self() >= 0;
}

/* ---- memory --------------------------------------------------------------------------------------- */

void *REAL(malloc)(size_t size);
void *REAL(calloc)(size_t count, size_t size);
void *REAL(realloc)(void *ptr, size_t size);
void *REAL(aligned_alloc)(size_t align, size_t size);
int REAL(posix_memalign)(void **to, size_t align, size_t size);
char *REAL(strdup)(const char *text);
void REAL(free)(void *ptr);

void *SHIM(malloc)(size_t size) { return is_checked() ? check_alloc(size, 16) : REAL(malloc)(size); }

void *SHIM(calloc)(size_t count, size_t size)
{
	size_t bytes;

	if (!is_checked())
		return REAL(calloc)(count, size);
	return __builtin_mul_overflow(count, size, &bytes) ? NULL : check_alloc(bytes, 16);
}

void *SHIM(aligned_alloc)(size_t align, size_t size)
{
	return is_checked() ? check_alloc(size, align) : REAL(aligned_alloc)(align, size);
}

int SHIM(posix_memalign)(void **to, size_t align, size_t size)
{
	if (!is_checked())
		return REAL(posix_memalign)(to, align, size);
	*to = check_alloc(size, align);
	return 0;
}

void SHIM(free)(void *ptr)
{
	if (is_checked())
		check_free(ptr);
	else
		REAL(free)(ptr);
}

void *SHIM(realloc)(void *ptr, size_t size)
{
	size_t kept = is_checked() ? check_size_of(ptr) : 0;
	void *to;

	if (!is_checked())
		return REAL(realloc)(ptr, size);
	to = check_alloc(size, 16);
	if (ptr) {
		memcpy(to, ptr, kept < size ? kept : size);
		check_free(ptr);
	}
	return to;
}

/* ---- strings -------------------------------------------------------------------------------------- */

size_t SHIM(strlen)(const char *text)
{
	size_t length = 0;

	while (text[length])
		length++;
	return length;
}

int SHIM(strcmp)(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return (unsigned char)*a - (unsigned char)*b;
}

int SHIM(memcmp)(const void *a, const void *b, size_t bytes)
{
	const unsigned char *p = a, *q = b;

	for (; bytes; bytes--, p++, q++)
		if (*p != *q)
			return *p - *q;
	return 0;
}

char *SHIM(strcpy)(char *to, const char *from)
{
	memcpy(to, from, SHIM(strlen)(from) + 1);
	return to;
}

char *SHIM(strncpy)(char *to, const char *from, size_t bytes)
{
	size_t i = 0;

	for (; i < bytes && from[i]; i++)
		to[i] = from[i];
	for (; i < bytes; i++)
		to[i] = 0;
	return to;
}

char *SHIM(strdup)(const char *text)
{
	char *copy;

	if (!is_checked())
		return REAL(strdup)(text);
	copy = check_alloc(SHIM(strlen)(text) + 1, 16);
	return SHIM(strcpy)(copy, text);
}

/* ---- output: lines of the picture, when one is drawn ---------------------------------------------- */

int REAL(vfprintf)(FILE *file, const char *format, va_list args);
size_t REAL(fwrite)(const void *data, size_t size, size_t count, FILE *file);
int REAL(fflush)(FILE *file);
ssize_t REAL(write)(int file, const void *data, size_t bytes);

static int say(const char *format, va_list args)
{
	char line[256];
	int length = vsnprintf(line, sizeof(line), format, args);

	line[strcspn(line, "\n")] = 0;
	check_log("%s", line);
	return length;
}

int SHIM(vfprintf)(FILE *file, const char *format, va_list args)
{
	return is_checked() ? say(format, args) : REAL(vfprintf)(file, format, args);
}

int SHIM(vprintf)(const char *format, va_list args) { return SHIM(vfprintf)(stdout, format, args); }

__attribute__((format(printf, 1, 2))) int SHIM(printf)(const char *format, ...)
{
	va_list args;
	int length;

	va_start(args, format);
	length = SHIM(vfprintf)(stdout, format, args);
	va_end(args);
	return length;
}

__attribute__((format(printf, 2, 3))) int SHIM(fprintf)(FILE *file, const char *format, ...)
{
	va_list args;
	int length;

	va_start(args, format);
	length = SHIM(vfprintf)(file, format, args);
	va_end(args);
	return length;
}

int SHIM(puts)(const char *text) { return SHIM(printf)("%s\n", text); }
int SHIM(fputs)(const char *text, FILE *file) { return SHIM(fprintf)(file, "%s", text); }
int SHIM(putchar)(int c) { return SHIM(printf)("%c", c) < 0 ? EOF : c; }
int SHIM(fputc)(int c, FILE *file) { return SHIM(fprintf)(file, "%c", c) < 0 ? EOF : c; }
int SHIM(putc)(int c, FILE *file) { return SHIM(fputc)(c, file); }
void SHIM(perror)(const char *text) { SHIM(fprintf)(stderr, "%s: %s\n", text, strerror(errno)); }
int SHIM(fflush)(FILE *file) { return is_checked() ? 0 : REAL(fflush)(file); }

size_t SHIM(fwrite)(const void *data, size_t size, size_t count, FILE *file)
{
	return is_checked() ? count : REAL(fwrite)(data, size, count, file);
}

ssize_t SHIM(write)(int file, const void *data, size_t bytes)
{
	return is_checked() && file <= STDERR_FILENO ? (ssize_t)bytes : REAL(write)(file, data, bytes);
}

/* ---- the end -------------------------------------------------------------------------------------- */

_Noreturn void REAL(exit)(int status);
_Noreturn void REAL(abort)(void);

/* The other threads go on: what they may still do until the process is gone is explored, too. */
_Noreturn void SHIM(exit)(int status)
{
	if (!is_checked())
		REAL(exit)(status);
	if (status)
		check_fail("exit(%d)", status);
	check_thread_exit();
}

_Noreturn void SHIM(abort)(void)
{
	if (!is_checked())
		REAL(abort)();
	check_fail("abort()");
}

_Noreturn void SHIM(__assert_fail)(const char *expression, const char *file, unsigned line, const char *function)
{
	(void)function;
	check_fail("%s:%u: %s", file, line, expression);
}

/* ---- time and chance ------------------------------------------------------------------------------ */

int REAL(clock_gettime)(clockid_t clock, struct timespec *to);
int REAL(nanosleep)(const struct timespec *time, struct timespec *left);

int SHIM(clock_gettime)(clockid_t clock, struct timespec *to)
{
	if (!is_checked())
		return REAL(clock_gettime)(clock, to);
	*to = (struct timespec){ .tv_sec = NOW };
	return 0;
}

time_t SHIM(time)(time_t *to)
{
	struct timespec now;

	SHIM(clock_gettime)(CLOCK_REALTIME, &now);
	if (to)
		*to = now.tv_sec;
	return now.tv_sec;
}

int SHIM(gettimeofday)(struct timeval *to, void *zone)
{
	struct timespec now;

	(void)zone;
	SHIM(clock_gettime)(CLOCK_REALTIME, &now);
	*to = (struct timeval){ .tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000 };
	return 0;
}

/* Nothing is said about who goes first after a while. */
int SHIM(nanosleep)(const struct timespec *time, struct timespec *left)
{
	if (!is_checked())
		return REAL(nanosleep)(time, left);
	check_yield();
	return 0;
}

int SHIM(usleep)(useconds_t time)
{
	struct timespec wait = { .tv_sec = time / 1000000, .tv_nsec = (long)(time % 1000000) * 1000 };

	return SHIM(nanosleep)(&wait, NULL);
}

unsigned SHIM(sleep)(unsigned seconds)
{
	struct timespec wait = { .tv_sec = seconds };

	SHIM(nanosleep)(&wait, NULL);
	return 0;
}

/* The same numbers in each execution. */
static _Thread_local uint64_t chance = 1;

int SHIM(rand)(void)
{
	chance = chance * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (int)(chance >> 33);
}

void SHIM(srand)(unsigned seed) { chance = seed; }
long SHIM(random)(void) { return SHIM(rand)(); }
void SHIM(srandom)(unsigned seed) { chance = seed; }
