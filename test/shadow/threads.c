/* SPDX-License-Identifier: MIT */
/*
 * One, two and four vCPUs at once, each on a thread. At random they edit page tables, flush or do not flush, and
 * look. All share the upper tables, and they use two roots. The set of frames that a look may see is known:
 *
 *     a page of the vCPU's own     what it put there last, or put there since it last flushed the address
 *     a page of all                what was there when the look, with its flush, began, or was put there since
 *
 * Meanwhile the host ages, invalidates, logs, and lowers the limit of shadow pages. Runs on both MMUs.
 */
#include "test/shadow/machine.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "test/common/rng.h"

#define PAGES   8u          /* of each vCPU, and as many of all */
#define FRAMES  16u         /* to which a page may be mapped */
#define WINDOW  0x40000000u /* linear: 2 MiB for each vCPU, then 2 MiB for all */
#define TABLE   0x600000u   /* their tables, one after the other */
#define FRAME   0x700000u   /* FRAMES frames for each table; a frame begins with its own address */
#define PML4B   0x1f0000u
#define SHARED  VCPUS       /* the number of the table of all */

GUEST_ASM(look, "mov (%rbx), %rdx \n hlt")
GUEST_ASM(look_invlpg, "invlpg (%rbx) \n mov (%rbx), %rdx \n hlt")
GUEST_ASM(look_cr3, "mov %cr3, %rsi \n mov %rsi, %cr3 \n mov (%rbx), %rdx \n hlt")
GUEST_ASM(edit, "mov %rcx, (%rax) \n hlt")

struct vcpu_thread {
	struct machine *m;
	unsigned id, turns;
	struct rng rng;
	uint32_t allowed[PAGES]; /* for each own page, the frames that may be seen there */
	unsigned now[PAGES];
	uint64_t looks, edits, skipped;
	pthread_t thread;
};

/* A page of all. Its edits are numbered, and edit n maps frame n % FRAMES. */
static struct shared {
	pthread_mutex_t lock;
	uint64_t begun, done; /* atomic: the numbers of the last edit that has begun, and of the last that is done */
} shared[PAGES];

static uint32_t stop;

static void failed(const struct vcpu_thread *t, const char *what, unsigned page, uint64_t seen, uint64_t first,
                   uint64_t last)
{
	fprintf(stderr, "%s, vCPU %u: %s page %u shows %#llx after %llu looks; edits %llu to %llu\n",
	        t->m->shadow ? "shadow" : "second stage", t->id, what, page, (unsigned long long)seen,
	        (unsigned long long)t->looks, (unsigned long long)first, (unsigned long long)last);
	abort();
}

static uint64_t run(struct vcpu_thread *t, unsigned stub, uint64_t at, uint64_t value, uint64_t linear)
{
	struct cpu_state *s = cpu_state(t->m->cpu[t->id]);
	enum cpu_exit exit;

	s->gpr[CPU_RAX] = at;
	s->gpr[CPU_RCX] = value;
	s->gpr[CPU_RBX] = linear;
	s->rip = CODE + 0x40 * stub;
	do
		exit = cpu_run(t->m->cpu[t->id]);
	while (exit == CPU_EXIT_KICKED);
	if (exit != CPU_EXIT_HLT || s->rip < CODE || s->rip > CODE + 0x200) {
		fprintf(stderr, "vCPU %u: exit %d at %#llx, cr2 %#llx\n", t->id, exit, (unsigned long long)s->rip,
		        (unsigned long long)s->cr2);
		abort();
	}
	return s->gpr[CPU_RDX];
}

enum { LOOK, LOOK_INVLPG, LOOK_CR3, EDIT };

static uint64_t linear_of(unsigned table, unsigned page)
{
	return WINDOW + table * 0x200000u + page * 0x1000u;
}

