/* SPDX-License-Identifier: MIT */
/*
 * The paging corpus: every combination of P, W, U, NX, a reserved bit, WP, SMEP, SMAP, NXE, protection keys, page
 * size and kind of access, at each level of each paging mode. For each the software CPU runs one instruction, in a VM
 * with a second stage and in one with shadow paging. The reference (ref.c) says what must come of it: a fault or
 * none, the error code, CR2, and the A and D bits in the guest's tables.
 *
 *     corpus [STRIDE [SEED [REAL]]]      only every STRIDE-th case. Every REAL-th of those runs on the machine's own
 *                                        KVM, too, where there is one
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <vmmu/vmmu.h>

#include "cpu/cpu.h"
#include "test/common/quiet.h"
#include "test/common/rng.h"
#include "test/shadow/realkvm.h"
#include "test/shadow/ref.h"

#define RAM_BYTES (8u << 20)

/* Guest frames. Linear 0 to 2 MiB is mapped one to one for the supervisor, and the page at USER_CODE for users, too. */
#define TOP       0x10000u /* the table at CR3 */
#define LOW       0x11000u /* tables of the low mapping: a page for each level from 3 down; for PAE four directories */
#define TABLES    0x20000u /* TABLES + level * 4096: the table at `level` on the tested path */
#define CODE      0x8000u
#define USER_CODE 0x100000u
#define STUBS     0x9000u  /* 16 bytes for each vector: hlt */
#define IDT       0xb000u
#define GDT       0xc000u
#define TSS       0xd000u
#define STACK     0x7000u
#define STACK_TOP (STACK + 0x800u)
#define TARGET    0x410000u /* the page that a permitted access reaches: full of hlt */

#define P   1ull
#define W   2ull
#define U   4ull
#define A   0x20ull
#define D   0x40ull
#define PS  0x80ull
#define G   0x100ull
#define NX  (1ull << 63)

enum mode { M_32, M_PAE, M_4, M_5, MODES };
static const char *const mode_name[] = { "32-bit", "PAE", "4-level", "5-level" };
static const int top_level[] = { 2, 2, 4, 5 };

struct machine {
	const char *name;
	uint8_t *ram;
	struct vmmu_vm *vm;
	struct vmmu_vcpu *vcpu;
	struct cpu_vm *code;
	struct cpu *cpu;
};

struct access {
	enum ref_access kind;
	bool user, ac;
};

struct one {
	enum mode mode;
	int leaf, varied;      /* levels */
	unsigned controls;     /* bits: WP SMEP SMAP NXE PKE AD WD */
	uint64_t entry[6];     /* [level] */
	struct access access;
};

static struct machine machines[2];
static struct realkvm real;
static unsigned real_stride; /* 0: there is no real KVM */
static bool real_long_only;
static uint64_t real_cases, real_differ;
static uint8_t *want; /* what guest memory should be */
static struct rng rng;
static uint64_t cases, faults;

static uint64_t linear_of(enum mode mode)
{
	static const uint64_t linear[] = {
		[M_32] = 0x80010000, [M_PAE] = 0x80410000, [M_4] = 1ull << 39 | 1ull << 30 | 0x410000,
		[M_5] = 1ull << 48 | 1ull << 39 | 1ull << 30 | 0x410000,
	};

	return linear[mode];
}

static void write_all(uint64_t at, const void *bytes, size_t size)
{
	memcpy(want + at, bytes, size);
	for (int i = 0; i < 2; i++)
		if (vmmu_guest_write(machines[i].vcpu, (struct vmmu_gpa){ at }, bytes, size) != VMMU_OK)
			abort();
	if (real_stride)
		memcpy(real.ram + at, bytes, size);
}

static void write_value(uint64_t at, uint64_t value, size_t size)
{
	write_all(at, &value, size);
}

/* --- the machine around the case --- */

static uint64_t descriptor(unsigned access, unsigned flags)
{
	return 0xffff | (uint64_t)access << 40 | 0xfull << 48 | (uint64_t)flags << 52;
}

