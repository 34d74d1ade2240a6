/* SPDX-License-Identifier: MIT */
#include "test/shadow/scpu.h"

#include <string.h>

void scpu_regs(struct scpu *cpu)
{
	struct vmmu_guest_regs regs = { .cr0 = cpu->regs.cr0, .cr3 = cpu->regs.cr3, .cr4 = cpu->regs.cr4,
	                                .efer = cpu->regs.efer, .phys_bits = 48, .gbpages = true, .amd = true };

	memcpy(regs.pdpte, cpu->regs.pdpte, sizeof(regs.pdpte));
	vmmu_guest_regs_set(cpu->vcpu, &regs, false);
	memset(cpu->tlb, 0, sizeof(cpu->tlb));
}

void scpu_invlpg(struct scpu *cpu, uint64_t gva)
{
	vmmu_invlpg(cpu->vcpu, (struct vmmu_gva){ gva });
	cpu->tlb[(gva >> 12) % SCPU_TLB].page = 0;
}

/* Check rights as hardware does: WP and NX on; SMEP, SMAP, PKE as the guest has them. Returns: 0, or error bits. */
static uint32_t check(const struct scpu *cpu, const struct scpu_tlb *t, enum ref_access access)
{
	const struct ref_cpu *r = &cpu->regs;
	uint32_t keys = r->pkru >> (2 * t->key) & 3;
	uint64_t cr4 = r->cr0 >> 31 ? r->cr4 : 0;

	if (r->user && !t->user)
		return 1u << 31 | 1;
	if (access == REF_FETCH)
		return t->no_exec || (!r->user && (cr4 >> 20 & 1) && t->user) ? 1u << 31 | 1 : 0;
	if (access == REF_WRITE && !t->write)
		return 1u << 31 | 1;
	if (!r->user && (cr4 >> 21 & 1) && t->user && !r->ac)
		return 1u << 31 | 1;
	if ((cr4 >> 22 & 1) && (r->efer & 1 << 10) && t->user && ((keys & 1) || ((keys & 2) && access == REF_WRITE)))
		return 1u << 31 | 1;
	return 0;
}

static uint32_t walk(const struct vmmu_entry *entry, uint64_t gva, struct scpu_tlb *t, enum ref_access access,
                     const struct scpu *cpu)
{
	uint64_t *table = (uint64_t *)(uintptr_t)entry->root;

	*t = (struct scpu_tlb){ .page = (gva >> 12) + 1, .write = true, .user = true };
	for (unsigned level = entry->levels;; level--) {
		unsigned shift = 12 + 9 * (level - 1);
		uint64_t *at = &table[gva >> shift & 511], e = vmmu_table_entry_load(at), want = e | VMMU_NPT_A;
		uint32_t denied;
		bool leaf = level == 1 || (e & VMMU_NPT_PS);

		if (!(e & VMMU_NPT_P))
			return 1u << 31;
		if (e & VMMU_ENTRY_RSVD)
			return 1u << 31 | 1 | 8;
		t->write &= e >> 1 & 1;
		t->user &= e >> 2 & 1;
		t->no_exec |= e >> 63;
		if (leaf) {
			t->key = e >> 59 & 15;
			denied = check(cpu, t, access);
			if (denied)
				return denied;
			if (access == REF_WRITE)
				want |= VMMU_NPT_D;
		}
		if (want != e && !vmmu_table_entry_mark(at, e, want))
			return walk(entry, gva, t, access, cpu);
		if (leaf) {
			t->dirty = want & VMMU_NPT_D;
			t->host = (e & VMMU_ENTRY_ADDR & ~((UINT64_C(1) << shift) - 1)) |
			          (gva & ((UINT64_C(1) << shift) - 1) & ~UINT64_C(0xfff));
			return 0;
		}
		table = (uint64_t *)(uintptr_t)(e & VMMU_ENTRY_ADDR);
	}
}

static uint32_t translate(struct scpu *cpu, const struct vmmu_entry *entry, uint64_t gva, enum ref_access access,
                          uint64_t *host)
{
	struct scpu_tlb *t = &cpu->tlb[(gva >> 12) % SCPU_TLB], fresh;
	uint32_t error;

	if (entry->flush)
		memset(cpu->tlb, 0, sizeof(cpu->tlb));
	if (t->page != (gva >> 12) + 1 || check(cpu, t, access) || (access == REF_WRITE && !t->dirty)) {
		t->page = 0; /* a fault drops the translation, as hardware's does */
		error = walk(entry, gva, &fresh, access, cpu);
		if (error)
			return error;
		*t = fresh;
	}
	*host = t->host | (gva & 0xfff);
	return 0;
}

static void perform(uint64_t host, enum ref_access access, unsigned bytes, uint64_t *value)
{
	if (access == REF_WRITE) {
		memcpy((void *)(uintptr_t)host, value, bytes);
	} else {
		*value = 0;
		memcpy(value, (const void *)(uintptr_t)host, bytes);
	}
}

enum scpu_outcome scpu_access(struct scpu *cpu, uint64_t gva, enum ref_access access, unsigned bytes, uint64_t *value,
                              uint64_t *error)
{
	for (int tries = 0; tries < 200; tries++) {
		struct vmmu_page_info info;
		struct vmmu_entry entry;
		uint64_t host, kind;
		uint32_t found;

		if (vmmu_vcpu_enter(cpu->vcpu, &entry) != VMMU_ENTER_RUN)
			return SCPU_STUCK;
		found = translate(cpu, &entry, gva, access, &host);
		if (!found)
			perform(host, access, bytes, value);
		vmmu_vcpu_leave(cpu->vcpu);
		if (!found)
			return SCPU_DONE;
		cpu->faults++;
		kind = (found & 0xf) | (access == REF_WRITE ? VMMU_PF_WRITE : 0) |
		       (access == REF_FETCH ? VMMU_PF_FETCH : 0) | (cpu->regs.user ? VMMU_PF_USER : 0) |
		       (!cpu->regs.user && !cpu->regs.ac && access != REF_FETCH ? VMMU_PF_SMAP : 0);
		switch (vmmu_page_fault(cpu->vcpu, (struct vmmu_gva){ gva }, kind, cpu->regs.pkru, &info)) {
		case VMMU_PAGE_FIXED:
		case VMMU_PAGE_RETRY:
			break;
		case VMMU_PAGE_GUEST:
			*error = info.error;
			return SCPU_FAULT;
		case VMMU_PAGE_MMIO:
			*error = info.gpa.v;
			return SCPU_MMIO;
		case VMMU_PAGE_EMULATE:
			cpu->emulated++;
			if (cpu->emulated % 8 == 0 && vmmu_unprotect(cpu->vcpu, info.gpa))
				break; /* as if the instruction could not be emulated */
			return vmmu_guest_write(cpu->vcpu, info.gpa, value, bytes) == VMMU_OK ? SCPU_DONE : SCPU_STUCK;
		default:
			return SCPU_STUCK;
		}
	}
	return SCPU_STUCK;
}
