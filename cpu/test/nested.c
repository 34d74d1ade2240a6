/* SPDX-License-Identifier: MIT */
/* The machine of nested.h. */
#include "nested.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* ---- the machine --------------------------------------------------------------------------------------- */

struct nested_calls nested_calls;

static bool count_io(void *state, bool in, uint16_t port, unsigned size, void *data)
{
	(void)state;
	(void)in;
	(void)port;
	(void)size;
	(void)data;
	nested_calls.io++;
	return false;
}

static enum cpu_msr_result count_rdmsr(void *state, uint32_t index, uint64_t *value)
{
	(void)state;
	nested_calls.rdmsr++;
	*value = index;
	return index == 0x666 ? CPU_MSR_GP : CPU_MSR_OK;
}

static enum cpu_msr_result count_wrmsr(void *state, uint32_t index, uint64_t value)
{
	struct guest *g = state;

	nested_calls.wrmsr++;
	if (index == 0xc0000080)
		return cpu_msr_set(g->cpu, index, value, false) ? CPU_MSR_OK : CPU_MSR_GP;
	return index == 0x666 ? CPU_MSR_GP : CPU_MSR_OK;
}

static enum cpu_call_result count_hypercall(void *state)
{
	(void)state;
	nested_calls.hypercall++;
	return CPU_CALL_OK;
}

static void count_cpuid(void *state, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	(void)state;
	nested_calls.cpuid++;
	cpu_cpuid_max(leaf, subleaf, out);
}

static bool count_monitor(void *state)
{
	(void)state;
	nested_calls.monitor++;
	return true;
}

void nested_begin(struct guest *g)
{
	struct cpu_state *s = regs(g);
	struct vmcb_control control = { .iopm = NESTED_IOPM | 0x123, .msrpm = NESTED_MSRPM | 0x456, .asid = 1 };

	s->svm.guest = true;
	s->svm.gif = true;
	s->svm.vmcb_pa = 0x70000;
	memcpy(s->svm.control, &control, sizeof(control));
	for (unsigned i = 0; i < CPU_GPR_COUNT; i++)
		if (i != CPU_RSP)
			s->gpr[i] = GUEST_DATA;
	s->gpr[CPU_RDX] = 0x3f8;
	memset(g->ram + GUEST_DATA, 0x5a, 4096);
	g->stores_fail = true;
}

struct guest *nested_make(void)
{
	struct guest *g = guest_make();

	g->ops = (struct cpu_ops){
		.io = count_io, .rdmsr = count_rdmsr, .wrmsr = count_wrmsr, .hypercall = count_hypercall,
		.cpuid = count_cpuid, .has_monitor = count_monitor,
	};
	guest_long(g);
	nested_begin(g);
	memset(&nested_calls, 0, sizeof(nested_calls));
	return g;
}

int nested_setup(void **state)
{
	*state = nested_make();
	return 0;
}

void nested_intercept(struct guest *g, unsigned exit, bool on)
{
	uint32_t *word = &g->cpu->p->svm.intercepts[exit / 32];

	*word = on ? *word | 1u << exit % 32 : *word & ~(1u << exit % 32);
}

int nested_run(struct guest *g)
{
	int vector = -1;

	for (unsigned i = 0; i < 1000; i++) {
		enum cpu_exit exit = cpu_run(g->cpu);

		if (nested_svm(g)->exit.noted)
			return vector;
		if (exit == CPU_EXIT_SHUTDOWN)
			return NESTED_SHUTDOWN;
		if (exit == CPU_EXIT_IO && !cpu_exit_info(g->cpu)->io.in && regs(g)->rip >= GUEST_STUBS &&
		    regs(g)->rip < GUEST_STUBS + 16 * 256)
			vector = cpu_exit_info(g->cpu)->io.port;
		if (exit == CPU_EXIT_HLT)
			return vector < 0 ? NESTED_HLT : vector;
		if (exit != CPU_EXIT_IO && exit != CPU_EXIT_RSM)
			fail_msg("exit %d at %#llx", (int)exit, (unsigned long long)regs(g)->rip);
	}
	fail_msg("the guest does not end");
	return 0;
}

