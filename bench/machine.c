/* SPDX-License-Identifier: MIT */
/* A small client of /dev/kvm; see machine.h. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/machine.h"
#include "bench/report.h"

extern const uint8_t guest_text[], guest_text_end[];

/* Guest physical addresses in slot 0, whose virtual addresses are the same. */
#define TEXT_GPA  UINT64_C(0x1000)
#define GDT_GPA   UINT64_C(0x3000)
#define TSS_GPA   UINT64_C(0x4000)
#define IDT_GPA   UINT64_C(0x5000)
#define STACK_GPA UINT64_C(0x8000) /* the top of vCPU 0's stack; each vCPU has 0x4000 bytes */
#define ROOT_GPA  UINT64_C(0x20000)
#define PDPT_GPA  UINT64_C(0x22000)
#define LOW_PD    UINT64_C(0x23000)
#define DATA_PD   UINT64_C(0x24000) /* four directories, for up to 4 GiB of data */
#define PT_GPA    UINT64_C(0x40000)

#define ENTRY_PS UINT64_C(0x80)

bool machine_possible(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	bool good = fd >= 0 && ioctl(fd, KVM_GET_API_VERSION, 0L) == 12;

	if (fd >= 0)
		close(fd);
	return good;
}

uint64_t *machine_table(struct machine *m, uint64_t gpa)
{
	return (uint64_t *)(m->system + gpa);
}

/* Map slot 0 by 2 MiB pages at 0, and the data by 4 KiB pages at DATA_GPA. */
static void make_tables(struct machine *m)
{
	uint64_t pages = m->data_bytes / PAGE;

	machine_table(m, ROOT_GPA)[0] = PDPT_GPA | PTE_ALL;
	machine_table(m, PDPT_GPA)[0] = LOW_PD | PTE_ALL;
	for (uint64_t i = 0; i < 8; i++)
		machine_table(m, LOW_PD)[i] = (i << 21) | PTE_ALL | ENTRY_PS;
	for (uint64_t i = 0; i < 4; i++)
		machine_table(m, PDPT_GPA)[(DATA_GPA >> 30) + i] = (DATA_PD + i * PAGE) | PTE_ALL;
	for (uint64_t i = 0; i < (pages + 511) / 512; i++)
		machine_table(m, DATA_PD)[i] = (PT_GPA + i * PAGE) | PTE_ALL;
	for (uint64_t i = 0; i < pages; i++)
		machine_table(m, PT_GPA)[i] = (DATA_GPA + i * PAGE) | PTE_ALL;
}

void *machine_memory(size_t bytes, bool small)
{
	void *p = mmap(NULL, bytes + 2 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
	               0);

	if (p == MAP_FAILED)
		die("mmap");
	p = (void *)(((uintptr_t)p + 2 * MIB - 1) & ~(uintptr_t)(2 * MIB - 1)); /* the part below it is leaked */
	if (small)
		madvise(p, bytes, MADV_NOHUGEPAGE);
	return p;
}

int machine_slot(struct machine *m, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t bytes, const void *at)
{
	struct kvm_userspace_memory_region r = { .slot = slot, .flags = flags, .guest_phys_addr = gpa,
		                                 .memory_size = bytes, .userspace_addr = (uintptr_t)at };

	return ioctl(m->vm, KVM_SET_USER_MEMORY_REGION, &r);
}

/* Give the guest all features that the host has, as any VMM does. */
static void set_cpuid(struct machine *m, int vcpu)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 256 * sizeof(cpuid->entries[0]));

	if (!cpuid)
		die("memory");
	cpuid->nent = 256;
	if (ioctl(m->kvm, KVM_GET_SUPPORTED_CPUID, cpuid))
		die("CPUID");
	for (unsigned i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == 1)
			cpuid->entries[i].ecx |= 1u << 21 | 1u << 24; /* x2APIC, TSC deadlines: of an irqchip */
	if (ioctl(m->vcpu[vcpu], KVM_SET_CPUID2, cpuid))
		die("CPUID");
	free(cpuid);
}

