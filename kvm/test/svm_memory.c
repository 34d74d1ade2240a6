/* SPDX-License-Identifier: MIT */
/*
 * L2's memory beside what L1 and the client do to it: L1 edits its nested table in every way that a store can have,
 * reuses a table's page as data, and has two vCPUs; the client deletes slots, logs dirty pages, and serves MMIO.
 */
#include "svm_guest.h"

#define A UINT64_C(0xaaaa)
#define B UINT64_C(0xbbbb)

#define PAGE_A L2_DATA
#define PAGE_B (L2_DATA + PAGE)
#define ENTRY  (SVM_NPT + TABLE_PT * PAGE + (PAGE_A >> 12) * 8) /* of PAGE_A, in the nested table */
#define PD_ENTRY(n) (SVM_NPT + TABLE_PD * PAGE + (n) * 8)

/* mov (PAGE_A), %rbx; mov %rcx, (PAGE_A + 8) */
#define READ_BYTES  "\x48\x8b\x1c\x25\x00\x80\x05\x00"
#define WRITE_BYTES "\x48\x89\x0c\x25\x08\x80\x05\x00"

static uint64_t l2_reads(void)
{
	l2_reset(0);
	L2(0, READ_BYTES);
	ENDS(0);
	return *l2_reg(0, RBX);
}

static uint64_t l2_writes(uint64_t value)
{
	l2_reset(0);
	L2(0, WRITE_BYTES);
	*l2_reg(0, RCX) = value;
	return svm_go(0);
}

static void begin(void)
{
	*at64(PAGE_A) = A;
	*at64(PAGE_B) = B;
	SAME(l2_reads(), A);
}

/* ---- how L1 stores --------------------------------------------------------------------------------------- */

/* L1 executes `bytes` with RDI at the entry, and RAX as given. */
static void edit(const char *what, uint64_t rax, uint64_t entry, const char *bytes, size_t count)
{
	uint8_t code[64] = { 0x48, 0xbf };

	s.what = what;
	memcpy(code + 2, &entry, 8);
	memcpy(code + 10, bytes, count);
	SAME(l1_code(0, rax, code, 10 + count), 0);
}
#define EDIT(what, rax, entry, bytes) edit(what, rax, entry, bytes, sizeof(bytes) - 1)

