/* SPDX-License-Identifier: MIT */
/*
 * From an ioctl number to the function that answers it, its handler.
 *
 * A handler gets the object and the raw argument. It copies what it needs from the client (user_read), and
 * returns a value or -errno. Handlers of a vCPU are called with the vCPU's mutex held, except those of KVM_RUN
 * and KVM_GET_STATS_FD.
 */
#ifndef VMMU_KVM_DISPATCH_H
#define VMMU_KVM_DISPATCH_H

#include "kvm/process/file.h"
#include <stdint.h>

struct kvm;
struct kvm_vcpu;

typedef long (*system_handler)(unsigned long argument);
typedef long (*vm_handler)(struct kvm *kvm, unsigned long argument);
typedef long (*vcpu_handler)(struct kvm_vcpu *vcpu, unsigned long argument);

/* An entry of a table. The request number contains the size of the argument. */
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

/* Each table ends with a NULL handler. */
extern const struct system_ioctl system_ioctls[];
extern const struct vm_ioctl vm_ioctls[];
extern const struct vcpu_ioctl vcpu_ioctls[];

/** Answer an ioctl on one of our files. Returns: a value or -errno. */
long dispatch(struct file *file, unsigned int request, unsigned long argument);

/* system.c and cap.c. The other handlers are declared in the folders that define them, as in kvm/vm/ioctls.h. */
long system_api_version(unsigned long argument);
long system_create_vm(unsigned long argument);
long system_check_extension(unsigned long argument);
long system_mmap_size(unsigned long argument);
long system_has_attr(unsigned long argument);
long system_get_attr(unsigned long argument);
long vm_check_extension(struct kvm *kvm, unsigned long argument);
long vm_enable_cap(struct kvm *kvm, unsigned long argument);

#endif
