/* SPDX-License-Identifier: MIT */
#include "kvm/vcpu/async_pf.h"
#include "kvm/irq/lapic.h"
#include "kvm/vm/host_memory.h"
#include "kvm/vm/vm.h"
#include "port/posix/hostmem.h"
#include "port/posix/raw.h"
#include <linux/kvm_para.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define PAGES_MOST 64u /* of one vCPU, at a time: as KVM's ASYNC_PF_PER_VCPU */
#define ALL        UINT32_MAX /* the token that wakes whatever waits for a page */

/* The guest's memory: 64 bytes, of which KVM uses 8. */
struct area {
	uint32_t flags; /* why there is a #PF. The guest clears it */
	uint32_t token; /* of the page that is ready. The guest clears it, and then says so (MSR_KVM_ASYNC_PF_ACK) */
};
#define AREA_BYTES 64u

/* A page that was asked for. `state` is all that the manager's thread touches. */
struct wanted {
	struct hostmem_fetch fetch;
	struct kvm_vcpu *vcpu;
	_Atomic enum { FREE, ASKED, THERE } state; /* THERE by the manager's thread, the rest by the vCPU's */
	uint64_t gfn;
	uint32_t token;
	bool told;          /* the guest got a #PF, so it waits for the token */
	unsigned switches;  /* cpu_paging_switches then: after another one the guest has forgotten the token */
	uint64_t order;
};

struct async_pf {
	struct vmmu_pfn_cache *area;
	struct wanted *wanted; /* PAGES_MOST; NULL without --host-memory */
	bool halted;           /* the vCPU sleeps until a page comes */
	bool wake_all;         /* the guest, which was just switched on or came from elsewhere, gets the token ALL */
	uint32_t id;           /* of the next token */
	uint64_t order;        /* of the next page */
};

/* ---- life ------------------------------------------------------------------------------------------------- */

struct async_pf *async_pf_create(struct kvm_vcpu *vcpu)
{
	struct async_pf *apf = calloc(1, sizeof(*apf));

	if (!apf)
		return NULL;
	if (host_memory_any())
		apf->wanted = calloc(PAGES_MOST, sizeof(*apf->wanted));
	if ((host_memory_any() && !apf->wanted) || vmmu_pfn_cache_create(vcpu->kvm->mmu, &apf->area) != VMMU_OK) {
		free(apf->wanted);
		free(apf);
		return NULL;
	}
	return apf;
}

void async_pf_clear(struct kvm_vcpu *vcpu)
{
	struct async_pf *apf = vcpu->apf;

	if (!apf)
		return;
	apf->halted = apf->wake_all = false;
	for (unsigned i = 0; apf->wanted && i < PAGES_MOST; i++) {
		/* Also where the page is there: the manager may still be on its way to this vCPU. */
		if (apf->wanted[i].vcpu)
			host_memory_fetch_cancel(&apf->wanted[i].fetch);
		apf->wanted[i].state = FREE;
	}
}

void async_pf_destroy(struct kvm_vcpu *vcpu)
{
	struct async_pf *apf = vcpu->apf;

	if (!apf)
		return;
	async_pf_clear(vcpu);
	vmmu_pfn_cache_destroy(apf->area);
	free(apf->wanted);
	free(apf);
	vcpu->apf = NULL;
}

void async_pf_start(struct kvm_vcpu *vcpu)
{
	if (vcpu->apf && vcpu->apf->wanted)
		cpu_page_wait_exits(vcpu->cpu, true);
}

/* ---- the guest's area ------------------------------------------------------------------------------------- */

static bool is_enabled(const struct kvm_vcpu *vcpu)
{
	const uint64_t both = KVM_ASYNC_PF_ENABLED | KVM_ASYNC_PF_DELIVERY_AS_INT;

	return (vcpu->pv.async_pf & both) == both;
}

static enum vmmu_status area_refresh(struct kvm_vcpu *vcpu)
{
	enum vmmu_status status;

	while ((status = vmmu_pfn_cache_refresh(vcpu->apf->area)) == VMMU_EAGAIN)
		raw_rest(); /* the host or the client changes the memory just now */
	return status;
}

/* A window on the area. Returns: false if the guest has no memory there now, or the dirty ring is full. */
static bool area_open(struct kvm_vcpu *vcpu)
{
	enum vmmu_status status;

	for (;;) {
		status = area_refresh(vcpu);
		if (status == VMMU_OK)
			status = vmmu_pfn_cache_open(vcpu->apf->area, vcpu->mmu);
		if (status != VMMU_EAGAIN)
			return status == VMMU_OK;
	}
}

