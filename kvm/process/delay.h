/* SPDX-License-Identifier: MIT */
/* How long a thread has waited for a processor. */
#ifndef VMMU_KVM_DELAY_H
#define VMMU_KVM_DELAY_H

#include <stdbool.h>
#include <stdint.h>

/**
 * How long the calling thread could have run and did not, since it was made, in ns. Costs three system calls.
 * Returns: false when it cannot be known: there is no /proc, or delay_forbid was called.
 */
bool delay_read(uint64_t *ns);

/**
 * The client limits its own system calls (seccomp): make none that it does not expect. Called before it does, since
 * that may concern other threads at once. If the client's call fails, delay_allow takes it back. Any thread.
 */
void delay_forbid(void);
void delay_allow(void);

#endif
