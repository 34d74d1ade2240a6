/* SPDX-License-Identifier: MIT */
/* Creation and destruction of VMs, and their small settings. */
#include "kvm/vm/vm.h"
#include "kvm/process/config.h"
#include "kvm/vm/host_memory.h"
#include "kvm/vm/ioctls.h"
#include "kvm/process/file.h"
#include "kvm/vm/machines.h"
#include "kvm/process/sys.h"
#include "kvm/process/user.h"
#include "port/posix/worker.h"
#include <errno.h>
#include <sys/mman.h>

const char *const exit_counter_names[EXITS_COUNT] = {
	[EXITS_IO] = "io", [EXITS_MMIO] = "mmio", [EXITS_HLT] = "hlt", [EXITS_SHUTDOWN] = "shutdown",
	[EXITS_ERROR] = "internal_error", [EXITS_DEBUG] = "debug", [EXITS_RING_FULL] = "dirty_ring_full",
	[EXITS_HOST_FAULT] = "host_fault", [EXITS_SIGNAL] = "signal", [EXITS_IMMEDIATE] = "immediate",
	[EXITS_IRQ_WINDOW] = "irq_window", [EXITS_MSR] = "msr", [EXITS_HYPERCALL] = "hypercall",
	[EXITS_EOI] = "ioapic_eoi", [EXITS_OTHER] = "other",
};

long status_errno(enum vmmu_status status)
{
	switch (status) {
	case VMMU_OK: return 0;
	case VMMU_EINVAL: return -EINVAL;
	case VMMU_EEXIST: return -EEXIST;
	case VMMU_ENOENT: return -ENOENT;
	case VMMU_ENOMEM: return -ENOMEM;
	case VMMU_EFAULT: return -EFAULT;
	case VMMU_EBUSY: return -EBUSY;
	case VMMU_EAGAIN: return -EAGAIN;
	case VMMU_E2BIG: return -E2BIG;
	case VMMU_EDEAD: return -EIO;
	}
	return -EIO;
}

static void vm_release(struct file *file)
{
	vm_put(file->object);
}

/* Mapped, not allocated: most of its table of vCPUs is never touched. */
static struct kvm *vm_map(void)
{
	long at = SYS6(SYS_mmap, 0, sizeof(struct kvm), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm *kvm = (struct kvm *)at; // NOLINT: the kernel's answer is an address

	if (at < 0)
		return NULL;
	if (coalesced_init(&kvm->coalesced) == 0)
		return kvm;
	SYS2(SYS_munmap, kvm, sizeof(*kvm));
	return NULL;
}

static void vm_unmap(struct kvm *kvm)
{
	arena_fini(&kvm->arena);
	coalesced_fini(&kvm->coalesced);
	SYS2(SYS_munmap, kvm, sizeof(*kvm));
}

static void vm_destroy(struct kvm *kvm)
{
	machines_remove(kvm);
	irqfd_free(kvm);
	stats_vm_gone(kvm);
	pit_free(kvm); /* its timer wakes vCPUs */
	for (unsigned id = 0; id < MAX_VCPU_ID; id++)
		if (kvm->vcpus[id])
			vcpu_destroy(kvm->vcpus[id]);
	cpu_vm_destroy(kvm->code);
	vmmu_vm_destroy(kvm->mmu);
	msr_filter_free(kvm);
	irq_routes_free(kvm);
	irqchip_free(kvm);
	ioeventfd_free(kvm);
	clock_fini(&kvm->clock);
	pthread_mutex_destroy(&kvm->irq_lock);
	pthread_mutex_destroy(&kvm->lock);
	vm_unmap(kvm);
}

void vm_put(struct kvm *kvm)
{
	if (atomic_fetch_sub_explicit(&kvm->refs, 1, memory_order_acq_rel) == 1)
		vm_destroy(kvm);
}

static struct kvm *vm_make(long *error)
{
	static atomic_uint numbers;
	struct vmmu_config config = {
		.size = sizeof(config),
		.mmu = config_mmu(),
		.format = config_format(),
		.address_spaces = ADDRESS_SPACES,
		.max_vcpus = MAX_VCPU_ID,
		.nested = config_nested_paging(),
	};
	struct kvm *kvm = vm_map();
	enum vmmu_status status;

