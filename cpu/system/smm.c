/* SPDX-License-Identifier: MIT */
/*
 * System management mode: what an SMI saves and what it changes, and what RSM loads.
 *
 * The saved state has KVM's formats, so that it can go to a KVM and come from one in the middle of a handler. If CPUID
 * offers long mode, that is the AMD64 format (APM vol. 2, table 10-1) with the attributes of a segment as they are in
 * bits 55:40 of its descriptor. Otherwise it is the format of 32-bit processors.
 */
#include <string.h>

#include "cpu/base/flags.h"
#include "cpu/base/private.h"
#include "cpu/system/control.h"
#include "cpu/system/shadow_regs.h"
#include "cpu/system/smm.h"
#include "cpu/system/svm_int.h"
#include "cpu/system/svm_owner.h"

#define AREA       0xfe00u /* of the saved state, from SMBASE */
#define AREA_BYTES 512u
#define ENTRY      0x8000u /* of the handler, from SMBASE */

#define REVISION_64  0x20064u /* the AMD64 format; SMBASE can be moved */
#define REVISION_32  0x20000u
#define AT_REVISION  0xfefcu
/* Only in the AMD64 format. */
#define AT_IO_TRAP   0xfec0u
#define AT_NESTED    0xfed8u /* 1: the SMI suspended guest mode, */
#define AT_VMCB      0xfee0u /* with this VMCB */

/* ---- the area as bytes ------------------------------------------------------------------------------------- */

static void put(uint8_t *area, unsigned at, unsigned size, uint64_t value)
{
	memcpy(area + (at - AREA), &value, size);
}

static uint64_t get(const uint8_t *area, unsigned at, unsigned size)
{
	uint64_t value = 0;

	memcpy(&value, area + (at - AREA), size);
	return value;
}

/* ---- the two formats --------------------------------------------------------------------------------------- */

/* A register of 64 bits in struct cpu_state, and where it is saved. */
struct place {
	uint16_t at;
	uint8_t size;
	uint16_t state;
};
#define PLACE(at, size, field) { at, size, offsetof(struct cpu_state, field) }

static const struct place places_64[] = {
	PLACE(0xfff8, 8, gpr[CPU_RAX]), PLACE(0xfff0, 8, gpr[CPU_RCX]), PLACE(0xffe8, 8, gpr[CPU_RDX]),
	PLACE(0xffe0, 8, gpr[CPU_RBX]), PLACE(0xffd8, 8, gpr[CPU_RSP]), PLACE(0xffd0, 8, gpr[CPU_RBP]),
	PLACE(0xffc8, 8, gpr[CPU_RSI]), PLACE(0xffc0, 8, gpr[CPU_RDI]), PLACE(0xffb8, 8, gpr[CPU_R8]),
	PLACE(0xffb0, 8, gpr[CPU_R9]), PLACE(0xffa8, 8, gpr[CPU_R10]), PLACE(0xffa0, 8, gpr[CPU_R11]),
	PLACE(0xff98, 8, gpr[CPU_R12]), PLACE(0xff90, 8, gpr[CPU_R13]), PLACE(0xff88, 8, gpr[CPU_R14]),
	PLACE(0xff80, 8, gpr[CPU_R15]), PLACE(0xff78, 8, rip), PLACE(0xff70, 8, rflags), PLACE(0xff68, 8, dr[6]),
	PLACE(0xff60, 8, dr[7]), PLACE(0xff58, 8, cr0), PLACE(0xff50, 8, cr3), PLACE(0xff48, 8, cr4),
	PLACE(0xff00, 4, smbase), PLACE(0xfed0, 8, efer), PLACE(0xfe88, 8, idt.base), PLACE(0xfe68, 8, gdt.base),
};
static const struct place places_32[] = {
	PLACE(0xffd0, 4, gpr[CPU_RAX]), PLACE(0xffd4, 4, gpr[CPU_RCX]), PLACE(0xffd8, 4, gpr[CPU_RDX]),
	PLACE(0xffdc, 4, gpr[CPU_RBX]), PLACE(0xffe0, 4, gpr[CPU_RSP]), PLACE(0xffe4, 4, gpr[CPU_RBP]),
	PLACE(0xffe8, 4, gpr[CPU_RSI]), PLACE(0xffec, 4, gpr[CPU_RDI]), PLACE(0xfff0, 4, rip),
	PLACE(0xfff4, 4, rflags), PLACE(0xfff8, 4, cr3), PLACE(0xfffc, 4, cr0), PLACE(0xffcc, 4, dr[6]),
	PLACE(0xffc8, 4, dr[7]), PLACE(0xff14, 4, cr4), PLACE(0xfef8, 4, smbase), PLACE(0xff58, 4, idt.base),
	PLACE(0xff74, 4, gdt.base),
};

