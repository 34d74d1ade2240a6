/* SPDX-License-Identifier: MIT */
/*
 * A local APIC, xAPIC and x2APIC: its registers and its timer, interrupts that wait and that are in service, INIT and
 * SIPI, and what HLT needs. Which local APICs an interrupt goes to is said in deliver.h.
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
 * [own] Take the interrupt that the guest should get now, and mark it as in service. One of the PIC, the VM's or the
 * client's, comes before those of the local APIC. Returns: its vector, or -1 when there is none.
 */
int lapic_acknowledge(struct lapic *apic);
/** [own] Is there an interrupt to take? Checks the timer first. */
bool lapic_has_interrupt(struct lapic *apic);

/** [any] Does it let interrupts of a PIC through? LINT0 does, as ExtINT, and an APIC that is off. */
bool lapic_takes_external(struct lapic *apic);
/** [any] The PIC's output went high: wake a vCPU whose local APIC lets it through. */
void lapic_external(struct kvm *kvm);

/** [any] Is it on, by its base and by software? Else it takes no interrupts. */
bool lapic_is_on(struct lapic *apic);
/** [any] Request an edge-triggered interrupt of this vCPU. */
void lapic_raise(struct lapic *apic, uint8_t vector);

/** [own] Has an INIT or a SIPI arrived that was not taken? */
bool lapic_start_pending(struct lapic *apic);
struct lapic_start {
	bool init, sipi; /* if both: the SIPI came behind the INIT */
	uint8_t vector;  /* of the SIPI */
};
/** [own] Take both at once: of two reads, the second could find the SIPI of an INIT that came after the first. */
struct lapic_start lapic_take_start(struct lapic *apic);
/** [own] The state that an INIT leaves: all registers but the base, the ID, and what is latched. */
void lapic_reset(struct lapic *apic);
/** [own] Has an INIT arrived that was not taken? The second function says so itself. */
bool lapic_init_is_latched(struct lapic *apic);
void lapic_init_latch(struct lapic *apic, bool latched);
void lapic_queue_sipi(struct lapic *apic);
void lapic_set_sipi_vector(struct lapic *apic, uint8_t vector);

/** [own] Raise the timer's interrupt if it is due. */
void lapic_timer_check(struct lapic *apic);
/** [own] When the timer is due (CLOCK_MONOTONIC). Returns: false when it is not running. */
bool lapic_next_timer(struct lapic *apic, struct timespec *due);
uint64_t lapic_deadline(struct lapic *apic);
void lapic_set_deadline(struct lapic *apic, uint64_t tsc);

/** [own] The 1 KiB register page, as KVM_GET_LAPIC shows it. */
void lapic_get(struct lapic *apic, uint8_t regs[1024]);
/** [own] Returns: false, and nothing is changed, when the x2APIC ID is another vCPU's. */
bool lapic_set(struct lapic *apic, const uint8_t regs[1024]);

#endif
