/* SPDX-License-Identifier: MIT */
/*
 * System management mode: entering and leaving it in every mode of the processor, SMRAM that only address space 1 has,
 * its dirty log, the state that a client saves and restores, what RSM refuses.
 */
#include "smm.h"

static const char *const mode_names[MODES] = { "real", "protected", "32-bit paging", "PAE", "long" };

static bool same_segment(const struct kvm_segment *a, const struct kvm_segment *b)
{
	return a->base == b->base && a->limit == b->limit && a->selector == b->selector && a->type == b->type &&
	       a->present == b->present && a->dpl == b->dpl && a->db == b->db && a->s == b->s && a->l == b->l &&
	       a->g == b->g && a->avl == b->avl;
}

static bool same_sregs(const struct kvm_sregs *a, const struct kvm_sregs *b)
{
	return same_segment(&a->cs, &b->cs) && same_segment(&a->ds, &b->ds) && same_segment(&a->es, &b->es) &&
	       same_segment(&a->fs, &b->fs) && same_segment(&a->gs, &b->gs) && same_segment(&a->ss, &b->ss) &&
	       same_segment(&a->tr, &b->tr) && same_segment(&a->ldt, &b->ldt) && a->gdt.base == b->gdt.base &&
	       a->gdt.limit == b->gdt.limit && a->idt.base == b->idt.base && a->idt.limit == b->idt.limit &&
	       a->cr0 == b->cr0 && a->cr3 == b->cr3 && a->cr4 == b->cr4 && a->efer == b->efer;
}

static void handler_state_check(struct vm *v, unsigned i)
{
	const struct kvm_sregs s = sregs_of(v->vcpu[i]);
	const struct kvm_regs r = regs_of(v->vcpu[i]);
	struct kvm_debugregs d;
	struct kvm_vcpu_events e = events_of(v->vcpu[i]);

	CHECK(s.cs.base == SMBASE && s.cs.selector == SMBASE >> 4 && s.cs.limit == UINT32_MAX);
	CHECK(s.ds.base == 0 && s.ds.selector == 0 && s.ds.limit == UINT32_MAX && s.ss.limit == UINT32_MAX);
	CHECK(!(s.cr0 & 0x8000000d) && s.cr4 == 0 && s.efer == 0 && s.idt.limit == 0);
	CHECK(r.rflags == 2 && r.rip == 0x8000 + (v->run[i]->immediate_exit ? 2 : 0));
	CHECK(ioctl(v->vcpu[i], KVM_GET_DEBUGREGS, &d) == 0 && d.dr7 == 0x400);
	CHECK(e.flags & KVM_VCPUEVENT_VALID_SMM && e.smi.smm == 1 && e.smi.pending == 0 && e.smi.smm_inside_nmi == 0);
	CHECK(e.nmi.masked);
}

static void area_check(struct vm *v, const struct kvm_sregs *s, const struct kvm_regs *r)
{
	CHECK(smram32(v, SMBASE + 0xfefc) == 0x20064 && smram32(v, SMBASE + 0xff00) == SMBASE);
	CHECK(smram64(v, SMBASE + 0xfff8) == r->rax && smram64(v, SMBASE + 0xffc0) == r->rdi);
	CHECK(smram64(v, SMBASE + 0xff80) == r->r15 && smram64(v, SMBASE + 0xff78) == CODE + 2);
	CHECK(smram64(v, SMBASE + 0xff70) == r->rflags && smram64(v, SMBASE + 0xff58) == s->cr0);
	CHECK(smram64(v, SMBASE + 0xff50) == s->cr3 && smram64(v, SMBASE + 0xff48) == s->cr4);
	CHECK(smram64(v, SMBASE + 0xfed0) == s->efer && (smram32(v, SMBASE + 0xfe10) & 0xffff) == s->cs.selector);
	CHECK(smram64(v, SMBASE + 0xfe48) == s->fs.base && smram64(v, SMBASE + 0xfe68) == s->gdt.base);
}

