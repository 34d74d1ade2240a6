/* SPDX-License-Identifier: MIT */
/*
 * A second-stage fault, from the slot to the entry. In order: MMIO that is known already; the slot; the fast path (P6); then the slow
 * path: page from the host, mmu_lock for read, is it still true, install.
 */
#include "core/fault/admit.h"
#include "core/format/spte.h"
#include "core/notifier/notifier.h"
#include "core/tdp/tdp.h"

static unsigned error_to_access(uint64_t error)
{
	if (error & VMMU_PF_FETCH)
		return VMMU_READ | VMMU_EXEC;
	return error & VMMU_PF_WRITE ? VMMU_READ | VMMU_WRITE : VMMU_READ;
}

static int map_level(const struct memslot *slot, gfn_t gfn, const struct vmmu_host_page *page)
{
	int slot_level;

	/* The log has a bit per 4K page. */
	if (memslot_logs(slot))
		return 1;
	slot_level = memslot_max_level(slot, gfn);
	return slot_level < (int)page->max_level ? slot_level : (int)page->max_level;
}

/*
 * I3.3, I5.3: under mmu_lock, after anything that may take tables away, before the install, in one lock section with it.
 */
static bool fault_is_stale(const struct mmu_read *token, const struct table *root, const struct tdp_map *map, uint64_t snapshot)
{
	hva_t start = memslot_hva(map->slot, map->first);
	uint64_t pages = map->end.v - map->first.v;

	return !tdp_root_is_valid(root) ||
	       notifier_must_retry(&token->token, snapshot, start, HVA(start.v + (pages << PAGE_SHIFT)));
}

/* What will be mapped: the block; or the page, with those around it that nobody needs to be asked about and no log has to see. */
static void map_span(struct tdp_map *map)
{
	const struct memslot *slot = map->slot;

	map->first = gfn_round(map->gfn, map->level);
	map->end = GFN(map->first.v + level_pages(map->level));
	if (map->level > 1 || !map->page.neighbours || memslot_logs(slot))
		return;
	map->first = GFN(max_u64(map->gfn.v & ~UINT64_C(7), slot->base.v));
	map->end = GFN(min_u64((map->gfn.v | 7) + 1, memslot_end(slot).v));
}

static enum vmmu_fault map_under_lock(struct vm *vm, struct table *root, const struct tdp_map *map, uint64_t snapshot,
                                      struct table_cache *tables, struct vmmu_vcpu *vcpu)
{
	static const enum vmmu_fault answer[] = {
		[TDP_FIXED] = VMMU_FAULT_FIXED,
		[TDP_SPURIOUS] = VMMU_FAULT_FIXED,
		[TDP_RETRY] = VMMU_FAULT_RETRY,
		[TDP_NOMEM] = VMMU_FAULT_RETRY, /* a race ate the cache: it is filled again on the way back */
	};
	struct mmu_read token = mmu_read_lock(vm, vcpu ? vcpu->vcpu.id : 0);
	enum tdp_result result = TDP_RETRY;

	if (map->slot ? !fault_is_stale(&token, root, map, snapshot) : tdp_root_is_valid(root))
		result = tdp_map(&token, root, map, tables);
	mmu_read_unlock(&token);
	if (vcpu && result == TDP_FIXED)
		vcpu_count(&vcpu->vcpu.stats.fixed, 1);
	if (vcpu && result == TDP_SPURIOUS)
		vcpu_count(&vcpu->vcpu.stats.spurious, 1);
	return answer[result];
}

enum vmmu_fault fault_map(struct vm *vm, struct table *root, const struct admitted *fault, struct table_cache *tables, struct vmmu_vcpu *vcpu)
{
	const struct memslot *slot = fault->slot;
	struct tdp_map map = { .gfn = fault->gfn, .slot = slot, .access = fault->access, .write_protect = memslot_logs(slot) };
	uint64_t snapshot = notifier_snapshot(vm);
	enum vmmu_fault answer;

