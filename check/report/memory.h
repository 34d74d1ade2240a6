/* SPDX-License-Identifier: MIT */
/* Memory for reports, zeroed. When there is none the program ends, so no call fails. Not for code under test. */
#ifndef CHECK_REPORT_MEMORY_H
#define CHECK_REPORT_MEMORY_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline void *memory_checked(void *memory)
{
	if (!memory) {
		fputs("vmmu-check: out of memory\n", stderr);
		exit(3);
	}
	return memory;
}

static inline void *memory_get(size_t bytes)
{
	return memory_checked(calloc(1, bytes ? bytes : 1));
}

static inline void *memory_resize(void *memory, size_t bytes)
{
	return memory_checked(realloc(memory, bytes ? bytes : 1));
}

static inline char *memory_text(const char *text)
{
	return memory_checked(strdup(text));
}

#endif
