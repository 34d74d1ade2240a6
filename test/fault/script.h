/* SPDX-License-Identifier: MIT */
/* The script of the fault tests: the life of a VM, in steps that can each be tried again after a failure. */
#ifndef TEST_FAULT_SCRIPT_H
#define TEST_FAULT_SCRIPT_H

#include <vmmu/vmmu.h>

#include "test/common/mcpu.h"
#include "test/common/thost.h"

#define AREA_PAGES (70u * 512) /* 2M blocks; to split all of them takes more tables than a chunk has */
#define CPUS       2
#define RING       256u
#define TABLES     600u

struct script {
	unsigned variant; /* bit 0: format, 1: a slot's deletion zaps only that slot, 2: rings, 3: shadow paging */
	unsigned kind;
	const char *kind_name;
	int64_t n;
	unsigned long failed_steps;

	struct thost host;
	struct vmmu_vm *vm;
	struct mcpu cpu[CPUS];
	struct vmmu_dirty_gfn ring[CPUS][RING];
	uint32_t fetch[CPUS];
	char *area;
	char *tables;            /* the guest's page tables, under shadow paging */
	struct mcpu_guest guest;
	uint64_t next_value;
	uint8_t dirty[AREA_PAGES]; /* the pages of slot 0 written since the last harvest, while it is logged */
	bool logged;
};

struct step {
	const char *name;
	enum vmmu_status (*fn)(struct script *s);
};

extern const struct step steps[]; /* ends with fn == NULL */

void script_memory_make(struct script *s);
void script_memory_reset(struct script *s);
void script_audit(struct script *s, const char *step);
_Noreturn void script_fail(struct script *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
