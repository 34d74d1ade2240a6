/* SPDX-License-Identifier: MIT */
/* KVM_GET/SET_VCPU_EVENTS, KVM_INTERRUPT, KVM_NMI, KVM_SMI, KVM_GET/SET_MP_STATE. */
#include "kvm/vcpu/halt.h"
#include "kvm/vcpu/ioctls.h"
#include "kvm/vcpu/nested.h"
#include "kvm/irq/lapic.h"
#include "kvm/vcpu/regs.h"
#include "kvm/process/user.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <string.h>

#define NMI_VECTOR 2u

static void nmi_collect(struct kvm_vcpu *vcpu)
{
	struct cpu_events *e = &cpu_state(vcpu->cpu)->events;
	/*
	 * At most one NMI is pending while an NMI handler runs or is about to. Otherwise two: one to be
	 * delivered, and one latched behind it.
	 */
	unsigned limit = e->nmi.masked || e->nmi.injected ? 1 : 2, queued, all;

	if (atomic_load_explicit(&vcpu->nmi_queued, memory_order_relaxed) == 0)
		return;
	queued = atomic_exchange(&vcpu->nmi_queued, 0);
	all = queued < limit ? e->nmi.pending + queued : limit;
	e->nmi.pending = (uint8_t)(all < limit ? all : limit);
}

void events_collect(struct kvm_vcpu *vcpu)
{
	nmi_collect(vcpu);
	if (atomic_load_explicit(&vcpu->smi_queued, memory_order_relaxed) && atomic_exchange(&vcpu->smi_queued, false))
		cpu_state(vcpu->cpu)->events.smi.pending = true;
}

void events_get(struct kvm_vcpu *vcpu, struct kvm_vcpu_events *out)
{
	const struct cpu_events *e = &cpu_state(vcpu->cpu)->events;
	bool payload = atomic_load(&vcpu->kvm->exception_payload);

	events_collect(vcpu);
	memset(out, 0, sizeof(*out));
	out->exception.injected = e->exception.injected;
	out->exception.pending = e->exception.pending;
	if (!payload) {
		/* Without KVM_CAP_EXCEPTION_PAYLOAD a pending exception is shown as injected. */
		out->exception.injected |= e->exception.pending;
		out->exception.pending = 0;
	}
	out->exception.nr = e->exception.vector;
	out->exception.has_error_code = e->exception.has_error;
	out->exception.error_code = e->exception.error;
	out->exception_has_payload = payload && e->exception.has_payload;
	out->exception_payload = payload ? e->exception.payload : 0;
	out->interrupt.injected = e->interrupt.injected && !e->interrupt.soft;
	out->interrupt.nr = e->interrupt.vector;
	if (!vcpu->lapic && vcpu->extint >= 0) {
		/* The client's irqchip has given it already, and there is no other place to show it. */
		out->interrupt.injected = true;
		out->interrupt.nr = (uint8_t)vcpu->extint;
	}
	out->interrupt.shadow = e->shadow;
	out->nmi.injected = e->nmi.injected;
	out->nmi.pending = e->nmi.pending;
	out->nmi.masked = e->nmi.masked;
	out->smi.smm = e->smi.smm;
	out->smi.pending = e->smi.pending;
	out->smi.smm_inside_nmi = e->smi.smm && e->smi.inside_nmi;
	out->smi.latched_init = vcpu->lapic && lapic_init_is_latched(vcpu->lapic);
	out->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM;
	if (payload)
		out->flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
	if (atomic_load(&vcpu->kvm->triple_fault_event)) {
		out->triple_fault.pending = e->triple_fault;
		out->flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	}
}

#define EVENT_FLAGS                                                                                                \
	(KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR | KVM_VCPUEVENT_VALID_SHADOW |          \
	 KVM_VCPUEVENT_VALID_SMM | KVM_VCPUEVENT_VALID_PAYLOAD | KVM_VCPUEVENT_VALID_TRIPLE_FAULT)

