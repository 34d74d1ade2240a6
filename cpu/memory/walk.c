/* SPDX-License-Identifier: MIT */
/*
 * Page walks as the hardware does them. Every access to the guest's tables goes through the second stage, and so
 * does the page that they lead to.
 *
 *     linear --CR3--> guest entry (gpa) --root--> host --...--> gpa of the page --root--> host page
 *
 * A walk sets Accessed and Dirty by compare-and-swap on the entry that it used. If the entry changed meanwhile, the
 * walk begins again; so it never brings back an entry that was removed.
 *
 * With shadow paging the library walks the guest's tables, and the CPU walks the library's: shadow.c.
 */
#include <vmmu/format.h>

#include "cpu/base/private.h"
#include "cpu/memory/codemap.h"
#include "cpu/memory/mem.h"
#include "cpu/memory/shadow.h"
#include "cpu/memory/walk.h"

/* ---- the second stage ---------------------------------------------------------------------------------- */

struct nested_format {
	uint64_t present, read, write, no_exec, exec, accessed, dirty, large;
};

static const struct nested_format npt = {
	.present = VMMU_NPT_P, .read = VMMU_NPT_P | VMMU_NPT_U, .write = VMMU_NPT_W, .no_exec = VMMU_NPT_NX,
	.accessed = VMMU_NPT_A, .dirty = VMMU_NPT_D, .large = VMMU_NPT_PS,
};

static const struct nested_format ept = {
	.present = VMMU_EPT_R | VMMU_EPT_W | VMMU_EPT_X, .read = VMMU_EPT_R, .write = VMMU_EPT_W,
	.exec = VMMU_EPT_X, .accessed = VMMU_EPT_A, .dirty = VMMU_EPT_D, .large = VMMU_EPT_PS,
};

static const struct nested_format ept_no_ad = {
	.present = VMMU_EPT_R | VMMU_EPT_W | VMMU_EPT_X, .read = VMMU_EPT_R, .write = VMMU_EPT_W,
	.exec = VMMU_EPT_X, .large = VMMU_EPT_PS,
};

/* Rights in struct ntlb_entry.tag. */
#define NTLB_READ  1u
#define NTLB_WRITE 2u /* writable, and Dirty is set */
#define NTLB_EXEC  4u

enum step { STEP_OK, STEP_FAULT, STEP_AGAIN };

/* One walk from the root, or from `known`. On STEP_FAULT, PRESENT and RSVD were added to *error as they apply. */
INLINE enum step nested_tables(const struct vmmu_entry *entry, const struct nested_format f, uint64_t gpa,
                               uint64_t *error, struct nested_table *known, struct ntlb_entry *out)
{
	uint64_t *table = (uint64_t *)(uintptr_t)entry->root;
	uint64_t read = ~UINT64_C(0), no_exec = 0;
	unsigned level = entry->levels;

	if (gpa >> (12 + 9 * entry->levels))
		return STEP_FAULT;
	if (likely(known->region == (gpa >> 21) + 1)) {
		table = known->table;
		level = 1;
	}
	for (;; level--) {
		unsigned shift = 12 + 9 * (level - 1);
		uint64_t *at = &table[(gpa >> shift) & 511];
		uint64_t e = vmmu_table_entry_load(at), want;
		bool leaf;

		if (!(e & f.present))
			return STEP_FAULT;
		if (unlikely(e & VMMU_ENTRY_RSVD)) {
			*error |= VMMU_PF_PRESENT | VMMU_PF_RSVD;
			return STEP_FAULT;
		}
		leaf = level == 1 || (level <= 3 && (e & f.large));
		read &= e;
		no_exec |= f.no_exec ? e & f.no_exec : ~e & f.exec;
		want = e | f.accessed;
		if (leaf && ((read & f.read) != f.read || ((*error & VMMU_PF_WRITE) && !(read & f.write)) ||
		             ((*error & VMMU_PF_FETCH) && no_exec))) {
			*error |= VMMU_PF_PRESENT;
			return STEP_FAULT;
		}
		if (leaf && (*error & VMMU_PF_WRITE))
			want |= f.dirty;
		if (want != e && !vmmu_table_entry_mark(at, e, want))
			return STEP_AGAIN;
		if (leaf) {
			uint64_t inside = (UINT64_C(1) << shift) - 1;

			out->host = (e & VMMU_ENTRY_ADDR & ~inside) | (gpa & inside & ~UINT64_C(0xfff));
			out->tag = (gpa & ~UINT64_C(0xfff)) | NTLB_READ |
			           ((read & f.write) && (want & f.dirty) == f.dirty ? NTLB_WRITE : 0) |
			           (no_exec ? 0 : NTLB_EXEC);
			return STEP_OK;
		}
		table = (uint64_t *)(uintptr_t)(e & VMMU_ENTRY_ADDR);
		if (level == 2 && (read & (f.read | f.write)) == (f.read | f.write) && !no_exec)
			*known = (struct nested_table){ (gpa >> 21) + 1, table };
	}
}

