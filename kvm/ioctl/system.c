/* SPDX-License-Identifier: MIT */
/* The ioctls of /dev/kvm itself that need no file of their own. */
#include "kvm/ioctl/dispatch.h"
#include "kvm/process/user.h"
#include "kvm/vcpu/cpuid.h"
#include "kvm/vm/vm.h"
#include <errno.h>

long system_api_version(unsigned long argument)
{
	return argument ? -EINVAL : KVM_API_VERSION;
}

long system_create_vm(unsigned long argument)
{
	return vm_create(argument);
}

long system_mmap_size(unsigned long argument)
{
	return argument ? -EINVAL : (long)(RUN_PAGES * VMMU_PAGE_SIZE);
}

/* Attributes of /dev/kvm. There is one: the state components that a guest may have (KVM_X86_XCOMP_GUEST_SUPP). */

static bool attr_exists(const struct kvm_device_attr *attr)
{
	return attr->group == 0 && attr->attr == KVM_X86_XCOMP_GUEST_SUPP;
}

long system_has_attr(unsigned long argument)
{
	struct kvm_device_attr attr;

	if (user_read(&attr, argument, sizeof(attr)) != 0)
		return -EFAULT;
	return attr_exists(&attr) ? 0 : -ENXIO;
}

long system_get_attr(unsigned long argument)
{
	struct kvm_device_attr attr;
	uint64_t value = cpuid_xcr0_max();

	if (user_read(&attr, argument, sizeof(attr)) != 0)
		return -EFAULT;
	if (!attr_exists(&attr))
		return -ENXIO;
	return user_write(attr.addr, &value, sizeof(value)) != 0 ? -EFAULT : 0;
}
