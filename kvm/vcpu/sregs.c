/* SPDX-License-Identifier: MIT */
/* KVM_GET/SET_SREGS and SREGS2, KVM_TRANSLATE. */
#include "kvm/vcpu/cpuid.h"
#include "kvm/vcpu/ioctls.h"
#include "kvm/vcpu/nested.h"
#include "kvm/irq/lapic.h"
#include "kvm/vcpu/msr.h"
#include "kvm/vcpu/regs.h"
#include "kvm/process/user.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <stddef.h>
#include <string.h>

_Static_assert(sizeof(struct cpu_segment) == sizeof(struct kvm_segment), "segments are copied as they are");
_Static_assert(offsetof(struct cpu_segment, unusable) == offsetof(struct kvm_segment, unusable), "and in order");
_Static_assert(offsetof(struct kvm_sregs, interrupt_bitmap) == offsetof(struct kvm_sregs2, flags),
               "the two structures begin alike");

#define CR0_PE 1u
#define CR0_PG (UINT64_C(1) << 31)
#define EFER_LME (1u << 8)
#define EFER_LMA (1u << 10)
#define CR4_PAE  (1u << 5)

static void segment_get(struct kvm_segment *out, const struct cpu_segment *in)
{
	memcpy(out, in, sizeof(*out));
	out->padding = 0;
}

static void segment_set(struct cpu_segment *out, const struct kvm_segment *in)
{
	memcpy(out, in, sizeof(*out));
	/* Cut the fields to the width that the processor has. */
	out->type &= 15;
	out->present &= 1;
	out->dpl &= 3;
	out->db &= 1;
	out->s &= 1;
	out->l &= 1;
	out->g &= 1;
	out->avl &= 1;
	out->unusable &= 1;
	out->padding = 0;
}

void sregs_get(struct kvm_vcpu *vcpu, struct kvm_sregs *out)
{
	const struct cpu_state *s = cpu_state(vcpu->cpu);

	memset(out, 0, sizeof(*out));
	segment_get(&out->cs, &s->seg[CPU_CS]);
	segment_get(&out->ds, &s->seg[CPU_DS]);
	segment_get(&out->es, &s->seg[CPU_ES]);
	segment_get(&out->fs, &s->seg[CPU_FS]);
	segment_get(&out->gs, &s->seg[CPU_GS]);
	segment_get(&out->ss, &s->seg[CPU_SS]);
	segment_get(&out->tr, &s->seg[CPU_TR]);
	segment_get(&out->ldt, &s->seg[CPU_LDTR]);
	out->gdt.base = s->gdt.base;
	out->gdt.limit = s->gdt.limit;
	out->idt.base = s->idt.base;
	out->idt.limit = s->idt.limit;
	out->cr0 = s->cr0;
	out->cr2 = s->cr2;
	out->cr3 = s->cr3;
	out->cr4 = s->cr4;
	out->cr8 = s->cr8;
	out->efer = s->efer;
	out->apic_base = s->apic_base;
	if (s->events.interrupt.injected && !s->events.interrupt.soft)
		out->interrupt_bitmap[s->events.interrupt.vector / 64] |= UINT64_C(1)
		                                                          << (s->events.interrupt.vector % 64);
}

