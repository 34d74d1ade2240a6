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
#include <time.h>
#include <x86intrin.h>

const char *const exit_counter_names[EXITS_COUNT] = {
	[EXITS_IO] = "io", [EXITS_MMIO] = "mmio", [EXITS_HLT] = "hlt", [EXITS_SHUTDOWN] = "shutdown",
	[EXITS_ERROR] = "internal_error", [EXITS_DEBUG] = "debug", [EXITS_RING_FULL] = "dirty_ring_full",
	[EXITS_HOST_FAULT] = "host_fault", [EXITS_SIGNAL] = "signal", [EXITS_IMMEDIATE] = "immediate",
	[EXITS_IRQ_WINDOW] = "irq_window", [EXITS_MSR] = "msr", [EXITS_HYPERCALL] = "hypercall",
	[EXITS_OTHER] = "other",
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

/* Mapped: most of the table of vCPUs is never touched. */
static struct vm *vm_map(void)
{
	long at = SYS6(SYS_mmap, 0, sizeof(struct vm), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return at < 0 ? NULL : (struct vm *)at; // NOLINT: the kernel's answer is an address
}

static void vm_unmap(struct vm *vm)
{
	arena_fini(&vm->arena);
	SYS2(SYS_munmap, vm, sizeof(*vm));
}

static void vm_destroy(struct vm *vm)
{
	machines_remove(vm);
	stats_vm_gone(vm);
	for (unsigned id = 0; id < MAX_VCPU_ID; id++)
		if (vm->vcpus[id])
			vcpu_destroy(vm->vcpus[id]);
	cpu_vm_destroy(vm->code);
	vmmu_vm_destroy(vm->mmu);
	msr_filter_free(vm);
	irq_routes_free(vm);
	ioeventfd_free(vm);
	pthread_mutex_destroy(&vm->ioeventfd_lock);
	pthread_mutex_destroy(&vm->lock);
	vm_unmap(vm);
}

void vm_put(struct vm *vm)
{
	if (atomic_fetch_sub_explicit(&vm->refs, 1, memory_order_acq_rel) == 1)
		vm_destroy(vm);
}

static struct vm *vm_make(long *error)
{
	static atomic_uint numbers;
	struct vmmu_config config = {
		.size = sizeof(config),
		.mmu = config_mmu(),
		.format = config_format(),
		.address_spaces = 1,
		.max_vcpus = MAX_VCPU_ID,
	};
	struct vm *vm = vm_map();
	enum vmmu_status status;

	*error = -ENOMEM;
	if (!vm)
		return NULL;
	arena_init(&vm->arena);
	config.host = &arena_host;
	config.host_state = &vm->arena;
	host_memory_start();
	rcu_worker_start(); /* it allocates: not later, in a memory call that an allocator makes */
	status = vmmu_vm_create(&config, &vm->mmu);
	if (status != VMMU_OK) {
		*error = status_errno(status);
		vm_unmap(vm);
		return NULL;
	}
	vm->code = cpu_vm_create();
	atomic_init(&vm->refs, 1);
	vm->number = atomic_fetch_add(&numbers, 1);
	vm->tsc_base = __rdtsc();
	pthread_mutex_init(&vm->lock, NULL);
	pthread_mutex_init(&vm->ioeventfd_lock, NULL);
	if (!vm->code || machines_add(vm) != 0) {
		if (vm->code)
			cpu_vm_destroy(vm->code);
		vmmu_vm_destroy(vm->mmu);
		vm_unmap(vm);
		return NULL;
	}
	return vm;
}

long vm_create(unsigned long type)
{
	struct vm *vm;
	long fd, error;

	if (type != 0)
		return -EINVAL;
	fd = file_memory("anon_inode:kvm-vm", true);
	if (fd < 0)
		return fd;
	vm = vm_make(&error);
	if (vm && file_install((int)fd, FILE_VM, vm, vm_release))
		return fd;
	if (vm)
		vm_put(vm);
	SYS1(SYS_close, fd);
	return vm ? -ENOMEM : error;
}

/* ---- settings ---------------------------------------------------------------------------------- */

long vm_set_tss_addr(struct vm *vm, unsigned long argument)
{
	/* Where Intel's KVM keeps a TSS for real mode. Ours needs none, so the address is only checked. */
	(void)vm;
	return (unsigned int)argument > (unsigned int)(-3 * 4096) ? -EINVAL : 0;
}

long vm_set_identity_map(struct vm *vm, unsigned long argument)
{
	uint64_t address;
	long result = 0;

	pthread_mutex_lock(&vm->lock);
	if (vm->vcpu_count)
		result = -EINVAL;
	else if (user_read(&address, argument, sizeof(address)) != 0)
		result = -EFAULT;
	else
		vm->identity_map = address;
	pthread_mutex_unlock(&vm->lock);
	return result;
}

long vm_set_boot_cpu(struct vm *vm, unsigned long argument)
{
	long result = 0;

	pthread_mutex_lock(&vm->lock);
	if (vm->vcpu_count)
		result = -EBUSY;
	else if (argument > (vm->max_vcpu_id ? vm->max_vcpu_id : MAX_VCPU_ID))
		result = -EINVAL; /* the argument in full: no lower half of it is meant */
	else
		vm->boot_cpu_id = (uint32_t)argument;
	pthread_mutex_unlock(&vm->lock);
	return result;
}

long vm_set_nr_mmu_pages(struct vm *vm, unsigned long argument)
{
	enum vmmu_status status = VMMU_OK;

	/* KVM's smallest shadow cache. The limit is the shadow MMU's; two-dimensional tables are not bounded by it. */
	if ((uint32_t)argument < 64)
		return -EINVAL;
	pthread_mutex_lock(&vm->lock);
	if (config_mmu() == VMMU_MMU_SHADOW)
		status = vmmu_shadow_limit_set(vm->mmu, argument);
	if (status == VMMU_OK)
		vm->mmu_pages = argument;
	pthread_mutex_unlock(&vm->lock);
	return status_errno(status);
}

long vm_get_nr_mmu_pages(struct vm *vm, unsigned long argument)
{
	unsigned long pages;

	(void)argument;
	pthread_mutex_lock(&vm->lock);
	pages = vm->mmu_pages;
	pthread_mutex_unlock(&vm->lock);
	return (long)pages;
}

long vm_set_tsc_khz(struct vm *vm, unsigned long argument)
{
	long result = 0;

	pthread_mutex_lock(&vm->lock);
	/* The guest's TSC runs at the host's rate. */
	if (argument != 0 && !config_tsc_khz_close((uint32_t)argument))
		result = -EINVAL;
	else
		vm->default_tsc_khz = (uint32_t)argument;
	pthread_mutex_unlock(&vm->lock);
	return result;
}

long vm_get_tsc_khz(struct vm *vm, unsigned long argument)
{
	(void)argument;
	return vm->default_tsc_khz ? (long)vm->default_tsc_khz : (long)config_tsc_khz();
}

static int64_t monotonic(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_RAW, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

long vm_get_clock(struct vm *vm, unsigned long argument)
{
	struct kvm_clock_data data = { .flags = KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC };
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	data.realtime = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	data.host_tsc = __rdtsc();
	pthread_mutex_lock(&vm->lock);
	data.clock = (uint64_t)monotonic() + vm->clock_offset;
	pthread_mutex_unlock(&vm->lock);
	return user_write(argument, &data, sizeof(data));
}

long vm_set_clock(struct vm *vm, unsigned long argument)
{
	struct kvm_clock_data data;

	if (user_read(&data, argument, sizeof(data)) != 0)
		return -EFAULT;
	if (data.flags & ~(uint32_t)KVM_CLOCK_REALTIME)
		return -EINVAL;
	pthread_mutex_lock(&vm->lock);
	/* Unsigned: the client's numbers may be anything, and wrap. */
	vm->clock_offset = data.clock - (uint64_t)monotonic();
	if (data.flags & KVM_CLOCK_REALTIME) {
		struct timespec now;
		int64_t real;

		clock_gettime(CLOCK_REALTIME, &now);
		real = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
		/* The guest's clock went on while it was away, but never backwards. */
		if ((uint64_t)real > data.realtime)
			vm->clock_offset += (uint64_t)real - data.realtime;
	}
	pthread_mutex_unlock(&vm->lock);
	return 0;
}