static void code_make(void)
{
	static const uint8_t read[] = { 0x8b, 0x08, 0xf4 }, write[] = { 0x89, 0x08, 0xf4 };
	uint8_t hlt[4096];

	memset(hlt, 0xf4, sizeof(hlt));
	write_all(TARGET, hlt, sizeof(hlt));
	write_all(STUBS, hlt, sizeof(hlt));
	write_all(CODE, read, sizeof(read));
	write_all(CODE + 16, write, sizeof(write));
	write_all(USER_CODE, read, sizeof(read));
	write_all(USER_CODE + 16, write, sizeof(write));
}

static void system_make(enum mode mode)
{
	bool wide = mode >= M_4;

	write_value(GDT + 8, descriptor(0x9b, wide ? 0xa : 0xc), 8);
	write_value(GDT + 16, descriptor(0x93, 0xc), 8);
	for (unsigned v = 0; v < 32; v++) {
		uint64_t stub = STUBS + 16 * v,
		         gate = (stub & 0xffff) | 8ull << 16 | 0x8e00ull << 32 | (stub >> 16) << 48;

		write_value(IDT + v * (wide ? 16 : 8), gate, 8);
		if (wide)
			write_value(IDT + v * 16 + 8, 0, 8);
	}
	write_value(TSS + 4, STACK_TOP, wide ? 8 : 4);
	if (!wide)
		write_value(TSS + 8, 16, 4);
}

/* Make the tables of the low mapping. All their entries have A and D already. */
static void low_make(enum mode mode)
{
	static const uint8_t zero[4096];
	unsigned size = mode == M_32 ? 4 : 8, count = mode == M_32 ? 1024 : 512;
	uint64_t pt = LOW + 0x4000, all = P | W | U | A;

	write_all(TOP, zero, sizeof(zero));
	for (int level = 1; level <= 5; level++)
		write_all(TABLES + level * 4096u, zero, sizeof(zero));
	for (unsigned i = 0; i < count; i++) {
		uint64_t page = i * 4096ull;

		write_value(pt + i * size, page < 2u << 20 ? page | P | W | A | D | (page == USER_CODE ? U : 0) : 0,
		            size);
	}
	switch (mode) {
	case M_32:
		write_value(TOP, pt | all, 4);
		break;
	case M_PAE:
		write_value(TOP, LOW | P, 8);
		write_value(TOP + 16, (TABLES + 2 * 4096u) | P, 8);
		write_value(LOW, pt | all, 8);
		break;
	default:
		write_value(LOW, (LOW + 0x1000) | all, 8); /* PDPT */
		write_value(LOW + 0x1000, pt | all, 8);
		write_value(mode == M_4 ? TOP : LOW + 0x2000, LOW | all, 8);
		if (mode == M_5)
			write_value(TOP, (LOW + 0x2000) | all, 8);
	}
}

/* The address of the entry at `level` on the tested path. */
static uint64_t entry_at(enum mode mode, int level)
{
	uint64_t linear = linear_of(mode);
	bool top = level == top_level[mode] && mode != M_PAE;

	if (mode == M_32)
		return level == 2 ? TOP + (linear >> 22) * 4 : TABLES + 4096u + (linear >> 12 & 1023) * 4;
	return (top ? TOP : TABLES + (unsigned)level * 4096u) + (linear >> (12 + 9 * (level - 1)) & 511) * 8;
}

/* --- one case --- */

static struct cpu_segment segment(bool code, bool user, bool is_long)
{
	return (struct cpu_segment){
		.limit = 0xffffffff, .selector = (uint16_t)((code ? 8 : 16) | (user ? 3 : 0)), .type = code ? 11 : 3,
		.present = 1, .s = 1, .g = 1,
		.dpl = user ? 3 : 0, .l = code && is_long, .db = !(code && is_long),
	};
}

static struct ref_cpu regs_of(const struct one *c)
{
	bool is_long = c->mode >= M_4;

	return (struct ref_cpu){
		.cr0 = 0x80000031 | (c->controls & 1 ? 1u << 16 : 0), .cr3 = TOP,
		.cr4 = 0x600 | (c->mode == M_32 ? 1u << 4 : 1u << 5) | (c->mode == M_5 ? 1u << 12 : 0) |
		(c->controls & 2 ? 1u << 20 : 0) | (c->controls & 4 ? 1u << 21 : 0) | (c->controls & 16 ? 1u << 22 : 0),
		.efer = (is_long ? 0x500 : 0) | (c->controls & 8 ? 1u << 11 : 0),
		.pkru = (c->controls >> 5 & 3) << (2 * 5), .user = c->access.user, .ac = c->access.ac,
	};
}

