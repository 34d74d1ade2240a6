/* SPDX-License-Identifier: MIT */
/* A thread of the client that is cancelled inside our code: KVM_RUN ends, and nothing is left locked. */
#ifndef VMMU_KVM_CANCEL_H
#define VMMU_KVM_CANCEL_H

struct kvm_vcpu;

/**
 * Around an ioctl of ours: a thread that may be cancelled at any instruction must not be while it holds our locks. After the last, a
 * cancellation that came meanwhile is acted upon. `vcpu`: for KVM_RUN, which ends when the thread is cancelled; else NULL.
 */
struct cancel_state {
	int type;
};
void cancel_hold(struct cancel_state *state, struct kvm_vcpu *vcpu);
void cancel_release(const struct cancel_state *state);

#endif
