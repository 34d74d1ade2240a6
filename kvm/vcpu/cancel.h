/* SPDX-License-Identifier: MIT */
/* Cancellation of a thread that is inside our code: it ends KVM_RUN, and leaves no lock held. */
#ifndef VMMU_KVM_CANCEL_H
#define VMMU_KVM_CANCEL_H

struct file;

/**
 * Around an ioctl that may be ours, before signals_hold and after signals_release. A thread whose cancellation is
 * asynchronous must not be cancelled while it holds our locks. In cancel_release, a cancellation that came
 * meanwhile takes effect.
 */
struct cancel_state {
	int type;
};
void cancel_hold(struct cancel_state *state);
void cancel_release(const struct cancel_state *state);

/**
 * Between the two, with nothing locked and signals held once: KVM_RUN of the vCPU behind `file` begins. It ends
 * when the thread is cancelled. The thread may end in here; then it gives up its reference to the file.
 */
void cancel_run(const struct cancel_state *state, struct file *file);

#endif
