/* SPDX-License-Identifier: MIT */
/*
 * A hosted program: one that libc's loader did not bring in, or that makes system calls without libc. The front end
 * loaded it into its own process (kvm/trap/load.c). So two programs share each thread: the front end with its libc,
 * and the hosted one, perhaps with another libc. Each has its thread-local storage, to which FS leads.
 *
 * GS says which of the two runs. While the hosted program does, GS leads to the thread's struct hosted_thread; while
 * the front end does, GS is 0. A program that wants GS for itself cannot be hosted: arch_prctl refuses it that.
 *
 *   into the front end    FS, then GS
 *   into the program      GS, then FS
 *
 * So between the two instructions GS says "program" while FS is the front end's. The entries for signals allow that;
 * the opposite would be fatal.
 */
#ifndef VMMU_KVM_HOSTED_H
#define VMMU_KVM_HOSTED_H

/* Offsets in struct hosted_thread, for hosted_entry.S and kvm/trap/entry.S. */
#define HOSTED_FS        0
#define HOSTED_CLIENT_FS 8
#define HOSTED_FRAME     16

#ifndef __ASSEMBLER__

#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct trap_frame;

struct hosted_thread {
	uint64_t fs;              /* the front end's */
	uint64_t client_fs;       /* the program's, as it was when the front end was entered */
	struct trap_frame *frame; /* the innermost call of the program that is being answered, or NULL */
	uintptr_t stack_low, stack_high; /* the front end's stack in this thread */
	uintptr_t stack_first;    /* in it: below here is room for calls */
	uint32_t *clear_tid;      /* as of set_tid_address */
	struct {
		long area, bytes, signature;
	} rseq;                   /* the program's restartable sequences; no area: none are registered */
	jmp_buf *end;             /* where a thread of the program ends; NULL in the first one */
};

/** This thread's. Its address is what GS leads to. */
extern __thread struct hosted_thread hosted_self;

/** Does this process host a program? Set once, before the program runs. */
extern bool hosted_on;

/** The kernel's handlers while a program is hosted: of SIGSYS, and of all other signals that the program handles. */
void hosted_trap_signal(int number, siginfo_t *info, void *context);
void hosted_signal(int number, siginfo_t *info, void *context);

/** Call a handler of the hosted program with its FS. May not return. */
void hosted_call(void (*handler)(int, siginfo_t *, void *), int number, siginfo_t *info, void *context, uint64_t fs,
                 struct hosted_thread *self);

/**
 * SIGSYS came while the program ran (kvm/trap/call.c). Returns: false when it was a trapped call, and the context now
 * leads to its answer; true when it was any other SIGSYS, and it has been handled.
 */
bool hosted_trapped(int number, siginfo_t *info, void *context, uint64_t client_fs, struct hosted_thread *self);

#endif
#endif