static void state_set(struct cpu_state *s, const struct one *c)
{
	struct ref_cpu regs = regs_of(c);
	bool is_long = c->mode >= M_4, user = c->access.user;

	memset(&s->events, 0, sizeof(s->events));
	s->cr0 = regs.cr0;
	s->cr3 = regs.cr3;
	s->cr4 = regs.cr4;
	s->efer = regs.efer;
	s->pkru = regs.pkru;
	s->cr2 = 0;
	for (unsigned i = CPU_ES; i <= CPU_GS; i++)
		s->seg[i] = segment(i == CPU_CS, user, is_long);
	s->seg[CPU_TR] = (struct cpu_segment){ .base = TSS, .limit = 0x67, .selector = 0x18, .type = 11, .present = 1 };
	s->seg[CPU_LDTR] = (struct cpu_segment){ .unusable = 1 };
	s->gdt = (struct cpu_table){ GDT, 23 };
	s->idt = (struct cpu_table){ IDT, (uint16_t)(32 * (is_long ? 16 : 8) - 1) };
	s->rflags = 2 | (c->access.ac ? 1u << 18 : 0);
	s->gpr[CPU_RAX] = linear_of(c->mode);
	s->gpr[CPU_RCX] = 0xf4f4f4f4;
	s->gpr[CPU_RSP] = STACK_TOP;
	s->rip = c->access.kind == REF_FETCH ? linear_of(c->mode) : (user ? USER_CODE : CODE) +
	         (c->access.kind == REF_WRITE ? 16 : 0);
}

static void case_print(const char *name, const struct one *c, const char *what, uint64_t is, uint64_t should)
{
	static const char *const kinds[] = { "read", "write", "fetch" };

	printf("%s, %s, leaf at %d, entry varied at %d: %s by the %s%s, "
	       "WP %d SMEP %d SMAP %d NXE %d PKE %d AD %d WD %d\n", name,
	       mode_name[c->mode], c->leaf, c->varied, kinds[c->access.kind], c->access.user ? "user" : "supervisor",
	       c->access.ac ? ", AC" : "",
	       c->controls & 1, c->controls >> 1 & 1, c->controls >> 2 & 1, c->controls >> 3 & 1, c->controls >> 4 & 1,
	       c->controls >> 5 & 1, c->controls >> 6 & 1);
	for (int level = top_level[c->mode]; level >= c->leaf; level--)
		printf("  level %d: %#018" PRIx64 "\n", level, c->entry[level]);
	printf("  %s is %#" PRIx64 ", should be %#" PRIx64 "\n", what, is, should);
}

/* Compare the state `s` and the memory `ram` after a run with the reference. Returns: what differs, or NULL. */
static const char *case_compare(const struct one *c, const struct ref_result *ref, const struct cpu_state *s,
                                const uint8_t *ram, uint64_t *is, uint64_t *should)
{
	uint64_t stub = s->rip - 1 - STUBS;
	unsigned size = c->mode == M_32 ? 4 : 8;

	*is = stub == 14 * 16;
	*should = ref->fault;
	if (*is != *should)
		return "a page fault";
	if (ref->fault) {
		*is = 0;
		memcpy(is, ram + s->gpr[CPU_RSP], 4);
		*should = ref->error;
		if (*is != *should)
			return "the error code";
		*is = s->cr2;
		*should = linear_of(c->mode);
		if (*is != *should)
			return "CR2";
	}
	for (int level = top_level[c->mode]; level >= c->leaf; level--) {
		uint64_t at = entry_at(c->mode, level);

		*is = *should = 0;
		memcpy(is, ram + at, size);
		memcpy(should, want + at, size);
		if (*is != *should)
			return "the entry afterwards";
	}
	return NULL;
}

static void case_run(const struct machine *m, const struct one *c, const struct ref_result *ref)
{
	const char *what = "the exit";
	uint64_t is, should = CPU_EXIT_HLT;

	state_set(cpu_state(m->cpu), c);
	cpu_state_changed(m->cpu, CPU_CHANGED_RFLAGS | CPU_CHANGED_MODE | CPU_CHANGED_PAGING);
	is = cpu_run(m->cpu);
	if (is == should)
		what = case_compare(c, ref, cpu_state(m->cpu), m->ram, &is, &should);
	if (!what)
		return;
	case_print(m->name, c, what, is, should);
	exit(1);
}

