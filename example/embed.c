/* SPDX-License-Identifier: MIT */
/*
 * The memory of a guest in a program of your own: one slot, one vCPU, and a CPU that is played by hand. It walks the
 * tables that the library builds, faults when a walk fails, and sees its page again in the dirty log.
 *
 *     cc embed.c $(pkg-config --cflags --libs vmmu) && ./a.out
 */
#include <stdio.h>
#include <stdlib.h>

#include <vmmu/vmmu.h>

#define PAGES 512

static char memory[PAGES * 4096] __attribute__((aligned(4096)));

/* What the hardware does: from the root to the leaf of a guest physical address, or NULL. */
static char *walk(const struct vmmu_entry *cpu, uint64_t gpa)
{
	const uint64_t *table = cpu->root;

	for (unsigned level = cpu->levels;; level--) {
		unsigned shift = 12 + 9 * (level - 1);
		uint64_t entry = table[gpa >> shift & 511];

		if (!(entry & VMMU_NPT_P) || (entry & VMMU_ENTRY_RSVD))
			return NULL;
		table = (const uint64_t *)(entry & VMMU_ENTRY_ADDR);
		if (level == 1 || (entry & VMMU_NPT_PS))
			return (char *)table + (gpa & ((UINT64_C(1) << shift) - 1));
	}
}

static void must(enum vmmu_status status, const char *what)
{
	if (status == VMMU_OK)
		return;
	fprintf(stderr, "%s: %s\n", what, vmmu_status_name(status));
	exit(1);
}

int main(void)
{
	const struct vmmu_config config = { .host = &vmmu_host_posix, .mmu = VMMU_MMU_TDP };
	const struct vmmu_region ram = { .gpa = { 0x100000 }, .hva = { (uintptr_t)memory }, .bytes = sizeof(memory),
		                         .flags = VMMU_SLOT_LOG_DIRTY };
	const uint64_t gpa = ram.gpa.v + 7 * VMMU_PAGE_SIZE;
	uint64_t dirty[PAGES / 64] = { 0 };
	struct vmmu_vm *vm;
	struct vmmu_vcpu *vcpu;
	struct vmmu_entry cpu;
	char *page = NULL;

	must(vmmu_vm_create(&config, &vm), "create");
	must(vmmu_region_set(vm, &ram), "region");
	must(vmmu_vcpu_create(vm, 0, NULL, &vcpu), "vcpu");

	for (int faults = 0; !page && faults < 3; faults++) {
		if (vmmu_vcpu_enter(vcpu, &cpu) != VMMU_ENTER_RUN)
			return 1;
		page = walk(&cpu, gpa);
		if (page)
			page[0] = 42; /* the guest's write */
		vmmu_vcpu_leave(vcpu);
		if (!page && vmmu_fault(vcpu, (struct vmmu_gpa){ gpa }, VMMU_PF_WRITE | VMMU_PF_USER) > VMMU_FAULT_RETRY)
			return 1;
	}

	must(vmmu_dirty_get(vm, 0, 0, dirty, PAGES / 64), "dirty log");
	printf("guest wrote %d to page 7; dirty pages: %#llx\n", memory[7 * 4096], (unsigned long long)dirty[0]);

	vmmu_vcpu_destroy(vcpu);
	vmmu_vm_destroy(vm);
	return memory[7 * 4096] == 42 && dirty[0] == 1u << 7 ? 0 : 1;
}
