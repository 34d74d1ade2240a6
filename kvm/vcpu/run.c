/* SPDX-License-Identifier: MIT */
/*
 * KVM_RUN: complete the last exit, run the guest, say why it stopped.
 *
 * Once a vCPU has run, KVM_RUN makes no system call but futex, since a client may forbid its vCPU threads all
 * others. So the memory for tables was mapped before (kvm/vm/arena.h), and the threads we need exist. Exceptions:
 * doc/kvm-conformance.md. Signals: kvm/process/signals.h.
 */
#include "kvm/vcpu/run.h"
#include "kvm/vcpu/async_pf.h"
#include "kvm/vcpu/cpuid.h"
#include "kvm/vcpu/halt.h"
#include "kvm/irq/ioeventfd.h"
#include "kvm/irq/irqchip.h"
#include "kvm/irq/lapic.h"
#include "kvm/irq/pv_eoi.h"
#include "kvm/vcpu/msr.h"
#include "kvm/vcpu/nested.h"
#include "kvm/vcpu/pv.h"
#include "kvm/vcpu/regs.h"
#include "kvm/process/signals.h"
#include "kvm/irq/timer.h"
#include "kvm/vm/vm.h"
#include "port/posix/worker.h"
#include <errno.h>
#include <stddef.h>
#include <string.h>

#define CR0_PE    1u

#define SYNC_FIELDS (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)

/* The exit was handled: back into the guest. */
#define RUN_ON 1

#define EXIT_NPF 0x400u /* nested page fault (APM vol. 2, appendix C) */

static long leave(struct kvm_vcpu *vcpu, uint32_t reason, enum exit_counter counter)
{
	vcpu->run->exit_reason = reason;
	count(&vcpu->exits[counter]);
	return 0;
}

/* ---- completing the last exit ------------------------------------------------------------------ */

static void complete(struct kvm_vcpu *vcpu)
{
	struct cpu_exit_info *info = cpu_exit_info(vcpu->cpu);
	struct kvm_run *run = vcpu->run;

	switch (vcpu->completion) {
	case COMPLETE_NOTHING:
		return;
	case COMPLETE_IO_IN:
		memcpy(info->io.data, vcpu->pio, (size_t)info->io.size * info->io.count);
		break;
	case COMPLETE_MMIO_READ:
		memcpy(info->mmio.data, run->mmio.data, info->mmio.len);
		break;
	case COMPLETE_RDMSR:
		info->msr.data = run->msr.data;
		info->msr.failed = run->msr.error != 0;
		break;
	case COMPLETE_WRMSR:
		info->msr.failed = run->msr.error != 0;
		break;
	case COMPLETE_HYPERCALL:
		pv_hypercall_complete(vcpu);
		break;
	}
	vcpu->completion = COMPLETE_NOTHING;
}

/* ---- why the CPU stopped ------------------------------------------------------------------------ */

static long exit_io(struct kvm_vcpu *vcpu, const struct cpu_exit_info *info)
{
	struct kvm_run *run = vcpu->run;

	run->io.direction = info->io.in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT;
	run->io.size = info->io.size;
	run->io.port = info->io.port;
	run->io.count = info->io.count;
	run->io.data_offset = RUN_PIO_PAGE * VMMU_PAGE_SIZE;
	if (info->io.in)
		vcpu->completion = COMPLETE_IO_IN;
	else
		memcpy(vcpu->pio, info->io.data, (size_t)info->io.size * info->io.count);
	/* Clients that know this port from an old KVM expect RIP behind the instruction. */
	if (info->io.port == 0x7e && !quirk_is_off(vcpu->kvm, KVM_X86_QUIRK_OUT_7E_INC_RIP))
		cpu_exit_out_done(vcpu->cpu);
	return leave(vcpu, KVM_EXIT_IO, EXITS_IO);
}

static long exit_mmio(struct kvm_vcpu *vcpu, const struct cpu_exit_info *info)
{
	struct kvm_run *run = vcpu->run;

	run->mmio.phys_addr = info->mmio.gpa;
	run->mmio.len = info->mmio.len;
	run->mmio.is_write = info->mmio.write;
	if (info->mmio.write)
		memcpy(run->mmio.data, info->mmio.data, info->mmio.len);
	else
		vcpu->completion = COMPLETE_MMIO_READ;
	return leave(vcpu, KVM_EXIT_MMIO, EXITS_MMIO);
}

