/* SPDX-License-Identifier: MIT */
#include "kvm/irq/ioeventfd.h"
#include "kvm/irq/ioctls.h"
#include "kvm/process/sys.h"
#include "kvm/process/user.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FLAGS (KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DEASSIGN)

struct ioeventfd {
	struct ioeventfd *next;
	int fd; /* our own descriptor, since the client may close its own */
	bool port, match;
	uint64_t address, data;
	uint32_t len; /* 0: any */
};

static bool overlaps(const struct ioeventfd *a, const struct ioeventfd *b)
{
	if (a->port != b->port || a->address != b->address)
		return false;
	if (!a->len || !b->len)
		return true;
	return a->len == b->len && (!a->match || !b->match || a->data == b->data);
}

bool ioeventfd_write(struct kvm *kvm, bool port, uint64_t address, unsigned len, const void *data)
{
	const uint64_t one = 1;
	uint64_t value = 0;
	bool found = false;

	if (!__atomic_load_n(&kvm->ioeventfds, __ATOMIC_ACQUIRE))
		return false;
	memcpy(&value, data, len < sizeof(value) ? len : sizeof(value));
	pthread_mutex_lock(&kvm->ioeventfd_lock);
	for (const struct ioeventfd *e = kvm->ioeventfds; e && !found; e = e->next) {
		found = e->port == port && e->address == address && (!e->len || e->len == len) &&
		        (!e->match || e->data == value);
		if (found)
			SYS3(SYS_write, e->fd, &one, sizeof(one));
	}
	pthread_mutex_unlock(&kvm->ioeventfd_lock);
	return found;
}

/* Is it an eventfd? The kernel shows that in the name under /proc/self/fd. */
static bool is_eventfd(int fd)
{
	char link[32], name[64];
	long length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = SYS4(SYS_readlinkat, AT_FDCWD, link, name, sizeof(name) - 1);
	if (length < 0)
		return false;
	name[length] = '\0';
	return strstr(name, "[eventfd]") != NULL;
}

static long assign(struct kvm *kvm, const struct ioeventfd *wanted, int fd)
{
	struct ioeventfd *e = malloc(sizeof(*e));
	long result = 0;

	if (!e)
		return -ENOMEM;
	*e = *wanted;
	e->fd = (int)SYS3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0);
	if (e->fd < 0) {
		result = e->fd;
		free(e);
		return result;
	}
	pthread_mutex_lock(&kvm->ioeventfd_lock);
	for (const struct ioeventfd *other = kvm->ioeventfds; other; other = other->next)
		if (overlaps(e, other))
			result = -EEXIST;
	if (!result) {
		e->next = kvm->ioeventfds;
		__atomic_store_n(&kvm->ioeventfds, e, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&kvm->ioeventfd_lock);
	if (result) {
		SYS1(SYS_close, e->fd);
		free(e);
	}
	return result;
}

static long deassign(struct kvm *kvm, const struct ioeventfd *wanted)
{
	struct ioeventfd *gone = NULL;

	pthread_mutex_lock(&kvm->ioeventfd_lock);
	for (struct ioeventfd **e = &kvm->ioeventfds; *e && !gone; e = gone ? e : &(*e)->next) {
		if ((*e)->port != wanted->port || (*e)->address != wanted->address || (*e)->len != wanted->len ||
		    (*e)->match != wanted->match || ((*e)->match && (*e)->data != wanted->data))
			continue;
		gone = *e;
		__atomic_store_n(e, gone->next, __ATOMIC_RELEASE);
		break;
	}
	pthread_mutex_unlock(&kvm->ioeventfd_lock);
	if (!gone)
		return -ENOENT;
	SYS1(SYS_close, gone->fd);
	free(gone);
	return 0;
}

long vm_ioeventfd(struct kvm *kvm, unsigned long argument)
{
	struct kvm_ioeventfd in;
	struct ioeventfd wanted;

	if (user_read(&in, argument, sizeof(in)) != 0)
		return -EFAULT;
	if (in.flags & ~(uint32_t)FLAGS)
		return -EINVAL;
	switch (in.len) {
	case 0: case 1: case 2: case 4: case 8:
		break;
	default:
		return -EINVAL;
	}
	/* The range must not wrap. Data to match needs a length. */
	if (in.addr + in.len < in.addr || (!in.len && in.flags & KVM_IOEVENTFD_FLAG_DATAMATCH))
		return -EINVAL;
	if (SYS2(SYS_fcntl, in.fd, F_GETFD) < 0)
		return -EBADF;
	if (!is_eventfd(in.fd))
		return -EINVAL;
	wanted = (struct ioeventfd){
		.port = in.flags & KVM_IOEVENTFD_FLAG_PIO,
		.match = in.flags & KVM_IOEVENTFD_FLAG_DATAMATCH,
		.address = in.addr,
		.data = in.datamatch,
		.len = in.len,
	};
	return in.flags & KVM_IOEVENTFD_FLAG_DEASSIGN ? deassign(kvm, &wanted) : assign(kvm, &wanted, in.fd);
}

void ioeventfd_free(struct kvm *kvm)
{
	while (kvm->ioeventfds) {
		struct ioeventfd *e = kvm->ioeventfds;

		kvm->ioeventfds = e->next;
		SYS1(SYS_close, e->fd);
		free(e);
	}
}
