/* SPDX-License-Identifier: MIT */
/* The context of a vCPU that walks a TDP root: second-stage faults, from the guest physical address to the entry. */
#include "core/fault/fault.h"
#include "core/format/spte.h"
#include "core/tdp/tdp.h"

/* --- the root --- */

static void drop(struct vmmu_vcpu *vcpu, bool only_obsolete)
{
	if (!vcpu->root || (only_obsolete && tdp_root_is_valid(vcpu->root)))
		return;
	tdp_root_put(vcpu->vcpu.vm, vcpu->root);
	vcpu->root = NULL;
	vcpu->flush = true; /* translations of one root mean nothing under another */
}

static noinline enum vmmu_status root_get(struct vmmu_vcpu *vcpu)
{
	struct vm *vm = vcpu->vcpu.vm;
	struct mmu_read token;

	drop(vcpu, false);
	if (!table_cache_fill(vm, &vcpu->tables, 1))
		return VMMU_ENOMEM;
	token = mmu_read_lock(vm, vcpu->vcpu.id);
	vcpu->root = tdp_root_get(&token, vcpu->as_id, &vcpu->tables);
	mmu_read_unlock(&token);
	return vcpu->root ? VMMU_OK : VMMU_ENOMEM;
}

static enum vmmu_status load(struct vmmu_vcpu *vcpu, struct vmmu_entry *entry)
{
	if (unlikely(!vcpu->root || !tdp_root_is_valid(vcpu->root)) && root_get(vcpu) != VMMU_OK)
		return VMMU_ENOMEM;
	entry->root = table_entries(vcpu->root);
	entry->levels = vcpu->vcpu.vm->levels;
	entry->shadow = false;
	return VMMU_OK;
}

/* --- installing --- */

static int map_level(const struct fault *fault)
{
	int level;

	/* The log has a bit for each 4K page. */
	if (!fault->slot || memslot_logs(fault->slot))
		return VMMU_LEVEL_4K;
	level = memslot_max_level(fault->slot, fault->gfn);
	return level < (int)fault->page.max_level ? level : (int)fault->page.max_level;
}

/*
 * Decide what to map: the block, or the 4K page and its neighbours. Neighbours are mapped only if the host answered
 * for them too, and if no log has to see their first write.
 */
static void map_plan(struct tdp_map *map, const struct fault *fault)
{
	const struct memslot *slot = fault->slot;

	map->fault = fault;
	map->level = map_level(fault);
	map->first = gfn_round(fault->gfn, map->level);
	map->end = GFN(map->first.v + level_pages(map->level));
	if (map->level > VMMU_LEVEL_4K || !slot || !fault->page.neighbours || memslot_logs(slot))
		return;
	map->first = GFN(max_u64(fault->gfn.v & ~UINT64_C(7), slot->base.v));
	map->end = GFN(min_u64((fault->gfn.v | 7) + 1, memslot_end(slot).v));
}

static bool map_is_stale(const struct mmu_read *token, const struct table *root, const struct tdp_map *map)
{
	hva_t start = { 0 };

	if (map->fault->slot)
		start = memslot_hva(map->fault->slot, map->first);
	return fault_is_stale(&token->token, map->fault, tdp_root_is_valid(root), start,
	                      HVA(start.v + ((map->end.v - map->first.v) << PAGE_SHIFT)));
}

static always_inline enum map_result install(struct vm *vm, struct table *root, const struct fault *fault,
                                             struct table_cache *tables, unsigned hint)
{
	enum map_result result = RET_PF_RETRY;
	struct tdp_map map;
	struct mmu_read token;

	map_plan(&map, fault);
	token = mmu_read_lock(vm, hint);
	if (!map_is_stale(&token, root, &map))
		result = tdp_map(&token, root, &map, tables);
	mmu_read_unlock(&token);
	return result;
}

enum map_result fault_tdp_install(struct vm *vm, struct table *root, const struct fault *fault,
                                  struct table_cache *tables, unsigned hint)
{
	return install(vm, root, fault, tables, hint);
}

static bool fill(struct vmmu_vcpu *vcpu)
{
	return table_cache_fill(vcpu->vcpu.vm, &vcpu->tables, vcpu->vcpu.vm->levels);
}

