/* SPDX-License-Identifier: MIT */
/*
 * From a row to a case. Choose the operands and encode them; then choose a state in which the memory operand points
 * where it should and the implicit operands do something interesting.
 *
 * Long because: a choice among the kinds of operand is one switch, each kind a few lines.
 */
#include "gen_build.h"

#include <string.h>

static uint16_t fixed_regs(const struct build *b)
{
	switch (b->row->kind) {
	case GEN_STACK:
	case GEN_RETURN:
	case GEN_POPF:
		return 1 << RSP;
	case GEN_INDIRECT:
		return 1 << RSP;
	case GEN_LEAVE:
		return 1 << RBP;
	case GEN_STRING:
	case GEN_MASKMOV:
		return 1 << RSI | 1 << RDI | 1 << RCX;
	default:
		return 0;
	}
}

static unsigned int any_reg(struct build *b)
{
	return (unsigned int)gen_below(&b->rand, b->mode32 ? 8 : 16);
}

/* A register as Zydis names it, by its number in the encoding; byte registers 20-23 are ah ch dh bh. */
static ZydisRegister zydis_gpr(unsigned int reg, unsigned int bytes)
{
	switch (bytes) {
	case 1:
		if (reg >= 20)
			return (ZydisRegister)(ZYDIS_REGISTER_AH + (reg - 20));
		return (ZydisRegister)(reg < 4 ? ZYDIS_REGISTER_AL + reg : ZYDIS_REGISTER_SPL + (reg - 4));
	case 2:
		return (ZydisRegister)(ZYDIS_REGISTER_AX + reg);
	case 4:
		return (ZydisRegister)(ZYDIS_REGISTER_EAX + reg);
	default:
		return (ZydisRegister)(ZYDIS_REGISTER_RAX + reg);
	}
}

static uint64_t pick_target(struct build *b, unsigned int size)
{
	uint64_t t = GEN_DATA + 64 + gen_below(&b->rand, GEN_DATA_RW - 256);

	switch (gen_below(&b->rand, 40)) {
	case 0: /* across the two read-write pages */
		return GEN_DATA + GEN_PAGE - gen_below(&b->rand, size + 1);
	case 1: /* into the read-only page */
		return GEN_DATA + GEN_DATA_RW - gen_below(&b->rand, size + 1);
	case 2: /* into nothing */
		return GEN_DATA + GEN_DATA_SIZE - gen_below(&b->rand, size + 1);
	case 3:
		return GEN_DATA - gen_below(&b->rand, 2 * size + 1);
	case 4:
		return b->mode32 ? t : (b->address_bytes == 4 ? t : UINT64_C(0x00008000deadbee0) + t);
	default:
		return gen_percent(&b->rand, size == 16 || size == 512 ? 85 : 50) ? t & ~UINT64_C(15) : t;
	}
}

/* BX or BP and SI or DI, or one of them, or none. */
static void choose_memory16(struct build *b, ZydisEncoderOperand *op, unsigned int size)
{
	static const unsigned int bases[] = { NO_REG, RBX, RBP, RBX }, indices[] = { NO_REG, RSI, RDI, NO_REG };
	int64_t disp = gen_percent(&b->rand, 40) ? (int64_t)gen_below(&b->rand, 256) - 128
		       : gen_percent(&b->rand, 50) ? (int16_t)gen_next(&b->rand) : 0;

	b->target = pick_target(b, size);
	b->base = bases[gen_below(&b->rand, b->in_sequence ? 1 : 4)];
	b->index = indices[gen_below(&b->rand, b->in_sequence ? 1 : 4)];
	if (b->index < 16 && (fixed_regs(b) >> b->index & 1))
		b->index = NO_REG;
	if (b->base < 16 && (fixed_regs(b) >> b->base & 1))
		b->base = NO_REG;
	if (b->base == NO_REG && b->index == NO_REG) {
		b->target = GEN_DATA + gen_below(&b->rand, b->in_sequence ? GEN_DATA_RW - 16 : GEN_DATA_SIZE);
		disp = (int64_t)(b->target - b->data_base);
	}
	op->type = ZYDIS_OPERAND_TYPE_MEMORY;
	op->mem.base = b->base == NO_REG ? ZYDIS_REGISTER_NONE : zydis_gpr(b->base, 2);
	op->mem.index = b->index == NO_REG ? ZYDIS_REGISTER_NONE : zydis_gpr(b->index, 2);
	op->mem.scale = b->index == NO_REG ? 0 : 1;
	op->mem.displacement = disp;
	op->mem.size = (ZyanU16)(b->row->mnemonic == ZYDIS_MNEMONIC_LEA ? 2 : size);
	b->memory_size = size;
}

