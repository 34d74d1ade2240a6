/* SPDX-License-Identifier: MIT */
/*
 * Memslots compared with a slow, obvious model: an array of regions. Thousands of random requests are made, most of
 * them at the limits of what is allowed. After each the answer is compared, and from time to time every lookup.
 */
#include "test/unit/test.h"

#include "core/memslot/set.h"
#include "test/unit/test_vm.h"

#define IDS   24
#define GFNS  256 /* guest memory of the model, in pages: small, so that slots overlap */
#define HVAS  96  /* host memory, in pages: smaller still, so that slots share it */
#define BASE  5   /* the first page of host memory */

struct model {
	struct vmmu_region region[2][IDS];
	bool in[2][IDS];
};

static uint64_t first_gfn(const struct vmmu_region *r)
{
	return r->gpa.v >> PAGE_SHIFT;
}

static bool holds_gfn(const struct vmmu_region *r, uint64_t gfn)
{
	return gfn >= first_gfn(r) && gfn < first_gfn(r) + (r->bytes >> PAGE_SHIFT);
}

static bool model_overlaps(const struct model *model, const struct vmmu_region *r)
{
	for (unsigned id = 0; id < IDS; id++)
		for (uint64_t page = 0; page < r->bytes >> PAGE_SHIFT; page++)
			if (id != r->slot && model->in[r->address_space][id] &&
			    holds_gfn(&model->region[r->address_space][id], first_gfn(r) + page))
				return true;
	return false;
}

/* The rules again, written in another way. */
static enum vmmu_status model_set(struct model *model, const struct vmmu_region *r)
{
	struct vmmu_region *old = &model->region[r->address_space][r->slot];
	bool *in = &model->in[r->address_space][r->slot];

	if (r->bytes == 0) {
		if (!*in)
			return VMMU_EINVAL;
		*in = false;
		return VMMU_OK;
	}
	if (*in && (old->bytes != r->bytes || old->hva.v != r->hva.v ||
	            (old->flags & VMMU_SLOT_READONLY) != (r->flags & VMMU_SLOT_READONLY)))
		return VMMU_EINVAL;
	if (model_overlaps(model, r))
		return VMMU_EEXIST;
	*old = *r;
	*in = true;
	return VMMU_OK;
}

static struct vmmu_region random_request(struct rng *rng, const struct model *model)
{
	unsigned as_id = rng_below(rng, 2), id = rng_below(rng, IDS);
	const struct vmmu_region *old = &model->region[as_id][id];
	uint64_t npages = 1 + rng_below(rng, rng_below(rng, 8) ? 12 : 80);
	uint64_t flags = rng_below(rng, 4);

	if (model->in[as_id][id] && rng_below(rng, 10)) {
		uint64_t gfn = rng_below(rng, 3) ? rng_below(rng, GFNS - 80) : first_gfn(old);

		if (rng_below(rng, 3) == 0)
			return test_region(as_id, id, gfn, 0, BASE, 0);
		return test_region(as_id, id, gfn, old->bytes >> PAGE_SHIFT, old->hva.v >> PAGE_SHIFT,
		                   (old->flags & VMMU_SLOT_READONLY) | (flags & VMMU_SLOT_LOG_DIRTY));
	}
	if (rng_below(rng, 20) == 0)
		npages = 0;
	return test_region(as_id, id, rng_below(rng, GFNS - 80), npages, BASE + rng_below(rng, HVAS), flags);
}

/* --- comparing lookups --- */

static void by_gfn_equals_model(struct test_vm *test, const struct model *model, unsigned as_id,
                                struct memslot_cache *cache, struct rng *rng)
{
	const struct memslots *set = memslots_current(&test->vm, as_id);

	for (unsigned i = 0; i < GFNS; i++) {
		uint64_t gfn = rng_below(rng, GFNS);
		const struct memslot *slot = memslot_find(set, GFN(gfn)), *expected = NULL;

		for (unsigned id = 0; id < IDS; id++)
			if (model->in[as_id][id] && holds_gfn(&model->region[as_id][id], gfn))
				expected = memslot_find_id(set, id);
		assert_ptr_equal(slot, expected);
		assert_ptr_equal(memslot_find_cached(cache, set, GFN(gfn)), expected);
	}
}