static enum map_result map(struct vmmu_vcpu *vcpu, struct fault *fault)
{
	return install(vcpu->vcpu.vm, vcpu->root, fault, &vcpu->tables, vcpu->vcpu.id);
}

static enum map_result fast(struct vmmu_vcpu *vcpu, const struct fault *fault, uint64_t error)
{
	/*
	 * The fast path only changes a present leaf. Without A bits the CPU reports an aged leaf as not present, so
	 * a fault on a page that is not present may be one.
	 */
	if ((error & VMMU_PF_RSVD) || (!(error & VMMU_PF_PRESENT) && vcpu->vcpu.vm->fmt->accessed))
		return RET_PF_RETRY;
	return tdp_fast_fault(vcpu->vcpu.vm, vcpu->root, fault);
}

/* --- faults --- */

static unsigned error_to_access(uint64_t error)
{
	unsigned access = error & VMMU_PF_NOWAIT ? VMMU_READ | VMMU_NOWAIT : VMMU_READ;

	if (error & VMMU_PF_FETCH)
		return access | VMMU_EXEC;
	return error & VMMU_PF_WRITE ? access | VMMU_WRITE : access;
}

/*
 * Is the page known to be MMIO? From the vCPU's own note of the last such page (F49), or from the entry that an
 * earlier fault left in the table (F48).
 */
static bool mmio_is_known(struct vmmu_vcpu *vcpu, const struct fault *fault, uint64_t error)
{
	const struct vm *vm = vcpu->vcpu.vm;
	uint64_t generation = fault->generation;
	spte_t spte;
	int level;

	if (generation & GENERATION_IN_PROGRESS)
		return false;
	if (generation && vcpu->mmio.generation == generation && vcpu->mmio.gfn.v == fault->gfn.v)
		return true;
	if (!(error & VMMU_PF_RSVD))
		return false;
	spte = tdp_leaf(vcpu->vcpu.vm, vcpu->root, fault->gfn, &level);
	return spte_is_mmio(vm->fmt, spte) && spte_mmio_gfn(vm->mmio_guard, spte).v == fault->gfn.v &&
	       spte_mmio_generation(spte) == (generation & MMIO_GENERATION_MASK);
}

static void fault_init(struct vmmu_vcpu *vcpu, const struct memslots *slots, gfn_t gfn, unsigned access,
                       struct fault *fault)
{
	fault->gfn = gfn;
	fault->access = access;
	fault->generation = memslots_generation(slots);
	fault->snapshot = notifier_snapshot(vcpu->vcpu.vm);
}

static enum vmmu_page_fault fault(struct vmmu_vcpu *vcpu, const struct memslots *slots, gpa_t gpa, uint64_t error)
{
	struct fault fault;

	if (gpa.v >> vcpu->vcpu.vm->guest_phys_bits)
		return VMMU_PAGE_MMIO; /* nothing can be there */
	if (!vcpu->root)
		return VMMU_PAGE_RETRY; /* a request dropped it; the next entry loads it */
	fault_init(vcpu, slots, gpa_to_gfn(gpa), error_to_access(error), &fault);
	if (mmio_is_known(vcpu, &fault, error))
		return VMMU_PAGE_MMIO;
	fault.slot = memslot_find_cached(&vcpu->slot_cache, slots, fault.gfn);
	return fault.slot ? fault_on_memory(vcpu, &fault, error, &context_tdp) :
	                    fault_on_mmio(vcpu, &fault, &context_tdp);
}

static enum vmmu_page_fault prefault(struct vmmu_vcpu *vcpu, const struct memslots *slots, gfn_t gfn)
{
	enum vmmu_page_fault answer;
	struct fault fault;

	fault_init(vcpu, slots, gfn, VMMU_READ, &fault);
	fault.slot = memslot_find_cached(&vcpu->slot_cache, slots, gfn);
	if (!fault.slot)
		return VMMU_PAGE_MMIO;
	answer = fault_admit(vcpu, &fault);
	return answer == VMMU_PAGE_FIXED ? fault_map(vcpu, &fault, &context_tdp) : answer;
}

const struct context_ops context_tdp = {
	.load = load,
	.drop = drop,
	.fault = fault,
	.prefault = prefault,
	.fill = fill,
	.fast = fast,
	.map = map,
};
