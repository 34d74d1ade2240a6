/* SPDX-License-Identifier: MIT */
/* Parts of the audit. For this folder only. */
#ifndef CORE_AUDIT_AUDIT_INT_H
#define CORE_AUDIT_AUDIT_INT_H

#include "core/audit/text.h"
#include "core/memslot/slots.h"
#include "core/table/table.h"

struct audit {
	struct vm *vm;
	struct audit_report *report;
	struct text text;
	uint64_t mapped;      /* leaves of shadow pages */
	unsigned phys_bits;   /* of the guest's tables */
	bool gbpages, amd;
};

/** Report a violation: what it is, and two named numbers that say where. A name may be NULL. */
void audit_fail(struct audit *audit, const char *what, const char *name1, uint64_t value1, const char *name2,
                uint64_t value2);

/** Slots of both sets (slots.c). */
void audit_slots(struct audit *audit);

/** Roots, tables, entries (tables.c). Adds what it found to the report. */
void audit_tables(struct audit *audit);

/** A leaf for gfn, of any table (tables.c). `every`: the bits that all leaves of its kind have. */
void audit_leaf(struct audit *audit, const struct memslots *slots, gfn_t gfn, spte_t spte, int level, spte_t every);
/** An MMIO entry, of any table (tables.c). */
void audit_mmio(struct audit *audit, const struct memslots *slots, gfn_t gfn, spte_t spte);

/** The frame behind a host address. */
pfn_t audit_frame(const struct audit *audit, hva_t hva);

/** Shadow pages, and the arrays of slots (shadow.c, arrays.c). Adds what it found to the report. */
void audit_shadow(struct audit *audit);

/**
 * Are the pages [offset, offset + pages) of a logged slot recorded as dirty, so that they may be writable? (dirty.c)
 */
bool audit_pages_dirty(struct vm *vm, const struct memslot *slot, uint64_t offset, uint64_t pages);

#endif
