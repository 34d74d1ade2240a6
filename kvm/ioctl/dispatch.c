/* SPDX-License-Identifier: MIT */
/* The ioctl tables, and the answer to a number that is in none. */
#include "kvm/ioctl/dispatch.h"
#include "kvm/irq/ioctls.h"
#include "kvm/report/ioctls.h"
#include "kvm/report/surface.h"
#include "kvm/report/unknown.h"
#include "kvm/vcpu/ioctls.h"
#include "kvm/vcpu/run.h"
#include "kvm/vm/ioctls.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <stddef.h>

const struct system_ioctl system_ioctls[] = {
	{ KVM_GET_API_VERSION, system_api_version },
	{ KVM_CREATE_VM, system_create_vm },
	{ KVM_CHECK_EXTENSION, system_check_extension },
	{ KVM_GET_VCPU_MMAP_SIZE, system_mmap_size },
	{ KVM_GET_SUPPORTED_CPUID, system_supported_cpuid },
	{ KVM_GET_EMULATED_CPUID, system_emulated_cpuid },
	{ KVM_GET_MSR_INDEX_LIST, system_msr_list },
	{ KVM_GET_MSR_FEATURE_INDEX_LIST, system_msr_feature_list },
	{ KVM_GET_MSRS, system_get_msrs },
	{ KVM_X86_GET_MCE_CAP_SUPPORTED, system_mce_cap },
	{ KVM_HAS_DEVICE_ATTR, system_has_attr },
	{ KVM_GET_DEVICE_ATTR, system_get_attr },
	{ 0, NULL },
};

const struct vm_ioctl vm_ioctls[] = {
	{ KVM_CHECK_EXTENSION, vm_check_extension },
	{ KVM_SET_USER_MEMORY_REGION, vm_set_region },
	{ SURFACE_SET_USER_MEMORY_REGION2, vm_set_region2 },
	{ KVM_GET_DIRTY_LOG, vm_get_dirty_log },
	{ KVM_CLEAR_DIRTY_LOG, vm_clear_dirty_log },
	{ KVM_RESET_DIRTY_RINGS, vm_reset_rings },
	{ KVM_CREATE_VCPU, vm_create_vcpu },
	{ KVM_ENABLE_CAP, vm_enable_cap },
	{ KVM_SET_NR_MMU_PAGES, vm_set_nr_mmu_pages },
	{ KVM_GET_NR_MMU_PAGES, vm_get_nr_mmu_pages },
	{ KVM_SET_TSS_ADDR, vm_set_tss_addr },
	{ KVM_SET_IDENTITY_MAP_ADDR, vm_set_identity_map },
	{ KVM_SET_BOOT_CPU_ID, vm_set_boot_cpu },
	{ KVM_CREATE_IRQCHIP, vm_create_irqchip },
	{ KVM_GET_IRQCHIP, vm_get_irqchip },
	{ KVM_SET_IRQCHIP, vm_set_irqchip },
	{ KVM_CREATE_PIT, vm_create_pit },
	{ KVM_CREATE_PIT2, vm_create_pit2 },
	{ KVM_GET_PIT, vm_get_pit },
	{ KVM_SET_PIT, vm_set_pit },
	{ KVM_GET_PIT2, vm_get_pit2 },
	{ KVM_SET_PIT2, vm_set_pit2 },
	{ KVM_REINJECT_CONTROL, vm_reinject_control },
	{ KVM_SET_GSI_ROUTING, vm_set_gsi_routing },
	{ KVM_SIGNAL_MSI, vm_signal_msi },
	{ KVM_IOEVENTFD, vm_ioeventfd },
	{ KVM_IRQFD, vm_irqfd },
	{ KVM_REGISTER_COALESCED_MMIO, vm_register_coalesced },
	{ KVM_UNREGISTER_COALESCED_MMIO, vm_unregister_coalesced },
	{ KVM_IRQ_LINE, vm_irq_line },
	{ KVM_IRQ_LINE_STATUS, vm_irq_line_status },
	{ KVM_SET_TSC_KHZ, vm_set_tsc_khz },
	{ KVM_GET_TSC_KHZ, vm_get_tsc_khz },
	{ KVM_GET_CLOCK, vm_get_clock },
	{ KVM_SET_CLOCK, vm_set_clock },
	{ KVM_X86_SET_MSR_FILTER, vm_set_msr_filter },
	{ KVM_GET_STATS_FD, vm_stats_fd },
	{ 0, NULL },
};