	*error = -ENOMEM;
	if (!kvm)
		return NULL;
	arena_init(&kvm->arena);
	config.host = &arena_host;
	config.host_state = &kvm->arena;
	host_memory_start();
	/* now, since it allocates: later it would be called in a memory call, which may be an allocator's own */
	rcu_worker_start();
	status = vmmu_vm_create(&config, &kvm->mmu);
	if (status != VMMU_OK) {
		*error = status_errno(status);
		vm_unmap(kvm);
		return NULL;
	}
	kvm->code = cpu_vm_create();
	atomic_init(&kvm->refs, 1);
	kvm->number = atomic_fetch_add(&numbers, 1);
	kvm->default_tsc_khz = config_tsc_khz();
	kvm->apic_bus_ns = 1;
	clock_init(&kvm->clock);
	pthread_mutex_init(&kvm->lock, NULL);
	pthread_mutex_init(&kvm->irq_lock, NULL);
	if (!kvm->code || machines_add(kvm) != 0) {
		if (kvm->code)
			cpu_vm_destroy(kvm->code);
		vmmu_vm_destroy(kvm->mmu);
		vm_unmap(kvm);
		return NULL;
	}
	return kvm;
}

long vm_create(unsigned long type)
{
	struct kvm *kvm;
	long fd, error;

	if (type != 0)
		return -EINVAL;
	fd = file_memory("anon_inode:kvm-vm", true);
	if (fd < 0)
		return fd;
	kvm = vm_make(&error);
	if (kvm && file_install((int)fd, FILE_VM, kvm, vm_release))
		return fd;
	if (kvm)
		vm_put(kvm);
	SYS1(SYS_close, fd);
	return kvm ? -ENOMEM : error;
}

/* ---- settings ---------------------------------------------------------------------------------- */

long vm_set_tss_addr(struct kvm *kvm, unsigned long argument)
{
	/* The address at which KVM on Intel keeps a TSS for real mode. We need no TSS, so only check the address. */
	(void)kvm;
	return (unsigned int)argument > (unsigned int)(-3 * 4096) ? -EINVAL : 0;
}

long vm_set_identity_map(struct kvm *kvm, unsigned long argument)
{
	uint64_t address;
	long result = 0;

	pthread_mutex_lock(&kvm->lock);
	if (kvm->vcpu_count)
		result = -EINVAL;
	else if (user_read(&address, argument, sizeof(address)) != 0)
		result = -EFAULT;
	else
		kvm->identity_map = address;
	pthread_mutex_unlock(&kvm->lock);
	return result;
}

long vm_set_boot_cpu(struct kvm *kvm, unsigned long argument)
{
	long result = 0;

	pthread_mutex_lock(&kvm->lock);
	if (kvm->vcpu_count)
		result = -EBUSY;
	else if (argument > (kvm->max_vcpu_id ? kvm->max_vcpu_id : MAX_VCPU_ID))
		result = -EINVAL; /* compares the whole argument, not its low half */
	else
		kvm->boot_cpu_id = (uint32_t)argument;
	pthread_mutex_unlock(&kvm->lock);
	return result;
}

long vm_set_nr_mmu_pages(struct kvm *kvm, unsigned long argument)
{
	enum vmmu_status status;

	/* 64 is KVM's smallest shadow cache. The limit applies to the shadow MMU only, not to second-stage tables. */
	if ((uint32_t)argument < 64)
		return -EINVAL;
	pthread_mutex_lock(&kvm->lock);
	status = vmmu_shadow_limit_set(kvm->mmu, argument);
	if (status == VMMU_EINVAL)
		status = VMMU_OK; /* a VM that never shadows */
	if (status == VMMU_OK)
		kvm->mmu_pages = argument;
	pthread_mutex_unlock(&kvm->lock);
	return status_errno(status);
}

long vm_get_nr_mmu_pages(struct kvm *kvm, unsigned long argument)
{
	unsigned long pages;

	(void)argument;
	pthread_mutex_lock(&kvm->lock);
	pages = kvm->mmu_pages;
	pthread_mutex_unlock(&kvm->lock);
	return (long)pages;
}
