/* SPDX-License-Identifier: MIT */
/* Creation and destruction of vCPUs; the vCPU ioctls that fit nowhere else. */
#include "kvm/vm/vm.h"
#include "kvm/process/config.h"
#include "kvm/vcpu/async_pf.h"
#include "kvm/vcpu/ioctls.h"
#include "kvm/process/file.h"
#include "kvm/irq/lapic.h"
#include "kvm/vcpu/msr.h"
#include "kvm/vcpu/pv.h"
#include "kvm/vcpu/run.h"
#include "kvm/process/signals.h"
#include "kvm/process/sys.h"
#include "kvm/vcpu/tsc.h"
#include "kvm/process/user.h"
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void vcpu_release(struct file *file)
{
	/* As in KVM, the vCPU stays with its VM; only its file goes. */
	vm_put(((struct kvm_vcpu *)file->object)->kvm);
}

void vcpu_destroy(struct kvm_vcpu *vcpu)
{
	async_pf_destroy(vcpu);
	/* The local APIC first: its timer thread may still reach the CPU through it. */
	if (vcpu->lapic)
		lapic_destroy(vcpu->lapic);
	pv_destroy(vcpu);
	if (vcpu->cpu)
		cpu_destroy(vcpu->cpu);
	if (vcpu->mmu)
		vmmu_vcpu_destroy(vcpu->mmu);
	if (vcpu->run)
		SYS2(SYS_munmap, vcpu->run, vcpu->mapped);
	free(vcpu->cpuid);
	pthread_mutex_destroy(&vcpu->lock);
	free(vcpu);
}

