/* SPDX-License-Identifier: MIT */
/*
 * Where the guest's arithmetic flags are. A look-up in the TLB, a call, and every way out of a block change RFLAGS. So
 * flags that will be read behind that are saved before, once.
 */
#include "cpu/translate/translate_int.h"

void emit_flags_save(struct emit *e)
{
	emit_mov(e, TEMP_VALUE, H_RAX);
	EMIT(e, 0x9f, 0x0f, 0x90, 0xc0); /* lahf; seto %al */
	emit_reg_mem(e, false, 0x89, H_RAX, H_STATE, STATE_OF(fast.flags));
	emit_mov(e, H_RAX, TEMP_VALUE);
}

void flags_spill(struct translation *tr, uint16_t needed)
{
	if (tr->flags == FLAGS_HOST && needed != 0)
		emit_flags_save(&tr->e);
	tr->flags = FLAGS_MEMORY;
}

void flags_want(struct translation *tr, uint16_t needed)
{
	struct emit *e = &tr->e;

	if (tr->flags != FLAGS_MEMORY || needed == 0)
		return;
	if (needed == RFLAGS_CF) {
		/* bt $8: the one flag alone, so the others stay where they are. */
		EMIT(e, 0x41, 0x0f, 0xba);
		emit_place(e, 4, H_STATE, STATE_OF(fast.flags));
		EMIT(e, 8);
		return;
	}
	emit_mov(e, TEMP_VALUE, H_RAX);
	emit_reg_mem(e, false, 0x8b, H_RAX, H_STATE, STATE_OF(fast.flags));
	EMIT(e, 0x04, 0x7f, 0x9e); /* add $0x7f,%al: overflows if AL is 1; sahf */
	emit_mov(e, H_RAX, TEMP_VALUE);
	tr->flags = FLAGS_BOTH;
}
