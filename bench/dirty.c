/* SPDX-License-Identifier: MIT */
/* The dirty log as a bitmap, of memory that the guest writes completely between two reads of the log. */
#include <stdlib.h>
#include <sys/ioctl.h>

#include "bench/bench.h"

#define LOG_BYTES (512 * MIB)
#define LOG_PAGES (LOG_BYTES / PAGE)
#define PER_GIB   ((double)(1024 * MIB) / (double)LOG_BYTES)

struct times {
	double enable, get, clear, redirty;
};

static double dirty_get(struct machine *m, void *bitmap)
{
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = bitmap };
	uint64_t t = now();

	if (ioctl(m->vm, KVM_GET_DIRTY_LOG, &log))
		die("KVM_GET_DIRTY_LOG");
	return (double)(now() - t);
}

static double dirty_clear(struct machine *m, void *bitmap)
{
	struct kvm_clear_dirty_log log = { .slot = 1, .num_pages = LOG_PAGES, .dirty_bitmap = bitmap };
	uint64_t t = now();

	if (ioctl(m->vm, KVM_CLEAR_DIRTY_LOG, &log))
		die("KVM_CLEAR_DIRTY_LOG");
	return (double)(now() - t);
}

static void all_must_be_set(const uint64_t *bitmap)
{
	for (uint64_t i = 0; i < LOG_PAGES / 64; i++)
		if (~bitmap[i])
			die("pages are missing in the dirty log");
}

static void manual_protect(struct machine *m)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = { 1 } };

	if (ioctl(m->vm, KVM_ENABLE_CAP, &cap))
		die("manual protect");
}

static struct times dirty_log(bool manual)
{
	struct times best = { .get = 1e18, .clear = 1e18, .redirty = 1e18 };
	uint64_t *bitmap = calloc(LOG_PAGES / 64, 8), t;
	struct call all = touch(0, LOG_PAGES);
	struct machine m;

	if (!bitmap)
		die("memory");
	machine_init(&m, 1, LOG_BYTES, DATA_PRESENT | DATA_SMALL);
	if (manual)
		manual_protect(&m);
	machine_call(&m, 0, &all);
	t = now();
	if (machine_slot(&m, 1, KVM_MEM_LOG_DIRTY_PAGES, DATA_GPA, LOG_BYTES, m.data))
		die("dirty logging");
	best.enable = (double)(now() - t);
	machine_call(&m, 0, &all);
	for (int i = 0; i < RUNS; i++) {
		best.get = least(best.get, dirty_get(&m, bitmap));
		all_must_be_set(bitmap);
		if (manual)
			best.clear = least(best.clear, dirty_clear(&m, bitmap));
		best.redirty = least(best.redirty, (double)machine_call(&m, 0, &all));
	}
	machine_fini(&m);
	free(bitmap);
	return best;
}

void bench_dirty(void)
{
	struct times legacy = dirty_log(false), manual = dirty_log(true);

	line("dirty log enable", legacy.enable / 1e6 * PER_GIB, "ms/GiB");
	line("dirty get, legacy", legacy.get / 1e6 * PER_GIB, "ms/GiB");
	line("dirty get, manual protect", manual.get / 1e6 * PER_GIB, "ms/GiB");
	line("dirty clear", manual.clear / (double)LOG_PAGES, "ns/page");
	line("re-dirty", least(legacy.redirty, manual.redirty) / (double)LOG_PAGES, "ns/page");
}
