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
	char interpreter[PROGRAM_INTERPRETER]; /* of a script */
};

/** Look into the file. Returns: false, with errno set, when it cannot be read. */
bool program_look(const char *path, struct program_file *out);

/** Whether the front end can be in a program, and why not. */
enum program_kind {
	PROGRAM_DYNAMIC,
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
 * what the file that is started says of itself.
 */
enum program_kind program_examine(const char *path, struct program_file *file);

/** Why the front end cannot be in a program of this kind, and what to do, for a message; NULL when it can. */
const char *program_obstacle(enum program_kind kind);

/** Is it the runtime of a sanitizer? It must come before every other library. */
bool program_is_runtime(const char *name, size_t length);

#endif
