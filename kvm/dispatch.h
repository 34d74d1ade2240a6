/* SPDX-License-Identifier: MIT */
/*
 * From an ioctl number to the function that answers it.
 *
 * A handler gets the object and the raw argument, copies what it needs from the client itself (user_read), and returns a
 * value or -errno. vCPU handlers are called with the vCPU's mutex held, except those of vcpu_ioctl_unlocked.
 */
#ifndef VMMU_KVM_DISPATCH_H
#define VMMU_KVM_DISPATCH_H

#include "kvm/file.h"
#include <stdint.h>

struct vm;
struct vcpu;

typedef long (*system_handler)(unsigned long argument);
typedef long (*vm_handler)(struct vm *vm, unsigned long argument);
typedef long (*vcpu_handler)(struct vcpu *vcpu, unsigned long argument);

/* A table entry: the whole request number, which contains the size of its argument. */
struct system_ioctl {
	uint32_t request;
	system_handler handler;
};
struct vm_ioctl {
	uint32_t request;
	vm_handler handler;
};
struct vcpu_ioctl {
	uint32_t request;
	vcpu_handler handler;
};

/* The tables end with a NULL handler. */
extern const struct system_ioctl system_ioctls[];
extern const struct vm_ioctl vm_ioctls[];
extern const struct vcpu_ioctl vcpu_ioctls[];

/** Answer an ioctl on one of our files. Returns: a value or -errno. */
long dispatch(struct file *file, unsigned int request, unsigned long argument);

#define DECLARE_SYSTEM(name) long name(unsigned long argument)
#define DECLARE_VM(name)     long name(struct vm *vm, unsigned long argument)
#define DECLARE_VCPU(name)   long name(struct vcpu *vcpu, unsigned long argument)

/* system.c, cpuid.c, msr.c */
DECLARE_SYSTEM(system_api_version);
DECLARE_SYSTEM(system_create_vm);
DECLARE_SYSTEM(system_check_extension);
DECLARE_SYSTEM(system_mmap_size);
DECLARE_SYSTEM(system_mce_cap);
DECLARE_SYSTEM(system_supported_cpuid);
DECLARE_SYSTEM(system_emulated_cpuid);
DECLARE_SYSTEM(system_msr_list);
DECLARE_SYSTEM(system_msr_feature_list);
DECLARE_SYSTEM(system_get_msrs);

/* vm.c, cap.c, slots.c, irq.c, ioeventfd.c, stats_fd.c */
DECLARE_VM(vm_check_extension);
DECLARE_VM(vm_enable_cap);
DECLARE_VM(vm_create_vcpu);
DECLARE_VM(vm_set_region);
DECLARE_VM(vm_get_dirty_log);
DECLARE_VM(vm_clear_dirty_log);
DECLARE_VM(vm_reset_rings);
DECLARE_VM(vm_set_nr_mmu_pages);
DECLARE_VM(vm_get_nr_mmu_pages);
DECLARE_VM(vm_set_tss_addr);
DECLARE_VM(vm_set_identity_map);
DECLARE_VM(vm_set_boot_cpu);
DECLARE_VM(vm_create_irqchip);
DECLARE_VM(vm_set_gsi_routing);
DECLARE_VM(vm_signal_msi);
DECLARE_VM(vm_ioeventfd);
DECLARE_VM(vm_irq_line);
DECLARE_VM(vm_irq_line_status);
DECLARE_VM(vm_set_tsc_khz);
DECLARE_VM(vm_get_tsc_khz);
DECLARE_VM(vm_get_clock);
DECLARE_VM(vm_set_clock);
DECLARE_VM(vm_set_msr_filter);
DECLARE_VM(vm_stats_fd);

/* regs.c, sregs.c, fpu.c, msr.c, cpuid.c, events.c, debug.c, vcpu.c, irq.c */
DECLARE_VCPU(vcpu_get_regs);
DECLARE_VCPU(vcpu_set_regs);
DECLARE_VCPU(vcpu_get_sregs);
DECLARE_VCPU(vcpu_set_sregs);
DECLARE_VCPU(vcpu_get_sregs2);
DECLARE_VCPU(vcpu_set_sregs2);
DECLARE_VCPU(vcpu_translate);
DECLARE_VCPU(vcpu_get_fpu);
DECLARE_VCPU(vcpu_set_fpu);
DECLARE_VCPU(vcpu_get_xsave);
DECLARE_VCPU(vcpu_get_xsave2);
DECLARE_VCPU(vcpu_set_xsave);
DECLARE_VCPU(vcpu_get_xcrs);
DECLARE_VCPU(vcpu_set_xcrs);
DECLARE_VCPU(vcpu_get_msrs);
DECLARE_VCPU(vcpu_set_msrs);
DECLARE_VCPU(vcpu_set_cpuid);
DECLARE_VCPU(vcpu_set_cpuid2);
DECLARE_VCPU(vcpu_get_cpuid2);
DECLARE_VCPU(vcpu_get_mp_state);
DECLARE_VCPU(vcpu_set_mp_state);
DECLARE_VCPU(vcpu_get_events);
DECLARE_VCPU(vcpu_set_events);
DECLARE_VCPU(vcpu_get_debugregs);
DECLARE_VCPU(vcpu_set_debugregs);
DECLARE_VCPU(vcpu_set_guest_debug);
DECLARE_VCPU(vcpu_set_signal_mask);
DECLARE_VCPU(vcpu_interrupt);
DECLARE_VCPU(vcpu_nmi);
DECLARE_VCPU(vcpu_get_lapic);
DECLARE_VCPU(vcpu_set_lapic);
DECLARE_VCPU(vcpu_setup_mce);
DECLARE_VCPU(vcpu_set_mce);
DECLARE_VCPU(vcpu_enable_cap);
DECLARE_VCPU(vcpu_set_tsc_khz);
DECLARE_VCPU(vcpu_get_tsc_khz);
DECLARE_VCPU(vcpu_kvmclock_ctrl);
DECLARE_VCPU(vcpu_prefault);
DECLARE_VCPU(vcpu_stats_fd);

#endif
