/* SPDX-License-Identifier: MIT */
/* Writes to guest tables that the MMU is told of: emulated ones (P4), floods of them (42), and pages given up to be written (43). */
#include "core/shadow/shadow_int.h"

#define FLOOD 3 /* writes without a use in between: the page is no page table any more */

/* The entries that mirror bytes [offset, offset + bytes) of the guest's table. Returns: false when the page mirrors another part of it. */
static bool entries_hit(const struct shadow *page, unsigned offset, unsigned bytes, unsigned *first, unsigned *last)
{
	unsigned guest_first, guest_last, part, scale;

	if (!(page->role & ROLE_FOUR_BYTE)) {
		*first = offset / 8;
		*last = (offset + bytes - 1) / 8;
		return true;
	}
	/* A quadrant mirrors 512 entries of a 4K-level table; of a directory 256, each of which takes two of ours. */
	scale = role_level(page->role) == 1 ? 1 : 2;
	part = ENTRIES / scale;
	guest_first = offset / 4;
	guest_last = (offset + bytes - 1) / 4;
	if (guest_last / part < role_quadrant(page->role) || guest_first / part > role_quadrant(page->role))
		return false;
	*first = guest_first / part < role_quadrant(page->role) ? 0 : guest_first % part * scale;
	*last = guest_last / part > role_quadrant(page->role) ? ENTRIES - 1 : guest_last % part * scale + scale - 1;
	return true;
}

static void page_written(struct mmu_token *token, struct shadow *page, unsigned offset, unsigned bytes)
{
	unsigned first, last;

	if (!entries_hit(page, offset, bytes, &first, &last))
		return;
	/* A 4K-level page goes unsync long before it floods. */
	if (role_level(page->role) > 1 && ++page->writes >= FLOOD) {
		shadow_zap(token, page);
		return;
	}
	for (unsigned i = first; i <= last; i++)
		if (load_relaxed(&page->spt[i]))
			entry_zap(token, page, &page->spt[i]);
}

/* Within one frame. */
static void frame_written(struct mmu_token *token, gpa_t gpa, unsigned bytes)
{
	gfn_t gfn = gpa_to_gfn(gpa);
	struct shadow *next;

	for (struct shadow *page = shadow_next_of(token->vm, gfn, NULL); page; page = next) {
		next = shadow_next_of(token->vm, gfn, page);
		page_written(token, page, gpa.v & (PAGE_SIZE - 1), bytes);
	}
}

void shadow_track_write(struct vm *vm, gpa_t gpa, unsigned bytes)
{
	unsigned in_first = min_u64(bytes, PAGE_SIZE - (gpa.v & (PAGE_SIZE - 1)));
	struct mmu_write token;

	/* full: the store is out before the count is looked at (pairs with account_shadowed), P4 */
	fence_full();
	if (!load_relaxed(&vm->shadow->indirect))
		return;
	token = mmu_write_lock(vm);
	if (vm->shadow->hash) {
		frame_written(&token.token, gpa, in_first);
		if (bytes > in_first)
			frame_written(&token.token, GPA(gpa.v + in_first), bytes - in_first);
	}
	mmu_flush(&token.token);
	mmu_write_unlock(&token);
}

bool shadow_unprotect(struct vm *vm, gfn_t gfn)
{
	struct mmu_write token;
	struct shadow *next;
	bool any = false;

	if (!load_relaxed(&vm->shadow->indirect)) /* a hint */
		return false;
	token = mmu_write_lock(vm);
	for (struct shadow *page = shadow_next_of(vm, gfn, NULL); page; page = next) {
		next = shadow_next_of(vm, gfn, page);
		shadow_zap(&token.token, page);
		any = true;
	}
	mmu_flush(&token.token);
	mmu_write_unlock(&token);
	return any;
}
