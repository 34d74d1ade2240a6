/* SPDX-License-Identifier: MIT */
/*
 * The context of a vCPU in guest mode: it walks a shadow of L1's nested table, from L2 physical to host physical
 * addresses. The shadow MMU builds it as it builds the shadow of any guest's tables. The L2 physical address takes the
 * place of the linear one, and nCR3 that of CR3. A fault there is L1's own, or MMIO of L1's, or a write to a table of
 * L1's, or a hole in the shadow to be filled.
 *
 * The vCPU keeps its TDP root meanwhile, and on the way out goes back to it. Neither switch flushes anything: a CPU
 * tags its translations by the guest that they are for (N4), and the shadow of L1's table is zapped, with a flush, in
 * each entry that L1 changes.
 */
#include <vmmu/format.h>
#include <vmmu/nested.h>

#include "core/base/assert.h"
#include "core/fault/shadow_fault.h"

/* --- the root --- */

static enum vmmu_status load(struct vmmu_vcpu *vcpu, struct vmmu_entry *entry)
{
	enum vmmu_status status = shadow_root_load(vcpu->vcpu.vm, vcpu->nested, &vcpu->tables, vcpu->vcpu.id);

	if (status != VMMU_OK)
		return status;
	entry->root = shadow_root_entries(vcpu->nested, &entry->levels);
	entry->shadow = false; /* the guest's own tables are the CPU's to walk */
	return VMMU_OK;
}

static void drop(struct vmmu_vcpu *vcpu, bool only_obsolete)
{
	fault_shadow_drop(vcpu, vcpu->nested, only_obsolete);
}

/* --- PAE: the four entries at nCR3 are read from memory, not loaded with it (APM vol. 2, 15.25.3) --- */

/* What the shadow is made from. An entry that no walk gets past stands there as 0. */
static uint64_t pdpte_usable(const struct guest_mode *mode, uint64_t value)
{
	return !(value & GPTE_P) || guest_entry_is_reserved(mode, value, 3) ? 0 : value;
}

static uint64_t pdpte_read(const struct guest_reader *reader, uint64_t root, unsigned index)
{
	uint64_t value;
	hva_t table;

	if (!guest_table_find(reader, GFN((root & BIT_MASK(31, 12)) >> PAGE_SHIFT), &table) ||
	    !guest_entry_read(reader->mode, table, (root & BIT_MASK(11, 5)) / 8 + index, &value))
		return 0; /* outside memory: not present, as in any other table */
	return value;
}

/*
 * No page mirrors these four entries, so a change of one is seen here: L1 flushes when it has changed one that was
 * present, and then enters anew.
 */
static void pdptes_load(struct vmmu_vcpu *vcpu)
{
	struct shadow_vcpu *sv = vcpu->nested;
	struct vm *vm = vcpu->vcpu.vm;
	struct srcu_read token = srcu_read_lock(&vm->srcu, vcpu->vcpu.id);
	const struct guest_reader reader = { &sv->mode, memslots_active(vm, vcpu->as_id, token), &vcpu->table_cache,
	                                     vm, &vcpu->ring };
	bool changed = false;

	for (unsigned i = 0; i < 4; i++) {
		uint64_t value = pdpte_usable(&sv->mode, pdpte_read(&reader, sv->regs.cr3, i));

		changed |= value != sv->regs.pdpte[i];
		sv->regs.pdpte[i] = value;
	}
	srcu_read_unlock(&vm->srcu, token);
	if (changed)
		shadow_root_forget(vm, sv);
}

/* --- guest mode begins and ends --- */

/* The registers of a guest whose page tables would be read as L1's nested table is. For EPT, only its EPT pointer. */
static struct vmmu_guest_regs regs_of(const struct vmmu_nested *l1)
{
	if (l1->format == VMMU_NESTED_EPT)
		return (struct vmmu_guest_regs){
			.cr3 = l1->root, .phys_bits = l1->phys_bits, .gbpages = l1->gbpages
		};
	return (struct vmmu_guest_regs){
		.cr0 = CR0_PG | CR0_WP, /* every access is a user's, for whom W always counts (15.25.5) */
		.cr3 = l1->root,
		.cr4 = l1->cr4 & (CR4_PSE | CR4_PAE | CR4_LA57),
		.efer = l1->efer & (EFER_LMA | EFER_NXE),
		.phys_bits = l1->phys_bits,
		.gbpages = l1->gbpages,
		.amd = true,
	};
}

static unsigned ept_control(const struct vmmu_nested *l1)
{
	return l1->format == VMMU_NESTED_EPT ? l1->root & BIT_MASK(11, 0) : 0;
}

static bool is_valid(const struct vmmu_nested *l1)
{
	unsigned control = ept_control(l1);

	if (l1->phys_bits < 32 || l1->phys_bits > VMMU_HOST_PHYS_BITS || l1->root >> l1->phys_bits)
		return false;
	if (l1->format == VMMU_NESTED_NPT)
		return !(l1->efer & EFER_LMA) || (l1->cr4 & CR4_PAE);
	return l1->format == VMMU_NESTED_EPT && (EPTP_TYPE(control) == 0 || EPTP_TYPE(control) == 6) &&
	       (EPTP_LEVELS(control) == 4 || EPTP_LEVELS(control) == 5) && !(control & EPTP_RESERVED);
}

enum vmmu_status vmmu_nested_enter(struct vmmu_vcpu *vcpu, const struct vmmu_nested *l1)
{
	struct vmmu_guest_regs regs;
	struct vm *vm = vcpu->vcpu.vm;
	struct shadow_vcpu *sv;

