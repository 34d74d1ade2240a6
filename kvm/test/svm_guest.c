/* SPDX-License-Identifier: MIT */
/* Guests for the tests of AMD SVM; see svm_guest.h. */
#include "svm_guest.h"
#include <signal.h>

#define LIMIT 120 /* seconds until a test that waits is called hung */
#define NOT_OFFERED 77

struct svm s;
struct svm_features features;

static struct {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entry[100];
} cpuid;

/* ---- memory ---------------------------------------------------------------------------------------------- */

void *at(uint64_t address)
{
	NEED(address < s.m.bytes);
	return s.m.memory + address;
}

uint64_t *at64(uint64_t address)
{
	return at(address);
}

struct vmcb *vmcb(unsigned v)
{
	return at(SVM_VMCB + v * PAGE);
}

uint64_t *own64(unsigned v, unsigned offset)
{
	return at64(SVM_OWN + v * PAGE + offset);
}

uint64_t *l2_entry(unsigned page, unsigned index)
{
	return at64(L2_TABLES + page * PAGE + index * 8);
}

uint64_t *npt_entry(unsigned page, unsigned index)
{
	return at64(SVM_NPT + page * PAGE + index * 8);
}

/* 4 GiB one to one, for user and supervisor. `fine`: the first 2 MiB by 4 KiB pages. */
static void tables_make(uint32_t base, bool fine)
{
	uint64_t *table = at64(base);

	memset(table, 0, TABLE_PAGES * PAGE);
	table[0] = (base + TABLE_PDPT * PAGE) | 0x67;
	for (unsigned i = 0; i < 4; i++)
		table[TABLE_PDPT * 512 + i] = (base + (TABLE_PD + i) * PAGE) | 0x67;
	for (uint64_t i = 0; i < 2048; i++)
		table[TABLE_PD * 512 + i] = i << 21 | 0xe7;
	if (fine)
		table[TABLE_PD * 512] = (base + TABLE_PT * PAGE) | 0x67;
	for (uint64_t i = 0; fine && i < 512; i++)
		table[TABLE_PT * 512 + i] = i << 12 | 0x67;
}

void l2_tables_make(void)
{
	tables_make(L2_TABLES, true);
}

void npt_make(void)
{
	tables_make(SVM_NPT, true);
}

uint64_t svm_routine(const uint8_t *routine)
{
	return SVM_TEXT + (uint64_t)(routine - svm_text);
}

static void gate(uint32_t idt, unsigned vector, uint32_t handler)
{
	const uint16_t words[8] = { (uint16_t)handler, 8, 0xee00, (uint16_t)(handler >> 16) };

	memcpy(at(idt + vector * 16), words, sizeof(words));
}

static bool has_error(unsigned vector)
{
	/* #DF, #TS .. #PF, #AC, #CP, #VC, #SX */
	return vector < 32 && UINT32_C(0x60227d00) >> vector & 1;
}

/* A stub: push 0 where the CPU pushes no error code, push the vector, jump to `common`. */
static void stub(uint32_t stubs, uint32_t idt, unsigned vector, uint32_t common)
{
	uint8_t code[12] = { 0x6a, 0, 0x68, (uint8_t)vector, 0, 0, 0, 0xe9 };
	uint32_t start = stubs + vector * 16, distance = common - (start + 12);

	memcpy(code + 8, &distance, 4);
	memcpy(at(start), code, sizeof(code));
	gate(idt, vector, has_error(vector) ? start + 2 : start);
}

