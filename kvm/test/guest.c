/* SPDX-License-Identifier: MIT */
/* Guests for the tests of the interrupt chips; see guest.h. */
#include "guest.h"
#include <pthread.h>
#include <signal.h>
#include <time.h>

#define GDT 0x500u
#define TSS 0x600u
#define IDT 0x4000u

#define LIMIT 120 /* seconds until a test that waits is called hung */

struct guest g;

static const char *running;
static _Thread_local struct kvm_run *own_run;

/* ---- making ---------------------------------------------------------------------------------------------- */

static void gate(unsigned vector, uint32_t handler)
{
	const uint16_t words[8] = { (uint16_t)handler, 8, 0x8e00, (uint16_t)(handler >> 16) };

	memcpy(g.m.memory + IDT + vector * 16, words, sizeof(words));
}

static uint32_t text(const uint8_t *routine)
{
	return GUEST_TEXT + (uint32_t)(routine - guest_text);
}

/* A stub: push the vector, jump to guest_common. */
static void stub(unsigned vector)
{
	uint32_t at = GUEST_STUBS + vector * 16, distance = text(guest_common) - (at + 10);
	uint8_t code[10] = { 0x68, (uint8_t)vector, 0, 0, 0, 0xe9 };

	memcpy(code + 6, &distance, 4);
	memcpy(g.m.memory + at, code, sizeof(code));
	gate(vector, vector == 13 ? text(guest_fault) : at);
}

/* The first 4 GiB, one to one, by 2 MiB pages. */
static void tables_make(void)
{
	uint64_t *table = (uint64_t *)(void *)(g.m.memory + GUEST_TABLES);

	table[0] = (GUEST_TABLES + PAGE) | 0x67;
	for (unsigned i = 0; i < 4; i++)
		table[512 + i] = (GUEST_TABLES + (2 + i) * PAGE) | 0x67;
	for (uint64_t i = 0; i < 2048; i++)
		table[1024 + i] = i << 21 | 0xe7;
}

static void memory_make(void)
{
	static const uint64_t gdt[] = { 0, UINT64_C(0x00af9a000000ffff), UINT64_C(0x00cf92000000ffff) };

	g.m.bytes = GUEST_BYTES;
	g.m.memory = mmap(NULL, g.m.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(g.m.memory != MAP_FAILED);
	NEED(guest_text_end - guest_text <= (long)(GUEST_STUBS - GUEST_TEXT));
	memcpy(g.m.memory + GDT, gdt, sizeof(gdt));
	tables_make();
	memcpy(g.m.memory + GUEST_TEXT, guest_text, (size_t)(guest_text_end - guest_text));
	for (unsigned i = 0; i < 2; i++)
		memcpy(g.m.memory + GUEST_REAL + i * PAGE, guest_real, (size_t)(guest_real_end - guest_real));
	for (unsigned v = 0; v < 256; v++)
		stub(v);
}

static struct kvm_segment flat(uint16_t selector, uint8_t type, uint64_t base)
{
	return (struct kvm_segment){
		.base = base, .limit = UINT32_MAX, .selector = selector, .type = type, .present = 1, .s = 1, .g = 1,
		.l = selector == 8, .db = selector != 8,
	};
}

/* Long mode, with GS at the vCPU's own page. */
static void vcpu_start(unsigned v)
{
	struct kvm_sregs sregs;

	NEED(ioctl(g.m.vcpu[v], KVM_GET_SREGS, &sregs) == 0);
	sregs.cs = flat(8, 11, 0);
	sregs.ds = sregs.es = sregs.fs = sregs.ss = flat(16, 3, 0);
	sregs.gs = flat(16, 3, GUEST_OWN + v * PAGE);
	sregs.gdt.base = GDT;
	sregs.gdt.limit = 23;
	sregs.idt.base = IDT;
	sregs.idt.limit = 0xfff;
	sregs.tr = (struct kvm_segment){ .selector = 24, .type = 11, .present = 1, .base = TSS, .limit = 0x67 };
	sregs.ldt = (struct kvm_segment){ .unusable = 1 };
	sregs.cr0 = 0x80050033; /* PG AM WP NE ET MP PE */
	sregs.cr3 = GUEST_TABLES;
	sregs.cr4 = 0x6a0; /* OSXMMEXCPT OSFXSR PGE PAE */
	sregs.efer = 0xd01; /* NX LMA LME SCE */
	NEED(ioctl(g.m.vcpu[v], KVM_SET_SREGS, &sregs) == 0);
}

static void chips_make(void)
{
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };

	if (g.chips == CHIPS_SPLIT) {
		NEED(ioctl(g.m.vm, KVM_ENABLE_CAP, &split) == 0);
		return;
	}
	NEED(ioctl(g.m.vm, KVM_CREATE_IRQCHIP, 0) == 0);
	NEED(g.chips != CHIPS_PIT || ioctl(g.m.vm, KVM_CREATE_PIT2, &pit) == 0);
}