/* Refuse all that can be refused, before anything changes. */
static long events_check(struct kvm_vcpu *vcpu, struct kvm_vcpu_events *in)
{
	if (in->flags & ~(uint32_t)EVENT_FLAGS)
		return -EINVAL;
	if (in->flags & KVM_VCPUEVENT_VALID_PAYLOAD) {
		if (!atomic_load(&vcpu->kvm->exception_payload))
			return -EINVAL;
		if (in->exception.pending)
			in->exception.injected = 0;
		else
			in->exception_has_payload = 0;
	} else {
		in->exception.pending = 0;
		in->exception_has_payload = 0;
	}
	if ((in->exception.injected || in->exception.pending) &&
	    (in->exception.nr > 31 || in->exception.nr == NMI_VECTOR))
		return -EINVAL;
	/* SMM holds INIT back, so a vCPU in SMM cannot have taken it. */
	if (in->flags & KVM_VCPUEVENT_VALID_SMM && (in->smi.smm || in->smi.pending) &&
	    cpu_state(vcpu->cpu)->mp_state == CPU_MP_INIT_RECEIVED)
		return -EINVAL;
	if (in->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT && !atomic_load(&vcpu->kvm->triple_fault_event))
		return -EINVAL;
	return 0;
}

static void smm_set(struct kvm_vcpu *vcpu, const struct kvm_vcpu_events *in)
{
	struct cpu_events *e = &cpu_state(vcpu->cpu)->events;

	e->smi.pending = in->smi.pending;
	e->smi.from_halt = false;
	if (e->smi.smm != (in->smi.smm != 0)) {
		cpu_nested_leave(vcpu->cpu); /* there is none in SMM, and KVM leaves it in either direction */
		e->smi.smm = in->smi.smm != 0;
		cpu_state_changed(vcpu->cpu, CPU_CHANGED_SMM | CPU_CHANGED_PAGING);
	}
	e->smi.inside_nmi = in->smi.smm && in->smi.smm_inside_nmi;
	if (vcpu->lapic)
		lapic_init_latch(vcpu->lapic, in->smi.latched_init);
}

long events_set(struct kvm_vcpu *vcpu, const struct kvm_vcpu_events *from)
{
	struct kvm_vcpu_events in = *from;
	struct cpu_events *e = &cpu_state(vcpu->cpu)->events;
	long result = events_check(vcpu, &in);

	if (result)
		return result;
	nmi_collect(vcpu);
	e->exception.injected = in.exception.injected;
	e->exception.pending = in.exception.pending;
	e->exception.vector = in.exception.nr;
	e->exception.has_error = in.exception.has_error_code;
	e->exception.error = in.exception.error_code;
	e->exception.has_payload = in.exception_has_payload;
	e->exception.payload = in.exception_payload;
	if (!vcpu->lapic)
		vcpu->extint = -1;
	e->interrupt.injected = in.interrupt.injected;
	e->interrupt.vector = in.interrupt.nr;
	e->interrupt.soft = in.interrupt.soft;
	if (in.flags & KVM_VCPUEVENT_VALID_SHADOW)
		e->shadow = in.interrupt.shadow & (CPU_SHADOW_MOV_SS | CPU_SHADOW_STI);
	e->nmi.injected = in.nmi.injected;
	if (in.flags & KVM_VCPUEVENT_VALID_NMI_PENDING) {
		e->nmi.pending = 0;
		atomic_store(&vcpu->nmi_queued, in.nmi.pending);
	}
	e->nmi.masked = in.nmi.masked;
	nmi_collect(vcpu);
	if (in.flags & KVM_VCPUEVENT_VALID_SMM)
		smm_set(vcpu, &in);
	if (in.flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT)
		e->triple_fault = in.triple_fault.pending;
	if (in.flags & KVM_VCPUEVENT_VALID_SIPI_VECTOR && vcpu->lapic)
		lapic_set_sipi_vector(vcpu->lapic, (uint8_t)in.sipi_vector);
	return 0;
}

long vcpu_get_events(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct kvm_vcpu_events events;

	events_get(vcpu, &events);
	return user_write(argument, &events, sizeof(events));
}

long vcpu_set_events(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct kvm_vcpu_events events;

	if (user_read(&events, argument, sizeof(events)) != 0)
		return -EFAULT;
	return events_set(vcpu, &events);
}

