/* SPDX-License-Identifier: MIT */
#ifndef PORT_POSIX_WORKER_H
#define PORT_POSIX_WORKER_H

/**
 * Make sure that liburcu's thread for callbacks exists, with every signal blocked. The process's signals are for its
 * own threads, whose KVM_RUN they may have to end. Call it before any urcu_bp_call_rcu or urcu_bp_barrier. The first
 * call, and the first in a forked child, sleeps and allocates; any other costs a load.
 */
void rcu_worker_start(void);

#endif
