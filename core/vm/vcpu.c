/* SPDX-License-Identifier: MIT */
/* Birth and death of a vCPU. */
#include "core/base/string.h"
#include "core/fault/context.h"
#include "core/vm/vm_int.h"

static enum vmmu_status vcpu_add(struct vm *vm, struct vcpu *vcpu)
{
	struct vcpu_set *set = &vm->vcpus;
	enum vmmu_status status = VMMU_EEXIST;

	mutex_lock(&set->lock);
	if (!set->by_id[vcpu->id]) {
		store_release(&set->by_id[vcpu->id], vcpu); /* pairs with the acquires in sync/request.c */
		if (vcpu->id >= set->limit)
			store_release(&set->limit, vcpu->id + 1);
		status = VMMU_OK;
	}
	mutex_unlock(&set->lock);
	return status;
}

static void vcpu_free(struct vm *vm, struct vmmu_vcpu *vcpu)
{
	shadow_vcpu_fini(vm, vcpu->shadow);
	shadow_vcpu_fini(vm, vcpu->nested);
	table_cache_drain(vm, &vcpu->tables);
	vm_free(vm, vcpu, sizeof(*vcpu));
}

enum vmmu_status vmmu_vcpu_create(struct vmmu_vm *vmmu, unsigned id, void *cookie, struct vmmu_vcpu **out)
{
	struct vm *vm = &vmmu->vm;
	enum vmmu_status status;
	struct vmmu_vcpu *vcpu;

	if (id >= vm->vcpus.max || !out)
		return VMMU_EINVAL;
	if (vm_is_dead(vm))
		return VMMU_EDEAD;
	vcpu = vm_alloc(vm, sizeof(*vcpu));
	if (!vcpu)
		return VMMU_ENOMEM;
	vcpu->vcpu.vm = vm;
	vcpu->vcpu.id = id;
	vcpu->vcpu.cookie = cookie;
	status = vcpu_context_set(vcpu, vm->context);
	if (status == VMMU_OK)
		status = vcpu_add(vm, &vcpu->vcpu);
	if (status != VMMU_OK) {
		vcpu_free(vm, vcpu);
		return status;
	}
	*out = vcpu;
	return VMMU_OK;
}

static void stats_keep(struct vcpu_stats *sum, const struct vcpu_stats *stats)
{
	sum->fixed += load_relaxed(&stats->fixed);
	sum->fast += load_relaxed(&stats->fast);
	sum->spurious += load_relaxed(&stats->spurious);
	sum->retried += load_relaxed(&stats->retried);
	sum->mmio += load_relaxed(&stats->mmio);
	sum->host += load_relaxed(&stats->host);
	sum->requests += load_relaxed(&stats->requests);
	sum->nested += load_relaxed(&stats->nested);
	sum->nested_guest += load_relaxed(&stats->nested_guest);
}

/*
 * Entries that are left in the ring of the vCPU will not be taken back, and nobody can say which pages they name:
 * the ring is the program's, and may be gone already. Note that in the same lock section as the removal, so that a
 * reset finds either the ring or the note.
 */
static void vcpu_remove(struct vm *vm, struct vmmu_vcpu *vcpu)
{
	struct vcpu_set *set = &vm->vcpus;

	mutex_lock(&set->lock);
	/*
	 * release, both stores: a thread that scans the vCPUs and finds this one gone must see everything that it
	 * did in the guest as finished, as if it had answered. Pairs with the acquires in sync/request.c. P9
	 */
	store_release(&set->by_id[vcpu->vcpu.id], NULL);
	while (set->limit && !set->by_id[set->limit - 1])
		store_release(&set->limit, set->limit - 1);
	if (!dirty_ring_is_empty(&vcpu->ring))
		vm->slots->ring_gone = true;
	stats_keep(&vm->stats.gone, &vcpu->vcpu.stats);
	add_relaxed(&vm->stats.dirty, vcpu->ring.marked);
	mutex_unlock(&set->lock);
}

void vmmu_vcpu_destroy(struct vmmu_vcpu *vcpu)
{
	struct vm *vm = vcpu->vcpu.vm;
	struct mmu_write token;

	VM_BUG(vm, load_relaxed(&vcpu->vcpu.mode) != VCPU_OUTSIDE);
	vcpu_roots_drop(vcpu, false);
	vcpu_remove(vm, vcpu);
	/* A thread that raises a request on all vCPUs holds mmu_lock, and may still use this vCPU. Wait for it. */
	token = mmu_write_lock(vm);
	mmu_write_unlock(&token);
	vcpu_free(vm, vcpu);
}

static void stats_vcpus(struct vm *vm, struct vcpu_stats *sum, uint64_t *dirty)
{
	mutex_lock(&vm->vcpus.lock);
	*sum = vm->stats.gone;
	*dirty = load_relaxed(&vm->stats.dirty);
	for (unsigned id = 0; id < vm->vcpus.limit; id++) {
		const struct vcpu *vcpu = vm->vcpus.by_id[id];

		if (!vcpu)
			continue;
		stats_keep(sum, &vcpu->stats);
		*dirty += load_relaxed(&container_of(vcpu, struct vmmu_vcpu, vcpu)->ring.marked);
	}
	mutex_unlock(&vm->vcpus.lock);
}

void vmmu_stats_get(struct vmmu_vm *vmmu, struct vmmu_stats *out, size_t bytes)
{
	struct vm *vm = &vmmu->vm;
	const struct vm_stats *stats = &vm->stats;
	uint64_t pages[3] = { 0 }, dirty;
	struct vcpu_stats sum;
	struct vmmu_stats now;

	for (int stripe = 0; stripe < MMU_LOCK_STRIPES; stripe++)
		for (int level = 0; level < 3; level++)
			pages[level] += load_relaxed(&vm->count[stripe].pages[level]);
	stats_vcpus(vm, &sum, &dirty);
	now = (struct vmmu_stats){
		.faults_fixed = sum.fixed,
		.faults_fast = sum.fast,
		.faults_spurious = sum.spurious,
		.faults_retried = sum.retried,
		.faults_mmio = sum.mmio,
		.faults_host = sum.host,
		.pages_4k = pages[0],
		.pages_2m = pages[1],
		.pages_1g = pages[2],
		.tables = load_relaxed(&stats->tables),
		.tables_allocated = load_relaxed(&stats->tables_allocated),
		.splits = load_relaxed(&stats->splits),
		.recovered = load_relaxed(&stats->recovered),
		.tlb_flushes = load_relaxed(&stats->tlb_flushes),
		.requests = sum.requests,
		.kicks = load_relaxed(&stats->kicks),
		.slot_changes = load_relaxed(&stats->slot_changes),
		.invalidations = load_relaxed(&stats->invalidations),
		.invalidations_hit = load_relaxed(&stats->invalidations_hit),
		.ages = load_relaxed(&stats->ages),
		.ages_young = load_relaxed(&stats->ages_young),
		.dirty_pages = dirty,
		.rmap_bytes = load_relaxed(&stats->rmap_bytes),
		.slot_bytes = load_relaxed(&stats->slot_bytes),
		.nested_faults = sum.nested,
		.nested_faults_guest = sum.nested_guest,
		.nested_tables = load_relaxed(&stats->nested_tables),
		.nested_tables_allocated = load_relaxed(&stats->nested_tables_allocated),
	};
	memset(out, 0, bytes);
	memcpy(out, &now, min_u64(bytes, sizeof(now)));
}