static void test_edit(void)
{
	begin();
	EDIT("64 bits", PAGE_B | 7, ENTRY, "\x48\x89\x07");
	SAME(l2_reads(), B);
	EDIT("32 bits", PAGE_A | 7, ENTRY, "\x89\x07");
	SAME(l2_reads(), A);
	EDIT("16 bits", (PAGE_B | 7) & 0xffff, ENTRY, "\x66\x89\x07");
	SAME(l2_reads(), B);
	EDIT("8 bits", PAGE_A >> 8 & 0xff, ENTRY + 1, "\x88\x07");
	SAME(l2_reads(), A);
	EDIT("XCHG", PAGE_B | 7, ENTRY, "\x48\x87\x07");
	SAME(l2_reads(), B);
	/* CMPXCHG, which sees what the CPU has set in the entry; RCX is new. */
	*at64(SVM_OTHER) = 0;
	EDIT("LOCK CMPXCHG, as it is", *at64(ENTRY), ENTRY, "\xb9\x67\x80\x05\x00\xf0\x48\x0f\xb1\x0f");
	SAME(*at64(ENTRY), PAGE_A | 0x67);
	SAME(l2_reads(), A);
	EDIT("LOCK CMPXCHG, another", 0, ENTRY, "\xb9\x67\x90\x05\x00\xf0\x48\x0f\xb1\x0f");
	SAME(*at64(ENTRY), PAGE_A | 0x67);
	SAME(l2_reads(), A);
	EDIT("LOCK BTR, BTS", 0, ENTRY, "\xf0\x48\x0f\xba\x37\x00");
	SAME(l2_writes(1), SVM_EXIT_NPF);
	EDIT("LOCK BTS", 0, ENTRY, "\xf0\x48\x0f\xba\x2f\x00");
	SAME(l2_reads(), A);
	EDIT("LOCK AND", ~UINT64_C(2), ENTRY, "\xf0\x48\x21\x07");
	SAME(l2_reads(), A);
	SAME(l2_writes(1), SVM_EXIT_NPF);
	SAME(vmcb(0)->control.exit_info1, UINT64_C(0x100000007));
	EDIT("OR", 2, ENTRY, "\x48\x09\x07");
	SAME(l2_writes(0x5a5a), SVM_EXIT_VMMCALL);
	SAME(*at64(PAGE_A + 8), 0x5a5a);
	EDIT("XADD", PAGE, ENTRY, "\xf0\x48\x0f\xc1\x07");
	SAME(l2_reads(), B);
	EDIT("ADD", -PAGE, ENTRY, "\x48\x01\x07");
	SAME(l2_reads(), A);
	EDIT("STOS", PAGE_B | 7, ENTRY, "\x48\xab");
	SAME(l2_reads(), B);
	EDIT("PUSH", PAGE_A | 7, ENTRY + 8, "\x48\x89\xe1\x48\x89\xfc\x50\x48\x89\xcc");
	SAME(l2_reads(), A);
	/* Two entries by one store: the first becomes the second page, the next one stays. */
	*at64(SVM_OTHER) = PAGE_B | 7;
	*at64(SVM_OTHER + 8) = PAGE_B | 7;
	EDIT("16 bytes", SVM_OTHER, ENTRY, "\x0f\x10\x00\x0f\x11\x07");
	SAME(l2_reads(), B);
	EDIT("CMPXCHG16B", PAGE_A | 7, ENTRY,
	     "\x48\x89\xc3\xb9\x07\x90\x05\x00\x48\x8b\x07\x48\x8b\x57\x08\xf0\x48\x0f\xc7\x0f");
	SAME(*at64(ENTRY) & ~UINT64_C(0x60), PAGE_A | 7);
	SAME(l2_reads(), A);
	/* A whole table at once. */
	memcpy(at(SVM_SPARE), at(SVM_NPT + TABLE_PT * PAGE), PAGE);
	*at64(SVM_SPARE + (PAGE_A >> 12) * 8) = PAGE_B | 7;
	EDIT("REP MOVS", SVM_SPARE, ENTRY & ~0xfffull, "\x48\x89\xc6\xb9\x00\x02\x00\x00\xf3\x48\xa5");
	SAME(l2_reads(), B);
}

/* Higher levels, larger and smaller pages in place of each other. */
static void test_levels(void)
{
	*at64(SVM_DATA) = A;
	*at64(0x400000) = B;
	l2_reset(0);
	L2(0, "\x48\x8b\x1c\x25\x00\x00\x20\x00");
	ENDS(0);
	SAME(*l2_reg(0, RBX), A);
	s.what = "another 2 MiB page";
	l1_store(PD_ENTRY(1), 0x400000 | 0xe7);
	vmcb(0)->save.rip = L2_CODE;
	ENDS(0);
	SAME(*l2_reg(0, RBX), B);
	s.what = "a table in its place";
	memset(at(SVM_SPARE), 0, PAGE);
	*at64(SVM_SPARE) = SVM_DATA | 7;
	l1_store(PD_ENTRY(1), SVM_SPARE | 7);
	vmcb(0)->save.rip = L2_CODE;
	ENDS(0);
	SAME(*l2_reg(0, RBX), A);
	s.what = "an entry of the new table";
	l1_store(SVM_SPARE, 0x400000 | 7);
	vmcb(0)->save.rip = L2_CODE;
	ENDS(0);
	SAME(*l2_reg(0, RBX), B);
	s.what = "the 2 MiB page again";
	l1_store(PD_ENTRY(1), SVM_DATA | 0xe7);
	vmcb(0)->save.rip = L2_CODE;
	ENDS(0);
	SAME(*l2_reg(0, RBX), A);
	if (!features.gbpages)
		return;
	s.what = "a 1 GiB page";
	l1_store(SVM_NPT + TABLE_PDPT * PAGE, 0xe7);
	l1_store(PD_ENTRY(1), 0); /* out of use */
	vmcb(0)->save.rip = L2_CODE;
	ENDS(0);
	SAME(*l2_reg(0, RBX), A);
	s.what = "and back";
	l1_store(SVM_NPT + TABLE_PDPT * PAGE, (SVM_NPT + TABLE_PD * PAGE) | 7);
	vmcb(0)->save.rip = L2_CODE;
	EXITS(0, SVM_EXIT_NPF);
	l1_store(PD_ENTRY(1), 0x400000 | 0xe7);
	ENDS(0);
	SAME(*l2_reg(0, RBX), B);
}