/* A VM around the memory of the machine. */
static void vm_make(void)
{
	static struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entry[100];
	} cpuid;
	struct kvm_mp_state runnable = { KVM_MP_STATE_RUNNABLE };

	g.m.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	NEED(g.m.kvm >= 0);
	g.m.vm = ioctl(g.m.kvm, KVM_CREATE_VM, 0);
	NEED(g.m.vm >= 0);
	chips_make();
	NEED(machine_slot(g.m.vm, 0, 0, 0, g.m.bytes, g.m.memory) == 0);
	cpuid.head.nent = 100;
	NEED(ioctl(g.m.kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) == 0);
	for (unsigned i = 0; i < cpuid.head.nent; i++)
		if (cpuid.entry[i].function == 1)
			cpuid.entry[i].ecx |= 1u << 21 | 1u << 24; /* x2APIC, TSC deadline */
	for (unsigned v = 0; v < g.vcpus; v++) {
		g.m.vcpu[v] = ioctl(g.m.vm, KVM_CREATE_VCPU, (unsigned long)v);
		NEED(g.m.vcpu[v] >= 0 && ioctl(g.m.vcpu[v], KVM_SET_CPUID2, &cpuid) == 0);
		g.m.run[v] = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, g.m.vcpu[v], 0);
		NEED(g.m.run[v] != MAP_FAILED);
		NEED(ioctl(g.m.vcpu[v], KVM_SET_MP_STATE, &runnable) == 0);
		vcpu_start(v);
	}
}

/* ---- moving ---------------------------------------------------------------------------------------------- */

struct msrs {
	struct kvm_msrs head;
	struct kvm_msr_entry entry[1];
};

static void msr_copy(int from, int to, uint32_t index)
{
	struct msrs msrs = { .head.nmsrs = 1, .entry = { { .index = index } } };

	NEED(ioctl(from, KVM_GET_MSRS, &msrs) == 1);
	NEED(ioctl(to, KVM_SET_MSRS, &msrs) == 1);
}

/* The base of the APIC is in the special registers, so these come before it. */
static void vcpu_copy(int from, int to)
{
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	/* MP_STATE first: it takes INIT and SIPI that have come, which changes the registers. */
	NEED(ioctl(from, KVM_GET_MP_STATE, &mp) == 0);
	NEED(ioctl(from, KVM_GET_SREGS, &sregs) == 0 && ioctl(to, KVM_SET_SREGS, &sregs) == 0);
	NEED(ioctl(from, KVM_GET_REGS, &regs) == 0 && ioctl(to, KVM_SET_REGS, &regs) == 0);
	msr_copy(from, to, 0x10);
	NEED(ioctl(from, KVM_GET_LAPIC, &lapic) == 0 && ioctl(to, KVM_SET_LAPIC, &lapic) == 0);
	msr_copy(from, to, 0x6e0);
	NEED(ioctl(from, KVM_GET_VCPU_EVENTS, &events) == 0);
	events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR;
	events.flags &= ~(unsigned)KVM_VCPUEVENT_VALID_SMM;
	NEED(ioctl(to, KVM_SET_VCPU_EVENTS, &events) == 0);
	NEED(ioctl(to, KVM_SET_MP_STATE, &mp) == 0);
}

static void chips_copy(int from, int to)
{
	struct kvm_pit_state2 pit;

	if (g.chips == CHIPS_SPLIT)
		return;
	for (unsigned id = KVM_IRQCHIP_PIC_MASTER; id <= KVM_IRQCHIP_IOAPIC; id++) {
		struct kvm_irqchip chip = { .chip_id = id };

		NEED(ioctl(from, KVM_GET_IRQCHIP, &chip) == 0 && ioctl(to, KVM_SET_IRQCHIP, &chip) == 0);
	}
	if (g.chips == CHIPS_PIT)
		NEED(ioctl(from, KVM_GET_PIT2, &pit) == 0 && ioctl(to, KVM_SET_PIT2, &pit) == 0);
}

