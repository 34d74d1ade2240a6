/* SPDX-License-Identifier: MIT */
#include "check/scenario/cpu.h"

#include "check/check.h"
#include "core/base/types.h"
#include "core/sync/atomic.h"
#include "port/contract/port.h"

void cpu_enter(struct cpu *cpu)
{
	if (cpu->in_guest)
		return;
	check_assert(vmmu_vcpu_enter(cpu->vcpu, &cpu->entry) == VMMU_ENTER_RUN);
	cpu->in_guest = true;
	if (cpu->entry.flush)
		cpu->tlb.page = 0;
}

void cpu_leave(struct cpu *cpu)
{
	if (cpu->in_guest)
		vmmu_vcpu_leave(cpu->vcpu);
	cpu->in_guest = false;
}

static uint64_t *entry_at(uint64_t *table, uint64_t address, unsigned level)
{
	return &table[address >> (PAGE_SHIFT + LEVEL_BITS * (level - 1)) & (ENTRIES - 1)];
}

/* EPT has R and W in the bits where NPT has P and W. */
static uint64_t present(const struct cpu *cpu)
{
	return cpu->entry.format >= VMMU_FORMAT_EPT4 ? VMMU_EPT_R | VMMU_EPT_W | VMMU_EPT_X : VMMU_NPT_P;
}

/*
 * Walk down to a leaf. The accesses are those that vmmu/format.h gives to a CPU in software, so that what
 * is shown here also holds for the CPUs that ship. Returns: where the leaf is, its value in *value; NULL
 * for a fault, with cpu->error set.
 */
static uint64_t *walk(struct cpu *cpu, uint64_t address, bool write, uint64_t *value)
{
	uint64_t *table = (uint64_t *)(uintptr_t)cpu->entry.root, *at;

	for (unsigned level = cpu->entry.levels;; level--) {
		at = entry_at(table, address, level);
		*value = vmmu_table_entry_load(at);
		cpu->error = write ? VMMU_PF_WRITE : 0;
		if (!(*value & present(cpu)))
			return NULL;
		cpu->error |= VMMU_PF_PRESENT;
		if (*value & VMMU_ENTRY_RSVD) {
			cpu->error |= VMMU_PF_RSVD;
			return NULL;
		}
		if (write && !(*value & VMMU_NPT_W))
			return NULL;
		if (level == 1 || (*value & VMMU_NPT_PS))
			return at;
		table = port_pfn_to_ptr((*value & VMMU_ENTRY_ADDR) >> PAGE_SHIFT);
	}
}

/* Set A, and for a write D, by one compare-and-swap. False: the entry changed meanwhile, and the caller walks again. */
static bool mark_used(const struct cpu *cpu, uint64_t *at, uint64_t value, bool write)
{
	uint64_t used = value | VMMU_NPT_A | (write ? VMMU_NPT_D : 0);

	return cpu->entry.format >= VMMU_FORMAT_EPT4_NO_AD || used == value || vmmu_table_entry_mark(at, value, used);
}

struct host_frame *cpu_access(struct cpu *cpu, uint64_t address, bool write)
{
	uint64_t page = address >> PAGE_SHIFT, value, *at;

	check_assert(cpu->in_guest);
	if (cpu->tlb.page == page + 1 && (cpu->tlb.write || !write))
		return host_frame_at(cpu->tlb.pfn);
	do {
		at = walk(cpu, address, write, &value);
		if (!at)
			return NULL;
	} while (!mark_used(cpu, at, value, write));
	cpu->tlb.page = page + 1;
	/* The frames of a huge leaf are consecutive. Leaves of scenarios have at most 4 pages. */
	cpu->tlb.pfn = ((value & VMMU_ENTRY_ADDR) >> PAGE_SHIFT) + (value & VMMU_NPT_PS ? page & (ENTRIES - 1) : 0);
	cpu->tlb.write = write;
	return host_frame_at(cpu->tlb.pfn);
}

static enum cpu_result answer_second_stage(struct cpu *cpu, uint64_t gpa)
{
	switch (vmmu_fault(cpu->vcpu, GPA(gpa), cpu->error)) {
	case VMMU_FAULT_FIXED:
	case VMMU_FAULT_RETRY:
		return CPU_DONE;
	case VMMU_FAULT_MMIO:
		return CPU_MMIO;
	case VMMU_FAULT_EMULATE:
		return CPU_EMULATE;
	case VMMU_FAULT_HOST:
		return CPU_HOST;
	default:
		check_fail("a fault ended badly");
	}
	return CPU_HOST;
}

/* A linear address, or in guest mode an L2 physical one. */
static enum cpu_result answer_shadow(struct cpu *cpu, uint64_t address)
{
	struct vmmu_page_info info;
	enum vmmu_page_fault answer;

	if (cpu->nested)
		answer = vmmu_nested_fault(cpu->vcpu, GPA(address), cpu->error | VMMU_PF_GUEST_FINAL, &info);
	else
		answer = vmmu_page_fault(cpu->vcpu, GVA(address), cpu->error, 0, &info);
	cpu->mmio_gpa = info.gpa.v;
	switch (answer) {
	case VMMU_PAGE_FIXED:
	case VMMU_PAGE_RETRY:
		return CPU_DONE;
	case VMMU_PAGE_GUEST:
		return CPU_FAULT;
	case VMMU_PAGE_MMIO:
		return CPU_MMIO;
	case VMMU_PAGE_EMULATE:
		return CPU_EMULATE;
	case VMMU_PAGE_HOST:
		return CPU_HOST;
	default:
		check_fail("a page fault ended badly");
	}
	return CPU_HOST;
}

enum cpu_result cpu_answer(struct cpu *cpu, uint64_t address)
{
	check_assert(!cpu->in_guest);
	/* A fault drops the TLB's translation of its address, as on hardware. */
	if (cpu->tlb.page == (address >> PAGE_SHIFT) + 1)
		cpu->tlb.page = 0;
	return cpu->entry.shadow || cpu->nested ? answer_shadow(cpu, address) : answer_second_stage(cpu, address);
}

enum cpu_result cpu_touch(struct cpu *cpu, uint64_t address, bool write, unsigned faults, struct host_frame **frame)
{
	for (;;) {
		enum cpu_result result;

		cpu_enter(cpu);
		*frame = cpu_access(cpu, address, write);
		if (*frame)
			return CPU_DONE;
		cpu_leave(cpu);
		if (!faults--)
			return CPU_TIRED;
		result = cpu_answer(cpu, address);
		if (result != CPU_DONE)
			return result;
	}
}

uint64_t cpu_peek(const struct cpu *cpu, uint64_t address)
{
	struct cpu copy = *cpu;
	uint64_t value;

	return walk(&copy, address, false, &value) ? value : 0;
}
