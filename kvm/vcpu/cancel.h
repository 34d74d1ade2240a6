/* SPDX-License-Identifier: MIT */
/* A thread of the client that is cancelled inside our code: KVM_RUN ends, and nothing is left locked. */
#ifndef VMMU_KVM_CANCEL_H
#define VMMU_KVM_CANCEL_H

struct file;

/**
 * Around an ioctl that may be ours, before signals_hold and after signals_release: a thread that may be cancelled at
 * any instruction must not be while it holds our locks. cancel_release acts upon a cancellation that came meanwhile.
 */
struct cancel_state {
	int type;
};
void cancel_hold(struct cancel_state *state);
void cancel_release(const struct cancel_state *state);

/**
 * Between the two, with nothing locked and signals held once: KVM_RUN of the vCPU behind `file` begins, and ends when
 * the thread is cancelled. The thread may end in here: then it gives up its reference of the file.
 */
void cancel_run(const struct cancel_state *state, struct file *file);

#endif
