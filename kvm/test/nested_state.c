/* SPDX-License-Identifier: MIT */
/*
 * KVM_GET/SET_NESTED_STATE of AMD SVM: what is refused, what a state says, guest mode that begins, moves and ends.
 *
 *     nested_state            what a KVM with SVM does
 *     nested_state hidden     what a KVM without it does (vmmu run --no-nested)
 */
#include "nested.h"

/* ---- what is refused --------------------------------------------------------------------------------------- */

static void check_hidden(void)
{
	struct machine m;
	struct state s;

	machine_here(&m, NO_CHIPS);
	CHECK(!has_svm());
	CHECK(!leaf(0x8000000a) || (leaf(0x8000000a)->eax | leaf(0x8000000a)->ebx | leaf(0x8000000a)->edx) == 0);
	CHECK(ioctl(m.kvm, KVM_CHECK_EXTENSION, KVM_CAP_NESTED_STATE) == 0);
	CHECK(nested_get(&m, &s, sizeof(s)) == -1 && errno == EINVAL);
	s = in_guest();
	CHECK(nested_set(&m, &s) == -1 && errno == EINVAL);
	machine_free(&m, 1);
}

static void check_offer(void)
{
	struct machine m;
	struct {
		struct kvm_msr_list head;
		uint32_t index[500];
	} list = { .head = { .nmsrs = 500 } };
	unsigned hsave = 0, vm_cr = 0;

	machine_here(&m, NO_CHIPS);
	CHECK(ioctl(m.kvm, KVM_CHECK_EXTENSION, KVM_CAP_NESTED_STATE) == 128 + 4096);
	CHECK(leaf(0x8000000a) && leaf(0x8000000a)->eax == 1 && leaf(0x8000000a)->ebx >= 2 &&
	      leaf(0x8000000a)->ecx == 0);
	NEED(ioctl(m.kvm, KVM_GET_MSR_INDEX_LIST, &list) == 0);
	for (unsigned i = 0; i < list.head.nmsrs; i++) {
		hsave += list.head.indices[i] == MSR_HSAVE_PA;
		vm_cr += list.head.indices[i] == MSR_VM_CR;
	}
	CHECK(hsave == 1 && vm_cr == 1);
	CHECK(msr_set(&m, MSR_HSAVE_PA, HSAVE) == 1 && msr_get(&m, MSR_HSAVE_PA) == HSAVE);
	CHECK(msr_set(&m, MSR_VM_CR, 0x20) == 0); /* a reserved bit */
	CHECK(msr_get(&m, MSR_VM_CR) == 0);
	machine_free(&m, 1);
}

static void refuse(const struct machine *m, const struct state *s, int wanted, int line)
{
	int result = nested_set(m, s);

	check(result == -1 && errno == wanted, "refused", __FILE__, line);
	check(nested_flags(m) == KVM_STATE_NESTED_GIF_SET, "as before", __FILE__, line);
}
#define REFUSED(change, wanted)                                                                                    \
	do {                                                                                                       \
		struct state s = in_guest();                                                                       \
		change;                                                                                            \
		refuse(&m, &s, wanted, __LINE__);                                                                  \
	} while (0)