	if (!table_cache_fill(vm, tables, vm->levels))
		return VMMU_FAULT_NOMEM;
	answer = fault_page_get(vm, fault, &map.page);
	if (answer != VMMU_FAULT_FIXED)
		return answer;
	map.level = map_level(slot, fault->gfn, &map.page);
	map_span(&map);
	answer = map_under_lock(vm, root, &map, snapshot, tables, vcpu);
	if (answer == VMMU_FAULT_FIXED && vcpu)
		fault_written(vcpu, fault);
	return answer;
}

/*
 * No slot: an MMIO entry is left in the table, so that the next access need not come this far (48). It says for which generation it is true.
 */
static enum vmmu_fault fault_mmio(struct vmmu_vcpu *vcpu, uint64_t generation, gfn_t gfn)
{
	struct tdp_map map = { .gfn = gfn, .level = 1, .mmio_generation = generation };

	if (!(generation & GENERATION_IN_PROGRESS)) {
		vcpu->mmio = (struct mmio_cache){ gfn, generation };
		if (table_cache_fill(vcpu->vcpu.vm, &vcpu->tables, vcpu->vcpu.vm->levels))
			map_under_lock(vcpu->vcpu.vm, vcpu->root, &map, 0, &vcpu->tables, NULL);
		/* Not installed for whatever reason: the next access asks again. */
	}
	return VMMU_FAULT_MMIO;
}

static bool mmio_is_known(struct vmmu_vcpu *vcpu, uint64_t generation, gfn_t gfn, uint64_t error)
{
	const struct vm *vm = vcpu->vcpu.vm;
	spte_t spte;
	int level;

	if (generation & GENERATION_IN_PROGRESS)
		return false;
	if (generation && vcpu->mmio.generation == generation && vcpu->mmio.gfn.v == gfn.v)
		return true;
	if (!(error & VMMU_PF_RSVD))
		return false;
	spte = tdp_leaf(vcpu->vcpu.vm, vcpu->root, gfn, &level);
	return spte_is_mmio(vm->fmt, spte) && spte_mmio_gfn(vm->mmio_guard, spte).v == gfn.v &&
	       spte_mmio_generation(spte) == (generation & MMIO_GENERATION_MASK);
}

static enum vmmu_fault fault_in_slot(struct vmmu_vcpu *vcpu, const struct memslot *slot, gfn_t gfn, uint64_t error)
{
	struct vm *vm = vcpu->vcpu.vm;
	struct admitted fault;
	enum vmmu_fault answer = fault_admit(vcpu, slot, gfn, error_to_access(error), &fault);

	if (answer != VMMU_FAULT_FIXED)
		return answer;
	/* Without A bits a leaf that is not there for hardware may have been aged. */
	if (!(error & VMMU_PF_RSVD) && ((error & VMMU_PF_PRESENT) || !vm->fmt->accessed)) {
		switch (tdp_fast_fault(vm, vcpu->root, gfn, slot, fault.access)) {
		case TDP_FAST_FIXED:
			vcpu_count(&vcpu->vcpu.stats.fast, 1);
			fault_written(vcpu, &fault);
			return VMMU_FAULT_FIXED;
		case TDP_FAST_SPURIOUS:
			vcpu_count(&vcpu->vcpu.stats.spurious, 1);
			return VMMU_FAULT_FIXED;
		case TDP_FAST_NO:
			break;
		}
	}
	return fault_map(vm, vcpu->root, &fault, &vcpu->tables, vcpu);
}

static enum vmmu_fault fault(struct vmmu_vcpu *vcpu, gpa_t gpa, uint64_t error)
{
	struct vm *vm = vcpu->vcpu.vm;
	gfn_t gfn = gpa_to_gfn(gpa);
	struct srcu_read token;
	const struct memslots *slots;
	const struct memslot *slot;
	enum vmmu_fault answer;
	uint64_t generation;