/* Where a segment's parts are saved. */
struct seg_place {
	uint16_t selector, attributes, limit, base;
};
static const struct seg_place segs_64[CPU_SEG_COUNT] = {
	[CPU_ES] = { 0xfe00, 0xfe02, 0xfe04, 0xfe08 }, [CPU_CS] = { 0xfe10, 0xfe12, 0xfe14, 0xfe18 },
	[CPU_SS] = { 0xfe20, 0xfe22, 0xfe24, 0xfe28 }, [CPU_DS] = { 0xfe30, 0xfe32, 0xfe34, 0xfe38 },
	[CPU_FS] = { 0xfe40, 0xfe42, 0xfe44, 0xfe48 }, [CPU_GS] = { 0xfe50, 0xfe52, 0xfe54, 0xfe58 },
	[CPU_LDTR] = { 0xfe70, 0xfe72, 0xfe74, 0xfe78 }, [CPU_TR] = { 0xfe90, 0xfe92, 0xfe94, 0xfe98 },
};
static const struct seg_place segs_32[CPU_SEG_COUNT] = {
	[CPU_ES] = { 0xffa8, 0xff84, 0xff88, 0xff8c }, [CPU_CS] = { 0xffac, 0xff90, 0xff94, 0xff98 },
	[CPU_SS] = { 0xffb0, 0xff9c, 0xffa0, 0xffa4 }, [CPU_DS] = { 0xffb4, 0xff2c, 0xff30, 0xff34 },
	[CPU_FS] = { 0xffb8, 0xff38, 0xff3c, 0xff40 }, [CPU_GS] = { 0xffbc, 0xff44, 0xff48, 0xff4c },
	[CPU_LDTR] = { 0xffc0, 0xff78, 0xff7c, 0xff80 }, [CPU_TR] = { 0xffc4, 0xff5c, 0xff60, 0xff64 },
};

struct format {
	const struct place *places;
	unsigned places_count;
	const struct seg_place *segs;
	unsigned selector_size, attributes_size, attributes_shift, base_size;
	uint16_t gdt_limit, idt_limit; /* 4 bytes each */
	/* A byte each, which the handler may change. */
	uint16_t io_restart; /* not 0: RSM goes back to the IN or OUT with which the SMI came */
	uint16_t auto_halt;  /* 1: RSM goes back to the HLT that the SMI ended */
	uint16_t shadow;     /* KVM's: the interrupt shadow */
	uint16_t io_rip, io_rcx, io_rsi, io_rdi; /* of that IN or OUT; base_size bytes each */
	uint32_t revision;
};

static const struct format format_64 = {
	places_64, sizeof(places_64) / sizeof(*places_64), segs_64, 2, 2, 0, 8, 0xfe64, 0xfe84,
	0xfec8, 0xfec9, 0xfecb, 0xfea0, 0xfea8, 0xfeb0, 0xfeb8, REVISION_64,
};
static const struct format format_32 = {
	places_32, sizeof(places_32) / sizeof(*places_32), segs_32, 4, 4, 8, 4, 0xff70, 0xff54,
	0xff00, 0xff02, 0xff1a, 0xff10, 0xff08, 0xff0c, 0xff04, REVISION_32,
};

static bool has_long_mode(const struct cpu *cpu)
{
	return cpu->p->efer_valid & EFER_LME;
}

static const struct format *format_of(const struct cpu *cpu)
{
	return has_long_mode(cpu) ? &format_64 : &format_32;
}

static uint64_t *state_at(struct cpu_state *s, const struct place *place)
{
	return (uint64_t *)(void *)((char *)s + place->state);
}

/* ---- segments ---------------------------------------------------------------------------------------------- */

/* As bits 55:40 of a descriptor; those of the limit are 0. */
static uint32_t attributes(const struct cpu_segment *s)
{
	return (uint32_t)(s->type & 15) | (uint32_t)(s->s & 1) << 4 | (uint32_t)(s->dpl & 3) << 5 |
	       (uint32_t)(s->present && !s->unusable) << 7 | (uint32_t)(s->avl & 1) << 12 | (uint32_t)(s->l & 1) << 13 |
	       (uint32_t)(s->db & 1) << 14 | (uint32_t)(s->g & 1) << 15;
}

static void segment_save(const struct format *f, uint8_t *area, unsigned n, const struct cpu_segment *s)
{
	const struct seg_place *p = &f->segs[n];

	put(area, p->selector, f->selector_size, s->selector);
	put(area, p->attributes, f->attributes_size, attributes(s) << f->attributes_shift);
	put(area, p->limit, 4, s->limit);
	put(area, p->base, f->base_size, s->base);
}

