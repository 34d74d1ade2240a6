/* SPDX-License-Identifier: MIT */
#include "core/audit/audit_int.h"

#include "core/fault/vcpu.h"
#include "core/notifier/notifier.h"

#define LINES 20

void audit_fail(struct audit *audit, const char *what, const char *name1, uint64_t value1, const char *name2,
                uint64_t value2)
{
	struct audit_report *report = audit->report;
	unsigned max = report->max_lines ? report->max_lines : LINES;

	if (report->violations++ >= max)
		return;
	text_str(&audit->text, what);
	if (name1) {
		text_str(&audit->text, ": ");
		text_hex(&audit->text, name1, value1);
	}
	if (name2) {
		text_str(&audit->text, ", ");
		text_hex(&audit->text, name2, value2);
	}
	text_end(&audit->text, &report->out);
}

static void audit_p5(struct audit *audit)
{
	struct vm *vm = audit->vm;

	if (vm->slots->gate.active != audit->report->invalidations)
		audit_fail(audit, "invalidations in flight", "gate ", vm->slots->gate.active,
		           "expected ", audit->report->invalidations);
	if (vm->notifier->in_progress > vm->slots->gate.active)
		audit_fail(audit, "invalidations counted that are not in flight (I5.1)", "", vm->notifier->in_progress,
		           "gate ", vm->slots->gate.active);
}

static void audit_vcpu(struct audit *audit, const struct vmmu_vcpu *vcpu, uint64_t *cached)
{
	*cached += vcpu->tables.count;
	if (load_relaxed(&vcpu->vcpu.mode) != VCPU_OUTSIDE)
		audit_fail(audit, "a vCPU is in the guest: not a quiet point", "vcpu ", vcpu->vcpu.id, NULL, 0);
	if (vcpu->root && !audit->vm->tdp)
		audit_fail(audit, "a TDP root in a VM that has none", "vcpu ", vcpu->vcpu.id, NULL, 0);
	if (vcpu->root && (!vcpu->root->is_root || vcpu->root->as_id != vcpu->as_id))
		audit_fail(audit, "a vCPU's root is not one of its address space", "vcpu ", vcpu->vcpu.id,
		           "root ", (uintptr_t)vcpu->root);
	if (vcpu->root && vcpu->root->invalid && !(load_relaxed(&vcpu->vcpu.requests) & REQ_FREE_OBSOLETE_ROOTS))
		audit_fail(audit, "a vCPU keeps an obsolete root and was not told (I3.2)", "vcpu ", vcpu->vcpu.id,
		           NULL, 0);
}

static void audit_counters(struct audit *audit)
{
	struct audit_report *report = audit->report;
	struct vm *vm = audit->vm;
	uint64_t cached = 0, all, free;

	for (unsigned level = 0; level < 3; level++) {
		uint64_t pages = 0;

		for (unsigned stripe = 0; stripe < MMU_LOCK_STRIPES; stripe++)
			pages += load_relaxed(&vm->count[stripe].pages[level]);
		if (pages != report->leaves[level])
			audit_fail(audit,
			           level == 0 ? "count of 4K leaves" :
			           level == 1 ? "count of 2M leaves" : "count of 1G leaves",
			           "counted ", pages, "there are ", report->leaves[level]);
	}
	if (load_relaxed(&vm->stats.tables) != report->tables)
		audit_fail(audit, "count of tables", "counted ", load_relaxed(&vm->stats.tables),
		           "reachable ", report->tables);
	for (unsigned id = 0; id < vm->vcpus.limit; id++)
		if (vm->vcpus.by_id[id])
			audit_vcpu(audit, container_of(vm->vcpus.by_id[id], struct vmmu_vcpu, vcpu), &cached);
	pool_count(vm, &all, &free);
	if (all != free + cached + report->tables)
		audit_fail(audit, "tables leaked or used twice", "of ", all,
		           "accounted for ", free + cached + report->tables);
}

bool audit_vm(struct vm *vm, struct audit_report *report)
{
	struct audit audit = { .vm = vm, .report = report };

	report->violations = report->roots = report->tables = report->mmio = report->writable_logged =
		report->shadow_pages = 0;
	for (unsigned level = 0; level < 3; level++)
		report->leaves[level] = 0;
	port_rcu_barrier(); /* after this, unlinked tables are back in the pool */
	mutex_lock(&vm->vcpus.lock);
	mutex_lock(&vm->slots_lock);
	if (vm_is_dead(vm))
		audit_fail(&audit, "the VM is dead", NULL, 0, NULL, 0);
	audit_slots(&audit);
	audit_tables(&audit);
	audit_shadow(&audit);
	audit_counters(&audit);
	audit_p5(&audit);
	mutex_unlock(&vm->slots_lock);
	mutex_unlock(&vm->vcpus.lock);
	return report->violations == 0;
}
