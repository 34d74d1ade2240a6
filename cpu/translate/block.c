/* SPDX-License-Identifier: MIT */
/* One decoded block becomes host code. */
#include <string.h>

#include "cpu/translate/translate_int.h"

static unsigned memory_size(const struct source *s, bool *write)
{
	for (unsigned i = 0; i < s->z.operand_count; i++) {
		const ZydisDecodedOperand *o = &s->o[i];

		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			*write = o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
			return o->size / 8;
		}
	}
	return 0;
}

/* ---- instructions ------------------------------------------------------------------------------------------------ */

/*
 * Flags that must be in cpu->fast.flags while the instruction may still fail. What it would overwrite itself nobody
 * reads but a handler of the fault.
 */
static uint16_t flags_before(const struct source *s)
{
	return translate_tuning()->exact ? ARITH : (uint16_t)((s->live & ~s->writes) | s->reads);
}

static void emit_load_address(struct translation *tr, unsigned i)
{
	const struct op *op = &tr->block->ops[i];
	unsigned gpr = opr_number(op->reg[0]), to = host_of(gpr);

	if (op->size == 8 && to != SPILLED) {
		address_effective(tr, i, to);
		return;
	}
	address_effective(tr, i, TEMP_ADDRESS);
	if (op->size == 4)
		emit_reg_reg(&tr->e, false, 0x89, TEMP_ADDRESS, TEMP_ADDRESS);
	guest_register_set(tr, gpr, TEMP_ADDRESS);
}

/* Does the host, as the guest, want the operand aligned? */
static bool must_be_aligned(const struct source *s, unsigned size)
{
	if (s->how != HOW_VECTOR || size != 16)
		return false;
	switch (s->z.mnemonic) {
	case ZYDIS_MNEMONIC_MOVUPS: case ZYDIS_MNEMONIC_MOVUPD: case ZYDIS_MNEMONIC_MOVDQU: case ZYDIS_MNEMONIC_LDDQU:
	case ZYDIS_MNEMONIC_PCMPESTRI: case ZYDIS_MNEMONIC_PCMPESTRM:
	case ZYDIS_MNEMONIC_PCMPISTRI: case ZYDIS_MNEMONIC_PCMPISTRM:
		return false;
	default:
		return true;
	}
}

/* From here on, the XMM registers are the host's. */
static void want_vectors(struct translation *tr, unsigned i)
{
	const struct source *s = &tr->source[i];
	struct cold *cold;

	if (tr->vectors)
		return;
	tr->vectors = true;
	flags_spill(tr, flags_before(s));
	emit_reg_mem(&tr->e, false, 0x80, 7, H_STATE, STATE_OF(fast.vectors)); /* cmpb $0 */
	EMIT(&tr->e, 0);
	cold = cold_add(tr, STUB_VECTORS, emit_jcc(&tr->e, H_E, NULL));
	cold->op = (uint8_t)i;
	cold->back = emit_here(&tr->e);
}

static void emit_copy(struct translation *tr, unsigned i)
{
	const struct source *s = &tr->source[i];
	uint16_t kept = (uint16_t)(s->live & ~s->writes);
	bool write = false;
	unsigned size;

	if (s->z.mnemonic == ZYDIS_MNEMONIC_LEA) {
		emit_load_address(tr, i);
		return;
	}
	if (s->how == HOW_VECTOR)
		want_vectors(tr, i);
	size = memory_size(s, &write);
	if (size != 0) {
		flags_spill(tr, flags_before(s));
		address(tr, i);
		if (must_be_aligned(s, size)) {
			/* #GP comes before #PF. */
			EMIT(&tr->e, 0x41, 0xf6, 0xc6, 15); /* test $15,%r14b */
			leave_interpret(tr, i, emit_jcc(&tr->e, H_NE, NULL));
		}
		access_check(tr, i, size, write);
	}
	flags_want(tr, s->reads | (s->changes ? kept : 0));
	copy_instruction(tr, i);
	if (s->changes)
		tr->flags = FLAGS_HOST;
}

/* The stack's next place, for a write, into R14. */
static void stack_below(struct translation *tr, unsigned i)
{
	emit_lea(&tr->e, TEMP_ADDRESS, H_GUEST_SP, -8);
	access_check(tr, i, 8, true);
}

static void store_constant(struct translation *tr, uint64_t value)
{
	if ((uint64_t)(int64_t)(int32_t)value == value) {
		emit_reg_mem(&tr->e, true, 0xc7, 0, TEMP_ADDRESS, 0);
		emit_32(&tr->e, (uint32_t)value);
		return;
	}
	emit_mov_constant(&tr->e, TEMP_VALUE, value);
	emit_store(&tr->e, TEMP_ADDRESS, 0, TEMP_VALUE);
}