static void memory_make(void)
{
	static const uint64_t gdt[] = { 0, UINT64_C(0x00af9b000000ffff), UINT64_C(0x00cf93000000ffff),
		UINT64_C(0x00cffb000000ffff), UINT64_C(0x00cff3000000ffff), UINT64_C(0x00affb000000ffff),
		UINT64_C(0x00008b0048000067), 0, UINT64_C(0x00cf9b000000ffff) };
	static const uint8_t l2_common[] = { 0x0f, 0x01, 0xd9, 0x48, 0x83, 0xc4, 16, 0x48, 0xcf };
	uint64_t tss = UINT64_C(0x00008b0558000067);

	s.m.bytes = SVM_BYTES;
	s.m.memory = mmap(NULL, s.m.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(s.m.memory != MAP_FAILED);
	NEED(svm_text_end - svm_text <= (long)(SVM_STUBS - SVM_TEXT));
	memcpy(at(SVM_TEXT), svm_text, (size_t)(svm_text_end - svm_text));
	memcpy(at(SVM_GDT), gdt, sizeof(gdt));
	memcpy(at(L2_GDT), gdt, sizeof(gdt));
	memcpy(at(L2_GDT + 48), &tss, 8);
	*(uint32_t *)at(SVM_TSS + 4) = SVM_STACKS + 0x1000;
	*(uint32_t *)at(L2_TSS + 4) = L2_STACK + 0x800;
	*(uint16_t *)at(SVM_TSS + 0x66) = *(uint16_t *)at(L2_TSS + 0x66) = 0x68; /* no map of ports */
	tables_make(SVM_TABLES, false);
	l2_tables_make();
	npt_make();
	memcpy(at(L2_COMMON), l2_common, sizeof(l2_common));
	for (unsigned vector = 0; vector < 256; vector++) {
		stub(SVM_STUBS, SVM_IDT, vector, (uint32_t)svm_routine(svm_common));
		stub(L2_STUBS, L2_IDT, vector, L2_COMMON);
	}
}

/* ---- the machine ----------------------------------------------------------------------------------------- */

static struct kvm_segment flat(uint16_t selector, uint8_t type, uint64_t base)
{
	return (struct kvm_segment){
		.base = base, .limit = UINT32_MAX, .selector = selector, .type = type, .present = 1, .s = 1, .g = 1,
		.l = selector == 8, .db = selector != 8,
	};
}

struct kvm_sregs sregs_get(unsigned v)
{
	struct kvm_sregs sregs;

	NEED(ioctl(s.m.vcpu[v], KVM_GET_SREGS, &sregs) == 0);
	return sregs;
}

bool same_segment(const struct kvm_segment *a, const struct kvm_segment *b)
{
	return a->selector == b->selector && a->base == b->base && a->limit == b->limit && a->type == b->type &&
	       a->dpl == b->dpl && a->l == b->l && a->db == b->db && a->present == b->present;
}

uint64_t top_bit(void)
{
	return UINT64_C(1) << (features.la57 ? 56 : 47);
}

void sregs_set(unsigned v, const struct kvm_sregs *sregs)
{
	NEED(ioctl(s.m.vcpu[v], KVM_SET_SREGS, sregs) == 0);
}

static void vcpu_start(unsigned v)
{
	struct kvm_sregs sregs = sregs_get(v);

	sregs.cs = flat(8, 11, 0);
	sregs.ds = sregs.es = sregs.fs = sregs.ss = flat(16, 3, 0);
	sregs.gs = flat(16, 3, SVM_OWN + v * PAGE);
	sregs.gdt.base = SVM_GDT;
	sregs.gdt.limit = 0x4f;
	sregs.idt.base = SVM_IDT;
	sregs.idt.limit = 0xfff;
	sregs.tr = (struct kvm_segment){ .selector = 48, .type = 11, .present = 1, .base = SVM_TSS, .limit = 0x67 };
	sregs.ldt = (struct kvm_segment){ .unusable = 1 };
	sregs.cr0 = 0x80050033; /* PG AM WP NE ET MP PE */
	sregs.cr3 = SVM_TABLES;
	sregs.cr4 = 0x6a0; /* OSXMMEXCPT OSFXSR PGE PAE */
	sregs.efer = 0x1d01; /* SVME NX LMA LME SCE */
	sregs_set(v, &sregs);
	NEED(msr_set(v, MSR_HSAVE_PA, SVM_HSAVE + v * PAGE));
}

static void lapic_enable(unsigned v)
{
	struct kvm_lapic_state state;
	uint32_t spurious = 0x1ef;

	NEED(ioctl(s.m.vcpu[v], KVM_GET_LAPIC, &state) == 0);
	memcpy(state.regs + 0xf0, &spurious, 4);
	NEED(ioctl(s.m.vcpu[v], KVM_SET_LAPIC, &state) == 0);
}

static void vm_make(void)
{
	struct kvm_enable_cap ring = { .cap = KVM_CAP_DIRTY_LOG_RING, .args = { SVM_RING_BYTES } };
	struct kvm_mp_state runnable = { KVM_MP_STATE_RUNNABLE };

	s.m.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	NEED(s.m.kvm >= 0);
	s.m.vm = ioctl(s.m.kvm, KVM_CREATE_VM, 0);
	NEED(s.m.vm >= 0);
	NEED(ioctl(s.m.vm, KVM_CREATE_IRQCHIP, 0) == 0);
	NEED(!s.ring || ioctl(s.m.vm, KVM_ENABLE_CAP, &ring) == 0);
	NEED(machine_slot(s.m.vm, 0, s.ring ? KVM_MEM_LOG_DIRTY_PAGES : 0, 0, s.m.bytes, s.m.memory) == 0);
	for (unsigned v = 0; v < SVM_VCPUS; v++) {
		s.m.vcpu[v] = ioctl(s.m.vm, KVM_CREATE_VCPU, (unsigned long)v);
		NEED(s.m.vcpu[v] >= 0 && ioctl(s.m.vcpu[v], KVM_SET_CPUID2, &cpuid) == 0);
		s.m.run[v] = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, s.m.vcpu[v], 0);
		NEED(s.m.run[v] != MAP_FAILED);
		NEED(ioctl(s.m.vcpu[v], KVM_SET_MP_STATE, &runnable) == 0);
	}
}

