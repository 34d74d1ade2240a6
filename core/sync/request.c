/* SPDX-License-Identifier: MIT */
#include "core/sync/request.h"

#include "core/sync/atomic.h"
#include "core/sync/vm.h"

/* Returns: false if the vCPU was seen outside the guest; true if it has been told to leave. Async-signal-safe. */
static bool vcpu_tell_to_leave(struct vcpu *vcpu)
{
	uint32_t mode;

	/* full: the requester's bit is out before the mode is looked at. Pairs with vcpu_mode_enter, P9. */
	fence_full();
	/* acquire: if the vCPU is outside, all that it did in the guest is over. Pairs with vcpu_mode_leave. */
	while ((mode = load_acquire(&vcpu->mode)) == VCPU_IN_GUEST) {
		if (!cas_acqrel(&vcpu->mode, &mode, VCPU_EXITING))
			continue;
		add_relaxed(&vcpu->vm->stats.kicks, 1);
		if (vcpu->vm->host->kick)
			vcpu->vm->host->kick(vcpu->vm->host_state, vcpu->cookie);
		return true;
	}
	return mode != VCPU_OUTSIDE;
}

void vcpu_kick(struct vcpu *vcpu)
{
	vcpu_tell_to_leave(vcpu);
}

void vcpu_request(struct vcpu *vcpu, uint32_t request)
{
	/* release: the vCPU that takes the request sees what the request is about. Pairs with vcpu_requests_take. */
	__atomic_fetch_or(&vcpu->requests, request, __ATOMIC_RELEASE);
	vcpu_kick(vcpu);
}

/*
 * Wait until the vCPU has been outside at least once since the request was raised. A vCPU that left and came back has
 * seen the request on its way in. `exits` is read before the kick, so the visit we wait for is one that was told to
 * end. If the kick found the vCPU outside, do not wait: the vCPU may enter right after, having answered the request,
 * and then no thread tells it to leave.
 */
#define SPINS SPIN_LIMIT(500)

static bool vcpu_was_outside(const struct vcpu *vcpu, uint32_t exits)
{
	/* acquire: what the vCPU did in the guest is over. Pairs with vcpu_mode_leave. seqcst for vcpu_wait_outside. */
	return load_seqcst(&vcpu->mode) == VCPU_OUTSIDE || load_seqcst(&vcpu->exits) != exits;
}

static void vcpu_wait_outside(struct vcpu *vcpu)
{
	/* acquire: pairs with the release in vcpu_mode_leave. The fence of the kick keeps this load before the kick. */
	uint32_t exits = load_acquire(&vcpu->exits);

	if (!vcpu_tell_to_leave(vcpu))
		return;
	for (int spins = 0; !vcpu_was_outside(vcpu, exits); spins++) {
		if (spins < SPINS) {
			port_pause();
			continue;
		}
		/* full: the vCPU sees `watched` and wakes us, or we see it outside. Pairs with vcpu_mode_leave. */
		store_seqcst(&vcpu->watched, 1);
		if (!vcpu_was_outside(vcpu, exits))
			port_wait(&vcpu->exits, exits);
	}
}

void vcpus_request_and_wait(struct vm *vm, uint32_t request)
{
	struct vcpu_set *set = &vm->vcpus;
	/*
	 * acquire, all three loads: the fields of a vCPU found here are set; a vCPU not found any more has finished
	 * all that it did in the guest. Pairs with the releases of core/vm/vcpu.c. P9
	 */
	unsigned limit = load_acquire(&set->limit);

	for (unsigned id = 0; id < limit; id++) {
		struct vcpu *vcpu = load_acquire(&set->by_id[id]);

		if (vcpu)
			vcpu_request(vcpu, request);
	}
	for (unsigned id = 0; id < limit; id++) {
		struct vcpu *vcpu = load_acquire(&set->by_id[id]);

		if (vcpu)
			vcpu_wait_outside(vcpu);
	}
}

void vcpus_flush(struct vm *vm)
{
	add_relaxed(&vm->stats.tlb_flushes, 1);
	vcpus_request_and_wait(vm, REQ_TLB_FLUSH);
}

uint32_t vcpu_requests_take(struct vcpu *vcpu)
{
	if (!load_relaxed(&vcpu->requests))
		return 0;
	return swap_acquire(&vcpu->requests, 0); /* pairs with vcpu_request */
}

bool vcpu_mode_enter(struct vcpu *vcpu)
{
	/* full: the mode is out before the requests are looked at. Pairs with vcpu_tell_to_leave, P9. */
	swap_seqcst(&vcpu->mode, VCPU_IN_GUEST);
	if (likely(!load_seqcst(&vcpu->requests)))
		return true;
	vcpu_mode_leave(vcpu);
	return false;
}

void vcpu_mode_leave(struct vcpu *vcpu)
{
	/*
	 * full: all that the guest did is done before the mode says so, and the mode is out before `watched` is looked
	 * at. Pairs with vcpu_wait_outside.
	 */
	swap_seqcst(&vcpu->mode, VCPU_OUTSIDE);
	/*
	 * Count only now. Counted before the mode changed, a waiter could read the new count, kick the visit that is
	 * ending, and then wait for the next visit, which nobody kicks. release: a waiter that sees the new count sees
	 * the visit over; pairs with vcpu_was_outside.
	 */
	store_release(&vcpu->exits, vcpu->exits + 1);
	if (unlikely(load_seqcst(&vcpu->watched))) {
		store_relaxed(&vcpu->watched, 0);
		port_wake(&vcpu->exits);
	}
}