/* A page that was a table becomes L2's data, and a page of L2's becomes a table. */
static void test_reuse(void)
{
	uint64_t table = SVM_SPARE;

	memset(at(table), 0, PAGE);
	*at64(table) = PAGE_A | 7;
	*at64(PAGE_A) = A;
	*npt_entry(TABLE_PD, 1) = table | 7;
	l2_reset(0);
	L2(0, "\x48\x8b\x1c\x25\x00\x00\x20\x00");
	ENDS(0);
	SAME(*l2_reg(0, RBX), A);
	for (unsigned i = 0; i < 4; i++) {
		/* L1 takes the table away and writes data there; L2 does, too, by the page's own address. */
		s.what = "a table's page as data";
		l1_store(PD_ENTRY(1), SVM_DATA | 0xe7);
		for (unsigned j = 0; j < 8; j++)
			l1_store(table + j * 8, 0x1111 * (j + 1));
		l2_reset(0);
		L2(0, "\x48\x8b\x1c\x25\x08\x00\x08\x00\x48\x89\x0c\x25\x10\x00\x08\x00");
		*l2_reg(0, RCX) = 0x7777 + i;
		ENDS(0);
		SAME(*l2_reg(0, RBX), 0x2222);
		SAME(*at64(table + 16), 0x7777 + i);
		/* And a table again, which L2 writes itself: its next access goes by what it wrote. */
		s.what = "a table that L2 writes";
		l1_store(table, PAGE_A | 7);
		l1_store(PD_ENTRY(1), table | 7);
		*at64(PAGE_A) = A;
		*at64(PAGE_B) = B;
		l2_reset(0);
		L2(0, "\x48\x8b\x1c\x25\x00\x00\x20\x00\x48\x89\x0c\x25\x00\x00\x08\x00");
		*l2_reg(0, RCX) = PAGE_B | 7;
		ENDS(0);
		SAME(*l2_reg(0, RBX), A);
		SAME(*at64(table), PAGE_B | 7);
		l2_reset(0);
		L2(0, "\x48\x8b\x1c\x25\x00\x00\x20\x00");
		ENDS(0);
		SAME(*l2_reg(0, RBX), B);
	}
}

/* ---- the client ------------------------------------------------------------------------------------------ */

static int run_l2(void)
{
	struct kvm_regs regs = { .rip = svm_routine(svm_run), .rflags = 2, .rsp = SVM_OWN + OWN_L2 };

	if (s.moves)
		svm_move();
	NEED(ioctl(s.m.vcpu[0], KVM_SET_REGS, &regs) == 0);
	NEED(ioctl(s.m.vcpu[0], KVM_RUN, 0) == 0);
	return (int)s.m.run[0]->exit_reason;
}

