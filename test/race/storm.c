/* SPDX-License-Identifier: MIT */
#include "test/race/storm.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "core/audit/audit.h"
#include "core/sync/vm.h"

#define QUIET_MS      250
#define WATCHDOG_SECS 60 /* seconds without a step of some thread: a deadlock, or a lost wake-up */
#define BLOCK         (UINT64_C(2) << 20)

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void line_out(void *arg, const char *text)
{
	unsigned *left = arg;

	if (*left && (*left)--)
		fprintf(stderr, "    %s\n", text);
}

_Noreturn void storm_fail(struct storm *storm, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "FAILED %s: ", storm->plan->name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
	_exit(1); /* no destructors: other threads are running */
}

/* --- threads --- */

void storm_point(struct actor *actor)
{
	struct storm *storm = actor->storm;

	__atomic_store_n(&actor->steps, actor->steps + 1, __ATOMIC_RELAXED);
	if (!__atomic_load_n(&storm->pause, __ATOMIC_RELAXED))
		return;
	if (actor->index < VCPUS)
		mcpu_leave(storm->cpu[actor->index]);
	pthread_mutex_lock(&storm->lock);
	storm->parked++;
	pthread_cond_signal(&storm->parked_one);
	while (atomic_get(&storm->pause))
		pthread_cond_wait(&storm->go, &storm->lock);
	storm->parked--;
	pthread_mutex_unlock(&storm->lock);
}

static void *thread_main(void *arg)
{
	struct actor *actor = arg;

	while (!atomic_get(&actor->storm->stop)) {
		storm_point(actor);
		actor->step(actor);
	}
	if (actor->index < VCPUS)
		mcpu_leave(actor->storm->cpu[actor->index]);
	return NULL;
}

static void all_stop(struct storm *storm)
{
	struct timespec until;

	pthread_mutex_lock(&storm->lock);
	atomic_set(&storm->pause, 1);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WATCHDOG_SECS;
	while (storm->parked < storm->actors)
		if (pthread_cond_timedwait(&storm->parked_one, &storm->lock, &until) == ETIMEDOUT) {
			for (unsigned i = 0; i < storm->actors; i++)
				fprintf(stderr, "    %s %u: %llu steps\n", storm->actor[i].name, i,
				        (unsigned long long)__atomic_load_n(&storm->actor[i].steps, __ATOMIC_RELAXED));
			storm_fail(storm, "%u of %u threads do not stop: a deadlock or a lost wake-up",
			           storm->actors - storm->parked, storm->actors);
		}
	pthread_mutex_unlock(&storm->lock);
}

static void all_go(struct storm *storm)
{
	pthread_mutex_lock(&storm->lock);
	atomic_set(&storm->pause, 0);
	pthread_cond_broadcast(&storm->go);
	while (storm->parked)
		pthread_mutex_unlock(&storm->lock), sched_yield(), pthread_mutex_lock(&storm->lock);
	pthread_mutex_unlock(&storm->lock);
}

/*
 * A thread may lose its CPU anywhere. Here a signal whose handler sleeps takes it away. That widens every
 * window between two instructions; some windows are never hit otherwise, as one between a read and a store
 * that must not happen any more.
 */
static void interrupted(int signal)
{
	static uint32_t turn;
	struct timespec time = { .tv_nsec = (long)(__atomic_add_fetch(&turn, 0x9e3779b9, __ATOMIC_RELAXED) % 300000) };
	int saved = errno;

	(void)signal;
	nanosleep(&time, NULL);
	errno = saved;
}

static void wait_and_interrupt(struct storm *storm, double seconds, bool interrupt)
{
	double end = now() + seconds;

	if (!interrupt) {
		usleep((useconds_t)(seconds * 1e6));
		return;
	}
	for (unsigned i = 0; now() < end; i++) {
		pthread_kill(storm->actor[i % storm->actors].thread, SIGUSR1);
		if (i % 3 == 0)
			usleep(20);
	}
}

/* --- quiet points --- */

