/* SPDX-License-Identifier: MIT */
/* The ioctls of /dev/kvm itself that need no file of their own, and what happens when the process forks or ends. */
#include "kvm/config.h"
#include "kvm/dispatch.h"
#include "kvm/file.h"
#include "kvm/handlers.h"
#include "kvm/host_memory.h"
#include "kvm/lapic_timer.h"
#include "kvm/machines.h"
#include "kvm/signals.h"
#include "kvm/stats.h"
#include "kvm/vm.h"
#include "port/posix/fork.h"
#include <errno.h>
#include <stddef.h>

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

/*
 * All static locks of the front end, outermost first. Host memory comes before everything: it brings pages back, and its thread finishes what it does with
 * the VMs. The child has copies of our structures but none of the threads: the files that it inherited are the parent's (-EIO, as KVM says).
 */
static fork_fn *const fork_list[] = {
	host_memory_fork, machines_fork, lapic_timer_fork, stats_fork, handlers_fork, file_fork, NULL,
};

__attribute__((constructor)) static void begin(void)
{
	config_init();
	file_init();
	handlers_begin();
	posix_fork_above(fork_list);
}

__attribute__((destructor)) static void end(void)
{
	stats_at_exit();
}