const struct vcpu_ioctl vcpu_ioctls[] = {
	{ KVM_GET_REGS, vcpu_get_regs },
	{ KVM_SET_REGS, vcpu_set_regs },
	{ KVM_GET_SREGS, vcpu_get_sregs },
	{ KVM_SET_SREGS, vcpu_set_sregs },
	{ KVM_GET_SREGS2, vcpu_get_sregs2 },
	{ KVM_SET_SREGS2, vcpu_set_sregs2 },
	{ KVM_TRANSLATE, vcpu_translate },
	{ KVM_GET_FPU, vcpu_get_fpu },
	{ KVM_SET_FPU, vcpu_set_fpu },
	{ KVM_GET_XSAVE, vcpu_get_xsave },
	{ KVM_GET_XSAVE2, vcpu_get_xsave2 },
	{ KVM_SET_XSAVE, vcpu_set_xsave },
	{ KVM_GET_XCRS, vcpu_get_xcrs },
	{ KVM_SET_XCRS, vcpu_set_xcrs },
	{ KVM_GET_MSRS, vcpu_get_msrs },
	{ KVM_SET_MSRS, vcpu_set_msrs },
	{ KVM_SET_CPUID, vcpu_set_cpuid },
	{ KVM_SET_CPUID2, vcpu_set_cpuid2 },
	{ KVM_GET_CPUID2, vcpu_get_cpuid2 },
	{ KVM_GET_MP_STATE, vcpu_get_mp_state },
	{ KVM_SET_MP_STATE, vcpu_set_mp_state },
	{ KVM_GET_VCPU_EVENTS, vcpu_get_events },
	{ KVM_SET_VCPU_EVENTS, vcpu_set_events },
	{ KVM_GET_DEBUGREGS, vcpu_get_debugregs },
	{ KVM_SET_DEBUGREGS, vcpu_set_debugregs },
	{ KVM_SET_GUEST_DEBUG, vcpu_set_guest_debug },
	{ KVM_SET_SIGNAL_MASK, vcpu_set_signal_mask },
	{ KVM_INTERRUPT, vcpu_interrupt },
	{ KVM_NMI, vcpu_nmi },
	{ KVM_SMI, vcpu_smi },
	{ KVM_GET_LAPIC, vcpu_get_lapic },
	{ KVM_SET_LAPIC, vcpu_set_lapic },
	{ KVM_SET_VAPIC_ADDR, vcpu_set_vapic_addr },
	{ KVM_TPR_ACCESS_REPORTING, vcpu_tpr_access_reporting },
	{ KVM_X86_SETUP_MCE, vcpu_setup_mce },
	{ KVM_X86_SET_MCE, vcpu_set_mce },
	{ KVM_ENABLE_CAP, vcpu_enable_cap },
	{ KVM_SET_TSC_KHZ, vcpu_set_tsc_khz },
	{ KVM_GET_TSC_KHZ, vcpu_get_tsc_khz },
	{ KVM_KVMCLOCK_CTRL, vcpu_kvmclock_ctrl },
	{ KVM_HAS_DEVICE_ATTR, vcpu_has_attr },
	{ KVM_GET_DEVICE_ATTR, vcpu_get_attr },
	{ KVM_SET_DEVICE_ATTR, vcpu_set_attr },
	{ KVM_GET_NESTED_STATE, vcpu_get_nested_state },
	{ KVM_SET_NESTED_STATE, vcpu_set_nested_state },
	{ SURFACE_PRE_FAULT_MEMORY, vcpu_prefault },
	{ KVM_GET_STATS_FD, vcpu_stats_fd },
	{ 0, NULL },
};

/* A number that KVM knows and we do not is ENOTTY. A number that KVM does not know here gets KVM's own answer. */
static long refuse(uint32_t request, long kvm_answer)
{
	const struct surface_ioctl *known = surface_ioctl_find(request);

	if (known && known->status != SURFACE_REFUSED)
		return kvm_answer; /* it exists for another kind of file */
	unknown_ioctl(request);
	return known ? -ENOTTY : kvm_answer;
}

static long dispatch_system(uint32_t request, unsigned long argument)
{
	for (const struct system_ioctl *i = system_ioctls; i->handler; i++)
		if (i->request == request)
			return i->handler(argument);
	return refuse(request, -EINVAL);
}

static long dispatch_vm(struct kvm *kvm, uint32_t request, unsigned long argument)
{
	for (const struct vm_ioctl *i = vm_ioctls; i->handler; i++)
		if (i->request == request)
			return i->handler(kvm, argument);
	return refuse(request, -ENOTTY);
}

static long dispatch_vcpu(struct kvm_vcpu *vcpu, uint32_t request, unsigned long argument)
{
	long result;

	if (_IOC_TYPE(request) != KVMIO)
		return -EINVAL;
	/* KVM_RUN first, as the most frequent. vcpu_run takes the mutex itself. */
	if (request == KVM_RUN)
		return vcpu_run(vcpu, argument);
	for (const struct vcpu_ioctl *i = vcpu_ioctls; i->handler; i++) {
		if (i->request != request)
			continue;
		/* KVM_GET_STATS_FD may come while another thread is in KVM_RUN, so it takes no mutex. */
		if (request == KVM_GET_STATS_FD)
			return i->handler(vcpu, argument);
		pthread_mutex_lock(&vcpu->lock);
		result = i->handler(vcpu, argument);
		pthread_mutex_unlock(&vcpu->lock);
		return result;
	}
	return refuse(request, -EINVAL);
}

long dispatch(struct file *file, unsigned int request, unsigned long argument)
{
	if (file->foreign)
		return -EIO;
	switch (file->kind) {
	case FILE_SYSTEM:
		return dispatch_system(request, argument);
	case FILE_VM:
		return dispatch_vm(file->object, request, argument);
	case FILE_VCPU:
		return dispatch_vcpu(file->object, request, argument);
	case FILE_STATS:
		break;
	}
	return -ENOTTY;
}
