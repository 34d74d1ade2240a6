/* SPDX-License-Identifier: MIT */
/* A machine of fuzz.h: 64-bit paging, every exception leads to a HLT, the second stage is filled by faults. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

#include <vmmu/dirty.h>
#include <vmmu/format.h>
#include <vmmu/mmu.h>
#include <vmmu/nested.h>

#define PAGE 4096u
/* Guest physical pages. */
enum { PML4, PDPT_LOW, PD_LOW, PT_LOW, PDPT_HIGH, PD_HIGH, PT_HIGH, GDT, IDT, STUBS, IST, CODE = 16, DATA = 20,
       STACK = 26, COUNTER = 28 };
_Static_assert(PT_LOW * PAGE == MACHINE_TABLE, "fuzz.c knows it");
#define KERNEL UINT64_C(0xffff800000000000)
#define DEVICES 0x100u /* guest physical page */
#define TSS 0x800u     /* in the page of the GDT */

#define PTE_P 1u
#define PTE_W 2u
#define PTE_U 4u

#define SEL_KERNEL_CS 0x10u
#define SEL_KERNEL_DS 0x18u
#define SEL_USER_CS32 0x23u
#define SEL_USER_DS   0x2bu
#define SEL_USER_CS64 0x33u
#define SEL_KERNEL_CS32 0x38u
#define SEL_TSS       0x40u

#define EXITS 200u
#define RESUME (1u << 16)
#define TRAP   (1u << 8)

struct vmmu_vcpu {
	struct machine *m;
	_Atomic uint32_t poll;
	bool flush;
};

struct machine {
	uint64_t npt[4][512] __attribute__((aligned(4096)));
	uint8_t *ram, image[RAM_PAGES * PAGE];
	uint8_t kind[RAM_PAGES];
	struct vmmu_vcpu vcpu;
	struct cpu_vm *vm;
	struct cpu *cpu;
	enum cpu_engine engine;
	struct cpu_translate_tuning tuning;
	unsigned kick_fault;
	bool taken; /* some page is not accessible */
	bool given_up; /* the last case did not come to its end */
	unsigned fixes;
};

static struct machine *volatile running;
static volatile bool given_up;

/* ---- the library's part ---------------------------------------------------------------------------------------- */

enum vmmu_enter vmmu_vcpu_enter(struct vmmu_vcpu *v, struct vmmu_entry *entry)
{
	v->poll = VMMU_POLL_RUN;
	*entry = (struct vmmu_entry){
		.root = v->m->npt[0], .format = VMMU_FORMAT_NPT4, .levels = 4, .flush = v->flush,
		.poll = (const uint32_t *)&v->poll,
	};
	v->flush = false;
	return VMMU_ENTER_RUN;
}

void vmmu_vcpu_leave(struct vmmu_vcpu *v)
{
	v->poll = 0;
}

void vmmu_vcpu_kick(struct vmmu_vcpu *v)
{
	v->poll = 0;
}

enum vmmu_fault vmmu_fault(struct vmmu_vcpu *v, struct vmmu_gpa gpa, uint64_t error)
{
	struct machine *m = v->m;
	uint64_t page = gpa.v / PAGE, bits = PTE_P | PTE_U | PTE_W;
	bool write = error & VMMU_PF_WRITE;

	if (m->kick_fault != 0 && --m->kick_fault == 0)
		cpu_request_exit(m->cpu);
	if (page >= RAM_PAGES)
		return VMMU_FAULT_MMIO;
	if (m->kind[page] == PAGE_MIRRORED && write)
		return VMMU_FAULT_EMULATE;
	if (m->kind[page] == PAGE_ROM || m->kind[page] == PAGE_MIRRORED || (m->kind[page] == PAGE_LOGGED && !write))
		bits &= ~(uint64_t)PTE_W;
	m->npt[3][page] = (uintptr_t)(m->ram + page * PAGE) | bits;
	return m->kind[page] == PAGE_ROM && write ? VMMU_FAULT_MMIO : VMMU_FAULT_FIXED;
}

enum vmmu_status vmmu_guest_read(struct vmmu_vcpu *v, struct vmmu_gpa gpa, void *to, size_t bytes)
{
	if (gpa.v >= RAM_PAGES * PAGE || bytes > RAM_PAGES * PAGE - gpa.v)
		return VMMU_ENOENT;
	memcpy(to, v->m->ram + gpa.v, bytes);
	return VMMU_OK;
}

