/* SPDX-License-Identifier: MIT */
/* Parts of the audit of a VM that shadows. For this folder only. */
#ifndef CORE_AUDIT_SHADOW_INT_H
#define CORE_AUDIT_SHADOW_INT_H

#include "core/audit/audit_int.h"
#include "core/fault/vcpu.h"
#include "core/shadow/shadow_int.h"

/* What a guest's entry says, within the rights of the path to its table. */
struct audit_meaning {
	bool present, reserved, leaf;
	bool write, user, exec; /* rights */
	bool accessed, dirty;
	unsigned key;
	uint64_t frame;         /* gfn: of the next table, or the first that a leaf maps (for a half of 4 MiB: of that half) */
};

/** The guest's entry that entry `index` of the page mirrors. `readonly`: the guest cannot write its table. Returns: false when there is no memory. */
bool audit_guest_load(const struct audit *audit, const struct shadow *page, unsigned index, uint64_t *value, bool *readonly);
struct audit_meaning audit_guest_meaning(const struct audit *audit, const struct shadow *page, unsigned index, uint64_t value);

/** Is an entry of a page of a guest's table, not unsync, what the guest's current entry says, or stricter? (mirror.c) */
void audit_mirror(struct audit *audit, const struct shadow *page, unsigned index, spte_t spte);

/**
 * CR0.WP = 0: may an entry with these rights be writable where the guest's is not? `role`: of its page. `users_page`:
 * the guest's entry is a user's. (mirror.c)
 */
bool audit_supervisor_may(uint32_t role, bool users_page, bool user, bool exec);

/** How often `entry` stands on a chain. */
unsigned audit_rmap_has(const struct rmap *rmap, const spte_t *entry);

/** Arrays of slots: they exist (P1), and count what there is (I2.5, I4.3, 20, 39). After the pages were looked at. (arrays.c) */
void audit_arrays(struct audit *audit);

#endif