/* Edit an entry through the table's own address, through the tables' map of themselves, or by the hypervisor. */
static void entry_store(struct vcpu_thread *t, unsigned table, unsigned page, unsigned frame)
{
	uint64_t value = (FRAME + (table * FRAMES + frame) * 0x1000u) | 3 | (rng_next(&t->rng) & 0x60),
	         entry = TABLE + table * 0x1000u + page * 8;

	t->edits++;
	switch (rng_below(&t->rng, 5)) {
	case 0:
		if (vmmu_guest_write(t->m->vcpu[t->id], (struct vmmu_gpa){ entry }, &value, 8) != VMMU_OK)
			abort();
		break;
	case 1:
	case 2:
		run(t, EDIT, 0xffff000000000000 | (uint64_t)SELF << 39 | linear_of(table, page) >> 12 << 3, value, 0);
		break;
	default:
		run(t, EDIT, entry, value, 0);
		break;
	}
}

static void own_page(struct vcpu_thread *t, unsigned page)
{
	unsigned how = rng_below(&t->rng, 3);
	uint64_t seen, first = FRAME + t->id * FRAMES * 0x1000u;

	if (rng_one_in(&t->rng, 2)) {
		t->now[page] = rng_below(&t->rng, FRAMES);
		t->allowed[page] |= 1u << t->now[page];
		entry_store(t, t->id, page, t->now[page]);
	}
	if (how == LOOK_INVLPG)
		t->allowed[page] = 1u << t->now[page];
	for (unsigned i = 0; how == LOOK_CR3 && i < PAGES; i++)
		t->allowed[i] = 1u << t->now[i];
	seen = run(t, how, 0, 0, linear_of(t->id, page));
	if (seen < first || seen >= first + FRAMES * 0x1000u || !(t->allowed[page] >> ((seen - first) >> 12) & 1))
		failed(t, "its own", page, seen, t->now[page], t->allowed[page]);
}

static void page_of_all(struct vcpu_thread *t, unsigned page)
{
	struct shared *s = &shared[page];
	uint64_t first = FRAME + SHARED * FRAMES * 0x1000u, before, after, seen;

	if (rng_one_in(&t->rng, 3) && pthread_mutex_trylock(&s->lock) == 0) {
		uint64_t edit = s->done + 1;

		__atomic_store_n(&s->begun, edit, __ATOMIC_SEQ_CST);
		entry_store(t, SHARED, page, edit % FRAMES);
		__atomic_store_n(&s->done, edit, __ATOMIC_SEQ_CST);
		pthread_mutex_unlock(&s->lock);
	}
	before = __atomic_load_n(&s->done, __ATOMIC_SEQ_CST);
	seen = run(t, rng_one_in(&t->rng, 2) ? LOOK_INVLPG : LOOK_CR3, 0, 0, linear_of(SHARED, page));
	after = __atomic_load_n(&s->begun, __ATOMIC_SEQ_CST);
	/*
	 * A load of CR3 has also flushed the vCPU's own pages. The model does not note that, and so allows more than
	 * it need: that does no harm.
	 */
	if (seen < first || seen >= first + FRAMES * 0x1000u)
		failed(t, "everybody's", page, seen, before, after);
	if (after - before >= FRAMES - 1) {
		t->skipped++; /* so many edits were made meanwhile that every frame is allowed */
		return;
	}
	for (uint64_t edit = before; edit <= after; edit++)
		if ((seen - first) >> 12 == edit % FRAMES)
			return;
	failed(t, "everybody's", page, seen, before, after);
}

static void *thread_main(void *arg)
{
	struct vcpu_thread *t = arg;

	for (unsigned i = 0; i < t->turns; i++) {
		if (rng_one_in(&t->rng, 2))
			own_page(t, rng_below(&t->rng, PAGES));
		else
			page_of_all(t, rng_below(&t->rng, PAGES));
		t->looks++;
	}
	return NULL;
}