enum vmmu_status vmmu_guest_write(struct vmmu_vcpu *v, struct vmmu_gpa gpa, const void *from, size_t bytes)
{
	if (gpa.v >= RAM_PAGES * PAGE || bytes > RAM_PAGES * PAGE - gpa.v)
		return VMMU_ENOENT;
	memcpy(v->m->ram + gpa.v, from, bytes);
	return VMMU_OK;
}

void vmmu_guest_written(struct vmmu_vcpu *v, struct vmmu_gpa gpa, size_t bytes)
{
	(void)v;
	(void)gpa;
	(void)bytes;
}

void vmmu_vcpu_dirty_ring_reserve(struct vmmu_vcpu *v, bool open)
{
	(void)v;
	(void)open;
}

bool vmmu_unprotect(struct vmmu_vcpu *v, struct vmmu_gpa gpa)
{
	if (gpa.v / PAGE >= RAM_PAGES || v->m->kind[gpa.v / PAGE] != PAGE_MIRRORED)
		return false;
	v->m->kind[gpa.v / PAGE] = PAGE_PLAIN;
	return true;
}

enum vmmu_status vmmu_nested_enter(struct vmmu_vcpu *v, const struct vmmu_nested *l1)
{
	(void)v;
	(void)l1;
	return VMMU_EINVAL;
}

void vmmu_nested_leave(struct vmmu_vcpu *v)
{
	(void)v;
}

enum vmmu_page_fault vmmu_nested_fault(struct vmmu_vcpu *v, struct vmmu_gpa gpa, uint64_t error,
                                       struct vmmu_page_info *info)
{
	(void)v;
	(void)gpa;
	(void)error;
	(void)info;
	abort();
}

/* ---- the machine ----------------------------------------------------------------------------------------------- */

static void put(uint8_t *ram, unsigned page, unsigned index, uint64_t value)
{
	memcpy(ram + page * PAGE + 8 * index, &value, 8);
}

static void make_tables(uint8_t *ram)
{
	uint64_t tss = KERNEL + GDT * PAGE + TSS, stack = KERNEL + (IST + 1) * PAGE;

	put(ram, PML4, 0, PDPT_LOW * PAGE | 7);
	put(ram, PML4, KERNEL >> 39 & 511, PDPT_HIGH * PAGE | 3);
	put(ram, PDPT_LOW, 0, PD_LOW * PAGE | 7);
	put(ram, PD_LOW, WINDOW >> 21, PT_LOW * PAGE | 7);
	put(ram, PDPT_HIGH, 0, PD_HIGH * PAGE | 3);
	put(ram, PD_HIGH, 0, PT_HIGH * PAGE | 3);
	for (unsigned i = GDT; i <= IST; i++)
		put(ram, PT_HIGH, i, i * PAGE | 3);
	put(ram, GDT, SEL_KERNEL_CS / 8, UINT64_C(0x00af9b000000ffff));
	put(ram, GDT, SEL_KERNEL_DS / 8, UINT64_C(0x00cf93000000ffff));
	put(ram, GDT, SEL_USER_CS32 / 8, UINT64_C(0x00cffb000000ffff));
	put(ram, GDT, SEL_USER_DS / 8, UINT64_C(0x00cff3000000ffff));
	put(ram, GDT, SEL_USER_CS64 / 8, UINT64_C(0x00affb000000ffff));
	put(ram, GDT, SEL_KERNEL_CS32 / 8, UINT64_C(0x00cf9b000000ffff));
	put(ram, GDT, SEL_TSS / 8, 0x67 | (tss & 0xffffff) << 16 | UINT64_C(0x8b) << 40 | (tss >> 24 & 0xff) << 56);
	put(ram, GDT, SEL_TSS / 8 + 1, tss >> 32);
	memcpy(ram + GDT * PAGE + TSS + 0x24, &stack, 8); /* IST1 */
	memcpy(ram + GDT * PAGE + TSS + 4, &stack, 8);    /* RSP0 */
	for (unsigned v = 0; v < 256; v++) {
		uint64_t stub = KERNEL + STUBS * PAGE + 16 * v;

		ram[STUBS * PAGE + 16 * v] = 0xf4;
		put(ram, IDT, 2 * v, (stub & 0xffff) | SEL_KERNEL_CS << 16 | UINT64_C(1) << 32 | UINT64_C(0xee) << 40 |
		                             (stub >> 16 & 0xffff) << 48);
		put(ram, IDT, 2 * v + 1, stub >> 32);
	}
}

