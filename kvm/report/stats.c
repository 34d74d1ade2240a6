/* SPDX-License-Identifier: MIT */
/* The table of --stats: totals of all VMs of the process, alive or gone. */
#include "kvm/report/stats.h"
#include "kvm/process/config.h"
#include "kvm/vm/host_memory.h"
#include "kvm/vm/machines.h"
#include "kvm/process/signals.h"
#include "kvm/report/unknown.h"
#include "kvm/vm/vm.h"
#include "port/posix/lock.h"
#include <stdio.h>
#include <string.h>

struct totals {
	unsigned vms, vcpus;
	struct vmmu_stats mmu;
	struct cpu_translate_stats translate;
	uint64_t exits[EXITS_COUNT];
	uint64_t runs;
};

static struct totals gone;
static struct posix_lock lock = POSIX_LOCK_INIT;

_Static_assert(sizeof(struct vmmu_stats) % sizeof(uint64_t) == 0, "all counters are 64 bits");
_Static_assert(sizeof(struct cpu_translate_stats) % sizeof(uint64_t) == 0, "all counters are 64 bits");

static void add_translate(const struct cpu *cpu, struct cpu_translate_stats *to)
{
	struct cpu_translate_stats stats;
	uint64_t *sum = (uint64_t *)to;
	const uint64_t *one = (const uint64_t *)&stats;

	cpu_translate_stats(cpu, &stats);
	for (size_t i = 0; i < sizeof(stats) / sizeof(*one); i++)
		sum[i] += one[i];
}

static void add_vm(struct kvm *kvm, void *context)
{
	struct totals *to = context;
	struct vmmu_stats mmu;
	uint64_t *sum = (uint64_t *)&to->mmu;
	const uint64_t *one = (const uint64_t *)&mmu;

	vmmu_stats_get(kvm->mmu, &mmu, sizeof(mmu));
	for (size_t i = 0; i < sizeof(mmu) / sizeof(*one); i++)
		sum[i] += one[i];
	to->vms++;
	for (unsigned id = 0; id < MAX_VCPU_ID; id++) {
		struct kvm_vcpu *vcpu = vm_vcpu(kvm, id);

		if (!vcpu)
			continue;
		to->vcpus++;
		add_translate(vcpu->cpu, &to->translate);
		to->runs += __atomic_load_n(&vcpu->runs, __ATOMIC_RELAXED);
		for (unsigned e = 0; e < EXITS_COUNT; e++)
			to->exits[e] += __atomic_load_n(&vcpu->exits[e], __ATOMIC_RELAXED);
	}
}

void stats_vm_gone(struct kvm *kvm)
{
	posix_lock(&lock);
	add_vm(kvm, &gone);
	posix_unlock(&lock);
}

void stats_fork(enum fork_step step)
{
	if (step == FORK_PREPARE) {
		posix_lock(&lock);
		return;
	}
	if (step == FORK_CHILD)
		memset(&gone, 0, sizeof(gone)); /* the parent prints these itself */
	posix_unlock(&lock);
}

static void line(const char *name, uint64_t value)
{
	fprintf(stderr, "  %-28s %14llu\n", name, (unsigned long long)value);
}

static void print_translate(const struct cpu_translate_stats *t)
{
	if (t->blocks == 0)
		return;
	fprintf(stderr, " code that was translated\n");
	line("blocks", t->blocks);
	line("their bytes", t->guest_bytes);
	line("bytes made of them", t->host_bytes);
	line("thrown away", t->flushes);
	line("blocks that were written", t->kills);
	line("entries", t->entries);
	line("slow accesses", t->accesses);
	line("calls of handlers", t->calls);
	if (t->checked)
		line("blocks checked", t->checked);
}

static void print(const struct totals *t)
{
	const struct vmmu_stats *m = &t->mmu;

	fprintf(stderr, "\nvmmu statistics: %u VMs, %u vCPUs\n", t->vms, t->vcpus);
	fprintf(stderr, " faults\n");
	line("fixed", m->faults_fixed);
	line("fixed without a lock", m->faults_fast);
	line("already fixed", m->faults_spurious);
	line("retried", m->faults_retried);
	line("MMIO", m->faults_mmio);
	line("no host page", m->faults_host);
	fprintf(stderr, " tables\n");
	line("now", m->tables);
	line("ever", m->tables_allocated);
	line("4K leaves", m->pages_4k);
	line("2M leaves", m->pages_2m);
	line("1G leaves", m->pages_1g);
	line("split", m->splits);
	line("recovered", m->recovered);
	if (m->nested_faults) {
		fprintf(stderr, " guests of guests\n");
		line("faults", m->nested_faults);
		line("of their hypervisor", m->nested_faults_guest);
		line("tables now", m->nested_tables);
		line("tables ever", m->nested_tables_allocated);
	}
	fprintf(stderr, " flushes and requests\n");
	line("TLB flushes", m->tlb_flushes);
	line("requests", m->requests);
	line("kicks", m->kicks);
	fprintf(stderr, " slots and invalidations\n");
	line("slot changes", m->slot_changes);
	line("invalidations", m->invalidations);
	line("that took mmu_lock", m->invalidations_hit);
	line("pages dirtied", m->dirty_pages);
	line("pages aged", m->ages);
	line("found young", m->ages_young);
	host_memory_print(stderr, line);
	print_translate(&t->translate);
	fprintf(stderr, " exits by reason (%llu KVM_RUN)\n", (unsigned long long)t->runs);
	for (unsigned e = 0; e < EXITS_COUNT; e++)
		if (t->exits[e])
			line(exit_counter_names[e], t->exits[e]);
	fprintf(stderr, " asked for and not there: name, number, calls\n");
	if (unknown_print(stderr, "  ") == 0)
		fprintf(stderr, "  nothing\n");
}

static void say(const char *trace)
{
	struct totals totals;

	if (config_stats()) {
		posix_lock(&lock);
		totals = gone;
		posix_unlock(&lock);
		machines_each(add_vm, &totals);
		if (totals.vms || totals.runs)
			print(&totals);
	}
	if (trace) {
		FILE *out = fopen(trace, "ae");

		if (out) {
			unknown_print(out, "");
			fclose(out);
		}
	}
}

void stats_at_exit(void)
{
	static atomic_flag done = ATOMIC_FLAG_INIT;
	const char *trace = config_trace();

	if ((!config_stats() && !trace) || atomic_flag_test_and_set(&done))
		return;
	signals_hold();
	say(trace);
	signals_release();
}