void machine_handler(struct machine *m, unsigned vector, const uint8_t *routine)
{
	static const uint64_t flat[] = { UINT64_C(0x00af9a000000ffff), UINT64_C(0x00cf92000000ffff) };
	uint64_t address = TEXT_GPA + (uint64_t)(routine - guest_text);
	const uint16_t gate[8] = { (uint16_t)address, 8, 0x8e00, (uint16_t)(address >> 16) };

	memcpy(m->system + IDT_GPA + vector * sizeof(gate), gate, sizeof(gate));
	memcpy(m->system + GDT_GPA + 8, flat, sizeof(flat)); /* an interrupt loads CS from there, its IRET SS as well */
}

static void add_vcpu(struct machine *m, int i, unsigned data)
{
	struct kvm_mp_state runnable = { KVM_MP_STATE_RUNNABLE };

	m->vcpu[i] = ioctl(m->vm, KVM_CREATE_VCPU, (long)i);
	if (m->vcpu[i] < 0)
		die("KVM_CREATE_VCPU");
	m->run[i] = mmap(NULL, m->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, m->vcpu[i], 0);
	if (m->run[i] == MAP_FAILED)
		die("mmap of a vCPU");
	set_cpuid(m, i);
	if (data & DATA_IRQCHIP && ioctl(m->vcpu[i], KVM_SET_MP_STATE, &runnable))
		die("KVM_SET_MP_STATE");
}

void machine_init(struct machine *m, int vcpus, size_t data_bytes, unsigned data)
{
	memset(m, 0, sizeof(*m));
	m->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	m->vm = m->kvm < 0 ? -1 : ioctl(m->kvm, KVM_CREATE_VM, 0L);
	if (m->vm < 0)
		die("KVM_CREATE_VM");
	m->run_bytes = (size_t)ioctl(m->kvm, KVM_GET_VCPU_MMAP_SIZE, 0L);
	m->data_bytes = data_bytes;
	m->system_bytes = PT_GPA + data_bytes / 512 + PAGE;
	m->system_bytes = data & DATA_SCRATCH ? 16 * MIB : (m->system_bytes + MIB - 1) & ~(MIB - 1);
	m->system = machine_memory(m->system_bytes, true);
	memset(m->system, 0, m->system_bytes);
	memcpy(m->system + TEXT_GPA, guest_text, (size_t)(guest_text_end - guest_text));
	make_tables(m);
	if (machine_slot(m, 0, 0, 0, m->system_bytes, m->system))
		die("slot 0");
	if (data_bytes) {
		m->data = machine_memory(data_bytes, data & DATA_SMALL);
		if (data & DATA_PRESENT)
			memset(m->data, 1, data_bytes);
		if (machine_slot(m, 1, 0, DATA_GPA, data_bytes, m->data))
			die("slot 1");
	}
	if (data & DATA_IRQCHIP && ioctl(m->vm, KVM_CREATE_IRQCHIP, 0L))
		die("KVM_CREATE_IRQCHIP");
	m->vcpus = vcpus;
	for (int i = 0; i < vcpus; i++)
		add_vcpu(m, i, data);
}

void machine_fini(struct machine *m)
{
	for (int i = 0; i < m->vcpus; i++) {
		munmap(m->run[i], m->run_bytes);
		close(m->vcpu[i]);
	}
	close(m->vm);
	close(m->kvm);
	munmap(m->system, m->system_bytes);
	if (m->data)
		munmap(m->data, m->data_bytes);
}

static struct kvm_segment segment(uint16_t selector, uint8_t type, int dpl, bool code)
{
	struct kvm_segment s = { .selector = (uint16_t)(selector | dpl), .type = type, .dpl = (uint8_t)dpl,
	                         .present = 1, .s = 1, .l = code, .db = !code, .g = 1, .limit = 0xffffffff };

	return s;
}