static void emit_push(struct translation *tr, unsigned i)
{
	const struct op *op = &tr->block->ops[i];
	struct emit *e = &tr->e;

	flags_spill(tr, tr->source[i].live);
	if (op->mem == 0) {
		address(tr, i);
		access_check(tr, i, 8, false);
		emit_load(e, TEMP_TARGET, TEMP_ADDRESS, 0);
		stack_below(tr, i);
		emit_store(e, TEMP_ADDRESS, 0, TEMP_TARGET);
	} else if (tr->source[i].o[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		stack_below(tr, i);
		store_constant(tr, (uint64_t)op->imm);
	} else {
		stack_below(tr, i);
		emit_store(e, TEMP_ADDRESS, 0, guest_register(tr, opr_number(op->reg[0]), TEMP_VALUE));
	}
	emit_lea(e, H_GUEST_SP, H_GUEST_SP, -8);
}

static void emit_pop(struct translation *tr, unsigned i)
{
	unsigned gpr = opr_number(tr->block->ops[i].reg[0]);

	flags_spill(tr, tr->source[i].live);
	emit_mov(&tr->e, TEMP_ADDRESS, H_GUEST_SP);
	access_check(tr, i, 8, false);
	emit_load(&tr->e, TEMP_VALUE, TEMP_ADDRESS, 0);
	emit_lea(&tr->e, H_GUEST_SP, H_GUEST_SP, 8);
	guest_register_set(tr, gpr, TEMP_VALUE);
}

static void emit_leave_frame(struct translation *tr, unsigned i)
{
	flags_spill(tr, tr->source[i].live);
	emit_mov(&tr->e, TEMP_ADDRESS, H_RBP);
	access_check(tr, i, 8, false);
	/* The load may be a SIGSEGV: the guest's registers change behind it. */
	emit_load(&tr->e, TEMP_VALUE, TEMP_ADDRESS, 0);
	emit_lea(&tr->e, H_GUEST_SP, H_RBP, 8);
	emit_mov(&tr->e, H_RBP, TEMP_VALUE);
}

/* ---- divisions: one that would fault is not run ------------------------------------------------------------------ */

static void emit_divide(struct translation *tr, unsigned i)
{
	const struct source *s = &tr->source[i];
	const struct op *op = &tr->block->ops[i];
	bool wide = op->size == 8;
	struct emit *e = &tr->e;
	unsigned divisor;

	flags_spill(tr, flags_before(s));
	if (op->mem == 0) {
		/* Another CPU may write there between the look and the division. */
		address(tr, i);
		access_check(tr, i, op->size, false);
		emit_reg_mem(e, wide, 0x8b, TEMP_VALUE, TEMP_ADDRESS, 0);
		divisor = TEMP_VALUE;
	} else {
		divisor = guest_register(tr, opr_number(op->reg[0]), TEMP_VALUE);
	}
	if (s->how == HOW_DIV) {
		emit_reg_reg(e, wide, 0x39, divisor, H_RDX); /* cmp: the quotient is too large, or the divisor 0 */
		leave_interpret(tr, i, emit_jcc(e, H_AE, NULL));
		emit_reg_reg(e, wide, 0xf7, 6, divisor);
	} else {
		/* The usual case: RDX is the sign of RAX, and the divisor is neither 0 nor -1. */
		emit_mov(e, TEMP_ADDRESS, H_RAX);
		emit_reg_reg(e, wide, 0xc1, 7, TEMP_ADDRESS); /* sar */
		EMIT(e, wide ? 63 : 31);
		emit_reg_reg(e, wide, 0x39, TEMP_ADDRESS, H_RDX);
		leave_interpret(tr, i, emit_jcc(e, H_NE, NULL));
		emit_reg_mem(e, wide, 0x8d, TEMP_ADDRESS, divisor, 1); /* lea */
		emit_reg_reg(e, wide, 0x83, 7, TEMP_ADDRESS); /* cmp $1 */
		EMIT(e, 1);
		leave_interpret(tr, i, emit_jcc(e, H_BE, NULL));
		emit_reg_reg(e, wide, 0xf7, 7, divisor);
	}
	tr->flags = FLAGS_HOST;
}

/* ---- control ----------------------------------------------------------------------------------------------------- */

static void jump_to_target(struct translation *tr)
{
	EMIT(&tr->e, 0x41, 0xff, 0xe0 | (TEMP_TARGET & 7));
}

/* The target of an indirect CALL or JMP, in R14. */
static void indirect_target(struct translation *tr, unsigned i)
{
	const struct op *op = &tr->block->ops[i];

	if (op->mem == 0) {
		address(tr, i);
		access_check(tr, i, 8, false);
		emit_load(&tr->e, TEMP_ADDRESS, TEMP_ADDRESS, 0);
	} else {
		emit_mov(&tr->e, TEMP_ADDRESS, guest_register(tr, opr_number(op->reg[0]), TEMP_ADDRESS));
	}
}

static bool is_direct(const struct source *s)
{
	return s->o[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
}

static void emit_call_near(struct translation *tr, unsigned i)
{
	const struct op *op = &tr->block->ops[i];
	bool direct = is_direct(&tr->source[i]);

	flags_spill(tr, ARITH);
	if (!direct) {
		indirect_target(tr, i);
		leave_lookup(tr, i);
	}
	stack_below(tr, i);
	store_constant(tr, op->rip + op->len);
	emit_lea(&tr->e, H_GUEST_SP, H_GUEST_SP, -8);
	if (direct)
		leave_to(tr, (uint64_t)op->imm, true);
	else
		jump_to_target(tr);
}

static void emit_ret(struct translation *tr, unsigned i)
{
	flags_spill(tr, ARITH);
	emit_mov(&tr->e, TEMP_ADDRESS, H_GUEST_SP);
	access_check(tr, i, 8, false);
	emit_load(&tr->e, TEMP_ADDRESS, TEMP_ADDRESS, 0);
	leave_lookup(tr, i);
	emit_lea(&tr->e, H_GUEST_SP, H_GUEST_SP, (int32_t)(8 + tr->block->ops[i].imm));
	jump_to_target(tr);
}

static void emit_jump(struct translation *tr, unsigned i)
{
	const struct op *op = &tr->block->ops[i];

	if (is_direct(&tr->source[i])) {
		leave_to(tr, (uint64_t)op->imm, (uint64_t)op->imm <= op->rip);
		return;
	}
	flags_spill(tr, ARITH);
	indirect_target(tr, i);
	leave_lookup(tr, i);
	jump_to_target(tr);
}

static void emit_jump_if(struct translation *tr, unsigned i)
{
	const struct op *op = &tr->block->ops[i];

	flags_want(tr, (uint16_t)tr->source[i].z.cpu_flags->tested & ARITH);
	leave_if(tr, tr->source[i].z.opcode & 15, (uint64_t)op->imm, (uint64_t)op->imm <= op->rip);
}

/* Does it lead out of the block, or to a handler? */
static bool how_shows_x87(enum how how)
{
	switch (how) {
	case HOW_CALL: case HOW_LEAVE: case HOW_JCC: case HOW_CALL_NEAR: case HOW_RET: case HOW_JMP: return true;
	default: return false;
	}
}

/* Returns: false when the block ends with this instruction. */
static bool emit_one(struct translation *tr, unsigned i)
{
	enum how how = (enum how)tr->source[i].how;

	if (how_shows_x87(how))
		x87_pointers_flush(tr);
	switch (how) {
	case HOW_NOTHING: return true;
	case HOW_COPY: case HOW_VECTOR: emit_copy(tr, i); return true;
	case HOW_X87: emit_x87(tr, i); return true;
	case HOW_PUSH: emit_push(tr, i); return true;
	case HOW_POP: emit_pop(tr, i); return true;
	case HOW_LEAVE_FRAME: emit_leave_frame(tr, i); return true;
	case HOW_DIV: case HOW_IDIV: emit_divide(tr, i); return true;
	case HOW_JCC: emit_jump_if(tr, i); return true;
	case HOW_CALL:
		flags_spill(tr, ARITH);
		emit_mov_constant(&tr->e, TEMP_VALUE, (uint64_t)(uintptr_t)&tr->block->ops[i]);
		emit_call(&tr->e, tr->t->call);
		tr->x87 = false;
		return true;
	case HOW_CALL_NEAR: emit_call_near(tr, i); return false;
	case HOW_RET: emit_ret(tr, i); return false;
	case HOW_JMP: emit_jump(tr, i); return false;
	case HOW_LEAVE:
		flags_spill(tr, ARITH);
		leave_interpret(tr, i, NULL);
		return false;
	}
	return false;
}

/* ---- the block --------------------------------------------------------------------------------------------------- */

/* A place that a jump can be put over, when the block is dead. */
static const uint8_t *emit_hole(struct emit *e)
{
	const uint8_t *here = emit_here(e);

	EMIT(e, 0x0f, 0x1f, 0x44, 0, 0); /* a NOP of 5 bytes */
	return here;
}

/*
 * Entries with flags in RFLAGS drop them, where the block overwrites them unread. Otherwise emit_saving_entries makes
 * these two.
 */
static void emit_entries(struct translation *tr)
{
	struct translated *out = tr->out;
	struct emit *e = &tr->e;

	out->entry_checked = emit_here(e);
	emit_mov_constant(e, TEMP_VALUE, (uint64_t)(uintptr_t)&out->page->gen);
	emit_load(e, TEMP_VALUE, TEMP_VALUE, 0);
	emit_reg_mem(e, true, 0x3b, TEMP_VALUE, H_STATE, STATE_OF(code_gen));
	cold_add(tr, STUB_START, emit_jcc(e, H_NE, NULL));
	out->entry[ENTRY_HOST_POLL] = emit_hole(e);
	out->entry[ENTRY_MEMORY_POLL] = emit_here(e);
	emit_load(e, TEMP_VALUE, H_STATE, STATE_OF(entry.poll));
	emit_reg_mem(e, false, 0x83, 7, TEMP_VALUE, 0); /* cmpl */
	EMIT(e, VMMU_POLL_RUN);
	cold_add(tr, STUB_START, emit_jcc(e, H_NE, NULL));
	out->entry[ENTRY_HOST] = emit_hole(e);
	out->entry[ENTRY_MEMORY] = emit_here(e);
}

static void emit_saving_entries(struct translation *tr)
{
	struct translated *out = tr->out;
	struct emit *e = &tr->e;

	if (tr->live == 0)
		return;
	out->entry[ENTRY_HOST] = emit_here(e);
	emit_flags_save(e);
	emit_jmp(e, out->entry[ENTRY_MEMORY]);
	out->entry[ENTRY_HOST_POLL] = emit_here(e);
	emit_flags_save(e);
	emit_jmp(e, out->entry[ENTRY_MEMORY_POLL]);
}

struct translation *translate_look(struct cpu *cpu, struct block *b)
{
	struct translation *tr = &cpu->p->translate->work;
	const uint8_t *bytes = b->bytes;

	tr->cpu = cpu;
	tr->t = cpu->p->translate;
	tr->block = b;
	tr->cold_count = 0;

	for (unsigned i = 0; i < b->ops_count; i++) {
		struct source *s = &tr->source[i];

		s->bytes = bytes;
		s->z = (ZydisDecodedInstruction){ 0 };
		if (b->ops[i].fn != op_undefined &&
		    !ZYAN_SUCCESS(ZydisDecoderDecodeFull(&cpu->p->decoder[MODE_BITS_64], bytes, b->ops[i].len, &s->z,
		                                         s->o)))
			return NULL;
		bytes += b->ops[i].len;
	}
	choose(tr);
	return tr;
}

static void emit_block(struct translation *tr, uint16_t *ends, uint8_t *x87)
{
	const struct block *b = tr->block;
	const uint8_t *start;
	bool goes_on = true;

	emit_entries(tr);
	start = tr->out->entry_checked;
	tr->flags = FLAGS_MEMORY;
	tr->vectors = tr->x87 = false;
	tr->x87_last = 0;
	for (unsigned i = 0; i < b->ops_count; i++) {
		x87[i] = tr->x87_last;
		if (goes_on)
			goes_on = emit_one(tr, i);
		ends[i] = (uint16_t)(emit_here(&tr->e) - start);
	}
	x87_pointers_flush(tr);
	if (goes_on)
		leave_to(tr, (uint64_t)b->ops[b->ops_count].imm, false);
	cold_emit(tr);
	emit_saving_entries(tr);
}

struct translated *translate_block(struct cpu *cpu, struct block *b, unsigned tlb)
{
	struct translate *t = translate_memory(cpu);
	struct translation *tr;
	uint16_t *ends;
	uint8_t *x87;

	if (t == NULL)
		return NULL;
	if (!translate_has_room(t)) {
		t->full = true;
		return NULL;
	}
	tr = translate_look(cpu, b);
	if (tr == NULL)
		return NULL;
	tr->tlb = tlb;
	ends = (uint16_t *)(void *)(t->code.write + t->code.used);
	x87 = (uint8_t *)(ends + b->ops_count);
	t->code.used += (b->ops_count * (sizeof(ends[0]) + 1) + 15) & ~(size_t)15;
	tr->e = (struct emit){ .at = t->code.write + t->code.used, .to_run = t->code.run - t->code.write };
	tr->out = &t->translated[t->translated_used++];
	*tr->out = (struct translated){
		.block = b, .page = translate_page(cpu, b, tlb), .start = emit_here(&tr->e), .ends = ends, .x87 = x87,
	};
	emit_block(tr, ends, x87);
	tr->out->length = (uint32_t)(emit_here(&tr->e) - tr->out->start);
	t->code.used = ((size_t)(tr->e.at - t->code.write) + 15) & ~(size_t)15;
	tr->out->next = tr->out->page->blocks;
	tr->out->page->blocks = tr->out;
	t->stats.blocks++;
	t->stats.guest_bytes += b->length;
	t->stats.host_bytes += tr->out->length;
	return tr->out;
}
