/* SPDX-License-Identifier: MIT */
#include "kvm/irq/irqchip.h"
#include "kvm/irq/pic.h"
#include "kvm/irq/lapic.h"
#include <string.h>

#define CASCADE     2u /* the master's pin that the slave's output is wired to */
#define NO_PRIORITY 8u
#define SPURIOUS    7u

/* Pins of which the chip set has no level mode: timer, keyboard and cascade; RTC and FPU. */
#define ELCR_MASK_MASTER 0xf8u
#define ELCR_MASK_SLAVE  0xdeu

void pic_init(struct pic *pic, struct kvm *kvm)
{
	memset(pic, 0, sizeof(*pic));
	pic->kvm = kvm;
	pic->chip[0].elcr_mask = ELCR_MASK_MASTER;
	pic->chip[1].elcr_mask = ELCR_MASK_SLAVE;
}

static unsigned pin_of(const struct pic_chip *c, unsigned priority)
{
	return (priority + c->lowest) & 7;
}

/* The highest priority among the pins of `mask`: 0 is the highest, NO_PRIORITY when the mask is empty. */
static unsigned priority_of(const struct pic_chip *c, uint8_t mask)
{
	unsigned priority = 0;

	if (!mask)
		return NO_PRIORITY;
	while (!(mask >> pin_of(c, priority) & 1))
		priority++;
	return priority;
}

/* Returns: the pin that asks for an interrupt now, or -1. */
static int requesting(const struct pic *pic, unsigned which)
{
	const struct pic_chip *c = &pic->chip[which];
	unsigned asked = priority_of(c, c->irr & (uint8_t)~c->imr), served;
	uint8_t in_service = c->isr;

	if (asked == NO_PRIORITY)
		return -1;
	/*
	 * As in KVM, special mask mode is only remembered: what is in service holds back the others even when it is
	 * masked. The cascade does not hold back a second pin of the slave, when the master is told to nest fully.
	 */
	if (c->fully_nested && which == 0)
		in_service &= (uint8_t)~(1u << CASCADE);
	served = priority_of(c, in_service);
	return asked < served ? (int)pin_of(c, asked) : -1;
}

/* A pin of a chip changes. Returns: 0 when the request was there already, 1 when it is new or was taken back. */
static int chip_set(struct pic_chip *c, unsigned pin, bool level)
{
	uint8_t mask = (uint8_t)(1u << pin);
	int result = 1;

	if (c->elcr & mask) {
		if (level) {
			result = !(c->irr & mask);
			c->irr |= mask;
			c->last_irr |= mask;
		} else {
			c->irr &= (uint8_t)~mask;
			c->last_irr &= (uint8_t)~mask;
		}
	} else if (level) {
		if (!(c->last_irr & mask)) {
			result = !(c->irr & mask);
			c->irr |= mask;
		}
		c->last_irr |= mask;
	} else {
		c->last_irr &= (uint8_t)~mask;
	}
	return c->imr & mask ? -1 : result;
}

/* Wire the slave to the master, and the master to the vCPUs. */
static void update(struct pic *pic)
{
	bool output;

	if (requesting(pic, 1) >= 0) {
		/* Low and high again: each request of the slave is an edge. */
		chip_set(&pic->chip[0], CASCADE, true);
		chip_set(&pic->chip[0], CASCADE, false);
	}
	output = requesting(pic, 0) >= 0;
	if (atomic_exchange(&pic->output, output) != output && output)
		lapic_external(pic->kvm);
}

int pic_set(struct pic *pic, unsigned pin, unsigned source, bool level)
{
	uint8_t bit = (uint8_t)(1u << source);
	int result;

	pic->sources[pin] = (uint8_t)(level ? pic->sources[pin] | bit : pic->sources[pin] & ~bit);
	result = chip_set(&pic->chip[pin / 8], pin & 7, pic->sources[pin] != 0);
	update(pic);
	return result;
}

/* ---- acknowledge and end --------------------------------------------------------------------------------- */

static void end(struct pic *pic, unsigned which, unsigned pin)
{
	pic->chip[which].isr &= (uint8_t)~(1u << pin);
	irq_acked_locked(pic->kvm, which == 0 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, pin);
}

