/* SPDX-License-Identifier: MIT */
/*
 * Coalesced writes (KVM_REGISTER_COALESCED_MMIO): a guest's write into a zone causes no exit. It is put in a ring,
 * which the client empties when it likes. The ring is a page that all vCPUs of a VM show in their mappings.
 */
#ifndef VMMU_KVM_COALESCED_H
#define VMMU_KVM_COALESCED_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct kvm;
struct zone;
struct kvm_coalesced_mmio_ring;

struct coalesced {
	pthread_mutex_t lock;
	struct kvm_coalesced_mmio_ring *ring; /* constant; a shared mapping, where the client may write at any time */
	struct zone *zones;                   /* lock */
	atomic_uint count[2];                 /* zones of addresses, of ports; written under the lock */
};

/** Returns: 0 or -ENOMEM. */
int coalesced_init(struct coalesced *c);
void coalesced_fini(struct coalesced *c);

/**
 * The guest wrote `len` bytes, at most 8. Any thread; takes no lock when there is no such zone. Returns: false when
 * no zone has all of them, or the ring is full: then the write is an exit as any other.
 */
bool coalesced_write(struct kvm *kvm, bool port, uint64_t address, unsigned len, const void *data);

/**
 * Show the ring at `at`, in place of the page that is mapped there, as `protection` says. Returns: 0 or -errno; then
 * there may be nothing at `at`.
 */
long coalesced_map(struct kvm *kvm, void *at, int protection);

#endif