static struct cpu_segment segment_load(const struct format *f, const uint8_t *area, unsigned n)
{
	const struct seg_place *p = &f->segs[n];
	uint64_t bits = get(area, p->attributes, f->attributes_size) >> f->attributes_shift;

	return (struct cpu_segment){
		.selector = (uint16_t)get(area, p->selector, f->selector_size),
		.limit = (uint32_t)get(area, p->limit, 4),
		.base = get(area, p->base, f->base_size),
		.type = bits & 15, .s = bits >> 4 & 1, .dpl = bits >> 5 & 3, .present = bits >> 7 & 1,
		.avl = bits >> 12 & 1, .l = bits >> 13 & 1, .db = bits >> 14 & 1, .g = bits >> 15 & 1,
		.unusable = !(bits >> 7 & 1),
	};
}

/* ---- entering ---------------------------------------------------------------------------------------------- */

/* If the SMI came with no IN or OUT, a handler that asks for a restart changes nothing. */
static void io_save(const struct cpu *cpu, const struct format *f, uint8_t *area)
{
	const struct cpu_private *p = cpu->p;
	bool valid = p->io_last.valid;

	put(area, f->io_rip, f->base_size, valid ? p->io_last.rip : cpu->s.rip);
	put(area, f->io_rcx, f->base_size, valid ? p->io_last.rcx : cpu->s.gpr[CPU_RCX]);
	put(area, f->io_rsi, f->base_size, valid ? p->io_last.rsi : cpu->s.gpr[CPU_RSI]);
	put(area, f->io_rdi, f->base_size, valid ? p->io_last.rdi : cpu->s.gpr[CPU_RDI]);
	if (valid && has_long_mode(cpu))
		put(area, AT_IO_TRAP, 4, p->io_last.trap);
}

static void area_save(struct cpu *cpu, uint8_t area[AREA_BYTES])
{
	const struct format *f = format_of(cpu);
	struct cpu_state *s = &cpu->s;

	memset(area, 0, AREA_BYTES);
	s->rflags = rflags_get(cpu);
	for (unsigned i = 0; i < f->places_count; i++)
		put(area, f->places[i].at, f->places[i].size, *state_at(s, &f->places[i]));
	for (unsigned i = 0; i < CPU_SEG_COUNT; i++)
		segment_save(f, area, i, &s->seg[i]);
	put(area, f->gdt_limit, 4, s->gdt.limit);
	put(area, f->idt_limit, 4, s->idt.limit);
	put(area, AT_REVISION, 4, f->revision);
	put(area, f->auto_halt, 1, s->events.smi.from_halt);
	put(area, f->shadow, 1, s->events.shadow);
	io_save(cpu, f, area);
	if (s->svm.guest) {
		put(area, AT_NESTED, 8, 1);
		put(area, AT_VMCB, 8, s->svm.vmcb_pa);
	}
}

/* The state in which a handler begins: like real mode, with segments of 4 GiB. */
static void handler_state(struct cpu *cpu)
{
	struct cpu_state *s = &cpu->s;
	struct cpu_events *e = &s->events;
	const struct cpu_segment flat = { .limit = UINT32_MAX, .type = 3, .present = 1, .s = 1, .g = 1 };

	e->smi.smm = true;
	e->smi.pending = e->smi.from_halt = false;
	e->smi.inside_nmi = e->nmi.masked;
	e->nmi.masked = true;
	e->shadow = 0;
	rflags_set(cpu, RFLAGS_FIXED1);
	s->rip = ENTRY;
	s->cr0 &= ~(CR0_PE | CR0_EM | CR0_TS | CR0_PG);
	s->cr4 = 0;
	if (has_long_mode(cpu)) {
		s->efer = 0;
		s->svm.gif = true; /* there is none without SVME */
	}
	s->dr[7] = 0x400;
	s->idt = (struct cpu_table){ 0, 0 };
	for (unsigned i = CPU_ES; i <= CPU_GS; i++)
		s->seg[i] = flat;
	s->seg[CPU_CS].selector = (uint16_t)(s->smbase >> 4);
	s->seg[CPU_CS].base = s->smbase;
	cpu_state_changed(cpu, CPU_CHANGED_SMM | CPU_CHANGED_MODE | CPU_CHANGED_PAGING | CPU_CHANGED_DEBUG);
}

uint64_t smm_save_area(const struct cpu *cpu)
{
	return cpu->s.smbase + AREA;
}

enum vmmu_status smm_enter(struct cpu *cpu)
{
	uint8_t area[AREA_BYTES];
	bool nested = cpu->s.svm.guest;
	enum vmmu_status status = VMMU_OK;