static bool nested_walk_slow(struct cpu *cpu, uint64_t gpa, uint64_t access, struct ntlb_entry *slot)
{
	enum vmmu_format format = cpu->entry.format;
	struct nested_table *known = &cpu->p->context->nested_tables[(gpa >> 21) % WALK_TABLES];
	enum step step;
	uint64_t error;

	do {
		error = access | VMMU_PF_USER;
		if (format == VMMU_FORMAT_NPT4 || format == VMMU_FORMAT_NPT5)
			step = nested_tables(&cpu->entry, npt, gpa, &error, known, slot);
		else if (format == VMMU_FORMAT_EPT4 || format == VMMU_FORMAT_EPT5)
			step = nested_tables(&cpu->entry, ept, gpa, &error, known, slot);
		else
			step = nested_tables(&cpu->entry, ept_no_ad, gpa, &error, known, slot);
	} while (step == STEP_AGAIN);
	if (step == STEP_OK)
		return true;
	cpu->p->fault_gpa.v = gpa;
	cpu->p->fault_error = error;
	return false;
}

bool nested_walk(struct cpu *cpu, uint64_t gpa, uint64_t access, uint64_t *host)
{
	struct ntlb_entry *slot = &cpu->p->context->ntlb[(gpa >> 12) % NTLB_ENTRIES];
	uint64_t need = access & VMMU_PF_WRITE ? NTLB_WRITE : access & VMMU_PF_FETCH ? NTLB_EXEC : NTLB_READ;

	if (unlikely((slot->tag & (~UINT64_C(0xfff) | need)) != ((gpa & ~UINT64_C(0xfff)) | need)) &&
	    !nested_walk_slow(cpu, gpa, access, slot))
		return false;
	*host = slot->host | (gpa & 0xfff);
	return true;
}

/* ---- the guest's tables ------------------------------------------------------------------------------------ */

/* The result of a walk of the guest's tables. */
struct guest_page {
	uint64_t gpa;
	bool large; /* from a page larger than 4 KiB */
};

static _Noreturn void raise_page_fault(struct cpu *cpu, uint64_t linear, uint32_t error)
{
	cpu->s.events.exception.has_payload = true;
	cpu->s.events.exception.payload = linear;
	cpu_raise_error(cpu, VECTOR_PF, error);
}

#define PF_P    1u
#define PF_W    2u
#define PF_U    4u
#define PF_RSVD 8u
#define PF_I    16u
#define PF_PK   32u

static uint32_t fault_code(struct cpu *cpu, enum access access)
{
	uint32_t code = 0;

	if (access == ACCESS_WRITE)
		code |= PF_W;
	if (cpu->tlb_tag & TLB_USER)
		code |= PF_U;
	if (access == ACCESS_EXEC && ((cpu->s.cr4 & CR4_SMEP) || ((cpu->s.cr4 & CR4_PAE) && (cpu->s.efer & EFER_NX))))
		code |= PF_I;
	return code;
}

/* acquire: the CPU reads a table after the entry that led to it. Pairs with the guest's stores, which are in order. */
GUEST_RACY_INLINE uint64_t guest_entry_load(const uint64_t *at)
{
	return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}

