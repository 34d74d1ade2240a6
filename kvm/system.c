/* SPDX-License-Identifier: MIT */
/* The ioctls of /dev/kvm itself that need no file of their own, and what happens when the process forks or ends. */
#include "kvm/config.h"
#include "kvm/dispatch.h"
#include "kvm/file.h"
#include "kvm/lapic_timer.h"
#include "kvm/machines.h"
#include "kvm/signals.h"
#include "kvm/stats.h"
#include "kvm/vm.h"
#include <errno.h>
#include <pthread.h>

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

/* The child has copies of our structures but none of the threads: what it inherited is the parent's (-EIO, as KVM says). */
static void fork_child(void)
{
	file_fork_child();
	machines_fork_child();
	lapic_timer_fork_child();
}

__attribute__((constructor)) static void begin(void)
{
	config_init();
	pthread_atfork(NULL, NULL, fork_child);
}

__attribute__((destructor)) static void end(void)
{
	stats_at_exit();
}
