/* SPDX-License-Identifier: MIT */
#ifndef PORT_POSIX_WORKER_H
#define PORT_POSIX_WORKER_H

/**
 * Make sure that liburcu's thread for callbacks exists, with every signal blocked: the process's signals are for its own threads, whose KVM_RUN they may have
 * to end. Before any urcu_bp_call_rcu. Cost: a load, after the first call.
 */
void rcu_worker_start(void);

#endif