static bool real_can(const struct one *c)
{
	if ((c->mode < M_4 && real_long_only) || (c->leaf == 3 && !real.gbpages))
		return false;
	if (!real.amd && c->varied >= 4 && (c->entry[c->varied] & G))
		return false;
	return (real.smep || !(c->controls & 2)) && (real.smap || !(c->controls & 4)) && !(c->controls & 16) &&
	       (real.la57 || c->mode != M_5);
}

static void real_run(const struct one *c, const struct ref_result *ref)
{
	static struct cpu_state s;
	const char *what;
	uint64_t is, should;

	memset(&s, 0, sizeof(s));
	state_set(&s, c);
	real_cases++;
	if (!realkvm_run(&real, &s)) {
		if (c->mode < M_4 && real_cases == 1) {
			printf("the real KVM's guests page in long mode only\n");
			real_long_only = true;
			real_cases = 0;
			return;
		}
		case_print("real KVM", c, "nothing", 0, 0);
		exit(1);
	}
	what = case_compare(c, ref, &s, real.ram, &is, &should);
	if (what && real_differ++ < 10)
		case_print("real KVM", c, what, is, should);
}

static void case_do(const struct one *c)
{
	unsigned size = c->mode == M_32 ? 4 : 8;
	struct ref_cpu regs = regs_of(c);
	struct ref_result ref;

	for (int level = top_level[c->mode]; level >= c->leaf; level--)
		write_value(entry_at(c->mode, level), c->entry[level], size);
	ref_load_pdptes(want, RAM_BYTES, &regs);
	ref = ref_translate(want, RAM_BYTES, &regs, linear_of(c->mode), c->access.kind);
	for (int i = 0; i < 2; i++)
		case_run(&machines[i], c, &ref);
	cases++;
	if (real_stride && cases % real_stride == 0 && real_can(c))
		real_run(c, &ref);
	faults += ref.fault;
}

/* --- all cases --- */

/* The entry at `level`, without rights. */
static uint64_t entry_base(const struct one *c, int level)
{
	uint64_t entry = rng_next(&rng) & A;

	if (level > c->leaf)
		return entry | (TABLES + (unsigned)(level - 1) * 4096u);
	entry |= rng_next(&rng) & D;
	if (c->controls & 16)
		entry |= 5ull << 59;
	switch (level) {
	case 1: return entry | TARGET;
	case 2: return entry | PS | 0x400000;
	default: return entry | PS;
	}
}

/* A bit that must be 0 in an entry at `level`; 0: there is no such bit. */
static uint64_t reserved_bit(const struct one *c, int level)
{
	unsigned n = rng_below(&rng, 4);

	if (c->mode == M_32)
		return level == 2 && c->leaf == 2 ? 1u << 21 : 0;
	if (level > 1 && level == c->leaf && n == 0)
		return 1ull << (13 + rng_below(&rng, level == 2 ? 8 : 17));
	if (level >= 4 && n == 0)
		return rng_below(&rng, 2) ? PS : G;
	if (c->mode == M_PAE && n == 1)
		return 1ull << (52 + rng_below(&rng, 11));
	return 1ull << (48 + n);
}

static void others_make(struct one *c)
{
	for (int level = top_level[c->mode]; level >= c->leaf; level--) {
		if (level == c->varied)
			continue;
		c->entry[level] = entry_base(c,
		                             level) | P | (rng_below(&rng, 10) ? W : 0) | (rng_below(&rng, 10) ? U : 0);
		if (c->mode != M_32 && (c->controls & 8) && !rng_below(&rng, 12))
			c->entry[level] |= NX;
	}
}

static void accesses_do(struct one *c, unsigned *skip, unsigned stride)
{
	static const struct access accesses[] = {
		{ REF_READ, true, false },   { REF_WRITE, true, false },  { REF_FETCH, true, false },
		{ REF_READ, false, false },
		{ REF_WRITE, false, false }, { REF_FETCH, false, false }, { REF_READ, false, true },
		{ REF_WRITE, false, true },
	};

	for (unsigned i = 0; i < (c->controls & 4 ? 8 : 6); i++) {
		if (++*skip % stride)
			continue;
		c->access = accesses[i];
		others_make(c);
		case_do(c);
	}
}