static bool area_put_flags(struct kvm_vcpu *vcpu, uint32_t flags)
{
	bool done;

	if (!area_open(vcpu))
		return false;
	done = vmmu_pfn_cache_write(vcpu->apf->area, offsetof(struct area, flags), &flags, sizeof(flags)) == VMMU_OK;
	vmmu_pfn_cache_close(vcpu->apf->area);
	return done;
}

/* Returns: false if the guest has not taken the last token yet, or there is no area. */
static bool area_put_token(struct kvm_vcpu *vcpu, uint32_t token)
{
	struct vmmu_pfn_cache *area = vcpu->apf->area;
	const size_t at = offsetof(struct area, token);
	uint32_t old;
	bool done;

	if (!area_open(vcpu))
		return false;
	done = vmmu_pfn_cache_read(area, at, &old, sizeof(old)) == VMMU_OK && old == 0 &&
	       vmmu_pfn_cache_write(area, at, &token, sizeof(token)) == VMMU_OK;
	vmmu_pfn_cache_close(area);
	return done;
}

/* ---- MSRs ------------------------------------------------------------------------------------------------- */

#define RESERVED 0x30u

bool async_pf_enable_write(struct kvm_vcpu *vcpu, uint64_t value)
{
	struct vmmu_gpa gpa = { value & ~UINT64_C(63) };

	if (value & RESERVED)
		return false;
	if (!vcpu->apf)
		return value == 0;
	vcpu->pv.async_pf = value;
	if (!is_enabled(vcpu)) {
		async_pf_clear(vcpu);
		vmmu_pfn_cache_deactivate(vcpu->apf->area);
		return true;
	}
	if (vmmu_pfn_cache_activate(vcpu->apf->area, 0, gpa, AREA_BYTES) != VMMU_OK)
		return false;
	if (area_refresh(vcpu) != VMMU_OK)
		return false;
	vcpu->apf->wake_all = true;
	vcpu_pv_request(vcpu, PV_ASYNC_PF);
	return true;
}

bool async_pf_vector_write(struct kvm_vcpu *vcpu, uint64_t value)
{
	if (value >> 8 || !vcpu->lapic)
		return false;
	vcpu->pv.async_pf_vector = value;
	return true;
}

void async_pf_ack_write(struct kvm_vcpu *vcpu, uint64_t value)
{
	if (value & 1)
		vcpu_pv_request(vcpu, PV_ASYNC_PF);
}

/* ---- pages ------------------------------------------------------------------------------------------------ */

static void page_there(struct hostmem_fetch *fetch)
{
	struct wanted *wanted = (struct wanted *)((char *)fetch - offsetof(struct wanted, fetch));
	struct kvm_vcpu *vcpu = wanted->vcpu;

	/* Then the request, and then the wake-up: a vCPU that goes to sleep looks in the other order. */
	atomic_store_explicit(&wanted->state, THERE, memory_order_release);
	vcpu_pv_request(vcpu, PV_ASYNC_PF);
	vcpu_wake(vcpu);
}

static bool is_there(const struct wanted *wanted)
{
	return atomic_load_explicit(&wanted->state, memory_order_acquire) == THERE;
}

static struct wanted *find(struct async_pf *apf, uint64_t gfn)
{
	for (unsigned i = 0; i < PAGES_MOST; i++)
		if (apf->wanted[i].state != FREE && apf->wanted[i].gfn == gfn)
			return &apf->wanted[i];
	return NULL;
}

static struct wanted *find_free(struct async_pf *apf)
{
	for (unsigned i = 0; i < PAGES_MOST; i++)
		if (apf->wanted[i].state == FREE)
			return &apf->wanted[i];
	return NULL;
}

/* The page that was asked for first, of those that are there. */
static struct wanted *find_there(struct async_pf *apf)
{
	struct wanted *first = NULL;

	for (unsigned i = 0; apf->wanted && i < PAGES_MOST; i++)
		if (is_there(&apf->wanted[i]) && (!first || apf->wanted[i].order < first->order))
			first = &apf->wanted[i];
	return first;
}

/* May the guest be given a #PF in place of what it does? That it can take interrupts is known. */
static bool can_deliver(struct kvm_vcpu *vcpu)
{
	/* L2 knows nothing of it, and L1 is not there to be told. */
	if (!is_enabled(vcpu) || cpu_state(vcpu->cpu)->svm.guest)
		return false;
	return vcpu->pv.async_pf & KVM_ASYNC_PF_SEND_ALWAYS || cpu_state(vcpu->cpu)->seg[CPU_SS].dpl != 0;
}