static void by_id_equals_model(struct test_vm *test, const struct model *model, unsigned as_id)
{
	for (unsigned id = 0; id < IDS; id++) {
		const struct memslot *slot = memslot_find_id(memslots_current(&test->vm, as_id), id);
		const struct vmmu_region *r = &model->region[as_id][id];

		assert_int_equal(slot != NULL, model->in[as_id][id]);
		if (!slot)
			continue;
		assert_int_equal(slot->base.v, first_gfn(r));
		assert_int_equal(slot->npages, r->bytes >> PAGE_SHIFT);
		assert_int_equal(slot->hva.v, r->hva.v);
		assert_int_equal(slot->flags, r->flags);
		assert_int_equal(slot->id, id);
		assert_int_equal(slot->as_id, as_id);
	}
}

struct spans {
	struct memslot_span span[IDS];
	unsigned count, stop_at;
};

static bool span_note(void *arg, const struct memslot_span *span)
{
	struct spans *spans = arg;

	assert_true(spans->count < IDS);
	spans->span[spans->count++] = *span;
	return spans->count == spans->stop_at;
}

static const struct memslot_span *span_of(const struct spans *spans, const struct memslot *slot)
{
	for (unsigned i = 0; i < spans->count; i++)
		if (spans->span[i].slot == slot)
			return &spans->span[i];
	return NULL;
}

static void by_hva_equals_model(struct test_vm *test, const struct model *model, unsigned as_id, uint64_t start,
                                uint64_t end)
{
	const struct memslots *set = memslots_current(&test->vm, as_id);
	struct spans spans = { .count = 0 };
	unsigned expected = 0;

	assert_false(memslots_for_each_hva(set, HVA(start), HVA(end), span_note, &spans));
	for (unsigned id = 0; id < IDS; id++) {
		const struct vmmu_region *r = &model->region[as_id][id];
		const struct memslot_span *span = span_of(&spans, memslot_find_id(set, id));
		uint64_t first = UINT64_MAX, last = 0;

		for (uint64_t page = 0; model->in[as_id][id] && page < r->bytes >> PAGE_SHIFT; page++) {
			uint64_t hva = r->hva.v + (page << PAGE_SHIFT);

			if (start < end && hva < end && hva + PAGE_SIZE > start) {
				first = first == UINT64_MAX ? page : first;
				last = page;
			}
		}
		assert_int_equal(span != NULL, first != UINT64_MAX);
		if (!span)
			continue;
		expected++;
		assert_int_equal(span->first.v, first_gfn(r) + first);
		assert_int_equal(span->last.v, first_gfn(r) + last);
	}
	assert_int_equal(spans.count, expected);
	if (expected) {
		spans = (struct spans){ .stop_at = 1 + expected / 2 };
		assert_true(memslots_for_each_hva(set, HVA(start), HVA(end), span_note, &spans));
		assert_int_equal(spans.count, spans.stop_at);
	}
}

static void overlap_equals_model(struct test_vm *test, const struct model *model, struct rng *rng, unsigned as_id)
{
	struct vmmu_region r = test_region(as_id, rng_below(rng, IDS), rng_below(rng, GFNS), 1 + rng_below(rng, 20),
	                                   BASE, 0);

	assert_int_equal(memslots_overlap(memslots_current(&test->vm, as_id), gpa_to_gfn(r.gpa), r.bytes >> PAGE_SHIFT,
	                                  r.slot),
	                 model_overlaps(model, &r));
}

