/* SPDX-License-Identifier: MIT */
/*
 * The guest is 64-bit. Every exception goes over an IST stack to a HLT for its vector. Its second-stage tables are
 * written here, once, so that only the CPU is under test.
 */
#include "engine.h"
#include "native_soft.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <vmmu/dirty.h>
#include <vmmu/format.h>

#include "cpu/cpu.h"

/* Guest physical memory. The data pages are out of order and apart, so that an access across two finds no neighbour. */
#define RAM_SIZE   (32u << 20)
#define LARGE_PAGE (2u << 20)
#define PML4       0x1000u
#define PDPT_LOW   0x2000u
#define PD_LOW     0x3000u
#define PT_DATA    0x4000u
#define PDPT_HIGH  0x5000u
#define PD_HIGH    0x6000u
#define GDT        0x7000u
#define IDT        0x8000u
#define TSS        0x9000u
#define STUBS      0xa000u /* a HLT for each vector, 16 bytes apart */
#define STACK_TOP  0xd000u
#define CODE       (16u << 20)
#define KERNEL     UINT64_C(0xffff800000000000) /* linear address of guest physical 0 */

static const uint32_t data_gpa[GEN_DATA_SIZE / GEN_PAGE] = { 0x23000, 0x20000, 0x26000 };

#define PTE_P 1u
#define PTE_W 2u
#define PTE_U 4u
#define PTE_PS 0x80u

#define SEL_KERNEL_CS 0x10u
#define SEL_USER_CS32 0x23u
#define SEL_USER_DS   0x2bu
#define SEL_USER_CS64 0x33u
#define SEL_TSS       0x40u
#define SEL_USER_CS16 0x07u /* never looked up */
#define SEL_USER_DS16 0x0fu

#define CR0_VALUE  UINT64_C(0x80010033) /* PG WP NE ET MP PE */
#define CR4_VALUE  UINT64_C(0x40620)	/* OSXSAVE OSXMMEXCPT OSFXSR PAE */
#define EFER_VALUE UINT64_C(0xd00)	/* NX LMA LME */

static struct {
	uint8_t *area, *ram; /* area: as mapped; ram: in it, from the boundary of a large page on */
	uint64_t *npt;
	struct cpu_vm *vm;
	struct cpu *cpu;
	uint8_t pattern[GEN_DATA_SIZE];
	uint32_t always_run;
	uint64_t xcr0;
} soft;

/* ---- the library's part, as the CPU sees it: tables that map everything -------------------------------------- */

struct vmmu_vcpu {
	bool entered;
};

static struct vmmu_vcpu vcpu;

enum vmmu_enter vmmu_vcpu_enter(struct vmmu_vcpu *v, struct vmmu_entry *entry)
{
	*entry = (struct vmmu_entry){
		.root = soft.npt, .format = VMMU_FORMAT_NPT4, .levels = 4, .flush = !v->entered,
		.poll = &soft.always_run
	};
	v->entered = true;
	return VMMU_ENTER_RUN;
}

void vmmu_vcpu_leave(struct vmmu_vcpu *v)
{
	(void)v;
}

void vmmu_vcpu_dirty_ring_reserve(struct vmmu_vcpu *v, bool open)
{
	(void)v, (void)open;
}

void vmmu_vcpu_kick(struct vmmu_vcpu *v)
{
	(void)v;
}

enum vmmu_fault vmmu_fault(struct vmmu_vcpu *v, struct vmmu_gpa gpa, uint64_t error)
{
	(void)v;
	(void)gpa;
	(void)error;
	return VMMU_FAULT_DEAD;
}

enum vmmu_status vmmu_guest_read(struct vmmu_vcpu *v, struct vmmu_gpa gpa, void *to, size_t bytes)
{
	(void)v;
	if (gpa.v >= RAM_SIZE || bytes > RAM_SIZE - gpa.v)
		return VMMU_ENOENT;
	memcpy(to, soft.ram + gpa.v, bytes);
	return VMMU_OK;
}

enum vmmu_status vmmu_guest_write(struct vmmu_vcpu *v, struct vmmu_gpa gpa, const void *from, size_t bytes)
{
	(void)v;
	if (gpa.v >= RAM_SIZE || bytes > RAM_SIZE - gpa.v)
		return VMMU_ENOENT;
	memcpy(soft.ram + gpa.v, from, bytes);
	return VMMU_OK;
}

