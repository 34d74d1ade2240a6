/* SPDX-License-Identifier: MIT */
/* Memory of the hosted program: its code is mapped below TRAP_LIMIT. */
#include "kvm/interpose/interpose.h"
#include "kvm/process/sys.h"
#include "kvm/trap/trap.h"
#include <stdatomic.h>
#include <sys/mman.h>

#define PAGE UINT64_C(4096)

static uintptr_t page_up(uintptr_t address)
{
	return (address + PAGE - 1) & ~(PAGE - 1);
}

#define CODE_FIRST (TRAP_LIMIT / 4 * 3)

long trap_mmap(const long a[6])
{
	static _Atomic uint64_t next = CODE_FIRST;
	const size_t length = (size_t)a[1];
	const int flags = (int)a[3];
	uint64_t at = 0;

	/*
	 * The kernel would choose an address near the top. Code there would not be trapped. A loader maps a library's
	 * first part with the room for all of it, and not always with PROT_EXEC.
	 */
	if (!a[0] && !(flags & MAP_FIXED) && (flags & MAP_TYPE) == MAP_PRIVATE && length < TRAP_LIMIT / 8) {
		at = atomic_fetch_add(&next, page_up(length) + PAGE);
		if (at + length + PAGE >= TRAP_LIMIT) {
			at = CODE_FIRST;
			atomic_store(&next, CODE_FIRST + page_up(length) + PAGE);
		}
	}
	return mem_mmap((void *)(at ? (long)at : a[0]), length, (int)a[2], flags, (int)a[4], a[5]); // NOLINT
}
