/* SPDX-License-Identifier: MIT */
/*
 * The PIT as KVM plays it: no BCD, a count takes effect at once, and outputs are computed from the time when they are
 * read. Only channel 0 has a timer.
 *
 * A guest that counts ticks must not lose any, though its vCPU may not run when they come. So ticks are counted in
 * `pending`, and the next interrupt is raised when the guest has ended the last one (reinjection).
 */
#include "kvm/irq/pit.h"
#include "kvm/irq/deliver.h"
#include "kvm/irq/ioctls.h"
#include "kvm/irq/irqchip.h"
#include "kvm/irq/timer.h"
#include "kvm/process/user.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define PORTS        0x40u /* three channels and the control word */
#define PORT_CONTROL 3u    /* after PORTS */
#define PORT_SPEAKER 0x61u
#define FREQUENCY    1193181u
#define NS           1000000000u
#define LINE         0u
/* A guest that asks for more ticks than that would get nothing else done (KVM's min_timer_period_us). */
#define PERIOD_MIN   200000u

#define MODE_NONE    0xffu /* after reset */

/* How the bytes of a count come and go: rw_mode, read_state and write_state. */
enum { ACCESS_LATCH, ACCESS_LOW, ACCESS_HIGH, ACCESS_LOW_FIRST, ACCESS_HIGH_NEXT };

/* irq_lock protects all but the constants. */
struct pit {
	struct kvm *kvm;             /* [c] */
	bool has_speaker;            /* [c] KVM_PIT_SPEAKER_DUMMY: port 0x61 is here */
	struct kvm_pit_state2 state; /* as KVM_GET_PIT2 shows it */
	struct timer timer;          /* armed for `due` */
	uint64_t period;             /* of the last count of channel 0, in ns; 0: none yet */
	uint64_t due;                /* when that count ends or ended */
	bool counts;                 /* `due` is to come */
	bool is_periodic;
	bool reinject;               /* written with kvm->lock held, too */
	bool acked;                  /* the guest has ended the last interrupt */
	uint64_t pending;            /* ticks that the guest has not acknowledged */
	struct irq_ack ack;          /* in the list while `reinject` */
};

/* ---- channel 0: ticks ------------------------------------------------------------------------------------ */

static void inject(struct pit *p)
{
	p->acked = false;
	irq_set_locked(p->kvm, IRQ_SOURCE_PIT, LINE, true);
	irq_set_locked(p->kvm, IRQ_SOURCE_PIT, LINE, false);
	/* A guest may use the PIT as a watchdog, which interrupts every vCPU by NMI. */
	irq_pulse_lint0(p->kvm);
}

static void tick(struct pit *p, uint64_t ticks)
{
	p->pending += p->reinject ? ticks : 0;
	if (!p->reinject || p->acked)
		inject(p);
}

static void forget_ticks(struct pit *p)
{
	p->pending = 0;
	p->acked = true;
}

/* The guest ended an interrupt of line 0. Holds: irq_lock. */
static void acked(struct kvm *kvm, struct irq_ack *ack)
{
	struct pit *p = kvm->pit;

	(void)ack;
	p->acked = true;
	if (p->pending > 0 && --p->pending > 0)
		inject(p);
}

/* The last interrupt may have been lost while the pin was masked, so the next does not wait for its end. */
static void unmasked(struct kvm *kvm, struct irq_ack *ack)
{
	(void)ack;
	forget_ticks(kvm->pit);
}

static void expired(struct timer *timer)
{
	struct pit *p = (struct pit *)((char *)timer - offsetof(struct pit, timer));
	struct kvm *kvm = p->kvm;
	uint64_t now, ticks = 1;

	pthread_mutex_lock(&kvm->irq_lock);
	now = timer_now();
	/* The guest may have set another count while this thread waited for the lock. */
	if (p->counts && now >= p->due) {
		if (p->is_periodic) {
			ticks += (now - p->due) / p->period;
			p->due += ticks * p->period;
			timer_arm(&p->timer, p->due);
		} else {
			p->counts = false;
		}
		tick(p, ticks);
	}
	pthread_mutex_unlock(&kvm->irq_lock);
}

static void count_start(struct pit *p, uint32_t count, bool is_periodic)
{
	/* The HPET drives line 0. */
	if (p->state.flags & KVM_PIT_FLAGS_HPET_LEGACY)
		return;
	p->period = (uint64_t)count * NS / FREQUENCY;
	p->is_periodic = is_periodic;
	if (is_periodic && p->period < PERIOD_MIN)
		p->period = PERIOD_MIN;
	forget_ticks(p);
	p->due = timer_now() + p->period;
	p->counts = true;
	timer_arm(&p->timer, p->due);
}

