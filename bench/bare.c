/* SPDX-License-Identifier: MIT */
#include "bench/bare.h"

#include <sys/mman.h>

#include "bench/report.h"
#include "port/posix/hint.h"

#define TABLES_GPA   BARE_BYTES /* root, PDPT, PD, then the tables of 4 KiB entries */
#define TABLES_PAGES (3 + BARE_PAGES / 512)
#define GUEST_ENTRY  UINT64_C(0x67) /* P W U A D */

static void *memory_make(uint64_t bytes)
{
	char *p = mmap(NULL, bytes + (2u << 20), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
	               -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	p = (char *)(((uintptr_t)p + (2u << 20) - 1) & ~(uintptr_t)((2u << 20) - 1));
	/* The hint that the front end gives the library when a client calls madvise. */
	if (madvise(p, bytes, MADV_NOHUGEPAGE) || !posix_hint_set((uintptr_t)p, (uintptr_t)p + bytes, POSIX_HINT_SMALL))
		die("MADV_NOHUGEPAGE");
	for (uint64_t at = 0; at < bytes; at += BARE_PAGE)
		(void)*(volatile char *)(p + at);
	return p;
}

static void slot_make(struct bare *bare, uint32_t slot, uint64_t gpa, uint64_t bytes, void *memory)
{
	struct vmmu_region region = { .slot = slot, .gpa.v = gpa, .bytes = bytes, .hva.v = (uintptr_t)memory };

	if (vmmu_region_set(bare->vm, &region) != VMMU_OK)
		die("a slot");
}

static void guest_tables_make(uint64_t *tables)
{
	tables[0] = (TABLES_GPA + BARE_PAGE) | GUEST_ENTRY;
	tables[512] = (TABLES_GPA + 2 * BARE_PAGE) | GUEST_ENTRY;
	for (uint64_t i = 0; i < BARE_PAGES / 512; i++)
		tables[2 * 512 + i] = (TABLES_GPA + (3 + i) * BARE_PAGE) | GUEST_ENTRY;
	for (uint64_t i = 0; i < BARE_PAGES; i++)
		tables[3 * 512 + i] = i * BARE_PAGE | GUEST_ENTRY;
}

static void vcpu_make(struct bare *bare, unsigned id)
{
	/* PG, PE; PAE; LME, LMA, NXE */
	struct vmmu_guest_regs regs = { .cr0 = 0x80000001, .cr3 = TABLES_GPA, .cr4 = 0x20, .efer = 0xd00,
	                                .phys_bits = 40 };

	if (vmmu_vcpu_create(bare->vm, id, NULL, &bare->vcpu[id]) != VMMU_OK)
		die("a vCPU");
	if (bare->shadow)
		vmmu_guest_regs_set(bare->vcpu[id], &regs, false);
}

void bare_init(struct bare *bare, bool shadow)
{
	struct vmmu_config config = { .size = sizeof(config), .host = &vmmu_host_posix,
	                              .mmu = shadow ? VMMU_MMU_SHADOW : VMMU_MMU_TDP };

	vmmu_posix_signals_own(); /* this program's memory is always there: no access to it fails */
	*bare = (struct bare){ .shadow = shadow };
	if (vmmu_vm_create(&config, &bare->vm) != VMMU_OK)
		die("a VM");
	bare->memory = memory_make(BARE_BYTES);
	slot_make(bare, 0, 0, BARE_BYTES, bare->memory);
	if (shadow) {
		bare->tables = memory_make(TABLES_PAGES * BARE_PAGE);
		guest_tables_make(bare->tables);
		slot_make(bare, 1, TABLES_GPA, TABLES_PAGES * BARE_PAGE, bare->tables);
	}
	for (unsigned id = 0; id < BARE_VCPUS; id++)
		vcpu_make(bare, id);
}

void bare_fini(struct bare *bare)
{
	for (unsigned id = 0; id < BARE_VCPUS; id++)
		vmmu_vcpu_destroy(bare->vcpu[id]);
	vmmu_vm_destroy(bare->vm);
	munmap(bare->memory, BARE_BYTES);
	if (bare->tables)
		munmap(bare->tables, TABLES_PAGES * BARE_PAGE);
}

static void enter(struct bare *bare, unsigned vcpu, struct vmmu_entry *entry)
{
	if (vmmu_vcpu_enter(bare->vcpu[vcpu], entry) != VMMU_ENTER_RUN)
		die("vmmu_vcpu_enter");
}

void bare_fault(struct bare *bare, unsigned vcpu, uint64_t gpa)
{
	struct vmmu_page_info info;
	struct vmmu_entry entry;
	bool again, good;

	do {
		enter(bare, vcpu, &entry);
		vmmu_vcpu_leave(bare->vcpu[vcpu]);
		if (bare->shadow) {
			enum vmmu_page_fault got = vmmu_page_fault(bare->vcpu[vcpu], (struct vmmu_gva){ gpa }, 0, 0,
			                                           &info);

			good = got == VMMU_PAGE_FIXED;
			again = got == VMMU_PAGE_RETRY;
		} else {
			enum vmmu_fault got = vmmu_fault(bare->vcpu[vcpu], (struct vmmu_gpa){ gpa }, VMMU_PF_USER);

			good = got == VMMU_FAULT_FIXED;
			again = got == VMMU_FAULT_RETRY;
		}
	} while (again);
	if (!good)
		die("a fault was not mended");
}

static uint64_t table_use(uint64_t *table, unsigned level)
{
	uint64_t pages = 0;

	for (unsigned i = 0; i < 512; i++) {
		if (!(table[i] & VMMU_NPT_P))
			continue;
		__atomic_fetch_or(&table[i], VMMU_NPT_A, __ATOMIC_RELAXED);
		if (level == 1)
			pages++;
		else if (!(table[i] & VMMU_NPT_PS))
			pages += table_use((uint64_t *)(uintptr_t)(table[i] & VMMU_ENTRY_ADDR), level - 1);
	}
	return pages;
}

uint64_t bare_use_all(struct bare *bare)
{
	struct vmmu_entry entry;
	uint64_t pages;

	enter(bare, 0, &entry);
	pages = table_use((uint64_t *)(uintptr_t)entry.root, entry.levels);
	vmmu_vcpu_leave(bare->vcpu[0]);
	return pages;
}

struct vmmu_hva bare_hva(const struct bare *bare, uint64_t gpa)
{
	return (struct vmmu_hva){ (uintptr_t)bare->memory + gpa };
}