/* The part that both ioctls share. Changes nothing unless everything is legal. */
static long sregs_set_common(struct kvm_vcpu *vcpu, const struct kvm_sregs *in)
{
	struct cpu_state *s = cpu_state(vcpu->cpu);
	uint64_t efer = s->efer;

	if ((in->efer & EFER_LME) && (in->cr0 & CR0_PG)) {
		if (!(in->cr4 & CR4_PAE) || !(in->efer & EFER_LMA))
			return -EINVAL;
		if (in->cr3 & cpuid_guest_reserved_gpa(vcpu))
			return -EINVAL;
	} else if (in->efer & EFER_LMA || in->cs.l) {
		return -EINVAL;
	}
	vcpu->cpuid_unset_means_all = true;
	if (!cpu_sregs_valid(vcpu->cpu, in->cr0, in->cr3, in->cr4, in->efer)) {
		vcpu->cpuid_unset_means_all = false;
		return -EINVAL;
	}
	vcpu->cpuid_unset_means_all = false;
	if (!msr_apic_base_is_legal(vcpu, in->apic_base, true))
		return -EINVAL;

	segment_set(&s->seg[CPU_CS], &in->cs);
	segment_set(&s->seg[CPU_DS], &in->ds);
	segment_set(&s->seg[CPU_ES], &in->es);
	segment_set(&s->seg[CPU_FS], &in->fs);
	segment_set(&s->seg[CPU_GS], &in->gs);
	segment_set(&s->seg[CPU_SS], &in->ss);
	segment_set(&s->seg[CPU_TR], &in->tr);
	segment_set(&s->seg[CPU_LDTR], &in->ldt);
	s->gdt = (struct cpu_table){ in->gdt.base, in->gdt.limit };
	s->idt = (struct cpu_table){ in->idt.base, in->idt.limit };
	s->cr0 = in->cr0;
	s->cr2 = in->cr2;
	s->cr3 = in->cr3;
	s->cr4 = in->cr4;
	if (in->cr8 <= 15) {
		s->cr8 = in->cr8;
		if (vcpu->lapic)
			lapic_set_tpr(vcpu->lapic, (uint8_t)(in->cr8 << 4));
	}
	s->efer = in->efer;
	s->apic_base = in->apic_base;
	if (vcpu->lapic)
		lapic_base_changed(vcpu->lapic, in->apic_base);
	/* A client that resets the boot processor by registers alone wants it to run. */
	if (vcpu->id == vcpu->kvm->boot_cpu_id && s->rip == 0xfff0 && in->cs.selector == 0xf000 &&
	    in->cs.base == 0xffff0000 && !(in->cr0 & CR0_PE))
		s->mp_state = CPU_MP_RUNNABLE;
	nested_efer_written(vcpu, efer);
	cpu_state_changed(vcpu->cpu, CPU_CHANGED_MODE | CPU_CHANGED_PAGING);
	return 0;
}

long sregs_set(struct kvm_vcpu *vcpu, const struct kvm_sregs *in)
{
	struct cpu_events *events = &cpu_state(vcpu->cpu)->events;
	long result = sregs_set_common(vcpu, in);

	if (result)
		return result;
	for (unsigned i = 0; i < 4; i++) {
		if (!in->interrupt_bitmap[i])
			continue;
		events->interrupt.injected = true;
		events->interrupt.soft = false;
		events->interrupt.vector = (uint8_t)(i * 64 + (unsigned)__builtin_ctzll(in->interrupt_bitmap[i]));
		break;
	}
	return 0;
}

long vcpu_get_sregs(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct kvm_sregs sregs;

	sregs_get(vcpu, &sregs);
	return user_write(argument, &sregs, sizeof(sregs));
}

long vcpu_set_sregs(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct kvm_sregs sregs;

	if (user_read(&sregs, argument, sizeof(sregs)) != 0)
		return -EFAULT;
	return sregs_set(vcpu, &sregs);
}

/* The flag for valid PDPTEs is not set, because the PDPTEs are always read from memory here. */
long vcpu_get_sregs2(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct kvm_sregs sregs;
	struct kvm_sregs2 out;

	sregs_get(vcpu, &sregs);
	memset(&out, 0, sizeof(out));
	memcpy(&out, &sregs, offsetof(struct kvm_sregs2, flags));
	return user_write(argument, &out, sizeof(out));
}

long vcpu_set_sregs2(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct kvm_sregs2 in;
	struct kvm_sregs sregs;

	if (user_read(&in, argument, sizeof(in)) != 0)
		return -EFAULT;
	if (in.flags)
		return -EINVAL;
	memset(&sregs, 0, sizeof(sregs));
	memcpy(&sregs, &in, offsetof(struct kvm_sregs2, flags));
	return sregs_set_common(vcpu, &sregs);
}

long vcpu_translate(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct kvm_translation t;
	uint64_t gpa = 0;
	bool writable, user;

	if (user_read(&t, argument, sizeof(t)) != 0)
		return -EFAULT;
	/* With paging off an address translates to itself. ~0 then still means "no translation". */
	t.valid = cpu_translate(vcpu->cpu, t.linear_address, &gpa, &writable, &user) && gpa != UINT64_MAX;
	t.physical_address = t.valid ? gpa : UINT64_MAX;
	/* KVM on x86 always answers these two values. */
	t.writeable = 1;
	t.usermode = 0;
	return user_write(argument, &t, sizeof(t));
}