static void check_refused_head(void)
{
	struct machine m;

	machine_here(&m, NO_CHIPS);
	REFUSED(, EINVAL); /* EFER.SVME is clear */
	l2_registers(&m);
	REFUSED(s.head.size = 127, EINVAL);
	REFUSED(s.head.size = 128, EINVAL);
	REFUSED(s.head.size = sizeof(s) - 1, EINVAL);
	REFUSED(s.head.format = KVM_STATE_NESTED_FORMAT_VMX, EINVAL);
	REFUSED(s.head.format = 2, EINVAL);
	REFUSED(s.head.flags |= KVM_STATE_NESTED_EVMCS, EINVAL);
	REFUSED(s.head.flags |= KVM_STATE_NESTED_MTF_PENDING, EINVAL);
	REFUSED(s.head.flags |= 0x8000, EINVAL);
	REFUSED(s.head.flags = KVM_STATE_NESTED_RUN_PENDING | KVM_STATE_NESTED_GIF_SET, EINVAL);
	REFUSED(s.head.hdr.svm.vmcb_pa = VMCB + 8, EINVAL);
	REFUSED(s.head.hdr.svm.vmcb_pa = UINT64_C(1) << 52, EINVAL);
	CHECK(ioctl(m.vcpu[0], KVM_SET_NESTED_STATE, NULL) == -1 && errno == EFAULT);
	CHECK(ioctl(m.vcpu[0], KVM_GET_NESTED_STATE, NULL) == -1 && errno == EFAULT);
	machine_free(&m, 1);
}

static void check_refused_vmcb(void)
{
	struct machine m;

	machine_here(&m, NO_CHIPS);
	l2_registers(&m);
	REFUSED(s.vmcb.control.intercepts[4] = 0, EINVAL); /* VMRUN must be intercepted */
	REFUSED(s.vmcb.control.asid = 0, EINVAL);
	REFUSED(s.vmcb.control.iopm = UINT64_C(1) << 52, EINVAL);
	REFUSED(s.vmcb.control.msrpm = UINT64_C(1) << 52, EINVAL);
	REFUSED(s.vmcb.save.efer &= ~UINT64_C(0x1000), EINVAL);
	REFUSED(s.vmcb.save.efer |= UINT64_C(1) << 62, EINVAL);
	REFUSED(s.vmcb.save.cr0 &= ~UINT64_C(1), EINVAL);
	REFUSED(s.vmcb.save.cr0 &= ~(UINT64_C(1) << 31), EINVAL);
	REFUSED(s.vmcb.save.cr0 |= 1u << 29, EINVAL); /* NW without CD */
	REFUSED(s.vmcb.save.cr0 |= UINT64_C(1) << 32, EINVAL);
	REFUSED(s.vmcb.save.cr4 &= ~UINT64_C(0x20), EINVAL);
	REFUSED(s.vmcb.save.cr4 |= UINT64_C(1) << 40, EINVAL);
	REFUSED(s.vmcb.save.cr3 |= UINT64_C(1) << 60, EINVAL);
	REFUSED(s.vmcb.save.dr6 |= UINT64_C(1) << 32, EINVAL);
	REFUSED(s.vmcb.save.dr7 |= UINT64_C(1) << 32, EINVAL);
	REFUSED(s.vmcb.save.rflags |= 1u << 17, EINVAL); /* VM */
	machine_free(&m, 1);
}

/* Nested paging only where the CPU offers it. Then the guest's memory is L1's to name, and cannot be faulted in. */
static void check_paging(void)
{
	struct { uint64_t gpa, size, flags, padding[5]; } range = { .gpa = 0x5000, .size = PAGE };
	bool offered = leaf(0x8000000a)->edx & 1;
	struct state s = in_guest();
	struct machine m;

	s.vmcb.control.nested = NESTED_PAGING;
	s.vmcb.control.nested_cr3 = TABLES;
	machine_here(&m, NO_CHIPS);
	l2_registers(&m);
	CHECK(offered ? nested_set(&m, &s) == 0 : nested_set(&m, &s) == -1 && errno == EINVAL);
	if (offered) {
		CHECK(ioctl(m.vcpu[0], 0xc040aed5u /* KVM_PRE_FAULT_MEMORY */, &range) == -1 && errno == EOPNOTSUPP);
		/* The entries of TABLES lack U, which a nested table needs: the first fetch is L1's to answer. */
		to_l1(&m, SVM_EXIT_NPF);
	}
	machine_free(&m, 1);
}