static void give_fault(struct kvm_vcpu *vcpu, uint32_t token)
{
	struct cpu_events *e = &cpu_state(vcpu->cpu)->events;

	e->exception.pending = true;
	e->exception.vector = PF_VECTOR;
	e->exception.has_error = true;
	e->exception.error = 0;
	e->exception.has_payload = true; /* CR2 */
	e->exception.payload = token;
}

static uint32_t token_make(struct kvm_vcpu *vcpu)
{
	struct async_pf *apf = vcpu->apf;

	if ((uint32_t)(apf->id << 12) == 0) /* a token of vCPU 0 must not be 0 */
		apf->id = 1;
	return apf->id++ << 12 | vcpu->id;
}

void async_pf_page_absent(struct kvm_vcpu *vcpu, uint64_t gpa)
{
	struct async_pf *apf = vcpu->apf;
	struct wanted *wanted = find(apf, gpa / VMMU_PAGE_SIZE);
	struct vmmu_hva hva;

	/* What SMM sees is not what the guest asked for, and its handler is not disturbed. */
	if (cpu_state(vcpu->cpu)->events.smi.smm) {
		cpu_page_wait_once(vcpu->cpu);
		return;
	}
	if (wanted && !is_there(wanted)) {
		/* Something else in the guest needs it, too. */
		apf->halted = true;
		return;
	}
	/* It was taken away again before the guest could be told; or there are too many: wait, as ever. */
	if (wanted || !(wanted = find_free(apf)) ||
	    vmmu_memory_hva(vcpu->kvm->mmu, 0, (struct vmmu_gpa){ gpa }, &hva) != VMMU_OK) {
		cpu_page_wait_once(vcpu->cpu);
		return;
	}
	*wanted = (struct wanted){
		.fetch = { .address = hva.v, .done = page_there }, .vcpu = vcpu, .state = ASKED,
		.gfn = gpa / VMMU_PAGE_SIZE, .token = token_make(vcpu), .switches = cpu_paging_switches(vcpu->cpu),
		.order = apf->order++,
	};
	wanted->told = can_deliver(vcpu) && area_put_flags(vcpu, KVM_PV_REASON_PAGE_NOT_PRESENT);
	if (wanted->told)
		give_fault(vcpu, wanted->token);
	else
		apf->halted = true;
	host_memory_count(wanted->told ? HOST_MEMORY_TOLD : HOST_MEMORY_HALTED);
	host_memory_fetch(&wanted->fetch);
}

/* Map the page at once, since it may be taken away again before the guest gets to it. KVM does the same. */
static void map(struct kvm_vcpu *vcpu, const struct wanted *wanted)
{
	uint64_t done;

	/* In guest mode the vCPU may walk L1's table, where the page is elsewhere. */
	if (host_memory_is_away(wanted->fetch.address) || cpu_state(vcpu->cpu)->svm.guest)
		return;
	/* An error is the guest's own access's to report. */
	(void)!vmmu_prefault(vcpu->mmu, (struct vmmu_gpa){ wanted->gfn * VMMU_PAGE_SIZE }, VMMU_PAGE_SIZE, &done);
}

/* Returns: false if the guest cannot take the token now. It says when it can (MSR_KVM_ASYNC_PF_ACK). */
static bool give_token(struct kvm_vcpu *vcpu, uint32_t token)
{
	if (!lapic_is_on(vcpu->lapic) || !area_put_token(vcpu, token))
		return false;
	lapic_raise(vcpu->lapic, (uint8_t)vcpu->pv.async_pf_vector);
	return true;
}

/* Returns: false if it must be told later. */
static bool page_ready(struct kvm_vcpu *vcpu, struct wanted *wanted)
{
	bool tell = wanted->told && is_enabled(vcpu) && wanted->switches == cpu_paging_switches(vcpu->cpu);

	if (tell && !give_token(vcpu, wanted->token))
		return false;
	map(vcpu, wanted);
	wanted->state = FREE;
	return true;
}

void async_pf_check(struct kvm_vcpu *vcpu)
{
	struct async_pf *apf = vcpu->apf;
	struct wanted *wanted;

	if (!apf)
		return;
	if (apf->wake_all && give_token(vcpu, ALL))
		apf->wake_all = false;
	while ((wanted = find_there(apf)) != NULL) {
		/* Whether it can be told or not: it may be the page that the vCPU sleeps for. */
		async_pf_wake(vcpu);
		if (!page_ready(vcpu, wanted))
			break;
	}
}

/* ---- sleeping --------------------------------------------------------------------------------------------- */

bool async_pf_halted(const struct kvm_vcpu *vcpu)
{
	return vcpu->apf && vcpu->apf->halted;
}

void async_pf_wake(struct kvm_vcpu *vcpu)
{
	vcpu->apf->halted = false;
}