/* In each mode: an SMI after an OUT, as when firmware writes to port 0xb2; the handler's state; back by RSM. */
static void test_every_mode(void)
{
	for (enum mode mode = REAL; mode < MODES; mode++) {
		unsigned before = check_failures;
		struct kvm_sregs s;
		struct kvm_regs r, now;
		struct kvm_sregs back;
		struct vm v;

		vm_make(&v, 1, false);
		memcpy(v.smram + (HANDLER - SMRAM), handler, (size_t)(handler_end - handler));
		mode_enter(&v, 0, mode);
		CHECK(msr_get(v.vcpu[0], MSR_SMBASE) == 0x30000);
		CHECK(msr_set(v.vcpu[0], MSR_SMBASE, SMBASE) && msr_get(v.vcpu[0], MSR_SMBASE) == SMBASE);
		s = sregs_of(v.vcpu[0]);
		r = regs_of(v.vcpu[0]);
		CHECK(run(&v, 0) == 0x10 && !in_smm(&v, 0));
		CHECK(ioctl(v.vcpu[0], KVM_SMI, 0) == 0);
		CHECK(events_of(v.vcpu[0]).smi.pending == 1 && events_of(v.vcpu[0]).smi.smm == 0);
		CHECK(run(&v, 0) == 0x80 && in_smm(&v, 0));
		handler_state_check(&v, 0);
		area_check(&v, &s, &r);
		CHECK(run(&v, 0) == 0x11 && !in_smm(&v, 0));
		back = sregs_of(v.vcpu[0]);
		now = regs_of(v.vcpu[0]);
		now.rip = r.rip;
		CHECK(same_sregs(&s, &back) && memcmp(&r, &now, sizeof(r)) == 0);
		CHECK(events_of(v.vcpu[0]).smi.smm == 0 && events_of(v.vcpu[0]).nmi.masked == 0);
		CHECK(run(&v, 0) == 0x12 && msr_get(v.vcpu[0], MSR_SMI_COUNT) == 1);
		vm_free(&v, 1);
		if (check_failures != before)
			fprintf(stderr, "... in %s mode\n", mode_names[mode]);
	}
}

/* A guest whose CPUID has no long mode gets the older format. */
static void test_format_without_long_mode(void)
{
	struct kvm_sregs s, back;
	struct vm v;

	vm_make(&v, 0, false);
	for (unsigned i = 0; i < cpuid.head.nent; i++)
		if (cpuid.entry[i].function == 0x80000001)
			cpuid.entry[i].edx &= ~(1u << 29);
	vcpu_add(&v, 0);
	memcpy(v.smram + (HANDLER - SMRAM), handler, (size_t)(handler_end - handler));
	mode_enter(&v, 0, PAGED);
	CHECK(msr_set(v.vcpu[0], MSR_SMBASE, SMBASE));
	s = sregs_of(v.vcpu[0]);
	CHECK(run(&v, 0) == 0x10 && ioctl(v.vcpu[0], KVM_SMI, 0) == 0 && run(&v, 0) == 0x80 && in_smm(&v, 0));
	CHECK(smram32(&v, SMBASE + 0xfefc) == 0x20000 && smram32(&v, SMBASE + 0xfef8) == SMBASE);
	CHECK(smram32(&v, SMBASE + 0xffd0) == 0x55667788 && smram32(&v, SMBASE + 0xfff0) == CODE + 2);
	CHECK(smram32(&v, SMBASE + 0xfffc) == s.cr0 && smram32(&v, SMBASE + 0xfff8) == s.cr3);
	CHECK(smram32(&v, SMBASE + 0xff14) == s.cr4 && smram32(&v, SMBASE + 0xff40) == s.fs.base);
	CHECK(smram32(&v, SMBASE + 0xff90) == 0xc09b00 && smram32(&v, SMBASE + 0xffac) == 8);
	CHECK(run(&v, 0) == 0x11 && !in_smm(&v, 0));
	back = sregs_of(v.vcpu[0]);
	CHECK(same_sregs(&s, &back));
	vm_free(&v, 1);
}

/* ---- memory ---------------------------------------------------------------------------------------------- */

CODE16(relocate, "movl $0xa0000, %cs:0xff00\n out %al, $0x81\n rsm")
/* Writes to SMRAM, to RAM, and reads where only address space 0 has memory. */
CODE16(toucher, "mov $0xa0000, %ebx\n movl $0x5eed, %ds:(%ebx)\n mov $0x2000, %ebx\n movl $0xfeed, %ds:(%ebx)\n"
                "mov $0x200000, %ebx\n mov %ds:(%ebx), %eax\n out %al, $0x80\n rsm")