static void count_stop(struct pit *p)
{
	p->counts = false;
	timer_stop(&p->timer);
}

/* ---- channels -------------------------------------------------------------------------------------------- */

static void count_load(struct pit *p, unsigned which, uint32_t count)
{
	struct kvm_pit_channel_state *c = &p->state.channels[which];

	c->count = count ? count : 0x10000;
	if (which != 0) {
		c->count_load_time = (int64_t)timer_now();
		return;
	}
	switch (c->mode) {
	case 0:
	case 1:
	case 4:
		count_start(p, c->count, false);
		break;
	case 2:
	case 3:
		count_start(p, c->count, true);
		break;
	default:
		count_stop(p);
		break;
	}
}

/* The time since a count began, in ns. Channel 0's is in its current period. */
static uint64_t elapsed(const struct pit *p, unsigned which)
{
	if (which != 0)
		return timer_now() - (uint64_t)p->state.channels[which].count_load_time;
	if (!p->period)
		return 0;
	return (timer_now() - (p->due - p->period)) % p->period;
}

/* The same in ticks of the PIT's clock. */
static uint64_t elapsed_ticks(const struct pit *p, unsigned which)
{
	return (uint64_t)((unsigned __int128)elapsed(p, which) * FREQUENCY / NS);
}

static uint16_t count_now(const struct pit *p, unsigned which)
{
	const struct kvm_pit_channel_state *c = &p->state.channels[which];
	uint64_t ticks = elapsed_ticks(p, which), count = c->count;

	switch (c->mode) {
	case 0:
	case 1:
	case 4:
	case 5:
		return (uint16_t)(count - ticks);
	case 3: /* counts by twos */
		return (uint16_t)(count - 2 * ticks % count);
	default:
		return (uint16_t)(count - ticks % count);
	}
}

static bool output(const struct pit *p, unsigned which)
{
	const struct kvm_pit_channel_state *c = &p->state.channels[which];
	uint64_t ticks = elapsed_ticks(p, which), count = c->count;

	switch (c->mode) {
	case 1: return ticks < count;
	case 2: return ticks % count == 0 && ticks != 0;
	case 3: return ticks % count < (count + 1) / 2;
	case 4:
	case 5: return ticks == count;
	default: return ticks >= count;
	}
}

static void latch_count(const struct pit *p, struct kvm_pit_channel_state *c, unsigned which)
{
	if (c->count_latched)
		return;
	c->latched_count = count_now(p, which);
	c->count_latched = c->rw_mode;
}

static void latch_status(const struct pit *p, struct kvm_pit_channel_state *c, unsigned which)
{
	if (c->status_latched)
		return;
	c->status = (uint8_t)(output(p, which) << 7 | c->rw_mode << 4 | c->mode << 1 | c->bcd);
	c->status_latched = 1;
}

/* Modes 1, 2, 3 and 5 begin to count again when the gate rises. That it stops the others is not played. */
static void gate_set(struct kvm_pit_channel_state *c, bool gate)
{
	if (gate && !c->gate && (c->mode == 1 || c->mode == 2 || c->mode == 3 || c->mode == 5))
		c->count_load_time = (int64_t)timer_now();
	c->gate = gate;
}

/* ---- ports ----------------------------------------------------------------------------------------------- */

static void control_write(struct pit *p, uint8_t value)
{
	unsigned which = value >> 6, access = value >> 4 & 3, mode = value >> 1 & 7;

	if (which == 3) { /* read-back: latch the counts and states of several channels */
		for (unsigned i = 0; i < 3; i++) {
			if (!(value & 2u << i))
				continue;
			if (!(value & 0x20))
				latch_count(p, &p->state.channels[i], i);
			if (!(value & 0x10))
				latch_status(p, &p->state.channels[i], i);
		}
	} else if (access == ACCESS_LATCH) {
		latch_count(p, &p->state.channels[which], which);
	} else {
		struct kvm_pit_channel_state *c = &p->state.channels[which];

		c->rw_mode = c->read_state = c->write_state = (uint8_t)access;
		c->mode = (uint8_t)(mode > 5 ? mode - 4 : mode);
		c->bcd = value & 1;
	}
}

static void channel_write(struct pit *p, unsigned which, uint8_t value)
{
	struct kvm_pit_channel_state *c = &p->state.channels[which];

	switch (c->write_state) {
	case ACCESS_HIGH:
		count_load(p, which, (uint32_t)value << 8);
		break;
	case ACCESS_LOW_FIRST:
		c->write_latch = value;
		c->write_state = ACCESS_HIGH_NEXT;
		break;
	case ACCESS_HIGH_NEXT:
		count_load(p, which, c->write_latch | (uint32_t)value << 8);
		c->write_state = ACCESS_LOW_FIRST;
		break;
	default:
		count_load(p, which, value);
		break;
	}
}

