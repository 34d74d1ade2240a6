/* SPDX-License-Identifier: MIT */
/*
 * From a guest address to a host address.
 *
 *     mov  %r14d,%r15d ; shr $8,%r15d ; and $0x3ff0,%r15d     the entry's place
 *     xor  tag(%r11,%r15),%r14                                the offset in the page, or something large
 *     cmp  $4096 - size,%r14 ; ja slow                        another page, or an access over the end of this one
 *     add  host(%r11,%r15),%r14
 */
#include "cpu/translate/translate_int.h"

/* LEA of an address without a base. */
static void lea_scaled(struct emit *e, unsigned to, unsigned index, unsigned scale, int32_t disp)
{
	EMIT(e, (uint8_t)(0x48 | (to >> 3) << 2 | (index >> 3) << 1), 0x8d, (uint8_t)((to & 7) << 3 | 4),
	     (uint8_t)(scale << 6 | (index & 7) << 3 | 5));
	emit_32(e, (uint32_t)disp);
}

void address_effective(struct translation *tr, unsigned number, unsigned to)
{
	const struct op *op = &tr->block->ops[number];
	struct emit *e = &tr->e;
	int32_t disp = (int32_t)op->disp;
	unsigned base, index;

	if (op->base == OPR_ZERO && op->index == OPR_ZERO) {
		emit_mov_constant(e, to, (uint64_t)op->disp);
	} else if (op->index == OPR_ZERO) {
		base = guest_register(tr, opr_number(op->base), TEMP_ADDRESS);
		emit_lea(e, to, base, disp);
	} else if (op->base == OPR_ZERO) {
		index = guest_register(tr, opr_number(op->index), TEMP_VALUE);
		lea_scaled(e, to, index, op->scale, disp);
	} else {
		base = guest_register(tr, opr_number(op->base), TEMP_ADDRESS);
		index = guest_register(tr, opr_number(op->index), TEMP_VALUE);
		emit_reg_indexed(e, true, 0x8d, to, base, index, op->scale, disp);
	}
	if (op->asize == 4)
		emit_reg_reg(e, false, 0x89, to, to);
}

void address_add_segment(struct translation *tr, unsigned number)
{
	const struct op *op = &tr->block->ops[number];

	if (op->seg == CPU_FS || op->seg == CPU_GS)
		emit_reg_mem(&tr->e, true, 0x03, TEMP_ADDRESS, H_STATE, STATE_OF(seg_base[0]) + 8 * op->seg);
}

void address(struct translation *tr, unsigned number)
{
	address_effective(tr, number, TEMP_ADDRESS);
	address_add_segment(tr, number);
}

void access_check(struct translation *tr, unsigned number, unsigned size, bool write)
{
	size_t entries = offsetof(struct cpu, fast.tlb[tr->tlb][write ? TLB_WRITE : TLB_READ]);
	int32_t tag = STATE(entries + offsetof(struct fast_entry, tag));
	int32_t host = STATE(entries + offsetof(struct fast_entry, host));
	struct emit *e = &tr->e;
	struct cold *cold;

	emit_reg_reg(e, false, 0x89, TEMP_ADDRESS, TEMP_VALUE);
	EMIT(e, 0x41, 0xc1, 0xef, 8); /* shr $8,%r15d */
	EMIT(e, 0x41, 0x81, 0xe7); /* and $..,%r15d */
	emit_32(e, (TLB_ENTRIES - 1) * sizeof(struct fast_entry));
	emit_reg_indexed(e, true, 0x33, TEMP_ADDRESS, H_STATE, TEMP_VALUE, 0, tag);
	EMIT(e, 0x49, 0x81, 0xfe); /* cmp $..,%r14 */
	emit_32(e, 4096 - size);
	cold = cold_add(tr, STUB_ACCESS, emit_jcc(e, H_A, NULL));
	emit_reg_indexed(e, true, 0x03, TEMP_ADDRESS, H_STATE, TEMP_VALUE, 0, host);
	cold->back = emit_here(e);
	cold->op = (uint8_t)number;
	cold->size = (uint8_t)size;
	cold->write = write;
}