/* Where no slot is, L2's access is MMIO for the client, at L1's physical address. */
static void test_mmio(void)
{
	const uint64_t hole = UINT64_C(0x70000000);
	struct kvm_run *run;

	*(s.np ? npt_entry(TABLE_PT, PAGE_A >> 12) : l2_entry(TABLE_PT, PAGE_A >> 12)) = hole | 0x67;
	l2_reset(0);
	L2(0, READ_BYTES WRITE_BYTES);
	*l2_reg(0, RCX) = 0x1020304050607080;
	SAME((unsigned)run_l2(), KVM_EXIT_MMIO);
	run = s.m.run[0];
	SAME(run->mmio.phys_addr, hole);
	SAME(run->mmio.is_write, 0);
	SAME(run->mmio.len, 8);
	memcpy(run->mmio.data, "\x11\x22\x33\x44\x55\x66\x77\x01", 8);
	if (s.moves)
		svm_move();
	NEED(ioctl(s.m.vcpu[0], KVM_RUN, 0) == 0);
	run = s.m.run[0];
	SAME(run->exit_reason, KVM_EXIT_MMIO);
	SAME(run->mmio.phys_addr, hole + 8);
	SAME(run->mmio.is_write, 1);
	SAME(memcmp(run->mmio.data, "\x80\x70\x60\x50\x40\x30\x20\x10", 8), 0);
	SAME(svm_continue(0), SVM_DONE);
	SAME(vmcb(0)->control.exit_code, SVM_EXIT_VMMCALL);
	SAME(*l2_reg(0, RBX), UINT64_C(0x0177665544332211));
	/* Again, by what was remembered of it, until there is memory. */
	l2_reset(0);
	L2(0, READ_BYTES);
	SAME((unsigned)run_l2(), KVM_EXIT_MMIO);
	SAME(s.m.run[0]->mmio.phys_addr, hole);
	SAME(svm_continue(0), SVM_DONE);
	*at64(PAGE_B) = B;
	NEED(machine_slot(s.m.vm, 1, 0, hole, PAGE, at(PAGE_B)) == 0);
	if (s.moves)
		return; /* the next VM would not have the slot */
	SAME(l2_reads(), B);
	NEED(machine_slot(s.m.vm, 1, 0, hole, 0, at(PAGE_B)) == 0);
	l2_reset(0);
	L2(0, READ_BYTES);
	SAME((unsigned)run_l2(), KVM_EXIT_MMIO);
	SAME(svm_continue(0), SVM_DONE);
}

/* L2 at the local APIC, which L1 has mapped for it. */
static void test_apic(void)
{
	L2(0, "\xb8\xf0\x00\xe0\xfe\x8b\x18\xb8\x80\x00\xe0\xfe\xc7\x00\x20\x00\x00\x00");
	ENDS(0);
	SAME(*l2_reg(0, RBX), 0x1ef);
	SAME(lapic_word(0, 0x80), 0x20);
}

/* A slot goes and comes back elsewhere while L2 has its pages mapped. */
static void test_slots(void)
{
	uint8_t *memory = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const uint64_t gpa = UINT64_C(0x50000000);

	NEED(memory != MAP_FAILED);
	memory[0] = 0xaa;
	memory[2 * PAGE] = 0xbb;
	*(s.np ? npt_entry(TABLE_PT, PAGE_A >> 12) : l2_entry(TABLE_PT, PAGE_A >> 12)) = gpa | 0x67;
	for (unsigned i = 0; i < 3; i++) {
		NEED(machine_slot(s.m.vm, 1, 0, gpa, 2 * PAGE, memory) == 0);
		SAME(l2_reads() & 0xff, 0xaa);
		SAME(l2_writes(0x1234 + i), SVM_EXIT_VMMCALL);
		SAME(*(uint64_t *)(void *)(memory + 8), 0x1234 + i);
		NEED(machine_slot(s.m.vm, 1, 0, gpa, 0, memory) == 0);
		l2_reset(0);
		L2(0, READ_BYTES);
		SAME((unsigned)run_l2(), KVM_EXIT_MMIO);
		SAME(svm_continue(0), SVM_DONE);
		NEED(machine_slot(s.m.vm, 1, 0, gpa, 2 * PAGE, memory + 2 * PAGE) == 0);
		SAME(l2_reads() & 0xff, 0xbb);
		NEED(machine_slot(s.m.vm, 1, 0, gpa, 0, memory) == 0);
		/* Read-only: a store is MMIO. */
		NEED(machine_slot(s.m.vm, 1, KVM_MEM_READONLY, gpa, 2 * PAGE, memory) == 0);
		SAME(l2_reads() & 0xff, 0xaa);
		l2_reset(0);
		L2(0, WRITE_BYTES);
		SAME((unsigned)run_l2(), KVM_EXIT_MMIO);
		SAME(s.m.run[0]->mmio.is_write, 1);
		SAME(s.m.run[0]->mmio.phys_addr, gpa + 8);
		SAME(svm_continue(0), SVM_DONE);
		NEED(machine_slot(s.m.vm, 1, 0, gpa, 0, memory) == 0);
	}
	/* The client unmaps the page behind the VM's back (MADV_DONTNEED). */
	NEED(machine_slot(s.m.vm, 1, 0, gpa, 2 * PAGE, memory) == 0);
	SAME(l2_reads() & 0xff, 0xaa);
	NEED(madvise(memory, PAGE, MADV_DONTNEED) == 0);
	SAME(l2_reads(), 0);
	SAME(l2_writes(0x99), SVM_EXIT_VMMCALL);
	SAME(*(uint64_t *)(void *)(memory + 8), 0x99);
	munmap(memory, 4 * PAGE);
}

