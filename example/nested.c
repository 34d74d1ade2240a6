/* SPDX-License-Identifier: MIT */
/*
 * A guest of a guest in a program of your own. The CPU is played by hand, and so is L1, a hypervisor that is a guest
 * itself: it has a nested table (NPT) in its memory, and handles the faults of its own guest, L2.
 *
 *     cc nested.c $(pkg-config --cflags --libs vmmu) && ./a.out
 */
#include <stdio.h>
#include <vmmu/vmmu.h>

#define PAGES 64
#define RAM   (UINT64_C(1) << 20) /* where L1 has its memory */
static char memory[PAGES * VMMU_PAGE_SIZE] __attribute__((aligned(VMMU_PAGE_SIZE)));

/* L1's use of its pages. */
enum { PML4, PDPT, PD, PT, DATA };

#define PAGE(n) (RAM + (n) * VMMU_PAGE_SIZE)
#define RIGHTS  (VMMU_NPT_P | VMMU_NPT_W | VMMU_NPT_U)

#define L2_PAGE UINT64_C(0x5000)

/* Walk as hardware does, from the root to the byte at an address; NULL, with the error, if the walk fails. */
static char *walk(const struct vmmu_entry *cpu, uint64_t address, uint64_t *error)
{
	uint64_t *table = (uint64_t *)(uintptr_t)cpu->root;

	for (unsigned level = cpu->levels;; level--) {
		unsigned shift = 12 + 9 * (level - 1);
		uint64_t entry = vmmu_table_entry_load(&table[address >> shift & 511]);

		if (!(entry & VMMU_NPT_P))
			return NULL;
		if (level == 1 && (entry & RIGHTS) != RIGHTS) {
			*error |= VMMU_PF_PRESENT;
			return NULL;
		}
		table = (uint64_t *)(uintptr_t)(entry & VMMU_ENTRY_ADDR);
		if (level == 1 || (entry & VMMU_NPT_PS))
			return (char *)table + (address & ((UINT64_C(1) << shift) - 1));
	}
}

/* L2 writes a byte. Returns: false when it cannot go on; if `exit` is set then, L1 has to act on it. */
static bool l2_write(struct vmmu_vcpu *vcpu, uint64_t address, char value, uint64_t *exit)
{
	struct vmmu_page_info info;
	struct vmmu_entry cpu;

	*exit = 0;
	while (vmmu_vcpu_enter(vcpu, &cpu) == VMMU_ENTER_RUN) {
		uint64_t error = VMMU_PF_WRITE | VMMU_PF_USER | VMMU_PF_GUEST_FINAL;
		char *byte = walk(&cpu, address, &error);

		if (byte)
			*byte = value;
		vmmu_vcpu_leave(vcpu);
		if (byte)
			return true;
		switch (vmmu_nested_fault(vcpu, (struct vmmu_gpa){ address }, error, &info)) {
		case VMMU_PAGE_FIXED:
		case VMMU_PAGE_RETRY:
			continue;
		case VMMU_PAGE_GUEST:
			*exit = info.error;
			return false;
		default: /* MMIO, and stores to L1's own table: a program that has none of them */
			return false;
		}
	}
	return false;
}

/* L1 stores an entry of its nested table. The library has to know: a shadow of that entry may exist. */
static bool l1_store(struct vmmu_vcpu *vcpu, unsigned page, unsigned index, uint64_t entry)
{
	return vmmu_guest_write(vcpu, (struct vmmu_gpa){ PAGE(page) + 8 * index }, &entry, 8) == VMMU_OK;
}

/* L1 runs L2, and maps each page that L2 misses. Returns: how often L2 exited; -1: something went wrong. */
static int l1_run(struct vmmu_vcpu *vcpu, const struct vmmu_nested *l1)
{
	uint64_t exit;

	for (int exits = 0;; exits++) {
		bool done;

		if (vmmu_nested_enter(vcpu, l1)) /* VMRUN */
			return -1;
		done = l2_write(vcpu, L2_PAGE + 9, 42, &exit);
		vmmu_nested_leave(vcpu); /* #VMEXIT */
		if (done)
			return exits;
		printf("#NPF: EXITINFO1 %#llx, EXITINFO2 %#llx\n", (unsigned long long)exit,
		       (unsigned long long)(L2_PAGE + 9));
		if (exit != (VMMU_PF_WRITE | VMMU_PF_USER | VMMU_PF_GUEST_FINAL) ||
		    !l1_store(vcpu, PT, L2_PAGE >> 12, PAGE(DATA) | RIGHTS))
			return -1;
	}
}

int main(void)
{
	const struct vmmu_config config = { .size = sizeof(config), .host = &vmmu_host_posix, .nested = true };
	const struct vmmu_region ram = { .gpa = { RAM }, .hva = { (uintptr_t)memory }, .bytes = sizeof(memory) };
	const struct vmmu_nested l1 = {
		.format = VMMU_NESTED_NPT,
		.root = PAGE(PML4),
		.cr4 = 1 << 5,               /* PAE */
		.efer = 1 << 10 | 1 << 11,   /* LMA, NXE: four levels */
		.phys_bits = 40,
	};
	struct vmmu_vcpu *vcpu;
	struct vmmu_vm *vm;
	int exits;

	if (vmmu_vm_create(&config, &vm) || vmmu_region_set(vm, &ram) || vmmu_vcpu_create(vm, 0, NULL, &vcpu))
		return 1;
	/* L2's first 2 MiB have a table, which is empty. */
	if (!l1_store(vcpu, PML4, 0, PAGE(PDPT) | RIGHTS) || !l1_store(vcpu, PDPT, 0, PAGE(PD) | RIGHTS) ||
	    !l1_store(vcpu, PD, 0, PAGE(PT) | RIGHTS))
		return 1;
	exits = l1_run(vcpu, &l1);
	printf("exits: %d; the host reads %d\n", exits, memory[DATA * VMMU_PAGE_SIZE + 9]);
	vmmu_vcpu_destroy(vcpu);
	vmmu_vm_destroy(vm);
	return exits == 1 && memory[DATA * VMMU_PAGE_SIZE + 9] == 42 ? 0 : 1;
}