void guest_move(void)
{
	struct machine old = g.m;

	machine_settle(&old, g.vcpus);
	vm_make();
	if (g.routes)
		NEED(ioctl(g.m.vm, KVM_SET_GSI_ROUTING, g.routes) == 0);
	for (unsigned v = 0; v < g.vcpus; v++)
		vcpu_copy(old.vcpu[v], g.m.vcpu[v]);
	chips_copy(old.vm, g.m.vm);
	machine_close(&old, g.vcpus);
}

/* ---- steps ----------------------------------------------------------------------------------------------- */

static bool threads_run(void)
{
	for (unsigned v = 0; v < g.vcpus; v++)
		if (g.thread[v].thread)
			return true;
	return false;
}

static int port_of(const struct kvm_run *run)
{
	return run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_OUT ? run->io.port : -1;
}

static struct kvm_regs registers(unsigned v)
{
	struct kvm_regs regs;

	NEED(ioctl(g.m.vcpu[v], KVM_GET_REGS, &regs) == 0);
	return regs;
}

int guest_go_on(unsigned v)
{
	int port;

	do {
		if (ioctl(g.m.vcpu[v], KVM_RUN, 0) != 0)
			return -1;
		port = port_of(g.m.run[v]);
	} while (port == GUEST_PORT_OPEN);
	if (port < 0 && g.m.run[v]->exit_reason == KVM_EXIT_INTERNAL_ERROR) {
		struct kvm_regs regs = registers(v);

		fprintf(stderr, "%s: vCPU %u: exit %u, error %u, at %#llx\n", running, v, g.m.run[v]->exit_reason,
		        g.m.run[v]->internal.suberror, regs.rip);
	}
	return port;
}

void guest_prepare(unsigned v, const uint8_t *routine, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
	struct kvm_regs regs = { .rip = text(routine), .rflags = 2, .rsp = GUEST_OWN + (v + 1) * PAGE,
		                 .rax = a, .rbx = b, .rcx = c, .rdx = d };

	NEED(ioctl(g.m.vcpu[v], KVM_SET_REGS, &regs) == 0);
}

int guest_step(unsigned v, const uint8_t *routine, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
	if (g.moves && !threads_run())
		guest_move();
	guest_prepare(v, routine, a, b, c, d);
	return guest_go_on(v);
}

void take(unsigned v)
{
	CHECK(guest_step(v, guest_window, 0, 0, 0, 0) == GUEST_DONE);
}

void out(unsigned v, uint16_t port, uint8_t value)
{
	CHECK(guest_step(v, guest_out, value, 0, 0, port) == GUEST_DONE);
}

uint8_t in(unsigned v, uint16_t port)
{
	CHECK(guest_step(v, guest_in, 0, 0, 0, port) == GUEST_DONE);
	return (uint8_t)registers(v).rax;
}

void write32(unsigned v, uint32_t address, uint32_t value)
{
	CHECK(guest_step(v, guest_write, value, address, 0, 0) == GUEST_DONE);
}

uint32_t read32(unsigned v, uint32_t address)
{
	CHECK(guest_step(v, guest_read, 0, address, 0, 0) == GUEST_DONE);
	return (uint32_t)registers(v).rax;
}

int wrmsr(unsigned v, uint32_t index, uint64_t value)
{
	return guest_step(v, guest_wrmsr, (uint32_t)value, 0, index, (uint32_t)(value >> 32));
}

uint64_t rdmsr(unsigned v, uint32_t index)
{
	struct kvm_regs regs;

	CHECK(guest_step(v, guest_rdmsr, 0, 0, index, 0) == GUEST_DONE);
	regs = registers(v);
	return (uint32_t)regs.rax | regs.rdx << 32;
}

void lapic_write(unsigned v, uint32_t offset, uint32_t value)
{
	write32(v, LAPIC + offset, value);
}

uint32_t lapic_read(unsigned v, uint32_t offset)
{
	return read32(v, LAPIC + offset);
}

