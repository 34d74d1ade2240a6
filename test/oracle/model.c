/* SPDX-License-Identifier: MIT */
#include "test/oracle/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define GIB (UINT64_C(1) << 30)

/* Large enough for leaves of 1G, of 2M and of 4K. */
static const uint64_t arena_bytes[ARENAS] = { 2 * GIB + (4 << 20), 64 << 20, 1 << 20 };

static void arena_map(struct arena *arena, int extra)
{
	char *at = mmap(arena->base, arena->pages << 12, PROT_READ | PROT_WRITE,
	                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | extra, -1, 0);

	if (at == MAP_FAILED)
		abort();
	madvise(at, arena->pages << 12, MADV_NOHUGEPAGE);
	arena->base = at;
}

/* The arenas begin at multiples of 1 GiB, so that only the guest addresses decide about alignment. */
void arenas_make(struct model *m)
{
	m->tables = mmap(NULL, GUESTS * TABLES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m->tables == MAP_FAILED)
		abort();
	for (int i = 0; i < ARENAS; i++) {
		struct arena *arena = &m->arena[i];
		char *raw = mmap(NULL, arena_bytes[i] + GIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		                 0);

		arena->pages = arena_bytes[i] >> 12;
		arena->base = (char *)(((uintptr_t)raw + GIB - 1) & ~(GIB - 1));
		arena_map(arena, MAP_FIXED);
		arena->value = calloc(arena->pages, sizeof(*arena->value));
		arena->state = calloc(arena->pages, 1);
	}
}

void arenas_reset(struct model *m)
{
	for (int i = 0; i < ARENAS; i++) {
		arena_map(&m->arena[i], MAP_FIXED);
		memset(m->arena[i].value, 0, m->arena[i].pages * sizeof(uint64_t));
		memset(m->arena[i].state, 0, m->arena[i].pages);
	}
}

/* There is a single thread, so a vCPU that is kicked leaves the guest at once, within the kick. */
static void kicked(void *cookie)
{
	mcpu_leave(cookie);
}

static void vm_make(struct model *m)
{
	static const enum vmmu_format formats[] = { VMMU_FORMAT_NPT4,       VMMU_FORMAT_NPT5,       VMMU_FORMAT_EPT4,
	                                            VMMU_FORMAT_EPT5, VMMU_FORMAT_EPT4_NO_AD, VMMU_FORMAT_EPT5_NO_AD };

	m->config = (struct vmmu_config){
		.size = sizeof(m->config),
		.host = &thost_ops,
		.host_state = &m->host,
		.mmu = m->shadow ? VMMU_MMU_SHADOW : VMMU_MMU_TDP,
		.format = m->shadow ? VMMU_FORMAT_NPT4
		                    : formats[rng_below(&m->rng, sizeof(formats) / sizeof(*formats))],
		.address_spaces = 1 + rng_below(&m->rng, 2),
		.max_vcpus = 16,
		.slot_delete_zaps_slot = rng_one_in(&m->rng, 2),
	};
	m->host.kick = kicked;
	m->host.read_only_reads = rng_one_in(&m->rng, 3);
	m->host.max_level = rng_one_in(&m->rng, 3) ? 1 + rng_below(&m->rng, 2) : 0;
	m->ring = rng_one_in(&m->rng, 3);
	if (vmmu_vm_create(&m->config, &m->vm) != VMMU_OK)
		mismatch(m, "no VM");
	if (m->ring && vmmu_dirty_ring_enable(m->vm, RING) != VMMU_OK)
		mismatch(m, "no rings");
	trace("VM: format %d, %u address spaces, slot delete zaps %s, %s, host level %d%s", m->config.format,
	      m->config.address_spaces,
	      m->config.slot_delete_zaps_slot ? "the slot" : "all", m->ring ? "rings" : "bitmaps", m->host.max_level,
	      m->host.read_only_reads ? ", read-only reads" : "");
}

static void guests_make(struct model *m)
{
	struct vmmu_region region = { .slot = 100, .gpa = { PAGING }, .bytes = GUESTS * TABLES * 4096,
	                              .hva = { (uintptr_t)m->tables } };

	memset(m->tables, 0, GUESTS * TABLES * 4096);
	for (unsigned i = 0; i < GUESTS; i++)
		mcpu_guest_init(&m->guest[i], PAGING + i * TABLES * 4096, m->tables + i * TABLES * 4096, TABLES);
	for (; region.address_space < m->config.address_spaces; region.address_space++)
		if (vmmu_region_set(m->vm, &region) != VMMU_OK)
			mismatch(m, "no slot for page tables");
}