static void random_requests_equal_model(uint64_t seed, unsigned steps)
{
	struct test_vm *test = test_vm_make(2);
	struct memslot_cache cache[2] = { { 0 } };
	struct model model = { .region[0][0].slot = 0 };
	struct rng rng = rng_make(seed);

	for (unsigned step = 0; step < steps; step++) {
		struct vmmu_region region = random_request(&rng, &model);

		assert_int_equal(test_vm_set(test, &region), model_set(&model, &region));
		test_vm_audit(test);
		if (step % 8)
			continue;
		for (unsigned as_id = 0; as_id < 2; as_id++) {
			uint64_t start = rng_below(&rng, (HVAS + 90) * PAGE_SIZE),
			         bytes = rng_below(&rng, 3) ? rng_below(&rng, 9000) : rng_below(&rng, 400000);

			by_gfn_equals_model(test, &model, as_id, &cache[as_id], &rng);
			by_id_equals_model(test, &model, as_id);
			by_hva_equals_model(test, &model, as_id, start, start + bytes);
			by_hva_equals_model(test, &model, as_id, start & ~(PAGE_SIZE - 1),
			                    (start & ~(PAGE_SIZE - 1)) + PAGE_SIZE);
			overlap_equals_model(test, &model, &rng, as_id);
		}
	}
	test_vm_free(test);
}

static void test_random_requests_equal_model(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 4; seed++)
		random_requests_equal_model(seed, 2500);
}

static void test_hva_range_empty_or_wild_finds_nothing(void **state)
{
	struct test_vm *test = test_vm_make(1);
	struct vmmu_region region = test_region(0, 0, 0, 10, 100, 0);
	const struct memslots *set;
	struct spans spans = { .count = 0 };

	(void)state;
	set = memslots_current(&test->vm, 0);
	assert_false(memslots_for_each_hva(set, HVA(0), HVA(UINT64_MAX), span_note, &spans));
	assert_int_equal(test_vm_set(test, &region), VMMU_OK);
	set = memslots_current(&test->vm, 0);
	memslots_for_each_hva(set, HVA(region.hva.v), HVA(region.hva.v), span_note, &spans);
	memslots_for_each_hva(set, HVA(region.hva.v + 4096), HVA(region.hva.v), span_note, &spans);
	memslots_for_each_hva(set, HVA(0), HVA(region.hva.v), span_note, &spans);
	memslots_for_each_hva(set, HVA(region.hva.v + region.bytes), HVA(UINT64_MAX), span_note, &spans);
	assert_int_equal(spans.count, 0);
	memslots_for_each_hva(set, HVA(0), HVA(UINT64_MAX), span_note, &spans);
	assert_int_equal(spans.count, 1);
	assert_int_equal(spans.span[0].first.v, 0);
	assert_int_equal(spans.span[0].last.v, 9);
	test_vm_free(test);
}

/* --- as many slots as are possible --- */

static void test_all_slots_in_both_address_spaces(void **state)
{
	struct test_vm *test = test_vm_make(2);
	struct vmmu_region region;
	struct rng rng = rng_make(3);

	(void)state;
	/* The slots' numbers and their places are in unrelated orders. */
	for (uint32_t i = 0; i < VMMU_MAX_SLOTS; i++) {
		region = test_region(i % 2, (i * 25u) % VMMU_MAX_SLOTS, (i * 41ull) % VMMU_MAX_SLOTS * 2, 1,
		                     (i * 13ull) % 1000, 0);
		assert_int_equal(test_vm_set(test, &region), VMMU_OK);
	}
	for (uint32_t i = 0; i < VMMU_MAX_SLOTS; i++) {
		region = test_region((i + 1) % 2, (i * 25u) % VMMU_MAX_SLOTS, (i * 41ull) % VMMU_MAX_SLOTS * 2, 1,
		                     (i * 13ull) % 1000, 0);
		assert_int_equal(test_vm_set(test, &region), VMMU_OK);
	}
	test_vm_audit(test);
	assert_int_equal(memslots_current(&test->vm, 0)->count, VMMU_MAX_SLOTS);
	for (int i = 0; i < 20000; i++) {
		uint32_t nth = rng_below(&rng, VMMU_MAX_SLOTS);
		const struct memslots *set = memslots_current(&test->vm, rng_below(&rng, 2));
		const struct memslot *slot = memslot_find_id(set, nth * 25u % VMMU_MAX_SLOTS);

		assert_non_null(slot);
		assert_int_equal(slot->base.v, nth * 41ull % VMMU_MAX_SLOTS * 2);
		assert_ptr_equal(memslot_find(set, slot->base), slot);
		assert_null(memslot_find(set, GFN(slot->base.v + 1)));
	}
	for (uint32_t i = 0; i < VMMU_MAX_SLOTS; i += 2) {
		region = test_region(0, i, 0, 0, 0, 0);
		assert_int_equal(test_vm_set(test, &region), VMMU_OK);
	}
	test_vm_audit(test);
	test_vm_free(test);
}