/* The memory that the client maps: the run page, the I/O page, and at page 64 the dirty ring. */
static long map_memory(struct kvm_vcpu *vcpu, int fd)
{
	size_t bytes = RUN_PAGES * VMMU_PAGE_SIZE;
	long address;

	if (vcpu->kvm->ring_bytes)
		bytes = RUN_RING_PAGE * VMMU_PAGE_SIZE + vcpu->kvm->ring_bytes;
	if (SYS2(SYS_ftruncate, fd, bytes) < 0)
		return -ENOMEM;
	address = SYS6(SYS_mmap, 0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (address < 0)
		return -ENOMEM;
	vcpu->mapped = bytes;
	vcpu->run = (struct kvm_run *)address; // NOLINT: the kernel's answer is an address
	vcpu->pio = (uint8_t *)vcpu->run + RUN_PIO_PAGE * VMMU_PAGE_SIZE;
	if (vcpu->kvm->ring_bytes)
		vcpu->ring = (void *)((char *)vcpu->run + RUN_RING_PAGE * VMMU_PAGE_SIZE);
	return 0;
}

/* Holds: the VM's lock. */
static long fill(struct kvm_vcpu *vcpu, int fd)
{
	struct kvm *kvm = vcpu->kvm;
	enum vmmu_status status;
	long result = map_memory(vcpu, fd);

	if (result)
		return result;
	status = vmmu_vcpu_create(kvm->mmu, vcpu->id, vcpu, &vcpu->mmu);
	if (status != VMMU_OK)
		return status_errno(status);
	if (vcpu->ring)
		vmmu_vcpu_dirty_ring_set(vcpu->mmu, vcpu->ring);
	vcpu->cpu = cpu_create(vcpu->mmu, &run_cpu_ops, vcpu, kvm->code);
	if (!vcpu->cpu)
		return -ENOMEM;
	if (atomic_load(&kvm->irqchip) != IRQCHIP_NONE) {
		vcpu->lapic = lapic_create(vcpu);
		vcpu->apf = async_pf_create(vcpu);
		if (!vcpu->lapic || !vcpu->apf)
			return -ENOMEM;
	}
	if (!pv_create(vcpu))
		return -ENOMEM;
	msr_reset(vcpu);
	/* With an irqchip every vCPU but the boot one waits for INIT and SIPI. */
	cpu_state(vcpu->cpu)->apic_base = 0xfee00000u | 1u << 11 | (vcpu->id == kvm->boot_cpu_id ? 1u << 8 : 0);
	cpu_state(vcpu->cpu)->mp_state =
		vcpu->lapic && vcpu->id != kvm->boot_cpu_id ? CPU_MP_UNINITIALIZED : CPU_MP_RUNNABLE;
	return 0;
}

/* Holds: the VM's lock. */
static long create_locked(struct kvm *kvm, unsigned id)
{
	struct kvm_vcpu *vcpu;
	char name[32];
	long fd, result;

	if (kvm->vcpus[id])
		return -EEXIST;
	snprintf(name, sizeof(name), "anon_inode:kvm-vcpu:%u", id);
	fd = file_memory(name, true);
	if (fd < 0)
		return fd;
	vcpu = calloc(1, sizeof(*vcpu));
	if (!vcpu) {
		SYS1(SYS_close, fd);
		return -ENOMEM;
	}
	vcpu->kvm = kvm;
	vcpu->id = id;
	vcpu->extint = vcpu->eoi_vector = -1;
	pthread_mutex_init(&vcpu->lock, NULL);
	result = fill(vcpu, (int)fd);
	if (!result && !file_install((int)fd, FILE_VCPU, vcpu, vcpu_release))
		result = -ENOMEM;
	if (result) {
		vcpu_destroy(vcpu);
		SYS1(SYS_close, fd);
		return result;
	}
	tsc_vcpu_created(vcpu);
	atomic_fetch_add(&kvm->refs, 1);
	__atomic_store_n(&kvm->vcpus[id], vcpu, __ATOMIC_RELEASE);
	kvm->online[kvm->vcpu_count] = vcpu;
	/* release: pairs with vm_vcpus_online */
	atomic_store_explicit(&kvm->vcpu_count, kvm->vcpu_count + 1, memory_order_release);
	return fd;
}

long vm_create_vcpu(struct kvm *kvm, unsigned long id)
{
	long result;

	if (id >= MAX_VCPU_ID)
		return -EINVAL;
	pthread_mutex_lock(&kvm->lock);
	if (kvm->vcpu_count >= MAX_VCPUS)
		result = -EINVAL;
	else if (kvm->max_vcpu_id && id >= kvm->max_vcpu_id)
		result = -EINVAL;
	else
		result = create_locked(kvm, (unsigned)id);
	pthread_mutex_unlock(&kvm->lock);
	return result;
}

void vcpu_wake(struct kvm_vcpu *vcpu)
{
	atomic_fetch_add(&vcpu->wake, 1);
	cpu_interrupt_raise(vcpu->cpu);
	SYS3(SYS_futex, &vcpu->wake, FUTEX_WAKE_PRIVATE, INT_MAX);
}

long vcpu_set_signal_mask(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct kvm_signal_mask header;
	uint64_t mask;

	if (!argument) {
		vcpu->mask_set = false;
		return 0;
	}
	if (user_read(&header, argument, sizeof(header)) != 0)
		return -EFAULT;
	if (header.len != sizeof(mask))
		return -EINVAL;
	if (user_read(&mask, argument + sizeof(header), sizeof(mask)) != 0)
		return -EFAULT;
	/* KILL and STOP cannot be blocked. SEGV and BUS must not be, because a missing guest page raises them. */
	mask &= ~(UINT64_C(1) << 8 | UINT64_C(1) << 18 | UINT64_C(1) << 10 | UINT64_C(1) << 6);
	signals_prepare(mask);
	vcpu->mask = mask;
	vcpu->mask_set = true;
	return 0;
}

long vcpu_enable_cap(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct kvm_enable_cap cap;

	if (user_read(&cap, argument, sizeof(cap)) != 0)
		return -EFAULT;
	/* The other capabilities of vCPUs concern Hyper-V, which is not here. */
	if (cap.flags || cap.cap != KVM_CAP_ENFORCE_PV_FEATURE_CPUID)
		return -EINVAL;
	vcpu->pv_enforced = cap.args[0] != 0;
	return 0;
}

struct prefault {
	uint64_t gpa, size, flags, padding[5];
};

long vcpu_prefault(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct prefault range;
	uint64_t done = 0;
	long result;

	if (user_read(&range, argument, sizeof(range)) != 0)
		return -EFAULT;
	if (range.flags || (range.gpa | range.size) % VMMU_PAGE_SIZE || range.gpa + range.size <= range.gpa)
		return -EINVAL;
	if (config_mmu() == VMMU_MMU_SHADOW)
		return -EOPNOTSUPP; /* as KVM with shadow paging */
	if (cpu_nested_paging(vcpu->cpu))
		return -EOPNOTSUPP; /* it would be L2's memory */
	result = status_errno(vmmu_prefault(vcpu->mmu, (struct vmmu_gpa){ range.gpa }, range.size, &done));
	range.gpa += done;
	range.size -= done;
	if (user_write(argument, &range, sizeof(range)) != 0)
		return -EFAULT;
	/* Any progress is success: the client calls again for the rest. */
	return done ? 0 : result;
}