void lapics_on(void)
{
	for (unsigned v = 0; v < g.vcpus; v++)
		lapic_write(v, 0xf0, 0x1ef);
}

/* ---- the log --------------------------------------------------------------------------------------------- */

static uint32_t *word_at(unsigned v, uint32_t offset)
{
	return (uint32_t *)(void *)(g.m.memory + GUEST_OWN + v * PAGE + offset);
}

uint32_t guest_word(unsigned v, uint32_t offset)
{
	return __atomic_load_n(word_at(v, offset), __ATOMIC_ACQUIRE);
}

bool log_is(unsigned v, const char *vectors, unsigned count)
{
	uint32_t logged = guest_word(v, GUEST_COUNT);
	const uint8_t *log = g.m.memory + GUEST_OWN + v * PAGE + GUEST_LOG;
	bool same = logged == count && !memcmp(log, vectors, count);

	if (!same) {
		fprintf(stderr, "%s%s: vCPU %u: log:", running, g.moves ? ", moving" : "", v);
		for (unsigned i = 0; i < logged && i < 16; i++)
			fprintf(stderr, " %02x", log[i]);
		fprintf(stderr, "; wanted:");
		for (unsigned i = 0; i < count; i++)
			fprintf(stderr, " %02x", (uint8_t)vectors[i]);
		fprintf(stderr, "\n");
	}
	__atomic_store_n(word_at(v, GUEST_COUNT), 0, __ATOMIC_RELEASE);
	return same;
}

void guest_action(unsigned first, unsigned last, uint8_t action)
{
	memset(g.m.memory + GUEST_ACTIONS + first, action, last - first + 1);
}

/* ---- threads --------------------------------------------------------------------------------------------- */

/* The signal may come just before KVM_RUN: immediate_exit then ends that at once. */
static void on_signal(int number)
{
	(void)number;
	if (own_run)
		own_run->immediate_exit = 1;
}

