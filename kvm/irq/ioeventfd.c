/* SPDX-License-Identifier: MIT */
/*
 * The ioeventfds of a VM, in a hash table by address: only those of one address can overlap, or match one write.
 * Each list has a lock, which a vCPU holds while it signals: an ioeventfd that was removed is not signalled any more.
 * Looking into an empty list takes no lock.
 */
#include "kvm/irq/ioeventfd.h"
#include "kvm/irq/eventfd.h"
#include "kvm/irq/ioctls.h"
#include "kvm/process/sys.h"
#include "kvm/process/user.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LISTS_SHIFT 6

/* <linux/kvm.h> has bit 3 for another architecture, and bit 4 inside the kernel. KVM accepts both everywhere. */
#define FLAG_CCW   KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY
#define FLAG_FAST  (1u << 4)
#define FLAGS      (KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DEASSIGN | FLAG_CCW | \
                    FLAG_FAST)

/* No guest of ours writes to BUS_CCW. */
enum bus { BUS_MMIO, BUS_PORT, BUS_CCW };

struct ioeventfd {
	struct ioeventfd *next;
	int fd;      /* our own descriptor, since the client may close its own */
	unsigned id; /* which eventfd it is */
	enum bus bus;
	bool match;
	uint64_t address, data;
	uint32_t len; /* 0: any */
};

struct ioeventfds {
	struct list {
		pthread_mutex_t lock;
		struct ioeventfd *first; /* read without the lock, too, to see whether there is one */
	} list[1 << LISTS_SHIFT];
};

static struct list *list_of(struct ioeventfds *all, uint64_t address)
{
	return &all->list[address * UINT64_C(0x9e3779b97f4a7c15) >> (64 - LISTS_SHIFT)];
}

static bool overlaps(const struct ioeventfd *a, const struct ioeventfd *b)
{
	if (a->bus != b->bus || a->address != b->address)
		return false;
	if (!a->len || !b->len)
		return true;
	return a->len == b->len && (!a->match || !b->match || a->data == b->data);
}

bool ioeventfd_write(struct kvm *kvm, bool port, uint64_t address, unsigned len, const void *data)
{
	/* acquire: pairs with the release in table_get, which publishes a table */
	struct ioeventfds *all = __atomic_load_n(&kvm->ioeventfds, __ATOMIC_ACQUIRE);
	const enum bus bus = port ? BUS_PORT : BUS_MMIO;
	struct list *list;
	uint64_t value = 0;
	bool found = false;

	if (!all)
		return false;
	list = list_of(all, address);
	/* Relaxed: a write beside the ioctl that adds the first may go either way. */
	if (!__atomic_load_n(&list->first, __ATOMIC_RELAXED))
		return false;
	memcpy(&value, data, len < sizeof(value) ? len : sizeof(value));
	pthread_mutex_lock(&list->lock);
	for (const struct ioeventfd *e = list->first; e && !found; e = e->next) {
		found = e->bus == bus && e->address == address && (!e->len || e->len == len) &&
		        (!e->match || e->data == value);
		if (found)
			eventfd_signal(e->fd);
	}
	pthread_mutex_unlock(&list->lock);
	return found;
}

/* The VM's table, made when it is first needed. Returns: NULL when there is no memory. */
static struct ioeventfds *table_get(struct kvm *kvm)
{
	struct ioeventfds *all;