static void choose_memory(struct build *b, ZydisEncoderOperand *op, unsigned int size)
{
	unsigned int how = (unsigned int)gen_below(&b->rand, b->in_sequence ? 17 : 100);
	unsigned int scale = 1u << gen_below(&b->rand, 4);
	int64_t disp = 0;

	if (b->mode16 && (b->in_sequence || !gen_percent(&b->rand, 25))) {
		choose_memory16(b, op, size);
		return;
	}
	b->address_bytes = b->mode32 ? 4 : gen_percent(&b->rand, 8) ? 4 : 8;
	b->target = pick_target(b, size);
	b->base = any_reg(b);
	b->index = any_reg(b);
	if (gen_percent(&b->rand, 30))
		disp = (int64_t)gen_below(&b->rand, 256) - 128;
	else if (gen_percent(&b->rand, 60))
		disp = (int32_t)gen_next(&b->rand);

	if (b->in_sequence && b->mode32)
		how = 16;
	if (how < 12 && !b->mode32) {
		b->base = RIP_REG;
		b->index = NO_REG;
		disp = 0x1000;
		b->target = GEN_DATA + gen_below(&b->rand, b->in_sequence ? GEN_DATA_RW - 16 : GEN_DATA_SIZE);
	} else if (how < 17) {
		b->base = b->index = NO_REG;
		b->target = GEN_DATA + gen_below(&b->rand, b->in_sequence ? GEN_DATA_RW - 16 : GEN_DATA_SIZE);
		disp = (int64_t)b->target - gen_segment_base(b);
	} else if (how < 55) {
		b->index = NO_REG;
	} else if (how < 63) {
		b->base = NO_REG;
	}

	if (b->index == RSP)
		b->index = NO_REG;
	if (b->index == NO_REG && b->base == NO_REG && how >= 17)
		b->base = RBX;
	/* A register that the instruction uses otherwise cannot be set to reach the target. */
	while (b->base < 16 && (fixed_regs(b) >> b->base & 1)) {
		if (b->base == RSP) {
			b->index = NO_REG;
			disp = (int64_t)gen_below(&b->rand, 256) - 128;
			break;
		}
		b->base = any_reg(b);
	}
	while (b->index < 16 && ((fixed_regs(b) >> b->index & 1) || b->index == RSP))
		b->index = any_reg(b);

	/* Without a free base the distance to the target must be a multiple of the scale. */
	if (b->index < 16 && (b->base == NO_REG || b->base == b->index)) {
		uint64_t by = b->base == NO_REG ? scale : scale + 1;
		uint64_t linear = b->target - gen_segment_base(b);

		disp = (int64_t)gen_below(&b->rand, 0x1000);
		disp += (int64_t)((linear - (uint64_t)disp) % by);
	}

	op->type = ZYDIS_OPERAND_TYPE_MEMORY;
	op->mem.base = b->base == RIP_REG  ? (b->address_bytes == 4 ? ZYDIS_REGISTER_EIP : ZYDIS_REGISTER_RIP)
		       : b->base == NO_REG ? ZYDIS_REGISTER_NONE
					   : zydis_gpr(b->base, b->address_bytes);
	op->mem.index = b->index == NO_REG ? ZYDIS_REGISTER_NONE : zydis_gpr(b->index, b->address_bytes);
	op->mem.scale = b->index == NO_REG ? 0 : (ZyanU8)scale;
	op->mem.displacement = disp;
	op->mem.size = (ZyanU16)(b->row->mnemonic == ZYDIS_MNEMONIC_LEA ? b->address_bytes : size);
	if (b->base == NO_REG && b->index == NO_REG && !b->mode32)
		b->address_bytes = 8;
	b->memory_size = size;
}

static bool choose_immediate(struct build *b, ZydisEncoderOperand *op, unsigned int size)
{
	uint64_t v = gen_integer(&b->rand);
	unsigned int bytes = size > 4 && b->row->mnemonic != ZYDIS_MNEMONIC_MOV ? 4 : size;

	if (gen_percent(&b->rand, 40) && b->row->mnemonic != ZYDIS_MNEMONIC_MOV)
		bytes = 1;
	op->type = ZYDIS_OPERAND_TYPE_IMMEDIATE;
	op->imm.u = gen_sign_extend(v, bytes);
	b->immediate = op->imm.u;
	return true;
}

