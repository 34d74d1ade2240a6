/* SPDX-License-Identifier: MIT */
/*
 * Long-lived mappings of guest pages (P12), like KVM's gfn_to_pfn_cache.
 *
 *   I12.1  A cache is mapped only to a page that its slot has, and that no invalidation has taken since it was looked
 *          up. A refresh maps under mmu_lock, after it asked notifier_must_retry. An invalidation first notes its range
 *          under mmu_lock, and then unmaps the caches. So the invalidation finds the mapping, or the refresh finds the
 *          range or the sequence.
 *   I12.2  An open window uses the page that the cache is mapped to. Who unmaps a cache holds its lock, as a window
 *          does: when vmmu_invalidate_begin returns, no window is open on the range.
 *   I12.3  A window is open only under the generation for which the slot was looked up, and inside an SRCU section that
 *          began before. So a slot change waits for the windows on the old slot, and no window opens on it later.
 *          Until then an active set has the slot's host range, so that invalidations find it (P5).
 *   I12.4  What a window wrote is marked dirty after its last store and before its SRCU section ends (P11).
 *
 * refresh_lock orders refreshes: only its holder maps. The holder of mmu_lock waits for `lock` only while the cache is
 * not mapped, and then no window is open: a window whose memory the host makes slow keeps up nobody else.
 */
#include <vmmu/pfn_cache.h>

#include "core/notifier/notifier.h"
#include "core/vm/vm_int.h"

struct vmmu_pfn_cache {
	struct vm *vm;              /* constant */
	struct list node;           /* under pfn_caches_lock */
	struct mutex refresh_lock;
	struct mutex lock;          /* a window is open, or the fields below change */
	/* What the cache is about. Changes under both locks. */
	bool active;
	uint32_t as_id;
	gpa_t gpa;
	size_t bytes;
	/* The slot and the generation it was looked up under; NULL: not known. Change under both locks. */
	const struct memslot *slot;
	uint64_t generation;
	/* a: the host page; 0: not mapped. Set under both locks and mmu_lock, cleared under `lock`. */
	uint64_t mapped;
	uint64_t page;              /* where the host reaches it, if mapped */
	/* The open window's: under `lock`. */
	struct srcu_read srcu;
	struct vmmu_vcpu *vcpu;
	size_t first, end;          /* offsets in the piece: what was written */
};

/* --- birth and death --- */

enum vmmu_status vmmu_pfn_cache_create(struct vmmu_vm *vmmu, struct vmmu_pfn_cache **out)
{
	struct vm *vm = &vmmu->vm;
	struct vmmu_pfn_cache *cache;

	if (!out)
		return VMMU_EINVAL;
	if (vm_is_dead(vm))
		return VMMU_EDEAD;
	cache = vm_alloc(vm, sizeof(*cache));
	if (!cache)
		return VMMU_ENOMEM;
	cache->vm = vm;
	mutex_lock(&vm->pfn_caches_lock);
	list_add_tail(&vm->pfn_caches, &cache->node);
	add_relaxed(&vm->pfn_caches_count, 1);
	mutex_unlock(&vm->pfn_caches_lock);
	*out = cache;
	return VMMU_OK;
}

void vmmu_pfn_cache_destroy(struct vmmu_pfn_cache *cache)
{
	struct vm *vm;

	if (!cache)
		return;
	vm = cache->vm;
	mutex_lock(&vm->pfn_caches_lock); /* an invalidation that looks at the cache holds it */
	list_remove(&cache->node);
	/*
	 * release: an invalidation that no longer counts the cache sees its windows as finished. Pairs with the acquire
	 * in pfn_caches_invalidate. P12
	 */
	add_release(&vm->pfn_caches_count, -1);
	mutex_unlock(&vm->pfn_caches_lock);
	vm_free(vm, cache, sizeof(*cache));
}

/* --- mapping and unmapping --- */

/* `page`: 0 to unmap. Holds: cache->lock. */
static void mapped_set(struct vmmu_pfn_cache *cache, uint64_t page)
{
	/*
	 * release: an invalidation that reads this value without the lock sees the windows on the page that was
	 * mapped before as finished. Pairs with the acquire in pfn_caches_invalidate. P12
	 */
	store_release(&cache->mapped, page);
}

void pfn_caches_invalidate(struct vm *vm, hva_t start, hva_t end)
{
	/*
	 * If a cache was mapped before our range was noted, its refresh held mmu_lock before us, and so we see it
	 * counted. What is not mapped yet will find the range. acquire: pairs with the release in
	 * vmmu_pfn_cache_destroy. P12
	 */
	if (likely(!load_acquire(&vm->pfn_caches_count)))
		return;
	mutex_lock(&vm->pfn_caches_lock);
	list_for_each(node, &vm->pfn_caches) {
		struct vmmu_pfn_cache *cache = container_of(node, struct vmmu_pfn_cache, node);
		/* acquire: pairs with the release in mapped_set. P12 */
		uint64_t page = load_acquire(&cache->mapped);

		/* Not the lock of a cache of other memory: a window that is slow must not keep this invalidation. */
		if (!page || page >= end.v || page + PAGE_SIZE <= start.v)
			continue;
		mutex_lock(&cache->lock); /* waits for the window (I12.2) */
		mapped_set(cache, 0);
		mutex_unlock(&cache->lock);
	}
	mutex_unlock(&vm->pfn_caches_lock);
}