/* The state ends in a page that is not there. */
static void check_fault(void)
{
	uint8_t *pages = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct state s = in_guest();
	struct machine m;

	NEED(pages != MAP_FAILED && mprotect(pages + PAGE, 3 * PAGE, PROT_NONE) == 0);
	memcpy(pages + PAGE - 128, &s, 128);
	machine_here(&m, NO_CHIPS);
	l2_registers(&m);
	CHECK(ioctl(m.vcpu[0], KVM_SET_NESTED_STATE, pages + PAGE - 128) == -1 && errno == EFAULT);
	CHECK(nested_flags(&m) == KVM_STATE_NESTED_GIF_SET);
	NEED(nested_set(&m, &s) == 0);
	CHECK(ioctl(m.vcpu[0], KVM_GET_NESTED_STATE, pages + PAGE - 128) == -1 && errno == EFAULT);
	machine_free(&m, 1);
	munmap(pages, 4 * PAGE);
}

static void check_sizes(void)
{
	struct state s = in_guest();
	struct machine m;

	machine_here(&m, NO_CHIPS);
	/* Outside guest mode a header is enough. */
	CHECK(nested_get(&m, &s, 127) == -1 && errno == E2BIG && s.head.size == 128);
	CHECK(nested_get(&m, &s, 128) == 0 && s.head.size == 128 && s.head.format == KVM_STATE_NESTED_FORMAT_SVM);
	CHECK(s.head.flags == KVM_STATE_NESTED_GIF_SET);
	CHECK(nested_set(&m, &s) == 0); /* without SVME */
	s.head.flags = KVM_STATE_NESTED_RUN_PENDING;
	CHECK(nested_set(&m, &s) == -1 && errno == EINVAL);
	l2_registers(&m);
	s.head.flags = 0;
	CHECK(nested_set(&m, &s) == 0 && nested_flags(&m) == 0);
	s = in_guest();
	CHECK(nested_set(&m, &s) == 0);
	CHECK(nested_get(&m, &s, 127) == -1 && errno == E2BIG && s.head.size == 128);
	CHECK(nested_get(&m, &s, sizeof(s) - 1) == -1 && errno == E2BIG && s.head.size == sizeof(s));
	CHECK(nested_get(&m, &s, sizeof(s)) == 0 && s.head.size == sizeof(s));
	CHECK(s.head.flags == (KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_GIF_SET));
	CHECK(s.head.hdr.svm.vmcb_pa == VMCB);
	machine_free(&m, 1);
}

static void check_efer(void)
{
	struct machine m;
	struct kvm_sregs sregs;
	struct kvm_cpuid_entry2 *features = (struct kvm_cpuid_entry2 *)leaf(0x80000001);

	machine_here(&m, NO_CHIPS);
	efer_set(&m, EFER_SVME);
	efer_set(&m, 0);
	machine_free(&m, 1);
	features->ecx &= ~4u;
	machine_here(&m, NO_CHIPS);
	features->ecx |= 4;
	sregs = sregs_of(&m);
	sregs.efer = EFER_SVME;
	CHECK(ioctl(m.vcpu[0], KVM_SET_SREGS, &sregs) == -1 && errno == EINVAL);
	machine_free(&m, 1);
}

/* ---- L2 runs ------------------------------------------------------------------------------------------------ */

/* L1's state in a VMCB is what was set. */
static bool same_l1(const struct vmcb_save *a, const struct vmcb_save *b)
{
	return memcmp(&a->es, &b->es, offsetof(struct vmcb_save, fs)) == 0 && a->gdtr.base == b->gdtr.base &&
	       a->gdtr.limit == b->gdtr.limit && a->idtr.base == b->idtr.base && a->idtr.limit == b->idtr.limit &&
	       a->efer == b->efer && a->cr0 == b->cr0 && a->cr3 == b->cr3 && a->cr4 == b->cr4 &&
	       a->rflags == b->rflags && a->rip == b->rip && a->rsp == b->rsp && a->rax == b->rax;
}

