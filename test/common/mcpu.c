/* SPDX-License-Identifier: MIT */
#include "test/common/mcpu.h"

#include <sched.h>
#include <string.h>

#include "port/posix/probe.h"

#define FIXED_MAX 100000 /* so many fixed faults in a row for one access cannot all be lost races */

/* The result of a walk. */
enum walk {
	WALK_OK,
	WALK_FAULT, /* with the error code in *error */
	WALK_AGAIN, /* an entry changed when its bits were to be set */
	WALK_BAD,
};

struct leaf {
	uint64_t *entry, value;
	int level;
	bool write; /* all levels allow it */
};

void mcpu_init(struct mcpu *cpu, struct vmmu_vcpu *vcpu)
{
	memset(cpu, 0, sizeof(*cpu));
	cpu->vcpu = vcpu;
}

void mcpu_forget(struct mcpu *cpu)
{
	memset(cpu->tlb, 0, sizeof(cpu->tlb));
	memset(cpu->psc, 0, sizeof(cpu->psc));
}

void mcpu_forget_page(struct mcpu *cpu, uint64_t gpa)
{
	for (int level = 1; level <= 3; level++)
		cpu->tlb[level - 1][(gpa >> (3 + 9 * level)) % MCPU_TLB].tag = 0;
	memset(cpu->psc, 0, sizeof(cpu->psc));
}

void mcpu_leave(struct mcpu *cpu)
{
	if (!cpu->in_guest)
		return;
	cpu->in_guest = false;
	vmmu_vcpu_leave(cpu->vcpu);
}

static enum mcpu_result enter(struct mcpu *cpu)
{
	switch (vmmu_vcpu_enter(cpu->vcpu, &cpu->entry)) {
	case VMMU_ENTER_RUN:
		break;
	case VMMU_ENTER_RING_FULL:
		return MCPU_RING_FULL;
	case VMMU_ENTER_NOMEM:
		return MCPU_NOMEM;
	default:
		return MCPU_DEAD;
	}
	cpu->in_guest = true;
	cpu->enters++;
	if (cpu->entry.flush) {
		cpu->flushes++;
		mcpu_forget(cpu);
	}
	return MCPU_OK;
}

/* --- entries as the two vendors read them --- */

static bool is_ept(const struct mcpu *cpu)
{
	return cpu->entry.format >= VMMU_FORMAT_EPT4;
}

static bool sets_no_ad(const struct mcpu *cpu)
{
	return cpu->entry.format >= VMMU_FORMAT_EPT4_NO_AD;
}

static bool entry_present(bool ept, uint64_t e)
{
	return ept ? e & (VMMU_EPT_R | VMMU_EPT_W | VMMU_EPT_X) : e & VMMU_NPT_P;
}

static bool entry_reserved(bool ept, uint64_t e, int level)
{
	if (ept && !(e & VMMU_EPT_R))
		return true; /* writable or executable, but not readable (this CPU does not offer execute-only) */
	if ((e & VMMU_ENTRY_RSVD) || (level > 3 && (e & VMMU_NPT_PS)))
		return true;
	/* The address of a huge leaf must be aligned to its size. (In NPT's, bit 12 is PAT.) */
	return (level == 2 || level == 3) && (e & VMMU_NPT_PS) &&
	       (e & VMMU_ENTRY_ADDR & ((UINT64_C(4096) << 9 * (level - 1)) - 1));
}

static bool entry_is_leaf(uint64_t e, int level)
{
	return level == 1 || (e & VMMU_NPT_PS);
}

static bool entry_writable(bool ept, uint64_t e)
{
	return ept ? e & VMMU_EPT_W : e & VMMU_NPT_W;
}

/* Set A (and D) as hardware does: by one locked operation, which fails if the entry is no longer the one walked. */
static bool entry_set(uint64_t *entry, uint64_t *e, uint64_t bits)
{
	if ((*e & bits) == bits)
		return true;
	if (!vmmu_table_entry_mark(entry, *e, bits))
		return false;
	*e |= bits;
	return true;
}

/* --- the walk --- */

/* The tag of a block in the caches. */
static uint64_t tag_of(const struct mcpu *cpu, uint64_t block)
{
	return (block + 1) | (uint64_t)cpu->l2 << 60;
}

