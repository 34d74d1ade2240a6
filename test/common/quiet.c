/* SPDX-License-Identifier: MIT */
#include "test/common/quiet.h"

#include <stdio.h>

#include "core/audit/audit.h"
#include "core/sync/vm.h"

static void line_out(void *arg, const char *text)
{
	unsigned *left = arg;

	if (*left && (*left)--)
		fprintf(stderr, "    %s\n", text);
}

bool quiet_audit(struct vmmu_vm *vm, uint64_t *shadow_pages)
{
	unsigned lines = 20;
	struct audit_report report = { .out = { line_out, &lines } };
	struct audit_out out = { line_out, &lines };

	if (audit_vm(&vm->vm, &report)) {
		if (shadow_pages)
			*shadow_pages = report.shadow_pages;
		return true;
	}
	fprintf(stderr, "the audit found %llu violations\n", (unsigned long long)report.violations);
	lines = 150;
	audit_dump(&vm->vm, &out);
	return false;
}
