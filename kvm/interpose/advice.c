/* SPDX-License-Identifier: MIT */
#include "kvm/interpose/advice.h"
#include "kvm/process/sys.h"
#include <errno.h>
#include <linux/mman.h>
#include <stddef.h>

/* Newer than the headers that we build with. */
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#define MADV_GUARD_REMOVE  103
#endif

/* From madvise(2) and the kernel's list of advices. advice_of asks the kernel about a number that is not here. */
static const struct {
	int number;
	struct advice advice;
} table[] = {
	{ MADV_NORMAL, { ADVICE_KEEPS, false } },
	{ MADV_RANDOM, { ADVICE_KEEPS, false } },
	{ MADV_SEQUENTIAL, { ADVICE_KEEPS, false } },
	{ MADV_WILLNEED, { ADVICE_KEEPS, false } },
	{ MADV_DONTNEED, { ADVICE_LOSES, true } },
	{ MADV_FREE, { ADVICE_FREES, true } },
	{ MADV_REMOVE, { ADVICE_LOSES, true } }, /* for files; anonymous memory is refused */
	{ MADV_DONTFORK, { ADVICE_KEEPS, false } },
	{ MADV_DOFORK, { ADVICE_KEEPS, false } },
	{ MADV_MERGEABLE, { ADVICE_KEEPS, false } },
	{ MADV_UNMERGEABLE, { ADVICE_KEEPS, false } },
	{ MADV_HUGEPAGE, { ADVICE_KEEPS, false } },
	{ MADV_NOHUGEPAGE, { ADVICE_KEEPS, true } }, /* a guest's huge mapping must go, to come back as small pages */
	{ MADV_DONTDUMP, { ADVICE_KEEPS, false } },
	{ MADV_DODUMP, { ADVICE_KEEPS, false } },
	/* contents are lost in a child only, which has no host memory manager */
	{ MADV_WIPEONFORK, { ADVICE_KEEPS, false } },
	{ MADV_KEEPONFORK, { ADVICE_KEEPS, false } },
	{ MADV_COLD, { ADVICE_KEEPS, false } },
	{ MADV_PAGEOUT, { ADVICE_KEEPS, true } },
	{ MADV_POPULATE_READ, { ADVICE_KEEPS, false } },
	{ MADV_POPULATE_WRITE, { ADVICE_KEEPS, false } },
	{ MADV_DONTNEED_LOCKED, { ADVICE_LOSES, true } },
	{ MADV_COLLAPSE, { ADVICE_KEEPS, false } },
	{ MADV_HWPOISON, { ADVICE_POISONS, true } },
	{ MADV_SOFT_OFFLINE, { ADVICE_KEEPS, true } },
	{ MADV_GUARD_INSTALL, { ADVICE_LOSES, true } },
	{ MADV_GUARD_REMOVE, { ADVICE_KEEPS, false } },
};

bool advice_is_known(int advice)
{
	/* The kernel checks the advice before it sees that the range is empty. */
	return SYS3(SYS_madvise, NULL, 0, advice) != -EINVAL;
}

struct advice advice_of(int advice)
{
	static const struct advice unknown = { ADVICE_UNKNOWN, true }, refused = { ADVICE_REFUSED, false };

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].number == advice)
			return table[i].advice;
	return advice_is_known(advice) ? unknown : refused;
}
