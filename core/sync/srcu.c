/* SPDX-License-Identifier: MIT */
#include "core/sync/srcu.h"

void srcu_init(struct srcu *srcu)
{
	*srcu = (struct srcu){ 0 };
}

struct srcu_read srcu_read_lock(struct srcu *srcu, unsigned hint)
{
	struct srcu_stripe *stripe = &srcu->stripe[hint % SRCU_STRIPES];
	unsigned bank = load_relaxed(&srcu->bank) & 1;

	/*
	 * full: either a grace period sees the count, or this reader's next load sees what the caller of that grace
	 * period published. Pairs with the fences in wait_for_bank. C11 promises the second only to a load that is
	 * itself sequentially consistent: memslots_active's.
	 */
	add_seqcst(&stripe->entered[bank], 1);
	return (struct srcu_read){ stripe, bank };
}

void srcu_read_unlock(struct srcu *srcu, struct srcu_read token)
{
	/* full: the section, then the count, then the look at `waiting`. Pairs with wait_for_bank. */
	add_seqcst(&token.stripe->left[token.bank], 1);
	if (unlikely(load_seqcst(&srcu->waiting))) {
		add_release(&srcu->event, 1);
		port_wake(&srcu->event);
	}
}

/*
 * Sum `left` before `entered`. A reader that comes and goes between the two sums can then only make the bank look
 * busier than it is, never emptier.
 */
static bool bank_empty(struct srcu *srcu, unsigned bank)
{
	uint64_t left = 0, entered = 0;

	for (int i = 0; i < SRCU_STRIPES; i++)
		left += load_seqcst(&srcu->stripe[i].left[bank]);
	/*
	 * full: keeps the two sums in order, and makes the sections counted in `left` happen before what follows.
	 * Pairs with srcu_read_unlock.
	 */
	fence_full();
	for (int i = 0; i < SRCU_STRIPES; i++)
		entered += load_seqcst(&srcu->stripe[i].entered[bank]);
	return left == entered;
}

static void wait_for_bank(struct srcu *srcu, unsigned bank)
{
	/* full: a reader that is not counted yet sees what our caller published. Pairs with srcu_read_lock. */
	fence_full();
	if (bank_empty(srcu, bank))
		return;
	store_seqcst(&srcu->waiting, 1); /* pairs with srcu_read_unlock's load */
	for (;;) {
		uint32_t event = load_acquire(&srcu->event);

		if (bank_empty(srcu, bank))
			break;
		port_wait(&srcu->event, event);
	}
	store_relaxed(&srcu->waiting, 0);
}

/*
 * Wait for the idle bank as well. A reader may have read the bank's number before an earlier flip, and counted itself
 * in only after that flip's grace period had looked.
 */
void srcu_synchronize(struct srcu *srcu)
{
	unsigned bank;

	mutex_lock(&srcu->writers);
	bank = load_relaxed(&srcu->bank) & 1;
	wait_for_bank(srcu, bank ^ 1);
	store_seqcst(&srcu->bank, bank ^ 1); /* full: before the counts are looked at; pairs with srcu_read_lock */
	wait_for_bank(srcu, bank);
	mutex_unlock(&srcu->writers);
}
