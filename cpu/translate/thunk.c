/* SPDX-License-Identifier: MIT */
/*
 * Code that is made once for each CPU: the way into translated code, the ways out of it, and calls of C.
 *
 * The guest's registers are stored in s.gpr before every call of C, because that may leave by longjmp. Translated code
 * keeps the stack aligned to 16 bytes; a call of a thunk puts 8 on it.
 */
#include <string.h>

#include "cpu/translate/translate_int.h"

/* Registers that the guest's are in, and that C functions need not keep. */
static const uint8_t lost_in_calls[] = { H_RAX, H_RCX, H_RDX, H_RSI, H_RDI, H_R8, H_R9, H_R10 };
/* The others that the guest's are in; R13 is its RSP. */
static const uint8_t kept_in_calls[] = { H_RBX, H_RBP };
static const uint8_t pushed[] = { H_RBX, H_RBP, H_R12, H_R13, H_R14, H_R15 };

#define GPR(n) STATE(OPR(n))

static void store_all(struct emit *e)
{
	for (unsigned i = 0; i < sizeof(lost_in_calls); i++)
		emit_store(e, H_STATE, GPR(lost_in_calls[i]), lost_in_calls[i]);
	for (unsigned i = 0; i < sizeof(kept_in_calls); i++)
		emit_store(e, H_STATE, GPR(kept_in_calls[i]), kept_in_calls[i]);
	emit_store(e, H_STATE, GPR(CPU_RSP), H_GUEST_SP);
}

static void load_lost(struct emit *e)
{
	for (unsigned i = 0; i < sizeof(lost_in_calls); i++)
		emit_load(e, lost_in_calls[i], H_STATE, GPR(lost_in_calls[i]));
}

static void load_all(struct emit *e)
{
	load_lost(e);
	for (unsigned i = 0; i < sizeof(kept_in_calls); i++)
		emit_load(e, kept_in_calls[i], H_STATE, GPR(kept_in_calls[i]));
	emit_load(e, H_GUEST_SP, H_STATE, GPR(CPU_RSP));
}

/* MOVAPS between the XMM registers and their places. */
static void move_vectors(struct emit *e, bool store)
{
	for (unsigned n = 0; n < 16; n++) {
		EMIT(e, n >= 8 ? 0x45 : 0x41, 0x0f, store ? 0x29 : 0x28); /* REX.B: R11 is the base */
		emit_place(e, n, H_STATE, STATE_OF(s.vectors.v[n]));
	}
}

/* The same, if they are the guest's now. Changes RFLAGS. */
static void move_vectors_if(struct emit *e, bool store)
{
	uint8_t *skip;

	emit_reg_mem(e, false, 0x80, 7, H_STATE, STATE_OF(fast.vectors)); /* cmpb $0 */
	EMIT(e, 0);
	skip = emit_jcc(e, H_E, NULL);
	move_vectors(e, store);
	emit_aim(e, skip, emit_here(e));
}

static void set_vectors(struct emit *e, bool value)
{
	emit_reg_mem(e, false, 0xc6, 0, H_STATE, STATE_OF(fast.vectors)); /* movb */
	EMIT(e, value);
}

static void push(struct emit *e, unsigned reg)
{
	if (reg >= 8)
		EMIT(e, 0x41);
	EMIT(e, (uint8_t)(0x50 | (reg & 7)));
}

static void pop(struct emit *e, unsigned reg)
{
	if (reg >= 8)
		EMIT(e, 0x41);
	EMIT(e, (uint8_t)(0x58 | (reg & 7)));
}

/* uint64_t enter(struct cpu *cpu, const void *code) */
static void make_enter(struct emit *e)
{
	for (unsigned i = 0; i < sizeof(pushed); i++)
		push(e, pushed[i]);
	emit_lea(e, H_RSP, H_RSP, -8);
	emit_lea(e, H_STATE, H_RDI, STATE_BIAS);
	set_vectors(e, false); /* C code that left by longjmp may not have said so */
	emit_reg_mem(e, false, 0xc6, 0, H_STATE, STATE_OF(fast.x87)); /* movb */
	EMIT(e, false);
	emit_mov(e, TEMP_ADDRESS, H_RSI);
	load_all(e);
	EMIT(e, 0x41, 0xff, 0xe0 | (TEMP_ADDRESS & 7)); /* jmp *%r14 */
}

/* R14: s.rip. R15: why. Returns: the address of the part behind the stores. */
static const uint8_t *make_leave(struct emit *e)
{
	const uint8_t *stored;

	store_all(e);
	move_vectors_if(e, true);
	stored = emit_here(e);
	set_vectors(e, false);
	emit_store(e, H_STATE, STATE_OF(s.rip), TEMP_ADDRESS);
	emit_mov(e, H_RAX, TEMP_VALUE);
	emit_lea(e, H_RSP, H_RSP, 8);
	for (unsigned i = sizeof(pushed); i-- > 0;)
		pop(e, pushed[i]);
	EMIT(e, 0xc3);
	return stored;
}

