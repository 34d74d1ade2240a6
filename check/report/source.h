/* SPDX-License-Identifier: MIT */
/*
 * From an address in this program to its place in the source: function, file and line, with what was
 * inlined, and the line's text.
 */
#ifndef CHECK_REPORT_SOURCE_H
#define CHECK_REPORT_SOURCE_H

#include <stdint.h>

struct source_place {
	const char *function; /* "?" when unknown */
	const char *file;     /* relative to the root of the source, when the file is below it */
	unsigned line, column;
};

/** Files below this folder go by their name from there; the tree this was built from, until another is given. */
void source_root(const char *path);

#define SOURCE_DEPTH 12

/* The place of an address, with everything that was inlined there. */
struct source {
	unsigned depth;
	struct source_place place[SOURCE_DEPTH]; /* [0] is the innermost */
	uintptr_t function;                      /* where the function with this code begins; 0: unknown */
};

/**
 * The place of the call that returns to `pc`. The strings and the result live as long as the program. Needs -g.
 * Returns: never NULL; depth 0 when nothing is known.
 */
const struct source *source_of_return(uintptr_t pc);

/**
 * A line of a file, without the blanks around it; `file` as source_of_return names it. "" when it cannot be read. The
 * string lives as long as the program.
 */
const char *source_text(const char *file, unsigned line);

/** A file's name for readers. In a copy of core/ with a bug put in, a file goes by the name of its original. */
const char *source_shown(const char *file);

/** The line with its blanks, so that columns count. */
const char *source_line(const char *file, unsigned line);

/** The variable that an address lies in, and the offset in it; NULL when it is in none. */
const char *source_variable(uintptr_t address, uint64_t *offset);

#endif
