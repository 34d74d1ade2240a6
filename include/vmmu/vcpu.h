/* SPDX-License-Identifier: MIT */
/*
 * A virtual CPU as the MMU sees it: what hardware loads at entry, faults, requests, kicks (P9).
 *
 * The life of a vCPU thread:
 *
 *     while (vmmu_vcpu_enter(vcpu, &entry) == VMMU_ENTER_RUN) {
 *             run the guest on entry.root until it faults or *entry.poll changes;
 *             vmmu_vcpu_leave(vcpu);
 *             if it faulted: vmmu_fault(...) and act on the answer;
 *     }
 */
#ifndef VMMU_VCPU_H
#define VMMU_VCPU_H

#include <vmmu/types.h>
#include <vmmu/vm.h>

VMMU_BEGIN_DECLS

struct vmmu_vcpu;

/**
 * Make a vCPU. `id` < config.max_vcpus and unused. `cookie` goes to host->kick.
 * Returns: VMMU_OK, VMMU_EINVAL, VMMU_EEXIST, VMMU_ENOMEM.
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_vcpu_create(struct vmmu_vm *vm, unsigned id, void *cookie,
                                  struct vmmu_vcpu **out);

/**
 * Destroy a vCPU that is not entered and on which no call is under way. Sleeps. Its dirty ring is not read, and may be
 * gone already. Pages named in entries that were not taken back stay writable and unlogged until the next
 * vmmu_dirty_ring_reset, as if the ring were still there.
 */
void vmmu_vcpu_destroy(struct vmmu_vcpu *vcpu);

/*
 * What a CPU loads at VM entry.
 *
 * The CPU sets A and D, as hardware does. It sets A in each entry that it walks, and D in the leaf that it writes
 * through, by one atomic operation on the entry as it was walked. If the entry has changed since, the walk begins
 * anew. When the library installs an entry for an access that faulted, it sets A, and D for a write. Aging takes A
 * away. A CPU that sets no A makes every page look old. The NO_AD formats are for hardware that sets neither; there a
 * CPU must not set A and D. Dirty logs do not depend on D: the first write to a logged page faults.
 */
struct vmmu_entry {
	const uint64_t *root;    /* host address of the root table; walked with the VM's format */
	enum vmmu_format format;
	unsigned levels;         /* 4 or 5; with `shadow` also 3 */
	bool shadow;             /* the tables translate linear addresses (vmmu/mmu.h), not guest physical ones */
	bool flush;              /* drop every cached translation before the guest runs */
	const uint32_t *poll;    /* leave the guest soon after *poll is no longer VMMU_POLL_RUN */
};
#define VMMU_POLL_RUN 1u

/** True if the CPU must leave the guest. One relaxed load; ask at every block boundary. */
static inline bool vmmu_entry_must_leave(const struct vmmu_entry *entry)
{
	return __atomic_load_n(entry->poll, __ATOMIC_RELAXED) != VMMU_POLL_RUN;
}

enum vmmu_enter {
	VMMU_ENTER_RUN,       /* the vCPU is in the guest: run it, then vmmu_vcpu_leave */
	VMMU_ENTER_RING_FULL, /* the dirty ring is nearly full: tell the user (KVM_EXIT_DIRTY_RING_FULL) */
	VMMU_ENTER_NOMEM,     /* no memory for the root table */
	VMMU_ENTER_DEAD,      /* the VM is dead */
};

/**
 * Handle pending requests, load the root, and put the vCPU in the guest (P9). Call it on the vCPU's thread, outside
 * the guest. Sleeps and allocates at most for the root. After VMMU_ENTER_RUN: tables that the CPU walks from
 * entry->root stay valid until vmmu_vcpu_leave. A thread that removes an entry waits until this vCPU has left or taken
 * note.
 */
VMMU_MUST_CHECK enum vmmu_enter vmmu_vcpu_enter(struct vmmu_vcpu *vcpu, struct vmmu_entry *entry);

/**
 * Leave the guest. Never sleeps. A full barrier. The CPU may keep its cached translations; the next enter says if not.
 */
void vmmu_vcpu_leave(struct vmmu_vcpu *vcpu);

/**
 * Make the vCPU leave the guest, from any thread; it may re-enter at once. Async-signal-safe, so a signal handler on
 * the vCPU's own thread may call it. No effect on a vCPU outside the guest. So set the reason for the kick before the
 * kick, and let the vCPU's thread look for the reason after vmmu_vcpu_enter. A look only before the enter misses what
 * comes in between.
 */
void vmmu_vcpu_kick(struct vmmu_vcpu *vcpu);