/* Call a function of C with the CPU as its first argument. The others are in their registers. */
static void call_c(struct emit *e, uint64_t function)
{
	push(e, H_STATE);
	emit_lea(e, H_RDI, H_STATE, -STATE_BIAS);
	emit_mov_constant(e, H_RAX, function);
	EMIT(e, 0xff, 0xd0); /* call *%rax */
	pop(e, H_STATE);
	EMIT(e, 0x48, 0x85, 0xc0); /* test %rax,%rax */
}

/* R14: a linear address, and afterwards the host's. R15: `what` of translate_access. */
static void make_access(struct emit *e, const uint8_t *leave_stored)
{
	uint8_t *fails;

	store_all(e);
	move_vectors_if(e, true);
	emit_mov(e, H_RSI, TEMP_ADDRESS);
	emit_mov(e, H_RDX, TEMP_VALUE);
	call_c(e, (uint64_t)(uintptr_t)translate_access);
	fails = emit_jcc(e, H_E, NULL);
	emit_mov(e, TEMP_ADDRESS, H_RAX);
	move_vectors_if(e, false);
	load_lost(e);
	EMIT(e, 0xc3);
	emit_aim(e, fails, emit_here(e));
	emit_lea(e, H_RSP, H_RSP, 8);
	EMIT(e, 0x49, 0xc1, 0xff, 16); /* sar $16,%r15 */
	EMIT(e, 0x49, 0xc1, 0xe7, LEAVE_SHIFT); /* shl */
	emit_lea(e, TEMP_VALUE, TEMP_VALUE, LEAVE_OP);
	emit_jmp(e, leave_stored);
}

/* R15: an op. */
static void make_call(struct emit *e, const uint8_t *leave_stored)
{
	uint8_t *leaves;

	store_all(e);
	move_vectors_if(e, true);
	emit_mov(e, H_RSI, TEMP_VALUE);
	call_c(e, (uint64_t)(uintptr_t)translate_call);
	leaves = emit_jcc(e, H_NE, NULL);
	move_vectors_if(e, false);
	load_all(e);
	EMIT(e, 0xc3);
	emit_aim(e, leaves, emit_here(e));
	emit_lea(e, H_RSP, H_RSP, 8);
	emit_mov(e, TEMP_VALUE, H_RAX);
	emit_jmp(e, leave_stored);
}

/* Out of a call that is not done; R15 is an op: interpret it. */
static void leave_at_op(struct emit *e, const uint8_t *leave_stored)
{
	emit_lea(e, H_RSP, H_RSP, 8);
	EMIT(e, 0x49, 0xc1, 0xe7, LEAVE_SHIFT); /* shl $..,%r15 */
	emit_lea(e, TEMP_VALUE, TEMP_VALUE, LEAVE_OP);
	emit_jmp(e, leave_stored);
}

/* R15: the first op of a block that has an XMM register, and they are not in the host's. */
static void make_vectors(struct emit *e, const uint8_t *leave_stored)
{
	uint8_t *fails;

	store_all(e);
	emit_mov(e, H_RSI, TEMP_VALUE);
	call_c(e, (uint64_t)(uintptr_t)translate_vectors);
	fails = emit_jcc(e, H_E, NULL);
	move_vectors(e, false);
	set_vectors(e, true);
	load_lost(e);
	EMIT(e, 0xc3);
	emit_aim(e, fails, emit_here(e));
	leave_at_op(e, leave_stored);
}

/* R15: the first op of a block that is x87, and fast.x87 is not set. */
static void make_x87(struct emit *e, const uint8_t *leave_stored)
{
	uint8_t *fails;

	store_all(e);
	move_vectors_if(e, true);
	emit_mov(e, H_RSI, TEMP_VALUE);
	call_c(e, (uint64_t)(uintptr_t)translate_x87);
	fails = emit_jcc(e, H_E, NULL);
	move_vectors_if(e, false);
	load_lost(e);
	EMIT(e, 0xc3);
	emit_aim(e, fails, emit_here(e));
	leave_at_op(e, leave_stored);
}

void thunks_make(struct translate *t)
{
	struct emit e = { .at = t->code.write, .to_run = t->code.run - t->code.write };
	const uint8_t *enter = emit_here(&e), *stored;

	make_enter(&e);
	memcpy(&t->enter, &enter, sizeof(enter));
	t->leave = emit_here(&e);
	stored = make_leave(&e);
	t->access = emit_here(&e);
	make_access(&e, stored);
	t->call = emit_here(&e);
	make_call(&e, stored);
	t->vectors = emit_here(&e);
	make_vectors(&e, stored);
	t->x87 = emit_here(&e);
	make_x87(&e, stored);
	t->code.used = t->thunks = ((size_t)(e.at - t->code.write) + 63) & ~(size_t)63;
}
