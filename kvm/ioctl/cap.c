/* SPDX-License-Identifier: MIT */
/*
 * Capabilities: which there are, from the table in kvm/report/surface.c, and how a client enables those that are
 * off at first.
 */
#include "kvm/irq/irqchip.h"
#include "kvm/process/config.h"
#include "kvm/vcpu/cpuid.h"
#include "kvm/vcpu/nested.h"
#include "kvm/ioctl/dispatch.h"
#include "kvm/report/surface.h"
#include "kvm/report/unknown.h"
#include "kvm/process/user.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <linux/kvm_para.h>
#include <unistd.h>

static long vcpus_recommended(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	return cpus < 1 ? 1 : cpus > (long)MAX_VCPUS ? (long)MAX_VCPUS : cpus;
}

/* The quirks that can be disabled: those of Linux 6.12. CD_NW_CLEARED is about caches, which the CPU does not have. */
#define QUIRKS                                                                                                     \
	(KVM_X86_QUIRK_LINT0_REENABLED | KVM_X86_QUIRK_CD_NW_CLEARED | KVM_X86_QUIRK_LAPIC_MMIO_HOLE |             \
	 KVM_X86_QUIRK_OUT_7E_INC_RIP | KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT | KVM_X86_QUIRK_FIX_HYPERCALL_INSN |    \
	 KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS | SURFACE_QUIRK_SLOT_ZAP_ALL)
_Static_assert(QUIRKS == 0xff, "the value of KVM_CAP_DISABLE_QUIRKS2 in kvm/report/surface.c");

static long cap_compute(unsigned long number)
{
	switch (number) {
	case KVM_CAP_NR_VCPUS: return vcpus_recommended();
	case KVM_CAP_NESTED_STATE: return nested_state_bytes();
	case KVM_CAP_XCRS: return cpuid_has_xsave();
	case SURFACE_CAP_PRE_FAULT_MEMORY: return config_mmu() == VMMU_MMU_TDP;
	default: return 0;
	}
}

static long cap_value(unsigned long number)
{
	const struct surface_cap *cap = number <= UINT32_MAX ? surface_cap_find((unsigned)number) : NULL;
	long value = !cap ? 0 : cap->value == SURFACE_COMPUTED ? cap_compute(number) : cap->value;

	if (!value)
		unknown_cap((unsigned)number);
	return value;
}

long system_check_extension(unsigned long argument)
{
	return cap_value(argument);
}

long vm_check_extension(struct kvm *kvm, unsigned long argument)
{
	(void)kvm;
	return cap_value(argument);
}

/* Enable dirty rings of `bytes` each, for vCPUs that do not exist yet. Holds: the VM's lock. */
static long enable_ring(struct kvm *kvm, uint64_t bytes)
{
	uint64_t entries = bytes / sizeof(struct kvm_dirty_gfn);

	/* The size must be a power of two and at least a page, so that KVM's reserve fits. */
	if (!bytes || bytes & (bytes - 1) || bytes < VMMU_PAGE_SIZE)
		return -EINVAL;
	if (entries > VMMU_DIRTY_RING_MAX)
		return -E2BIG;
	if (kvm->ring_bytes)
		return -EINVAL;
	if (kvm->vcpu_count)
		return -EINVAL;
	if (vmmu_dirty_ring_enable(kvm->mmu, (uint32_t)entries) != VMMU_OK)
		return -EINVAL;
	kvm->ring_bytes = (uint32_t)bytes;
	return 0;
}

static long enable_manual_protect(struct kvm *kvm, uint64_t mode)
{
	unsigned vmmu_mode = (mode & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE ? VMMU_DIRTY_MANUAL_PROTECT : 0) |
	                     (mode & KVM_DIRTY_LOG_INITIALLY_SET ? VMMU_DIRTY_INITIALLY_SET : 0);

	if (mode & ~(uint64_t)(KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET))
		return -EINVAL;
	/* Like KVM, refuse the second bit without the first. */
	if (!(mode & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE) && mode)
		return -EINVAL;
	if (vmmu_dirty_mode_set(kvm->mmu, vmmu_mode) != VMMU_OK)
		return -EINVAL;
	kvm->dirty_mode = vmmu_mode;
	return 0;
}

static long enable_max_vcpu_id(struct kvm *kvm, uint64_t max)
{
	if (max > MAX_VCPU_ID || kvm->boot_cpu_id > max)
		return -EINVAL;
	if (kvm->max_vcpu_id == max)
		return 0;
	if (kvm->max_vcpu_id || kvm->vcpu_count)
		return -EINVAL;
	kvm->max_vcpu_id = (unsigned)max;
	return 0;
}

