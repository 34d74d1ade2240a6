/* SPDX-License-Identifier: MIT */
/*
 * The pair of 8259A interrupt controllers of a PC, with the level register of its chip set (ports 0x4d0 and 0x4d1).
 * Source: Intel 8259A datasheet; KVM_GET_IRQCHIP for the form of its state.
 *
 * Everything is called with irq_lock held, but pic_output.
 */
#ifndef VMMU_KVM_PIC_H
#define VMMU_KVM_PIC_H

#include "kvm/irq/irqchip.h"
#include <linux/kvm.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct kvm;

/* One 8259A. All bytes are bit masks of its eight pins, unless they say otherwise. */
struct pic_chip {
	uint8_t last_irr;     /* levels of the pins, for edges */
	uint8_t irr, imr, isr;
	uint8_t lowest;       /* the pin that has the highest priority: 0 but after a rotation */
	uint8_t base;         /* vector of pin 0 */
	uint8_t elcr;         /* pins that are level-triggered */
	uint8_t elcr_mask;    /* pins that may be */
	uint8_t init_state;   /* the initialisation word that is expected: 0 none, 1 ICW2, 2 ICW3, 3 ICW4 */
	bool read_isr;        /* a read of the command port gives ISR, not IRR */
	bool poll, special_mask, auto_eoi, rotate_on_auto_eoi, fully_nested, wants_icw4;
};

struct pic {
	struct kvm *kvm;
	struct pic_chip chip[2];  /* master, slave */
	uint8_t sources[IRQ_PIC_PINS]; /* by pin: a bit for each source that drives it high */
	atomic_bool output;       /* the INTR pin of the master */
};

void pic_init(struct pic *pic, struct kvm *kvm);
/** Set a pin for a source. Returns: as irq_set. */
int pic_set(struct pic *pic, unsigned pin, unsigned source, bool level);
/** A vCPU acknowledges (INTA). Returns: the vector; that of a spurious interrupt when there is none. */
uint8_t pic_acknowledge(struct pic *pic);
/** Is INTR high? Any thread, no lock. */
static inline bool pic_output(const struct pic *pic)
{
	return atomic_load(&pic->output);
}

static inline bool pic_has_port(uint16_t port)
{
	return port == 0x20 || port == 0x21 || port == 0xa0 || port == 0xa1 || port == 0x4d0 || port == 0x4d1;
}
uint8_t pic_read(struct pic *pic, uint16_t port);
void pic_write(struct pic *pic, uint16_t port, uint8_t value);

/* KVM_GET/SET_IRQCHIP. `which`: KVM_IRQCHIP_PIC_MASTER or _SLAVE. */
void pic_get(const struct pic *pic, unsigned which, struct kvm_pic_state *out);
void pic_put(struct pic *pic, unsigned which, const struct kvm_pic_state *in);

#endif
