/* SPDX-License-Identifier: MIT */
/*
 * A local APIC, xAPIC and x2APIC: interrupts between processors, INIT and SIPI, the timer, MSIs, and what HLT
 * needs. There is no I/O APIC, PIC or PIT.
 *
 * Who may call: [own] the vCPU's thread, or with the vCPU's mutex; [any] any thread.
 */
#ifndef VMMU_KVM_LAPIC_H
#define VMMU_KVM_LAPIC_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct kvm;
struct kvm_vcpu;
struct lapic;

struct lapic *lapic_create(struct kvm_vcpu *vcpu);
void lapic_destroy(struct lapic *apic);

/** [own] A guest access to physical memory. Returns: false when the address does not belong to this APIC. */
bool lapic_mmio(struct lapic *apic, bool write, uint64_t gpa, unsigned len, void *data);
/** [own] MSR 0x800 + reg. Returns: false for #GP. */
bool lapic_x2apic_read(struct lapic *apic, uint32_t reg, uint64_t *value, bool host);
bool lapic_x2apic_write(struct lapic *apic, uint32_t reg, uint64_t value, bool host);
/** [own] The vCPU's IA32_APIC_BASE is now `base`. */
void lapic_base_changed(struct lapic *apic, uint64_t base);
/** [own] Set the task priority, which is CR8 << 4. */
void lapic_set_tpr(struct lapic *apic, uint8_t tpr);

/**
 * [own] Take the interrupt that the guest should get now, and mark it as in service. Returns: its vector, or -1
 * when there is none.
 */
int lapic_acknowledge(struct lapic *apic);
/** [own] Is there an interrupt to take? Checks the timer first. */
bool lapic_has_interrupt(struct lapic *apic);

/** [own] INIT and SIPI that arrived. The take functions return true, once, when one did. */
bool lapic_start_pending(struct lapic *apic);
bool lapic_take_init(struct lapic *apic);
bool lapic_take_sipi(struct lapic *apic, uint8_t *vector);
void lapic_queue_sipi(struct lapic *apic);
void lapic_set_sipi_vector(struct lapic *apic, uint8_t vector);

/** [own] Raise the timer's interrupt if it is due. */
void lapic_timer_check(struct lapic *apic);
/** [own] When the timer is due (CLOCK_MONOTONIC). Returns: false when it is not running. */
bool lapic_next_timer(struct lapic *apic, struct timespec *due);
uint64_t lapic_deadline(struct lapic *apic);
void lapic_set_deadline(struct lapic *apic, uint64_t tsc);

/**
 * [any] Deliver an interrupt as the ICR or an MSI says. `mode`: 0 fixed, 1 lowest priority, 2 SMI, 4 NMI, 5 INIT,
 * 6 start-up. Returns: how many vCPUs it reached.
 */
int lapic_deliver(struct kvm *kvm, uint32_t destination, bool logical, unsigned mode, uint8_t vector, bool x2apic);

/** [own] The 1 KiB register page, as KVM_GET_LAPIC shows it. */
void lapic_get(struct lapic *apic, uint8_t regs[1024]);
void lapic_set(struct lapic *apic, const uint8_t regs[1024]);

#endif