	area_save(cpu, area);
	if (nested)
		status = has_long_mode(cpu) ? svm_smm_suspend(cpu) : VMMU_ENOENT; /* only that format has room for it */
	if (status != VMMU_OK)
		return status;
	cpu->s.events.smi.smm = true;
	smm_address_space(cpu); /* SMRAM may be memory in address space 1 only */
	status = vmmu_guest_write(cpu->p->vcpu, (struct vmmu_gpa){ smm_save_area(cpu) }, area, sizeof(area));
	if (status != VMMU_OK) {
		cpu->s.events.smi.smm = false;
		smm_address_space(cpu);
		return status;
	}
	cpu->s.smi_count++;
	if (nested)
		svm_leave(cpu);
	handler_state(cpu);
	return VMMU_OK;
}

/* ---- leaving ----------------------------------------------------------------------------------------------- */

/* What loading the registers one by one would refuse. */
static bool state_legal(struct cpu *cpu, const struct cpu_state *s)
{
	bool is_long = s->efer & EFER_LMA;

	if (!cpu_sregs_valid(cpu, s->cr0, s->cr3, s->cr4, s->efer) || s->dr[6] >> 32 || s->dr[7] >> 32)
		return false;
	if ((s->cr4 & CR4_PCIDE) && !is_long)
		return false;
	return is_long || !(s->cr0 & CR0_PG) || !(s->cr4 & CR4_PAE) || cpu_pdptes_legal(cpu, s->cr3);
}

static void io_restart(const struct format *f, const uint8_t *area, struct cpu_state *s)
{
	s->rip = get(area, f->io_rip, f->base_size);
	s->gpr[CPU_RCX] = get(area, f->io_rcx, f->base_size);
	s->gpr[CPU_RSI] = get(area, f->io_rsi, f->base_size);
	s->gpr[CPU_RDI] = get(area, f->io_rdi, f->base_size);
}

static void area_load(const struct format *f, const uint8_t *area, struct cpu_state *s)
{
	for (unsigned i = 0; i < f->places_count; i++)
		*state_at(s, &f->places[i]) = get(area, f->places[i].at, f->places[i].size);
	for (unsigned i = 0; i < CPU_SEG_COUNT; i++)
		s->seg[i] = segment_load(f, area, i);
	s->gdt.limit = (uint16_t)get(area, f->gdt_limit, 4);
	s->idt.limit = (uint16_t)get(area, f->idt_limit, 4);
	if (get(area, f->io_restart, 1) != 0)
		io_restart(f, area, s);
	s->cr0 |= CR0_ET;
	/* LMA is not loaded: it follows from LME and PG. */
	s->efer &= ~EFER_LMA;
	if ((s->efer & EFER_LME) && (s->cr0 & CR0_PG))
		s->efer |= EFER_LMA;
}

bool smm_leave(struct cpu *cpu, bool *halted)
{
	const struct format *f = format_of(cpu);
	struct cpu_state *s = &cpu->s, new = *s;
	uint8_t area[AREA_BYTES];
	bool read = vmmu_guest_read(cpu->p->vcpu, (struct vmmu_gpa){ smm_save_area(cpu) }, area, sizeof(area)) ==
	            VMMU_OK;

	s->events.smi.smm = false;
	if (!s->events.smi.inside_nmi)
		s->events.nmi.masked = false;
	s->events.smi.inside_nmi = false;
	smm_address_space(cpu); /* the PDPTEs are in the memory that the interrupted program sees */
	if (!read)
		return false;
	area_load(f, area, &new);
	if (!state_legal(cpu, &new))
		return false;
	new.dr[6] = (new.dr[6] & 0xe00f) | 0xffff0ff0;
	new.dr[7] = (new.dr[7] & 0xffff2bff) | 0x400;
	new.events = s->events;
	new.events.shadow = get(area, f->shadow, 1) & (CPU_SHADOW_MOV_SS | CPU_SHADOW_STI);
	*halted = get(area, f->auto_halt, 1) & 1;
	*s = new;
	rflags_set(cpu, new.rflags);
	cpu_state_changed(cpu, CPU_CHANGED_MODE | CPU_CHANGED_PAGING | CPU_CHANGED_DEBUG);
	if (has_long_mode(cpu) && get(area, AT_NESTED, 1) & 1)
		return svm_smm_resume(cpu, get(area, AT_VMCB, 8));
	return true;
}

void smm_address_space(struct cpu *cpu)
{
	/* The only error says that the VM has one address space, which is then that of SMM, too. */
	enum vmmu_status status = vmmu_vcpu_address_space_set(cpu->p->vcpu, cpu->s.events.smi.smm);

	(void)status;
}
