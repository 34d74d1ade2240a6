/* SPDX-License-Identifier: MIT */
/*
 * x87: control and arithmetic.
 *
 * The instruction runs as itself on the host's x87, which holds the guest's registers and control word
 * (cpu/base/x87_host.h). An exception that the guest does not mask leaves the state that the processor leaves. It is
 * not raised on the host, because the registers are taken out before another instruction could wait for it.
 */
#include "cpu/fpu/x87.h"

#define FSW_STOPS 0x001fu /* unmasked exceptions after which no result is stored: all but precision */


/* ---- availability -------------------------------------------------------------------------------------- */

void x87_check(struct cpu *cpu)
{
	if (unlikely(cpu->s.cr0 & (CR0_EM | CR0_TS)))
		cpu_raise(cpu, VECTOR_NM);
}

/* CR0.NE is not asked: the other way of reporting, by a pin and an IRQ, is not there, as in a KVM on Intel. */
void x87_wait(struct cpu *cpu)
{
	x87_check(cpu);
	if (unlikely(cpu->s.fx.fsw & FSW_ES))
		cpu_raise(cpu, VECTOR_MF);
}

/* Not for FNSTCW and FNSTSW. */
void x87_no_device(struct cpu *cpu)
{
	if (unlikely(cpu->p->armed_count != 0))
		cpu_unimplemented(cpu);
}

/* ---- control ------------------------------------------------------------------------------------------- */

uint16_t x87_status(uint16_t fsw, uint16_t fcw)
{
	fsw &= (uint16_t)~(FSW_ES | FSW_B);
	return fsw & ~fcw & FSW_EVENTS ? fsw | FSW_ES | FSW_B : fsw;
}

uint16_t x87_control(uint16_t fcw)
{
	return (fcw & 0x1f3f) | 0x40;
}

void x87_init(struct cpu *cpu)
{
	struct cpu_fx *fx = &cpu->s.fx;

	x87_top_clear(cpu);
	fx->fcw = 0x37f;
	fx->fsw = 0;
	fx->ftw = 0;
	fx->fop = 0;
	fx->fip = fx->fdp = 0;
}

static void op_fninit(struct cpu *cpu, const struct op *op)
{
	(void)op;
	x87_check(cpu);
	x87_unload(cpu);
	x87_init(cpu);
}

static void op_fnclex(struct cpu *cpu, const struct op *op)
{
	(void)op;
	x87_check(cpu);
	if (cpu->x87_loaded)
		__asm__ volatile("fnclex");
	else
		cpu->s.fx.fsw &= 0x7f00;
}

/* What is left of FENI, FDISI and FSETPM. Like all instructions with FN they do not wait. */
static void op_fnothing(struct cpu *cpu, const struct op *op)
{
	(void)op;
	x87_check(cpu);
}

static void op_fldcw(struct cpu *cpu, const struct op *op)
{
	uint16_t fcw;

	x87_wait(cpu);
	x87_no_device(cpu);
	fcw = x87_control((uint16_t)mem_read(cpu, op_linear(cpu, op, 2, false), 2));
	if (cpu->x87_loaded && (fcw & FSW_EVENTS) == FSW_EVENTS) {
		cpu->s.fx.fcw = fcw;
		__asm__ volatile("fldcw %0" : : "m"(fcw));
		return;
	}
	/* An exception that is not masked any more may be pending now. */
	x87_unload(cpu);
	cpu->s.fx.fcw = fcw;
	cpu->s.fx.fsw = x87_status(cpu->s.fx.fsw, fcw);
}

static void op_fnstcw(struct cpu *cpu, const struct op *op)
{
	x87_check(cpu);
	mem_write(cpu, op_linear(cpu, op, 2, true), 2, cpu->s.fx.fcw);
}

static uint16_t host_status(void)
{
	uint16_t fsw;

	__asm__ volatile("fnstsw %0" : "=a"(fsw));
	return fsw;
}

static void op_fnstsw(struct cpu *cpu, const struct op *op)
{
	uint16_t fsw;

	x87_check(cpu);
	fsw = cpu->x87_loaded ? host_status() : cpu->s.fx.fsw;
	if (op->mem == 0)
		mem_write(cpu, op_linear(cpu, op, 2, true), 2, fsw);
	else
		reg_write(cpu, OPR(CPU_RAX), 2, fsw);
}

