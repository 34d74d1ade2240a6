/* SPDX-License-Identifier: MIT */
/*
 * CPU_ENGINE_CHECK: a block runs as host code, then everything that it did is undone, then it is interpreted, and both
 * results are compared.
 *
 * Translated code misses its TLB at each access here, so that the slow path notes what memory held before each write.
 * It leaves before an instruction that has a handler, since what handlers do cannot be undone: that one is interpreted.
 * An access that faults leaves the block; nothing is compared then.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/base/flags.h"
#include "cpu/base/x87_host.h"
#include "cpu/decode/hot.h"
#include "cpu/translate/translate_int.h"

void check_note_write(struct cpu *cpu, uint8_t *host, unsigned size)
{
	struct check *c = &cpu->p->translate->check;
	struct check_write *w = &c->write[c->writes];

	if (c->writes == CHECK_WRITES)
		return; /* more than any block does */
	c->writes++;
	w->host = host;
	w->size = size;
	memcpy(w->old, host, size);
}

static void writes_undo(struct check *c)
{
	for (unsigned i = 0; i < c->writes; i++)
		memcpy(c->write[i].new, c->write[i].host, c->write[i].size);
	for (unsigned i = c->writes; i-- > 0;)
		memcpy(c->write[i].host, c->write[i].old, c->write[i].size);
}

/* The last write to a place decides what is there: earlier ones to the same bytes were read after it. */
static const struct check_write *write_differs(const struct check *c)
{
	for (unsigned i = 0; i < c->writes; i++)
		if (memcmp(c->write[i].new, c->write[i].host, c->write[i].size) != 0)
			return &c->write[i];
	return NULL;
}

/*
 * Flags that mean something where the block was left: at `end`, or by a jump to `rip`. Not those that an instruction
 * before leaves undefined, nor those that `end` and what follows overwrite unread.
 */
static uint16_t flags_meant(struct cpu *cpu, struct block *b, const struct op *end, uint64_t rip)
{
	const struct translation *tr = translate_look(cpu, b);
	uint16_t undefined = 0, found = 0;

	for (unsigned i = 0; i < b->ops_count; i++) {
		const struct source *s = &tr->source[i];
		const ZydisAccessedFlags *f = s->z.cpu_flags;

		if (&b->ops[i] == end)
			return (uint16_t)(((s->live & ~s->writes) | s->reads) & ~undefined);
		if (s->how == HOW_JCC && (uint64_t)b->ops[i].imm == rip)
			found |= undefined; /* perhaps the branch was taken */
		if (f == NULL || !s->changes)
			continue;
		undefined &= (uint16_t)~s->writes;
		undefined |= (uint16_t)f->undefined & ARITH;
		/* Zydis has the rules for a count of 1. */
		if (s->z.meta.category == ZYDIS_CATEGORY_SHIFT || s->z.meta.category == ZYDIS_CATEGORY_ROTATE)
			undefined |= RFLAGS_OF | RFLAGS_AF;
	}
	return ARITH & (uint16_t)~(undefined | found);
}

static void show(const char *who, const struct cpu_state *s, uint64_t flags)
{
	fprintf(stderr, "%s: rip %016" PRIx64 " flags %03" PRIx64, who, s->rip, flags);
	for (unsigned i = 0; i < CPU_GPR_COUNT; i++)
		fprintf(stderr, "%s r%-2u %016" PRIx64, i % 4 == 0 ? "\n " : "", i, s->gpr[i]);
	fprintf(stderr, "\n");
}

static _Noreturn void check_failed(struct cpu *cpu, const struct block *b, const char *what)
{
	struct check *c = &cpu->p->translate->check;
	const struct check_write *w = write_differs(c);

	fprintf(stderr, "vmmu: both engines differ in %s\n", what);
	show("before      ", &c->before, c->flags_before);
	show("translated  ", &c->after, c->flags_after);
	show("interpreted ", &cpu->s, flags_get(cpu));
	fprintf(stderr, "code at %016" PRIx64 ":", b->rip);
	for (unsigned i = 0; i < b->length; i++)
		fprintf(stderr, " %02x", b->bytes[i]);
	fprintf(stderr, "\n");
	for (unsigned i = 0; w != NULL && i < w->size; i++)
		fprintf(stderr, " %02x/%02x", w->new[i], w->host[i]);
	abort();
}

void check_begin(struct cpu *cpu)
{
	struct check *c = &cpu->p->translate->check;

	c->writes = 0;
	x87_unload(cpu);
	c->before = cpu->s;
	c->flags_before = flags_get(cpu);
	c->res = cpu->fl_res;
	c->aux = cpu->fl_aux;
}

void check_end(struct cpu *cpu, struct block *b, struct op *end)
{
	static const uint32_t leave_now = VMMU_POLL_RUN + 1;
	struct check *c = &cpu->p->translate->check;
	const uint32_t *poll = cpu->entry.poll;
	const void *translate_label = b->ops[0].label, *end_label = NULL;
	uint64_t mask;

	x87_unload(cpu);
	c->after = cpu->s;
	c->flags_after = flags_get(cpu);
	writes_undo(c);
	cpu->s = c->before;
	cpu->fl_res = c->res;
	cpu->fl_aux = c->aux;
	if (end == &b->ops[0])
		return;
	b->ops[0].label = b->first_label;
	if (end != NULL) {
		end_label = end->label;
		op_label_set(cpu, end, HOT_STOP);
	}
	/* Should it leave by a jump: it does so as it begins the next block, and the label of this one stays. */
	cpu->entry.poll = &leave_now;
	translate_interpret(cpu, &b->ops[0]);
	cpu->entry.poll = poll;
	x87_unload(cpu);
	b->ops[0].label = translate_label;
	if (end != NULL) {
		end->label = end_label;
		cpu->s.rip = c->after.rip;
	}
	mask = flags_meant(cpu, b, end, c->after.rip);
	cpu->p->translate->stats.checked++;
	if (cpu->s.rip != c->after.rip || memcmp(cpu->s.gpr, c->after.gpr, sizeof(cpu->s.gpr)) != 0)
		check_failed(cpu, b, "registers");
	if ((flags_get(cpu) ^ c->flags_after) & mask)
		check_failed(cpu, b, "flags");
	if (memcmp(&cpu->s.fx, &c->after.fx, sizeof(cpu->s.fx)) != 0 ||
	    memcmp(&cpu->s.vectors, &c->after.vectors, sizeof(cpu->s.vectors)) != 0)
		check_failed(cpu, b, "vector registers");
	if (write_differs(c) != NULL)
		check_failed(cpu, b, "memory");
}