/*
 * Give the guest #UD, as KVM does. Returns: true to run on at once; false to exit to the client, as when the
 * guest's kernel was running.
 */
static bool answer_undefined(struct kvm_vcpu *vcpu)
{
	struct cpu_state *s = cpu_state(vcpu->cpu);

	if (atomic_load(&vcpu->kvm->exit_on_emulation_failure))
		return false;
	s->events.exception.pending = true;
	s->events.exception.vector = UD_VECTOR;
	s->events.exception.has_error = s->events.exception.has_payload = false;
	return (s->cr0 & CR0_PE) && s->seg[CPU_SS].dpl != 0;
}

static long exit_error(struct kvm_vcpu *vcpu, const struct cpu_exit_info *info)
{
	struct kvm_run *run = vcpu->run;

	if (info->error.suberror == CPU_ERROR_EMULATION && info->error.is_instruction && answer_undefined(vcpu))
		return RUN_ON;
	run->internal.suberror = info->error.suberror;
	run->internal.ndata = 0;
	if (info->error.suberror == CPU_ERROR_EMULATION) {
		memset(run->internal.data, 0, sizeof(run->internal.data));
		run->emulation_failure.ndata = 1;
		if (info->error.length) {
			/* Three data words: the flags, then size and bytes in two. */
			run->emulation_failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
			run->emulation_failure.ndata = 3;
			run->emulation_failure.insn_size = info->error.length;
			memset(run->emulation_failure.insn_bytes, 0x90, sizeof(run->emulation_failure.insn_bytes));
			memcpy(run->emulation_failure.insn_bytes, info->error.bytes, info->error.length);
		}
	}
	if (info->error.suberror == CPU_ERROR_DELIVERY_EV) {
		/*
		 * Like KVM's kvm_prepare_event_vectoring_exit on AMD: event, exit code, EXITINFO1, address, last
		 * CPU.
		 */
		run->internal.ndata = 5;
		run->internal.data[0] = info->error.event;
		run->internal.data[1] = EXIT_NPF;
		run->internal.data[2] = info->error.access;
		run->internal.data[3] = info->error.gpa;
		run->internal.data[4] = UINT32_MAX; /* not known here */
	}
	return leave(vcpu, KVM_EXIT_INTERNAL_ERROR, EXITS_ERROR);
}

static long exit_debug(struct kvm_vcpu *vcpu, const struct cpu_exit_info *info)
{
	struct kvm_debug_exit_arch *arch = &vcpu->run->debug.arch;

	arch->exception = info->debug.exception;
	arch->pad = 0;
	arch->pc = info->debug.pc;
	arch->dr6 = info->debug.dr6;
	arch->dr7 = info->debug.dr7;
	return leave(vcpu, KVM_EXIT_DEBUG, EXITS_DEBUG);
}

static long exit_msr(struct kvm_vcpu *vcpu, const struct cpu_exit_info *info, bool write)
{
	struct kvm_run *run = vcpu->run;

	run->msr.error = 0;
	memset(run->msr.pad, 0, sizeof(run->msr.pad));
	run->msr.reason = vcpu->msr_reason;
	run->msr.index = info->msr.index;
	run->msr.data = write ? info->msr.data : 0;
	vcpu->completion = write ? COMPLETE_WRMSR : COMPLETE_RDMSR;
	return leave(vcpu, write ? KVM_EXIT_X86_WRMSR : KVM_EXIT_X86_RDMSR, EXITS_MSR);
}

/* memory_fault of struct kvm_run, which Linux 6.8 added. */
struct memory_fault {
	uint64_t flags, gpa, size;
};
#define EXIT_MEMORY_FAULT 39u

static long exit_host_fault(struct kvm_vcpu *vcpu, const struct cpu_exit_info *info)
{
	struct memory_fault fault = { 0, info->host_fault.gpa & ~(VMMU_PAGE_SIZE - 1), VMMU_PAGE_SIZE };

	memcpy(&vcpu->run->hw, &fault, sizeof(fault));
	leave(vcpu, EXIT_MEMORY_FAULT, EXITS_HOST_FAULT);
	return -EFAULT;
}

