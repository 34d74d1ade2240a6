/* SPDX-License-Identifier: MIT */
/*
 * KVM's PV EOI: a word of the guest's memory by whose bit 0 the host offers that the guest may end the interrupt in
 * service without an exit. The guest ends it by clearing the bit. All on the vCPU's thread.
 */
#ifndef VMMU_KVM_PV_EOI_H
#define VMMU_KVM_PV_EOI_H

#include <stdbool.h>
#include <stdint.h>

struct kvm_vcpu;
struct lapic;

/** MSR_KVM_PV_EOI_EN is written. Returns: false for #GP. */
bool pv_eoi_msr_write(struct kvm_vcpu *vcpu, uint64_t value);

/** `vector` is in service from now on: offer the guest that it may end it so, unless somebody waits for its end. */
void pv_eoi_offer(struct lapic *apic, uint8_t vector);

/**
 * If the guest has taken the offer, end the interrupt. If not, and `take_back`, the offer is over: the guest will write
 * to the EOI register. Called before ISR is looked at.
 */
void pv_eoi_settle(struct lapic *apic, bool take_back);

#endif