static void *thread_run(void *argument)
{
	unsigned v = (unsigned)(uintptr_t)argument;
	struct guest_thread *t = &g.thread[v];

	own_run = g.m.run[v];
	t->port = -1;
	while (!__atomic_load_n(&t->stop, __ATOMIC_ACQUIRE)) {
		int result = ioctl(g.m.vcpu[v], KVM_RUN, 0);

		/* EAGAIN: the vCPU got the INIT that it waited for. */
		if (result != 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		NEED(result == 0);
		t->port = port_of(g.m.run[v]);
		if (t->port != GUEST_PORT_OPEN)
			break;
	}
	own_run->immediate_exit = 0;
	own_run = NULL;
	__atomic_store_n(&t->stopped, true, __ATOMIC_RELEASE);
	return NULL;
}

static void pause_briefly(void)
{
	usleep(200);
}

void guest_begin_as_is(unsigned v)
{
	struct guest_thread *t = &g.thread[v];

	NEED(!t->thread);
	t->stop = t->stopped = false;
	NEED(pthread_create(&t->thread, NULL, thread_run, (void *)(uintptr_t)v) == 0);
}

void guest_begin(unsigned v, const uint8_t *routine, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
	uint32_t ready = guest_word(v, GUEST_READY);

	guest_prepare(v, routine, a, b, c, d);
	guest_begin_as_is(v);
	while (guest_word(v, GUEST_READY) == ready)
		pause_briefly();
}

int guest_end(unsigned v)
{
	pthread_join(g.thread[v].thread, NULL);
	g.thread[v].thread = 0;
	return g.thread[v].port;
}

bool guest_has_ended(unsigned v)
{
	return __atomic_load_n(&g.thread[v].stopped, __ATOMIC_ACQUIRE);
}

bool guest_interrupt(unsigned v)
{
	struct guest_thread *t = &g.thread[v];

	__atomic_store_n(&t->stop, true, __ATOMIC_RELEASE);
	while (!guest_has_ended(v)) {
		pthread_kill(t->thread, SIGUSR1);
		pause_briefly();
	}
	return guest_end(v) >= 0;
}

void guest_wait_log(unsigned v, uint32_t count)
{
	while (guest_word(v, GUEST_COUNT) < count)
		pause_briefly();
}

/* ---- the client ------------------------------------------------------------------------------------------ */

void line(unsigned gsi, int level)
{
	struct kvm_irq_level in = { .irq = gsi, .level = (unsigned)level };

	CHECK(ioctl(g.m.vm, KVM_IRQ_LINE, &in) == 0);
}

int line_status(unsigned gsi, int level)
{
	struct kvm_irq_level in = { .irq = gsi, .level = (unsigned)level };

	CHECK(ioctl(g.m.vm, KVM_IRQ_LINE_STATUS, &in) == 0);
	return (int)in.status;
}

int msi(uint32_t address, uint32_t data)
{
	struct kvm_msi in = { .address_lo = address, .data = data };

	return ioctl(g.m.vm, KVM_SIGNAL_MSI, &in);
}

int guest_routes(const struct kvm_irq_routing_entry *entries, unsigned count)
{
	struct kvm_irq_routing *routes = calloc(1, sizeof(*routes) + count * sizeof(*entries));
	int result;

	NEED(routes);
	routes->nr = count;
	memcpy(routes->entries, entries, count * sizeof(*entries));
	result = ioctl(g.m.vm, KVM_SET_GSI_ROUTING, routes);
	if (result == 0) {
		free(g.routes);
		g.routes = routes;
	} else {
		free(routes);
	}
	return result;
}

unsigned mp_state(unsigned v)
{
	struct kvm_mp_state mp;

	NEED(ioctl(g.m.vcpu[v], KVM_GET_MP_STATE, &mp) == 0);
	return mp.mp_state;
}

void set_mp_state(unsigned v, unsigned state)
{
	struct kvm_mp_state mp = { state };

	NEED(ioctl(g.m.vcpu[v], KVM_SET_MP_STATE, &mp) == 0);
}

uint32_t lapic_get(unsigned v, uint32_t offset)
{
	struct kvm_lapic_state state;
	uint32_t value;

	NEED(ioctl(g.m.vcpu[v], KVM_GET_LAPIC, &state) == 0);
	memcpy(&value, state.regs + offset, 4);
	return value;
}

struct kvm_irqchip irqchip(unsigned id)
{
	struct kvm_irqchip chip = { .chip_id = id };

	NEED(ioctl(g.m.vm, KVM_GET_IRQCHIP, &chip) == 0);
	return chip;
}

/* ---- running the tests ----------------------------------------------------------------------------------- */

static void on_alarm(int number)
{
	(void)number;
	dprintf(2, "%s%s: hangs\n", running, g.moves ? ", moving" : "");
	_exit(1);
}

static void test_run(const struct guest_test *test, bool moves)
{
	memset(&g, 0, sizeof(g));
	g.vcpus = GUEST_VCPUS;
	g.chips = test->chips;
	g.moves = moves;
	running = test->name;
	alarm(LIMIT);
	memory_make();
	vm_make();
	test->run();
	machine_close(&g.m, g.vcpus);
	munmap(g.m.memory, g.m.bytes);
	free(g.routes);
	alarm(0);
}

static bool has(char **arguments, const char *what)
{
	for (; arguments && *arguments; arguments++)
		if (!strcmp(*arguments, what))
			return true;
	return false;
}

static bool keeps_isr;

static void probe_isr(void)
{
	lapics_on();
	CHECK(msi(LAPIC, 0x41) == 1);
	take(0);
	keeps_isr = lapic_get(0, 0x120) == 2;
}

int guest_tests(const struct guest_test *tests, unsigned count, char **arguments)
{
	static const struct guest_test probe = { "probe", probe_isr, CHIPS_FULL, GUEST_STAYS };
	struct sigaction action = { .sa_handler = on_signal };
	bool lenient = has(arguments, "any-kvm");
	char **names = lenient && arguments ? arguments + 1 : arguments;

	sigaction(SIGUSR1, &action, NULL);
	signal(SIGALRM, on_alarm);
	test_run(&probe, false);
	if (!lenient)
		CHECK(keeps_isr);
	for (unsigned i = 0; i < count; i++) {
		if (names && *names && !has(names, tests[i].name))
			continue;
		if (lenient && !keeps_isr && (tests[i].flags & GUEST_NEEDS_ISR)) {
			printf("%s: left out, since no interrupt stays in service\n", tests[i].name);
			continue;
		}
		test_run(&tests[i], false);
		if (!(tests[i].flags & GUEST_STAYS))
			test_run(&tests[i], true);
	}
	return check_failures != 0;
}
