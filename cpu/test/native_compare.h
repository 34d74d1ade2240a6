/* SPDX-License-Identifier: MIT */
/* One case on the software CPU, and whether that is what the host's CPU did. */
#ifndef VMMU_CPU_TEST_NATIVE_COMPARE_H
#define VMMU_CPU_TEST_NATIVE_COMPARE_H

#include "native.h"
#include "native_soft.h"

struct native_result {
	struct gen_state after;
	struct gen_end end;
};

enum compared {
	COMPARED_SAME,
	COMPARED_DIFFERENT,
	COMPARED_UNIMPLEMENTED,	/* the software CPU has no handler */
};

/*
 * Run @c on the software CPU. The data area is still as the host's CPU left it, with registers @n.
 * @show: print a difference.
 */
enum compared native_compare(const struct gen_case *c, const struct native_result *n, enum soft_mode mode, bool show);

#endif