	if (gpa.v >> vm->guest_phys_bits)
		return VMMU_FAULT_MMIO; /* nothing can be there */
	if (!vcpu->root)
		return VMMU_FAULT_RETRY; /* dropped by a request: the next entry loads it */
	token = srcu_read_lock(&vm->srcu, vcpu->vcpu.id);
	slots = memslots_active(vm, vcpu->as_id, token);
	generation = memslots_generation(slots);
	if (mmio_is_known(vcpu, generation, gfn, error)) {
		answer = VMMU_FAULT_MMIO;
	} else {
		slot = memslot_find_cached(&vcpu->slot_cache, slots, gfn);
		answer = slot ? fault_in_slot(vcpu, slot, gfn, error) : fault_mmio(vcpu, generation, gfn);
	}
	srcu_read_unlock(&vm->srcu, token);
	return answer;
}

enum vmmu_fault vmmu_fault(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa, uint64_t error)
{
	enum vmmu_fault answer;

	ASSERT(load_relaxed(&vcpu->vcpu.mode) == VCPU_OUTSIDE);
	if (unlikely(vm_is_dead(vcpu->vcpu.vm)))
		return VMMU_FAULT_DEAD;
	answer = fault(vcpu, gpa, error);
	if (answer == VMMU_FAULT_MMIO)
		vcpu_count(&vcpu->vcpu.stats.mmio, 1);
	else if (answer == VMMU_FAULT_RETRY)
		vcpu_count(&vcpu->vcpu.stats.retried, 1);
	else if (answer == VMMU_FAULT_HOST)
		vcpu_count(&vcpu->vcpu.stats.host, 1);
	return answer;
}

static enum vmmu_status prefault_page(struct vmmu_vcpu *vcpu, gfn_t gfn)
{
	struct vm *vm = vcpu->vcpu.vm;
	struct srcu_read token = srcu_read_lock(&vm->srcu, vcpu->vcpu.id);
	const struct memslot *slot = memslot_find_cached(&vcpu->slot_cache, memslots_active(vm, vcpu->as_id, token), gfn);
	enum vmmu_fault answer = VMMU_FAULT_RETRY;
	struct admitted fault;

	/* A slot on its way out is reported, not waited for: who deletes it may be waiting for this read section to end (zoo 15). */
	if (slot && vcpu->root)
		answer = fault_admit(vcpu, slot, gfn, VMMU_READ, &fault);
	if (answer == VMMU_FAULT_FIXED)
		answer = fault_map(vm, vcpu->root, &fault, &vcpu->tables, vcpu);
	srcu_read_unlock(&vm->srcu, token);
	if (!slot)
		return VMMU_ENOENT;
	return answer == VMMU_FAULT_FIXED ? VMMU_OK : answer == VMMU_FAULT_HOST ? VMMU_EFAULT : answer == VMMU_FAULT_NOMEM ? VMMU_ENOMEM : VMMU_EAGAIN;
}

enum vmmu_status vmmu_prefault(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa, uint64_t bytes, uint64_t *done)
{
	enum vmmu_status status = VMMU_OK;

	*done = 0;
	/* What hangs on a guest's own tables is not for the hypervisor to say; KVM refuses it, too. */
	if (vcpu->shadow)
		return VMMU_EINVAL;
	if (!bytes || ((gpa.v | bytes) & (PAGE_SIZE - 1)) || gpa.v + bytes < gpa.v || gpa.v + bytes > BIT(vcpu->vcpu.vm->guest_phys_bits))
		return VMMU_EINVAL;
	while (*done < bytes && status == VMMU_OK) {
		if (vm_is_dead(vcpu->vcpu.vm))
			return VMMU_EDEAD;
		status = vcpu_root_load(vcpu);
		if (status == VMMU_OK)
			status = prefault_page(vcpu, GFN((gpa.v + *done) >> PAGE_SHIFT));
		if (status == VMMU_OK)
			*done += PAGE_SIZE;
	}
	return status;
}