/* --- what it is about --- */

static void target_set(struct vmmu_pfn_cache *cache, bool active, uint32_t as_id, gpa_t gpa, size_t bytes)
{
	mutex_lock(&cache->refresh_lock);
	mutex_lock(&cache->lock);
	mapped_set(cache, 0);
	cache->slot = NULL;
	cache->active = active;
	cache->as_id = as_id;
	cache->gpa = gpa;
	cache->bytes = bytes;
	mutex_unlock(&cache->lock);
	mutex_unlock(&cache->refresh_lock);
}

enum vmmu_status vmmu_pfn_cache_activate(struct vmmu_pfn_cache *cache, uint32_t address_space, struct vmmu_gpa gpa,
                                         size_t bytes)
{
	if (address_space >= cache->vm->address_spaces || !bytes || bytes > PAGE_SIZE - (gpa.v & (PAGE_SIZE - 1)))
		return VMMU_EINVAL;
	target_set(cache, true, address_space, gpa, bytes);
	return VMMU_OK;
}

void vmmu_pfn_cache_deactivate(struct vmmu_pfn_cache *cache)
{
	target_set(cache, false, 0, GPA(0), 0);
}

/* --- refresh --- */

/* Does the cache know its slot as the set has it? Holds: one of the cache's locks, SRCU. */
static bool slot_is_known(const struct vmmu_pfn_cache *cache, const struct memslots *slots)
{
	return cache->slot && cache->generation == memslots_generation(slots);
}

/*
 * The slot of the cache's page. What is known under a generation that is in progress stays true for as long as the set
 * has that generation: each is given once.
 */
static enum vmmu_status slot_find(struct vmmu_pfn_cache *cache, const struct memslots *slots)
{
	uint64_t generation = memslots_generation(slots);
	const struct memslot *slot = memslot_find(slots, gpa_to_gfn(cache->gpa));

	/* Waits for a window on the old slot, so that nobody waits for it under mmu_lock. */
	mutex_lock(&cache->lock);
	mapped_set(cache, 0);
	cache->slot = slot;
	cache->generation = generation;
	mutex_unlock(&cache->lock);
	return slot ? VMMU_OK : VMMU_ENOENT;
}

/* Map the page that was looked up after `snapshot`, unless an invalidation may have taken it since (I12.1). */
static enum vmmu_status page_map(struct vmmu_pfn_cache *cache, hva_t hva, uint64_t snapshot, pfn_t pfn)
{
	struct mmu_read token = mmu_read_lock(cache->vm, 0);
	bool stale = notifier_must_retry(&token.token, snapshot, hva, HVA(hva.v + PAGE_SIZE));

	if (!stale) {
		mutex_lock(&cache->lock);
		cache->page = (uintptr_t)port_pfn_to_ptr(pfn.v);
		mapped_set(cache, hva.v);
		mutex_unlock(&cache->lock);
	}
	mmu_read_unlock(&token);
	return stale ? VMMU_EAGAIN : VMMU_OK;
}

static enum vmmu_status page_find(struct vmmu_pfn_cache *cache)
{
	const struct vmmu_host *host = cache->vm->host;
	hva_t hva = memslot_hva(cache->slot, gpa_to_gfn(cache->gpa));
	uint64_t snapshot = notifier_snapshot(cache->vm);
	struct vmmu_host_page page;
	enum vmmu_status status;

	status = host->page_get(cache->vm->host_state, hva, VMMU_READ | VMMU_WRITE, &page);
	if (status != VMMU_OK)
		return status;
	return page.writable ? page_map(cache, hva, snapshot, page.pfn) : VMMU_EFAULT;
}

/* Holds: refresh_lock, SRCU. */
static enum vmmu_status refresh(struct vmmu_pfn_cache *cache, const struct memslots *slots)
{
	if (!slot_is_known(cache, slots) && slot_find(cache, slots) != VMMU_OK)
		return VMMU_ENOENT;
	if (load_relaxed(&cache->mapped))
		return VMMU_OK;
	if (cache->slot->flags & SLOT_INVALID)
		return VMMU_EAGAIN;
	if (cache->slot->flags & VMMU_SLOT_READONLY)
		return VMMU_ENOENT;
	return page_find(cache);
}

enum vmmu_status vmmu_pfn_cache_refresh(struct vmmu_pfn_cache *cache)
{
	struct vm *vm = cache->vm;
	enum vmmu_status status = VMMU_EINVAL;
	struct srcu_read token;