/* Where a guest table entry is in the host. If the table is not in memory, the translation fails, as in KVM. */
static void *table_entry(struct cpu *cpu, uint64_t gpa, uint64_t linear, enum access access)
{
	uint64_t host;

	/*
	 * To nested paging the walk is a write, whatever it does (APM vol. 2, 15.25.6). If the hypervisor allows
	 * that, and the memory is read-only all the same, the table keeps its bits.
	 */
	if (unlikely(cpu->p->context->nested)) {
		if (likely(nested_walk(cpu, gpa, VMMU_PF_GUEST_PAGE | VMMU_PF_WRITE, &host)))
			return (void *)(uintptr_t)host;
		if (mmio_armed_find(cpu, gpa, true) == NULL)
			cpu_leave(cpu, LEAVE_FAULT);
	}
	if (likely(nested_walk(cpu, gpa, VMMU_PF_GUEST_PAGE, &host)))
		return (void *)(uintptr_t)host;
	if (mmio_armed_find(cpu, gpa, false) != NULL)
		raise_page_fault(cpu, linear, fault_code(cpu, access));
	cpu_leave(cpu, LEAVE_FAULT);
}

/*
 * Set bits in a guest table entry, by a locked update as the processor does: seq_cst, pairs with the guest's own.
 * Returns: false when the entry changed, so that the caller must walk again.
 */
