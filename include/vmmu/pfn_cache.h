/* SPDX-License-Identifier: MIT */
/*
 * A long-lived mapping of a piece of one guest page, for what a hypervisor shares with its guest for long: a
 * paravirtual clock, stolen time (KVM's gfn_to_pfn_cache). It remembers where the page is, so that an access looks up
 * neither slot nor page. It obeys invalidations, slot changes and the dirty log (P12).
 *
 *     vmmu_pfn_cache_activate(cache, 0, gpa, sizeof(clock));
 *     ...
 *     do {                               for ever only if the host or the client never ends what it does there
 *             status = vmmu_pfn_cache_refresh(cache);
 *             if (status == VMMU_OK)
 *                     status = vmmu_pfn_cache_open(cache, vcpu);
 *     } while (status == VMMU_EAGAIN);
 *     if (status == VMMU_OK) {           else the guest has no such page now
 *             vmmu_pfn_cache_write(cache, 0, &clock, sizeof(clock));
 *             vmmu_pfn_cache_close(cache);
 *     }
 *
 * What lies between open and close is a window. Windows of one cache exclude each other, an invalidation of the page
 * waits for the window that is open, and so does a slot change. So a window is short: its thread neither sleeps in it
 * nor calls another function of the library, opens no second one, and holds signals back whose handlers might.
 *
 * Any thread may call these, outside the guest.
 */
#ifndef VMMU_PFN_CACHE_H
#define VMMU_PFN_CACHE_H

#include <vmmu/types.h>
#include <vmmu/vcpu.h>
#include <vmmu/vm.h>

VMMU_BEGIN_DECLS

struct vmmu_pfn_cache;

/**
 * Make a cache, which is not active. Destroy it before the VM. Sleeps, allocates.
 * Returns: VMMU_OK, VMMU_EINVAL, VMMU_ENOMEM, VMMU_EDEAD.
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_pfn_cache_create(struct vmmu_vm *vm, struct vmmu_pfn_cache **out);

/** Destroy it. No other call on it is under way. NULL: no effect. */
void vmmu_pfn_cache_destroy(struct vmmu_pfn_cache *cache);

/**
 * From now on the cache is about [gpa, gpa + bytes) of an address space; what it was about before is forgotten. The
 * page need not be there yet, and is not looked up now. Waits for an open window, and for a refresh.
 * Returns: VMMU_OK; VMMU_EINVAL (no such address space, no bytes, or they cross a page; nothing has changed).
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_pfn_cache_activate(struct vmmu_pfn_cache *cache, uint32_t address_space,
                                                         struct vmmu_gpa gpa, size_t bytes);

/** The cache is about nothing. Waits for an open window, and for a refresh. Harmless when it is not active. */
void vmmu_pfn_cache_deactivate(struct vmmu_pfn_cache *cache);

/** Would vmmu_pfn_cache_open find the page without a refresh? Only a hint: it may change at once. */
bool vmmu_pfn_cache_check(struct vmmu_pfn_cache *cache);

/**
 * Look the page up, if the cache does not know it (any more). Sleeps (the host's page), never in a window. No look-up
 * of the slot when only the page had gone.
 * Returns: VMMU_OK (it may be gone again already); VMMU_EINVAL (not active); VMMU_ENOENT (no slot, or a read-only
 * one); VMMU_EFAULT (the host has no page, or none that can be written); VMMU_EAGAIN (an invalidation of the page, or a
 * change of its slot, is under way: try again); VMMU_EDEAD.
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_pfn_cache_refresh(struct vmmu_pfn_cache *cache);

/**
 * Open a window. `vcpu`: whose thread this is, and who writes, if it does; NULL: a device. After VMMU_OK the caller
 * must call vmmu_pfn_cache_close soon.
 * Returns: VMMU_OK; VMMU_EAGAIN (the page is not known: refresh); VMMU_EINVAL (not active); and, in a VM with rings
 * whose slot is logged, as vmmu_guest_write and vmmu_memory_write: VMMU_EBUSY, VMMU_EINVAL.
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_pfn_cache_open(struct vmmu_pfn_cache *cache, struct vmmu_vcpu *vcpu);

/**
 * In a window: copy from or to the piece, from `offset` on. 4 or 8 bytes, naturally aligned, are one access. What one
 * call writes is seen by the guest before what the next one writes.
 * Returns: VMMU_OK; VMMU_EINVAL (beyond the piece); VMMU_EFAULT (the memory went without an invalidation).
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_pfn_cache_read(struct vmmu_pfn_cache *cache, size_t offset, void *to,
                                                     size_t bytes);
VMMU_MUST_CHECK enum vmmu_status vmmu_pfn_cache_write(struct vmmu_pfn_cache *cache, size_t offset, const void *from,
                                                      size_t bytes);

/**
 * In a window: if the 4 or 8 bytes at `offset`, naturally aligned in the guest, are `expected`, make them `desired`, in
 * one step, fully ordered. `swapped`: whether they were.
 * Returns: as vmmu_pfn_cache_write; VMMU_EINVAL also for another width or alignment.
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_pfn_cache_cas(struct vmmu_pfn_cache *cache, size_t offset, unsigned bytes,
                                                    uint64_t expected, uint64_t desired, bool *swapped);

/** Close the window. If the window wrote, the page is marked dirty now, once. */
void vmmu_pfn_cache_close(struct vmmu_pfn_cache *cache);

VMMU_END_DECLS

#endif