/* The same places with no SMM: 32-bit code. */
CODE16(looker, ".code32\n out %al, $0x10\n mov 0xa0000, %eax\n mov 0x200000, %eax\n out %al, $0x11\n 1: jmp 1b")

/* The handler moves SMBASE from RAM to SMRAM, as firmware does. */
static void test_relocation(void)
{
	struct vm v;

	vm_make(&v, 1, false);
	memcpy(v.ram + 0x38000, relocate, (size_t)(relocate_end - relocate));
	memcpy(v.smram + (HANDLER - SMRAM), handler, (size_t)(handler_end - handler));
	mode_enter(&v, 0, LONG);
	CHECK(run(&v, 0) == 0x10 && ioctl(v.vcpu[0], KVM_SMI, 0) == 0);
	CHECK(run(&v, 0) == 0x81 && in_smm(&v, 0));
	CHECK(msr_get(v.vcpu[0], MSR_SMBASE) == 0x30000); /* until RSM */
	CHECK(run(&v, 0) == 0x11 && !in_smm(&v, 0) && msr_get(v.vcpu[0], MSR_SMBASE) == SMBASE);
	CHECK(ioctl(v.vcpu[0], KVM_SMI, 0) == 0 && run(&v, 0) == 0x80 && in_smm(&v, 0));
	CHECK(run(&v, 0) == 0x12 && !in_smm(&v, 0));
	vm_free(&v, 1);
}

/* Memory that one address space has and the other has not is a device there. */
static void test_two_address_spaces(void)
{
	uint8_t *high = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_translation t = { .linear_address = 0xa0000 };
	struct vm v;

	NEED(high != MAP_FAILED);
	vm_make(&v, 1, false);
	NEED(machine_slot(v.vm, 1, 0, 0x200000, PAGE, high) == 0);
	memcpy(high, "high", 4);
	memcpy(v.smram + (HANDLER - SMRAM), toucher, (size_t)(toucher_end - toucher));
	mode_enter(&v, 0, PAGED);
	memcpy(v.ram + CODE, looker, (size_t)(looker_end - looker));
	CHECK(msr_set(v.vcpu[0], MSR_SMBASE, SMBASE));
	for (unsigned round = 0; round < 3; round++) {
		struct kvm_regs r = regs_of(v.vcpu[0]);

		r.rip = CODE;
		NEED(ioctl(v.vcpu[0], KVM_SET_REGS, &r) == 0);
		CHECK(run(&v, 0) == 0x10 && ioctl(v.vcpu[0], KVM_SMI, 0) == 0);
		CHECK(run(&v, 0) == -1 && v.run[0]->exit_reason == KVM_EXIT_MMIO && in_smm(&v, 0));
		CHECK(v.run[0]->mmio.phys_addr == 0x200000 && v.run[0]->mmio.len == 4 && !v.run[0]->mmio.is_write);
		memcpy(v.run[0]->mmio.data, "smm!", 4);
		CHECK(run(&v, 0) == 0x80 && (uint32_t)regs_of(v.vcpu[0]).rax == 0x216d6d73);
		CHECK(smram32(&v, SMRAM) == 0x5eed && *(uint32_t *)(void *)(v.ram + 0x2000) == 0xfeed);
		CHECK(run(&v, 0) == -1 && v.run[0]->exit_reason == KVM_EXIT_MMIO && !in_smm(&v, 0));
		CHECK(v.run[0]->mmio.phys_addr == 0xa0000 && v.run[0]->mmio.len == 4);
		memcpy(v.run[0]->mmio.data, "vga", 4);
		CHECK(run(&v, 0) == 0x11 && (uint32_t)regs_of(v.vcpu[0]).rax == 0x68676968);
		CHECK(ioctl(v.vcpu[0], KVM_TRANSLATE, &t) == 0 && t.valid && t.physical_address == 0xa0000);
		memset(v.smram, 0, 4);
	}
	/* Another slot of address space 1 goes, and a new one comes with other memory. */
	CHECK(machine_slot(v.vm, SLOT_AS1(0), 0, 0, 0, NULL) == 0);
	CHECK(machine_slot(v.vm, SLOT_AS1(0), 0, 0, RAM, v.ram) == 0);
	CHECK(machine_slot(v.vm, SLOT_AS1(2), 0, 0x200000, PAGE, v.smram) == 0);
	memcpy(v.smram, "low!", 4);
	mode_enter(&v, 0, PAGED);
	CHECK(run(&v, 0) == 0x10 && ioctl(v.vcpu[0], KVM_SMI, 0) == 0 && run(&v, 0) == 0x80);
	CHECK((uint32_t)regs_of(v.vcpu[0]).rax == 0x5eed); /* what the handler wrote before, at the same place */
	vm_free(&v, 1);
	munmap(high, PAGE);
}

