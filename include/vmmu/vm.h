/* SPDX-License-Identifier: MIT */
/* A virtual machine's memory: creation, destruction, statistics. */
#ifndef VMMU_VM_H
#define VMMU_VM_H

#include <vmmu/host.h>
#include <vmmu/types.h>

VMMU_BEGIN_DECLS

struct vmmu_vm;

enum vmmu_mmu {
	VMMU_MMU_TDP,    /* two-dimensional paging: the CPU walks guest and host tables */
	VMMU_MMU_SHADOW, /* shadow paging */
};

/* The format of the second-stage tables. */
enum vmmu_format {
	VMMU_FORMAT_NPT4, /* AMD nested paging, 4 levels (APM vol. 2, 15.25) */
	VMMU_FORMAT_NPT5, /* the same, 5 levels */
	VMMU_FORMAT_EPT4, /* Intel EPT with A/D bits, 4 levels (SDM vol. 3, 29.3) */
	VMMU_FORMAT_EPT5, /* the same, 5 levels */
	/* EPT on hardware that sets no A/D bits, 4 levels. Aging lays a leaf's rights aside; its next use faults. */
	VMMU_FORMAT_EPT4_NO_AD,
	VMMU_FORMAT_EPT5_NO_AD, /* the same, 5 levels */
};

/* Constant from creation to destruction. Zeroed fields mean the default. Later versions add fields at the end. */
struct vmmu_config {
	size_t size;                  /* required: sizeof(struct vmmu_config), when the program was compiled */
	const struct vmmu_host *host; /* required */
	void *host_state;             /* first argument of every host call */
	enum vmmu_mmu mmu;
	enum vmmu_format format;
	unsigned address_spaces;      /* 1 or 2 (1: SMM); default 1 */
	unsigned guest_phys_bits;     /* width of a guest physical address; default and most: 48 */
	/*
	 * 0: the CPU has no L1TF (default). Else the width of a physical address for its L1 data cache, 36 .. 46, and
	 * at least guest_phys_bits. MMIO entries then name no address where memory may be.
	 */
	unsigned l1d_phys_bits;
	unsigned max_vcpus;           /* 1 .. VMMU_MAX_VCPUS; default VMMU_MAX_VCPUS */
	/* Zap only the deleted slot's range. Default, as KVM's quirk SLOT_ZAP_ALL: everything is zapped and rebuilt. */
	bool slot_delete_zaps_slot;
	/* The guest may be a hypervisor (vmmu/nested.h). Only with VMMU_MMU_TDP and VMMU_FORMAT_NPT4. */
	bool nested;
};

#define VMMU_MAX_VCPUS 4096

/**
 * Make a VM with no memory and no vCPUs. `out`: set on success. Sleeps, allocates.
 * Returns: VMMU_OK, VMMU_EINVAL (a field out of range, or no `size`), VMMU_E2BIG (the program was compiled for a later
 * version and sets a field that this one does not have), VMMU_ENOMEM.
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_vm_create(const struct vmmu_config *config, struct vmmu_vm **out);

/**
 * Destroy a VM. Every vCPU must have been destroyed. No call on the VM may be under way, except vmmu_invalidate_*,
 * which the caller must have unhooked before. Sleeps until all memory of the VM was given back to its host.
 */
void vmmu_vm_destroy(struct vmmu_vm *vm);

/** True once an internal check failed. From then on the VM answers VMMU_EDEAD. */
bool vmmu_vm_is_dead(const struct vmmu_vm *vm);

/* Counters since creation. Each is a plain sum over vCPUs and threads. */
struct vmmu_stats {
	/* faults by outcome */
	uint64_t faults_fixed;        /* an entry was installed or upgraded under mmu_lock */
	uint64_t faults_fast;         /* fixed by the lockless fast path (P6) */
	uint64_t faults_spurious;     /* another vCPU had fixed it */
	uint64_t faults_retried;      /* stale root, invalidation, or lost race */
	uint64_t faults_mmio;         /* no slot, or a write to a read-only one */
	uint64_t faults_host;         /* the host had no page: VMMU_FAULT_HOST */
	/* mappings */
	uint64_t pages_4k, pages_2m, pages_1g; /* leaves now (not a sum) */
	uint64_t tables;              /* table pages now (not a sum) */
	uint64_t tables_allocated;    /* table pages ever */
	uint64_t splits;              /* huge entries split to smaller ones */
	uint64_t recovered;           /* small tables replaced by a huge entry */
	/* flushes and requests */
	uint64_t tlb_flushes;         /* remote flushes of the whole VM */
	uint64_t requests;            /* requests handled at vCPU entry */
	uint64_t kicks;               /* vCPUs kicked out of the guest */
	/* slots and notifiers */
	uint64_t slot_changes;
	uint64_t invalidations;       /* begin/end pairs */
	uint64_t invalidations_hit;   /* of those, pairs that took mmu_lock */
	uint64_t ages, ages_young;    /* pages asked for, pages found young */
	uint64_t dirty_pages;         /* pages newly marked dirty */
	uint64_t rmap_bytes, slot_bytes; /* memory now: reverse maps; slots with their arrays */
	/* nested guests (vmmu/nested.h); the lines above count these, too */
	uint64_t nested_faults;       /* calls of vmmu_nested_fault */
	uint64_t nested_faults_guest; /* of those, faults that L1's own table demands */
	uint64_t nested_tables;       /* tables in the shadows of L1's nested tables now (not a sum) */
	uint64_t nested_tables_allocated; /* such tables ever */
};

/**
 * Read the counters. Each is exact when the VM is quiet. `bytes`: sizeof(*out), when the program was compiled. Counters
 * that this version does not have read 0; those that the program does not know are left out.
 */
void vmmu_stats_get(struct vmmu_vm *vm, struct vmmu_stats *out, size_t bytes);

VMMU_END_DECLS

#endif