static long exit_signal(struct kvm_vcpu *vcpu)
{
	leave(vcpu, KVM_EXIT_INTR, EXITS_SIGNAL);
	return -EINTR;
}

static long exit_hlt(struct kvm_vcpu *vcpu)
{
	if (!vcpu->lapic && atomic_load(&vcpu->kvm->hlt_in_guest)) {
		/* Only a signal can bring an interrupt: the client then has a look. */
		halt_until_signal(vcpu);
		return exit_signal(vcpu);
	}
	if (!vcpu->lapic)
		return leave(vcpu, KVM_EXIT_HLT, EXITS_HLT);
	cpu_state(vcpu->cpu)->mp_state = CPU_MP_HALTED;
	count(&vcpu->exits[EXITS_HLT]);
	return RUN_ON;
}

bool run_must_end(struct kvm_vcpu *vcpu)
{
	return signals_pending() || atomic_load_explicit(&vcpu->cancelled, memory_order_relaxed);
}

/* What the local APIC has for the client comes before a signal: it happened before. */
static long exit_kicked(struct kvm_vcpu *vcpu)
{
	if (vcpu->eoi_vector >= 0) {
		vcpu->run->eoi.vector = (uint8_t)vcpu->eoi_vector;
		vcpu->eoi_vector = -1;
		return leave(vcpu, KVM_EXIT_IOAPIC_EOI, EXITS_EOI);
	}
	if (vcpu->tpr_access != TPR_QUIET) {
		vcpu->run->tpr_access.rip = vcpu->tpr_rip;
		vcpu->run->tpr_access.is_write = vcpu->tpr_access == TPR_WRITTEN;
		vcpu->tpr_access = TPR_QUIET;
		return leave(vcpu, KVM_EXIT_TPR_ACCESS, EXITS_OTHER);
	}
	return run_must_end(vcpu) ? exit_signal(vcpu) : RUN_ON;
}

/* Returns: RUN_ON, 0 for an exit to the client, or -errno. */
static long handle(struct kvm_vcpu *vcpu, enum cpu_exit reason)
{
	const struct cpu_exit_info *info = cpu_exit_info(vcpu->cpu);

	switch (reason) {
	case CPU_EXIT_IO: return exit_io(vcpu, info);
	case CPU_EXIT_MMIO: return exit_mmio(vcpu, info);
	case CPU_EXIT_KICKED: return exit_kicked(vcpu);
	case CPU_EXIT_HLT: return exit_hlt(vcpu);
	case CPU_EXIT_SHUTDOWN: return leave(vcpu, KVM_EXIT_SHUTDOWN, EXITS_SHUTDOWN);
	case CPU_EXIT_INTERNAL_ERROR: return exit_error(vcpu, info);
	case CPU_EXIT_HOST_FAULT: return exit_host_fault(vcpu, info);
	case CPU_EXIT_IRQ_WINDOW: return leave(vcpu, KVM_EXIT_IRQ_WINDOW_OPEN, EXITS_IRQ_WINDOW);
	case CPU_EXIT_DEBUG: return exit_debug(vcpu, info);
	case CPU_EXIT_RDMSR: return exit_msr(vcpu, info, false);
	case CPU_EXIT_WRMSR: return exit_msr(vcpu, info, true);
	case CPU_EXIT_HYPERCALL:
		vcpu->completion = COMPLETE_HYPERCALL;
		return leave(vcpu, KVM_EXIT_HYPERCALL, EXITS_HYPERCALL);
	case CPU_EXIT_RSM: return RUN_ON;
	case CPU_EXIT_PAGE_WAIT:
		async_pf_page_absent(vcpu, info->page_wait.gpa);
		return RUN_ON;
	case CPU_EXIT_RING_FULL: return leave(vcpu, KVM_EXIT_DIRTY_RING_FULL, EXITS_RING_FULL);
	case CPU_EXIT_NOMEM: return -ENOMEM;
	case CPU_EXIT_DEAD: return -EIO;
	}
	return -EIO;
}

/* ---- events and state around a run --------------------------------------------------------------- */