/* ---- the dirty log --------------------------------------------------------------------------------------- */

static uint64_t bitmap[SVM_BYTES / 4096 / 64];

static void log_get(void)
{
	struct kvm_dirty_log log = { .slot = 0, .dirty_bitmap = bitmap };

	NEED(ioctl(s.m.vm, KVM_GET_DIRTY_LOG, &log) == 0);
}

static bool dirty(uint64_t address)
{
	return bitmap[address >> 18] >> (address >> 12 & 63) & 1;
}

/* What L2 writes is dirty, as L1's page; what it reads is not. A large page is logged by pages of 4 KiB. */
static void test_dirty(void)
{
	begin();
	SAME(l2_writes(1), SVM_EXIT_VMMCALL);
	NEED(machine_slot(s.m.vm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, s.m.bytes, s.m.memory) == 0);
	log_get();
	for (unsigned i = 0; i < 3; i++) {
		SAME(l2_reads(), A);
		log_get();
		SAME(dirty(PAGE_A), 0);
		SAME(l2_writes(2 + i), SVM_EXIT_VMMCALL);
		SAME(*at64(PAGE_A + 8), 2 + i);
		log_get();
		SAME(dirty(PAGE_A), 1);
		SAME(dirty(PAGE_B), 0);
		log_get();
		SAME(dirty(PAGE_A), 0);
		/* In the 2 MiB page. */
		l2_reset(0);
		L2(0, "\x48\x89\x0c\x25\x08\x30\x20\x00");
		ENDS(0);
		log_get();
		SAME(dirty(SVM_DATA + 0x3000), 1);
		SAME(dirty(SVM_DATA + 0x2000), 0);
		SAME(dirty(SVM_DATA + 0x4000), 0);
	}
	/* The VMCB is dirty by VMRUN, and so is L1's nested table where an A or D bit comes. */
	log_get();
	SAME(l2_reads(), A);
	log_get();
	SAME(dirty(SVM_VMCB), 1);
	if (s.np) {
		npt_entry_set(TABLE_PT, PAGE_A >> 12, PAGE_A | 7);
		log_get();
		SAME(l2_writes(9), SVM_EXIT_VMMCALL);
		log_get();
		SAME(dirty(SVM_NPT + TABLE_PT * PAGE), 1);
		SAME(dirty(PAGE_A), 1);
	}
	/* The log ends: L2 goes on. */
	NEED(machine_slot(s.m.vm, 0, 0, 0, s.m.bytes, s.m.memory) == 0);
	SAME(l2_writes(10), SVM_EXIT_VMMCALL);
	SAME(*at64(PAGE_A + 8), 10);
}

/* L1 and L2 write the same page by turns: it is dirty by either. */
static void test_dirty_both(void)
{
	begin();
	NEED(machine_slot(s.m.vm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, s.m.bytes, s.m.memory) == 0);
	for (unsigned i = 0; i < 3; i++) {
		log_get();
		l1_store(PAGE_A + 16, i);
		log_get();
		SAME(dirty(PAGE_A), 1);
		SAME(l2_writes(i), SVM_EXIT_VMMCALL);
		log_get();
		SAME(dirty(PAGE_A), 1);
		l1_store(PAGE_A + 16, i);
		SAME(l2_writes(i), SVM_EXIT_VMMCALL);
		log_get();
		SAME(dirty(PAGE_A), 1);
		log_get();
		SAME(dirty(PAGE_A), 0);
	}
}

/* The ring of the vCPU that runs L2 has each page that L2 writes, once until the client resets it. */
static unsigned ring_next;

/* Takes all entries and resets them. Returns: was `address` among them? */
static bool ring_has(struct kvm_dirty_gfn *ring, uint64_t address)
{
	const unsigned size = SVM_RING_BYTES / sizeof(*ring);
	unsigned count = 0;
	bool found = false;

	for (;; ring_next++) {
		struct kvm_dirty_gfn *entry = &ring[ring_next % size];

		if (__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) != KVM_DIRTY_GFN_F_DIRTY)
			break;
		found |= entry->offset == address >> 12;
		__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
		count++;
	}
	SAME((unsigned)ioctl(s.m.vm, KVM_RESET_DIRTY_RINGS), count);
	return found;
}