static void acknowledge(struct pic *pic, unsigned which, unsigned pin)
{
	struct pic_chip *c = &pic->chip[which];

	c->isr |= (uint8_t)(1u << pin);
	/* The request of a level-triggered pin stays while the pin is high. */
	if (!(c->elcr >> pin & 1))
		c->irr &= (uint8_t)~(1u << pin);
	if (c->auto_eoi) {
		if (c->rotate_on_auto_eoi)
			c->lowest = (pin + 1) & 7;
		end(pic, which, pin);
	}
}

uint8_t pic_acknowledge(struct pic *pic)
{
	int pin = requesting(pic, 0), slave;
	uint8_t vector;

	if (pin < 0) {
		vector = (uint8_t)(pic->chip[0].base + SPURIOUS);
	} else if (pin == CASCADE) {
		slave = requesting(pic, 1);
		acknowledge(pic, 0, CASCADE);
		if (slave >= 0)
			acknowledge(pic, 1, (unsigned)slave);
		vector = (uint8_t)(pic->chip[1].base + (slave >= 0 ? (unsigned)slave : SPURIOUS));
	} else {
		acknowledge(pic, 0, (unsigned)pin);
		vector = (uint8_t)(pic->chip[0].base + (unsigned)pin);
	}
	update(pic);
	return vector;
}

/* ---- registers ------------------------------------------------------------------------------------------- */

/*
 * ICW1. Requests by edges are forgotten; a level is still there. As in KVM, what is in service stays so, and those who
 * wait for the EOI of a forgotten request are told.
 */
static void initialise(struct pic *pic, unsigned which, uint8_t icw1)
{
	struct pic_chip *c = &pic->chip[which];
	uint8_t forgotten = c->irr & (uint8_t)~c->elcr;

	c->wants_icw4 = icw1 & 1;
	c->irr &= c->elcr;
	c->imr = 0;
	c->lowest = 0;
	c->special_mask = c->read_isr = false;
	if (!c->wants_icw4)
		c->fully_nested = c->auto_eoi = false;
	c->init_state = 1;
	for (unsigned pin = 0; pin < 8; pin++)
		if (forgotten >> pin & 1)
			end(pic, which, pin);
}

/* OCW2: EOI and rotation. */
static void command_eoi(struct pic *pic, unsigned which, uint8_t value)
{
	struct pic_chip *c = &pic->chip[which];
	unsigned priority, pin = value & 7;

	switch (value >> 5) {
	case 0: /* rotation at automatic EOI: off, and on */
	case 4:
		c->rotate_on_auto_eoi = value >> 7;
		return;
	case 1: /* EOI of what is in service with the highest priority; 5: and make it the lowest */
	case 5:
		priority = priority_of(c, c->isr);
		if (priority == NO_PRIORITY)
			return;
		pin = pin_of(c, priority);
		break;
	case 3: /* EOI of one pin; 7: and make it the lowest */
	case 7:
		break;
	case 6: /* make a pin the lowest */
		c->lowest = (uint8_t)((pin + 1) & 7);
		return;
	default:
		return;
	}
	if (value >> 7)
		c->lowest = (uint8_t)((pin + 1) & 7);
	end(pic, which, pin);
}

static void command_write(struct pic *pic, unsigned which, uint8_t value)
{
	struct pic_chip *c = &pic->chip[which];

	if (value & 0x10) {
		initialise(pic, which, value);
	} else if (value & 0x08) { /* OCW3 */
		if (value & 4)
			c->poll = true;
		if (value & 2)
			c->read_isr = value & 1;
		if (value & 0x40)
			c->special_mask = value >> 5 & 1;
	} else {
		command_eoi(pic, which, value);
	}
}

static void mask_write(struct pic *pic, unsigned which, uint8_t value)
{
	struct pic_chip *c = &pic->chip[which];
	uint8_t unmasked = c->imr & (uint8_t)~value;

	c->imr = value;
	for (unsigned pin = 0; pin < 8; pin++)
		if (unmasked >> pin & 1)
			irq_unmasked_locked(pic->kvm, which ? KVM_IRQCHIP_PIC_SLAVE : KVM_IRQCHIP_PIC_MASTER, pin);
}