	pthread_mutex_lock(&kvm->lock);
	all = kvm->ioeventfds;
	if (!all) {
		all = calloc(1, sizeof(*all));
		for (unsigned i = 0; all && i < 1u << LISTS_SHIFT; i++)
			pthread_mutex_init(&all->list[i].lock, NULL);
		/* release: pairs with the acquire in ioeventfd_write */
		__atomic_store_n(&kvm->ioeventfds, all, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&kvm->lock);
	return all;
}

static long assign(struct kvm *kvm, const struct ioeventfd *wanted, int fd)
{
	struct ioeventfds *all = table_get(kvm);
	struct ioeventfd *e = malloc(sizeof(*e));
	long result = all && e ? eventfd_keep(fd) : -ENOMEM;
	struct list *list;

	if (result < 0) {
		free(e);
		return result;
	}
	*e = *wanted;
	e->fd = (int)result;
	result = 0;
	list = list_of(all, e->address);
	pthread_mutex_lock(&list->lock);
	for (const struct ioeventfd *other = list->first; other; other = other->next)
		if (overlaps(e, other))
			result = -EEXIST;
	if (!result) {
		e->next = list->first;
		__atomic_store_n(&list->first, e, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&list->lock);
	if (result) {
		SYS1(SYS_close, e->fd);
		free(e);
	}
	return result;
}

static bool is_same(const struct ioeventfd *a, const struct ioeventfd *b)
{
	return a->id == b->id && a->bus == b->bus && a->address == b->address && a->len == b->len &&
	       a->match == b->match && (!a->match || a->data == b->data);
}

static long deassign(struct kvm *kvm, const struct ioeventfd *wanted)
{
	struct ioeventfds *all = __atomic_load_n(&kvm->ioeventfds, __ATOMIC_ACQUIRE);
	struct ioeventfd *gone = NULL;
	struct list *list;

	if (!all)
		return -ENOENT;
	list = list_of(all, wanted->address);
	pthread_mutex_lock(&list->lock);
	for (struct ioeventfd **e = &list->first; *e; e = &(*e)->next) {
		if (!is_same(*e, wanted))
			continue;
		gone = *e;
		__atomic_store_n(e, gone->next, __ATOMIC_RELAXED);
		break;
	}
	pthread_mutex_unlock(&list->lock);
	if (!gone)
		return -ENOENT;
	SYS1(SYS_close, gone->fd);
	free(gone);
	return 0;
}

/* What KVM checks of one that is to be added. */
static bool is_valid(const struct kvm_ioeventfd *in)
{
	switch (in->len) {
	case 0: case 1: case 2: case 4: case 8:
		break;
	default:
		return false;
	}
	/* The range must not wrap. Data to match needs a length. */
	return in->addr + in->len >= in->addr && !(in->flags & ~(uint32_t)FLAGS) &&
	       (in->len || !(in->flags & KVM_IOEVENTFD_FLAG_DATAMATCH));
}

long vm_ioeventfd(struct kvm *kvm, unsigned long argument)
{
	struct kvm_ioeventfd in;
	struct ioeventfd wanted;
	bool remove;
	long result;

	if (user_read(&in, argument, sizeof(in)) != 0)
		return -EFAULT;
	remove = in.flags & KVM_IOEVENTFD_FLAG_DEASSIGN;
	if (!remove && !is_valid(&in))
		return -EINVAL;
	wanted = (struct ioeventfd){
		.bus = in.flags & KVM_IOEVENTFD_FLAG_PIO ? BUS_PORT : in.flags & FLAG_CCW ? BUS_CCW : BUS_MMIO,
		.match = in.flags & KVM_IOEVENTFD_FLAG_DATAMATCH,
		.address = in.addr,
		.data = in.datamatch,
		.len = in.len,
	};
	result = eventfd_id(in.fd, &wanted.id);
	if (result)
		return result;
	return remove ? deassign(kvm, &wanted) : assign(kvm, &wanted, in.fd);
}

void ioeventfd_free(struct kvm *kvm)
{
	struct ioeventfds *all = kvm->ioeventfds;

	for (unsigned i = 0; all && i < 1u << LISTS_SHIFT; i++) {
		struct ioeventfd *next;

		for (struct ioeventfd *e = all->list[i].first; e; e = next) {
			next = e->next;
			SYS1(SYS_close, e->fd);
			free(e);
		}
		pthread_mutex_destroy(&all->list[i].lock);
	}
	free(all);
}
