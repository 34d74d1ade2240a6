/* SPDX-License-Identifier: MIT */
/* The vmmu command: what its files share. */
#ifndef VMMU_CLI_CLI_H
#define VMMU_CLI_CLI_H

#include "kvm/interpose/program.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Exit codes of our own, as env(1) and docker(1) have them; otherwise the program's. */
#define EXIT_USAGE      2   /* the command line is wrong, or asks for what is not there yet */
#define EXIT_FAILED     125 /* vmmu itself failed */
#define EXIT_CANNOT_RUN 126 /* the program was found and cannot be run */
#define EXIT_NOT_FOUND  127

int command_run(int argc, char **argv);
int command_doctor(int argc, char **argv);

/* ---- text.c ---- */

/** An error on stderr: "vmmu: ...". */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** `text` in a colour when `out` is a terminal (and NO_COLOR is not set). Codes as in ECMA-48: "31" is red. */
void print_coloured(FILE *out, const char *code, const char *text);

/* ---- program.c ---- */

enum program_kind {
	PROGRAM_DYNAMIC,
	PROGRAM_STATIC,     /* has no interpreter: nothing can be preloaded */
	PROGRAM_MUSL,       /* its loader is not glibc's */
	PROGRAM_LIBRARY,    /* a shared object that is no program */
	PROGRAM_SETUID,     /* the loader ignores LD_PRELOAD */
	PROGRAM_FOREIGN,    /* an ELF file for another machine, or 32-bit */
	PROGRAM_UNREADABLE, /* cannot be looked at; exec decides */
	PROGRAM_OTHER,      /* no ELF file: a script, or nothing that runs */
};

/** Find a program as execvp does. `path`: room for the answer. Returns: 0, or an errno value. */
int program_find(const char *name, char *path, size_t size);

/** What kind of program it is. `runtime`: the sanitizer's runtime that it needs, which must be preloaded first, or "". */
enum program_kind program_examine(const char *path, char runtime[static PROGRAM_RUNTIME]);

/** Why the kind cannot be run under vmmu, in a sentence; NULL when it can. */
const char *program_obstacle(enum program_kind kind);

/** The preload library. Returns: false when it is not installed (and complains). */
bool preload_find(char *path, size_t size);

/* ---- watch.c ---- */

/** From now on somebody says it on stderr when this process has ended and nothing asked for /dev/kvm. Where a kernel lacks
 * what that needs (Linux 5.3), nobody does. */
void watch_start(void);

/** Nobody will: the program was not started. */
void watch_stop(void);

/* ---- run.c ---- */

struct run_options {
	bool stats;
	bool quiet; /* do not say that nothing asked for /dev/kvm */
	const char *trace; /* a file for what was refused, or NULL */
	const char *mmu, *format;
	const char *host_memory, *host_swap, *host_swap_size; /* bytes as decimal digits; a path; or NULL */
};

/** Set the environment and become the program. Returns only on failure: an exit code. */
int run_exec(const struct run_options *options, char **argv);

#endif
