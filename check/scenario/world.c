/* SPDX-License-Identifier: MIT */
#include "check/scenario/world.h"

#include "core/audit/audit.h"
#include "core/guest/mode.h"

struct world world;

void world_make_with(unsigned real, const struct vmmu_config *config, unsigned cpus)
{
	abstract_init(real);
	host_init();
	check_assert(vmmu_vm_create(config, &world.vm) == VMMU_OK);
	/*
	 * The statistics are at the end of struct vm. Nothing depends on them, and as steps they
	 * would multiply the executions.
	 */
	check_counters(world_vm()->count, (size_t)((char *)(world_vm() + 1) - (char *)world_vm()->count));
	for (unsigned id = 0; id < cpus; id++)
		check_assert(vmmu_vcpu_create(world.vm, id, NULL, &world.cpu[id].vcpu) == VMMU_OK);
}

void world_make(unsigned real, enum vmmu_mmu mmu, unsigned cpus)
{
	struct vmmu_config config = { .size = sizeof(config), .host = &host_ops, .mmu = mmu, .max_vcpus = WORLD_CPUS };

	world_make_with(real, &config, cpus);
}

void world_slot(unsigned slot, unsigned gfn, unsigned pages, unsigned page, unsigned flags)
{
	struct vmmu_region region = {
		.slot = slot,
		.flags = flags,
		.gpa = { gfn * PAGE_SIZE },
		.bytes = pages * PAGE_SIZE,
		.hva = pages ? host_hva(page) : HVA(0),
	};

	check_assert(vmmu_region_set(world.vm, &region) == VMMU_OK);
}

uint64_t world_guest_entry(unsigned gfn)
{
	return gfn * PAGE_SIZE | GPTE_P | GPTE_W | GPTE_U | GPTE_A | GPTE_D;
}

void world_cr3(struct cpu *cpu, unsigned table, bool keep)
{
	struct vmmu_guest_regs regs = {
		.cr0 = CR0_PG | CR0_WP,
		.cr3 = table * PAGE_SIZE,
		.cr4 = CR4_PAE,
		.efer = EFER_LMA | EFER_NXE,
		.phys_bits = 48,
	};

	vmmu_guest_regs_set(cpu->vcpu, &regs, keep);
}

void world_guest_tables(void)
{
	for (unsigned table = 0; table < GUEST_PT; table++)
		host.frame[table].word[0] = world_guest_entry(table + 1);
	for (unsigned page = 0; page < HOST_WORDS; page++)
		host.frame[GUEST_PT].word[page] = world_guest_entry(GUEST_DATA + page);
	for (unsigned id = 0; id < WORLD_CPUS; id++)
		if (world.cpu[id].vcpu)
			world_cr3(&world.cpu[id], 0, false);
}

void world_nested_enter(struct cpu *cpu)
{
	const struct vmmu_nested l1 = {
		.format = VMMU_NESTED_NPT, .cr4 = CR4_PAE, .efer = EFER_LMA | EFER_NXE, .phys_bits = 48
	};

	check_assert(vmmu_nested_enter(cpu->vcpu, &l1) == VMMU_OK);
	cpu->nested = true;
	cpu->tlb.page = 0;
}

void world_nested_leave(struct cpu *cpu)
{
	vmmu_nested_leave(cpu->vcpu);
	cpu->nested = false;
	cpu->tlb.page = 0;
}

static void audit_line(void *arg, const char *text)
{
	(void)arg;
	check_fail("audit: %s", text);
}

static pfn_t audit_frame(void *arg, hva_t hva)
{
	(void)arg;
	return PFN(HOST_PFN + host_frame_of(hva.v));
}

void world_audit(unsigned invalidations)
{
	struct audit_report report = {
		.out = { audit_line, NULL }, .invalidations = invalidations, .frame = audit_frame
	};

	for (unsigned id = 0; id < WORLD_CPUS; id++)
		if (world.cpu[id].vcpu)
			cpu_leave(&world.cpu[id]);
	check_assert(audit_vm(world_vm(), &report));
}

void world_end(void)
{
	for (unsigned id = 0; id < WORLD_CPUS; id++)
		if (world.cpu[id].vcpu) {
			cpu_leave(&world.cpu[id]);
			vmmu_vcpu_destroy(world.cpu[id].vcpu);
		}
	vmmu_vm_destroy(world.vm);
	check_setup_freed();
}