static void data_write(struct pic *pic, unsigned which, uint8_t value)
{
	struct pic_chip *c = &pic->chip[which];

	switch (c->init_state) {
	case 0:
		mask_write(pic, which, value);
		break;
	case 1:
		c->base = value & 0xf8;
		c->init_state = 2;
		break;
	case 2: /* ICW3 says how the chips are wired, which here is known */
		c->init_state = c->wants_icw4 ? 3 : 0;
		break;
	default:
		c->fully_nested = value >> 4 & 1;
		c->auto_eoi = value >> 1 & 1;
		c->init_state = 0;
		break;
	}
}

void pic_write(struct pic *pic, uint16_t port, uint8_t value)
{
	switch (port) {
	case 0x20: command_write(pic, 0, value); break;
	case 0xa0: command_write(pic, 1, value); break;
	case 0x21: data_write(pic, 0, value); break;
	case 0xa1: data_write(pic, 1, value); break;
	case 0x4d0: pic->chip[0].elcr = value & pic->chip[0].elcr_mask; break;
	case 0x4d1: pic->chip[1].elcr = value & pic->chip[1].elcr_mask; break;
	default: break;
	}
	update(pic);
}

/* The read after a poll command takes a request without an interrupt. It answers the pin with bit 7 set, 7 for none. */
static uint8_t poll(struct pic *pic, unsigned which)
{
	int pin = requesting(pic, which);

	pic->chip[which].poll = false;
	if (pin < 0)
		return SPURIOUS;
	if (which == 1) {
		pic->chip[0].isr &= (uint8_t)~(1u << CASCADE);
		pic->chip[0].irr &= (uint8_t)~(1u << CASCADE);
	}
	pic->chip[which].irr &= (uint8_t)~(1u << pin);
	end(pic, which, (unsigned)pin);
	return (uint8_t)(0x80 | pin);
}

uint8_t pic_read(struct pic *pic, uint16_t port)
{
	unsigned which = port == 0xa0 || port == 0xa1;
	const struct pic_chip *c = &pic->chip[which];
	uint8_t value;

	if (port == 0x4d0 || port == 0x4d1)
		return pic->chip[port & 1].elcr;
	if (c->poll)
		value = poll(pic, which);
	else if (port & 1)
		value = c->imr;
	else
		value = c->read_isr ? c->isr : c->irr;
	update(pic);
	return value;
}

/* ---- KVM_GET/SET_IRQCHIP --------------------------------------------------------------------------------- */

void pic_get(const struct pic *pic, unsigned which, struct kvm_pic_state *out)
{
	const struct pic_chip *c = &pic->chip[which];

	*out = (struct kvm_pic_state){
		.last_irr = c->last_irr, .irr = c->irr, .imr = c->imr, .isr = c->isr,
		.priority_add = c->lowest, .irq_base = c->base,
		.read_reg_select = c->read_isr, .poll = c->poll, .special_mask = c->special_mask,
		.init_state = c->init_state, .auto_eoi = c->auto_eoi, .rotate_on_auto_eoi = c->rotate_on_auto_eoi,
		.special_fully_nested_mode = c->fully_nested, .init4 = c->wants_icw4,
		.elcr = c->elcr, .elcr_mask = c->elcr_mask,
	};
}

void pic_put(struct pic *pic, unsigned which, const struct kvm_pic_state *in)
{
	struct pic_chip *c = &pic->chip[which];

	*c = (struct pic_chip){
		.last_irr = in->last_irr, .irr = in->irr, .imr = in->imr, .isr = in->isr,
		.lowest = in->priority_add & 7, .base = in->irq_base,
		.read_isr = in->read_reg_select, .poll = in->poll, .special_mask = in->special_mask,
		.init_state = in->init_state & 3, .auto_eoi = in->auto_eoi,
		.rotate_on_auto_eoi = in->rotate_on_auto_eoi, .fully_nested = in->special_fully_nested_mode,
		.wants_icw4 = in->init4, .elcr = in->elcr & c->elcr_mask, .elcr_mask = c->elcr_mask,
	};
	update(pic);
}