/* ---- the guest's tables ---------------------------------------------------------------------------------------- */

static void put(uint32_t gpa, unsigned int index, uint64_t value)
{
	memcpy(soft.ram + gpa + 8 * index, &value, 8);
}

static bool make_nested_tables(void)
{
	uint64_t *tables = aligned_alloc(GEN_PAGE, 3 * GEN_PAGE);

	if (!tables)
		return false;
	memset(tables, 0, 3 * GEN_PAGE);
	tables[0] = (uintptr_t)(tables + 512) | VMMU_NPT_P | VMMU_NPT_W | VMMU_NPT_U;
	tables[512] = (uintptr_t)(tables + 1024) | VMMU_NPT_P | VMMU_NPT_W | VMMU_NPT_U;
	for (unsigned int i = 0; i < RAM_SIZE >> 21; i++)
		tables[1024 + i] = ((uintptr_t)soft.ram + ((uint64_t)i << 21)) | VMMU_NPT_P | VMMU_NPT_W |
				   VMMU_NPT_U | VMMU_NPT_PS;
	soft.npt = tables;
	return true;
}

static void make_page_tables(void)
{
	put(PML4, 0, PDPT_LOW | PTE_P | PTE_W | PTE_U);
	put(PML4, KERNEL >> 39 & 511, PDPT_HIGH | PTE_P | PTE_W);
	put(PDPT_HIGH, 0, PD_HIGH | PTE_P | PTE_W);
	put(PD_HIGH, 0, PTE_P | PTE_W | PTE_PS);
	put(PDPT_LOW, 0, PD_LOW | PTE_P | PTE_W | PTE_U);
	put(PD_LOW, GEN_DATA >> 21, PT_DATA | PTE_P | PTE_W | PTE_U);
	for (unsigned int i = 0; i < GEN_DATA_SIZE / GEN_PAGE; i++)
		put(PT_DATA, i, data_gpa[i] | PTE_P | PTE_U | (i < GEN_DATA_RW / GEN_PAGE ? PTE_W : 0));
	for (unsigned int i = 0; i < GEN_CODE_SIZE >> 21; i++)
		put(PD_LOW, (GEN_CODE >> 21) + i, (CODE + (i << 21)) | PTE_P | PTE_W | PTE_U | PTE_PS);
}

static void make_descriptor_tables(void)
{
	uint64_t tss = KERNEL + TSS, stack = KERNEL + STACK_TOP;

	put(GDT, SEL_KERNEL_CS / 8, UINT64_C(0x00af9b000000ffff));
	put(GDT, SEL_KERNEL_CS / 8 + 1, UINT64_C(0x00cf93000000ffff));
	put(GDT, SEL_USER_CS32 / 8, UINT64_C(0x00cffb000000ffff));
	put(GDT, SEL_USER_DS / 8, UINT64_C(0x00cff3000000ffff));
	put(GDT, SEL_USER_CS64 / 8, UINT64_C(0x00affb000000ffff));
	put(GDT, SEL_TSS / 8, 0x67 | (tss & 0xffffff) << 16 | UINT64_C(0x8b) << 40 | (tss >> 24 & 0xff) << 56);
	put(GDT, SEL_TSS / 8 + 1, tss >> 32);
	memcpy(soft.ram + TSS + 0x24, &stack, 8); /* IST1 */
	memcpy(soft.ram + TSS + 4, &stack, 8);	  /* RSP0 */
	for (unsigned int v = 0; v < 256; v++) {
		uint64_t stub = KERNEL + STUBS + 16 * v;

		soft.ram[STUBS + 16 * v] = 0xf4;
		/* Interrupt gate, DPL 3, IST 1. */
		put(IDT, 2 * v, (stub & 0xffff) | SEL_KERNEL_CS << 16 | UINT64_C(1) << 32 | UINT64_C(0xee) << 40 |
				(stub >> 16 & 0xffff) << 48);
		put(IDT, 2 * v + 1, stub >> 32);
	}
}