void model_start(struct model *m, uint64_t seed)
{
	rng_seed(&m->rng, seed);
	memset(&m->host, 0, sizeof(m->host));
	m->dirty_mode = 0;
	m->next_value = 1;
	m->jumped = false;
	vm_make(m);
	if (m->shadow)
		guests_make(m);
	arenas_reset(m);
	for (unsigned n = 0; n < 1 + rng_below(&m->rng, CPUS); n++)
		op_vcpu(m);
}

static void slot_forget(struct mslot *slot)
{
	free(slot->dirty);
	free(slot->ever);
	free(slot->gone);
	*slot = (struct mslot){ 0 };
}

static void stats_add(struct model *m)
{
	struct vmmu_stats stats;
	uint64_t *sum = (uint64_t *)&m->sum, *one = (uint64_t *)&stats;

	_Static_assert(sizeof(stats) % sizeof(*sum) == 0, "all fields are 64 bits wide");
	vmmu_stats_get(m->vm, &stats, sizeof(stats));
	for (unsigned i = 0; i < sizeof(stats) / sizeof(*sum); i++)
		sum[i] += one[i];
}

void model_stop(struct model *m)
{
	stats_add(m);
	while (m->outstanding)
		op_invalidate_end(m);
	for (unsigned n = 0; n < CPUS; n++) {
		if (!m->cpu[n].exists)
			continue;
		mcpu_leave(&m->cpu[n].cpu);
		vmmu_vcpu_destroy(m->cpu[n].cpu.vcpu);
		free(m->cpu[n].ring);
		m->cpu[n].ring = NULL;
		m->cpu[n].exists = false;
	}
	if (vmmu_vm_is_dead(m->vm))
		mismatch(m, "the VM is dead");
	vmmu_vm_destroy(m->vm);
	m->vm = NULL;
	if (!thost_is_empty(&m->host))
		mismatch(m, "leaks");
	for (unsigned i = 0; i < SLOTS; i++)
		slot_forget(&m->slot[i]);
}

struct mslot *model_slot_at(struct model *m, uint32_t as, uint64_t gfn)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		struct mslot *slot = &m->slot[i];

		if (slot->used && slot->as == as && gfn >= slot->base && gfn - slot->base < slot->pages)
			return slot;
	}
	return NULL;
}

struct mslot *model_pick_slot(struct model *m)
{
	unsigned first = rng_below(&m->rng, SLOTS);

	for (unsigned i = 0; i < SLOTS; i++)
		if (m->slot[(first + i) % SLOTS].used)
			return &m->slot[(first + i) % SLOTS];
	return NULL;
}

/* Picks the first or last page, one beside a 2M boundary, one of a few that are used often, or any page. */
uint64_t model_pick_page(struct model *m, const struct mslot *slot)
{
	uint64_t page;

	switch (rng_below(&m->rng, 8)) {
	case 0:
		page = 0;
		break;
	case 1:
		page = slot->pages - 1;
		break;
	case 2:
		page = rng_below(&m->rng, slot->pages);
		break;
	case 3:
		page = (rng_below(&m->rng, slot->pages) & ~UINT64_C(511)) - rng_below(&m->rng, 2);
		break;
	default:
		page = rng_below(&m->rng, 24) * 0x9e3779b1 >> 4;
		break;
	}
	return page % slot->pages;
}

uint64_t model_pick_gfn(struct model *m, uint32_t as)
{
	for (int tries = 0; tries < 8; tries++) {
		struct mslot *slot = model_pick_slot(m);

		if (slot && slot->as == as)
			return slot->base + model_pick_page(m, slot) + (rng_one_in(&m->rng, 30) ? slot->pages : 0);
	}
	return rng_below(&m->rng, UINT64_C(1) << (rng_one_in(&m->rng, 2) ? 36 : 22));
}

bool model_in_range(const struct model *m, const char *hva)
{
	for (unsigned i = 0; i < RANGES; i++)
		if (m->range[i].active && hva + 4096 > m->range[i].start && hva < m->range[i].end)
			return true;
	return false;
}

enum mcpu_result model_access(struct model *m, uint32_t as, uint64_t gfn, bool write, uint64_t **value,
                              struct mslot **found)
{
	struct mslot *slot = model_slot_at(m, as, gfn);
	uint64_t page;

	*found = slot;
	*value = NULL;
	if (!slot || (write && (slot->flags & VMMU_SLOT_READONLY)))
		return MCPU_MMIO;
	page = slot->offset + gfn - slot->base;
	*value = &slot->arena->value[page];
	if (slot->arena->state[page] == PAGE_GONE || (write && slot->arena->state[page] == PAGE_READONLY))
		return MCPU_HOST;
	return model_in_range(m, slot->arena->base + (page << 12)) ? MCPU_BUSY : MCPU_OK;
}

void model_mark(struct mslot *slot, uint64_t gfn)
{
	if (!slot->dirty)
		return;
	slot->dirty[gfn - slot->base] = 1;
	slot->ever[gfn - slot->base] = EVER_WRITTEN;
}