/* ---- moving ---------------------------------------------------------------------------------------------- */

struct msrs {
	struct kvm_msrs head;
	struct kvm_msr_entry entry[1];
};

uint64_t msr_get(unsigned v, uint32_t index)
{
	struct msrs msrs = { .head.nmsrs = 1, .entry = { { .index = index } } };

	NEED(ioctl(s.m.vcpu[v], KVM_GET_MSRS, &msrs) == 1);
	return msrs.entry[0].data;
}

static bool msr_write(int vcpu, uint32_t index, uint64_t value)
{
	struct msrs msrs = { .head.nmsrs = 1, .entry = { { .index = index, .data = value } } };

	return ioctl(vcpu, KVM_SET_MSRS, &msrs) == 1;
}

bool msr_set(unsigned v, uint32_t index, uint64_t value)
{
	return msr_write(s.m.vcpu[v], index, value);
}

/* The MSRs that this KVM lists, in its order; the deadline is the LAPIC's and comes behind it. */
static void msrs_copy(int from, int to)
{
	static struct {
		struct kvm_msr_list head;
		uint32_t index[512];
	} list;

	list.head.nmsrs = 512;
	NEED(ioctl(s.m.kvm, KVM_GET_MSR_INDEX_LIST, &list) == 0);
	for (unsigned i = 0; i < list.head.nmsrs; i++) {
		struct msrs msrs = { .head.nmsrs = 1, .entry = { { .index = list.index[i] } } };

		if (list.index[i] == 0x6e0 || ioctl(from, KVM_GET_MSRS, &msrs) != 1)
			continue;
		if (!msr_write(to, list.index[i], msrs.entry[0].data) && msrs.entry[0].data) {
			fprintf(stderr, "MSR %#x does not move\n", list.index[i]);
			exit(1);
		}
	}
}

static void nested_copy(int from, int to)
{
	static union {
		struct kvm_nested_state state;
		uint8_t bytes[64 << 10];
	} nested;
	int bytes = ioctl(s.m.vm, KVM_CHECK_EXTENSION, KVM_CAP_NESTED_STATE);

	NEED(bytes > 0 && bytes <= (int)sizeof(nested));
	memset(&nested, 0, sizeof(nested));
	nested.state.size = (uint32_t)bytes;
	NEED(ioctl(from, KVM_GET_NESTED_STATE, &nested) == 0);
	NEED(ioctl(to, KVM_SET_NESTED_STATE, &nested) == 0);
}

