/* SPDX-License-Identifier: MIT */
/*
 * vCPU modes, requests and kicks (P9): how one thread makes a vCPU take note of something before it runs the guest
 * again.
 *
 *     requester:  set the request bit ; full barrier ; look at the mode ; kick if in the guest
 *     vCPU:       mode = IN_GUEST     ; full barrier ; look at the requests ; handle them outside the guest
 *
 * One of the two sees the other, so a vCPU never runs the guest past a request. The vCPU may still use what it had, a
 * TLB entry or a table. A requester that must know that this is over waits until the vCPU has left the guest.
 *
 * All this is in sync, below the tables, because any folder that changes a table must be able to flush.
 */
#ifndef CORE_SYNC_REQUEST_H
#define CORE_SYNC_REQUEST_H

#include "core/base/types.h"
#include "core/sync/mutex.h"

struct vm;

/* vcpu.mode. The public header calls VCPU_IN_GUEST VMMU_POLL_RUN: a CPU polls the mode word itself. */
enum vcpu_mode {
	VCPU_OUTSIDE = 0,
	VCPU_IN_GUEST = 1,
	VCPU_EXITING = 2, /* kicked: still in the guest, on its way out */
};

/* Bits of vcpu.requests. */
#define REQ_TLB_FLUSH           (1u << 0)
#define REQ_FREE_OBSOLETE_ROOTS (1u << 1) /* P3: drop roots that are no longer valid */
#define REQ_RING_FULL           (1u << 2) /* P11: the dirty ring is nearly full */

/*
 * The part of a vCPU that every folder may see.
 *   c  constant after creation
 *   a  atomic, any thread
 *   o  owner: the vCPU's thread only; statistics read it with races
 */
struct vcpu {
	struct vm *vm;            /* c */
	unsigned id;              /* c */
	void *cookie;             /* c */
	cacheline uint32_t mode;  /* a: enum vcpu_mode; a word, because other threads sleep on it */
	uint32_t requests;        /* a: REQ_* */
	uint32_t watched;         /* a: a thread waits for this vCPU to leave the guest */
	uint32_t exits;           /* a: how often it left the guest; a waiter waits for one more */
	struct vcpu_stats {       /* o */
		uint64_t fixed, fast, spurious, retried, mmio, host, requests;
		uint64_t nested, nested_guest; /* faults in guest mode; those of them that were L1's own */
	} stats;
};

/*
 * All vCPUs of a VM, by id. Readers hold mmu_lock, or `lock`. To destroy a vCPU, a thread clears its slot under `lock`
 * and passes through mmu_lock for write before it frees the vCPU.
 */
struct vcpu_set {
	struct mutex lock;     /* creation and destruction; outside slots_lock */
	struct vcpu **by_id;   /* max entries; slots are a: release on publication, acquire on reading */
	unsigned max;          /* c */
	unsigned limit;        /* a: every id in use is below it */
};

/** Add to a counter of vcpu.stats. Only the vCPU's thread writes it; vmmu_stats_get reads it at any time. */
static inline void vcpu_count(uint64_t *counter, uint64_t n)
{
	store_relaxed(counter, load_relaxed(counter) + n);
}

/** Raise `request` on one vCPU and kick it out of the guest. Does not wait. */
void vcpu_request(struct vcpu *vcpu, uint32_t request);

/** Raise `request` on all vCPUs of the VM, kick those in the guest, and wait until these have left the guest. */
void vcpus_request_and_wait(struct vm *vm, uint32_t request);

/** Flush every TLB of the VM; after the return no CPU uses an older translation. */
void vcpus_flush(struct vm *vm);

/** Take all pending requests. The caller must act on each bit. */
uint32_t vcpu_requests_take(struct vcpu *vcpu);

/** Enter the guest, unless a request is pending. Returns: false if one is; the vCPU then stays outside. */
bool vcpu_mode_enter(struct vcpu *vcpu);
void vcpu_mode_leave(struct vcpu *vcpu);

/** Make the vCPU leave the guest. Async-signal-safe. */
void vcpu_kick(struct vcpu *vcpu);

#endif