long vcpu_interrupt(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct cpu_events *e = &cpu_state(vcpu->cpu)->events;
	struct kvm_interrupt in;

	if (user_read(&in, argument, sizeof(in)) != 0)
		return -EFAULT;
	if (in.irq >= 256)
		return -EINVAL;
	if (vcpu->kvm->pic)
		return -ENXIO;
	if (vcpu->lapic) {
		/* The client has the PIC: its interrupt is taken when the local APIC lets it through. */
		if (vcpu->extint >= 0)
			return -EEXIST;
		vcpu->extint = (int)in.irq;
		cpu_interrupt_raise(vcpu->cpu);
		return 0;
	}
	if (cpu_state(vcpu->cpu)->svm.guest) {
		/* Whose it is, L1's or L2's, the CPU knows. The vector comes when one of them takes it. */
		vcpu->extint = (int)in.irq;
		cpu_interrupt_raise(vcpu->cpu);
		return 0;
	}
	/*
	 * As in KVM, do not check that the guest can take it: the client has looked at
	 * ready_for_interrupt_injection.
	 */
	e->interrupt.injected = true;
	e->interrupt.soft = false;
	e->interrupt.vector = (uint8_t)in.irq;
	return 0;
}

long vcpu_nmi(struct kvm_vcpu *vcpu, unsigned long argument)
{
	(void)argument;
	atomic_fetch_add(&vcpu->nmi_queued, 1);
	vcpu_wake(vcpu);
	return 0;
}

void vcpu_smi_send(struct kvm_vcpu *vcpu)
{
	atomic_store(&vcpu->smi_queued, true);
	vcpu_wake(vcpu);
	cpu_request_exit(vcpu->cpu);
}

long vcpu_smi(struct kvm_vcpu *vcpu, unsigned long argument)
{
	(void)argument;
	vcpu_smi_send(vcpu);
	return 0;
}

/* ---- multiprocessing state: the CPU's names and KVM's ------------------------------------------ */

static const uint32_t mp_states[] = {
	[CPU_MP_RUNNABLE] = KVM_MP_STATE_RUNNABLE,
	[CPU_MP_HALTED] = KVM_MP_STATE_HALTED,
	[CPU_MP_UNINITIALIZED] = KVM_MP_STATE_UNINITIALIZED,
	[CPU_MP_INIT_RECEIVED] = KVM_MP_STATE_INIT_RECEIVED,
	[CPU_MP_SIPI_RECEIVED] = KVM_MP_STATE_SIPI_RECEIVED,
};

long vcpu_get_mp_state(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct kvm_mp_state out;

	/* An INIT or a SIPI that has come changes the state, so it counts, as in KVM. */
	if (vcpu->lapic)
		halt_take_start(vcpu);
	out.mp_state = mp_states[cpu_state(vcpu->cpu)->mp_state];
	/* A kick that waits is not part of any other state. */
	if (out.mp_state == KVM_MP_STATE_HALTED && atomic_load(&vcpu->pv_kicked))
		out.mp_state = KVM_MP_STATE_RUNNABLE;
	return user_write(argument, &out, sizeof(out));
}

long vcpu_set_mp_state(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct cpu_state *state = cpu_state(vcpu->cpu);
	struct kvm_mp_state in;
	unsigned i;

	if (user_read(&in, argument, sizeof(in)) != 0)
		return -EFAULT;
	for (i = 0; i < sizeof(mp_states) / sizeof(*mp_states); i++)
		if (mp_states[i] == in.mp_state)
			break;
	if (i == sizeof(mp_states) / sizeof(*mp_states))
		return -EINVAL;
	/* Without a local APIC a vCPU is always runnable: HLT exits to the client, and there is no INIT. */
	if (!vcpu->lapic && i != CPU_MP_RUNNABLE)
		return -EINVAL;
	/* An INIT that SMM or GIF holds back is set by KVM_SET_VCPU_EVENTS. A pending SMI would be taken before it. */
	events_collect(vcpu);
	if ((i == CPU_MP_INIT_RECEIVED || i == CPU_MP_SIPI_RECEIVED) &&
	    (state->events.smi.smm || state->events.smi.pending || !state->svm.gif))
		return -EINVAL;
	if (i == CPU_MP_SIPI_RECEIVED) {
		/* INIT was received and the start-up vector is known. The next KVM_RUN starts the vCPU. */
		state->mp_state = CPU_MP_INIT_RECEIVED;
		lapic_queue_sipi(vcpu->lapic);
	} else {
		state->mp_state = (enum cpu_mp_state)i;
	}
	return 0;
}
