/* SPDX-License-Identifier: MIT */
/*
 * The whole structure of a VM, checked at a quiet point: no vCPU is in the guest and no call on the VM is under way. It reads everything and
 * changes nothing (it waits for an RCU grace period, so that tables on their way out have arrived). Nothing in core includes it.
 *
 * What it checks, by the protocols' ids:
 *     slots     both sets of an address space hold the same slots; none is INVALID; they do not overlap; ids lead to them
 *     leaves    each lies inside a slot of its address space, maps the frame that the slot's host address says, is no larger than slot and alignment allow,
 *               is writable only where HOST_W, MMU_W, the slot and the dirty log allow (P6, P11)
 *     MMIO      an entry whose generation is current lies in no slot and names its own gfn (P10)
 *     tables    each is reachable once, from the place that its header says; nothing frozen is reachable (P7)
 *     shadow    an entry of a page that is not unsync is what the guest's current entry says, or stricter (I4.2), as a walker of the audit's own reads it; a
 *               child has the gfn and the role that its place asks for (25); a table that is mirrored is writable nowhere (I4.4); nothing obsolete is left (P3)
 *     chains    the rmap of a (gfn, level) holds exactly the present leaves (I2.5); a page knows exactly the entries that point to it (26)
 *     arrays    slots have them from the first shadow root on, and not before (P1)
 *     unsync    4K-level tables only; every way to one is marked, and no other (P8)
 *     roots     at most one valid root per address space; its references are the MMU's and the vCPUs'; an invalid one is empty (P3)
 *     counters  pages per level, tables, chunks, shadow pages, mirrored tables (I4.3), write tracking, huge leaves forbidden, references of roots: what is
 *               counted is what is there
 *     P5        no invalidation is outstanding, or as many as the caller says
 */
#ifndef CORE_AUDIT_AUDIT_H
#define CORE_AUDIT_AUDIT_H

#include "core/base/types.h"

struct vm;

#define AUDIT_LINE 160

/* Where lines of text go; each is one line with no newline. */
struct audit_out {
	void (*line)(void *arg, const char *text);
	void *arg;
};

struct audit_report {
	/* in */
	struct audit_out out;     /* one line per violation; out.line may be NULL */
	unsigned max_lines;       /* after so many, violations are only counted. 0: 20 */
	uint64_t invalidations;   /* begun by the caller and not ended */
	pfn_t (*frame)(void *arg, hva_t hva); /* where the host keeps a page; NULL: in a process, at its own address */
	void *frame_arg;
	bool ran_out_of_memory;   /* in the first shadow root: arrays may be there before the flag (P1) */
	bool tables_unwatched;    /* guest tables may have been written where nobody was told: in another slot of the same memory, by the client. No I4.2 */
	/* out */
	uint64_t violations;
	uint64_t roots, tables;   /* reachable; tables includes roots */
	uint64_t leaves[3];       /* by level - 1 */
	uint64_t mmio;            /* MMIO entries, stale ones included */
	uint64_t shadow_pages;
	uint64_t writable_logged; /* writable leaves in logged slots */
};

/** Check everything. Holds: none; takes slots_lock. Sleeps. Returns: true when nothing is wrong. */
bool audit_vm(struct vm *vm, struct audit_report *report);

/** Draw the slots and the trees, with runs of equal entries on one line. The same conditions. */
void audit_dump(struct vm *vm, const struct audit_out *out);

#endif