/* An actor that changes INV leaves it valid at the end of each step. */
static void areas_check(struct storm *storm)
{
	for (unsigned page = 0; page < AREA_PAGES; page++)
		for (unsigned word = 0; word < VCPUS; word++)
			if (*page_word(storm->area[AREA_INV], page, word) == POISON)
				storm_fail(storm, "poison is left in page %u", page);
}

static struct vmmu_pfn frame_of(void *arg, struct vmmu_hva hva)
{
	return (struct vmmu_pfn){ thost_frame(arg, hva.v) };
}

static void quiet_point(struct storm *storm)
{
	unsigned left = 30;
	struct audit_report report = { .out = { line_out, &left }, .frame = frame_of, .frame_arg = &storm->host };

	areas_check(storm);
	log_compare(storm);
	if (!audit_vm(&storm->vm->vm, &report)) {
		unsigned dump = 120;
		struct audit_out out = { line_out, &dump };

		audit_dump(&storm->vm->vm, &out);
		storm_fail(storm, "the audit found %llu violations", (unsigned long long)report.violations);
	}
}

/* --- a VM --- */

void region_set(struct storm *storm, unsigned slot, uint64_t gpa, uint64_t pages, const void *memory, unsigned flags)
{
	struct vmmu_region region = {
		.slot = slot, .flags = flags, .gpa = { gpa }, .bytes = pages << 12, .hva = { (uintptr_t)memory }
	};
	enum vmmu_status status = vmmu_region_set(storm->vm, &region);

	if (status != VMMU_OK)
		storm_fail(storm, "slot %u: %s", slot, vmmu_status_name(status));
}

