/* SPDX-License-Identifier: MIT */
#include "kvm/report/unknown.h"
#include "kvm/report/surface.h"
#include <stdatomic.h>
#include <stdbool.h>

#define KINDS 64u

struct kind {
	atomic_ullong key; /* number + 1; 0: free */
	atomic_ullong calls;
};

static struct kind ioctls[KINDS], caps[KINDS];
static atomic_ullong more; /* calls of kinds that found no room */

static void note(struct kind *kinds, uint64_t number)
{
	for (unsigned i = 0; i < KINDS; i++) {
		struct kind *k = &kinds[(number * 31 + i) % KINDS];
		unsigned long long expected = 0;

		if (atomic_load(&k->key) == number + 1 ||
		    atomic_compare_exchange_strong(&k->key, &expected, number + 1) || expected == number + 1) {
			atomic_fetch_add(&k->calls, 1);
			return;
		}
	}
	atomic_fetch_add(&more, 1);
}

void unknown_ioctl(uint32_t request)
{
	note(ioctls, request);
}

void unknown_cap(unsigned number)
{
	note(caps, number);
}

unsigned unknown_print(FILE *out, const char *indent)
{
	unsigned count = 0;

	for (unsigned i = 0; i < KINDS; i++) {
		unsigned long long key = atomic_load(&ioctls[i].key);
		const struct surface_ioctl *known;

		if (!key)
			continue;
		known = surface_ioctl_find((uint32_t)(key - 1));
		fprintf(out, "%sioctl      %-32s 0x%08llx  %llu\n", indent, known ? known->name : "(not KVM's)",
		        key - 1, atomic_load(&ioctls[i].calls));
		count++;
	}
	for (unsigned i = 0; i < KINDS; i++) {
		unsigned long long key = atomic_load(&caps[i].key);
		const struct surface_cap *known;

		if (!key)
			continue;
		known = surface_cap_find((unsigned)(key - 1));
		fprintf(out, "%scapability %-32s %10llu  %llu\n", indent, known ? known->name : "(not KVM's)", key - 1,
		        atomic_load(&caps[i].calls));
		count++;
	}
	if (atomic_load(&more))
		fprintf(out, "%sand %llu calls of further kinds\n", indent, atomic_load(&more));
	return count;
}
