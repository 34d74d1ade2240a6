/* SPDX-License-Identifier: MIT */
/*
 * Guest memory in a program of your own: one slot, one vCPU, and a CPU that is played by hand. It walks the tables
 * that the library builds, and faults when a walk fails. Its write is then in the dirty log, and so is a device's.
 *
 *     cc embed.c $(pkg-config --cflags --libs vmmu) && ./a.out
 */
#include <stdio.h>
#include <vmmu/vmmu.h>

#define PAGES 64
static char memory[PAGES * VMMU_PAGE_SIZE] __attribute__((aligned(VMMU_PAGE_SIZE)));

/*
 * Walk as hardware does, from the root to the byte at a guest physical address; NULL if nothing is mapped there.
 * Hardware would also set A and D, but only aging needs them, and this program does not age.
 */
static char *walk(const struct vmmu_entry *cpu, uint64_t gpa)
{
	const uint64_t *table = cpu->root;

	for (unsigned level = cpu->levels;; level--) {
		unsigned shift = 12 + 9 * (level - 1);
		uint64_t entry = vmmu_table_entry_load(&table[gpa >> shift & 511]);

		if (!(entry & VMMU_NPT_P) || !(entry & VMMU_NPT_W || level > 1))
			return NULL;
		table = (const uint64_t *)(entry & VMMU_ENTRY_ADDR);
		if (level == 1 || (entry & VMMU_NPT_PS))
			return (char *)table + (gpa & ((UINT64_C(1) << shift) - 1));
	}
}

int main(void)
{
	const struct vmmu_config config = { .size = sizeof(config), .host = &vmmu_host_posix };
	const struct vmmu_region ram = { .gpa = { 1 << 20 }, .hva = { (uintptr_t)memory }, .bytes = sizeof(memory),
		                         .flags = VMMU_SLOT_LOG_DIRTY };
	const struct vmmu_gpa gpa = { ram.gpa.v + 7 * VMMU_PAGE_SIZE };
	uint64_t dirty = 0, again = 0;
	struct vmmu_vcpu *vcpu;
	struct vmmu_entry cpu;
	struct vmmu_vm *vm;
	char *byte = NULL;

	if (vmmu_vm_create(&config, &vm) || vmmu_region_set(vm, &ram) || vmmu_vcpu_create(vm, 0, NULL, &vcpu))
		return 1;
	while (!byte && vmmu_vcpu_enter(vcpu, &cpu) == VMMU_ENTER_RUN) {
		byte = walk(&cpu, gpa.v);
		if (byte)
			*byte = 42; /* the guest writes */
		vmmu_vcpu_leave(vcpu);
		if (!byte && vmmu_fault(vcpu, gpa, VMMU_PF_WRITE | VMMU_PF_USER) > VMMU_FAULT_RETRY)
			return 1;
	}
	/* A device writes. It may do so on any thread. */
	if (vmmu_memory_write(vm, 0, (struct vmmu_gpa){ ram.gpa.v + 9 * VMMU_PAGE_SIZE }, "!", 1))
		return 1;
	if (vmmu_dirty_get(vm, 0, 0, &dirty, 1) || vmmu_dirty_get(vm, 0, 0, &again, 1))
		return 1;
	printf("the host reads %d; dirty pages: %#llx, then %#llx\n", memory[7 * VMMU_PAGE_SIZE],
	       (unsigned long long)dirty, (unsigned long long)again);
	vmmu_vcpu_destroy(vcpu);
	vmmu_vm_destroy(vm);
	return memory[7 * VMMU_PAGE_SIZE] == 42 && dirty == (1 << 7 | 1 << 9) && again == 0 ? 0 : 1;
}
