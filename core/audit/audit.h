/* SPDX-License-Identifier: MIT */
/*
 * The whole structure of a VM, checked at a quiet point: no vCPU is in the guest and no call on the VM is under way.
 * The audit reads everything and changes nothing. It waits for an RCU grace period, so that tables on their way out
 * are back in the pool. Nothing in core includes this header.
 *
 * What it checks, with the protocols' ids (F: rows of doc/features.md):
 *     slots     both sets of an address space hold the same slots; none is INVALID; no two overlap; ids lead to them
 *     leaves    each lies inside a slot of its address space, maps the frame that the slot's host address names, and is
 *               no larger than slot and alignment allow; it is writable only where HOST_W, MMU_W, the slot and the
 *               dirty log allow that (P6, P11)
 *     MMIO      an entry whose generation is current lies in no slot and names its own gfn (P10)
 *     tables    each is reachable once, from the place that its header names; nothing frozen is reachable (P7)
 *     shadow    an entry of a page that is not unsync matches the guest's current entry, or is stricter (I4.2), as a
 *               walker of the audit's own reads the guest's; a child has the gfn and the role that its place asks for
 *               (F25); a mirrored table is writable nowhere (I4.4); nothing obsolete is left (P3)
 *     both      no TDP leaf of a mirrored table is writable, may be made so by the fast path, or is huge (N1)
 *     chains    the rmap of a (gfn, level) holds exactly the present leaves (I2.5); a page knows exactly the entries
 *               that point to it (F26)
 *     arrays    slots have them from the first shadow root on, and not before (P1)
 *     unsync    only 4K-level tables are unsync; every way to one is marked, and no other way is (P8)
 *     roots     at most one valid root per address space; the MMU and the vCPUs hold all its references; an invalid
 *               root is empty (P3)
 *     counters  each count is right: pages per level, tables, chunks, shadow pages, mirrored tables (I4.3), write
 *               tracking, huge leaves forbidden, references of roots
 *     P5        no invalidation is outstanding, or as many as the caller says
 */
#ifndef CORE_AUDIT_AUDIT_H
#define CORE_AUDIT_AUDIT_H

#include "core/base/types.h"

struct vm;

#define AUDIT_LINE 160

/* Where lines of text go. Each call passes one line, without a newline. */
struct audit_out {
	void (*line)(void *arg, const char *text);
	void *arg;
};

struct audit_report {
	/* in */
	struct audit_out out;     /* one line per violation; out.line may be NULL */
	unsigned max_lines;       /* after this many, violations are only counted; 0: 20 */
	uint64_t invalidations;   /* how many the caller has begun and not ended */
	/* Where the host keeps a page. NULL: the host is a process, and keeps it at its own address. */
	pfn_t (*frame)(void *arg, hva_t hva);
	void *frame_arg;
	/* The first shadow root ran out of memory: arrays may be there before the flag (P1). */
	bool ran_out_of_memory;
	/* The client may have written guest tables unseen, as through another slot of their memory: skip I4.2. */
	bool tables_unwatched;
	/* out */
	uint64_t violations;
	uint64_t roots, tables;   /* reachable; tables includes roots */
	uint64_t leaves[3];       /* by level - 1 */
	uint64_t mmio;            /* MMIO entries, stale ones included */
	uint64_t shadow_pages;
	uint64_t writable_logged; /* writable leaves in logged slots */
};

/** Check everything. Holds: none; takes slots_lock. Sleeps. Returns: true if nothing is wrong. */
bool audit_vm(struct vm *vm, struct audit_report *report);

/** Draw the slots and the trees, with runs of equal entries on one line. To be called at a quiet point, as audit_vm. */
void audit_dump(struct vm *vm, const struct audit_out *out);

#endif
