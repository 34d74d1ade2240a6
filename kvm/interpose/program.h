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
	FORM_FOREIGN,  /* an ELF file for another machine, or 32-bit */
	FORM_BROKEN,   /* its headers point outside of the file */
	FORM_STATIC,   /* without a dynamic loader */
	FORM_LIBRARY,  /* a shared object that is no program */
	FORM_GLIBC,    /* loaded by glibc's loader, or by one that we do not know */
	FORM_MUSL,     /* loaded by musl's */
};

#define PROGRAM_RUNTIME 64

struct program_file {
	enum program_form form;
	char runtime[PROGRAM_RUNTIME]; /* the runtime of its sanitizer, by the name that the loader looks for; or "" */
};

/** Look into the file. Returns: false, with errno set, when it cannot be read. */
bool program_look(const char *path, struct program_file *out);

/** Is it the runtime of a sanitizer? It must come before every other library. */
bool program_is_runtime(const char *name, size_t length);

#endif
