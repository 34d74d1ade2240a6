/* SPDX-License-Identifier: MIT */
/* Threads of the scenario: stacks at fixed addresses, on one thread of the system. */
#ifndef CHECK_RUNTIME_FIBRE_H
#define CHECK_RUNTIME_FIBRE_H

/** Go to the fibre whose stack pointer is `to`; ours is left in *from. */
void fibre_switch(void **from, void *to);

/** A stack pointer from which fibre_switch enters fn(), on the stack of `thread`. fn never returns. */
void *fibre_make(unsigned thread, void (*fn)(void));

#endif