static uint64_t *psc_find(const struct mcpu *cpu, uint64_t gfn)
{
	uint64_t tag = tag_of(cpu, gfn >> 9);

	return cpu->psc[tag % MCPU_PSC].tag == tag ? cpu->psc[tag % MCPU_PSC].table : NULL;
}

static void psc_fill(struct mcpu *cpu, uint64_t gfn, uint64_t *table)
{
	uint64_t tag = tag_of(cpu, gfn >> 9);

	cpu->psc[tag % MCPU_PSC].tag = tag;
	cpu->psc[tag % MCPU_PSC].table = table;
}

static enum walk walk(struct mcpu *cpu, uint64_t gfn, bool write, struct leaf *leaf, uint64_t *error)
{
	bool ept = is_ept(cpu);
	uint64_t accessed = sets_no_ad(cpu) ? 0 : ept ? VMMU_EPT_A : VMMU_NPT_A,
	         dirty = sets_no_ad(cpu) ? 0 : ept ? VMMU_EPT_D : VMMU_NPT_D;
	uint64_t *table = psc_find(cpu, gfn);
	int level = 1;

	*error = (write ? VMMU_PF_WRITE : 0) | VMMU_PF_USER | VMMU_PF_GUEST_FINAL;
	if (!table) {
		level = cpu->entry.levels;
		table = (uint64_t *)(uintptr_t)cpu->entry.root;
	}
	if (gfn >> 9 * cpu->entry.levels)
		return WALK_FAULT; /* tables of so many levels do not reach that far */
	leaf->write = true;
	for (;; level--) {
		uint64_t *entry = table + (gfn >> 9 * (level - 1) & 511);
		uint64_t e = vmmu_table_entry_load(entry);

		if (!entry_present(ept, e))
			return WALK_FAULT;
		*error |= VMMU_PF_PRESENT;
		if (entry_reserved(ept, e, level)) {
			*error |= VMMU_PF_RSVD;
			return WALK_FAULT;
		}
		if (!ept && !(e & VMMU_NPT_U))
			return WALK_BAD;
		leaf->write &= entry_writable(ept, e);
		if (!entry_is_leaf(e, level)) {
			*error &= ~VMMU_PF_PRESENT;
			if (!entry_set(entry, &e, accessed))
				return WALK_AGAIN;
			table = (uint64_t *)(uintptr_t)(e & VMMU_ENTRY_ADDR);
			if (level == 2)
				psc_fill(cpu, gfn, table);
			continue;
		}
		if (write && !leaf->write)
			return WALK_FAULT;
		if (!entry_set(entry, &e, write ? accessed | dirty : accessed))
			return WALK_AGAIN;
		*leaf = (struct leaf){ entry, e, level, leaf->write };
		return WALK_OK;
	}
}

/* --- the caches --- */

static struct mcpu_tlb *tlb_place(struct mcpu *cpu, uint64_t gfn, int level)
{
	return &cpu->tlb[level - 1][(gfn >> 9 * (level - 1)) % MCPU_TLB];
}

static struct mcpu_tlb *tlb_find(struct mcpu *cpu, uint64_t gfn, bool write, int *level)
{
	for (*level = 1; *level <= 3; ++*level) {
		struct mcpu_tlb *tlb = tlb_place(cpu, gfn, *level);

		if (tlb->tag == tag_of(cpu, gfn >> 9 * (*level - 1)) && (!write || (tlb->write && tlb->dirty)))
			return tlb;
	}
	return NULL;
}

static struct mcpu_tlb *tlb_fill(struct mcpu *cpu, uint64_t gfn, const struct leaf *leaf, bool write)
{
	struct mcpu_tlb *tlb = tlb_place(cpu, gfn, leaf->level);

	*tlb = (struct mcpu_tlb){
		.tag = tag_of(cpu, gfn >> 9 * (leaf->level - 1)),
		.host = leaf->value & VMMU_ENTRY_ADDR,
		.write = leaf->write,
		.dirty = write || sets_no_ad(cpu) || (leaf->value & (is_ept(cpu) ? VMMU_EPT_D : VMMU_NPT_D)),
	};
	return tlb;
}

