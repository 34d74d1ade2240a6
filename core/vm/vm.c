/* SPDX-License-Identifier: MIT */
/* Birth and death of a VM. */
#include <vmmu/version.h>

#include "core/base/assert.h"
#include "core/base/string.h"
#include "core/fault/context.h"
#include "core/format/spte.h"
#include "core/notifier/notifier.h"
#include "core/shadow/shadow.h"
#include "core/tdp/tdp.h"
#include "core/vm/vm_int.h"

void vm_die(struct vm *vm, const char *file, int line, const char *what)
{
	if (!__atomic_exchange_n(&vm->dead, 1, __ATOMIC_RELAXED))
		port_warn(file, line, what);
}

bool vmmu_vm_is_dead(const struct vmmu_vm *vm)
{
	return vm_is_dead(&vm->vm);
}

static bool config_is_valid(const struct vmmu_config *config)
{
	const struct vmmu_host *host = config->host;

	return host && host->chunk_alloc && host->chunk_free && host->alloc && host->free && host->page_get &&
	       (config->mmu == VMMU_MMU_TDP ?
	                config->format <= VMMU_FORMAT_EPT5_NO_AD :
	                config->mmu == VMMU_MMU_SHADOW && config->format == VMMU_FORMAT_NPT4) &&
	       (!config->nested || (config->mmu == VMMU_MMU_TDP && config->format == VMMU_FORMAT_NPT4)) &&
	       config->address_spaces <= MAX_ADDRESS_SPACES && config->guest_phys_bits <= VMMU_HOST_PHYS_BITS &&
	       (!config->guest_phys_bits || config->guest_phys_bits >= 32) &&
	       (!config->l1d_phys_bits ||
	        (config->l1d_phys_bits >= 36 && config->l1d_phys_bits <= 46 && config->guest_phys_bits &&
	         config->guest_phys_bits <= config->l1d_phys_bits)) &&
	       config->max_vcpus <= VMMU_MAX_VCPUS;
}

static void vm_configure(struct vm *vm, const struct vmmu_config *config)
{
	static const struct {
		const struct format *format;
		unsigned levels;
	} formats[] = {
		[VMMU_FORMAT_NPT4] = { &format_npt, 4 },
		[VMMU_FORMAT_NPT5] = { &format_npt, 5 },
		[VMMU_FORMAT_EPT4] = { &format_ept, 4 },
		[VMMU_FORMAT_EPT5] = { &format_ept, 5 },
		[VMMU_FORMAT_EPT4_NO_AD] = { &format_ept_no_ad, 4 },
		[VMMU_FORMAT_EPT5_NO_AD] = { &format_ept_no_ad, 5 },
	};

	vm->host = config->host;
	vm->host_state = config->host_state;
	vm->format = config->format;
	vm->fmt = formats[config->format].format;
	vm->levels = formats[config->format].levels;
	vm->address_spaces = config->address_spaces ? config->address_spaces : 1;
	vm->guest_phys_bits = config->guest_phys_bits ? config->guest_phys_bits : VMMU_HOST_PHYS_BITS;
	vm->mmio_guard = mmio_guard(config->l1d_phys_bits);
	vm->nested = config->nested;
	vm->slot_delete_zaps_slot = config->slot_delete_zaps_slot;
	vm->vcpus.max = config->max_vcpus ? config->max_vcpus : VMMU_MAX_VCPUS;
	list_init(&vm->pfn_caches);
	srcu_init(&vm->srcu);
	mmu_lock_init(&vm->mmu_lock);
}

static enum vmmu_status vm_build(struct vm *vm, const struct vmmu_config *config)
{
	enum vmmu_status status;