GUEST_RACY static bool table_entry_set(struct cpu *cpu, uint64_t gpa, uint64_t old, uint64_t bits, unsigned size)
{
	uint64_t host;
	void *at;

	if (!nested_walk(cpu, gpa, VMMU_PF_GUEST_PAGE | VMMU_PF_WRITE, &host)) {
		if (mmio_armed_find(cpu, gpa, true) != NULL)
			return true; /* a table in read-only memory keeps its bits */
		cpu_leave(cpu, LEAVE_FAULT);
	}
	at = (void *)(uintptr_t)host;
	if (size == 8)
		return __atomic_compare_exchange_n((uint64_t *)at, &old, old | bits, false, __ATOMIC_SEQ_CST,
		                                   __ATOMIC_RELAXED);
	uint32_t expected = (uint32_t)old;
	return __atomic_compare_exchange_n((uint32_t *)at, &expected, (uint32_t)(old | bits), false,
	                                   __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

#define PTE_P  UINT64_C(0x001)
#define PTE_W  UINT64_C(0x002)
#define PTE_U  UINT64_C(0x004)
#define PTE_A  UINT64_C(0x020)
#define PTE_D  UINT64_C(0x040)
#define PTE_PS UINT64_C(0x080)
#define PTE_G  UINT64_C(0x100)
#define PTE_NX (UINT64_C(1) << 63)

/* Check an access against the combined rights. Returns: error bits, 0 when the access is allowed. */
static uint32_t rights_check(struct cpu *cpu, enum access access, uint64_t rights, bool nx, unsigned key)
{
	bool user = cpu->tlb_tag & TLB_USER, user_page = rights & PTE_U;
	bool wp = cpu->s.cr0 & CR0_WP;
	uint32_t denied = 0;

	if (user && !user_page)
		return PF_P;
	if (access == ACCESS_EXEC) {
		if (nx || (!user && user_page && (cpu->s.cr4 & CR4_SMEP)))
			return PF_P;
		return 0;
	}
	if ((access == ACCESS_WRITE && !(rights & PTE_W) && (user || wp)) || (user_page && (cpu->tlb_tag & TLB_SMAP)))
		denied = PF_P;
	/*
	 * The PK bit says that the key denies the access, whether or not something else does as well (SDM vol. 3,
	 * 4.7).
	 */
	if (unlikely((cpu->s.cr4 & CR4_PKE) && user_page && (cpu->s.efer & EFER_LMA))) {
		uint32_t pkru = cpu->s.pkru >> (2 * key);

		if ((pkru & 1) || (access == ACCESS_WRITE && (pkru & 2) && (user || wp)))
			denied = PF_P | PF_PK;
	}
	return denied;
}

/* Bits of an entry of the 8-byte formats that must be 0. */
static uint64_t reserved_bits(struct cpu *cpu, unsigned level, uint64_t e, bool pae)
{
	uint64_t bits = ~cpu->p->phys_mask & UINT64_C(0x000fffffffffffff);

	if (!(cpu->s.efer & EFER_NX))
		bits |= PTE_NX;
	if (pae) {
		bits |= UINT64_C(0x7ff0000000000000);
		if (level == 3)
			return bits | PTE_NX | UINT64_C(0x1e6);
	}
	if (level > 3)
		return bits | PTE_PS | (cpu->p->intel ? 0 : PTE_G);
	if (level == 3 && !cpu->p->gbpages)
		bits |= PTE_PS;
	else if (level > 1 && (e & PTE_PS))
		bits |= level == 3 ? UINT64_C(0x3fffe000) : UINT64_C(0x1fe000);
	return bits;
}

/*
 * The address is too wide only by the guest's CPUID (KVM's smaller MAXPHYADDR). The hardware below KVM does not
 * fault then. KVM itself does, by emulating the instruction; it stops the guest at an instruction that its emulator
 * does not know.
 */
static _Noreturn void raise_reserved(struct cpu *cpu, uint64_t linear, enum access access, uint64_t e)
{
	if ((cpu->op->flags & OPF_X87) && (e & ~cpu->p->phys_mask & VMMU_ENTRY_ADDR))
		cpu_unimplemented(cpu);
	raise_page_fault(cpu, linear, fault_code(cpu, access) | PF_P | PF_RSVD);
}

/* PAE, 4-level and 5-level tables. */
INLINE bool walk_long(struct cpu *cpu, uint64_t linear, enum access access, unsigned levels, bool pae,
                      struct guest_page *out)
{
	uint64_t table = pae ? cpu->s.cr3 & UINT64_C(0xffffffe0) : cpu->s.cr3 & UINT64_C(0x000ffffffffff000);
	struct guest_table *known = &cpu->p->guest_tables[(linear >> 21) % WALK_TABLES];
	uint64_t gpas[6], entries[6], rights = PTE_U | PTE_W, upper, e;
	unsigned level = levels;
	bool nx = false, upper_nx;
	uint32_t denied;

	if (known->region == (linear >> 21) + 1 && known->generation == cpu->p->tables_gen) {
		table = known->table;
		rights = known->rights;
		nx = known->nx;
		level = levels = 1;
	}
	for (;; level--) {
		unsigned shift = 12 + 9 * (level - 1);

		gpas[level] = table + ((linear >> shift) & (pae && level == 3 ? 3 : 511)) * 8;
		e = guest_entry_load(table_entry(cpu, gpas[level], linear, access));
		entries[level] = e;
		if (!(e & PTE_P))
			raise_page_fault(cpu, linear, fault_code(cpu, access));
		if (unlikely(e & reserved_bits(cpu, level, e, pae)))
			raise_reserved(cpu, linear, access, e);
		upper = rights;
		upper_nx = nx;
		if (!(pae && level == 3)) {
			rights &= e;
			nx |= e >> 63;
		}
		table = e & UINT64_C(0x000ffffffffff000);
		if (level == 1 || (level <= 3 && (e & PTE_PS)))
			break;
	}
	denied = rights_check(cpu, access, rights, nx, (e >> 59) & 15);
	if (denied)
		raise_page_fault(cpu, linear, fault_code(cpu, access) | denied);
	for (unsigned l = levels; l >= level; l--) {
		uint64_t bits = PTE_A | (l == level && access == ACCESS_WRITE ? PTE_D : 0);

		if (pae && l == 3)
			continue;
		if ((entries[l] & bits) != bits && !table_entry_set(cpu, gpas[l], entries[l], bits, 8))
			return false;
	}
	if (level == 1 && levels > 1)
		*known = (struct guest_table){
			(linear >> 21) + 1, cpu->p->tables_gen, gpas[1] & ~UINT64_C(0xfff), upper, upper_nx
		};
	uint64_t inside = (UINT64_C(1) << (12 + 9 * (level - 1))) - 1;
	out->gpa = (table & ~inside) | (linear & inside);
	out->large = level > 1;
	return true;
}

/* Two-level 32-bit tables. */
static bool walk_32(struct cpu *cpu, uint64_t linear, enum access access, struct guest_page *out)
{
	uint64_t pde_gpa = (cpu->s.cr3 & 0xfffff000u) + ((linear >> 22) & 1023) * 4;
	uint32_t pde = (uint32_t)host_load(table_entry(cpu, pde_gpa, linear, access), 4), pte, denied;
	uint32_t bits = PTE_A | (access == ACCESS_WRITE ? PTE_D : 0);
	uint64_t pte_gpa;

	if (!(pde & PTE_P))
		raise_page_fault(cpu, linear, fault_code(cpu, access));
	if ((pde & PTE_PS) && (cpu->s.cr4 & CR4_PSE)) {
		if (pde & 0x200000)
			raise_page_fault(cpu, linear, fault_code(cpu, access) | PF_P | PF_RSVD);
		denied = rights_check(cpu, access, pde, false, 0);
		if (denied)
			raise_page_fault(cpu, linear, fault_code(cpu, access) | denied);
		if ((pde & bits) != bits && !table_entry_set(cpu, pde_gpa, pde, bits, 4))
			return false;
		out->gpa = (pde & 0xffc00000u) | (uint64_t)((pde >> 13) & 0xff) << 32 | (linear & 0x3fffff);
		out->large = true;
		return true;
	}
	pte_gpa = (pde & 0xfffff000u) + ((linear >> 12) & 1023) * 4;
	pte = (uint32_t)host_load(table_entry(cpu, pte_gpa, linear, access), 4);
	if (!(pte & PTE_P))
		raise_page_fault(cpu, linear, fault_code(cpu, access));
	denied = rights_check(cpu, access, pde & pte, false, 0);
	if (denied)
		raise_page_fault(cpu, linear, fault_code(cpu, access) | denied);
	if (!(pde & PTE_A) && !table_entry_set(cpu, pde_gpa, pde, PTE_A, 4))
		return false;
	if ((pte & bits) != bits && !table_entry_set(cpu, pte_gpa, pte, bits, 4))
		return false;
	out->gpa = (pte & 0xfffff000u) | (linear & 0xfff);
	out->large = false;
	return true;
}

static bool walk_guest(struct cpu *cpu, uint64_t linear, enum access access, struct guest_page *out)
{
	if (!(cpu->s.cr0 & CR0_PG)) {
		out->gpa = linear;
		out->large = false;
		return true;
	}
	if (cpu->s.efer & EFER_LMA) {
		if (cpu->s.cr4 & CR4_LA57)
			return walk_long(cpu, linear, access, 5, false, out);
		return walk_long(cpu, linear, access, 4, false, out);
	}
	if (cpu->s.cr4 & CR4_PAE)
		return walk_long(cpu, linear, access, 3, true, out);
	return walk_32(cpu, linear, access, out);
}

/* ---- both -------------------------------------------------------------------------------------------------- */

static void check_canonical(struct cpu *cpu, uint64_t linear, enum access access)
{
	if (likely(canonical(cpu, linear)))
		return;
	/* An instruction without any memory operand accesses the stack. */
	if (access != ACCESS_EXEC &&
	    ((cpu->op->mem == OP_NO_MEM && !(cpu->op->flags & OPF_HIDDEN)) || cpu->op->seg == CPU_SS))
		cpu_raise_error(cpu, VECTOR_SS, 0);
	cpu_gp(cpu);
}

static void tlb_fill(struct cpu *cpu, enum tlb_kind kind, uint64_t linear, uint64_t host, bool slow)
{
	struct tlb_entry *e = &cpu->tlb[kind][(linear >> 12) % TLB_ENTRIES];

	slow |= kind != TLB_EXEC && debug_watches(cpu, linear);
	e->tag = (linear & ~UINT64_C(0xfff)) | cpu->tlb_tag | (slow ? TLB_SLOW : 0);
	e->addend = (host & ~UINT64_C(0xfff)) - (linear & ~UINT64_C(0xfff));
}

/*
 * After a second-stage fault the same access comes again, so the guest's half of its walk is kept. It is valid
 * exactly as a TLB entry is: its tag has the generation and the rights, and tlb_flush_page clears it.
 */
static bool guest_walk_known(struct cpu *cpu, uint64_t linear, enum access access, struct guest_page *out)
{
	const struct guest_walk *known = &cpu->p->last_walk;

	if (known->tag != ((linear & ~UINT64_C(0xfff)) | cpu->tlb_tag) || known->access != access)
		return false;
	out->gpa = known->page | (linear & 0xfff);
	out->large = known->large;
	return true;
}

static void guest_walk_keep(struct cpu *cpu, uint64_t linear, enum access access, const struct guest_page *page)
{
	cpu->p->last_walk = (struct guest_walk){
		(linear & ~UINT64_C(0xfff)) | cpu->tlb_tag, page->gpa & ~UINT64_C(0xfff), access, page->large
	};
}

/* The second stage has no way to the page. Leaves, unless a fault of this instruction was answered already. */
static void place_armed(struct cpu *cpu, uint64_t gpa, enum access access, struct place *place)
{
	const struct mmio_armed *armed = NULL;
	uint64_t host;

	if (access != ACCESS_EXEC)
		armed = mmio_armed_find(cpu, gpa, access == ACCESS_WRITE);
	if (armed == NULL)
		cpu_leave(cpu, LEAVE_FAULT);
	place->gpa = armed->target << 12 | (gpa & 0xfff);
	if (!armed->emulate)
		return;
	if (nested_walk(cpu, gpa, VMMU_PF_GUEST_FINAL, &host)) {
		place->behind = (const uint8_t *)(uintptr_t)host;
		return;
	}
	if (mmio_armed_find(cpu, gpa, false) == NULL)
		cpu_leave(cpu, LEAVE_FAULT); /* the page is mapped for reading, and then all is here */
	/* The memory went away meanwhile. */
	cpu->p->armed_count = 0;
	cpu->p->single_next = true;
	cpu_leave(cpu, LEAVE_RESTART);
}

struct place walk(struct cpu *cpu, uint64_t linear, enum access access)
{
	static const uint64_t errors[] = {
		[ACCESS_READ] = VMMU_PF_GUEST_FINAL,
		[ACCESS_WRITE] = VMMU_PF_GUEST_FINAL | VMMU_PF_WRITE,
		[ACCESS_EXEC] = VMMU_PF_GUEST_FINAL | VMMU_PF_FETCH,
	};
	struct place place = { .host = NULL };
	struct guest_page page;
	uint64_t host;

	if (cpu->lin_mask == ~UINT64_C(0))
		check_canonical(cpu, linear, access);
	if (unlikely(cpu->entry.shadow))
		return cpu_shadow_walk(cpu, linear, access);
	if (!guest_walk_known(cpu, linear, access, &page)) {
		while (!walk_guest(cpu, linear, access, &page))
			continue;
		guest_walk_keep(cpu, linear, access, &page);
	}
	place.gpa = page.gpa;
	if (unlikely(!nested_walk(cpu, page.gpa, errors[access], &host))) {
		place_armed(cpu, page.gpa, access, &place);
		return place;
	}
	place.host = (uint8_t *)(uintptr_t)host;
	if (page.large)
		cpu->p->large_pages = true;
	if (access == ACCESS_EXEC) {
		tlb_fill(cpu, TLB_EXEC, linear, host, false);
		return place;
	}
	if (access == ACCESS_WRITE) {
		place.slow = codemap_for_write(cpu, place.host) != NULL;
		tlb_fill(cpu, TLB_WRITE, linear, host, place.slow);
	}
	tlb_fill(cpu, TLB_READ, linear, host, false);
	return place;
}