static uint64_t dirty_of(struct vm *v, uint32_t slot)
{
	static uint64_t bits[16];
	struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = bits };

	memset(bits, 0, sizeof(bits));
	CHECK(ioctl(v->vm, KVM_GET_DIRTY_LOG, &log) == 0);
	return bits[0];
}

static void test_dirty_log(void)
{
	struct kvm_dirty_log log = { .slot = 2u << 16 };
	struct vm v;

	vm_make(&v, 1, false);
	memcpy(v.smram + (HANDLER - SMRAM), toucher, (size_t)(toucher_end - toucher));
	NEED(machine_slot(v.vm, SLOT_AS1(2), 0, 0x200000, PAGE, v.ram + 0x9f000) == 0);
	CHECK(machine_slot(v.vm, SLOT_AS1(0), KVM_MEM_LOG_DIRTY_PAGES, 0, RAM, v.ram) == 0);
	CHECK(machine_slot(v.vm, SLOT_AS1(1), KVM_MEM_LOG_DIRTY_PAGES, SMRAM, SMRAM_BYTES, v.smram) == 0);
	CHECK(machine_slot(v.vm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, RAM, v.ram) == 0);
	mode_enter(&v, 0, LONG);
	CHECK(msr_set(v.vcpu[0], MSR_SMBASE, SMBASE));
	for (unsigned round = 0; round < 3; round++) {
		CHECK(run(&v, 0) == 0x10 && ioctl(v.vcpu[0], KVM_SMI, 0) == 0 && run(&v, 0) == 0x80);
		CHECK(run(&v, 0) == 0x11);
		/* the save area, and the handler's store */
		CHECK(dirty_of(&v, SLOT_AS1(1)) == (UINT64_C(1) << 15 | 1));
		CHECK(dirty_of(&v, SLOT_AS1(1)) == 0);
		CHECK(dirty_of(&v, SLOT_AS1(0)) == 1u << 2 && dirty_of(&v, 0) == 0);
		mode_enter(&v, 0, LONG);
	}
	CHECK(ioctl(v.vm, KVM_GET_DIRTY_LOG, &log) < 0 && errno == EINVAL);
	CHECK(machine_slot(v.vm, 2u << 16, 0, 0, PAGE, v.ram) < 0 && errno == EINVAL);
	log.slot = SLOT_AS1(2);
	CHECK(ioctl(v.vm, KVM_GET_DIRTY_LOG, &log) < 0 && errno == ENOENT);
	vm_free(&v, 1);
}

/* ---- state ----------------------------------------------------------------------------------------------- */

/* In the middle of a handler the state goes to another VM over the same memory, and the handler ends there. */
static void test_state_moves(void)
{
	for (enum mode mode = REAL; mode < MODES; mode++) {
		struct kvm_vcpu_events e;
		struct kvm_sregs s;
		struct kvm_regs r;
		struct vm from, to;

		vm_make(&from, 1, false);
		memcpy(from.smram + (HANDLER - SMRAM), handler, (size_t)(handler_end - handler));
		mode_enter(&from, 0, mode);
		CHECK(msr_set(from.vcpu[0], MSR_SMBASE, SMBASE));
		CHECK(run(&from, 0) == 0x10 && ioctl(from.vcpu[0], KVM_SMI, 0) == 0 && run(&from, 0) == 0x80);
		settle(&from, 0);
		CHECK(in_smm(&from, 0));
		vm_make(&to, 1, false);
		memcpy(to.ram, from.ram, RAM + SMRAM_BYTES);
		e = events_of(from.vcpu[0]);
		s = sregs_of(from.vcpu[0]);
		r = regs_of(from.vcpu[0]);
		CHECK(e.smi.smm);
		CHECK(msr_set(to.vcpu[0], MSR_SMBASE, msr_get(from.vcpu[0], MSR_SMBASE)));
		CHECK(ioctl(to.vcpu[0], KVM_SET_VCPU_EVENTS, &e) == 0 && ioctl(to.vcpu[0], KVM_SET_SREGS, &s) == 0 &&
		      ioctl(to.vcpu[0], KVM_SET_REGS, &r) == 0);
		CHECK(run(&to, 0) == 0x11 && !in_smm(&to, 0));
		CHECK(run(&to, 0) == 0x12);
		/* The client may also end SMM by itself, as at a reset. */
		e.smi.smm = 0;
		CHECK(ioctl(from.vcpu[0], KVM_SET_VCPU_EVENTS, &e) == 0);
		CHECK(events_of(from.vcpu[0]).smi.smm == 0);
		mode_enter(&from, 0, mode);
		CHECK(run(&from, 0) == 0x10 && !in_smm(&from, 0));
		vm_free(&from, 1);
		vm_free(&to, 1);
	}
}