/* 64, 32 or 16 bits. */
static struct cpu_segment segment(uint16_t selector, bool code, unsigned int bits)
{
	return (struct cpu_segment){ .limit = 0xffffffff, .selector = selector, .type = code ? 11 : 3, .present = 1,
				     .dpl = selector & 3, .db = bits == 32, .s = 1, .l = bits == 64, .g = 1 };
}

static struct cpu_segment segment16(uint16_t selector, bool code, uint64_t base)
{
	struct cpu_segment s = segment(selector, code, 16);

	s.base = base;
	s.limit = 0xffff;
	s.g = 0;
	return s;
}

static void set_system_state(struct cpu_state *s, unsigned int bits)
{
	if (bits == 16) {
		s->seg[CPU_CS] = segment16(SEL_USER_CS16, true, GEN_CODE16);
		s->seg[CPU_SS] = s->seg[CPU_DS] = s->seg[CPU_ES] = segment16(SEL_USER_DS16, false, GEN_DATA16);
	} else {
		s->seg[CPU_CS] = segment(bits == 32 ? SEL_USER_CS32 : SEL_USER_CS64, true, bits);
		s->seg[CPU_SS] = s->seg[CPU_DS] = s->seg[CPU_ES] = segment(SEL_USER_DS, false, 32);
	}
	s->seg[CPU_FS] = s->seg[CPU_GS] = (struct cpu_segment){ .unusable = 1 };
	s->seg[CPU_GS].base = GEN_GS_BASE;
	s->seg[CPU_LDTR] = (struct cpu_segment){ .unusable = 1, .type = 2 };
	s->seg[CPU_TR] = (struct cpu_segment){ .base = KERNEL + TSS, .limit = 0x67, .selector = SEL_TSS, .type = 11,
					       .present = 1 };
	s->gdt = (struct cpu_table){ KERNEL + GDT, 0xff };
	s->idt = (struct cpu_table){ KERNEL + IDT, 0xfff };
	s->cr0 = CR0_VALUE;
	s->cr3 = PML4;
	s->cr4 = CR4_VALUE;
	s->efer = EFER_VALUE;
	s->xcr0 = soft.xcr0;
}