static void test_ring(void)
{
	struct kvm_dirty_gfn *ring = mmap(NULL, SVM_RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, s.m.vcpu[0],
	                                  KVM_DIRTY_LOG_PAGE_OFFSET * PAGE);

	NEED(ring != MAP_FAILED);
	ring_next = 0;
	begin();
	SAME(l2_writes(1), SVM_EXIT_VMMCALL);
	SAME(ring_has(ring, PAGE_A), 1);
	for (unsigned i = 0; i < 3; i++) {
		SAME(l2_reads(), A);
		SAME(ring_has(ring, PAGE_A), 0);
		SAME(l2_writes(i), SVM_EXIT_VMMCALL);
		SAME(*at64(PAGE_A + 8), i);
		SAME(ring_has(ring, PAGE_A), 1);
		SAME(l2_writes(i), SVM_EXIT_VMMCALL);
		SAME(l2_writes(i), SVM_EXIT_VMMCALL);
		SAME(ring_has(ring, PAGE_A), 1);
		SAME(ring_has(ring, PAGE_A), 0);
	}
	munmap(ring, SVM_RING_BYTES);
}

/* ---- two vCPUs ------------------------------------------------------------------------------------------- */

/* Both add to one word, in L2, on the same nested table. */
static void test_two(void)
{
	/* ecx = 20000: lock incl (PAGE_A + 0x20); loop */
	static const char add[] = L2_MARK "\xb9\x20\x4e\x00\x00\xf0\xff\x04\x25\x20\x80\x05\x00\xe2\xf6";

	for (unsigned i = 0; i < 3; i++) {
		*at64(PAGE_A + 0x20) = 0;
		for (unsigned v = 0; v < SVM_VCPUS; v++) {
			l2_reset(v);
			l2_code(v, add, sizeof(add) - 1);
			vmcb(v)->control.asid = i & 1 ? 1 : 1 + v;
		}
		for (unsigned v = 0; v < SVM_VCPUS; v++)
			svm_begin(v);
		for (unsigned v = 0; v < SVM_VCPUS; v++)
			SAME(svm_end(v), SVM_EXIT_VMMCALL);
		SAME(*at64(PAGE_A + 0x20), 40000);
	}
}

/*
 * L1 on vCPU 1 edits the table while L2 runs on vCPU 0, then sends an interrupt there: L1 on vCPU 0 runs L2 again with
 * a flush, and L2 must see the new page.
 */
static void test_edit_beside(void)
{
	/* mov (PAGE_A), %rbx; mov %rbx, %gs:0x108; jmp back unless the mark is 2 */
	static const char watch[] = L2_MARK READ_BYTES "\x65\x48\x89\x1c\x25\x08\x01\x00\x00"
		"\x65\x80\x3c\x25\x00\x01\x00\x00\x02\x75\xe4";

	begin();
	l2_reset(0);
	*own64(0, OWN_FLAGS) = SVM_LOOP;
	*own64(0, OWN_MARK + 8) = A;
	vmcb(0)->save.rflags = 0x202;
	intercept(0, SVM_EXIT_INTR);
	l2_code(0, watch, sizeof(watch) - 1);
	svm_begin(0);
	wait_for_mark(0);
	for (unsigned i = 0; i < 50; i++) {
		uint64_t page = i & 1 ? PAGE_A : PAGE_B, tries = 0;
		uint8_t code[] = { 0xb8, 0, 0, 0, 0, 0x48, 0xa3, 0, 0, 0, 0, 0, 0, 0, 0 };
		uint64_t entry = s.np ? ENTRY : L2_TABLES + TABLE_PT * PAGE + (PAGE_A >> 12) * 8, value = page | 0x67;

		memcpy(code + 1, &value, 4);
		memcpy(code + 7, &entry, 8);
		SAME(l1_code(1, 0, code, sizeof(code)), 0);
		NEED(svm_msi(0, 0x62) >= 0);
		while (__atomic_load_n(own64(0, OWN_MARK + 8), __ATOMIC_ACQUIRE) != (i & 1 ? A : B) && tries++ < 50000)
			usleep(100);
		SAME(tries < 50000, 1);
	}
	__atomic_store_n((uint8_t *)own64(0, OWN_MARK), 2, __ATOMIC_RELEASE);
	SAME(svm_end(0), SVM_EXIT_VMMCALL);
}

