/* SPDX-License-Identifier: MIT */
#include "kvm/vcpu/cancel.h"
#include "kvm/process/file.h"
#include "kvm/process/real.h"
#include "kvm/vm/machines.h"
#include "kvm/process/signals.h"
#include "kvm/vm/vm.h"
#include <pthread.h>

void cancel_hold(struct cancel_state *state)
{
	pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &state->type);
}

static void run_given_up(void *file)
{
	file_put(file);
	signals_release();
}

void cancel_run(const struct cancel_state *state, struct file *file)
{
	struct kvm_vcpu *vcpu = file->object;
	int own;

	/* In this order: a thread that cancels this one from here on finds the runner. */
	atomic_store_explicit(&vcpu->cancelled, false, memory_order_relaxed);
	atomic_store_explicit(&vcpu->runner, pthread_self(), memory_order_seq_cst);
	if (state->type == PTHREAD_CANCEL_DEFERRED)
		return;
	/*
	 * A cancellation that came since cancel_hold found no runner. It takes effect here, where nothing is
	 * locked.
	 */
	pthread_cleanup_push(run_given_up, file);
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &own);
	pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &own);
	pthread_cleanup_pop(0);
}

void cancel_release(const struct cancel_state *state)
{
	int own;

	if (state->type != PTHREAD_CANCEL_DEFERRED)
		pthread_setcanceltype(state->type, &own);
}

static void cancel_in(struct kvm *kvm, void *thread)
{
	for (unsigned id = 0; id < MAX_VCPU_ID; id++) {
		struct kvm_vcpu *vcpu = vm_vcpu(kvm, id);

		if (!vcpu || !pthread_equal(atomic_load(&vcpu->runner), *(pthread_t *)thread))
			continue;
		atomic_store(&vcpu->cancelled, true);
		cpu_request_exit(vcpu->cpu);
		vcpu_wake(vcpu);
	}
}

/* In a kernel, cancelling a thread ends its KVM_RUN, because the cancellation is a signal. */
EXPORT int pthread_cancel(pthread_t thread)
{
	int result = REAL(pthread_cancel, int (*)(pthread_t))(thread);

	if (result == 0 && machines_any()) {
		signals_hold();
		machines_each(cancel_in, &thread);
		signals_release();
	}
	return result;
}