void nested_exit(struct guest *g, const char *name, uint64_t code, uint64_t info1, uint64_t info2)
{
	const struct svm_private *svm = nested_svm(g);

	if (!svm->exit.noted)
		fail_msg("%s: no #VMEXIT", name);
	if (svm->exit.code != code || svm->exit.info1 != info1 || svm->exit.info2 != info2)
		fail_msg("%s: exit %#llx %#llx %#llx, wanted %#llx %#llx %#llx", name,
		         (unsigned long long)svm->exit.code, (unsigned long long)svm->exit.info1,
		         (unsigned long long)svm->exit.info2, (unsigned long long)code, (unsigned long long)info1,
		         (unsigned long long)info2);
}

void nested_untouched(struct guest *g, const char *name, const struct cpu_state *before)
{
	const uint8_t *a = (const uint8_t *)before, *b = (const uint8_t *)regs(g);

	for (size_t i = 0; i < sizeof(*before); i++)
		if (a[i] != b[i])
			fail_msg("%s: the state differs at byte %zu", name, i);
	for (unsigned i = 0; i < 4096; i++)
		if (g->ram[GUEST_DATA + i] != 0x5a)
			fail_msg("%s: memory was written", name);
	assert_int_equal(nested_calls.io + nested_calls.rdmsr + nested_calls.wrmsr, 0);
	assert_int_equal(nested_calls.hypercall + nested_calls.cpuid, 0);
	assert_false(g->cpu->single || g->cpu->p->completing || g->cpu->p->io_last.valid);
}


/* ---- one instruction ----------------------------------------------------------------------------------- */

void nested_map(struct guest *g, unsigned map, unsigned bit, bool on)
{
	uint8_t *at = g->ram + map + bit / 8;

	*at = (uint8_t)(on ? *at | 1u << bit % 8 : *at & ~(1u << bit % 8));
}

void nested_user(struct guest *g)
{
	struct cpu_state *s = regs(g);

	s->seg[CPU_CS].selector = SEL_UCODE64;
	s->seg[CPU_SS].selector = SEL_UDATA;
	s->seg[CPU_CS].dpl = s->seg[CPU_SS].dpl = 3;
	s->rip = GUEST_USER_CODE;
	s->gpr[CPU_RSP] = GUEST_USER_CODE + 0x8000;
}

void nested_prepare(struct guest *g, const struct nested_row *r)
{
	struct cpu_state *s = regs(g);
	static const uint8_t hlt = 0xf4;

	if (r->how & USER)
		nested_user(g);
	if (r->how & XSAVE)
		s->cr4 |= CR4_OSXSAVE;
	if (r->how & UMIP)
		s->cr4 |= CR4_UMIP;
	if (r->how & TSD)
		s->cr4 |= CR4_TSD;
	if (r->how & SVME)
		s->efer |= EFER_SVME;
	if (r->how & RCX_0)
		s->gpr[CPU_RCX] = 0;
	if (r->how & FS_BASE)
		s->seg[CPU_FS].base = 0x1000;
	if (r->how & UNMAPPED) {
		*guest_pte(g, GUEST_DATA) = 0;
		s->gpr[CPU_RSP] = GUEST_DATA + 0x800;
	}
	guest_code(g, s->rip, r->bytes, r->len);
	guest_code(g, s->rip + r->len, &hlt, 1);
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL & ~CPU_CHANGED_SVM);
	memset(&nested_calls, 0, sizeof(nested_calls));
}

void nested_row(const struct nested_row *r)
{
	struct guest *g = nested_make();
	struct cpu_state before;

	nested_prepare(g, r);
	nested_intercept(g, r->bit, true);
	before = *regs(g);
	if (r->how & EXCEPTION) {
		int vector = nested_run(g);

		if (vector != (int)r->vector)
			fail_msg("%s: vector %d, wanted %u", r->name, vector, r->vector);
		guest_free(g);
		return;
	}
	nested_run(g);
	nested_exit(g, r->name, r->bit, r->info1, r->info2);
	if (nested_svm(g)->exit.next_rip != before.rip + r->len || nested_svm(g)->exit.int_info != 0)
		fail_msg("%s: next RIP, or an event", r->name);
	nested_untouched(g, r->name, &before);
	if (!(r->how & ONLY_WITH)) {
		guest_free(g);
		g = nested_make();
		nested_prepare(g, r);
		if (nested_run(g) == -1)
			fail_msg("%s: a #VMEXIT that nobody wanted", r->name);
		assert_int_equal(nested_calls.hypercall, 0);
	}
	guest_free(g);
}

void nested_rows(const struct nested_row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++)
		nested_row(&rows[i]);
}
