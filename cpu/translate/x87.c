/* SPDX-License-Identifier: MIT */
/*
 * x87 instructions run as themselves on the host's x87, which has the guest's registers then (base/x87_host.h), with
 * every exception masked: fast.x87.
 *
 * The processor's pointers to the last instruction (fip, fop) are known when code is made. They are stored where
 * somebody may look: before a handler, before the block is left, and in the cold code of an access. The pointer to the
 * operand (fdp) is stored behind each instruction that has one.
 */
#include "cpu/base/x87_host.h"
#include "cpu/translate/translate_int.h"

#define FSW_ES     0x0080u
#define FCW_EVENTS 0x003fu

bool is_x87(const struct source *s, const struct op *op)
{
	switch (s->z.mnemonic) {
	case ZYDIS_MNEMONIC_FWAIT:
		return true;
	case ZYDIS_MNEMONIC_FNSTSW:
		return op->mem == OP_NO_MEM;
	default:
		return op->flags & OPF_X87;
	}
}

/* ---- when translated code may --------------------------------------------------------------------------------- */

static bool all_masked(const struct cpu *cpu)
{
	return (cpu->s.fx.fcw & FCW_EVENTS) == FCW_EVENTS && !(cpu->s.cr0 & (CR0_EM | CR0_TS));
}

void x87_look_again(struct cpu *cpu)
{
	cpu->fast.x87 = cpu->x87_loaded && all_masked(cpu);
}

/* What is not as usual is the handler's: it raises what is to be raised. */
uint64_t translate_x87(struct cpu *cpu, const struct op *op)
{
	(void)op;
	if (!all_masked(cpu))
		return 0;
	if (!cpu->x87_loaded) {
		/* B and ES are equal in what a processor has. */
		if (cpu->s.fx.fsw & (FSW_ES | FSW_ES << 8))
			return 0;
		x87_host_load(cpu);
	}
	cpu->fast.x87 = true;
	return 1;
}

/* From here on to the next handler, x87 is the guest's. */
static void want_x87(struct translation *tr, unsigned i)
{
	const struct source *s = &tr->source[i];
	struct cold *cold;

	if (tr->x87)
		return;
	tr->x87 = true;
	flags_spill(tr, (uint16_t)((s->live & ~s->writes) | s->reads));
	emit_reg_mem(&tr->e, false, 0x80, 7, H_STATE, STATE_OF(fast.x87)); /* cmpb $0 */
	EMIT(&tr->e, 0);
	cold = cold_add(tr, STUB_X87, emit_jcc(&tr->e, H_E, NULL));
	cold->op = (uint8_t)i;
	cold->back = emit_here(&tr->e);
}

/* ---- the pointers ---------------------------------------------------------------------------------------------- */

static uint16_t opcode_of(const struct op *op)
{
	return (uint16_t)(op->imm & 0x7ff);
}

void x87_pointers(struct translation *tr, unsigned last)
{
	const struct op *op;

	if (last == 0)
		return;
	op = &tr->block->ops[last - 1];
	emit_mov_constant(&tr->e, TEMP_VALUE, op->rip);
	emit_store(&tr->e, H_STATE, STATE_OF(s.fx.fip), TEMP_VALUE);
	emit_mov_constant(&tr->e, TEMP_VALUE, opcode_of(op));
	EMIT(&tr->e, 0x66);
	emit_reg_mem(&tr->e, false, 0x89, TEMP_VALUE, H_STATE, STATE_OF(s.fx.fop));
}

void x87_pointers_flush(struct translation *tr)
{
	x87_pointers(tr, tr->x87_last);
	tr->x87_last = 0;
}

void x87_pointers_trace(struct cpu *cpu, const struct block *b, unsigned last)
{
	if (last == 0)
		return;
	cpu->s.fx.fip = b->ops[last - 1].rip;
	cpu->s.fx.fop = opcode_of(&b->ops[last - 1]);
}

/* ---- the instruction ------------------------------------------------------------------------------------------- */

/* R12 keeps the operand's offset, which becomes the pointer to it when the instruction is done. */
static void emit_memory_form(struct translation *tr, unsigned i)
{
	const struct op *op = &tr->block->ops[i];
	bool write = op->imm2 != 0 && (tr->source[i].o[op->mem].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE);
	struct emit *e = &tr->e;

	address_effective(tr, i, TEMP_ADDRESS);
	emit_mov(e, TEMP_TARGET, TEMP_ADDRESS);
	address_add_segment(tr, i);
	access_check(tr, i, op->imm2, write);
	emit_reg_mem(e, false, (uint8_t)(0xd8 | (op->imm >> 8 & 7)), (unsigned)op->imm >> 3 & 7, TEMP_ADDRESS, 0);
	emit_store(e, H_STATE, STATE_OF(s.fx.fdp), TEMP_TARGET);
}

void emit_x87(struct translation *tr, unsigned i)
{
	const struct source *s = &tr->source[i];
	const struct op *op = &tr->block->ops[i];
	uint16_t kept = (uint16_t)(s->live & ~s->writes);

	want_x87(tr, i);
	if (s->z.mnemonic == ZYDIS_MNEMONIC_FWAIT)
		return;
	if (s->z.mnemonic == ZYDIS_MNEMONIC_FNSTSW) {
		EMIT(&tr->e, 0xdf, 0xe0);
		return;
	}
	if (op->mem != OP_NO_MEM) {
		flags_spill(tr, s->reads | kept);
		emit_memory_form(tr, i);
	} else {
		flags_want(tr, s->reads | (s->changes ? kept : 0));
		EMIT(&tr->e, (uint8_t)(0xd8 | (op->imm >> 8 & 7)), (uint8_t)op->imm);
		if (s->changes)
			tr->flags = FLAGS_HOST;
	}
	tr->x87_last = (uint8_t)(i + 1);
}