/* Has the client the PIC, and may it give an interrupt of it (KVM_INTERRUPT)? */
static bool takes_client_interrupt(struct kvm_vcpu *vcpu)
{
	if (vcpu->kvm->pic)
		return false;
	return (!vcpu->lapic || lapic_takes_external(vcpu->lapic)) && vcpu->extint < 0;
}

static void window_update(struct kvm_vcpu *vcpu)
{
	bool want = vcpu->run->request_interrupt_window && takes_client_interrupt(vcpu);

	if (want == vcpu->window_wanted)
		return;
	vcpu->window_wanted = want;
	cpu_irq_window_want(vcpu->cpu, want);
}

static long run_guest(struct kvm_vcpu *vcpu)
{
	long result;

	do {
		if (vcpu->lapic) {
			result = halt_accept(vcpu);
			if (result != RUN_ON)
				return result == -EINTR ? exit_signal(vcpu) : result;
		}
		/* After it: what ended a HLT comes before the instruction behind the HLT. */
		events_collect(vcpu);
		pv_look(vcpu);
		window_update(vcpu);
		result = handle(vcpu, cpu_run(vcpu->cpu));
	} while (result == RUN_ON);
	return result;
}

static long run_with_state(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct cpu_state *state = cpu_state(vcpu->cpu);
	bool immediate = run->immediate_exit;

	if ((run->kvm_valid_regs & ~(uint64_t)SYNC_FIELDS) || (run->kvm_dirty_regs & ~(uint64_t)SYNC_FIELDS))
		return -EINVAL;
	if (run->kvm_dirty_regs) {
		long result = regs_sync_in(vcpu);

		if (result)
			return result;
	}
	if (!vcpu->lapic) {
		/* The client's task priority. With a local APIC the priority is that of the APIC. */
		if (run->cr8 & ~UINT64_C(15))
			return -EINVAL;
		state->cr8 = run->cr8;
	}
	complete(vcpu);
	if (immediate) {
		/*
		 * Complete the last instruction and begin no other. Completing it may exit again, by its next
		 * access or a single step.
		 */
		enum cpu_exit reason;
		bool shutdown = state->events.triple_fault;

		state->events.triple_fault = false; /* it stays pending */
		cpu_request_exit(vcpu->cpu);
		reason = cpu_run(vcpu->cpu);
		state->events.triple_fault |= shutdown;
		if (reason != CPU_EXIT_KICKED)
			return handle(vcpu, reason);
		count(&vcpu->exits[EXITS_IMMEDIATE]);
		return -EINTR;
	}
	nested_before_run(vcpu);
	return run_guest(vcpu);
}

static void save(struct kvm_vcpu *vcpu)
{
	struct cpu_state *state = cpu_state(vcpu->cpu);
	struct kvm_run *run = vcpu->run;

	if (vcpu->lapic)
		pv_eoi_settle(vcpu->lapic, true); /* the client may save the vCPU now, and no offer is saved */
	if (run->kvm_valid_regs)
		regs_sync_out(vcpu);
	if (state->events.smi.smm)
		run->flags |= KVM_RUN_X86_SMM;
	run->if_flag = (state->rflags >> 9) & 1;
	run->cr8 = state->cr8;
	run->apic_base = state->apic_base;
	run->ready_for_interrupt_injection =
		vcpu->kvm->pic || (takes_client_interrupt(vcpu) && cpu_interrupt_ready(vcpu->cpu));
}

/* Make the threads now that later runs may need, since those may make none. */
static void first_run(struct kvm_vcpu *vcpu)
{
	vcpu->ran = true;
	rcu_worker_start();
	if (vcpu->lapic)
		timers_start();
	async_pf_start(vcpu);
}

long vcpu_run(struct kvm_vcpu *vcpu, unsigned long argument)
{
	long result;

	if (argument)
		return -EINVAL;
	pthread_mutex_lock(&vcpu->lock);
	cpu_request_clear(vcpu->cpu);
	signals_run_begin(vcpu->cpu, &vcpu->wake, vcpu->mask_set ? &vcpu->mask : NULL);
	count(&vcpu->runs);
	if (!vcpu->ran)
		first_run(vcpu);
	vcpu->run->flags = 0;
	if (vcpu->lapic && cpu_state(vcpu->cpu)->mp_state == CPU_MP_UNINITIALIZED) {
		result = vcpu->run->immediate_exit ? -EINTR : halt_uninitialized(vcpu);
		if (result == -EINTR && run_must_end(vcpu))
			exit_signal(vcpu);
	} else {
		result = run_with_state(vcpu);
	}
	save(vcpu);
	pthread_mutex_unlock(&vcpu->lock);
	signals_run_end();
	return result;
}

