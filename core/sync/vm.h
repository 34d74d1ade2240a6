/* SPDX-License-Identifier: MIT */
/*
 * struct vm: the part of a VM that every folder of core may see: its host, locks, vCPUs and counters. What one folder
 * owns (memslots, roots, the invalidation state) is in a struct of that folder. core/vm puts them all together.
 *
 * The order of the locks is in doc/locking.md, and only there; tool/check-locks holds the code against it.
 */
#ifndef CORE_SYNC_VM_H
#define CORE_SYNC_VM_H

#include <vmmu/vm.h>

#include "core/base/list.h"
#include "core/base/types.h"
#include "core/sync/mmu_lock.h"
#include "core/sync/mutex.h"
#include "core/sync/request.h"
#include "core/sync/srcu.h"

struct format;   /* core/format */
struct pool;     /* core/table */
struct slots;    /* core/memslot */
struct tdp_mmu;  /* core/tdp */
struct shadow_mmu; /* core/shadow */
struct notifier; /* core/notifier */
struct context_ops; /* core/fault */

struct vm {
	const struct format *fmt;
	struct pool *pool;
	struct slots *slots;       /* constant after creation, as is the rest up to `dead` */
	struct tdp_mmu *tdp;       /* NULL in a VM that never has a TDP root */
	struct shadow_mmu *shadow; /* NULL in a VM that never shadows */
	struct notifier *notifier;
	const struct context_ops *context; /* what its vCPUs walk, to begin with */
	const struct vmmu_host *host;
	void *host_state;
	enum vmmu_format format;  /* fmt's public name */
	unsigned levels;          /* of a second-stage root: 4 or 5 */
	unsigned address_spaces;
	unsigned guest_phys_bits;
	uint64_t mmio_guard;      /* address bits that are set in every MMIO entry (F50) */
	bool nested;              /* its vCPUs may be in guest mode: both `tdp` and `shadow` are there */
	bool slot_delete_zaps_slot; /* slots_lock */

	uint32_t dead;            /* atomic; 0 -> 1 once */
	uint32_t shadow_root_allocated; /* P1; 0 -> 1 once, at the first shadow root */

	struct mutex slots_lock;      /* memslot changes and dirty-log calls, one at a time */
	struct mutex slots_arch_lock; /* P1: arrays of slots */
	struct srcu srcu;
	struct mmu_lock mmu_lock;
	struct vcpu_set vcpus;

	struct mutex pfn_caches_lock; /* P12: which caches there are */
	struct list pfn_caches;
	uint32_t pfn_caches_count;    /* a: of the list; written under its lock */

	/* Counters that a fault moves, on the stripe of its mmu_lock token. Only their sum over all stripes counts. */
	struct vm_count {
		uint64_t pages[3]; /* leaves of level 1 .. 3, now */
	} cacheline count[MMU_LOCK_STRIPES];

	/* All other counters that are not per vCPU; relaxed atomics. */
	struct vm_stats {
		uint64_t tables, tables_allocated;
		uint64_t splits, recovered;
		uint64_t tlb_flushes, kicks;
		uint64_t slot_changes, invalidations, invalidations_hit, ages, ages_young;
		uint64_t rmap_bytes, slot_bytes;
		uint64_t nested_tables, nested_tables_allocated; /* shadow pages of guest mode */
		uint64_t dirty;         /* pages newly marked by no vCPU, or by a destroyed one */
		struct vcpu_stats gone; /* what destroyed vCPUs had counted; under vcpus.lock */
	} stats;
};

/* The public name. Public functions live in the folder of their subject. */
struct vmmu_vm {
	struct vm vm;
};

/** Mark the VM dead, once, with a report of where. Every later call on the VM answers VMMU_EDEAD. */
void vm_die(struct vm *vm, const char *file, int line, const char *what);

static inline bool vm_is_dead(const struct vm *vm)
{
	return load_relaxed(&vm->dead) != 0;
}

/* True, after a report, if `cond` holds: an internal state that must not be. Always on. */
#define VM_BUG(vm, cond) \
	(unlikely(cond) ? (vm_die((vm), __FILE__, __LINE__, #cond), true) : false)

/** Zeroed memory from the VM's host; NULL when there is none. May sleep: never under mmu_lock or the notifier lock. */
static inline void *vm_alloc(struct vm *vm, size_t bytes)
{
	return vm->host->alloc(vm->host_state, bytes);
}

static inline void vm_free(struct vm *vm, void *memory, size_t bytes)
{
	if (memory)
		vm->host->free(vm->host_state, memory, bytes);
}

#endif
