/* SPDX-License-Identifier: MIT */
#include "test/shadow/machine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "test/common/quiet.h"

static void kick(void *state, void *cookie)
{
	(void)state;
	(void)cookie;
}

static bool device(void *state, bool write, uint64_t gpa, unsigned len, void *data)
{
	struct machine *m = state;

	if (gpa < RAM)
		return false;
	if (write) {
		m->device = 0;
		memcpy(&m->device, data, len);
		m->device_writes++;
	} else {
		memset(data, 0x5a, len);
	}
	return true;
}

static const struct cpu_ops ops = { .mmio = device };

static void tables_make(struct machine *m)
{
	store(m, PML4, PDPT | 7);
	store(m, PML4 + 8 * SELF, PML4 | 3);
	store(m, PDPT, PD | 7);
	store(m, PDPT + 8, PD2 | 7);
	store(m, PD2 + 8 * 300, PT | 7);
	for (uint64_t i = 0; i < 8; i++) {
		store(m, PD + 8 * i, (PT + 0x1000 * i) | 7);
		for (uint64_t j = 0; j < 512; j++)
			store(m, PT + 0x1000 * i + 8 * j, (i * 512 + j) << 12 | 3);
	}
	store(m, PDPT + 8 * 3, 0xc0000000 | 0x83); /* devices */
}

static struct cpu_segment segment(bool code)
{
	return (struct cpu_segment){ .limit = 0xffffffff, .selector = code ? 8 : 16, .type = code ? 11 : 3,
	                             .present = 1, .s = 1, .g = 1, .l = code, .db = !code };
}

void machine_cpu_make(struct machine *m, unsigned id)
{
	struct cpu_state *s;

	assert_int_equal(vmmu_vcpu_create(m->mmu, id, NULL, &m->vcpu[id]), VMMU_OK);
	m->cpu[id] = cpu_create(m->vcpu[id], &ops, m, m->vm);
	s = cpu_state(m->cpu[id]);
	for (unsigned i = CPU_ES; i <= CPU_GS; i++)
		s->seg[i] = segment(i == CPU_CS);
	s->seg[CPU_TR] = (struct cpu_segment){ .base = TSS, .limit = 0x67, .selector = 0x18, .type = 11, .present = 1 };
	s->gdt = (struct cpu_table){ GDT, 23 };
	s->idt = (struct cpu_table){ IDT, 32 * 16 - 1 };
	s->cr0 = 0x80010033;
	s->cr3 = PML4;
	s->cr4 = 0x620;
	s->efer = 0xd01;
	s->rflags = 2;
	s->gpr[CPU_RSP] = STACK - id * 0x4000;
	cpu_state_changed(m->cpu[id], CPU_CHANGED_ALL);
}

struct machine *machine_make(enum vmmu_mmu mmu)
{
	struct machine *m = calloc(1, sizeof(*m));
	static struct vmmu_host host;
	struct vmmu_config config = { .size = sizeof(config), .host = &host, .mmu = mmu, .max_vcpus = VCPUS };
	struct vmmu_region region = { .bytes = RAM };

	m->shadow = mmu == VMMU_MMU_SHADOW;
	host = vmmu_host_posix;
	host.kick = kick;
	m->ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	region.hva.v = (uintptr_t)m->ram;
	assert_int_equal(vmmu_vm_create(&config, &m->mmu), VMMU_OK);
	assert_int_equal(vmmu_region_set(m->mmu, &region), VMMU_OK);
	m->vm = cpu_vm_create();
	tables_make(m);
	memset(m->ram + STUBS, 0xf4, 0x1000);
	store(m, GDT + 8, 0x00af9b000000ffff);
	store(m, GDT + 16, 0x00cf93000000ffff);
	for (unsigned v = 0; v < 32; v++)
		store(m, IDT + 16 * v, (STUBS + 16 * v) | 8u << 16 | 0x8e00ull << 32);
	machine_cpu_make(m, 0);
	return m;
}

void machine_free(struct machine *m)
{
	assert_false(vmmu_vm_is_dead(m->mmu));
	assert_true(quiet_audit(m->mmu, NULL));
	for (unsigned id = 0; id < VCPUS; id++) {
		if (m->cpu[id] == NULL)
			continue;
		cpu_destroy(m->cpu[id]);
		vmmu_vcpu_destroy(m->vcpu[id]);
	}
	cpu_vm_destroy(m->vm);
	vmmu_vm_destroy(m->mmu);
	munmap(m->ram, RAM);
	free(m);
}

int machine_run(struct machine *m, unsigned id, uint64_t rip)
{
	struct cpu_state *s = cpu_state(m->cpu[id]);
	enum cpu_exit exit;

	s->rip = rip;
	do
		exit = cpu_run(m->cpu[id]);
	while (exit == CPU_EXIT_KICKED);
	if (exit != CPU_EXIT_HLT)
		print_error("CPU %u: exit %d at %#llx, cr2 %#llx\n", id, exit, (unsigned long long)s->rip,
		            (unsigned long long)s->cr2);
	assert_int_equal(exit, CPU_EXIT_HLT);
	return s->rip > STUBS && s->rip <= STUBS + 0x1000 ? (int)(s->rip - 1 - STUBS) / 16 : -1;
}

void machine_each(void (*test)(struct machine *m, bool shadow))
{
	for (int shadow = 0; shadow < 2; shadow++) {
		struct machine *m = machine_make(shadow ? VMMU_MMU_SHADOW : VMMU_MMU_TDP);

		test(m, shadow);
		machine_free(m);
	}
}
