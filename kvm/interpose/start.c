/* SPDX-License-Identifier: MIT */
/* What happens when the library is loaded, when the process forks, and when it ends. */
#include "kvm/interpose/break.h"
#include "kvm/process/config.h"
#include "kvm/process/file.h"
#include "kvm/process/handlers.h"
#include "kvm/vm/host_memory.h"
#include "kvm/irq/irqfd.h"
#include "kvm/irq/timer.h"
#include "kvm/vm/machines.h"
#include "kvm/report/stats.h"
#include <stddef.h>

/*
 * All static locks of the front end, outermost first. Host memory is first, because it brings all pages back, and
 * its thread finishes its work on the VMs.
 *
 * The child has copies of our structures, but none of the threads. The files that it inherits belong to the
 * parent: they answer -EIO, as in KVM.
 */
static fork_fn *const fork_list[] = {
	break_fork, host_memory_fork, machines_fork, irqfd_fork, timers_fork, stats_fork, handlers_fork, file_fork,
	NULL,
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