static void test_few_slots_cost_little(void **state)
{
	struct test_vm *test = test_vm_make(1);
	long empty = test->live_bytes;

	(void)state;
	assert_true(empty < 8192);
	for (uint32_t id = 0; id < 32; id++) {
		struct vmmu_region region = test_region(0, id, id, 1, 0, 0);

		assert_int_equal(test_vm_set(test, &region), VMMU_OK);
	}
	assert_true(test->live_bytes - empty < 2048 + 32 * 256);
	test_vm_free(test);
}

/* --- levels (F19) --- */

static int level_by_hand(const struct memslot *slot, uint64_t gfn)
{
	for (int level = 3; level > 1; level--) {
		uint64_t pages = UINT64_C(1) << (level - 1) * 9, first = gfn / pages * pages;
		/* This may wrap when `first` is below the slot's base. Then it is not used. */
		uint64_t hva = slot->hva.v + (first - slot->base.v) * PAGE_SIZE;

		if (first >= slot->base.v && first + pages <= slot->base.v + slot->npages &&
		    hva % (pages * PAGE_SIZE) == 0)
			return level;
	}
	return 1;
}

static void test_max_level_needs_block_in_slot_and_equal_alignment(void **state)
{
	static const uint64_t starts[] = { 0, 1, 511, 512, 513, 1024, 262143, 262144, 262145, 524288, 524800 };
	static const uint64_t sizes[] = { 1, 511, 512, 513, 1023, 1024, 1536, 262144, 262656, 524288, 786432, 1048576 };
	struct rng rng = rng_make(5);
	unsigned seen[4] = { 0 };

	(void)state;
	for (unsigned a = 0; a < array_size(starts); a++)
		for (unsigned b = 0; b < array_size(starts); b++)
			for (unsigned c = 0; c < array_size(sizes); c++) {
				struct memslot slot = { .base = GFN(starts[a]), .hva = HVA(starts[b] << 12),
				                        .npages = sizes[c] };

				for (int i = 0; i < 24; i++) {
					uint64_t offset = i < 2 ? i * (slot.npages - 1) : rng_below(&rng, slot.npages);
					int level = memslot_max_level(&slot, GFN(slot.base.v + offset));

					assert_int_equal(level, level_by_hand(&slot, slot.base.v + offset));
					seen[level]++;
				}
			}
	assert_true(seen[1] && seen[2] && seen[3]);
}

/* The cache must not answer from an old generation, even if a new slot was allocated at the address of a freed one. */
static void test_cached_lookup_follows_every_change(void **state)
{
	struct test_vm *test = test_vm_make(1);
	struct memslot_cache cache = { 0 };

	(void)state;
	for (int i = 0; i < 100; i++) {
		struct vmmu_region region = test_region(0, 0, i, 1, i, 0);
		const struct memslot *slot;

		assert_int_equal(test_vm_set(test, &region), VMMU_OK);
		assert_null(memslot_find_cached(&cache, memslots_current(&test->vm, 0), GFN(i + 1)));
		slot = memslot_find_cached(&cache, memslots_current(&test->vm, 0), GFN(i));
		assert_non_null(slot);
		assert_int_equal(slot->hva.v, i << PAGE_SHIFT);
		region.bytes = 0;
		assert_int_equal(test_vm_set(test, &region), VMMU_OK);
		assert_null(memslot_find_cached(&cache, memslots_current(&test->vm, 0), GFN(i)));
		assert_null(memslot_find(memslots_current(&test->vm, 0), GFN(i)));
	}
	test_vm_free(test);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_requests_equal_model),
		cmocka_unit_test(test_hva_range_empty_or_wild_finds_nothing),
		cmocka_unit_test(test_all_slots_in_both_address_spaces),
		cmocka_unit_test(test_few_slots_cost_little),
		cmocka_unit_test(test_max_level_needs_block_in_slot_and_equal_alignment),
		cmocka_unit_test(test_cached_lookup_follows_every_change),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