/* ---- what RSM refuses --------------------------------------------------------------------------------------- */

CODE16(rsm_alone, "out %al, $0x10\n rsm\n out %al, $0x11")
CODE16(bad_cr0, "movl $0x80000000, %cs:0xff58\n rsm")   /* PG without PE */
CODE16(bad_cr4, "movl $0x80000000, %cs:0xff48\n rsm")   /* a reserved bit */
CODE16(bad_efer, "movl $0x80000000, %cs:0xfed0\n rsm")
CODE16(bad_dr7, "movl $1, %cs:0xff64\n rsm")            /* bits 63:32 */
CODE16(good_dr7, "movl $0, %cs:0xff64\n rsm")

static void test_rsm_outside(void)
{
	struct vm v;

	vm_make(&v, 1, false);
	mode_enter(&v, 0, REAL);
	memcpy(v.ram + CODE, rsm_alone, (size_t)(rsm_alone_end - rsm_alone));
	memcpy(v.ram + 0x3000, real_stub, (size_t)(real_stub_end - real_stub));
	vector_set(&v, 6, 0x3000);
	CHECK(run(&v, 0) == 0x10 && run(&v, 0) == 0x66);
	vm_free(&v, 1);
}

static int rsm_with(const uint8_t *code, const uint8_t *end)
{
	struct vm v;
	int result;

	vm_make(&v, 1, false);
	memcpy(v.smram + (HANDLER - SMRAM), code, (size_t)(end - code));
	mode_enter(&v, 0, LONG);
	CHECK(msr_set(v.vcpu[0], MSR_SMBASE, SMBASE));
	CHECK(run(&v, 0) == 0x10 && ioctl(v.vcpu[0], KVM_SMI, 0) == 0);
	result = run(&v, 0);
	if (result == -1)
		result = -(int)v.run[0]->exit_reason;
	vm_free(&v, 1);
	return result;
}

static void test_rsm_of_an_illegal_state(void)
{
	CHECK(rsm_with(bad_cr0, bad_cr0_end) == -KVM_EXIT_SHUTDOWN);
	CHECK(rsm_with(bad_cr4, bad_cr4_end) == -KVM_EXIT_SHUTDOWN);
	CHECK(rsm_with(bad_efer, bad_efer_end) == -KVM_EXIT_SHUTDOWN);
	CHECK(rsm_with(bad_dr7, bad_dr7_end) == -KVM_EXIT_SHUTDOWN);
	CHECK(rsm_with(good_dr7, good_dr7_end) == 0x11);
}

/* With no memory at SMBASE the state cannot be saved. */
static void test_no_memory_at_smbase(void)
{
	struct vm v;

	vm_make(&v, 1, false);
	mode_enter(&v, 0, REAL);
	CHECK(msr_set(v.vcpu[0], MSR_SMBASE, 0x40000000));
	CHECK(run(&v, 0) == 0x10 && ioctl(v.vcpu[0], KVM_SMI, 0) == 0 && run(&v, 0) == -EIO);
	vm_free(&v, 1);
}

int main(void)
{
	if (!smm_is_there())
		return 77;
	test_every_mode();
	test_format_without_long_mode();
	test_relocation();
	test_two_address_spaces();
	test_dirty_log();
	test_state_moves();
	test_rsm_outside();
	test_rsm_of_an_illegal_state();
	test_no_memory_at_smbase();
	return check_end();
}
