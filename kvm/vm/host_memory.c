/* SPDX-License-Identifier: MIT */
#include "kvm/vm/host_memory.h"

#include "kvm/process/config.h"
#include "kvm/vm/machines.h"
#include "kvm/process/signals.h"
#include "kvm/process/sys.h"
#include "kvm/vm/vm.h"
#include "port/posix/hostmem.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

atomic_bool host_memory_on;
static struct hostmem *hostmem;

static void begin(void *arg, uint64_t start, uint64_t end)
{
	(void)arg;
	invalidate_begin(&(struct host_range){ start, end }, 1);
}

static void end_(void *arg, uint64_t start, uint64_t end)
{
	(void)arg;
	invalidate_end(&(struct host_range){ start, end }, 1);
}

struct age {
	struct vmmu_hva start, end;
	bool young;
};

static void vm_age(struct kvm *kvm, void *context)
{
	struct age *age = context;

	age->young |= vmmu_age(kvm->mmu, age->start, age->end, true);
}

static bool age(void *arg, uint64_t start, uint64_t end)
{
	struct age age = { { start }, { end }, false };

	(void)arg;
	machines_each(vm_age, &age);
	return age.young;
}

/* Do not use stdio: a thread that holds its lock may be waiting for a page of ours. */
static void say(void *arg, const char *message)
{
	char line[256];
	int bytes = snprintf(line, sizeof(line), "vmmu: %s\n", message);

	(void)arg;
	SYS3(SYS_write, 2, line, bytes < (int)sizeof(line) ? bytes : (int)sizeof(line) - 1);
}

/*
 * A child has the memory of its parent, but none of the threads that would bring pages back. So all pages are
 * brought back before the fork.
 */
void host_memory_fork(enum fork_step step)
{
	static bool held; /* kept between the steps, since another thread may start the manager */

	if (step == FORK_PREPARE)
		held = host_memory_any();
	if (!held)
		return;
	switch (step) {
	case FORK_PREPARE:
		hostmem_hold(hostmem);
		break;
	case FORK_PARENT:
		hostmem_release(hostmem);
		break;
	case FORK_CHILD:
		atomic_store(&host_memory_on, false);
		hostmem = NULL;
		break;
	}
}

static void start(void)
{
	struct hostmem_config config = { .users = { begin, end_, age, say, NULL } };

	if (!config_host_memory(&config.budget, &config.swap_path, &config.swap_bytes))
		return;
	hostmem = hostmem_create(&config);
	if (!hostmem) {
		fprintf(stderr,
		        "vmmu: --host-memory cannot be had: %s. It needs userfaultfd (as root, or with sysctl "
		        "vm.unprivileged_userfaultfd=1) and, for --host-swap, a place to make the file.\n",
		        strerror(errno));
		_exit(125);
	}
	atomic_store_explicit(&host_memory_on, true, memory_order_release);
}

void host_memory_start(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, start);
}

void host_memory_slot(uint64_t start, uint64_t end)
{
	if (host_memory_any() && start < end)
		hostmem_add(hostmem, start, end);
}

void host_memory_give_up(uint64_t start, uint64_t end)
{
	if (!host_memory_any() || start >= end)
		return;
	signals_hold();
	hostmem_remove(hostmem, start, end);
	signals_release();
}

long host_memory_discard(uint64_t start, uint64_t end, int advice, bool lazily)
{
	return hostmem_discard(hostmem, start, end, advice, lazily);
}

long host_memory_unmap(uint64_t start, uint64_t end, long number, const long a[6])
{
	return hostmem_unmap(hostmem, start, end, number, a);
}

long host_memory_protect(uint64_t start, uint64_t end, long number, const long a[6])
{
	return hostmem_protect(hostmem, start, end, number, a);
}

bool host_memory_is_away(uint64_t address)
{
	return host_memory_any() && hostmem_is_away(hostmem, address);
}

void host_memory_fetch(struct hostmem_fetch *fetch)
{
	hostmem_fetch_start(hostmem, fetch);
}

void host_memory_fetch_cancel(struct hostmem_fetch *fetch)
{
	/* In a forked child the thread that would bring it is gone. */
	if (host_memory_any())
		hostmem_fetch_cancel(hostmem, fetch);
}

static atomic_ulong events[HOST_MEMORY_EVENTS];

void host_memory_count(enum host_memory_event event)
{
	atomic_fetch_add_explicit(&events[event], 1, memory_order_relaxed);
}

void host_memory_print(FILE *out, void (*line)(const char *name, uint64_t value))
{
	struct hostmem_stats stats;

	if (!host_memory_any())
		return;
	hostmem_stats_get(hostmem, &stats);
	fprintf(out, " host memory\n");
	line("budget, KiB", stats.budget >> 10);
	line("resident now, KiB", stats.resident >> 10);
	line("resident at most, KiB", stats.peak >> 10);
	line("pages taken away", stats.evicted);
	line("pages brought back", stats.returned);
	line("of those, without a vCPU in wait", stats.fetched);
	line("absent pages told to a guest", atomic_load(&events[HOST_MEMORY_TOLD]));
	line("absent pages a vCPU slept for", atomic_load(&events[HOST_MEMORY_HALTED]));
	line("pages spared: in use", stats.young);
	line("pages spared: no room", stats.kept);
	line("pages in the pool", stats.pool_pages);
	line("pages of one byte", stats.same_pages);
	line("memory of the pool, KiB", stats.pool_bytes >> 10);
	line("pages in the swap file", stats.swap_pages);
	line("pages lost", stats.lost);
	line("under pressure, ms", stats.pressure_us / 1000);
}