static void set_registers(struct machine *m, int vcpu, const struct call *call)
{
	struct kvm_sregs s;
	struct kvm_regs r = { .rflags = 2 | 3 << 12 /* IOPL 3 */, .rdi = call->rdi, .rsi = call->rsi, .rdx = call->rdx,
		              .r8 = call->r8, .r9 = call->r9, .rsp = STACK_GPA + 0x4000u * (unsigned)vcpu,
		              .rip = TEXT_GPA + (uint64_t)(call->routine - guest_text) };

	if (ioctl(m->vcpu[vcpu], KVM_GET_SREGS, &s))
		die("KVM_GET_SREGS");
	s.cr0 = 0x80050033; /* PG AM WP NE ET MP PE */
	s.cr3 = machine_root_gpa();
	s.cr4 = 0x6a0; /* OSXMMEXCPT OSFXSR PGE PAE */
	s.efer = 0xd01; /* NX LMA LME SCE */
	s.cs = segment(call->cpl ? 0x18 : 0x08, 11, call->cpl, true);
	s.ss = s.ds = s.es = s.fs = s.gs = segment(call->cpl ? 0x20 : 0x10, 3, call->cpl, false);
	s.tr = (struct kvm_segment){ .selector = 0x28, .type = 11, .present = 1, .base = TSS_GPA, .limit = 0x67 };
	s.ldt = (struct kvm_segment){ .unusable = 1 };
	s.gdt = (struct kvm_dtable){ .base = GDT_GPA, .limit = 0x37 };
	s.idt = (struct kvm_dtable){ .base = IDT_GPA, .limit = 0xfff };
	if (ioctl(m->vcpu[vcpu], KVM_SET_SREGS, &s) || ioctl(m->vcpu[vcpu], KVM_SET_REGS, &r))
		die("registers");
}

/* Run until the OUT to port 0x10. */
static void run(struct machine *m, int vcpu)
{
	struct kvm_run *run = m->run[vcpu];

	for (;;) {
		if (ioctl(m->vcpu[vcpu], KVM_RUN, 0L) && errno != EINTR)
			die("KVM_RUN");
		if (run->exit_reason == KVM_EXIT_IO && run->io.port == 0x10)
			return;
		if (run->exit_reason != KVM_EXIT_IO && run->exit_reason != KVM_EXIT_INTR) {
			struct kvm_regs r;

			memset(&r, 0, sizeof(r));
			ioctl(m->vcpu[vcpu], KVM_GET_REGS, &r);
			fprintf(stderr, "bench: exit %u at rip %#llx\n", run->exit_reason, r.rip);
			exit(1);
		}
	}
}

uint64_t machine_call(struct machine *m, int vcpu, const struct call *call)
{
	uint64_t begin;

	set_registers(m, vcpu, call);
	begin = now();
	run(m, vcpu);
	return now() - begin;
}

struct worker {
	struct machine *m;
	int vcpu;
	const struct call *call;
	pthread_barrier_t *start;
	uint64_t begin, end, cpu;
};

static void *work(void *argument)
{
	struct worker *w = argument;

	set_registers(w->m, w->vcpu, w->call);
	pthread_barrier_wait(w->start);
	w->cpu = now_cpu();
	w->begin = now();
	run(w->m, w->vcpu);
	w->end = now();
	w->cpu = now_cpu() - w->cpu;
	return NULL;
}

uint64_t machine_call_all(struct machine *m, const struct call *calls, uint64_t *cpu)
{
	struct worker w[MAX_VCPU];
	pthread_t thread[MAX_VCPU];
	pthread_barrier_t start;
	uint64_t begin = UINT64_MAX, end = 0;

	*cpu = 0;
	pthread_barrier_init(&start, NULL, (unsigned)m->vcpus);
	for (int i = 0; i < m->vcpus; i++) {
		w[i] = (struct worker){ .m = m, .vcpu = i, .call = &calls[i], .start = &start };
		if (pthread_create(&thread[i], NULL, work, &w[i]))
			die("thread");
	}
	for (int i = 0; i < m->vcpus; i++) {
		pthread_join(thread[i], NULL);
		begin = w[i].begin < begin ? w[i].begin : begin;
		end = w[i].end > end ? w[i].end : end;
		*cpu += w[i].cpu;
	}
	pthread_barrier_destroy(&start);
	return end - begin;
}

uint64_t machine_pte_gpa(uint64_t index)
{
	return PT_GPA + index * 8;
}

uint64_t machine_root_gpa(void)
{
	return ROOT_GPA;
}