static void entries_do(struct one *c, unsigned *skip, unsigned stride)
{
	for (unsigned bits = 0; bits < 32; bits++) {
		uint64_t reserved = bits & 16 ? reserved_bit(c, c->varied) : 0;

		if (((bits & 16) && !reserved) || ((bits & 8) && c->mode == M_32) || (!(bits & 1) && (bits & 6)))
			continue;
		c->entry[c->varied] = entry_base(c, c->varied) | (bits & 7) | (bits & 8 ? NX : 0) | reserved;
		accesses_do(c, skip, stride);
	}
}

static void machines_audit(void)
{
	for (int i = 0; i < 2; i++)
		if (!quiet_audit(machines[i].vm, NULL)) {
			printf("%s\n", machines[i].name);
			exit(1);
		}
}

static bool controls_exist(enum mode mode, unsigned controls)
{
	if (mode == M_32 && (controls & 8))
		return false;
	return controls & 16 ? mode >= M_4 : !(controls & 96);
}

static void machine_make(struct machine *m, const char *name, enum vmmu_mmu mmu)
{
	struct vmmu_config config = { .size = sizeof(config), .host = &vmmu_host_posix, .mmu = mmu, .max_vcpus = 1 };
	struct vmmu_region region = { .slot = 0, .bytes = RAM_BYTES };
	static const struct cpu_ops ops;

	m->name = name;
	m->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	region.hva.v = (uintptr_t)m->ram;
	if (m->ram == MAP_FAILED || vmmu_vm_create(&config, &m->vm) != VMMU_OK ||
	    vmmu_region_set(m->vm, &region) != VMMU_OK || vmmu_vcpu_create(m->vm, 0, NULL, &m->vcpu) != VMMU_OK)
		abort();
	m->code = cpu_vm_create();
	m->cpu = cpu_create(m->vcpu, &ops, NULL, m->code);
}

static void machine_free(struct machine *m)
{
	cpu_destroy(m->cpu);
	cpu_vm_destroy(m->code);
	vmmu_vcpu_destroy(m->vcpu);
	vmmu_vm_destroy(m->vm);
	munmap(m->ram, RAM_BYTES);
}

int main(int argc, char **argv)
{
	unsigned stride = argc > 1 ? (unsigned)atoi(argv[1]) : 1, skip = 0;

	rng_seed(&rng, argc > 2 ? strtoull(argv[2], NULL, 0) : 1);
	want = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (want == MAP_FAILED || stride == 0)
		abort();
	machine_make(&machines[0], "second stage", VMMU_MMU_TDP);
	machine_make(&machines[1], "shadow", VMMU_MMU_SHADOW);
	real_stride = argc > 3 ? (unsigned)atoi(argv[3]) : 0;
	if (real_stride && !realkvm_open(&real,
	                                 mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
	                                      0), RAM_BYTES))
		real_stride = 0;
	code_make();
	for (enum mode mode = 0; mode < MODES; mode++) {
		system_make(mode);
		low_make(mode);
		for (int leaf = 1; leaf <= (mode >= M_4 ? 3 : 2); leaf++) {
			for (int varied = leaf; varied <= top_level[mode]; varied++) {
				for (unsigned controls = 0; controls < 128; controls++) {
					struct one c = { .mode = mode, .leaf = leaf, .varied = varied,
					                 .controls = controls };

					if (controls_exist(mode, controls))
						entries_do(&c, &skip, stride);
				}
				machines_audit();
			}
		}
	}
	for (int i = 0; i < 2; i++) {
		if (vmmu_vm_is_dead(machines[i].vm)) {
			printf("the VM died\n");
			return 1;
		}
		machine_free(&machines[i]);
	}
	printf("corpus: %" PRIu64 " cases on both MMUs, %" PRIu64 " of them faults\n", cases, faults);
	if (real_stride)
		printf("corpus: %" PRIu64 " of them on the real KVM (SMEP %d, SMAP %d, LA57 %d, 1 GiB pages %d); "
		       "%" PRIu64 " differ\n",
		       real_cases, real.smep, real.smap, real.la57, real.gbpages, real_differ);
	return real_differ != 0;
}
