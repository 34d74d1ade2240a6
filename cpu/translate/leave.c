/* SPDX-License-Identifier: MIT */
/*
 * From block to block, and out of translated code.
 *
 * A jump inside a guest page leads to the other block itself, once that has code; before that, to cold code which tells
 * where the jump is. Every other jump looks in cpu->fast.jump, which has a place for each address.
 */
#include "cpu/translate/translate_int.h"

struct cold *cold_add(struct translation *tr, enum stub_kind kind, uint8_t *from)
{
	struct cold *cold = &tr->cold[tr->cold_count++];

	*cold = (struct cold){ .kind = kind, .from = from, .x87 = tr->x87_last };
	return cold;
}

static uint64_t why(const void *address, unsigned kind)
{
	return (uint64_t)(uintptr_t)address << LEAVE_SHIFT | kind;
}

static unsigned jump_hash(uint64_t rip)
{
	return (unsigned)(rip ^ rip >> 14) % FAST_JUMPS;
}

struct fast_jump *fast_jump_of(struct cpu *cpu, unsigned tlb, uint64_t rip)
{
	return &cpu->fast.jump[tlb][jump_hash(rip)];
}

/* ---- to an address that is known --------------------------------------------------------------------------------- */

static bool in_page(const struct translation *tr, uint64_t rip)
{
	return (rip ^ tr->block->rip) >> 12 == 0;
}

/* Flags are in cpu->fast.flags. */
static void leave_by_cache(struct translation *tr, uint64_t rip)
{
	size_t slot = offsetof(struct cpu, fast.jump[tr->tlb][jump_hash(rip)]);
	struct emit *e = &tr->e;

	emit_mov_constant(e, TEMP_ADDRESS, rip);
	emit_reg_mem(e, true, 0x3b, TEMP_ADDRESS, H_STATE, STATE(slot + offsetof(struct fast_jump, rip)));
	cold_add(tr, STUB_EXIT, emit_jcc(e, H_NE, NULL));
	emit_reg_mem(e, false, 0xff, 4, H_STATE, STATE(slot + offsetof(struct fast_jump, code)));
}

static void cold_jump(struct translation *tr, uint64_t rip, bool backward, uint8_t *from)
{
	struct cold *cold = cold_add(tr, in_page(tr, rip) ? STUB_JUMP : STUB_FAR, from);

	cold->rip = rip;
	cold->poll = backward;
	cold->flags_in_host = tr->flags == FLAGS_HOST;
}

void leave_to(struct translation *tr, uint64_t rip, bool backward)
{
	if (in_page(tr, rip)) {
		cold_jump(tr, rip, backward, emit_jmp(&tr->e, NULL));
		return;
	}
	flags_spill(tr, ARITH);
	leave_by_cache(tr, rip);
}

void leave_if(struct translation *tr, unsigned condition, uint64_t rip, bool backward)
{
	cold_jump(tr, rip, backward, emit_jcc(&tr->e, condition, NULL));
}

/* ---- to one that is not ------------------------------------------------------------------------------------------ */

void leave_lookup(struct translation *tr, unsigned op)
{
	size_t jumps = offsetof(struct cpu, fast.jump[tr->tlb]);
	struct emit *e = &tr->e;

	emit_mov(e, TEMP_VALUE, TEMP_ADDRESS);
	EMIT(e, 0x49, 0xc1, 0xef, 14); /* shr $14,%r15 */
	emit_reg_reg(e, false, 0x33, TEMP_VALUE, TEMP_ADDRESS); /* xor %r14d,%r15d */
	EMIT(e, 0x41, 0x81, 0xe7); /* and */
	emit_32(e, FAST_JUMPS - 1);
	EMIT(e, 0x41, 0xc1, 0xe7, 4); /* shl $4,%r15d: sizeof(struct fast_jump) */
	emit_reg_indexed(e, true, 0x3b, TEMP_ADDRESS, H_STATE, TEMP_VALUE, 0,
	                 STATE(jumps + offsetof(struct fast_jump, rip)));
	cold_add(tr, STUB_OP, emit_jcc(e, H_NE, NULL))->op = (uint8_t)op;
	emit_reg_indexed(e, true, 0x8b, TEMP_TARGET, H_STATE, TEMP_VALUE, 0,
	                 STATE(jumps + offsetof(struct fast_jump, code)));
}

/* ---- out --------------------------------------------------------------------------------------------------------- */

void leave_interpret(struct translation *tr, unsigned op, uint8_t *from)
{
	if (from != NULL) {
		cold_add(tr, STUB_OP, from)->op = (uint8_t)op;
		return;
	}
	emit_mov_constant(&tr->e, TEMP_VALUE, why(&tr->block->ops[op], LEAVE_OP));
	emit_jmp(&tr->e, tr->t->leave);
}

