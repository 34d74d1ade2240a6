/* SPDX-License-Identifier: MIT */
#include "kvm/vm/coalesced.h"
#include "kvm/process/sys.h"
#include "kvm/process/user.h"
#include "kvm/vm/ioctls.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ENTRIES ((unsigned)((VMMU_PAGE_SIZE - sizeof(struct kvm_coalesced_mmio_ring)) / \
                            sizeof(struct kvm_coalesced_mmio)))

/* KVM has room for so many devices on a bus, and a zone is one. Zones may overlap, and be the same. */
#define MAX_ZONES 1000u

struct zone {
	struct zone *next;
	uint64_t address;
	uint32_t size;
	bool port;
};

int coalesced_init(struct coalesced *c)
{
	long at = SYS6(SYS_mmap, 0, VMMU_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (at < 0)
		return -ENOMEM;
	c->ring = (struct kvm_coalesced_mmio_ring *)at; // NOLINT: the kernel's answer is an address
	pthread_mutex_init(&c->lock, NULL);
	return 0;
}

void coalesced_fini(struct coalesced *c)
{
	struct zone *next;

	for (struct zone *z = c->zones; z; z = next) {
		next = z->next;
		free(z);
	}
	pthread_mutex_destroy(&c->lock);
	SYS2(SYS_munmap, c->ring, VMMU_PAGE_SIZE);
}

/* As KVM does: a length whose sign bit is set is in no zone, and neither is a range that wraps. */
static bool has(const struct zone *z, bool port, uint64_t address, uint32_t len)
{
	if (z->port != port || (int32_t)len < 0 || address + len < address || address < z->address)
		return false;
	return address + len <= z->address + z->size;
}

/* Holds: the lock. Returns: false when the ring is full, or the client wrote nonsense into it. */
static bool put(struct kvm_coalesced_mmio_ring *ring, bool port, uint64_t address, unsigned len, const void *data)
{
	uint32_t last = __atomic_load_n(&ring->last, __ATOMIC_RELAXED);
	/* acquire: pairs with the client's store of `first`, when it has read the entry */
	uint32_t first = __atomic_load_n(&ring->first, __ATOMIC_ACQUIRE);
	struct kvm_coalesced_mmio *entry;

	if (last >= ENTRIES || (last + 1) % ENTRIES == first)
		return false;
	entry = (struct kvm_coalesced_mmio *)(ring + 1) + last;
	entry->phys_addr = address;
	entry->len = len;
	entry->pio = port;
	memcpy(entry->data, data, len);
	/* release: pairs with the client's load of `last`, before it reads the entry */
	__atomic_store_n(&ring->last, (last + 1) % ENTRIES, __ATOMIC_RELEASE);
	return true;
}

bool coalesced_write(struct kvm *kvm, bool port, uint64_t address, unsigned len, const void *data)
{
	struct coalesced *c = &kvm->coalesced;
	bool done = false;

	/* Relaxed: a write beside the ioctl that adds the first zone may go either way. */
	if (!atomic_load_explicit(&c->count[port], memory_order_relaxed) || len > sizeof(uint64_t))
		return false;
	pthread_mutex_lock(&c->lock);
	for (const struct zone *z = c->zones; z && !done; z = z->next)
		if (has(z, port, address, len)) {
			done = put(c->ring, port, address, len, data);
			break;
		}
	pthread_mutex_unlock(&c->lock);
	return done;
}

long coalesced_map(struct kvm *kvm, void *at, int protection)
{
	/* An old size of 0 asks for a second mapping of the same shared memory. */
	long result = SYS5(SYS_mremap, kvm->coalesced.ring, 0, VMMU_PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, at);

	if (result < 0)
		return result;
	return protection == (PROT_READ | PROT_WRITE) ? 0 : SYS3(SYS_mprotect, at, VMMU_PAGE_SIZE, protection);
}

static long zone_read(struct kvm_coalesced_mmio_zone *zone, unsigned long argument)
{
	if (user_read(zone, argument, sizeof(*zone)) != 0)
		return -EFAULT;
	return zone->pio > 1 ? -EINVAL : 0;
}

long vm_register_coalesced(struct kvm *kvm, unsigned long argument)
{
	struct coalesced *c = &kvm->coalesced;
	struct kvm_coalesced_mmio_zone in;
	long result = zone_read(&in, argument);
	struct zone *zone;

	if (result)
		return result;
	zone = malloc(sizeof(*zone));
	if (!zone)
		return -ENOMEM;
	*zone = (struct zone){ .address = in.addr, .size = in.size, .port = in.pio };
	pthread_mutex_lock(&c->lock);
	if (c->count[in.pio] >= MAX_ZONES) {
		result = -ENOSPC;
	} else {
		zone->next = c->zones;
		c->zones = zone;
		c->count[in.pio]++;
	}
	pthread_mutex_unlock(&c->lock);
	if (result)
		free(zone);
	return result;
}

/* Every zone goes that has all of what is named. */
long vm_unregister_coalesced(struct kvm *kvm, unsigned long argument)
{
	struct coalesced *c = &kvm->coalesced;
	struct kvm_coalesced_mmio_zone in;
	long result = zone_read(&in, argument);

	if (result)
		return result;
	pthread_mutex_lock(&c->lock);
	for (struct zone **z = &c->zones, *gone; *z;) {
		if (!has(*z, in.pio, in.addr, in.size)) {
			z = &(*z)->next;
			continue;
		}
		gone = *z;
		*z = gone->next;
		free(gone);
		c->count[in.pio]--;
	}
	pthread_mutex_unlock(&c->lock);
	return 0;
}