	vm->vcpus.by_id = vm_alloc(vm, vm->vcpus.max * sizeof(*vm->vcpus.by_id));
	if (!vm->vcpus.by_id)
		return VMMU_ENOMEM;
	if ((status = pool_init(vm)) != VMMU_OK || (status = notifier_init(vm)) != VMMU_OK)
		return status;
	vm->context = config->mmu == VMMU_MMU_SHADOW ? &context_shadow : &context_tdp;
	status = config->mmu == VMMU_MMU_SHADOW ? shadow_init(vm) : tdp_init(vm);
	/* No more than the head of the shadow MMU: its arrays come with the first nested root (P1). */
	if (status == VMMU_OK && config->nested)
		status = shadow_init(vm);
	if (status != VMMU_OK)
		return status;
	return slots_init(vm, &vm_slots_hooks);
}

/* Also for a VM that was built only in part. */
static void vm_unbuild(struct vm *vm)
{
	if (vm->slots)
		gate_force_open(&vm->slots->gate);
	mutex_lock(&vm->slots_lock);
	tdp_fini(vm);
	shadow_fini(vm);
	mutex_unlock(&vm->slots_lock);
	if (vm->slots)
		slots_fini(vm);
	if (vm->notifier)
		notifier_fini(vm);
	port_rcu_barrier(); /* tables on their way to the pool */
	pool_fini(vm);
	vm_free(vm, vm->vcpus.by_id, vm->vcpus.max * sizeof(*vm->vcpus.by_id));
}

/* Read the program's config. Fields that the program does not know are 0. Fields that are new to us must be 0. */
static enum vmmu_status config_read(struct vmmu_config *config, const struct vmmu_config *given)
{
	size_t size = given->size;

	if (size < offsetof(struct vmmu_config, host) + sizeof(given->host))
		return VMMU_EINVAL;
	for (size_t i = sizeof(*config); i < size; i++)
		if (((const char *)given)[i])
			return VMMU_E2BIG;
	memset(config, 0, sizeof(*config));
	memcpy(config, given, min_u64(size, sizeof(*config)));
	return config_is_valid(config) ? VMMU_OK : VMMU_EINVAL;
}

enum vmmu_status vmmu_vm_create(const struct vmmu_config *given, struct vmmu_vm **out)
{
	enum vmmu_status status;
	struct vmmu_config config;
	struct vmmu_vm *vmmu;

	if (!given || !out)
		return VMMU_EINVAL;
	status = config_read(&config, given);
	if (status != VMMU_OK)
		return status;
	vmmu = config.host->alloc(config.host_state, sizeof(*vmmu));
	if (!vmmu)
		return VMMU_ENOMEM;
	vm_configure(&vmmu->vm, &config);
	status = vm_build(&vmmu->vm, &config);
	if (status != VMMU_OK) {
		vmmu_vm_destroy(vmmu);
		return status;
	}
	*out = vmmu;
	return VMMU_OK;
}

void vmmu_vm_destroy(struct vmmu_vm *vmmu)
{
	struct vm *vm = &vmmu->vm;

	VM_BUG(vm, load_relaxed(&vm->vcpus.limit) != 0);      /* a vCPU is left */
	VM_BUG(vm, load_relaxed(&vm->pfn_caches_count) != 0); /* a pfn cache is left */
	vm_unbuild(vm);
	vm->host->free(vm->host_state, vmmu, sizeof(*vmmu));
}

unsigned vmmu_version(void)
{
	return VMMU_VERSION;
}

const char *vmmu_status_name(enum vmmu_status status)
{
	static const char *const names[] = {
		[VMMU_OK] = "success",
		[VMMU_EINVAL] = "invalid request",
		[VMMU_EEXIST] = "already exists",
		[VMMU_ENOENT] = "does not exist",
		[VMMU_ENOMEM] = "out of memory",
		[VMMU_EFAULT] = "bad host address",
		[VMMU_EBUSY] = "busy",
		[VMMU_EAGAIN] = "try again",
		[VMMU_E2BIG] = "over a limit",
		[VMMU_EDEAD] = "the VM is dead after an internal error",
	};

	return (unsigned)status < array_size(names) ? names[status] : "unknown status";
}
