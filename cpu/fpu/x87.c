/* SPDX-License-Identifier: MIT */
/*
 * x87: control and arithmetic.
 *
 * On x86 hosts the host's x87 does the arithmetic. FXRSTOR loads the guest's state, the instruction runs with its
 * memory operand in a buffer, and FXSAVE takes the state back. Meanwhile the guest's control word holds. An
 * exception that it does not mask leaves the state that the processor leaves. It is not raised on the host, because
 * no waiting instruction follows before the host's own state is back. On other hosts: CPU_ERROR_EMULATION.
 *
 * The status word in the state is at any time the processor's, with ES and B.
 */
#include "cpu/fpu/x87.h"

#define FXSR_X87_A 24u     /* of FXSAVE's image: the control words and pointers */
#define FSW_STOPS  0x001fu /* unmasked exceptions after which no result is stored: all but precision */

/* ---- availability -------------------------------------------------------------------------------------- */

void x87_check(struct cpu *cpu)
{
	if (unlikely(cpu->s.cr0 & (CR0_EM | CR0_TS)))
		cpu_raise(cpu, VECTOR_NM);
}

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
	x87_init(cpu);
}

static void op_fnclex(struct cpu *cpu, const struct op *op)
{
	(void)op;
	x87_check(cpu);
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
	x87_wait(cpu);
	x87_no_device(cpu);
	cpu->s.fx.fcw = x87_control((uint16_t)mem_read(cpu, op_linear(cpu, op, 2, false), 2));
	cpu->s.fx.fsw = x87_status(cpu->s.fx.fsw, cpu->s.fx.fcw);
}

static void op_fnstcw(struct cpu *cpu, const struct op *op)
{
	x87_check(cpu);
	mem_write(cpu, op_linear(cpu, op, 2, true), 2, cpu->s.fx.fcw);
}

static void op_fnstsw(struct cpu *cpu, const struct op *op)
{
	x87_check(cpu);
	if (op->mem == 0)
		mem_write(cpu, op_linear(cpu, op, 2, true), 2, cpu->s.fx.fsw);
	else
		reg_write(cpu, OPR(CPU_RAX), 2, cpu->s.fx.fsw);
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

#if defined(__x86_64__)

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

/* `flags`: the arithmetic bits of RFLAGS before the instruction (for FCMOVcc) and after it (for FCOMI). */
static void host_x87(struct cpu_fxsave *guest, const uint8_t *stub, void *memory, uint64_t *flags)
{
	struct cpu_fxsave host;

	__asm__ volatile("fxsave64 (%[host])\n\t"
	                 "fxrstor64 (%[guest])\n\t"
	                 "lea -128(%%rsp), %%rsp\n\t" /* the red zone */
	                 "push %[flags]\n\t"
	                 "popfq\n\t"
	                 "call *%[stub]\n\t"
	                 "pushfq\n\t"
	                 "pop %[flags]\n\t"
	                 "lea 128(%%rsp), %%rsp\n\t"
	                 "fxsave64 (%[guest])\n\t"
	                 "fxrstor64 (%[host])\n\t"
	                 : [flags] "+&r"(*flags)
	                 : [host] "r"(&host), [guest] "r"(guest), [stub] "r"(stub), "D"(memory)
	                 : "memory", "cc", "rax");
}

/* op->sub: bit 0 memory is read, bit 1 memory is written, bit 3 RFLAGS are written. op->imm: opcode and ModRM. */
static void op_x87(struct cpu *cpu, const struct op *op)
{
	uint8_t memory[16] __attribute__((aligned(16)));
	struct cpu_fxsave image = { .fx.mxcsr = 0x1f80 };
	uint64_t linear = 0;
	unsigned opcode = (unsigned)op->imm >> 8 & 7, modrm = (unsigned)op->imm & 0xff;
	uint64_t flags = flags_get(cpu) | RFLAGS_FIXED1;

	x87_wait(cpu);
	x87_no_device(cpu);
	if (op->mem != OP_NO_MEM) {
		modrm = (modrm & 0x38) | 7;
		linear = op_linear(cpu, op, op->imm2, op->sub & 2);
		if (op->sub & 1)
			mem_read_bytes(cpu, linear, memory, op->imm2);
		if (op->sub & 2)
			mem_check_write(cpu, linear, op->imm2);
	}
	memcpy(&image, &cpu->s.fx, FXSR_X87_A);
	memcpy(image.fx.st, cpu->s.fx.st, sizeof(image.fx.st));
	host_x87(&image, &cpu_x87_stubs[(opcode * 256 + modrm) * 4], memory, &flags);
	if (op->sub & 8)
		flags_set(cpu, flags);
	if ((op->sub & 2) && !(image.fx.fsw & ~image.fx.fcw & FSW_STOPS))
		mem_write_bytes(cpu, linear, memory, op->imm2);
	image.fx.fip = op->rip;
	image.fx.fdp = op->mem != OP_NO_MEM ? op_ea(cpu, op) : cpu->s.fx.fdp;
	image.fx.fop = (uint16_t)(op->imm & 0x7ff);
	memcpy(&cpu->s.fx, &image, FXSR_X87_A);
	memcpy(cpu->s.fx.st, image.fx.st, sizeof(image.fx.st));
}

static op_fn *select_x87(const struct insn *insn, struct op *op)
{
	const ZydisDecodedInstruction *z = insn->z;
	unsigned sub = 0;

	if (z->opcode < 0xd8 || z->opcode > 0xdf || z->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT)
		return NULL;
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_FCOMI: case ZYDIS_MNEMONIC_FCOMIP: case ZYDIS_MNEMONIC_FUCOMI: case ZYDIS_MNEMONIC_FUCOMIP:
		sub = 8;
		break;
	default:
		break;
	}
	if (op->mem != OP_NO_MEM) {
		const ZydisDecodedOperand *o = &insn->o[op->mem];

		op->imm2 = (uint8_t)(o->size / 8);
		if (op->imm2 == 0 || op->imm2 > sizeof(((struct cpu_fx *)0)->st[0]))
			return NULL;
		sub |= (o->actions & ZYDIS_OPERAND_ACTION_MASK_READ ? 1 : 0) |
		       (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE ? 2 : 0);
	}
	op->sub = (uint8_t)sub;
	op->flags |= OPF_X87;
	op->imm = z->opcode << 8 | z->raw.modrm.mod << 6 | z->raw.modrm.reg << 3 | z->raw.modrm.rm;
	return op_x87;
}

#else

static op_fn *select_x87(const struct insn *insn, struct op *op)
{
	(void)insn;
	(void)op;
	return NULL;
}

#endif

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