static uint8_t latched_read(struct kvm_pit_channel_state *c)
{
	uint8_t high = (uint8_t)(c->latched_count >> 8), access = c->count_latched;

	c->count_latched = access == ACCESS_LOW_FIRST ? ACCESS_HIGH : 0;
	return access == ACCESS_HIGH ? high : (uint8_t)c->latched_count;
}

static uint8_t channel_read(struct pit *p, unsigned which)
{
	struct kvm_pit_channel_state *c = &p->state.channels[which];
	uint16_t count;

	if (c->status_latched) {
		c->status_latched = 0;
		return c->status;
	}
	if (c->count_latched)
		return latched_read(c);
	count = count_now(p, which);
	switch (c->read_state) {
	case ACCESS_HIGH:
		return (uint8_t)(count >> 8);
	case ACCESS_LOW_FIRST:
		c->read_state = ACCESS_HIGH_NEXT;
		return (uint8_t)count;
	case ACCESS_HIGH_NEXT:
		c->read_state = ACCESS_LOW_FIRST;
		return (uint8_t)(count >> 8);
	default:
		return (uint8_t)count;
	}
}

static void speaker_write(struct pit *p, uint8_t value)
{
	p->state.flags &= ~(uint32_t)KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	if (value & 2)
		p->state.flags |= KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	gate_set(&p->state.channels[2], value & 1);
}

static uint8_t speaker_read(const struct pit *p)
{
	unsigned data = (p->state.flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON) != 0;
	unsigned refresh = timer_now() >> 14 & 1; /* memory refresh toggles it; guests measure time by it */

	return (uint8_t)(output(p, 2) << 5 | refresh << 4 | data << 1 | p->state.channels[2].gate);
}

static uint8_t port_read(struct pit *p, unsigned port)
{
	if (port == PORT_SPEAKER)
		return speaker_read(p);
	/* The control word cannot be read. */
	return port - PORTS == PORT_CONTROL ? 0 : channel_read(p, port - PORTS);
}

static void port_write(struct pit *p, unsigned port, uint8_t value)
{
	if (port == PORT_SPEAKER)
		speaker_write(p, value);
	else if (port - PORTS == PORT_CONTROL)
		control_write(p, value);
	else
		channel_write(p, port - PORTS, value);
}

bool pit_io(struct kvm *kvm, bool in, uint16_t port, unsigned size, void *data)
{
	struct pit *p = atomic_load_explicit(&kvm->pit, memory_order_acquire);
	uint8_t *bytes = data;

	if (!p)
		return false;
	if ((port < PORTS || port + size > PORTS + 4) && !(port == PORT_SPEAKER && p->has_speaker))
		return false;
	/* As in KVM, an access of any size is one to the first port. */
	pthread_mutex_lock(&kvm->irq_lock);
	if (in) {
		memset(bytes, 0, size);
		bytes[0] = port_read(p, port);
	} else {
		port_write(p, port, bytes[0]);
	}
	pthread_mutex_unlock(&kvm->irq_lock);
	return true;
}

/* ---- the client ------------------------------------------------------------------------------------------ */

static void reset(struct pit *p)
{
	memset(&p->state, 0, sizeof(p->state));
	for (unsigned i = 0; i < 3; i++) {
		p->state.channels[i].mode = MODE_NONE;
		p->state.channels[i].gate = i != 2;
		count_load(p, i, 0);
	}
	forget_ticks(p);
}

/* Holds: kvm->lock. */
static long create(struct kvm *kvm, uint32_t flags)
{
	struct pit *p;

	if (kvm->pit)
		return -EEXIST;
	if (atomic_load(&kvm->irqchip) != IRQCHIP_KERNEL)
		return -ENOENT;
	/* The guest's first count comes in KVM_RUN, which may make no thread. */
	p = timers_start() ? calloc(1, sizeof(*p)) : NULL;
	if (!p)
		return -ENOMEM;
	p->kvm = kvm;
	p->has_speaker = flags & KVM_PIT_SPEAKER_DUMMY;
	p->timer.expired = expired;
	p->ack.gsi = LINE;
	p->ack.acked = acked;
	p->ack.unmasked = unmasked;
	p->reinject = true;
	reset(p);
	atomic_store_explicit(&kvm->pit, p, memory_order_release);
	irq_ack_add(kvm, &p->ack);
	return 0;
}

