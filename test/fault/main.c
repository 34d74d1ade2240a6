/* SPDX-License-Identifier: MIT */
/*
 * Fail call N to the host, for every N: an allocation, all allocations from N on, or a page look-up (with each kind
 * of failure). For each N a script of steps is run from beginning to end. A step that fails must return an error,
 * leave a VM that passes the audit, and succeed when it is tried again. At the end nothing may be left allocated.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test/common/side.h"
#include "test/fault/script.h"

#define KINDS        5
#ifndef SIDE_BY_SIDE /* fewer with a sanitizer, whose records take up to 3 GB a process */
#define SIDE_BY_SIDE 12
#endif

static const char *const kinds[KINDS] = { "allocation", "allocations from", "page (no page)", "page (again)",
                                          "page (no memory)" };

static void arm(struct script *s, unsigned kind, int64_t n)
{
	s->host.sticky = kind == 1;
	if (kind < 2)
		s->host.alloc_fail = n;
	else
		s->host.page_fail = n;
	s->host.page_fail_with = kind == 2 ? VMMU_EFAULT : kind == 3 ? VMMU_EAGAIN : VMMU_ENOMEM;
}

static void disarm(struct script *s)
{
	s->host.alloc_fail = s->host.page_fail = 0;
}

/* Run the script once. Returns: whether call n was reached. */
static bool run(struct script *s, unsigned kind, int64_t n)
{
	bool reached, audit_next = false;

	arm(s, kind, n);
	for (const struct step *step = steps; step->fn; step++) {
		enum vmmu_status status = step->fn(s);

		if (status != VMMU_OK) {
			s->failed_steps++;
			if (s->host.alloc_fail > 0 || s->host.page_fail > 0)
				script_fail(s, "step %s: %s before anything failed", step->name,
				            vmmu_status_name(status));
			if (status != VMMU_ENOMEM && status != VMMU_EFAULT && status != VMMU_EAGAIN)
				script_fail(s, "step %s: %s", step->name, vmmu_status_name(status));
			disarm(s);
			script_audit(s, step->name);
			status = step->fn(s);
			if (status != VMMU_OK)
				script_fail(s, "step %s again: %s", step->name, vmmu_status_name(status));
			audit_next = true;
		}
		/*
		 * An audit waits for a grace period. So every step is audited only in a run in which nothing fails,
		 * and in other runs only the step that failed.
		 */
		if (audit_next || n == INT64_MAX)
			script_audit(s, step->name);
		audit_next = false;
	}
	reached = s->host.alloc_fail <= 0 && s->host.page_fail <= 0;
	disarm(s);
	if (!thost_is_empty(&s->host))
		script_fail(s, "leaks");
	return reached;
}

/* One kind of failure in one variant. Returns: the exit status. */
static int kind_run(struct script *s)
{
	unsigned long runs = 0;

	/*
	 * After the first 40, most page look-ups are the same for another block: only every fifth fails. Under shadow
	 * paging there are three times as many calls, and a third of them fail.
	 */
	for (s->n = 1;; s->n += s->n <= 40 ? 1 : s->kind >= 2 ? (s->variant & 8 ? 15 : 5) :
	                        s->kind == 1 && s->variant & 8 ? 3 : 1) {
		memset(&s->host, 0, sizeof(s->host));
		script_memory_reset(s);
		runs++;
		if (!run(s, s->kind, s->n))
			break;
	}
	printf("variant %u, %s: %lu runs, in which %lu steps failed and were tried again\n", s->variant, s->kind_name,
	       runs, s->failed_steps);
	/* Under shadow paging the answer "again" for a page only makes the fault be retried, so no step fails. */
	return s->failed_steps || (s->kind == 3 && s->variant & 8) ? 0 : 1;
}

static int nothing_fails(struct script *s)
{
	script_memory_reset(s);
	run(s, 0, INT64_MAX);
	return 0;
}

/*
 * A run mostly waits for grace periods, so several are made side by side. Each kind of failure has its own process,
 * because ThreadSanitizer keeps its records of memory that was freed.
 */
int main(void)
{
	static const unsigned variants[] = { 0, 3, 5, 6, 8, 12 };
	static struct script s;
	unsigned running = 0;
	bool bad = false;

	script_memory_make(&s);
	for (unsigned i = 0; i < sizeof(variants) / sizeof(variants[0]); i++)
		for (unsigned kind = 0; kind <= KINDS; kind++) {
			if (running == SIDE_BY_SIDE) {
				bad |= !side_wait();
				running--;
			}
			s.variant = variants[i];
			s.kind = kind;
			s.kind_name = kind < KINDS ? kinds[kind] : "nothing fails";
			fflush(NULL);
			running++;
			if (fork() == 0)
				exit(kind < KINDS ? kind_run(&s) : nothing_fails(&s));
		}
	for (; running; running--)
		bad |= !side_wait();
	return bad;
}