static void emit_exit(struct emit *e, const struct translate *t, uint64_t rip, uint64_t reason)
{
	emit_mov_constant(e, TEMP_ADDRESS, rip);
	emit_mov_constant(e, TEMP_VALUE, reason);
	emit_jmp(e, t->leave);
}

static enum entry entry_for(const struct cold *cold)
{
	if (cold->poll)
		return cold->flags_in_host ? ENTRY_HOST_POLL : ENTRY_MEMORY_POLL;
	return cold->flags_in_host ? ENTRY_HOST : ENTRY_MEMORY;
}

static void emit_slow_access(struct translation *tr, const struct cold *cold)
{
	size_t entries = offsetof(struct cpu, fast.tlb[tr->tlb][cold->write ? TLB_WRITE : TLB_READ]);
	struct emit *e = &tr->e;

	/* Undo the look-up: the linear address again. */
	emit_reg_indexed(e, true, 0x33, TEMP_ADDRESS, H_STATE, TEMP_VALUE, 0,
	                 STATE(entries + offsetof(struct fast_entry, tag)));
	x87_pointers(tr, cold->x87);
	emit_mov_constant(e, TEMP_VALUE, (uint64_t)(uintptr_t)&tr->block->ops[cold->op] << 16 |
	                                 (uint64_t)cold->size << 1 | cold->write);
	emit_call(e, tr->t->access);
	emit_jmp(e, cold->back);
}

/* May add more. */
static void emit_cold(struct translation *tr, unsigned number)
{
	const struct cold cold = tr->cold[number];
	struct emit *e = &tr->e;

	emit_aim(e, cold.from, emit_here(e));
	switch (cold.kind) {
	case STUB_ACCESS:
		emit_slow_access(tr, &cold);
		return;
	case STUB_VECTORS: case STUB_X87:
		x87_pointers(tr, cold.x87);
		emit_mov_constant(e, TEMP_VALUE, (uint64_t)(uintptr_t)&tr->block->ops[cold.op]);
		emit_call(e, cold.kind == STUB_VECTORS ? tr->t->vectors : tr->t->x87);
		emit_jmp(e, cold.back);
		return;
	case STUB_OP:
		x87_pointers(tr, cold.x87);
		leave_interpret(tr, cold.op, NULL);
		return;
	case STUB_START:
		emit_exit(e, tr->t, tr->block->rip, LEAVE_LOOKUP);
		return;
	case STUB_EXIT: /* R14 has it */
		emit_mov_constant(e, TEMP_VALUE, LEAVE_LOOKUP);
		emit_jmp(e, tr->t->leave);
		return;
	case STUB_FAR:
		if (cold.flags_in_host)
			emit_flags_save(e);
		leave_by_cache(tr, cold.rip);
		return;
	case STUB_JUMP:
		if (cold.flags_in_host)
			emit_flags_save(e);
		emit_exit(e, tr->t, cold.rip, why(cold.from, LEAVE_JUMP + entry_for(&cold)));
		return;
	}
}

void cold_emit(struct translation *tr)
{
	for (unsigned i = 0; i < tr->cold_count; i++)
		emit_cold(tr, i);
}

/* ---- jumps that are changed later -------------------------------------------------------------------------------- */

void jump_aim(struct translate *t, uint8_t *displacement, const uint8_t *to)
{
	struct emit e = { .at = displacement, .to_run = t->code.run - t->code.write };

	emit_aim(&e, displacement, to);
}

/* A jump in place of what is at `at`, in the executable mapping. Returns: its displacement. */
static uint8_t *jump_put(struct translate *t, const uint8_t *at, const uint8_t *to)
{
	struct emit e = { .at = translate_writable(t, at), .to_run = t->code.run - t->code.write };

	return emit_jmp(&e, to);
}

bool entries_close(struct translate *t, struct translated *dead)
{
	struct emit e = { .at = t->code.write + t->code.used, .to_run = t->code.run - t->code.write };

	if (t->code.size - t->code.used < KILL_MOST)
		return false;
	for (unsigned i = 0; i < ENTRIES; i++) {
		uint8_t *displacement = jump_put(t, dead->entry[i], emit_here(&e));

		if (i == ENTRY_MEMORY_POLL)
			jump_put(t, dead->entry_checked, emit_here(&e));
		if (i == ENTRY_HOST || i == ENTRY_HOST_POLL)
			emit_flags_save(&e);
		emit_exit(&e, t, dead->block->rip, why(displacement, LEAVE_JUMP + i));
	}
	t->code.used = (size_t)(e.at - t->code.write);
	return true;
}