static void op_fwait(struct cpu *cpu, const struct op *op)
{
	(void)op;
	if ((cpu->s.cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
		cpu_raise(cpu, VECTOR_NM);
	if (cpu->s.fx.fsw & FSW_ES)
		cpu_raise(cpu, VECTOR_MF);
}

/* ---- arithmetic on the host ---------------------------------------------------------------------------- */

/* Four bytes for each opcode D8..DF and ModRM: the instruction, in memory forms on [RDI], and RET. */
extern const uint8_t cpu_x87_stubs[];
__asm__(".pushsection .text.cpu_x87_stubs, \"ax\", @progbits\n"
        ".balign 16\n"
        ".local cpu_x87_stubs\n"
        "cpu_x87_stubs:\n"
        ".set x87_op, 0xd8\n"
        ".rept 8\n"
        ".set x87_modrm, 0\n"
        ".rept 256\n"
        ".byte x87_op, x87_modrm, 0xc3, 0xcc\n"
        ".set x87_modrm, x87_modrm + 1\n"
        ".endr\n"
        ".set x87_op, x87_op + 1\n"
        ".endr\n"
        ".popsection\n");

/* op->imm: opcode and ModRM. In memory forms the operand is [RDI], whatever the guest's is. */
static const uint8_t *stub_of(const struct op *op)
{
	unsigned opcode = (unsigned)op->imm >> 8 & 7, modrm = (unsigned)op->imm & 0xff;

	if (op->mem != OP_NO_MEM)
		modrm = (modrm & 0x38) | 7;
	return &cpu_x87_stubs[(opcode * 256 + modrm) * 4];
}

static void call(const struct op *op, void *memory)
{
	const uint8_t *stub = stub_of(op);
	void (*run)(void *memory);

	memcpy(&run, &stub, sizeof(run));
	run(memory);
}

static void begin(struct cpu *cpu)
{
	x87_wait(cpu);
	x87_no_device(cpu);
	if (likely(cpu->x87_loaded))
		return;
	/* The host must have nothing to raise, whatever the owner has set. */
	cpu->s.fx.fsw = x87_status(cpu->s.fx.fsw, cpu->s.fx.fcw);
	x87_wait(cpu);
	x87_host_load(cpu);
}

/* What is pending now must not be in the host's registers. Masked exceptions never are. */
static void end(struct cpu *cpu, const struct op *op)
{
	struct cpu_fx *fx = &cpu->s.fx;

	fx->fip = op->rip;
	fx->fop = (uint16_t)(op->imm & 0x7ff);
	if (unlikely(~fx->fcw & FSW_EVENTS) && cpu->x87_loaded && (host_status() & FSW_ES))
		x87_unload(cpu);
}

static void op_x87(struct cpu *cpu, const struct op *op)
{
	begin(cpu);
	call(op, NULL);
	end(cpu, op);
}

/* FCMOVcc and FCOMI with their kin: RFLAGS' arithmetic bits are read or, if op->sub, written. */
static void op_x87_flags(struct cpu *cpu, const struct op *op)
{
	uint64_t flags;

	begin(cpu);
	flags = flags_get(cpu) | RFLAGS_FIXED1;
	__asm__ volatile("lea -128(%%rsp), %%rsp\n\t" /* the red zone */
	                 "push %[flags]\n\t"
	                 "popfq\n\t"
	                 "call *%[stub]\n\t"
	                 "pushfq\n\t"
	                 "pop %[flags]\n\t"
	                 "lea 128(%%rsp), %%rsp\n\t"
	                 : [flags] "+&r"(flags) : [stub] "r"(stub_of(op)) : "memory", "cc");
	if (op->sub)
		flags_set(cpu, flags);
	end(cpu, op);
}

/*
 * The operand crosses a page, or is in a page that may not be accessed at once. The host's memory may turn out to be
 * gone only when the result is written. The state is the old one then, and in s.fx.
 */
static __attribute__((noinline)) void store_by_copy(struct cpu *cpu, const struct op *op, uint64_t linear)
{
	uint8_t copy[16] __attribute__((aligned(16)));
	struct cpu_fx old, new;

	x87_unload(cpu);
	old = cpu->s.fx;
	x87_host_load(cpu);
	call(op, copy);
	x87_unload(cpu);
	new = cpu->s.fx;
	cpu->s.fx = old;
	if (!(new.fsw & ~new.fcw & FSW_STOPS))
		mem_write_bytes(cpu, linear, copy, op->imm2);
	cpu->s.fx = new;
}

static void op_x87_load(struct cpu *cpu, const struct op *op)
{
	uint8_t copy[16] __attribute__((aligned(16)));
	uint64_t linear;
	void *at;

	begin(cpu);
	linear = op_linear(cpu, op, op->imm2, false);
	at = tlb_find(cpu, TLB_READ, linear, op->imm2);
	if (unlikely(at == NULL)) {
		mem_read_bytes(cpu, linear, copy, op->imm2);
		at = copy;
	}
	call(op, at);
	cpu->s.fx.fdp = op_ea(cpu, op);
	end(cpu, op);
}

static void op_x87_store(struct cpu *cpu, const struct op *op)
{
	uint64_t linear;
	void *at;

	begin(cpu);
	linear = op_linear(cpu, op, op->imm2, true);
	at = tlb_find(cpu, TLB_WRITE, linear, op->imm2);
	if (unlikely(at == NULL)) {
		mem_check_write(cpu, linear, op->imm2);
		at = tlb_find(cpu, TLB_WRITE, linear, op->imm2);
	}
	if (likely(at != NULL))
		call(op, at);
	else
		store_by_copy(cpu, op, linear);
	cpu->s.fx.fdp = op_ea(cpu, op);
	end(cpu, op);
}

static op_fn *select_x87(const struct insn *insn, struct op *op)
{
	const ZydisDecodedInstruction *z = insn->z;
	op_fn *fn = op_x87;

	if (z->opcode < 0xd8 || z->opcode > 0xdf || z->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT)
		return NULL;
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_FCOMI: case ZYDIS_MNEMONIC_FCOMIP: case ZYDIS_MNEMONIC_FUCOMI: case ZYDIS_MNEMONIC_FUCOMIP:
		op->sub = 1;
		fn = op_x87_flags;
		break;
	case ZYDIS_MNEMONIC_FCMOVB: case ZYDIS_MNEMONIC_FCMOVE: case ZYDIS_MNEMONIC_FCMOVBE: case ZYDIS_MNEMONIC_FCMOVU:
	case ZYDIS_MNEMONIC_FCMOVNB: case ZYDIS_MNEMONIC_FCMOVNE: case ZYDIS_MNEMONIC_FCMOVNBE:
	case ZYDIS_MNEMONIC_FCMOVNU:
		op->sub = 0;
		fn = op_x87_flags;
		break;
	default:
		break;
	}
	if (op->mem != OP_NO_MEM) {
		const ZydisDecodedOperand *o = &insn->o[op->mem];

		op->imm2 = (uint8_t)(o->size / 8);
		if (op->imm2 == 0 || op->imm2 > sizeof(((struct cpu_fx *)0)->st[0]))
			return NULL;
		fn = o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE ? op_x87_store : op_x87_load;
	}
	op->flags |= OPF_X87;
	op->imm = z->opcode << 8 | z->raw.modrm.mod << 6 | z->raw.modrm.reg << 3 | z->raw.modrm.rm;
	return fn;
}

/* ---- selection ----------------------------------------------------------------------------------------- */

op_fn *fpu_select(const struct insn *insn, struct op *op)
{
	op_fn *fn = fpu_image_select(insn, op);

	if (fn == NULL)
		fn = fpu_xsave_select(insn, op);
	if (fn != NULL)
		return fn;
	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_FNINIT: return op_fninit;
	case ZYDIS_MNEMONIC_FNCLEX: return op_fnclex;
	case ZYDIS_MNEMONIC_FENI8087_NOP: case ZYDIS_MNEMONIC_FDISI8087_NOP: case ZYDIS_MNEMONIC_FSETPM287_NOP:
		return op_fnothing;
	case ZYDIS_MNEMONIC_FLDCW: return op_fldcw;
	case ZYDIS_MNEMONIC_FNSTCW: return op_fnstcw;
	case ZYDIS_MNEMONIC_FNSTSW: return op_fnstsw;
	case ZYDIS_MNEMONIC_FWAIT: return op_fwait;
	default: return select_x87(insn, op);
	}
}
