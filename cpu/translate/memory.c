/* SPDX-License-Identifier: MIT */
/* The translator's memory, and which blocks it is offered. */
#include <string.h>
#include <sys/mman.h>

#include "cpu/decode/hot.h"
#include "cpu/translate/translate_int.h"

static enum cpu_engine engine = CPU_ENGINE_INTERPRET;
static struct cpu_translate_tuning tuning = { .runs = 4 };

#ifdef __SANITIZE_THREAD__
#define SEES_CODE false /* ThreadSanitizer knows nothing of what translated code does */
#else
#define SEES_CODE true
#endif

bool cpu_engine_set(enum cpu_engine which)
{
	if (which != CPU_ENGINE_INTERPRET && !SEES_CODE)
		return false;
	engine = which;
	return true;
}

void cpu_translate_tune(const struct cpu_translate_tuning *how)
{
	tuning = *how;
}

enum cpu_engine translate_engine(void)
{
	return engine;
}

const struct cpu_translate_tuning *translate_tuning(void)
{
	return &tuning;
}

void cpu_translate_stats(const struct cpu *cpu, struct cpu_translate_stats *stats)
{
	*stats = cpu->p->translate != NULL ? cpu->p->translate->stats : (struct cpu_translate_stats){ 0 };
}

/* ---- blocks ------------------------------------------------------------------------------------------------------ */

void translate_offer(struct cpu *cpu, struct block *b)
{
	/* Without stubs the host lets the process make no code. */
	if (engine == CPU_ENGINE_INTERPRET || cpu->p->stubs == NULL ||
	    (b->mode & (MODE_BITS | MODE_PROT)) != (MODE_BITS_64 | MODE_PROT) || b->host2 != NULL || b->ops_count == 0)
		return;
	b->first_label = b->ops[0].label;
	op_label_set(cpu, &b->ops[0], HOT_TRANSLATE);
}

static void jumps_wipe(struct cpu *cpu)
{
	for (unsigned i = 0; i < FAST_MODES; i++) {
		/* Most are never used: do not touch their pages. */
		if (cpu->fast.jump[i][0].rip != 0)
			memset(cpu->fast.jump[i], 0, sizeof(cpu->fast.jump[i]));
		cpu->fast.jump[i][0].rip = 1;
	}
}

void translate_forget(struct cpu *cpu)
{
	struct translate *t = cpu->p->translate;

	if (t == NULL)
		return;
	memset(t->bucket, 0, sizeof(t->bucket));
	t->code.used = t->thunks;
	t->translated_used = t->pages_used = 0;
	t->pending.displacement = NULL;
	t->full = false;
	t->stats.flushes++;
	jumps_wipe(cpu);
}

struct translate *translate_memory(struct cpu *cpu)
{
	struct translate *t = cpu->p->translate;

	if (t != NULL)
		return t;
	t = mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (t == MAP_FAILED)
		return NULL;
	if (!code_map(&t->code, CODE_BYTES)) {
		munmap(t, sizeof(*t));
		return NULL;
	}
	thunks_make(t);
	for (unsigned mode = 0; mode < FAST_MODES; mode++)
		for (unsigned kind = 0; kind < FAST_KINDS; kind++)
			cpu->fast.tlb[mode][kind][0].tag = ~UINT64_C(0);
	jumps_wipe(cpu);
	cpu->fast.miss = tuning.miss || engine == CPU_ENGINE_CHECK;
	cpu->p->translate = t;
	return t;
}

void translate_fini(struct cpu *cpu)
{
	struct translate *t = cpu->p->translate;

	if (t == NULL)
		return;
	code_unmap(&t->code);
	munmap(t, sizeof(*t));
	cpu->p->translate = NULL;
}

bool translate_has_room(const struct translate *t)
{
	return t->code.size - t->code.used >= 2 * BLOCK_MOST && t->translated_used < TRANSLATED &&
	       t->pages_used < PAGES;
}

struct translated_page *translate_page(struct cpu *cpu, const struct block *b, unsigned tlb)
{
	struct translate *t = cpu->p->translate;
	uint64_t linear = b->rip & ~UINT64_C(0xfff), host = (uint64_t)(uintptr_t)b->host & ~UINT64_C(0xfff);
	struct translated_page **chain = &t->bucket[(linear >> 12 ^ host >> 12 ^ tlb) % PAGE_BUCKETS], *page;

	for (page = *chain; page != NULL; page = page->next) {
		if (page->linear == linear && page->host == host && page->mode == b->mode && page->tlb == tlb)
			return page;
	}
	page = &t->pages[t->pages_used++];
	*page = (struct translated_page){
		.next = *chain, .linear = linear, .host = host, .mode = b->mode, .tlb = (uint8_t)tlb,
	};
	*chain = page;
	return page;
}

struct translated *translate_find(struct translate *t, const uint8_t *pc)
{
	uint32_t low = 0, high = t->translated_used;

	if (pc < t->code.run || pc >= t->code.run + t->code.used)
		return NULL;
	/* They are in the order of their code. */
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;

		if (t->translated[middle].start <= pc)
			low = middle;
		else
			high = middle;
	}
	if (high == 0 || pc < t->translated[low].start || pc >= t->translated[low].start + t->translated[low].length)
		return NULL;
	return &t->translated[low];
}
