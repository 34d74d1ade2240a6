/* SPDX-License-Identifier: MIT */
/* What each advice of madvise does to private anonymous memory. */
#ifndef VMMU_KVM_ADVICE_H
#define VMMU_KVM_ADVICE_H

#include <stdbool.h>

enum advice_contents {
	ADVICE_KEEPS,   /* every byte is as before */
	ADVICE_LOSES,   /* gone when the call returns */
	ADVICE_FREES,   /* gone when the kernel wants the memory, unless it is written before */
	ADVICE_POISONS, /* the page is brought in and made unusable */
	ADVICE_UNKNOWN, /* the kernel knows it and we do not */
	ADVICE_REFUSED, /* the kernel does not know it, whatever the range */
};

struct advice {
	enum advice_contents contents;
	bool takes_away; /* KVM hears of it: what a guest has mapped there may be another page next, or none */
};

/** From the table; for a number that is not in it, by asking the kernel. */
struct advice advice_of(int advice);

/** Does the kernel that runs know it? */
bool advice_is_known(int advice);

#endif