static void check_run(void)
{
	struct state s = in_guest(), got;
	struct machine m;

	begin(&m, NO_CHIPS, &s);
	CHECK(go(&m) == PORT_L2);
	CHECK(regs_of(&m).rax == 0x42 && sregs_of(&m).efer == EFER_SVME && !(sregs_of(&m).cr0 & 1));
	NEED(nested_get(&m, &got, sizeof(got)) == 0);
	CHECK(got.head.flags == s.head.flags && same_l1(&got.vmcb.save, &s.vmcb.save));
	CHECK(memcmp(got.vmcb.control.intercepts, s.vmcb.control.intercepts, 24) == 0 && got.vmcb.control.asid == 1);
	to_l1(&m, SVM_EXIT_VMMCALL);
	CHECK(go(&m) == PORT_L1); /* behind STGI */
	CHECK(nested_flags(&m) == KVM_STATE_NESTED_GIF_SET);
	machine_free(&m, 1);
}

/* All state of a vCPU goes to one of another VM, as QEMU does it: SREGS, nested state, the rest. */
static void copy(const struct machine *from, const struct machine *to)
{
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	struct state s;

	from->run[0]->immediate_exit = 1;
	CHECK(go(from) == -1000 - EINTR); /* completes the last exit */
	from->run[0]->immediate_exit = 0;
	sregs = sregs_of(from);
	regs = regs_of(from);
	NEED(nested_get(from, &s, sizeof(s)) == 0);
	NEED(ioctl(from->vcpu[0], KVM_GET_VCPU_EVENTS, &events) == 0);
	NEED(ioctl(from->vcpu[0], KVM_GET_MP_STATE, &mp) == 0);
	memcpy(to->memory, from->memory, from->bytes);
	NEED(ioctl(to->vcpu[0], KVM_SET_SREGS, &sregs) == 0);
	NEED(nested_set(to, &s) == 0);
	NEED(ioctl(to->vcpu[0], KVM_SET_REGS, &regs) == 0);
	CHECK(msr_set(to, MSR_HSAVE_PA, msr_get(from, MSR_HSAVE_PA)) == 1);
	NEED(ioctl(to->vcpu[0], KVM_SET_MP_STATE, &mp) == 0);
	NEED(ioctl(to->vcpu[0], KVM_SET_VCPU_EVENTS, &events) == 0);
}

static void check_move(void)
{
	struct state s = in_guest(), a, b;
	struct machine m, other;

	begin(&m, NO_CHIPS, &s);
	machine_here(&other, NO_CHIPS);
	CHECK(go(&m) == PORT_L2);
	copy(&m, &other);
	NEED(nested_get(&m, &a, sizeof(a)) == 0 && nested_get(&other, &b, sizeof(b)) == 0);
	CHECK(memcmp(&a, &b, sizeof(a)) == 0);
	to_l1(&other, SVM_EXIT_VMMCALL);
	CHECK(exit_code(&m) == 0);
	to_l1(&m, SVM_EXIT_VMMCALL); /* the first one goes on, too */
	machine_free(&other, 1);
	/* Into a vCPU that is in guest mode already, and back to the middle. */
	machine_here(&other, NO_CHIPS);
	copy(&m, &other);
	CHECK(nested_flags(&other) == 0);
	CHECK(go(&other) == PORT_L1 && nested_flags(&other) == KVM_STATE_NESTED_GIF_SET);
	l2_registers(&other);
	CHECK(nested_set(&other, &s) == 0 && nested_set(&other, &a) == 0);
	CHECK(go(&other) == PORT_L2);
	machine_free(&other, 1);
	machine_free(&m, 1);
}

