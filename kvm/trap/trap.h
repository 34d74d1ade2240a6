/* SPDX-License-Identifier: MIT */
/*
 * System calls that a hosted program (kvm/process/hosted.h) makes by instructions of its own.
 *
 * The program's code lies below TRAP_LIMIT, and nothing else that runs in the process does. A seccomp filter traps
 * some calls from there. The SIGSYS handler does not answer: it moves the thread to the front end's stack and to
 * trap_run, and returns. So the answer is given outside of any handler, like a function of libc that the program
 * called, and signals may come meanwhile.
 */
#ifndef VMMU_KVM_TRAP_H
#define VMMU_KVM_TRAP_H

/* Offsets in struct trap_frame, for entry.S. */
#define TRAP_CLIENT_FS 0
#define TRAP_SELF      8
#define TRAP_XSAVE     16
#define TRAP_REGISTERS 32

#ifndef __ASSEMBLER__

#include "kvm/process/hosted.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TRAP_LIMIT (UINT64_C(1) << 41) /* the program's code is below; the kernel maps nothing there by itself */

/* A call of the program that is being answered. On the front end's stack; entry.S takes the registers from it. */
struct trap_frame {
	uint64_t client_fs;
	struct hosted_thread *self;
	void *xsave;                 /* the registers of the vector units, or NULL: as they are */
	uint64_t unused;
	uint64_t r8, r9, r10, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax;
	struct trap_frame *previous; /* the call inside which a signal handler of the program made this one */
	uint64_t rflags, rip, rsp;
};

_Static_assert(offsetof(struct trap_frame, client_fs) == TRAP_CLIENT_FS, "as entry.S believes");
_Static_assert(offsetof(struct trap_frame, self) == TRAP_SELF, "as entry.S believes");
_Static_assert(offsetof(struct trap_frame, xsave) == TRAP_XSAVE, "as entry.S believes");
_Static_assert(offsetof(struct trap_frame, r8) == TRAP_REGISTERS, "as entry.S believes");

/* ---- entry.S ---- */

/** Where the SIGSYS handler sends a thread, with the frame on top of its new stack. */
void trap_run(struct trap_frame *frame);
/** Go on in the program as the frame says. */
_Noreturn void trap_resume(struct trap_frame *frame);
/** Make a call as the program does, by the instructions at `code`. Returns: what the kernel returned. */
long trap_probe(long number, const void *code, struct hosted_thread *self);
/** How much room the registers of the vector units take. Set before the program runs. */
extern uint64_t trap_xsave_bytes;

/** Answer the call: entry.S calls it. */
void trap_answer(struct trap_frame *frame);

/* ---- filter.c ---- */

/**
 * Trap the program's calls. Also once the front end has files: those that concern files and memory (`files`). Returns:
 * 0 or -errno.
 */
long trap_filter(bool files);

/** seccomp(2) and prctl(2): a filter of the program's own must let the program's trapped calls return. */
long trap_seccomp(long number, const long a[6]);

/* A number that no call has, by which a process learns whether a filter of ours is already there, and its answer. */
#define TRAP_PROBE        0x7665
#define TRAP_PROBE_FILES  0x7666
#define TRAP_PROBE_ANSWER 0x766d

/* ---- thread.c, clone.c ---- */

#define TRAP_STACK (UINT64_C(1) << 20)

/** The frame's place for a call that the program makes with this stack pointer. */
struct trap_frame *trap_place(struct hosted_thread *self, uint64_t rsp, const stack_t *alternate);

/** This thread will run the program. The front end's stack is [low, high), and calls are answered below `room`. */
void trap_thread_begin(uintptr_t low, uintptr_t high, uintptr_t room);

/** Give the thread's restartable sequences up, so that the program's libc can register its own. */
void trap_rseq_release(void);

/** rseq(2) of the program. Returns: as the kernel does. */
long trap_rseq(struct hosted_thread *self, const long a[6]);

/** clone, fork: the calls that make threads and processes. Return: as the kernel does. */
long trap_clone(struct trap_frame *frame);
long trap_fork(struct trap_frame *frame);
/** exit(2) of one thread. */
_Noreturn void trap_thread_exit(int status);

/* ---- memory.c ---- */

/** mmap(2): code of the program must be below TRAP_LIMIT. */
long trap_mmap(const long a[6]);

/* ---- load.c ---- */

/**
 * Host a program: the file that CONFIG_ENV_PROGRAM names, with these arguments. `vmmu-host` calls it. Returns: only on
 * failure, with an exit status.
 */
int vmmu_host(int argc, char **argv, char **environment);

/* ---- call.c ---- */

/** The path of the hosted program, for /proc/self/exe. */
extern const char *trap_program;

#endif
#endif
