/* SPDX-License-Identifier: MIT */
#include "test/shadow/realkvm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define ENTRIES 100

static bool no(const char *what)
{
	printf("no real KVM to compare with: %s: %s\n", what, strerror(errno));
	return false;
}

/* Give the vCPU all features that the KVM supports, but 48 bits of physical address, as the other machines have. */
static bool cpuid_set(struct realkvm *real)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + ENTRIES * sizeof(cpuid->entries[0]));
	bool done;

	cpuid->nent = ENTRIES;
	if (ioctl(real->kvm, KVM_GET_SUPPORTED_CPUID, cpuid) != 0)
		return no("KVM_GET_SUPPORTED_CPUID");
	for (unsigned i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function == 0)
			real->amd = memcmp(&e->ebx, "Auth", 4) == 0;
		if (e->function == 7 && e->index == 0) {
			real->smep = e->ebx >> 7 & 1;
			real->smap = e->ebx >> 20 & 1;
			real->pku = e->ecx >> 3 & 1;
			real->la57 = e->ecx >> 16 & 1;
		}
		if (e->function == 0x80000001)
			real->gbpages = e->edx >> 26 & 1;
		if (e->function == 0x80000008)
			e->eax = (e->eax & ~0xffu) | 48;
	}
	done = ioctl(real->vcpu, KVM_SET_CPUID2, cpuid) == 0;
	free(cpuid);
	return done || no("KVM_SET_CPUID2");
}

static bool slot_set(struct realkvm *real, uint64_t bytes)
{
	struct kvm_userspace_memory_region region = { .memory_size = bytes, .userspace_addr = (uintptr_t)real->ram };

	return ioctl(real->vm, KVM_SET_USER_MEMORY_REGION, &region) == 0;
}

bool realkvm_open(struct realkvm *real, uint8_t *ram, uint64_t bytes)
{
	*real = (struct realkvm){ .kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), .vm = -1, .vcpu = -1, .ram = ram,
	                          .bytes = bytes };
	if (real->kvm < 0)
		return no("/dev/kvm");
	real->vm = ioctl(real->kvm, KVM_CREATE_VM, 0);
	if (real->vm < 0)
		return no("KVM_CREATE_VM");
	real->vcpu = ioctl(real->vm, KVM_CREATE_VCPU, 0);
	if (real->vcpu < 0)
		return no("KVM_CREATE_VCPU");
	real->run = mmap(NULL, (size_t)ioctl(real->kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED,
	                 real->vcpu, 0);
	if (real->run == MAP_FAILED)
		return no("mmap of the vCPU");
	return cpuid_set(real) && (slot_set(real, bytes) || no("KVM_SET_USER_MEMORY_REGION"));
}

void realkvm_close(struct realkvm *real)
{
	close(real->vcpu);
	close(real->vm);
	close(real->kvm);
}

static struct kvm_segment segment(const struct cpu_segment *s)
{
	return (struct kvm_segment){
		.base = s->base, .limit = s->limit, .selector = s->selector, .type = s->type, .present = s->present,
		.dpl = s->dpl, .db = s->db,
		.s = s->s, .l = s->l, .g = s->g, .avl = s->avl, .unusable = s->unusable,
	};
}

static bool state_put(struct realkvm *real, const struct cpu_state *s)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = { .rax = s->gpr[CPU_RAX], .rcx = s->gpr[CPU_RCX], .rsp = s->gpr[CPU_RSP], .rip = s->rip,
	                         .rflags = s->rflags };
	struct kvm_vcpu_events events = { .flags = 0 };

	if (ioctl(real->vcpu, KVM_GET_SREGS, &sregs) != 0)
		return no("KVM_GET_SREGS");
	sregs.cs = segment(&s->seg[CPU_CS]);
	sregs.ds = segment(&s->seg[CPU_DS]);
	sregs.es = segment(&s->seg[CPU_ES]);
	sregs.fs = segment(&s->seg[CPU_FS]);
	sregs.gs = segment(&s->seg[CPU_GS]);
	sregs.ss = segment(&s->seg[CPU_SS]);
	sregs.tr = segment(&s->seg[CPU_TR]);
	sregs.ldt = segment(&s->seg[CPU_LDTR]);
	sregs.gdt = (struct kvm_dtable){ .base = s->gdt.base, .limit = s->gdt.limit };
	sregs.idt = (struct kvm_dtable){ .base = s->idt.base, .limit = s->idt.limit };
	sregs.cr0 = s->cr0;
	sregs.cr2 = s->cr2;
	sregs.cr3 = s->cr3;
	sregs.cr4 = s->cr4;
	sregs.efer = s->efer;
	memset(sregs.interrupt_bitmap, 0, sizeof(sregs.interrupt_bitmap));
	if (ioctl(real->vcpu, KVM_SET_SREGS, &sregs) != 0)
		return no("KVM_SET_SREGS");
	return (ioctl(real->vcpu, KVM_SET_REGS, &regs) == 0 && ioctl(real->vcpu, KVM_SET_VCPU_EVENTS, &events) == 0) ||
	       no("KVM_SET_REGS");
}

bool realkvm_run(struct realkvm *real, struct cpu_state *s)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	/* Deleting the slot drops all that the MMU has made of its tables. */
	if (!slot_set(real, 0) || !slot_set(real, real->bytes) || !state_put(real, s))
		return false;
	if (ioctl(real->vcpu, KVM_RUN, 0) != 0)
		return no("KVM_RUN");
	if (real->run->exit_reason != KVM_EXIT_HLT) {
		printf("the real KVM came back with exit %u\n", real->run->exit_reason);
		return false;
	}
	if (ioctl(real->vcpu, KVM_GET_REGS, &regs) != 0 || ioctl(real->vcpu, KVM_GET_SREGS, &sregs) != 0)
		return no("KVM_GET_REGS");
	s->rip = regs.rip;
	s->gpr[CPU_RSP] = regs.rsp;
	s->cr2 = sregs.cr2;
	return true;
}
