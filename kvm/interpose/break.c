/* SPDX-License-Identifier: MIT */
#include "kvm/interpose/break.h"
#include "kvm/interpose/interpose.h"
#include "kvm/process/sys.h"
#include "port/posix/lock.h"
#include <errno.h>
#include <sys/mman.h>

#define PAGE UINT64_C(4096)
#define BREAK_MOST (UINT64_C(1) << 38)

static struct posix_lock lock = POSIX_LOCK_INIT; /* the break */
static uintptr_t first, now;

void break_init(uintptr_t start)
{
	first = now = start;
}

void break_fork(enum fork_step step)
{
	if (step == FORK_PREPARE)
		posix_lock(&lock);
	else
		posix_unlock(&lock);
}

static uintptr_t page_up(uintptr_t address)
{
	return (address + PAGE - 1) & ~(PAGE - 1);
}

long break_set(uintptr_t wanted)
{
	uintptr_t have, want = page_up(wanted);
	long result = 0;

	posix_lock(&lock);
	have = page_up(now);
	if (wanted < first || wanted - first > BREAK_MOST)
		result = -ENOMEM;
	else if (want > have)
		result = SYS6(SYS_mmap, have, want - have, PROT_READ | PROT_WRITE,
		              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (result > 0 && (uintptr_t)result != have) {
		SYS2(SYS_munmap, result, want - have); /* a kernel before 4.17 takes the address for a hint */
		result = -ENOMEM;
	}
	if (result >= 0)
		now = wanted;
	result = (long)now;
	posix_unlock(&lock);
	/* Without the lock, since it tells the VMs. The program's other threads do not use what is taken away. */
	if ((uintptr_t)result == wanted && want < have)
		mem_munmap((void *)want, have - want); // NOLINT: the program's memory
	return result;
}
