/* SPDX-License-Identifier: MIT */
/* From an address in this program to its place in the source: function, file, line, through inlining; and the text of that line. */
#ifndef CHECK_REPORT_SOURCE_H
#define CHECK_REPORT_SOURCE_H

#include <stdint.h>

struct source_place {
	const char *function; /* "?" when unknown */
	const char *file;     /* relative to the root of the source where it lies below it */
	unsigned line, column;
};

#define SOURCE_DEPTH 12

/* An address with all that was inlined there. */
struct source {
	unsigned depth;
	struct source_place place[SOURCE_DEPTH]; /* [0] is the innermost */
	uintptr_t function;                      /* where the function that holds the code begins; 0: unknown */
};

/**
 * The place of a call that returns to `pc`. The strings and the result live as long as the program. Needs -g.
 * Returns: never NULL; depth 0 when nothing is known.
 */
const struct source *source_of_return(uintptr_t pc);

/** A line of a file as source_of_return names it, without the blanks around it; "" when it cannot be read. Lives as long as the program. */
const char *source_text(const char *file, unsigned line);

/** A file's name for readers: a copy that was made of core/ with a bug in it goes by the name of its original. */
const char *source_shown(const char *file);

/** The same with its blanks, so that columns count. */
const char *source_line(const char *file, unsigned line);

/** The variable that an address lies in, and how far; NULL when it is in none. */
const char *source_variable(uintptr_t address, uint64_t *offset);

#endif