/* An event that VMRUN was to inject: it survives the events that the client sets, and comes once. */
static void check_inject(void)
{
	struct state s = in_guest(), got;
	struct kvm_vcpu_events events;
	struct machine m;

	s.head.flags |= KVM_STATE_NESTED_RUN_PENDING;
	s.vmcb.control.event_inject = EVENT_VALID | EVENT_TYPE_INTERRUPT << EVENT_TYPE_SHIFT | 0x50;
	begin(&m, NO_CHIPS, &s);
	NEED(nested_get(&m, &got, sizeof(got)) == 0);
	CHECK(got.head.flags == s.head.flags);
	CHECK(got.vmcb.control.event_inject == s.vmcb.control.event_inject);
	NEED(ioctl(m.vcpu[0], KVM_GET_VCPU_EVENTS, &events) == 0);
	NEED(ioctl(m.vcpu[0], KVM_SET_VCPU_EVENTS, &events) == 0);
	CHECK(go(&m) == PORT_L2_IRQ);
	NEED(nested_get(&m, &got, sizeof(got)) == 0);
	CHECK(!(got.head.flags & KVM_STATE_NESTED_RUN_PENDING));
	CHECK(!(got.vmcb.control.event_inject & EVENT_VALID));
	CHECK(go(&m) == PORT_L2);
	to_l1(&m, SVM_EXIT_VMMCALL);
	machine_free(&m, 1);
}

/* Guest mode ends without a #VMEXIT. */
static void check_leave(void)
{
	struct state s = in_guest();
	struct kvm_vcpu_events events;
	struct machine m;

	begin(&m, NO_CHIPS, &s);
	efer_set(&m, 0);
	CHECK(nested_flags(&m) == KVM_STATE_NESTED_GIF_SET);
	CHECK(go(&m) == PORT_L2); /* the same code, now as L1 in real mode */
	machine_free(&m, 1);

	begin(&m, NO_CHIPS, &s);
	s.head.flags = 0;
	s.head.size = 128;
	CHECK(nested_set(&m, &s) == 0 && nested_flags(&m) == 0);
	CHECK(go(&m) == PORT_L2);
	machine_free(&m, 1);

	s = in_guest();
	begin(&m, NO_CHIPS, &s);
	CHECK(msr_set(&m, MSR_EFER, 0) == 1 && nested_flags(&m) == KVM_STATE_NESTED_GIF_SET);
	machine_free(&m, 1);

	begin(&m, NO_CHIPS, &s);
	NEED(ioctl(m.vcpu[0], KVM_GET_VCPU_EVENTS, &events) == 0);
	events.flags |= KVM_VCPUEVENT_VALID_SMM;
	events.smi.smm = 1;
	CHECK(ioctl(m.vcpu[0], KVM_SET_VCPU_EVENTS, &events) == 0);
	CHECK(nested_flags(&m) == KVM_STATE_NESTED_GIF_SET);
	CHECK(nested_set(&m, &s) == -1 && errno == EINVAL); /* not in SMM */
	machine_free(&m, 1);
}

/* CPUID is fixed in guest mode. */
static void check_cpuid(void)
{
	struct kvm_cpuid_entry2 *features = (struct kvm_cpuid_entry2 *)leaf(1);
	struct state s = in_guest();
	struct machine m;

	begin(&m, NO_CHIPS, &s);
	features->eax ^= 1;
	CHECK(ioctl(m.vcpu[0], KVM_SET_CPUID2, &cpuid) == -1 && errno == EINVAL);
	features->eax ^= 1;
	CHECK(ioctl(m.vcpu[0], KVM_SET_CPUID2, &cpuid) == 0);
	machine_free(&m, 1);
}

int main(int argc, char **argv)
{
	cpuid_read();
	if (argc > 1 && strcmp(argv[1], "hidden") == 0) {
		check_hidden();
		return check_end();
	}
	NEED(has_svm());
	alarm(120);
	check_offer();
	check_refused_head();
	check_refused_vmcb();
	check_paging();
	check_fault();
	check_sizes();
	check_efer();
	check_run();
	check_move();
	check_inject();
	check_leave();
	check_cpuid();
	return check_end();
}