/**
 * Which address space the vCPU's accesses use (1 in SMM). Only outside the guest, on the vCPU's thread. A change ends
 * guest mode (vmmu/nested.h).
 * Returns: VMMU_OK, VMMU_EINVAL (the VM has no such address space; nothing changed).
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_vcpu_address_space_set(struct vmmu_vcpu *vcpu, unsigned address_space);

/*
 * A second-stage fault, as #NPF's EXITINFO1 gives it (APM vol. 2, 15.25.6). vmmu_fault uses PRESENT (all entries of
 * the walk were present), WRITE, FETCH and RSVD; these must be right. It ignores USER, because a second-stage walk is
 * always a user access. For vmmu_page_fault (vmmu/mmu.h) USER says that the guest was at CPL 3, and must be right.
 * GUEST_FINAL and GUEST_PAGE may be left out.
 */
#define VMMU_PF_PRESENT (UINT64_C(1) << 0)
#define VMMU_PF_WRITE   (UINT64_C(1) << 1)
#define VMMU_PF_USER    (UINT64_C(1) << 2)
#define VMMU_PF_RSVD    (UINT64_C(1) << 3)
#define VMMU_PF_FETCH   (UINT64_C(1) << 4)
#define VMMU_PF_GUEST_FINAL (UINT64_C(1) << 32) /* the access of the instruction itself */
#define VMMU_PF_GUEST_PAGE  (UINT64_C(1) << 33) /* a guest page-table entry was being walked */
/*
 * Not of hardware, also for vmmu_page_fault: answer VMMU_FAULT_WAIT where the host would wait for the page of the
 * access (F68). Tables of the guest that vmmu_page_fault reads are waited for all the same.
 */
#define VMMU_PF_NOWAIT (UINT64_C(1) << 48)

enum vmmu_fault {
	VMMU_FAULT_FIXED,    /* run the instruction again */
	VMMU_FAULT_RETRY,    /* the same; the state changed, so vmmu_vcpu_enter will have requests */
	VMMU_FAULT_MMIO,     /* no memory there, or a write to a read-only slot: emulate the access */
	VMMU_FAULT_HOST,     /* the host has no page (any more): KVM_RUN answers -EFAULT */
	VMMU_FAULT_NOMEM,    /* no memory for tables */
	VMMU_FAULT_DEAD,
	/*
	 * A write to a page that holds a table which the library mirrors: store with vmmu_guest_write, do not map; or
	 * give the mirror up (vmmu_unprotect, vmmu/mmu.h) and run the instruction again. Only in a VM with
	 * config.nested.
	 */
	VMMU_FAULT_EMULATE = 7,
	VMMU_FAULT_WAIT = 8, /* only with VMMU_PF_NOWAIT: the host would wait for the page */
};

/**
 * Answer a second-stage fault of this vCPU. On its thread, outside the guest. `error`: VMMU_PF_*. Sleeps (the host's
 * page), allocates (tables, before any lock).
 * Cost: no shared lock but mmu_lock for read; two vCPUs on different pages do not wait for each other.
 */
VMMU_MUST_CHECK enum vmmu_fault vmmu_fault(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa, uint64_t error);

/**
 * Make the pages of [gpa, gpa + bytes) present before the guest touches them (KVM_PRE_FAULT_MEMORY). `done`: bytes
 * that were mapped, also on error.
 * Returns: VMMU_OK, VMMU_EINVAL (also in a VM that shadows, and in guest mode), VMMU_ENOENT (no slot), VMMU_EAGAIN (a
 * slot is being deleted), VMMU_EFAULT, VMMU_ENOMEM.
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_prefault(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa, uint64_t bytes,
                                               uint64_t *done);

/**
 * Copy from or to guest memory through the slots, as the hypervisor itself. A write marks pages dirty. On the vCPU's
 * thread, outside the guest. Nothing is copied unless every byte lies in a slot, for a write in a writable one. Host
 * memory that is gone is reported and does not crash: the port's copy is fault-safe.
 * Returns: VMMU_OK, VMMU_ENOENT (no slot, or a read-only one for a write), VMMU_EFAULT. For a write in a VM with rings
 * also these, and then nothing was copied: VMMU_EBUSY (the vCPU's ring has no room now; the next vmmu_vcpu_enter
 * answers VMMU_ENTER_RING_FULL; try again after vmmu_dirty_ring_reset), VMMU_E2BIG (more logged pages than the ring
 * has entries; write less at a time), VMMU_EINVAL (the vCPU was given no ring).
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_guest_read(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa, void *to, size_t bytes);
VMMU_MUST_CHECK enum vmmu_status vmmu_guest_write(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa, const void *from,
                                  size_t bytes);

/**
 * Do what vmmu_guest_write does beside the store, for a store that was made already: by a locked instruction, on the
 * page itself, after the answer VMMU_FAULT_EMULATE or VMMU_PAGE_EMULATE. [gpa, gpa + bytes) lies in one page. Call it
 * once for each such answer; for that one the dirty ring had room.
 */
void vmmu_guest_written(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa, size_t bytes);

VMMU_END_DECLS

#endif
