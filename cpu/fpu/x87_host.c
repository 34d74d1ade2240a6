/* SPDX-License-Identifier: MIT */
/*
 * The guest's x87 registers on their way into the host's, and out of them.
 *
 * FRSTOR and FNSAVE touch no vector register, and FNSAVE leaves x87 as a program has it at its start. Together they
 * cost less than FXRSTOR and FXSAVE, after which FNINIT would be needed. XSAVE of x87 alone takes far longer on AMD's
 * processors.
 */
#include <string.h>

#include "cpu/base/x87_host.h"
#include "cpu/fpu/x87.h"

#define FCW_INIT  0x37fu
#define TAG_EMPTY 3u

struct environment {
	uint16_t fcw, reserved0, fsw, reserved1, tags, reserved2;
	uint32_t fip;
	uint16_t fcs, fop;
	uint32_t fdp;
	uint16_t fds, reserved3;
};

/* What FNSAVE stores in 64-bit mode. */
struct image {
	struct environment env;
	uint8_t st[8][10];
};
_Static_assert(sizeof(struct environment) == 28 && sizeof(struct image) == 108, "FNSAVE's layout");

void x87_host_load(struct cpu *cpu)
{
	const struct cpu_fx *fx = &cpu->s.fx;
	struct image image = { .env = { .fcw = fx->fcw, .fsw = fx->fsw } };
	unsigned tags = 0;

	for (unsigned i = 0; i < 8; i++) {
		tags |= (fx->ftw >> i & 1 ? 0 : TAG_EMPTY) << 2 * i;
		memcpy(image.st[i], fx->st[i], sizeof(image.st[i]));
	}
	image.env.tags = (uint16_t)tags;
	__asm__ volatile("fnstcw %0\n\tfnstsw %1" : "=m"(cpu->x87_outside.control), "=m"(cpu->x87_outside.status));
	/* FRSTOR would raise what the program has pending. x87_unload brings it back. */
	if (unlikely(cpu->x87_outside.status & FSW_ES))
		__asm__ volatile("fnclex");
	__asm__ volatile("frstor %0" : : "m"(image));
	cpu->x87_loaded = true;
}

/* The host's registers are as after FNINIT, or a signal handler's, which are so too. */
static void outside_restore(struct cpu *cpu)
{
	struct environment env = {
		.fcw = cpu->x87_outside.control, .fsw = cpu->x87_outside.status, .tags = 0xffff,
	};

	cpu->x87_loaded = false;
	if (unlikely(env.fcw != FCW_INIT || env.fsw != 0))
		__asm__ volatile("fldenv %0" : : "m"(env));
}

void x87_host_unload(struct cpu *cpu)
{
	struct cpu_fx *fx = &cpu->s.fx;
	struct image image;
	unsigned ftw = 0;

	__asm__ volatile("fnsave %0" : "=m"(image));
	outside_restore(cpu);
	fx->fsw = image.env.fsw;
	for (unsigned i = 0; i < 8; i++) {
		ftw |= (unsigned)((image.env.tags >> 2 * i & TAG_EMPTY) != TAG_EMPTY) << i;
		memcpy(fx->st[i], image.st[i], sizeof(image.st[i]));
		memset(fx->st[i] + sizeof(image.st[i]), 0, sizeof(fx->st[i]) - sizeof(image.st[i]));
	}
	fx->ftw = (uint8_t)ftw;
}

void x87_host_lost(struct cpu *cpu, const struct cpu_fx *saved)
{
	struct cpu_fx *fx = &cpu->s.fx;

	if (cpu->x87_loaded) {
		fx->fsw = saved->fsw;
		fx->ftw = saved->ftw;
		memcpy(fx->st, saved->st, sizeof(fx->st));
	} else {
		cpu->x87_outside.control = saved->fcw;
		cpu->x87_outside.status = saved->fsw;
	}
	outside_restore(cpu);
}