static bool choose_operand(struct build *b, int n, char kind, char size_letter)
{
	ZydisEncoderOperand *op = &b->req.operands[n];
	unsigned int size = b->size, reg;
	bool memory = false;

	switch (size_letter) {
	case 'b':
		size = 1;
		break;
	case 'w':
		size = 2;
		break;
	case 'd':
		size = 4;
		break;
	case 'q':
		size = 8;
		break;
	case 'o':
		size = 16;
		break;
	case 'z':
		size = 64;
		break;
	case 't':
		size = 10;
		break;
	case 'e':
		size = 14;
		break;
	case 'f':
		size = 28;
		break;
	case 's':
		size = 94;
		break;
	case 'r':
		size = 108;
		break;
	case 'x':
		size = 512;
		break;
	default:
		break;
	}
	if (kind == 'E' || kind == 'W' || kind == 'Q') {
		memory = gen_percent(&b->rand, 50);
		if (!memory)
			kind = kind == 'E' ? 'R' : kind == 'W' ? 'X' : 'P';
	}
	if (kind == 'M' || memory) {
		b->memory = n;
		choose_memory(b, op, size);
		return true;
	}
	op->type = ZYDIS_OPERAND_TYPE_REGISTER;
	switch (kind) {
	case 'R':
		reg = any_reg(b);
		if (size == 1 && b->mode32)
			reg = reg < 4 ? reg : reg + 16;
		else if (size == 1 && gen_percent(&b->rand, 25))
			reg = 20 + reg % 4;
		if (size == 8 && b->mode32)
			return false;
		b->reg[n] = reg;
		op->reg.value = zydis_gpr(reg, size);
		return true;
	case 'A':
		b->reg[n] = RAX;
		op->reg.value = zydis_gpr(RAX, size);
		return true;
	case 'C':
		op->reg.value = ZYDIS_REGISTER_CL;
		return true;
	case 'X':
		op->reg.value = (ZydisRegister)(ZYDIS_REGISTER_XMM0 + any_reg(b));
		return true;
	case 'P':
		op->reg.value = (ZydisRegister)(ZYDIS_REGISTER_MM0 + gen_below(&b->rand, 8));
		return true;
	case 'T':
		op->reg.value = ZYDIS_REGISTER_ST0;
		return true;
	case 'S':
		op->reg.value = (ZydisRegister)(ZYDIS_REGISTER_ST0 + gen_below(&b->rand, 8));
		return true;
	case '1':
		op->type = ZYDIS_OPERAND_TYPE_IMMEDIATE;
		op->imm.u = b->immediate = 1;
		return true;
	case 'I':
		return choose_immediate(b, op, size);
	case 'J':
		op->type = ZYDIS_OPERAND_TYPE_IMMEDIATE;
		op->imm.u = 1;
		b->branch = n;
		return true;
	default:
		return false;
	}
}

/* Zydis 4.0 cuts some displacements short in 16-bit code. */
static bool encoded_displacement(const struct build *b)
{
	ZydisDecodedInstruction z;
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecoder decoder;

	ZydisDecoderInit(&decoder, b->req.machine_mode, ZYDIS_STACK_WIDTH_16);
	return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, b->c->bytes, b->c->length, &z, o)) &&
	       ((o[b->memory].mem.disp.value ^ b->req.operands[b->memory].mem.displacement) & 0xffff) == 0 &&
	       (b->address_bytes == 2 || o[b->memory].mem.disp.value == b->req.operands[b->memory].mem.displacement);
}

static bool encode(struct build *b)
{
	ZyanUSize length = ZYDIS_MAX_INSTRUCTION_LENGTH;

	if (!ZYAN_SUCCESS(ZydisEncoderEncodeInstruction(&b->req, b->c->bytes, &length)))
		return false;
	b->c->length = (unsigned int)length;
	return !b->mode16 || b->memory < 0 || encoded_displacement(b);
}

/* An operand that is relative to the end of the instruction: encode, measure the length, encode again. */
static bool encode_relative(struct build *b)
{
	if (!encode(b))
		return false;
	if (b->branch >= 0) {
		uint64_t end = b->c->in.rip + b->c->length, to = end + 1 + gen_below(&b->rand, 20);

		if (b->req.branch_width != ZYDIS_BRANCH_WIDTH_8 && gen_percent(&b->rand, 50))
			to = b->mode16 ? GEN_LANDING16 + gen_below(&b->rand, 0xff0)
				       : GEN_LANDING + gen_below(&b->rand, GEN_LANDING_SIZE);
		b->req.operands[b->branch].imm.u = to - end;
		return encode(b);
	}
	if (b->memory >= 0 && b->base == RIP_REG) {
		uint64_t end = b->c->in.rip + b->c->length;

		b->req.operands[b->memory].mem.displacement =
			(int64_t)(b->target - gen_segment_base(b) - end);
		return encode(b);
	}
	return true;
}