/* Those that were disabled before, and are not now, come back. */
static long disable_quirks(struct kvm *kvm, uint64_t quirks)
{
	atomic_store(&kvm->quirks_off, quirks);
	vmmu_slot_delete_set(kvm->mmu, quirks & SURFACE_QUIRK_SLOT_ZAP_ALL);
	return 0;
}

/* Errors: EINVAL: a period of 128 times the greatest count would not fit into 64 bits of ns; there are vCPUs. */
static long enable_apic_bus(struct kvm *kvm, uint64_t ns)
{
	if (!ns || ns > UINT64_MAX / (UINT32_MAX * UINT64_C(128)))
		return -EINVAL;
	if (atomic_load(&kvm->irqchip) == IRQCHIP_NONE)
		return -ENXIO;
	if (kvm->vcpu_count)
		return -EINVAL;
	kvm->apic_bus_ns = ns;
	return 0;
}

/* A capability whose argument is on or off. */
static long enable_switch(atomic_bool *to, uint64_t value)
{
	atomic_store(to, value != 0);
	return 0;
}

static long enable_locked(struct kvm *kvm, const struct kvm_enable_cap *cap)
{
	uint64_t value = cap->args[0];

	switch (cap->cap) {
	case KVM_CAP_DIRTY_LOG_RING:
	case KVM_CAP_DIRTY_LOG_RING_ACQ_REL:
		return enable_ring(kvm, value);
	case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
		return cap->flags ? -EINVAL : enable_manual_protect(kvm, value);
	case KVM_CAP_MAX_VCPU_ID:
		return value == 0 ? -EINVAL : enable_max_vcpu_id(kvm, value);
	case KVM_CAP_EXIT_ON_EMULATION_FAILURE:
		return value & ~UINT64_C(1) ? -EINVAL : enable_switch(&kvm->exit_on_emulation_failure, value);
	case KVM_CAP_EXCEPTION_PAYLOAD:
		return enable_switch(&kvm->exception_payload, value);
	case KVM_CAP_X86_TRIPLE_FAULT_EVENT:
		return enable_switch(&kvm->triple_fault_event, value);
	case KVM_CAP_MSR_PLATFORM_INFO:
		/* On by default, so the opposite is kept. */
		return enable_switch(&kvm->hide_platform_info, !value);
	case KVM_CAP_X86_USER_SPACE_MSR:
		if (value & ~(uint64_t)(KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN |
		                        KVM_MSR_EXIT_REASON_FILTER))
			return -EINVAL;
		atomic_store(&kvm->user_msr_mask, (unsigned)value);
		return 0;
	case KVM_CAP_SPLIT_IRQCHIP:
		return irqchip_split(kvm, value);
	case KVM_CAP_X2APIC_API:
		if (value & ~(uint64_t)(KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK))
			return -EINVAL;
		if (value & KVM_X2APIC_API_USE_32BIT_IDS)
			atomic_store(&kvm->x2apic_ids, true);
		if (value & KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK)
			atomic_store(&kvm->x2apic_exact, true);
		return 0;
	case KVM_CAP_DISABLE_QUIRKS2:
		if (value & ~(uint64_t)QUIRKS)
			return -EINVAL;
		return disable_quirks(kvm, value);
	case KVM_CAP_DISABLE_QUIRKS:
		return disable_quirks(kvm, value & QUIRKS); /* quirks that do not exist are no error here */
	case SURFACE_CAP_APIC_BUS_CYCLES_NS:
		return enable_apic_bus(kvm, value);
	case KVM_CAP_EXIT_HYPERCALL:
		if (value & ~(UINT64_C(1) << KVM_HC_MAP_GPA_RANGE))
			return -EINVAL;
		atomic_store(&kvm->hypercall_exits, value);
		return 0;
	case KVM_CAP_X86_DISABLE_EXITS:
		/* PAUSE never exits. */
		if (value & ~(uint64_t)(KVM_X86_DISABLE_EXITS_PAUSE | KVM_X86_DISABLE_EXITS_HLT))
			return -EINVAL;
		if (value & KVM_X86_DISABLE_EXITS_HLT)
			atomic_store(&kvm->hlt_in_guest, true);
		return 0;
	default:
		unknown_cap(cap->cap);
		return -EINVAL;
	}
}

long vm_enable_cap(struct kvm *kvm, unsigned long argument)
{
	struct kvm_enable_cap cap;
	long result;

	if (user_read(&cap, argument, sizeof(cap)) != 0)
		return -EFAULT;
	if (cap.flags)
		return -EINVAL;
	pthread_mutex_lock(&kvm->lock);
	result = enable_locked(kvm, &cap);
	pthread_mutex_unlock(&kvm->lock);
	return result;
}