/* A fault makes hardware forget what it had cached for the address (SDM vol. 3, 29.4.3.1; APM vol. 2, 15.25.9). */
static void tlb_drop(struct mcpu *cpu, uint64_t gfn)
{
	uint64_t psc = tag_of(cpu, gfn >> 9);

	for (int level = 1; level <= 3; level++) {
		struct mcpu_tlb *tlb = tlb_place(cpu, gfn, level);

		if (tlb->tag == tag_of(cpu, gfn >> 9 * (level - 1)))
			tlb->tag = 0;
	}
	if (cpu->psc[psc % MCPU_PSC].tag == psc)
		cpu->psc[psc % MCPU_PSC].tag = 0;
}

bool mcpu_reaches(struct mcpu *cpu, uint64_t gpa, bool write)
{
	struct leaf leaf;
	enum walk result;
	uint64_t error;

	mcpu_leave(cpu);
	mcpu_forget(cpu);
	if (enter(cpu) != MCPU_OK)
		return false;
	do
		result = walk(cpu, gpa >> 12, write, &leaf, &error);
	while (result == WALK_AGAIN);
	mcpu_leave(cpu);
	mcpu_forget(cpu);
	return result == WALK_OK;
}

/* --- one access --- */

/* Access memory once, in the guest. Returns: MCPU_OK; MCPU_BUSY with *error after a fault. */
static enum mcpu_result try(struct mcpu *cpu, uint64_t gpa, bool write, uint64_t *value, uint64_t *error)
{
	uint64_t gfn = gpa >> 12, *word;
	struct mcpu_tlb *tlb;
	struct leaf leaf;
	int level;

	tlb = tlb_find(cpu, gfn, write, &level);
	if (tlb) {
		cpu->hits++;
	} else {
		enum walk result;

		cpu->walks++;
		do
			result = walk(cpu, gfn, write, &leaf, error);
		while (result == WALK_AGAIN);
		if (result == WALK_BAD)
			return MCPU_BAD_ENTRY;
		if (result == WALK_FAULT) {
			tlb_drop(cpu, gfn);
			return MCPU_BUSY;
		}
		level = leaf.level;
		tlb = tlb_fill(cpu, gfn, &leaf, write);
	}
	word = (uint64_t *)(uintptr_t)(tlb->host + (gpa & ((UINT64_C(4096) << 9 * (level - 1)) - 1)));
	/* Below a huge leaf there may be no host page any more, and no invalidation will say so. */
	if (write ? !posix_probe_write(word) : !posix_probe_read(word))
		return MCPU_HOST;
	if (write)
		__atomic_store_n(word, *value, __ATOMIC_RELAXED);
	else
		*value = __atomic_load_n(word, __ATOMIC_RELAXED);
	return MCPU_OK;
}

static enum mcpu_result fixed_once(unsigned *fixed)
{
	return ++*fixed > FIXED_MAX ? MCPU_STUCK : MCPU_OK;
}

static enum mcpu_result retry_once(struct mcpu *cpu, unsigned *retried)
{
	if (cpu->max_retries && ++*retried > cpu->max_retries)
		return MCPU_BUSY;
	sched_yield();
	return MCPU_OK;
}

/* Let the hypervisor make the write. That completes the instruction. */
static enum mcpu_result emulate(struct mcpu *cpu, uint64_t gpa, const uint64_t *value, bool *done)
{
	enum vmmu_status status = vmmu_guest_write(cpu->vcpu, (struct vmmu_gpa){ gpa }, value, sizeof(*value));

	cpu->emulated++;
	*done = status == VMMU_OK;
	return status == VMMU_OK ? MCPU_OK : status == VMMU_ENOENT ? MCPU_MMIO :
	       status == VMMU_EBUSY ? MCPU_RING_FULL : MCPU_HOST;
}

/* A fault on what the guest's tables map. Some writes are those that L2's own walk makes to a table of L2's. */
static enum vmmu_page_fault guest_fault(struct mcpu *cpu, uint64_t gva, uint64_t error, struct vmmu_page_info *info)
{
	if (!cpu->l2)
		return vmmu_page_fault(cpu->vcpu, (struct vmmu_gva){ gva }, error & 31, 0, info);
	if ((error & VMMU_PF_WRITE) && rng_one_in(&cpu->rng, 4))
		error ^= VMMU_PF_GUEST_FINAL | VMMU_PF_GUEST_PAGE;
	return vmmu_nested_fault(cpu->vcpu, (struct vmmu_gpa){ gva }, error, info);
}