static void *host_main(void *arg)
{
	struct machine *m = arg;
	struct rng rng;
	struct vmmu_region region = { .bytes = RAM, .hva = { (uintptr_t)m->ram } };
	static uint64_t log[RAM / 4096 / 64];

	rng_seed(&rng, 5);
	while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST)) {
		struct vmmu_hva start = { (uintptr_t)m->ram + rng_below(&rng, RAM / 4096 - 16) * 4096 },
		                end = { start.v + 16 * 4096 };

		switch (rng_below(&rng, 8)) {
		case 0:
			if (m->shadow && vmmu_shadow_limit_set(m->mmu, rng_one_in(&rng, 2) ? 0 :
			                                               12 + rng_below(&rng, 20)) != VMMU_OK)
				abort();
			break;
		case 1:
			region.flags ^= VMMU_SLOT_LOG_DIRTY;
			if (vmmu_region_set(m->mmu, &region) != VMMU_OK)
				abort();
			break;
		case 2:
			if (region.flags && vmmu_dirty_get(m->mmu, 0, 0, log, RAM / 4096 / 64) != VMMU_OK)
				abort();
			break;
		case 3:
		case 4:
			vmmu_age(m->mmu, start, end, true);
			break;
		default:
			vmmu_invalidate_begin(m->mmu, start, end);
			vmmu_invalidate_end(m->mmu, start, end);
			break;
		}
		usleep(rng_below(&rng, 300));
	}
	return NULL;
}

static void memory_make(struct machine *m)
{
	for (unsigned table = 0; table <= SHARED; table++) {
		store(m, PD2 + 8 * table, (TABLE + table * 0x1000u) | 7);
		for (unsigned frame = 0; frame < FRAMES; frame++) {
			uint64_t at = FRAME + (table * FRAMES + frame) * 0x1000u;

			store(m, at, at);
		}
		for (unsigned page = 0; page < PAGES; page++)
			store(m, TABLE + table * 0x1000u + page * 8, (FRAME + table * FRAMES * 0x1000u) | 3);
	}
	memcpy(m->ram + PML4B, m->ram + PML4, 0x1000);
	LOAD(m, CODE + 0x40 * LOOK, look);
	LOAD(m, CODE + 0x40 * LOOK_INVLPG, look_invlpg);
	LOAD(m, CODE + 0x40 * LOOK_CR3, look_cr3);
	LOAD(m, CODE + 0x40 * EDIT, edit);
	for (unsigned i = 0; i < PAGES; i++)
		shared[i] = (struct shared){ .lock = PTHREAD_MUTEX_INITIALIZER };
}

static void run_vcpus(struct machine *m, unsigned vcpus, unsigned turns)
{
	static struct vcpu_thread thread[VCPUS];
	pthread_t host;

	memory_make(m);
	stop = 0;
	for (unsigned id = 0; id < vcpus; id++) {
		struct vcpu_thread *t = &thread[id];

		*t = (struct vcpu_thread){ .m = m, .id = id, .turns = turns };
		rng_seed(&t->rng, (uint64_t)vcpus * 10 + id);
		for (unsigned page = 0; page < PAGES; page++)
			t->allowed[page] = 1;
		if (id)
			machine_cpu_make(m, id);
		if (id & 1) {
			cpu_state(m->cpu[id])->cr3 = PML4B;
			cpu_state_changed(m->cpu[id], CPU_CHANGED_ALL);
		}
	}
	pthread_create(&host, NULL, host_main, m);
	for (unsigned id = 0; id < vcpus; id++)
		pthread_create(&thread[id].thread, NULL, thread_main, &thread[id]);
	for (unsigned id = 0; id < vcpus; id++)
		pthread_join(thread[id].thread, NULL);
	__atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
	pthread_join(host, NULL);
	for (unsigned id = 0; id < vcpus; id++) {
		assert_true(thread[id].edits > turns / 8);
		assert_true(thread[id].skipped < turns / 4);
	}
}

/* With more vCPUs each makes fewer turns. */
static void on_vcpus(unsigned vcpus)
{
	const char *variable = getenv("VMMU_TEST_TURNS");
	unsigned turns = (variable ? (unsigned)atoi(variable) : 120000) / vcpus;

	for (int shadow = 0; shadow < 2; shadow++) {
		struct machine *m = machine_make(shadow ? VMMU_MMU_SHADOW : VMMU_MMU_TDP);

		run_vcpus(m, vcpus, turns);
		machine_free(m);
	}
}

static void test_one_vcpu(void **state)
{
	(void)state;
	on_vcpus(1);
}

static void test_two_vcpus(void **state)
{
	(void)state;
	on_vcpus(2);
}

static void test_four_vcpus(void **state)
{
	(void)state;
	on_vcpus(4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_vcpu), cmocka_unit_test(test_two_vcpus), cmocka_unit_test(test_four_vcpus),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
