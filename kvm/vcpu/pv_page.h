/* SPDX-License-Identifier: MIT */
/*
 * The memory of a guest that a paravirtual interface shares with it. The guest gives its address in an MSR. It may
 * have no slot there, now or ever; then nothing is read or written.
 */
#ifndef VMMU_KVM_PV_PAGE_H
#define VMMU_KVM_PV_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kvm_vcpu;

/** Do the bytes lie in one page? KVM shares no others. */
bool pv_page_fits(uint64_t gpa, size_t bytes);

/** Returns: false if there is no memory. On the vCPU's thread. */
bool pv_page_read(struct kvm_vcpu *vcpu, uint64_t gpa, void *to, size_t bytes);

/** PV_PAGE_LATER: the dirty ring is full. The next entry into the guest ends for that reason; try again after it. */
enum pv_page_result { PV_PAGE_DONE, PV_PAGE_NONE, PV_PAGE_LATER };
enum pv_page_result pv_page_write(struct kvm_vcpu *vcpu, uint64_t gpa, const void *from, size_t bytes);

#endif