/* In the order of QEMU. */
static void vcpu_copy(int from, int to)
{
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_debugregs debug;
	struct kvm_mp_state mp;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	NEED(ioctl(from, KVM_GET_MP_STATE, &mp) == 0);
	NEED(ioctl(from, KVM_GET_SREGS, &sregs) == 0 && ioctl(to, KVM_SET_SREGS, &sregs) == 0);
	nested_copy(from, to);
	NEED(ioctl(from, KVM_GET_REGS, &regs) == 0 && ioctl(to, KVM_SET_REGS, &regs) == 0);
	msrs_copy(from, to);
	NEED(ioctl(from, KVM_GET_LAPIC, &lapic) == 0 && ioctl(to, KVM_SET_LAPIC, &lapic) == 0);
	NEED(ioctl(from, KVM_GET_VCPU_EVENTS, &events) == 0);
	events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR;
	NEED(ioctl(to, KVM_SET_VCPU_EVENTS, &events) == 0);
	NEED(ioctl(from, KVM_GET_DEBUGREGS, &debug) == 0 && ioctl(to, KVM_SET_DEBUGREGS, &debug) == 0);
	NEED(ioctl(to, KVM_SET_MP_STATE, &mp) == 0);
}

void svm_move(void)
{
	struct machine old = s.m;

	machine_settle(&old, SVM_VCPUS);
	vm_make();
	for (unsigned v = 0; v < SVM_VCPUS; v++)
		vcpu_copy(old.vcpu[v], s.m.vcpu[v]);
	machine_close(&old, SVM_VCPUS);
}

/* ---- steps ----------------------------------------------------------------------------------------------- */

static bool threads_run(void)
{
	return __atomic_load_n(&s.threads, __ATOMIC_SEQ_CST) != 0;
}

int svm_continue(unsigned v)
{
	const struct kvm_run *run;

	for (;;) {
		if (ioctl(s.m.vcpu[v], KVM_RUN, 0) != 0) {
			fprintf(stderr, "%s: vCPU %u: KVM_RUN: %s\n", s.what, v, strerror(errno));
			return -1;
		}
		run = s.m.run[v];
		if (s.ring && run->exit_reason == KVM_EXIT_DIRTY_RING_FULL) {
			__atomic_fetch_add(&s.ring_full, 1, __ATOMIC_SEQ_CST);
			usleep(100);
			continue;
		}
		if (run->exit_reason != KVM_EXIT_IO || run->io.direction != KVM_EXIT_IO_OUT) {
			struct kvm_regs regs;

			NEED(ioctl(s.m.vcpu[v], KVM_GET_REGS, &regs) == 0);
			fprintf(stderr, "%s: vCPU %u: exit %u at %#llx\n", s.what, v, run->exit_reason, regs.rip);
			return -1;
		}
		if (run->io.port != SVM_MOVE)
			return run->io.port;
		if (s.moves && !threads_run())
			svm_move();
	}
}

int svm_step(unsigned v, uint64_t rip, uint64_t rax)
{
	struct kvm_regs regs = { .rip = rip, .rflags = 2, .rsp = SVM_OWN + v * PAGE + OWN_L2, .rax = rax };

	if (s.moves && !threads_run())
		svm_move();
	NEED(ioctl(s.m.vcpu[v], KVM_SET_REGS, &regs) == 0);
	return svm_continue(v);
}

static uint64_t go(unsigned v)
{
	int port = svm_step(v, svm_routine(svm_run), 0);

	if (port == SVM_FAULT)
		return L1_FAULT + *own64(v, OWN_VECTOR);
	if (port != SVM_DONE && port != SVM_BEHIND)
		return L1_ODD;
	return ((struct vmcb *)at(*own64(v, OWN_VMCB)))->control.exit_code;
}

