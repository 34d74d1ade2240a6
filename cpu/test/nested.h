/* SPDX-License-Identifier: MIT */
/*
 * guest.h's machine in guest mode of AMD SVM, without nested paging, for tests of single intercepts. The VMCB cannot be
 * written, so a #VMEXIT stays noted, and the nested guest's state is there to look at.
 */
#ifndef VMMU_CPU_TEST_NESTED_H
#define VMMU_CPU_TEST_NESTED_H

#include "cpu/base/private.h"
#include "cpu/system/vmcb.h"
#include "guest.h"

#define NESTED_IOPM  0x60000u
#define NESTED_MSRPM 0x64000u

/* How often the CPU has asked its owner since the last nested_prepare. */
extern struct nested_calls {
	unsigned io, rdmsr, wrmsr, hypercall, cpuid, monitor;
} nested_calls;

static inline struct cpu_state *regs(struct guest *g)
{
	return cpu_state(g->cpu);
}

static inline const struct svm_private *nested_svm(struct guest *g)
{
	return &g->cpu->p->svm;
}

/** Enter guest mode. All registers point to data, but for rDX, which is a port. Nothing is intercepted. */
void nested_begin(struct guest *g);
/** A new machine in 64-bit mode, in guest mode. MSR 0x666 is refused by the owner. */
struct guest *nested_make(void);
/** The same as cmocka's setup. */
int nested_setup(void **state);
#define NESTED_TEST(name) cmocka_unit_test_setup_teardown(name, nested_setup, guest_teardown)

void nested_intercept(struct guest *g, unsigned exit, bool on);
/** Set or clear a bit of a permission map. */
void nested_map(struct guest *g, unsigned map, unsigned bit, bool on);
/** CPL 3, at GUEST_USER_CODE. */
void nested_user(struct guest *g);

#define NESTED_HLT      1000
#define NESTED_SHUTDOWN 2000
/**
 * Run until a #VMEXIT is noted, or the guest halts or shuts down. Returns: the vector whose stub reported itself; -1
 * for a #VMEXIT without one; NESTED_HLT, NESTED_SHUTDOWN.
 */
int nested_run(struct guest *g);
/** This #VMEXIT is noted. */
void nested_exit(struct guest *g, const char *name, uint64_t code, uint64_t info1, uint64_t info2);
/** Nothing has changed since `before`, and the owner was not called. */
void nested_untouched(struct guest *g, const char *name, const struct cpu_state *before);

/* ---- one instruction ----------------------------------------------------------------------------------- */

#define USER      1u /* at CPL 3 */
#define UNMAPPED  2u /* the data page and the stack are not there */
#define XSAVE     4u /* CR4.OSXSAVE */
#define ONLY_WITH 8u /* without the intercept, the instruction ends the guest */
#define UMIP      16u
#define TSD       32u
#define FS_BASE   64u
#define EXCEPTION 128u /* the exception `vector` comes first */
#define SVME      256u
#define RCX_0     512u

struct nested_row {
	const char *name;
	uint8_t bytes[8], len;
	unsigned bit;
	uint64_t info1, info2;
	unsigned how;
	unsigned vector; /* with EXCEPTION */
};
#define BYTES(...) { __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ })

/** Put the instruction and a HLT at RIP, and the machine in the row's state. */
void nested_prepare(struct guest *g, const struct nested_row *r);
/**
 * With its intercept the instruction exits and has no effect, without it does not exit; or it raises its exception in
 * spite of the intercept.
 */
void nested_row(const struct nested_row *r);
void nested_rows(const struct nested_row *rows, size_t count);
#define NESTED_ROWS(rows) nested_rows(rows, sizeof(rows) / sizeof((rows)[0]))

#endif