/* The area is aligned as its guest addresses are, so that there are huge leaves. */
static char *area_make(uint64_t pages)
{
	char *raw = mmap(NULL, pages * 4096 + BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *area = (char *)(((uintptr_t)raw + BLOCK - 1) & ~(BLOCK - 1));

	if (raw == MAP_FAILED)
		abort();
	munmap(raw, area - raw);
	munmap(area + pages * 4096, raw + BLOCK - area);
	madvise(area, pages * 4096, MADV_NOHUGEPAGE);
	return area;
}

static void guests_make(struct storm *storm, unsigned variant)
{
	storm->paging = storm->nested || variant % 4 != 3;
	memset(storm->tables, 0, GUESTS * TABLE_PAGES * 4096);
	for (unsigned i = 0; i < GUESTS; i++)
		mcpu_guest_init(&storm->guest[i], GPA_TABLES + i * TABLE_PAGES * 4096,
		                storm->tables + i * TABLE_PAGES * 4096, TABLE_PAGES);
	region_set(storm, SLOT_TABLES, GPA_TABLES, GUESTS * TABLE_PAGES, storm->tables, 0);
}

void vcpu_boot(struct storm *storm, struct mcpu *cpu, struct vmmu_vcpu *vcpu, unsigned n)
{
	mcpu_init(cpu, vcpu);
	if (storm->nested)
		mcpu_nest(cpu, &storm->guest[n % GUESTS], n + 1);
	else if (storm->paging)
		mcpu_page(cpu, &storm->guest[n % GUESTS], n + 1);
}

void vcpu_level_draw(struct storm *storm, struct mcpu *cpu, struct rng *rng)
{
	if (storm->nested && mcpu_l2(cpu, rng_one_in(rng, 2)) != MCPU_OK)
		storm_fail(storm, "guest mode does not begin");
}

static void vm_make(struct storm *storm, unsigned variant)
{
	static const enum vmmu_format formats[] = {
		VMMU_FORMAT_NPT4, VMMU_FORMAT_EPT4, VMMU_FORMAT_NPT5, VMMU_FORMAT_EPT4_NO_AD
	};
	struct vmmu_config config = {
		.size = sizeof(config),
		.host = &thost_ops,
		.host_state = &storm->host,
		.mmu = storm->shadow ? VMMU_MMU_SHADOW : VMMU_MMU_TDP,
		.format = storm->shadow || storm->nested ? VMMU_FORMAT_NPT4 : formats[variant % array_size(formats)],
		.max_vcpus = 64,
		.slot_delete_zaps_slot = variant & 1,
		.nested = storm->nested,
	};

	storm->host.page_delay_us = variant & 2 ? storm->plan->page_delay_us : 0;
	storm->manual = variant & 4;
	if (vmmu_vm_create(&config, &storm->vm) != VMMU_OK ||
	    (storm->plan->ring && vmmu_dirty_ring_enable(storm->vm, RING) != VMMU_OK) ||
	    vmmu_dirty_mode_set(storm->vm, storm->manual ? VMMU_DIRTY_MANUAL_PROTECT |
	                                                           (variant & 8 ? VMMU_DIRTY_INITIALLY_SET : 0)
	                                                 : 0) != VMMU_OK)
		storm_fail(storm, "no VM");
	for (unsigned i = 0; i < AREAS; i++)
		memset(storm->area[i], 0, AREA_PAGES * 4096);
	region_set(storm, SLOT_LOG, GPA_LOG, AREA_PAGES, storm->area[AREA_LOG],
	           storm->plan->log_from_start ? VMMU_SLOT_LOG_DIRTY : 0);
	region_set(storm, SLOT_INV, GPA_INV, AREA_PAGES, storm->area[AREA_INV], 0);
	region_set(storm, SLOT_SWAP, GPA_SWAP, AREA_PAGES, storm->area[AREA_SWAP], 0);
	frames_make(storm);
	region_set(storm, SLOT_FRAME, GPA_FRAME, FRAME_PAGES, storm->frame_hva, 0);
	if (storm->shadow || storm->nested)
		guests_make(storm, variant);
	storm->backing = 0;
	storm->up = storm->changes = 1;
	storm->down = storm->phase = storm->gone_in = 0;
	storm->mirror_valid = storm->plan->log_from_start;
	memset(storm->mirror, 0, AREA_PAGES * sizeof(*storm->mirror));
}

static void vcpus_make(struct storm *storm)
{
	for (unsigned n = 0; n < VCPUS; n++) {
		struct vmmu_vcpu *vcpu;

		if (vmmu_vcpu_create(storm->vm, n, NULL, &vcpu) != VMMU_OK)
			storm_fail(storm, "no vCPU");
		vcpu_boot(storm, storm->cpu[n], vcpu, n);
		memset(storm->ring[n], 0, RING * sizeof(*storm->ring[n]));
		storm->fetch[n] = 0;
		if (storm->plan->ring)
			vmmu_vcpu_dirty_ring_set(vcpu, storm->ring[n]);
	}
}

static void actors_start(struct storm *storm, uint64_t seed)
{
	storm->actors = 0;
	storm->stop = storm->pause = 0;
	for (unsigned i = 0; i < MAX_ACTORS; i++) {
		struct actor *actor = &storm->actor[i];

		*actor = (struct actor){ .storm = storm, .index = i, .name = "vcpu", .step = actor_vcpu };
		if (i >= VCPUS) {
			actor->name = storm->plan->actors[i - VCPUS].name;
			actor->step = storm->plan->actors[i - VCPUS].step;
		}
		if (!actor->step)
			break;
		rng_seed(&actor->rng, seed * MAX_ACTORS + i);
		storm->actors++;
	}
	for (unsigned i = 0; i < storm->actors; i++)
		if (pthread_create(&storm->actor[i].thread, NULL, thread_main, &storm->actor[i]))
			abort();
}

/* One VM from its creation to its end. */
static void round_run(struct storm *storm, unsigned variant, uint64_t seed, double seconds)
{
	double end = now() + seconds;

	memset(&storm->host, 0, sizeof(storm->host));
	vm_make(storm, variant);
	vcpus_make(storm);
	actors_start(storm, seed);
	do {
		wait_and_interrupt(storm, QUIET_MS / 1000.0, variant / 3 % 2);
		all_stop(storm);
		quiet_point(storm);
		if (now() >= end)
			atomic_set(&storm->stop, 1);
		all_go(storm);
	} while (!storm->stop);
	for (unsigned i = 0; i < storm->actors; i++)
		pthread_join(storm->actor[i].thread, NULL);
	for (unsigned n = 0; n < VCPUS; n++) {
		storm->guest_faults += storm->cpu[n]->guest_faults;
		storm->edits += storm->cpu[n]->edits;
		storm->emulated += storm->cpu[n]->emulated;
		storm->nested_enters += storm->cpu[n]->nested_enters;
		storm->stale_checks += storm->cpu[n]->stale_checks;
		vmmu_vcpu_destroy(storm->cpu[n]->vcpu);
	}
	if (vmmu_vm_is_dead(storm->vm))
		storm_fail(storm, "the VM is dead");
	vmmu_vm_destroy(storm->vm);
	if (!thost_is_empty(&storm->host))
		storm_fail(storm, "leaks");
}

static void counters_print(const struct storm *storm, double seconds)
{
	printf("%5.0f s  accesses %llu  MMIO %llu  invalidations %llu  slot swaps %llu  harvests %llu  dirty pages "
	       "%llu  pages compared %llu\n",
	       seconds, (unsigned long long)storm->accesses, (unsigned long long)storm->mmio,
	       (unsigned long long)storm->invalidations, (unsigned long long)storm->swaps,
	       (unsigned long long)storm->harvests, (unsigned long long)storm->dirty_pages,
	       (unsigned long long)storm->compared);
	if (storm->shadow || storm->nested)
		printf("         guests: %llu of their own faults, %llu edits of tables, %llu stores emulated\n",
		       (unsigned long long)storm->guest_faults, (unsigned long long)storm->edits,
		       (unsigned long long)storm->emulated);
	if (storm->nested)
		printf("         guest mode: begun %llu times, %llu entries that L1 took away were not found\n",
		       (unsigned long long)storm->nested_enters, (unsigned long long)storm->stale_checks);
	fflush(stdout);
}

int storm_main(const struct storm_plan *plans, unsigned count, int argc, char **argv)
{
	static struct storm storm;
	const char *variable = getenv("VMMU_STORM_SECONDS"), *seed_variable = getenv("VMMU_TEST_SEED");
	bool shadow = argc > 1 && !strcmp(argv[1], "shadow"), nested = argc > 1 && !strcmp(argv[1], "nested");
	unsigned kinds = shadow || nested;
	double seconds = argc > 1 + (int)kinds ? atof(argv[1 + kinds])
	                 : variable        ? atof(variable)
	                                   : 3,
	       start = now(), reported = start;
	uint64_t seed = seed_variable ? strtoull(seed_variable, NULL, 0) : (uint64_t)time(NULL);
	double share = seconds / (8 * count) < 0.3 ? 0.3 : seconds / (8 * count) > 5 ? 5 : seconds / (8 * count);

	storm.shadow = shadow;
	storm.nested = nested;
	sigaction(SIGUSR1, &(struct sigaction){ .sa_handler = interrupted, .sa_flags = SA_RESTART }, NULL);
	pthread_mutex_init(&storm.lock, NULL);
	pthread_cond_init(&storm.parked_one, NULL);
	pthread_cond_init(&storm.go, NULL);
	for (unsigned i = 0; i < AREAS; i++)
		storm.area[i] = area_make(AREA_PAGES);
	storm.tables = area_make(GUESTS * TABLE_PAGES);
	for (unsigned n = 0; n < VCPUS; n++) {
		storm.cpu[n] = calloc(1, sizeof(struct mcpu));
		storm.ring[n] = calloc(RING, sizeof(struct vmmu_dirty_gfn));
	}
	storm.mirror = calloc(AREA_PAGES, sizeof(*storm.mirror));
	printf("seed %llu, %.0f s\n", (unsigned long long)seed, seconds);
	for (unsigned i = 0; now() - start < seconds; i++) {
		storm.plan = &plans[i % count];
		round_run(&storm, i / count + seed, seed + i, share);
		if (now() - reported >= 10) {
			reported = now();
			counters_print(&storm, reported - start);
		}
	}
	counters_print(&storm, now() - start);
	printf("nothing lost\n");
	return 0;
}