uint64_t svm_go(unsigned v)
{
	return go(v);
}

static void *thread_run(void *argument)
{
	unsigned v = (unsigned)(uintptr_t)argument;

	s.result[v] = go(v);
	__atomic_store_n(&s.ended[v], true, __ATOMIC_RELEASE);
	return NULL;
}

void svm_begin(unsigned v)
{
	NEED(!s.thread[v]);
	s.ended[v] = false;
	__atomic_fetch_add(&s.threads, 1, __ATOMIC_SEQ_CST); /* before the thread, which asks */
	NEED(pthread_create(&s.thread[v], NULL, thread_run, (void *)(uintptr_t)v) == 0);
}

bool svm_runs(unsigned v)
{
	return !__atomic_load_n(&s.ended[v], __ATOMIC_ACQUIRE);
}

uint64_t svm_end(unsigned v)
{
	pthread_join(s.thread[v], NULL);
	s.thread[v] = 0;
	__atomic_fetch_sub(&s.threads, 1, __ATOMIC_SEQ_CST);
	return s.result[v];
}

uint64_t l1_code(unsigned v, uint64_t rax, const void *bytes, size_t count)
{
	static const uint8_t done[] = { 0xe6, SVM_DONE, 0xeb, 0xfe };
	int port;

	memcpy(at(SVM_CODE), bytes, count);
	memcpy(at(SVM_CODE + count), done, sizeof(done));
	port = svm_step(v, SVM_CODE, rax);
	if (port == SVM_FAULT)
		return L1_FAULT + *own64(v, OWN_VECTOR);
	return port == SVM_DONE ? 0 : L1_ODD;
}

void l1_store(uint64_t address, uint64_t value)
{
	/* movabs %rcx, movabs %rax, mov %rax, (%rcx) */
	uint8_t code[] = { 0x48, 0xb9, 0, 0, 0, 0, 0, 0, 0, 0, 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0x48, 0x89, 0x01 };

	bool moves = s.moves;

	memcpy(code + 2, &address, 8);
	memcpy(code + 12, &value, 8);
	s.moves = false; /* it is not what is tested */
	NEED(l1_code(0, 0, code, sizeof(code)) == 0);
	s.moves = moves;
}

void l2_entry_set(unsigned page, unsigned index, uint64_t value)
{
	l1_store(L2_TABLES + page * PAGE + index * 8, value);
}

void npt_entry_set(unsigned page, unsigned index, uint64_t value)
{
	l1_store(SVM_NPT + page * PAGE + index * 8, value);
}

void svm_take(unsigned v)
{
	if (svm_step(v, svm_routine(svm_stgi), 0) != SVM_DONE || svm_step(v, svm_routine(svm_window), 0) != SVM_DONE)
		fprintf(stderr, "%s: L1 does not take interrupts\n", s.what);
}

unsigned own_count(unsigned v)
{
	return (unsigned)__atomic_load_n((uint32_t *)at(SVM_OWN + v * PAGE + OWN_COUNT), __ATOMIC_ACQUIRE);
}

/* ---- the client ------------------------------------------------------------------------------------------ */

int svm_msi(unsigned v, uint32_t data)
{
	struct kvm_msi in = { .address_lo = 0xfee00000 | v << 12, .data = data };

	return ioctl(s.m.vm, KVM_SIGNAL_MSI, &in);
}

uint32_t lapic_word(unsigned v, unsigned reg)
{
	struct kvm_lapic_state state;
	uint32_t value;

	NEED(ioctl(s.m.vcpu[v], KVM_GET_LAPIC, &state) == 0);
	memcpy(&value, state.regs + reg, 4);
	return value;
}

bool lapic_bit(unsigned v, unsigned reg, unsigned vector)
{
	return lapic_word(v, reg + vector / 32 * 16) >> vector % 32 & 1;
}

void wait_for_mark(unsigned v)
{
	while (!__atomic_load_n((uint8_t *)at(SVM_OWN + v * PAGE + OWN_MARK), __ATOMIC_ACQUIRE))
		usleep(200);
}

