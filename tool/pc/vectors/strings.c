/* SPDX-License-Identifier: MIT */
/*
 * The string functions of libc against plain loops: each length and alignment, at the end of a page behind which there
 * is none, in two threads.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <wchar.h>

#define PAGE 4096u
#define MOST 300u

static void must(int good, const char *what, unsigned length, unsigned shift)
{
	if (good)
		return;
	printf("%s differs: length %u, %u from the end\n", what, length, shift);
	exit(1);
}

static int sign(int x)
{
	return (x > 0) - (x < 0);
}

/* `end`: the end of a page. The string ends `shift` bytes before it. */
static void one(char *end, char *other_end, unsigned length, unsigned shift, unsigned *seed)
{
	char *s = end - shift - length - 1, *t = other_end - (shift * 7 + 3) % 64 - length - 1;
	char copy[MOST + 65];
	unsigned at = length ? (unsigned)rand_r(seed) % length : 0;
	int c = 'a' + (int)((unsigned)rand_r(seed) % 26);
	size_t first = length, last = length, i;

	for (i = 0; i < length; i++)
		s[i] = (char)('a' + (unsigned)rand_r(seed) % 26);
	s[length] = 0;
	for (i = 0; i < length; i++) {
		if (s[i] == c) {
			first = first == length ? i : first;
			last = i;
		}
	}
	must(strlen(s) == length && strnlen(s, length + 1) == length, "strlen", length, shift);
	must(strchr(s, c) == (first < length ? s + first : NULL), "strchr", length, shift);
	must(strrchr(s, c) == (first < length ? s + last : NULL), "strrchr", length, shift);
	must(memchr(s, c, length) == (first < length ? s + first : NULL), "memchr", length, shift);
	must(memrchr(s, c, length) == (first < length ? s + last : NULL), "memrchr", length, shift);
	must(rawmemchr(s, 0) == s + length && strchrnul(s, c) == s + first, "strchrnul", length, shift);
	must(strcpy(t, s) == t && memcmp(t, s, length + 1) == 0 && strcmp(s, t) == 0, "strcpy", length, shift);
	must(memcpy(copy + shift % 64, s, length + 1) == copy + shift % 64 && strcmp(copy + shift % 64, s) == 0,
	     "memcpy", length, shift);
	must(stpcpy(copy, s) == copy + length && strcasecmp(copy, s) == 0, "stpcpy", length, shift);
	memmove(copy + 5, copy, length);
	must(memcmp(copy + 5, s, length) == 0, "memmove", length, shift);
	if (length) {
		t[at] = (char)(t[at] + 1);
		must(sign(strcmp(s, t)) == -1 && sign(memcmp(t, s, length)) == 1 && strncmp(s, t, at) == 0, "strcmp",
		     length, shift);
		must(strspn(s, "abcdefghijklmnopqrstuvwxyz") == length && strstr(s, s + at) <= s + at, "strstr", length,
		     shift);
	}
	memset(t, c, length);
	for (i = 0; i < length; i++)
		must(t[i] == c, "memset", length, shift);
}

static char *pages(void)
{
	char *at = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED || mprotect(at + 2 * PAGE, PAGE, PROT_NONE) != 0)
		exit(1);
	return at + 2 * PAGE;
}

static void *all(void *argument)
{
	unsigned seed = (unsigned)(uintptr_t)argument;
	char *end = pages(), *other_end = pages();

	for (unsigned length = 0; length < MOST; length += length < 80 ? 1 : 7)
		for (unsigned shift = 0; shift < 64; shift++)
			one(end, other_end, length, shift, &seed);
	return NULL;
}

int main(void)
{
	wchar_t wide[40], *found;
	pthread_t thread;

	if (pthread_create(&thread, NULL, all, (void *)2) != 0)
		return 1;
	all((void *)1);
	pthread_join(thread, NULL);
	wmemset(wide, L'x', 39);
	wide[39] = 0;
	wide[17] = L'y';
	found = wcschr(wide, L'y');
	printf("good %d %d\n", (int)wcslen(wide), (int)(found - wide));
	return 0;
}
