/* SPDX-License-Identifier: MIT */
/* The hypercalls of KVM's paravirtual interface (Documentation/virt/kvm/x86/hypercalls.rst). */
#include "kvm/irq/deliver.h"
#include "kvm/vcpu/pv.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <linux/kvm_para.h>

#define CR0_PE   1u
#define EFER_LMA (1u << 10)

#define ICR_LOGICAL   (1u << 11)
#define ICR_SHORTHAND (3u << 18)

static bool is_long_mode(const struct cpu_state *s)
{
	return s->efer & EFER_LMA && s->seg[CPU_CS].l;
}

/* As in <linux/kvm_para.h>, where it is the guest's. */
struct clock_pairing {
	int64_t sec, nsec;
	uint64_t tsc;
	uint32_t flags, padding[9];
};

/* The time of day, and the guest's TSC at that moment, to `gpa`. */
static int64_t clock_pairing(struct kvm_vcpu *vcpu, uint64_t gpa, uint64_t type)
{
	const struct cpu_state *s = cpu_state(vcpu->cpu);
	struct clock_pairing out = { 0 };
	uint64_t tsc, now;

	if (type != KVM_CLOCK_PAIRING_WALLCLOCK)
		return -KVM_EOPNOTSUPP;
	now = clock_realtime(&tsc);
	out.sec = (int64_t)(now / 1000000000);
	out.nsec = (int64_t)(now % 1000000000);
	out.tsc = cpu_tsc_scale(tsc, s->tsc_ratio) + s->tsc_offset;
	return vmmu_guest_write(vcpu->mmu, (struct vmmu_gpa){ gpa }, &out, sizeof(out)) == VMMU_OK ? 0 : -KVM_EFAULT;
}

static int send_to(struct kvm_vcpu *vcpu, uint64_t ids, uint64_t first, unsigned width, uint64_t icr)
{
	struct irq_message m = { .mode = icr >> 8 & 7, .level = icr >> 15 & 1, .vector = (uint8_t)icr };
	int count = 0;

	for (unsigned i = 0; i < width; i++) {
		if (!(ids >> i & 1) || first + i >= MAX_VCPU_ID || !vm_vcpu(vcpu->kvm, (unsigned)first + i))
			continue;
		m.destination = (uint32_t)first + i;
		count += irq_deliver(vcpu->kvm, vcpu->lapic, &m) > 0;
	}
	return count;
}

/* Interrupts to the APICs whose bits are set in two words, from the ID `first` on. Returns: how many took it. */
static int64_t send_ipi(struct kvm_vcpu *vcpu, const uint64_t args[4])
{
	unsigned width = is_long_mode(cpu_state(vcpu->cpu)) ? 64 : 32;
	uint64_t icr = args[3], first = (uint32_t)args[2];

	if (icr & (ICR_LOGICAL | ICR_SHORTHAND))
		return -KVM_EINVAL;
	if (!vcpu->lapic)
		return -KVM_EOPNOTSUPP;
	return send_to(vcpu, args[0], first, width, icr) + send_to(vcpu, args[1], first + width, width, icr);
}

/* The APIC `id` is no longer to be halted: a lock that its vCPU waits for is free. */
static void kick(struct kvm_vcpu *vcpu, uint64_t id)
{
	struct kvm_vcpu *kicked = id < MAX_VCPU_ID ? vm_vcpu(vcpu->kvm, (unsigned)id) : NULL;

	if (!kicked || !kicked->lapic)
		return;
	atomic_store(&kicked->pv_kicked, true);
	vcpu_wake(kicked);
}

/* Pages become shared or private: the client decides. Returns: true if KVM_RUN leaves for it. */
static bool map_gpa_range(struct kvm_vcpu *vcpu, const uint64_t args[4], int64_t *result)
{
	struct kvm_run *run = vcpu->run;
	uint64_t gpa = args[0], pages = args[1], first = gpa / VMMU_PAGE_SIZE;

	if (!(atomic_load(&vcpu->kvm->hypercall_exits) & UINT64_C(1) << KVM_HC_MAP_GPA_RANGE))
		return false; /* as if there were none: `result` stays */
	if (gpa % VMMU_PAGE_SIZE || pages == 0 || first + pages <= first) {
		*result = -KVM_EINVAL;
		return false;
	}
	run->hypercall.nr = KVM_HC_MAP_GPA_RANGE;
	for (unsigned i = 0; i < 6; i++)
		run->hypercall.args[i] = i < 3 ? args[i] : 0;
	run->hypercall.ret = 0;
	run->hypercall.longmode = is_long_mode(cpu_state(vcpu->cpu));
	run->hypercall.pad = 0;
	return true;
}

/* Returns: true if KVM_RUN leaves for it. */
static bool call(struct kvm_vcpu *vcpu, uint64_t number, const uint64_t args[4], int64_t *result)
{
	switch (number) {
	case KVM_HC_VAPIC_POLL_IRQ: /* only wants an exit */
		*result = 0;
		return false;
	case KVM_HC_KICK_CPU:
		if (!pv_has(vcpu, KVM_FEATURE_PV_UNHALT))
			return false;
		kick(vcpu, args[1]);
		*result = 0;
		return false;
	case KVM_HC_CLOCK_PAIRING:
		*result = clock_pairing(vcpu, args[0], args[1]);
		return false;
	case KVM_HC_SEND_IPI:
		if (pv_has(vcpu, KVM_FEATURE_PV_SEND_IPI))
			*result = send_ipi(vcpu, args);
		return false;
	case KVM_HC_SCHED_YIELD: /* the host's scheduler knows which of our threads run */
		if (pv_has(vcpu, KVM_FEATURE_PV_SCHED_YIELD))
			*result = 0;
		return false;
	case KVM_HC_MAP_GPA_RANGE:
		return map_gpa_range(vcpu, args, result);
	default:
		return false;
	}
}

enum cpu_call_result pv_hypercall(struct kvm_vcpu *vcpu)
{
	struct cpu_state *s = cpu_state(vcpu->cpu);
	uint64_t mask = is_long_mode(s) ? UINT64_MAX : UINT32_MAX;
	const uint64_t args[4] = { s->gpr[CPU_RBX] & mask, s->gpr[CPU_RCX] & mask, s->gpr[CPU_RDX] & mask,
		s->gpr[CPU_RSI] & mask };
	int64_t result = -KVM_ENOSYS;

	if (s->cr0 & CR0_PE && s->seg[CPU_SS].dpl != 0)
		result = -KVM_EPERM;
	else if (call(vcpu, s->gpr[CPU_RAX] & mask, args, &result))
		return CPU_CALL_EXIT;
	s->gpr[CPU_RAX] = (uint64_t)result & mask;
	return CPU_CALL_OK;
}

void pv_hypercall_complete(struct kvm_vcpu *vcpu)
{
	struct cpu_state *s = cpu_state(vcpu->cpu);

	s->gpr[CPU_RAX] = vcpu->run->hypercall.ret & (is_long_mode(s) ? UINT64_MAX : UINT32_MAX);
}
