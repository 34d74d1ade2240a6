/* SPDX-License-Identifier: MIT */
/* What each advice of madvise does to private anonymous memory. */
#ifndef VMMU_KVM_ADVICE_H
#define VMMU_KVM_ADVICE_H

#include <stdbool.h>

enum advice_contents {
	ADVICE_KEEPS,   /* every byte is as before */
	ADVICE_LOSES,   /* the contents are gone when the call returns */
	ADVICE_FREES,   /* the contents go when the kernel needs memory, unless written before */
	ADVICE_POISONS, /* the page is brought in and made unusable */
	ADVICE_UNKNOWN, /* the kernel knows the advice, and we do not */
	ADVICE_REFUSED, /* the kernel does not know the advice, whatever the range */
};

struct advice {
	enum advice_contents contents;
	bool takes_away; /* an invalidation: what a guest has mapped there may be another page next, or none */
};

/** From the table. For a number that is not in it, asks the kernel. */
struct advice advice_of(int advice);

/** Does the running kernel know it? */
bool advice_is_known(int advice);

#endif