static long create_locked(struct kvm *kvm, uint32_t flags)
{
	long result;

	pthread_mutex_lock(&kvm->lock);
	result = create(kvm, flags);
	pthread_mutex_unlock(&kvm->lock);
	return result;
}

long vm_create_pit(struct kvm *kvm, unsigned long argument)
{
	(void)argument;
	return create_locked(kvm, KVM_PIT_SPEAKER_DUMMY);
}

long vm_create_pit2(struct kvm *kvm, unsigned long argument)
{
	struct kvm_pit_config config;

	if (user_read(&config, argument, sizeof(config)) != 0)
		return -EFAULT;
	return create_locked(kvm, config.flags);
}

/* Before the vCPUs go, since the timer wakes them. */
void pit_free(struct kvm *kvm)
{
	struct pit *p = kvm->pit;

	if (!p)
		return;
	timer_cancel(&p->timer);
	free(p);
}

static void state_get(struct kvm *kvm, struct kvm_pit_state2 *out)
{
	pthread_mutex_lock(&kvm->irq_lock);
	*out = kvm->pit->state;
	pthread_mutex_unlock(&kvm->irq_lock);
}

/*
 * The counts begin anew: the state has no time that means something elsewhere. `new_flags`: NULL to keep those that
 * there are.
 */
static void state_set(struct kvm *kvm, const struct kvm_pit_channel_state channels[3], const uint32_t *new_flags)
{
	struct pit *p = kvm->pit;
	bool hpet_begins;
	uint32_t flags;
	uint8_t mode;

	pthread_mutex_lock(&kvm->irq_lock);
	flags = new_flags ? *new_flags : p->state.flags;
	hpet_begins = flags & KVM_PIT_FLAGS_HPET_LEGACY && !(p->state.flags & KVM_PIT_FLAGS_HPET_LEGACY);
	memcpy(p->state.channels, channels, sizeof(p->state.channels));
	p->state.flags = flags;
	mode = p->state.channels[0].mode;
	if (hpet_begins)
		p->state.channels[0].mode = MODE_NONE; /* stops the count; the HPET may give it back later */
	for (unsigned i = 0; i < 3; i++)
		count_load(p, i, p->state.channels[i].count);
	p->state.channels[0].mode = mode;
	pthread_mutex_unlock(&kvm->irq_lock);
}

long vm_get_pit(struct kvm *kvm, unsigned long argument)
{
	struct kvm_pit_state2 state;
	struct kvm_pit_state out;

	if (user_read(&out, argument, sizeof(out)) != 0)
		return -EFAULT;
	if (!atomic_load(&kvm->pit))
		return -ENXIO;
	state_get(kvm, &state);
	memcpy(out.channels, state.channels, sizeof(out.channels));
	return user_write(argument, &out, sizeof(out));
}

long vm_get_pit2(struct kvm *kvm, unsigned long argument)
{
	struct kvm_pit_state2 out;

	if (!atomic_load(&kvm->pit))
		return -ENXIO;
	state_get(kvm, &out);
	return user_write(argument, &out, sizeof(out));
}

long vm_set_pit(struct kvm *kvm, unsigned long argument)
{
	struct kvm_pit_state in;

	if (user_read(&in, argument, sizeof(in)) != 0)
		return -EFAULT;
	if (!atomic_load(&kvm->pit))
		return -ENXIO;
	state_set(kvm, in.channels, NULL);
	return 0;
}

long vm_set_pit2(struct kvm *kvm, unsigned long argument)
{
	struct kvm_pit_state2 in;

	if (user_read(&in, argument, sizeof(in)) != 0)
		return -EFAULT;
	if (!atomic_load(&kvm->pit))
		return -ENXIO;
	state_set(kvm, in.channels, &in.flags);
	return 0;
}

long vm_reinject_control(struct kvm *kvm, unsigned long argument)
{
	struct pit *p = atomic_load(&kvm->pit);
	struct kvm_reinject_control in;
	bool wanted;

	if (user_read(&in, argument, sizeof(in)) != 0)
		return -EFAULT;
	if (!p)
		return -ENXIO;
	wanted = in.pit_reinject;
	pthread_mutex_lock(&kvm->lock);
	if (wanted != p->reinject) {
		if (!wanted)
			irq_ack_remove(kvm, &p->ack);
		pthread_mutex_lock(&kvm->irq_lock);
		p->reinject = wanted;
		forget_ticks(p);
		pthread_mutex_unlock(&kvm->irq_lock);
		if (wanted)
			irq_ack_add(kvm, &p->ack);
	}
	pthread_mutex_unlock(&kvm->lock);
	return 0;
}