/* ---- what the CPU asks ---------------------------------------------------------------------------- */

static void ask_cpuid(void *state, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	cpuid_answer(state, leaf, subleaf, out);
}

static enum cpu_msr_result ask_rdmsr(void *state, uint32_t index, uint64_t *value)
{
	return msr_guest_read(state, index, value);
}

static enum cpu_msr_result ask_wrmsr(void *state, uint32_t index, uint64_t value)
{
	return msr_guest_write(state, index, value);
}

static bool ask_mmio(void *state, bool write, uint64_t gpa, unsigned len, void *data)
{
	struct kvm_vcpu *vcpu = state;

	if (vcpu->lapic && (lapic_mmio(vcpu->lapic, write, gpa, len, data) ||
	                    irqchip_mmio(vcpu, write, gpa, len, data)))
		return true;
	return write && (ioeventfd_write(vcpu->kvm, false, gpa, len, data) ||
	                 coalesced_write(vcpu->kvm, false, gpa, len, data));
}

static bool ask_io(void *state, bool in, uint16_t port, unsigned size, void *data)
{
	struct kvm_vcpu *vcpu = state;

	if (vcpu->lapic && irqchip_io(vcpu, in, port, size, data))
		return true;
	return !in && (ioeventfd_write(vcpu->kvm, true, port, size, data) ||
	               coalesced_write(vcpu->kvm, true, port, size, data));
}

static int ask_interrupt(void *state)
{
	struct kvm_vcpu *vcpu = state;
	int vector;

	pv_look(vcpu);
	/* A debugger that steps may want no interrupt in between. vcpu_set_guest_debug raises what was held back. */
	if (vcpu->debug_control & KVM_GUESTDBG_BLOCKIRQ)
		return -1;
	if (vcpu->lapic)
		return lapic_acknowledge(vcpu->lapic);
	vector = vcpu->extint;
	vcpu->extint = -1;
	return vector;
}

static bool ask_interrupt_pending(void *state)
{
	struct kvm_vcpu *vcpu = state;

	if (vcpu->debug_control & KVM_GUESTDBG_BLOCKIRQ)
		return false;
	return vcpu->lapic ? lapic_has_interrupt(vcpu->lapic) : vcpu->extint >= 0;
}

static void ask_cr8_written(void *state, uint64_t value)
{
	struct kvm_vcpu *vcpu = state;

	if (vcpu->lapic)
		lapic_set_tpr(vcpu->lapic, (uint8_t)(value << 4));
}

static enum cpu_call_result ask_hypercall(void *state)
{
	return pv_hypercall(state);
}

static bool ask_has_monitor(void *state)
{
	struct kvm_vcpu *vcpu = state;
	uint32_t out[4];

	if (!quirk_is_off(vcpu->kvm, KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS))
		return true;
	cpuid_answer(vcpu, 1, 0, out);
	return out[2] & 1u << 3;
}

static bool ask_may_rewrite_vmcall(void *state)
{
	struct kvm_vcpu *vcpu = state;

	return !quirk_is_off(vcpu->kvm, KVM_X86_QUIRK_FIX_HYPERCALL_INSN);
}

static void ask_unblock_fpe(void *state)
{
	(void)state;
	signals_fpe_unblock();
}

const struct cpu_ops run_cpu_ops = {
	.cpuid = ask_cpuid,
	.rdmsr = ask_rdmsr,
	.wrmsr = ask_wrmsr,
	.io = ask_io,
	.mmio = ask_mmio,
	.hypercall = ask_hypercall,
	.interrupt = ask_interrupt,
	.interrupt_pending = ask_interrupt_pending,
	.cr8_written = ask_cr8_written,
	.has_monitor = ask_has_monitor,
	.may_rewrite_vmcall = ask_may_rewrite_vmcall,
	.unblock_fpe = ask_unblock_fpe,
};
