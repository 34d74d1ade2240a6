/* SPDX-License-Identifier: MIT */
/*
 * What a call costs that runs hardly a guest instruction: it depends on the way in which vmmu sees the calls of
 * its client (doc/hosted.md).
 */
#include "bench/bench.h"
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TURNS  2000
#define ROUNDS 20

static struct machine machine;

static void regs(void)
{
	struct kvm_regs r;

	ioctl(machine.vcpu[0], KVM_GET_REGS, &r);
}

/* Nobody but the kernel answers it, in any way. */
static void parent(void)
{
	syscall(SYS_getppid);
}

/* A name of a file: the front end looks at it, and the kernel answers. */
static void name(void)
{
	access("/", F_OK);
}

static double each(void (*call)(void))
{
	double best = 1e18;

	for (int round = 0; round < ROUNDS; round++) {
		uint64_t begin = now();

		for (int i = 0; i < TURNS; i++)
			call();
		best = least(best, (double)(now() - begin) / TURNS);
	}
	return best;
}

void bench_call(void)
{
	struct call call = { .routine = guest_io, .rsi = TURNS, .cpl = 3 };
	double best = 1e18;

	line("getppid, no VM", each(parent), "ns");
	line("access, no VM", each(name), "ns");
	machine_init(&machine, 1, MIB, DATA_PRESENT | DATA_SMALL);
	line("getppid", each(parent), "ns");
	line("access", each(name), "ns");
	line("KVM_GET_REGS", each(regs), "ns");
	for (int round = 0; round < ROUNDS; round++)
		best = least(best, (double)machine_call(&machine, 0, &call) / TURNS);
	line("an exit and KVM_RUN again", best, "ns");
	machine_fini(&machine);
}