bool soft_init(const uint8_t pattern[GEN_DATA_SIZE], uint64_t xcr0)
{
	static const struct cpu_ops ops;

	engine_from_environment();
	soft.area = mmap(NULL, RAM_SIZE + LARGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	soft.vm = cpu_vm_create();
	cpu_signals_install();
	if (soft.area == MAP_FAILED || !soft.vm)
		return false;
	soft.xcr0 = xcr0;
	soft.always_run = VMMU_POLL_RUN;
	soft.ram = (uint8_t *)(((uintptr_t)soft.area + LARGE_PAGE - 1) & ~(uintptr_t)(LARGE_PAGE - 1));
	memcpy(soft.pattern, pattern, GEN_DATA_SIZE);
	memset(soft.ram + CODE, 0xcc, GEN_CODE_SIZE);
	if (!make_nested_tables())
		return false;
	make_page_tables();
	make_descriptor_tables();
	soft.cpu = cpu_create(&vcpu, &ops, NULL, soft.vm);
	if (!soft.cpu)
		return false;
	set_system_state(cpu_state(soft.cpu), 64);
	cpu_state_changed(soft.cpu, CPU_CHANGED_ALL);
	return true;
}

void soft_fini(void)
{
	cpu_destroy(soft.cpu);
	cpu_vm_destroy(soft.vm);
	free(soft.npt);
	munmap(soft.area, RAM_SIZE + LARGE_PAGE);
}

/* ---- one case ------------------------------------------------------------------------------------------ */

static void write_data(const struct gen_case *c)
{
	for (unsigned int i = 0; i < GEN_DATA_SIZE / GEN_PAGE; i++)
		memcpy(soft.ram + data_gpa[i], soft.pattern + i * GEN_PAGE, GEN_PAGE);
	for (unsigned int n = 0; n < 2; n++)
		for (unsigned int i = 0; i < c->poke[n].size; i++) {
			uint32_t at = c->poke[n].offset + i;

			soft.ram[data_gpa[at / GEN_PAGE] + at % GEN_PAGE] = c->poke[n].bytes[i];
		}
}

void soft_data(uint8_t data[GEN_DATA_SIZE])
{
	for (unsigned int i = 0; i < GEN_DATA_SIZE / GEN_PAGE; i++)
		memcpy(data + i * GEN_PAGE, soft.ram + data_gpa[i], GEN_PAGE);
}

static bool has_error_code(unsigned int vector)
{
	return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

/* What the exception pushed: [error] RIP CS RFLAGS RSP SS. */
static bool read_frame(const struct cpu_state *s, struct gen_state *after, struct gen_end *end)
{
	uint64_t stub = s->rip - 1 - (KERNEL + STUBS), frame[6];

	if (stub >= 256 * 16 || stub % 16 != 0)
		return false;
	end->vector = (unsigned int)(stub / 16);
	memcpy(frame, soft.ram + STACK_TOP - sizeof(frame), sizeof(frame));
	if (s->gpr[CPU_RSP] != KERNEL + STACK_TOP - (has_error_code(end->vector) ? 48 : 40))
		return false;
	end->error = (uint32_t)frame[0];
	end->cr2 = s->cr2;
	after->rip = frame[1];
	after->rflags = frame[3];
	after->gpr[CPU_RSP] = frame[4];
	return true;
}

enum soft_result soft_run(const struct gen_case *c, enum soft_mode mode, struct gen_state *after, struct gen_end *end)
{
	struct cpu_state *s = cpu_state(soft.cpu);
	enum soft_result result = SOFT_OK;
	enum cpu_exit exit = CPU_EXIT_DEAD;

	write_data(c);
	memset(soft.ram + CODE + (c->code_base + c->in.rip - GEN_CODE), 0xcc, GEN_BYTES);
	memcpy(soft.ram + CODE + (c->code_base + c->in.rip - GEN_CODE), c->bytes, c->length);
	set_system_state(s, c->bits);
	memcpy(s->gpr, c->in.gpr, sizeof(s->gpr));
	s->rip = c->in.rip;
	s->rflags = c->in.rflags;
	s->fx.fop = c->in.fop;
	s->fx.fip = c->in.fip;
	s->fx.fdp = c->in.fdp;
	s->fx.fcw = c->in.fcw;
	s->fx.fsw = c->in.fsw;
	s->fx.ftw = c->in.ftw;
	memcpy(s->fx.st, c->in.st, sizeof(s->fx.st));
	s->fx.mxcsr = c->in.mxcsr;
	memcpy(s->vectors.v, c->in.v, sizeof(s->vectors.v));
	memcpy(s->vectors.k, c->in.k, sizeof(s->vectors.k));
	s->mp_state = CPU_MP_RUNNABLE;
	memset(&s->events, 0, sizeof(s->events));
	cpu_debug_set(soft.cpu, mode == SOFT_STEP ? CPU_DEBUG_STEP : 0, NULL);
	cpu_state_changed(soft.cpu, CPU_CHANGED_RFLAGS | CPU_CHANGED_MODE | CPU_CHANGED_FPU);

	/* A repeated string instruction is stepped element by element. The code behind the instruction runs freely. */
	for (unsigned int i = 0; i < 2 * GEN_PAGE; i++) {
		exit = cpu_run(soft.cpu);
		if (exit != CPU_EXIT_DEBUG || mode != SOFT_STEP)
			break;
		if (s->rip != c->in.rip)
			cpu_debug_set(soft.cpu, 0, NULL);
	}
	memcpy(after->gpr, s->gpr, sizeof(after->gpr));
	after->rip = s->rip;
	after->rflags = s->rflags;
	after->mxcsr = s->fx.mxcsr;
	after->fcw = s->fx.fcw;
	after->fsw = s->fx.fsw;
	after->ftw = s->fx.ftw;
	after->fop = s->fx.fop;
	after->fip = s->fx.fip;
	after->fdp = s->fx.fdp;
	memcpy(after->st, s->fx.st, sizeof(after->st));
	memcpy(after->v, s->vectors.v, sizeof(after->v));
	memcpy(after->k, s->vectors.k, sizeof(after->k));
	*end = (struct gen_end){ 0 };
	if (exit == CPU_EXIT_INTERNAL_ERROR)
		return SOFT_UNIMPLEMENTED;
	if (exit != CPU_EXIT_HLT || !read_frame(s, after, end))
		result = SOFT_STRANGE;
	return result;
}
