/* SPDX-License-Identifier: MIT */
/*
 * Writes to guest tables that the MMU is told about: emulated writes (P4), floods of them (F42), and shadow pages
 * that are dropped so that the guest can write their tables (F43).
 */
#include "core/shadow/shadow_int.h"

/*
 * So many writes without a use in between: the frame is no longer used as a page table, or L1 changes much of it at
 * once. In guest mode there are more: several vCPUs of L1 may each fill an entry before the first one's guest runs on.
 */
#define FLOOD            3
#define FLOOD_GUEST_MODE 16

/*
 * The shadow entries that mirror bytes [offset, offset + bytes) of the guest's table. Returns: false when the page
 * mirrors another part of the table.
 */
static bool entries_hit(const struct shadow *page, unsigned offset, unsigned bytes, unsigned *first, unsigned *last)
{
	unsigned guest_first, guest_last, part, scale;

	if (!(page->role & ROLE_FOUR_BYTE)) {
		*first = offset / 8;
		*last = (offset + bytes - 1) / 8;
		return true;
	}
	/* A quadrant mirrors 512 entries of a 4K-level table, or 256 of a directory, which take two of ours each. */
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

/* Count a write. Returns: is the table flooded? */
static bool is_flood(struct shadow *page)
{
	bool guest_mode = page->role & ROLE_GUEST_MODE;
	uint32_t writes = load_relaxed(&page->writes) + 1;

	/* Other 4K-level pages go unsync, and are written without a fault. */
	if (role_level(page->role) == 1 && !guest_mode)
		return false;
	store_relaxed(&page->writes, writes);
	return writes >= (guest_mode ? FLOOD_GUEST_MODE : FLOOD);
}

static void page_written(struct mmu_token *token, struct shadow *page, unsigned offset, unsigned bytes)
{
	unsigned first, last;

	if (!entries_hit(page, offset, bytes, &first, &last))
		return;
	if (is_flood(page)) {
		shadow_zap(token, page);
		return;
	}
	for (unsigned i = first; i <= last; i++)
		if (load_relaxed(&page->spt[i]))
			entry_zap(token, page, &page->spt[i]);
}

/* The written bytes lie within one frame. */
static void frame_written(struct mmu_token *token, gpa_t gpa, unsigned bytes)
{
	gfn_t gfn = gpa_to_gfn(gpa);

	for (struct shadow *page = shadow_next_of(token->vm, gfn, NULL); page;
	     page = shadow_next_of(token->vm, gfn, page))
		page_written(token, page, gpa.v & (PAGE_SIZE - 1), bytes);
}

void shadow_track_write(struct vm *vm, gpa_t gpa, unsigned bytes)
{
	unsigned in_first = min_u64(bytes, PAGE_SIZE - (gpa.v & (PAGE_SIZE - 1)));
	struct mmu_write token;

	if (!vm->shadow)
		return;
	/* full: the caller's store is visible before the count is read. Pairs with account_shadowed. P4 */
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
	bool any = false;

	if (!vm->shadow || !load_relaxed(&vm->shadow->indirect)) /* only a hint: no order is needed */
		return false;
	token = mmu_write_lock(vm);
	for (struct shadow *page = shadow_next_of(vm, gfn, NULL); page; page = shadow_next_of(vm, gfn, page)) {
		shadow_zap(&token.token, page);
		any = true;
	}
	mmu_flush(&token.token);
	mmu_write_unlock(&token);
	return any;
}