/* The client takes the dirty log, again and again, while L2 writes: no write is lost. */
static void test_dirty_beside(void)
{
	/* rcx counts up: mov %rcx, (PAGE_A + 8); inc %rcx; until the mark is 2 */
	static const char count[] = L2_MARK WRITE_BYTES "\x48\xff\xc1\x65\x80\x3c\x25\x00\x01\x00\x00\x02\x75\xea";
	uint64_t last = 0;

	NEED(machine_slot(s.m.vm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, s.m.bytes, s.m.memory) == 0);
	l2_reset(0);
	l2_code(0, count, sizeof(count) - 1);
	svm_begin(0);
	wait_for_mark(0);
	for (unsigned i = 0; i < 200; i++) {
		uint64_t now;

		log_get();
		now = __atomic_load_n(at64(PAGE_A + 8), __ATOMIC_ACQUIRE);
		if (i && now != last && !dirty(PAGE_A)) {
			/* It may have been written after the log was taken: then it is dirty in the next. */
			log_get();
			SAME(dirty(PAGE_A), 1);
		}
		last = __atomic_load_n(at64(PAGE_A + 8), __ATOMIC_ACQUIRE);
	}
	__atomic_store_n((uint8_t *)own64(0, OWN_MARK), 2, __ATOMIC_RELEASE);
	SAME(svm_end(0), SVM_EXIT_VMMCALL);
	SAME(*at64(PAGE_A + 8), *l2_reg(0, RCX) - 1);
}

/* ---- moving ---------------------------------------------------------------------------------------------- */

/* The machine moves in L2, between any two of its instructions that are OUTs. */
static void test_move(void)
{
	begin();
	l2_reset(0);
	L2(0, L2_MOVE READ_BYTES L2_MOVE WRITE_BYTES L2_MOVE L2_MOVE "\x0f\xa2" L2_MOVE);
	*l2_reg(0, RCX) = 0x99;
	ENDS(0);
	SAME(*at64(PAGE_A + 8), 0x99);
	/* In a handler, with a virtual interrupt pending, and with L1's interrupt flag set. */
	l2_reset(0);
	*own64(0, OWN_FLAGS) = SVM_HOST_IF;
	L2(0, L2_MOVE "\xcd\x80" L2_MOVE "\xfb" L2_MOVE);
	memcpy(at(L2_COMMON), L2_MOVE "\x0f\x01\xd9", 5);
	vmcb(0)->control.virtual_interrupt = VIRQ(0x45, 4, 0) | V_INTR_MASKING;
	SAME(svm_go(0), SVM_EXIT_VMMCALL);
	SAME(l2_frame(0)->vector, 0x80);
	SAME((vmcb(0)->control.virtual_interrupt & V_IRQ) != 0, 1);
	SAME(*own64(0, OWN_RFLAGS) & ~STATUS, 0x202);
}

static const struct svm_test tests[] = {
	{ "edit", test_edit, SVM_NP_ONLY },
	{ "levels", test_levels, SVM_NP_ONLY },
	{ "reuse", test_reuse, SVM_NP_ONLY },
	{ "mmio", test_mmio, 0 },
	{ "apic", test_apic, 0 },
	{ "slots", test_slots, SVM_STAYS },
	{ "dirty", test_dirty, SVM_STAYS },
	{ "dirty by both", test_dirty_both, SVM_STAYS },
	{ "ring", test_ring, SVM_STAYS | SVM_RING },
	{ "two", test_two, 0 },
	{ "edit beside", test_edit_beside, SVM_STAYS },
	{ "dirty beside", test_dirty_beside, SVM_STAYS },
	{ "move", test_move, 0 },
};

int main(int argc, char **argv)
{
	int bad = svm_tests(tests, sizeof(tests) / sizeof(tests[0]), argc > 1 ? argv + 1 : NULL);

	return check_end() ? 1 : bad;
}