struct machine *machine_make(enum cpu_engine engine, const struct cpu_translate_tuning *tuning)
{
	static const struct cpu_ops ops;
	struct machine *m = aligned_alloc(PAGE, (sizeof(*m) + PAGE - 1) & ~(size_t)(PAGE - 1));
	struct gen_rand r = { 1 };

	if (m == NULL)
		abort();
	memset(m, 0, sizeof(*m));
	m->engine = engine;
	m->tuning = *tuning;
	m->ram = mmap(NULL, RAM_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	m->vm = cpu_vm_create();
	m->vcpu = (struct vmmu_vcpu){ .m = m, .flush = true };
	m->cpu = cpu_create(&m->vcpu, &ops, m, m->vm);
	if (m->ram == MAP_FAILED || m->vm == NULL || m->cpu == NULL)
		abort();
	for (unsigned i = 0; i < 3; i++)
		m->npt[i][0] = (uintptr_t)m->npt[i + 1] | PTE_P | PTE_W | PTE_U;
	make_tables(m->image);
	for (unsigned i = DATA * PAGE; i < (COUNTER + 1) * PAGE; i += 8) {
		uint64_t value = gen_percent(&r, 50) ? gen_integer(&r) : gen_lane(&r);

		memcpy(m->image + i, &value, 8);
	}
	return m;
}

void machine_free(struct machine *m)
{
	cpu_destroy(m->cpu);
	cpu_vm_destroy(m->vm);
	munmap(m->ram, RAM_PAGES * PAGE);
	free(m);
}

uint8_t *machine_ram(struct machine *m)
{
	return m->ram;
}

const struct cpu_state *machine_reset(struct machine *m)
{
	return cpu_state(m->cpu);
}

void machine_stats(struct machine *m, struct cpu_translate_stats *stats)
{
	cpu_translate_stats(m->cpu, stats);
}

/* ---- before a case --------------------------------------------------------------------------------------------- */

/* The guest's pages are not in order: an access across two finds no neighbour. */
static unsigned gpa_of(unsigned base, unsigned pages, unsigned i)
{
	return base + (pages - i) % pages;
}

static void map_page(struct machine *m, uint32_t linear, unsigned gpa, enum page_kind kind, bool user)
{
	uint64_t entry = PTE_P | PTE_W | (user ? PTE_U : 0);

	if (kind == PAGE_ABSENT)
		entry = 0;
	else if (kind == PAGE_READ_ONLY)
		entry &= ~(uint64_t)PTE_W;
	else if (kind == PAGE_OTHER_RIGHTS)
		entry ^= PTE_U;
	put(m->ram, PT_LOW, linear >> 12 & 511, entry | (uint64_t)(kind == PAGE_DEVICE ? DEVICES + gpa : gpa) * PAGE);
}

static void map_pages(struct machine *m, uint32_t linear, unsigned base, unsigned pages, const uint8_t *kind, bool user)
{
	for (unsigned i = 0; i < pages; i++) {
		unsigned gpa = gpa_of(base, pages, i);

		map_page(m, linear + i * PAGE, gpa, kind != NULL ? (enum page_kind)kind[i] : PAGE_PLAIN, user);
		if (kind == NULL)
			continue;
		m->kind[gpa] = kind[i];
	}
}

static void take_away(struct machine *m)
{
	for (unsigned page = 0; page < RAM_PAGES; page++) {
		if (m->kind[page] != PAGE_TAKEN)
			continue;
		mprotect(m->ram + page * PAGE, PAGE, PROT_NONE);
		m->taken = true;
	}
}

static void give_back(struct machine *m)
{
	if (m->taken)
		mprotect(m->ram, RAM_PAGES * PAGE, PROT_READ | PROT_WRITE);
	m->taken = false;
}

static void load_memory(struct machine *m, const struct program *p, const struct choices *c)
{
	give_back(m);
	memcpy(m->ram, m->image, RAM_PAGES * PAGE);
	memset(m->ram + CODE * PAGE, 0xcc, CODE_PAGES * PAGE);
	memcpy(m->ram + COUNTER * PAGE, &c->count, 4);
	for (unsigned i = 0; i < p->length; i++) {
		uint32_t at = p->start + i - CODE_AT;

		m->ram[gpa_of(CODE, CODE_PAGES, at / PAGE) * PAGE + at % PAGE] = p->bytes[i];
	}
	memset(m->kind, PAGE_PLAIN, sizeof(m->kind));
	map_pages(m, CODE_ALIAS, CODE, CODE_PAGES, NULL, c->user);
	map_pages(m, DATA_ALIAS, DATA, DATA_PAGES, NULL, c->user);
	map_page(m, COUNTER_AT, COUNTER, PAGE_PLAIN, c->user);
	map_pages(m, DATA_AT, DATA, DATA_PAGES, c->kind, c->user);
	map_pages(m, CODE_AT, CODE, CODE_PAGES, c->kind + DATA_PAGES, c->user);
	map_pages(m, STACK_AT, STACK, STACK_PAGES, c->kind + DATA_PAGES + CODE_PAGES, c->user);
	memset(m->npt[3], 0, RAM_PAGES * 8);
	m->vcpu.flush = true;
	if (c->take_at == 0)
		take_away(m);
}

static struct cpu_segment segment(unsigned selector, bool code, unsigned bits)
{
	return (struct cpu_segment){ .limit = 0xffffffff, .selector = (uint16_t)selector, .type = code ? 11 : 3,
		                     .present = 1, .dpl = selector & 3, .db = bits == 32, .s = 1, .l = bits == 64,
		                     .g = 1 };
}

static void load_segments(struct cpu_state *s, unsigned bits, bool user)
{
	unsigned cs = bits == 64 ? (user ? SEL_USER_CS64 : SEL_KERNEL_CS) : user ? SEL_USER_CS32 : SEL_KERNEL_CS32;

	s->seg[CPU_CS] = segment(cs, true, bits);
	for (unsigned i = 0; i < CPU_LDTR; i++)
		if (i != CPU_CS)
			s->seg[i] = segment(user ? SEL_USER_DS : SEL_KERNEL_DS, false, 32);
	s->seg[CPU_FS].base = FS_BASE;
	s->seg[CPU_GS].base = GS_BASE;
}

static void load_state(struct machine *m, const struct program *p, const struct choices *c)
{
	struct cpu_state *s = cpu_state(m->cpu);

	*s = c->state;
	load_segments(s, p->bits, c->user);
	s->seg[CPU_LDTR] = (struct cpu_segment){ .unusable = 1, .type = 2 };
	s->seg[CPU_TR] = (struct cpu_segment){ .base = KERNEL + GDT * PAGE + TSS, .limit = 0x67, .selector = SEL_TSS,
		                               .type = 11, .present = 1 };
	s->gdt = (struct cpu_table){ KERNEL + GDT * PAGE, 0xff };
	s->idt = (struct cpu_table){ KERNEL + IDT * PAGE, 0xfff };
	s->cr0 = UINT64_C(0x80010033) | (c->align ? 1u << 18 : 0);
	s->cr3 = PML4 * PAGE;
	s->cr4 = UINT64_C(0x40620) | (c->smap ? 1u << 21 : 0);
	s->efer = UINT64_C(0xd01);
	s->rip = p->start;
	s->lstar = s->cstar = KERNEL + STUBS * PAGE + 16 * 255;
	s->star = UINT64_C(0x10) << 32 | UINT64_C(0x23) << 48;
	s->mp_state = CPU_MP_RUNNABLE;
	cpu_state_changed(m->cpu, CPU_CHANGED_ALL);
	cpu_request_clear(m->cpu);
	cpu_debug_set(m->cpu, 0, NULL);
}

/* ---- running ---------------------------------------------------------------------------------------------------- */

static void note(struct outcome *out, const struct cpu_state *s, uint64_t what, uint64_t a, uint64_t b)
{
	struct event *e;

	if (out->events == EVENTS)
		return;
	e = &out->event[out->events++];
	*e = (struct event){ .what = what, .a = a, .b = b, .rip = s->rip, .rflags = s->rflags };
	memcpy(e->gpr, s->gpr, sizeof(e->gpr));
}

#define NO_VECTOR 256u
static unsigned vector_of(const struct cpu_state *s)
{
	uint64_t stub = s->rip - 1 - (KERNEL + STUBS * PAGE);

	return stub < 255 * 16 && stub % 16 == 0 ? (unsigned)stub / 16 : NO_VECTOR;
}

static bool has_error_code(unsigned vector)
{
	return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

uint32_t machine_frame(const struct outcome *out)
{
	uint64_t rsp = out->state.gpr[CPU_RSP] - (KERNEL + IST * PAGE);
	unsigned vector = vector_of(&out->state);

	if (vector == NO_VECTOR || rsp > PAGE - 40)
		return 0;
	return IST * PAGE + (uint32_t)rsp + (has_error_code(vector) ? 8 : 0);
}

/* Make the page an ordinary one. Returns: false when the program has none there. */
static bool page_mend(struct machine *m, uint64_t page, bool user)
{
	static const struct {
		uint32_t linear, pages, base;
	} areas[] = { { DATA_AT, DATA_PAGES, DATA }, { STACK_AT, STACK_PAGES, STACK }, { CODE_AT, CODE_PAGES, CODE } };

	for (unsigned i = 0; i < 3; i++) {
		uint64_t n = (page - areas[i].linear) / PAGE;

		if (page < areas[i].linear || n >= areas[i].pages)
			continue;
		map_page(m, (uint32_t)page, gpa_of(areas[i].base, areas[i].pages, (unsigned)n), PAGE_PLAIN, user);
		return true;
	}
	return false;
}

/*
 * An exception as an operating system answers it: a page fault maps the page; with choices.skip, the instruction is
 * left out. Returns: false when the case ends here.
 */
static bool exception_answered(struct machine *m, const struct program *p, const struct choices *c,
                               struct outcome *out)
{
	struct cpu_state *s = cpu_state(m->cpu);
	unsigned vector = vector_of(s), skipped = 0;
	uint64_t frame[6];
	uint32_t at;

	out->state = *s;
	at = machine_frame(out);
	if (at == 0 || m->fixes++ == 40)
		return false;
	memcpy(frame, m->ram + at - 8, sizeof(frame));
	if (vector != 1 && (vector != 14 || !page_mend(m, s->cr2 & ~UINT64_C(0xfff), c->user) || m->fixes % 8 == 7)) {
		skipped = c->skip && vector != 3 ? fuzz_skip(p, frame[1]) : 0;
		if (skipped == 0)
			return false;
	}
	s->rip = frame[1];
	s->rflags = frame[3];
	s->gpr[CPU_RSP] = frame[4];
	load_segments(s, p->bits, c->user);
	note(out, s, 100 + vector, has_error_code(vector) ? frame[0] : 0, vector == 14 ? s->cr2 : 0);
	s->rip += skipped;
	if (m->fixes % 4 == 3)
		s->rflags &= ~(uint64_t)TRAP;
	memset(m->ram + IST * PAGE, 0, PAGE); /* flags there may be undefined ones */
	if (m->fixes == c->take_at)
		take_away(m);
	/* Where no page was mended, what the TLBs have stays. */
	cpu_state_changed(m->cpu, vector == 14 ? CPU_CHANGED_ALL : CPU_CHANGED_RFLAGS | CPU_CHANGED_MODE);
	return true;
}

static void io_answer(struct machine *m, struct outcome *out)
{
	struct cpu_exit_info *info = cpu_exit_info(m->cpu);
	uint64_t first = 0;

	if (!info->io.in)
		memcpy(&first, info->io.data, info->io.size);
	note(out, cpu_state(m->cpu), CPU_EXIT_IO, info->io.port | (uint64_t)info->io.count << 16 |
	                                          (uint64_t)info->io.size << 48 | (uint64_t)info->io.in << 56, first);
	if (info->io.in)
		memset(info->io.data, (uint8_t)(info->io.port * 7 + 3), info->io.size * info->io.count);
}

static void mmio_answer(struct machine *m, struct outcome *out)
{
	struct cpu_exit_info *info = cpu_exit_info(m->cpu);
	uint64_t data = 0;

	if (info->mmio.write)
		memcpy(&data, info->mmio.data, info->mmio.len);
	note(out, cpu_state(m->cpu), CPU_EXIT_MMIO | (uint64_t)info->mmio.write << 8 | (uint64_t)info->mmio.len << 16,
	     info->mmio.gpa, data);
	if (!info->mmio.write)
		for (unsigned i = 0; i < info->mmio.len; i++)
			info->mmio.data[i] = (uint8_t)((info->mmio.gpa + i) * 37);
}

/* The debugger lets the instruction run that it stopped at. */
static void breakpoint_met(struct machine *m, struct outcome *out)
{
	const struct cpu_exit_info *info = cpu_exit_info(m->cpu);

	note(out, cpu_state(m->cpu), CPU_EXIT_DEBUG, info->debug.dr6, info->debug.pc);
	if (info->debug.dr6 & 1) /* of DR0, which is one of instructions */
		cpu_state(m->cpu)->rflags |= RESUME;
	cpu_state_changed(m->cpu, CPU_CHANGED_RFLAGS);
}

/* After a request: single steps, and the other engine. */
static void unsettle(struct machine *m, const struct choices *c, unsigned exits)
{
	if (m->engine == CPU_ENGINE_INTERPRET)
		return;
	if (c->switching)
		cpu_engine_set(exits & 1 ? CPU_ENGINE_INTERPRET : m->engine);
	if (exits % 3 == 1)
		m->vcpu.flush = true;
}

static unsigned run_exits(struct machine *m, const struct program *p, const struct choices *c, struct outcome *out)
{
	unsigned steps = m->engine != CPU_ENGINE_INTERPRET ? c->steps : 0;
	struct cpu_state *s = cpu_state(m->cpu);

	if (c->dr[7] != 0)
		cpu_debug_set(m->cpu, CPU_DEBUG_HW_BP, c->dr);
	else if (steps != 0 && c->kick_fault == 0 && c->kick_us == 0)
		cpu_debug_set(m->cpu, CPU_DEBUG_STEP, NULL);
	for (unsigned exits = 0; exits < EXITS; exits++) {
		switch (cpu_run(m->cpu)) {
		case CPU_EXIT_KICKED:
			if (given_up)
				return END_RUNAWAY;
			if (steps != 0 && c->dr[7] == 0)
				cpu_debug_set(m->cpu, CPU_DEBUG_STEP, NULL);
			break;
		case CPU_EXIT_DEBUG:
			if (c->dr[7] != 0)
				breakpoint_met(m, out);
			else if (--steps == 0)
				cpu_debug_set(m->cpu, 0, NULL);
			break;
		case CPU_EXIT_IO: io_answer(m, out); break;
		case CPU_EXIT_MMIO: mmio_answer(m, out); break;
		case CPU_EXIT_HOST_FAULT:
			note(out, s, CPU_EXIT_HOST_FAULT, 0, 0);
			give_back(m);
			break;
		case CPU_EXIT_HLT:
			if (!exception_answered(m, p, c, out))
				return vector_of(s) == NO_VECTOR ? END_HLT : END_EXCEPTION;
			break;
		case CPU_EXIT_SHUTDOWN: return END_SHUTDOWN;
		default: return END_OTHER;
		}
		unsettle(m, c, exits);
	}
	return END_RUNAWAY;
}

/* What the last instruction of a case that was given up has still to write. */
static void drain(struct machine *m)
{
	for (unsigned i = 0; i < EXITS; i++) {
		cpu_request_exit(m->cpu);
		if (cpu_run(m->cpu) == CPU_EXIT_KICKED)
			return;
	}
}

static void timer_set(unsigned us)
{
	setitimer(ITIMER_REAL, &(struct itimerval){ .it_value.tv_usec = us }, NULL);
}

void machine_run(struct machine *m, const struct program *p, const struct choices *c, struct outcome *out)
{
	bool disturbed = m->engine != CPU_ENGINE_INTERPRET;

	cpu_engine_set(m->engine);
	cpu_translate_tune(&m->tuning);
	if (m->given_up)
		drain(m);
	load_memory(m, p, c);
	load_state(m, p, c);
	m->fixes = 0;
	m->kick_fault = disturbed ? c->kick_fault : 0;
	out->events = 0;
	given_up = false;
	running = m;
	if (disturbed && c->kick_us != 0)
		timer_set(c->kick_us);
	out->end = run_exits(m, p, c, out);
	if (disturbed && c->kick_us != 0)
		timer_set(0);
	running = NULL;
	give_back(m);
	out->state = *cpu_state(m->cpu);
	m->given_up = out->end >= END_OTHER;
}

void machine_kick(bool give_up)
{
	struct machine *m = running;

	if (m == NULL)
		return;
	given_up |= give_up;
	cpu_request_exit(m->cpu);
}
