/* SPDX-License-Identifier: MIT */
/*
 * What a program's file says about how it is loaded. The command uses it before it starts a program, and the
 * front end before the client starts one. The latter may be in a vfork child or a signal handler, so there are no
 * locks and no allocation.
 */
#ifndef VMMU_KVM_PROGRAM_H
#define VMMU_KVM_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>

#include "kvm/process/config.h"

enum program_form {
	FORM_OTHER,    /* no ELF file */
	FORM_SCRIPT,   /* names an interpreter */
	FORM_FOREIGN,  /* an ELF file for another machine, or 32-bit */
	FORM_BROKEN,   /* its headers point outside of the file */
	FORM_STATIC,   /* without a dynamic loader */
	FORM_LIBRARY,  /* a shared object that is no program */
	FORM_GLIBC,    /* loaded by glibc's loader, or by one that we do not know */
	FORM_MUSL,     /* loaded by musl's */
};

#define PROGRAM_RUNTIME 64
#define PROGRAM_INTERPRETER 256 /* the kernel reads as much of a script */

struct program_file {
	enum program_form form;
	char runtime[PROGRAM_RUNTIME]; /* the runtime of its sanitizer, by the name that the loader looks for; or "" */
	bool raw;                    /* it names /dev/kvm, and makes system calls without libc */
	char interpreter[PROGRAM_INTERPRETER]; /* of a script */
	char argument[PROGRAM_INTERPRETER];    /* what the script's first line has for it, or "" */
};

#define PROGRAM_SCRIPTS 5 /* the kernel follows so many interpreters that are scripts themselves */

/* The interpreters of a script, the outermost last. */
struct program_scripts {
	unsigned count;
	struct {
		char interpreter[PROGRAM_INTERPRETER];
		char argument[PROGRAM_INTERPRETER];
	} level[PROGRAM_SCRIPTS];
};

/** Look into the file. Returns: false, with errno set, when it cannot be read. */
bool program_look(const char *path, struct program_file *out);

/** Whether the front end can be in a program, and why not. */
enum program_kind {
	PROGRAM_DYNAMIC,
	PROGRAM_RAW,        /* a library can be preloaded, and does not see all calls */
	PROGRAM_STATIC,     /* has no interpreter: nothing can be preloaded */
	PROGRAM_MUSL,       /* its loader is not glibc's */
	PROGRAM_LIBRARY,    /* a shared object that is no program */
	PROGRAM_SETUID,     /* the loader ignores LD_PRELOAD */
	PROGRAM_FOREIGN,    /* an ELF file for another machine, or 32-bit */
	PROGRAM_UNREADABLE, /* the file cannot be read; exec decides */
	PROGRAM_OTHER,      /* neither an ELF file nor a script: nothing that can run */
};

/**
 * What the kernel will start for this path. A script's interpreter counts in the place of the script. `file`: receives
 * what the file that is started says of itself. `scripts`: receives the interpreters.
 */
enum program_kind program_examine(const char *path, struct program_file *file, struct program_scripts *scripts);

/* How the front end comes to a program. */
enum program_way {
	WAY_PRELOAD, /* as a preloaded library */
	WAY_HOST,    /* the front end hosts it: kvm/trap */
	WAY_NONE,
};

/**
 * The way for a program of this kind, by what `vmmu run --raw` says. `obstacle`: receives why there is none and what
 * to do, for a message; NULL where there is one.
 */
enum program_way program_way(enum program_kind kind, enum config_raw raw, const char **obstacle);

#define PROGRAM_WORDS(count) ((count) + 1 + 2 * PROGRAM_SCRIPTS) /* room for program_arguments, of `count` words */

/**
 * The arguments with which the kernel starts a script's interpreter: those of the script behind what its first line
 * says. Returns: where they begin in `room`.
 */
char **program_arguments(char **room, const struct program_scripts *scripts, const char *path, char *const *arguments);

/** The file that hosts programs: it is beside the library. Returns: false when its name is too long. */
bool program_host(const char *library, char *path, size_t size);

/** Is it the runtime of a sanitizer? It must come before every other library. */
bool program_is_runtime(const char *name, size_t length);

#endif