bool gen_choose_instruction(struct build *b)
{
	const char *f = b->row->form;
	int n = 0;

	memset(&b->req, 0, sizeof(b->req));
	b->memory = b->branch = -1;
	b->base = b->index = NO_REG;
	b->reg[0] = b->reg[1] = b->reg[2] = b->reg[3] = NO_REG;
	b->address_bytes = b->mode16 ? 2 : b->mode32 ? 4 : 8;
	b->gs = !b->mode32 && gen_percent(&b->rand, 5);
	b->req.machine_mode = b->mode16	  ? ZYDIS_MACHINE_MODE_LONG_COMPAT_16
			      : b->mode32 ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32
					  : ZYDIS_MACHINE_MODE_LONG_64;
	b->req.allowed_encodings = ZYDIS_ENCODABLE_ENCODING_LEGACY | ZYDIS_ENCODABLE_ENCODING_VEX;
	b->req.mnemonic = b->row->mnemonic;
	b->req.prefixes = b->row->prefixes;
	for (; f[0]; n++, f += 2 + (f[2] == ','))
		if (!choose_operand(b, n, f[0], f[1]))
			return false;
	b->req.operand_count = (ZyanU8)n;
	if (b->memory < 0)
		b->gs = false;
	if (b->gs)
		b->req.prefixes |= ZYDIS_ATTRIB_HAS_SEGMENT_GS;
	if (b->row->kind == GEN_STRING || b->row->kind == GEN_XLAT || b->row->kind == GEN_MASKMOV ||
	    b->row->kind == GEN_BRANCH) {
		if (gen_percent(&b->rand, 15) && (b->mode16 || !b->mode32)) {
			b->req.address_size_hint = ZYDIS_ADDRESS_SIZE_HINT_32;
			b->address_bytes = 4;
		}
	}
	/* Sometimes a frame of the operand size that is not the mode's default. */
	if ((b->row->mnemonic == ZYDIS_MNEMONIC_ENTER || b->row->kind == GEN_LEAVE) && gen_percent(&b->rand, 40))
		b->req.operand_size_hint = b->mode16 ? ZYDIS_OPERAND_SIZE_HINT_32 : ZYDIS_OPERAND_SIZE_HINT_16;
	if (b->branch >= 0 && gen_percent(&b->rand, 50)) {
		b->req.branch_type = ZYDIS_BRANCH_TYPE_NEAR;
		b->req.branch_width = b->mode16 ? ZYDIS_BRANCH_WIDTH_16 : ZYDIS_BRANCH_WIDTH_32;
		if (encode_relative(b))
			return true;
	}
	if (b->branch >= 0) {
		b->req.branch_type = ZYDIS_BRANCH_TYPE_SHORT;
		b->req.branch_width = ZYDIS_BRANCH_WIDTH_8;
	}
	if (b->row->kind == GEN_RETURN || b->row->kind == GEN_INDIRECT)
		b->req.branch_type = ZYDIS_BRANCH_TYPE_NEAR;
	return encode_relative(b);
}

void gen_build_init(struct build *b, struct gen_case *c, unsigned int bits)
{
	memset(c, 0, sizeof(*c));
	c->bits = bits;
	c->code_base = bits == 16 ? GEN_CODE16 : 0;
	b->c = c;
	b->mode32 = bits != 64;
	b->mode16 = bits == 16;
	b->data_base = bits == 16 ? GEN_DATA16 : 0;
}

void gen_place(struct build *b, struct gen_case *c, unsigned int slot)
{
	if (b->mode16)
		c->in.rip = (uint64_t)(slot % GEN_SLOTS16) * GEN_SLOT;
	else
		c->in.rip = GEN_CODE + GEN_LANDING_SIZE + (uint64_t)slot * GEN_SLOT;
	c->in.rip += gen_below(&b->rand, 16);
}

bool gen_case(uint64_t seed, const struct gen_row *row, unsigned int size, unsigned int bits, unsigned int number,
	      unsigned int slot, struct gen_case *out)
{
	const uint64_t key[] = { seed, row->mnemonic, size, bits, number, row->prefixes };
	struct build b = { .row = row, .size = size };

	for (size_t i = 0; i < sizeof(key) / sizeof(key[0]); i++)
		b.rand.state = gen_next(&b.rand) ^ key[i];
	for (const char *f = row->form; *f; f++)
		b.rand.state = gen_next(&b.rand) ^ (unsigned char)*f;
	for (int attempt = 0; attempt < 60; attempt++) {
		gen_build_init(&b, out, bits);
		gen_place(&b, out, slot);
		if (bits != 16 && slot % 32 == 31) /* this case may cross a page, and leaves room for the next one */
			out->in.rip += GEN_SLOT - 8;
		else if (slot % 32 == 0)
			out->in.rip += 48;
		if (gen_choose_instruction(&b) && gen_fill_state(&b))
			return true;
	}
	return false;
}