/* ---- running the tests ----------------------------------------------------------------------------------- */

static char name_of_run[128];

static void on_alarm(int number)
{
	(void)number;
	dprintf(2, "%s: %s: hangs\n", name_of_run, s.what);
	_exit(1);
}

static void test_run(const struct svm_test *test, bool np, bool moves)
{
	memset(&s, 0, sizeof(s));
	s.np = np;
	s.moves = moves;
	s.ring = test->flags & SVM_RING;
	snprintf(name_of_run, sizeof(name_of_run), "%s%s%s", test->name, np ? ", nested paging" : "",
	         moves ? ", moving" : "");
	s.what = name_of_run;
	alarm(LIMIT);
	memory_make();
	vm_make();
	for (unsigned v = 0; v < SVM_VCPUS; v++) {
		vcpu_start(v);
		lapic_enable(v);
		l2_reset(v);
	}
	test->run();
	machine_close(&s.m, SVM_VCPUS);
	munmap(s.m.memory, s.m.bytes);
	alarm(0);
}

static const struct kvm_cpuid_entry2 *leaf(uint32_t function)
{
	for (unsigned i = 0; i < cpuid.head.nent; i++)
		if (cpuid.entry[i].function == function && cpuid.entry[i].index == 0)
			return &cpuid.entry[i];
	return NULL;
}

static void features_get(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	const struct kvm_cpuid_entry2 *entry;

	NEED(kvm >= 0);
	cpuid.head.nent = 100;
	NEED(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) == 0);
	close(kvm);
	entry = leaf(0x80000001);
	features.svm = entry && entry->ecx >> 2 & 1;
	features.gbpages = entry && entry->edx >> 26 & 1;
	entry = leaf(1);
	features.xsave = entry && entry->ecx >> 26 & 1;
	entry = leaf(7);
	features.la57 = entry && entry->ecx >> 16 & 1;
	entry = leaf(0x80000008);
	features.phys_bits = entry ? entry->eax & 0xff : 36;
	entry = features.svm ? leaf(0x8000000a) : NULL;
	if (!entry)
		return;
	features.asids = entry->ebx;
	features.np = entry->edx & 1;
	features.nrip = entry->edx >> 3 & 1;
	features.flush_asid = entry->edx >> 6 & 1;
	features.decode = entry->edx >> 7 & 1;
	features.pause_filter = entry->edx >> 10 & 1;
	features.pause_threshold = entry->edx >> 12 & 1;
	features.virtual_vmload = entry->edx >> 15 & 1;
	features.vgif = entry->edx >> 16 & 1;
}

/* A processor of AMD's, or of its licensees. */
static bool vendor_has_svm(void)
{
	const struct kvm_cpuid_entry2 *entry = leaf(0);

	return entry && (entry->ecx == 0x444d4163 || entry->ecx == 0x656e6975);
}

static bool named(char **names, const char *name)
{
	for (; names && *names; names++)
		if (!strcmp(*names, name))
			return true;
	return false;
}

int svm_tests(const struct svm_test *tests, unsigned count, char **arguments)
{
	bool lenient = named(arguments, "any-kvm");
	char **names = lenient ? arguments + 1 : arguments;
	unsigned ran = 0;

	features_get();
	if (!features.svm) {
		fprintf(stderr, "no SVM here\n");
		return lenient || !vendor_has_svm() ? NOT_OFFERED : 1;
	}
	signal(SIGALRM, on_alarm);
	for (unsigned i = 0; i < count; i++) {
		const struct svm_test *test = &tests[i];

		if (names && *names && !named(names, test->name))
			continue;
		for (unsigned way = 0; way < 4; way++) {
			bool np = way & 1, moves = way & 2;

			if (np ? !features.np || (test->flags & SVM_PLAIN) : test->flags & SVM_NP_ONLY)
				continue;
			if (moves && (test->flags & SVM_STAYS))
				continue;
			test_run(test, np, moves);
			ran++;
		}
	}
	return ran ? 0 : NOT_OFFERED;
}