	ASSERT(load_relaxed(&vcpu->vcpu.mode) == VCPU_OUTSIDE);
	if (!vm->nested || !is_valid(l1))
		return VMMU_EINVAL;
	if (fault_shadow_init(vm, &vcpu->nested) != VMMU_OK)
		return VMMU_ENOMEM;
	sv = vcpu->nested;
	sv->guest_mode = true;
	regs = regs_of(l1);
	if (fault_shadow_same_mode(&sv->regs, &regs) && sv->ept == ept_control(l1) && sv->as_id == vcpu->as_id) {
		sv->regs.cr3 = regs.cr3;
	} else {
		sv->regs = regs;
		sv->ept = ept_control(l1);
		if (shadow_mode_set(sv, vcpu->as_id))
			shadow_roots_drop(vm, sv, false);
	}
	if (sv->mode.levels == 3)
		pdptes_load(vcpu);
	vcpu->context = &context_nested;
	return VMMU_OK;
}

void vmmu_nested_leave(struct vmmu_vcpu *vcpu)
{
	ASSERT(load_relaxed(&vcpu->vcpu.mode) == VCPU_OUTSIDE);
	if (vcpu->context == &context_nested)
		vcpu->context = vcpu->vcpu.vm->context;
}

/* --- faults --- */

static bool fill(struct vmmu_vcpu *vcpu)
{
	return shadow_caches_fill(vcpu->vcpu.vm, vcpu->nested, &vcpu->tables);
}

static enum map_result map(struct vmmu_vcpu *vcpu, struct fault *fault)
{
	return fault_shadow_install(vcpu, vcpu->nested, fault);
}

/* An L2 physical address that L1's table cannot map has no entry that is present. */
static bool is_too_wide(const struct guest_mode *mode, gva_t gpa)
{
	return gpa.v >> (mode->levels < 4 ? 32 : PAGE_SHIFT + LEVEL_BITS * mode->levels);
}

static enum guest_walk_result translate(struct vmmu_vcpu *vcpu, struct shadow_fault *fault)
{
	struct shadow_vcpu *sv = vcpu->nested;
	unsigned index = fault->gva.v >> 30 & 3;
	uint64_t pdpte, usable;

	fault->walk.error = fault->error;
	if (is_too_wide(&sv->mode, fault->gva))
		return GUEST_WALK_FAULT;
	if (sv->mode.levels == 3) {
		pdpte = pdpte_read(fault->reader, sv->regs.cr3, index);
		usable = pdpte_usable(&sv->mode, pdpte);
		if (!usable) {
			fault->walk.error |= pdpte & GPTE_P ? VMMU_PF_PRESENT | VMMU_PF_RSVD : 0;
			return GUEST_WALK_FAULT;
		}
		if (usable != sv->regs.pdpte[index]) {
			sv->regs.pdpte[index] = usable;
			shadow_root_forget(vcpu->vcpu.vm, sv);
			return GUEST_WALK_AGAIN; /* the next entry makes a root from the new entry */
		}
	}
	return guest_walk(fault->reader, sv->regs.cr3, sv->regs.pdpte, fault->gva, fault->error, 0, &fault->walk);
}

/*
 * What L1 is told: the low half of EXITINFO1 and its bits 32 and 33, or an EPT exit qualification (SDM vol. 3, table
 * 28-7). With A and D bits, EPT takes an access to a table of L2's for a write as well as for a read.
 */
static uint64_t exit_info(const struct shadow_vcpu *sv, const struct guest_walk *walk, uint64_t error)
{
	uint64_t access = error & VMMU_PF_WRITE ? EPTE_W : error & VMMU_PF_FETCH ? EPTE_X : EPTE_R, gives = 0;

	if (!sv->ept)
		return walk->error | (error & (VMMU_PF_GUEST_FINAL | VMMU_PF_GUEST_PAGE));
	if (walk->error & VMMU_PF_RSVD)
		return VMMU_NESTED_MISCONFIG;
	if ((error & VMMU_PF_GUEST_PAGE) && sv->mode.dirty)
		access = EPTE_R | EPTE_W;
	if (walk->error & VMMU_PF_PRESENT) { /* all entries were, and together they give these rights */
		unsigned rights = walk->rights[walk->level - 1];

		gives = EPTE_R | (rights & ACC_WRITE ? EPTE_W : 0) | (rights & ACC_EXEC ? EPTE_X : 0);
	}
	return access | gives << 3 | BIT(7) | (error & VMMU_PF_GUEST_FINAL ? BIT(8) : 0);
}

static enum vmmu_page_fault nested_fault(struct vmmu_vcpu *vcpu, const struct memslots *slots, gpa_t gpa,
                                         uint64_t error, struct vmmu_page_info *info)
{
	const struct guest_reader reader = { &vcpu->nested->mode, slots, &vcpu->table_cache, vcpu->vcpu.vm,
	                                     &vcpu->ring };
	struct shadow_fault fault = {
		.gva = GVA(gpa.v),
		.error = (error & (VMMU_PF_WRITE | VMMU_PF_FETCH)) | VMMU_PF_USER,
		.reader = &reader,
	};
	enum vmmu_page_fault answer;

	fault_shadow_begin(vcpu, slots, &fault);
	answer = fault_shadow_walked(vcpu, slots, &fault, translate(vcpu, &fault), error, info, &context_nested);
	if (answer == VMMU_PAGE_GUEST)
		info->error = exit_info(vcpu->nested, &fault.walk, error);
	return answer;
}

const struct context_ops context_nested = {
	.load = load,
	.drop = drop,
	.nested_fault = nested_fault,
	.fill = fill,
	.map = map,
};
