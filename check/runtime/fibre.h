/* SPDX-License-Identifier: MIT */
/* The scenario's threads: stacks at fixed addresses, all on one thread of the system. */
#ifndef CHECK_RUNTIME_FIBRE_H
#define CHECK_RUNTIME_FIBRE_H

/** Go to the fibre whose stack pointer is `to`. The caller's stack pointer goes to *from. */
void fibre_switch(void **from, void *to);

/** Make a stack pointer on the stack of `thread` from which fibre_switch enters fn(). fn never returns. */
void *fibre_make(unsigned thread, void (*fn)(void));

/**
 * Call this once, before the first fibre is made. If the program has thread-local variables, each fibre has its own
 * from here on, and fibre_make gives them their initial values.
 */
void fibre_start(void);

#endif
