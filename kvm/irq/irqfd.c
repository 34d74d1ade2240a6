/* SPDX-License-Identifier: MIT */
/*
 * One thread waits for the eventfds of all VMs with epoll, and delivers the interrupts itself. It is edge-triggered: a
 * write makes one event. The lock is held from the moment that a count is taken out of an eventfd until its interrupt
 * is delivered. So whoever has the lock knows that what was signalled is either still in the eventfd or delivered.
 *
 * KVM removes an irqfd when the last descriptor of its eventfd is closed. Here ours keeps the eventfd open, and the
 * irqfd stays until it is deassigned or its VM goes. Nobody can signal it any more.
 */
#include "kvm/irq/irqfd.h"
#include "kvm/irq/eventfd.h"
#include "kvm/irq/ioctls.h"
#include "kvm/irq/irqchip.h"
#include "kvm/process/sys.h"
#include "kvm/process/user.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>

#define FLAGS (KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE)
#define LISTS 256u
#define BATCH 64

struct irqfd {
	struct irq_ack ack; /* in the VM's list while `resample` is not -1 */
	struct irqfd *next;
	struct kvm *kvm;
	unsigned id;  /* which eventfd it is */
	int fd;       /* our own descriptor of it */
	int resample; /* our own descriptor of the eventfd that an EOI signals; or -1 */
	uint32_t gsi;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct irqfd *lists[LISTS]; /* lock; by id */
static int epoll = -1;             /* lock; constant while the thread runs */
static bool thread_runs;           /* lock */

/* ---- the thread ------------------------------------------------------------------------------------------ */

/* Holds: lock. */
static void deliver(const struct irqfd *i)
{
	/* Of two events for one count, the first that is handled takes it. */
	if (!eventfd_take(i->fd))
		return;
	if (i->resample >= 0)
		irq_set(i->kvm, IRQ_SOURCE_RESAMPLE, i->gsi, true);
	else
		irq_pulse(i->kvm, IRQ_SOURCE_USER, i->gsi);
}

/*
 * An event names the eventfd's id and our descriptor. Its irqfd may be gone by now, and another have both: then there
 * is nothing to take.
 */
static uint64_t event_name(const struct irqfd *i)
{
	return (uint64_t)i->id << 32 | (uint32_t)i->fd;
}

/* Holds: lock. */
static void deliver_event(uint64_t name)
{
	for (const struct irqfd *i = lists[(name >> 32) % LISTS]; i; i = i->next)
		if (event_name(i) == name)
			deliver(i);
}

static void *thread_main(void *argument)
{
	const int from = (int)(intptr_t)argument;
	struct epoll_event events[BATCH];
	long count;

	do {
		count = SYS4(SYS_epoll_wait, from, events, BATCH, -1);
		pthread_mutex_lock(&lock);
		for (long e = 0; e < count; e++)
			deliver_event(events[e].data.u64);
		pthread_mutex_unlock(&lock);
	} while (count >= 0 || count == -EINTR);
	/* The client has closed our descriptor. Better no irqfds than a thread that never sleeps. */
	pthread_mutex_lock(&lock);
	thread_runs = false;
	pthread_mutex_unlock(&lock);
	return NULL;
}

/* Holds: lock. Returns: 0 or -errno. */
static long thread_start(void)
{
	pthread_t thread;
	sigset_t all, old;
	long fd, kept;

	if (thread_runs)
		return 0;
	fd = SYS1(SYS_epoll_create1, EPOLL_CLOEXEC);
	if (fd < 0)
		return fd;
	kept = eventfd_keep((int)fd);
	SYS1(SYS_close, fd);
	if (kept < 0)
		return kept;
	/* Block all signals: those of the client must be handled by the client's threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	thread_runs = pthread_create(&thread, NULL, thread_main, (void *)(intptr_t)kept) == 0; // NOLINT: a number
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!thread_runs) {
		SYS1(SYS_close, kept);
		return -ENOMEM;
	}
	pthread_detach(thread);
	epoll = (int)kept;
	return 0;
}

/* ---- EOI ------------------------------------------------------------------------------------------------- */

/* The guest ended the interrupt. Holds: the VM's irq_lock. */
static void acked(struct kvm *kvm, struct irq_ack *ack)
{
	const struct irqfd *i = (struct irqfd *)ack; /* its first member */

	irq_set_locked(kvm, IRQ_SOURCE_RESAMPLE, ack->gsi, false);
	eventfd_signal(i->resample);
}

/* Does the VM have another one that drives this line until its EOI? Holds: lock. */
static bool line_is_shared(const struct kvm *kvm, uint32_t gsi)
{
	for (unsigned l = 0; l < LISTS; l++)
		for (const struct irqfd *i = lists[l]; i; i = i->next)
			if (i->kvm == kvm && i->gsi == gsi && i->resample >= 0)
				return true;
	return false;
}

/* ---- assign and deassign --------------------------------------------------------------------------------- */

static void destroy(struct irqfd *i)
{
	if (i->fd >= 0)
		SYS1(SYS_close, i->fd);
	if (i->resample >= 0)
		SYS1(SYS_close, i->resample);
	free(i);
}

/* Take one out of its list. After: nothing of it is under way, and nothing will be. Holds: lock. */
static struct irqfd *take_out(struct irqfd **at)
{
	struct irqfd *i = *at;

	SYS4(SYS_epoll_ctl, epoll, EPOLL_CTL_DEL, i->fd, NULL);
	*at = i->next;
	if (i->resample >= 0) {
		irq_ack_remove(i->kvm, &i->ack);
		if (!line_is_shared(i->kvm, i->gsi))
			irq_set(i->kvm, IRQ_SOURCE_RESAMPLE, i->gsi, false);
	}
	return i;
}

static long make(struct kvm *kvm, const struct kvm_irqfd *in, struct irqfd **made)
{
	struct irqfd *i;
	unsigned unused;
	long result, fd;

	i = calloc(1, sizeof(*i));
	if (!i)
		return -ENOMEM;
	*i = (struct irqfd){ .ack = { .gsi = in->gsi, .acked = acked }, .kvm = kvm, .gsi = in->gsi, .fd = -1,
		.resample = -1 };
	result = eventfd_id((int)in->fd, &i->id);
	if (!result && in->flags & KVM_IRQFD_FLAG_RESAMPLE)
		result = eventfd_id((int)in->resamplefd, &unused);
	if (!result) {
		fd = eventfd_keep((int)in->fd);
		i->fd = (int)fd;
		result = fd < 0 ? fd : 0;
	}
	if (!result && in->flags & KVM_IRQFD_FLAG_RESAMPLE) {
		fd = eventfd_keep((int)in->resamplefd);
		i->resample = (int)fd;
		result = fd < 0 ? fd : 0;
	}
	if (result)
		destroy(i);
	else
		*made = i;
	return result;
}

/* Holds: lock. */
static long add(struct irqfd *i)
{
	struct irqfd **list = &lists[i->id % LISTS];
	/* If there is a count in the eventfd already, this is an event. */
	struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.u64 = event_name(i) };
	long result;

	for (const struct irqfd *other = *list; other; other = other->next)
		if (other->kvm == i->kvm && other->id == i->id)
			return -EBUSY;
	result = thread_start();
	if (!result)
		result = SYS4(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, i->fd, &event);
	if (result)
		return result;
	i->next = *list;
	*list = i;
	if (i->resample >= 0)
		irq_ack_add(i->kvm, &i->ack);
	return 0;
}

static long assign(struct kvm *kvm, const struct kvm_irqfd *in)
{
	enum irqchip_mode mode = atomic_load(&kvm->irqchip);
	struct irqfd *i;
	long result;

	/* A line whose EOI is awaited needs a chip here. */
	if (mode == IRQCHIP_NONE || (in->flags & KVM_IRQFD_FLAG_RESAMPLE && mode != IRQCHIP_KERNEL))
		return -EINVAL;
	result = make(kvm, in, &i);
	if (result)
		return result;
	pthread_mutex_lock(&lock);
	result = add(i);
	pthread_mutex_unlock(&lock);
	if (result)
		destroy(i);
	return result;
}

/* What the client signalled before is delivered when this returns. */
static long deassign(const struct kvm *kvm, const struct kvm_irqfd *in)
{
	struct irqfd *gone = NULL;
	unsigned id;
	long result = eventfd_id((int)in->fd, &id);

	if (result)
		return result;
	pthread_mutex_lock(&lock);
	for (struct irqfd **at = &lists[id % LISTS]; *at; at = &(*at)->next) {
		if ((*at)->kvm != kvm || (*at)->id != id || (*at)->gsi != in->gsi)
			continue;
		deliver(*at);
		gone = take_out(at);
		break;
	}
	pthread_mutex_unlock(&lock);
	if (gone)
		destroy(gone);
	return 0;
}

long vm_irqfd(struct kvm *kvm, unsigned long argument)
{
	struct kvm_irqfd in;

	if (user_read(&in, argument, sizeof(in)) != 0)
		return -EFAULT;
	if (in.flags & ~(uint32_t)FLAGS)
		return -EINVAL;
	return in.flags & KVM_IRQFD_FLAG_DEASSIGN ? deassign(kvm, &in) : assign(kvm, &in);
}

void irqfd_free(struct kvm *kvm)
{
	struct irqfd *gone = NULL, *next;

	pthread_mutex_lock(&lock);
	for (unsigned l = 0; l < LISTS; l++) {
		for (struct irqfd **at = &lists[l]; *at;) {
			if ((*at)->kvm != kvm) {
				at = &(*at)->next;
				continue;
			}
			next = take_out(at);
			next->next = gone;
			gone = next;
		}
	}
	pthread_mutex_unlock(&lock);
	for (; gone; gone = next) {
		next = gone->next;
		destroy(gone);
	}
}

void irqfd_fork(enum fork_step step)
{
	if (step == FORK_PREPARE) {
		pthread_mutex_lock(&lock);
		return;
	}
	if (step == FORK_CHILD) {
		/* The eventfds must not stay open for the life of the child. */
		for (unsigned l = 0; l < LISTS; l++) {
			for (const struct irqfd *i = lists[l]; i; i = i->next) {
				SYS1(SYS_close, i->fd);
				if (i->resample >= 0)
					SYS1(SYS_close, i->resample);
			}
			lists[l] = NULL;
		}
		if (thread_runs)
			SYS1(SYS_close, epoll);
		thread_runs = false;
	}
	pthread_mutex_unlock(&lock);
}
