/* SPDX-License-Identifier: MIT */
/* The ioctls of /dev/kvm itself that need no file of their own. */
#include "kvm/ioctl/dispatch.h"
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
