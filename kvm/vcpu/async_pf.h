/* SPDX-License-Identifier: MIT */
/*
 * Asynchronous page faults (F68). Where the guest touches a page that --host-memory has taken away, the vCPU does not
 * wait for it. It asks for the page, and meanwhile
 *
 *   - the guest runs something else, if it switched that on and can take it: #PF with a token in CR2 ("page not
 *     present"), and when the page is there an interrupt with the same token in the guest's memory ("page ready");
 *   - or else the vCPU sleeps until the page or an interrupt comes, and so still takes interrupts.
 *
 * Linux describes the guest's side in Documentation/virt/kvm/x86/msr.rst. All on the vCPU's thread, except what the
 * manager of host memory calls. Without --host-memory nothing here happens but the MSRs.
 */
#ifndef VMMU_KVM_ASYNC_PF_H
#define VMMU_KVM_ASYNC_PF_H

#include <stdbool.h>
#include <stdint.h>

struct kvm_vcpu;
struct async_pf;

/** For a vCPU with a local APIC. Returns: NULL without memory. */
struct async_pf *async_pf_create(struct kvm_vcpu *vcpu);
/** NULL: no effect. */
void async_pf_destroy(struct kvm_vcpu *vcpu);

/** The MSRs are written. Returns: false for #GP. What is due to the guest then comes with PV_ASYNC_PF. */
bool async_pf_enable_write(struct kvm_vcpu *vcpu, uint64_t value);
bool async_pf_vector_write(struct kvm_vcpu *vcpu, uint64_t value);
void async_pf_ack_write(struct kvm_vcpu *vcpu, uint64_t value);

/** Before the vCPU first runs. */
void async_pf_start(struct kvm_vcpu *vcpu);

/** CPU_EXIT_PAGE_WAIT: the host would wait for the page at `gpa`. */
void async_pf_page_absent(struct kvm_vcpu *vcpu, uint64_t gpa);

/** Tell the guest of the pages that are there now, and let a vCPU that waits for one go on. PV_ASYNC_PF asks for it. */
void async_pf_check(struct kvm_vcpu *vcpu);

/** Does the vCPU sleep until a page comes? */
bool async_pf_halted(const struct kvm_vcpu *vcpu);
/** It has something else to do: it will touch the page again. */
void async_pf_wake(struct kvm_vcpu *vcpu);

/** Forget all pages that were asked for, as INIT does. */
void async_pf_clear(struct kvm_vcpu *vcpu);

#endif