static enum mcpu_result page_fault(struct mcpu *cpu, uint64_t gva, uint64_t error, const uint64_t *value, bool *done,
                                   unsigned *fixed, unsigned *retried)
{
	struct vmmu_page_info info;

	switch (guest_fault(cpu, gva, error, &info)) {
	case VMMU_PAGE_FIXED:
		return fixed_once(fixed);
	case VMMU_PAGE_RETRY:
		return retry_once(cpu, retried);
	case VMMU_PAGE_GUEST:
		cpu->guest_faults++;
		if (!cpu->guest)
			return MCPU_GUEST;
		return ++*fixed > FIXED_MAX ? MCPU_STUCK : mcpu_guest_fault(cpu, gva, info.error);
	case VMMU_PAGE_MMIO:
		return cpu->guest && info.gpa.v != gva ? MCPU_STUCK : MCPU_MMIO;
	case VMMU_PAGE_EMULATE:
		return emulate(cpu, info.gpa.v, value, done);
	case VMMU_PAGE_HOST:
		return MCPU_HOST;
	case VMMU_PAGE_NOMEM:
		return MCPU_NOMEM;
	default:
		return MCPU_DEAD;
	}
}

static enum mcpu_result fault(struct mcpu *cpu, uint64_t gpa, uint64_t error, const uint64_t *value, bool *done,
                              unsigned *fixed, unsigned *retried)
{
	switch (vmmu_fault(cpu->vcpu, (struct vmmu_gpa){ gpa }, error)) {
	case VMMU_FAULT_FIXED:
		return fixed_once(fixed);
	case VMMU_FAULT_RETRY:
		return retry_once(cpu, retried);
	case VMMU_FAULT_MMIO:
		return MCPU_MMIO;
	case VMMU_FAULT_EMULATE:
		return emulate(cpu, gpa, value, done);
	case VMMU_FAULT_HOST:
		return MCPU_HOST;
	case VMMU_FAULT_NOMEM:
		return MCPU_NOMEM;
	default:
		return MCPU_DEAD;
	}
}

static enum mcpu_result access_once(struct mcpu *cpu, uint64_t gpa, bool write, uint64_t *value)
{
	unsigned fixed = 0, retried = 0;
	enum mcpu_result result;
	bool done = false;
	uint64_t error;

	cpu->accesses++;
	if (cpu->guest && rng_one_in(&cpu->rng, 128)) {
		mcpu_leave(cpu);
		result = mcpu_guest_churn(cpu, gpa);
		if (result != MCPU_OK)
			return result;
	}
	for (;;) {
		if (cpu->in_guest && vmmu_entry_must_leave(&cpu->entry))
			mcpu_leave(cpu);
		if (!cpu->in_guest && (result = enter(cpu)) != MCPU_OK)
			return result;
		result = try(cpu, gpa, write, value, &error);
		if (result == MCPU_HOST || result == MCPU_BAD_ENTRY)
			mcpu_leave(cpu);
		if (result != MCPU_BUSY)
			return result;
		mcpu_leave(cpu);
		cpu->faults++;
		if (cpu->entry.shadow || cpu->l2)
			result = page_fault(cpu, gpa, error, value, &done, &fixed, &retried);
		else
			result = fault(cpu, gpa, error, value, &done, &fixed, &retried);
		if (result != MCPU_OK || done)
			return result;
	}
}

enum mcpu_result mcpu_read(struct mcpu *cpu, uint64_t gpa, uint64_t *value)
{
	return access_once(cpu, gpa, false, value);
}

enum mcpu_result mcpu_write(struct mcpu *cpu, uint64_t gpa, uint64_t value)
{
	return access_once(cpu, gpa, true, &value);
}

const char *mcpu_result_name(enum mcpu_result result)
{
	static const char *const names[] = {
		[MCPU_OK] = "ok",         [MCPU_MMIO] = "MMIO", [MCPU_HOST] = "no host page",
		[MCPU_NOMEM] = "no memory", [MCPU_RING_FULL] = "ring full",
		[MCPU_GUEST] = "guest page fault",
		[MCPU_DEAD] = "VM dead",  [MCPU_BUSY] = "busy", [MCPU_STUCK] = "stuck",
		[MCPU_BAD_ENTRY] = "an entry that no CPU accepts",
		[MCPU_STALE] = "an entry of L1's that is no more",
	};

	return names[result];
}
