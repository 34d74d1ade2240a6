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
	uint64_t frame;         /* gfn of the next table, or the first that a leaf maps (of a 4 MiB leaf's half) */
};

/**
 * Read the guest's entry that entry `index` of the page mirrors. `readonly`: the guest cannot write its table.
 * Returns: false if the table is in no memory.
 */
bool audit_guest_load(const struct audit *audit, const struct shadow *page, unsigned index, uint64_t *value,
                      bool *readonly);
struct audit_meaning audit_guest_meaning(const struct audit *audit, const struct shadow *page, unsigned index,
                                         uint64_t value);

/**
 * Check that an entry of a page that mirrors a guest's table, and is not unsync, matches the guest's current entry, or
 * is stricter. (mirror.c)
 */
void audit_mirror(struct audit *audit, const struct shadow *page, unsigned index, spte_t spte);

/**
 * With CR0.WP = 0, may an entry with these rights be writable where the guest's is not? `role`: of the entry's page.
 * `users_page`: the guest's entry is a user's. (mirror.c)
 */
bool audit_supervisor_may(uint32_t role, bool users_page, bool user, bool exec);

/** A shadow page mirrors the table in gfn: check TDP's leaves of it (N1). (both.c) */
void audit_mirrored_frame(struct audit *audit, gfn_t gfn);

/** How often `entry` is on a chain. */
unsigned audit_rmap_has(const struct rmap *rmap, const spte_t *entry);

/** Arrays of slots: they exist (P1), and their counts are right (I2.5, I4.3, F20, F39). After the pages. (arrays.c) */
void audit_arrays(struct audit *audit);

#endif