	if (vm_is_dead(vm))
		return VMMU_EDEAD;
	mutex_lock(&cache->refresh_lock);
	if (cache->active) {
		token = srcu_read_lock(&vm->srcu, 0);
		status = refresh(cache, memslots_active(vm, cache->as_id, token));
		srcu_read_unlock(&vm->srcu, token);
	}
	mutex_unlock(&cache->refresh_lock);
	return status;
}

/* --- windows --- */

/* May a window open? Holds: cache->lock, the SRCU section `token`. */
static enum vmmu_status window_check(const struct vmmu_pfn_cache *cache, struct srcu_read token)
{
	if (!cache->active)
		return VMMU_EINVAL;
	if (!load_relaxed(&cache->mapped) || !slot_is_known(cache, memslots_active(cache->vm, cache->as_id, token)))
		return VMMU_EAGAIN;
	return VMMU_OK;
}

bool vmmu_pfn_cache_check(struct vmmu_pfn_cache *cache)
{
	struct srcu_read token = srcu_read_lock(&cache->vm->srcu, 0);
	bool mapped;

	mutex_lock(&cache->lock);
	mapped = window_check(cache, token) == VMMU_OK;
	mutex_unlock(&cache->lock);
	srcu_read_unlock(&cache->vm->srcu, token);
	return mapped;
}

enum vmmu_status vmmu_pfn_cache_open(struct vmmu_pfn_cache *cache, struct vmmu_vcpu *vcpu)
{
	struct vm *vm = cache->vm;
	/* Before the look at the generation, and until the window is closed (I12.3). */
	struct srcu_read token = srcu_read_lock(&vm->srcu, vcpu ? vcpu->vcpu.id : 0);
	enum vmmu_status status;

	mutex_lock(&cache->lock);
	status = window_check(cache, token);
	if (status == VMMU_OK)
		status = guest_has_room(vm, vcpu, memslot_logs(cache->slot));
	if (status != VMMU_OK) {
		mutex_unlock(&cache->lock);
		srcu_read_unlock(&vm->srcu, token);
		return status;
	}
	cache->srcu = token;
	cache->vcpu = vcpu;
	cache->first = cache->end = 0;
	return VMMU_OK;
}

static bool lies_in_piece(const struct vmmu_pfn_cache *cache, size_t offset, size_t bytes)
{
	return offset <= cache->bytes && bytes <= cache->bytes - offset;
}

static uint64_t address_of(const struct vmmu_pfn_cache *cache, size_t offset)
{
	return cache->page + (cache->gpa.v & (PAGE_SIZE - 1)) + offset;
}

static void note_write(struct vmmu_pfn_cache *cache, size_t offset, size_t bytes)
{
	cache->first = cache->end ? min_u64(cache->first, offset) : offset;
	cache->end = max_u64(cache->end, offset + bytes);
}

enum vmmu_status vmmu_pfn_cache_read(struct vmmu_pfn_cache *cache, size_t offset, void *to, size_t bytes)
{
	if (!lies_in_piece(cache, offset, bytes))
		return VMMU_EINVAL;
	return port_copy_from_host(to, address_of(cache, offset), bytes) ? VMMU_OK : VMMU_EFAULT;
}

enum vmmu_status vmmu_pfn_cache_write(struct vmmu_pfn_cache *cache, size_t offset, const void *from, size_t bytes)
{
	if (!lies_in_piece(cache, offset, bytes))
		return VMMU_EINVAL;
	note_write(cache, offset, bytes); /* also if it fails: a part may have been written */
	/* release: the guest sees earlier writes first. Pairs with what the guest does between two reads. P12 */
	fence_release();
	return port_copy_to_host(address_of(cache, offset), from, bytes) ? VMMU_OK : VMMU_EFAULT;
}

enum vmmu_status vmmu_pfn_cache_cas(struct vmmu_pfn_cache *cache, size_t offset, unsigned bytes, uint64_t expected,
                                    uint64_t desired, bool *swapped)
{
	if (!lies_in_piece(cache, offset, bytes) || (bytes != 4 && bytes != 8) || address_of(cache, offset) % bytes)
		return VMMU_EINVAL;
	*swapped = false;
	if (!port_cas_in_host(address_of(cache, offset), bytes, expected, desired, swapped))
		return VMMU_EFAULT;
	if (*swapped)
		note_write(cache, offset, bytes);
	return VMMU_OK;
}

void vmmu_pfn_cache_close(struct vmmu_pfn_cache *cache)
{
	struct vm *vm = cache->vm;
	const struct memslot *slot = cache->slot;
	struct srcu_read token = cache->srcu;
	struct vmmu_vcpu *vcpu = cache->vcpu;
	gpa_t gpa = GPA(cache->gpa.v + cache->first);
	size_t written = cache->end - cache->first;

	/* The mark may take mmu_lock, which comes before this lock. The slot stays until the section ends (I12.4). */
	mutex_unlock(&cache->lock);
	if (written)
		guest_written(vm, vcpu, slot, gpa, written);
	srcu_read_unlock(&vm->srcu, token);
}
