/* SPDX-License-Identifier: MIT */
/* What the files of the vmmu command share. */
#ifndef VMMU_CLI_CLI_H
#define VMMU_CLI_CLI_H

#include "kvm/interpose/program.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* The command's own exit codes, the same as those of env(1) and docker(1). Otherwise it exits with the program's. */
#define EXIT_USAGE      2   /* the command line is wrong */
#define EXIT_FAILED     125 /* vmmu itself failed */
#define EXIT_CANNOT_RUN 126 /* the program was found and cannot be run */
#define EXIT_NOT_FOUND  127

int command_run(int argc, char **argv);
int command_doctor(int argc, char **argv);

/* ---- text.c ---- */

/** An error on stderr: "vmmu: ...". */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** Print `text`, in a colour when `out` is a terminal and NO_COLOR is not set. `code`: as in ECMA-48: "31" is red. */
void print_coloured(FILE *out, const char *code, const char *text);

/* ---- program.c ---- */

/** Find a program as execvp does. `path`: receives its path. Returns: 0, or an errno value. */
int program_find(const char *name, char *path, size_t size);

/** Find the library to preload. Returns: false, after a message, when it is not installed. */
bool preload_find(char *path, size_t size);

/* ---- watch.c ---- */

/**
 * Start the watcher: a process that says so on stderr if this process ends without having asked for /dev/kvm. It
 * needs Linux 5.3; on an older kernel there is no watcher.
 */
void watch_start(void);

/** Stop the watcher, because the program could not be started. */
void watch_stop(void);

/* ---- model.c ---- */

/** Is there a model of the CPU with this name? */
bool model_exists(const char *name);
/** Returns: what this machine lacks for the model, or NULL. `name` may be NULL: the default. */
const char *model_missing(const char *name);

/* ---- run.c ---- */

struct run_options {
	bool stats;
	bool quiet; /* no message when nothing asked for /dev/kvm */
	const char *trace; /* the file in which refused requests are listed, or NULL */
	const char *mmu, *format;
	const char *cpu_model; /* "host", "v1" to "v4", or NULL */
	const char *raw; /* "auto", "on", "off", or NULL: auto */
	bool host_kvm;  /* programs that cannot have the front end run without it */
	const char *cpu_engine; /* "interpret", "translate", "check", or NULL */
	bool no_nested; /* guests cannot be hypervisors */
	const char *host_memory, *host_swap, *host_swap_size; /* bytes as decimal digits; a path; or NULL */
};

/** Set the environment and become the program. Returns: only on failure, with an exit code. */
int run_exec(const struct run_options *options, char **argv);

#endif
