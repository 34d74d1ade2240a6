/* SPDX-License-Identifier: MIT */
/* The MSRs that the front end adds to those of the CPU, and the ioctls that read and write MSRs. */
#include "kvm/vcpu/msr.h"
#include "kvm/vcpu/cpuid.h"
#include "kvm/vcpu/ioctls.h"
#include "kvm/irq/lapic.h"
#include "kvm/vcpu/msr_filter.h"
#include "kvm/vcpu/nested.h"
#include "kvm/vcpu/pv.h"
#include "kvm/vcpu/tsc.h"
#include "kvm/process/user.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MSR_TSC           0x10u
#define MSR_APIC_BASE     0x1bu
#define MSR_TSC_ADJUST    0x3bu
#define MSR_FEATURE_CTL   0x3au
#define MSR_SMI_COUNT     0x34u
#define MSR_BIOS_SIGN     0x8bu
#define MSR_SMBASE        0x9eu
#define MSR_PLATFORM_INFO 0xceu
#define MSR_MTRR_CAP      0xfeu
#define MSR_SPEC_CTRL     0x48u
#define MSR_ARCH_CAP      0x10au
#define MSR_MISC_FEATURES 0x140u
#define MSR_MISC_ENABLE   0x1a0u
#define MSR_MCG_CAP       0x179u
#define MSR_MCG_STATUS    0x17au
#define MSR_MCG_CTL       0x17bu
#define MSR_DEBUGCTL      0x1d9u
#define MSR_POWER_CTL     0x1fcu
#define MSR_MTRR_VAR      0x200u
#define MSR_MTRR_DEFTYPE  0x2ffu
#define MSR_MCE_BANK      0x400u
#define MSR_PERF_CAP      0x345u
#define MSR_XSS           0xda0u
#define MSR_TSC_DEADLINE  0x6e0u
#define MSR_X2APIC        0x800u
#define MSR_EFER          0xc0000080u
#define MSR_VM_CR         0xc0010114u
#define MSR_VM_HSAVE_PA   0xc0010117u
#define MSR_TSC_AUX       0xc0000103u
#define MSR_K7_EVNTSEL0   0xc0010000u
#define MSR_K7_PERFCTR3   0xc0010007u
#define MSR_HWCR          0xc0010015u

#define APIC_BASE_X2APIC UINT64_C(0x400)
#define APIC_BASE_ENABLE UINT64_C(0x800)
#define APIC_BASE_MODE   (APIC_BASE_X2APIC | APIC_BASE_ENABLE)

#define MAX_IO_MSRS 256u

/* MSRs that clients save and restore, beside the CPU's. */
static const uint32_t own_list[] = {
	MSR_APIC_BASE, MSR_TSC_ADJUST, MSR_BIOS_SIGN, MSR_PLATFORM_INFO, MSR_MISC_FEATURES, MSR_MCG_STATUS, MSR_MCG_CTL,
	MSR_TSC_DEADLINE, MSR_MTRR_DEFTYPE, MSR_ARCH_CAP, MSR_PERF_CAP, MSR_POWER_CTL, MSR_HWCR, MSR_SMBASE,
	MSR_SMI_COUNT, MSR_VM_CR, MSR_VM_HSAVE_PA,
};

/* Their values are the same on every vCPU, and known before there is one. */
static const struct {
	uint32_t index;
	uint64_t value;
} feature_list[] = {
	{ MSR_BIOS_SIGN, UINT64_C(0x100000000) },
	{ MSR_ARCH_CAP, 0 },
	{ MSR_PERF_CAP, 0 },
};

/* Registers that a BIOS or a kernel reads on real processors. They hold nothing here. Writing 0 is allowed. */
static const uint32_t zero_list[] = {
	0x17,       /* IA32_PLATFORM_ID */
	0x2c,       /* EBC_FREQUENCY_ID */
	0x1d9,      /* DEBUGCTL */
	0x606,      /* RAPL_POWER_UNIT */
	0xc0010010, /* SYSCFG */
	0xc0010055, /* INT_PENDING_MSG */
	0xc0010058, /* MMIO_CONF_BASE */
	0xc0010112, /* TSEG address */
	0xc0010113, /* TSEG mask */
	0xc0011020, /* LS_CFG */
};

/* Switches of AMD's processors. As in KVM they read as 0, and a guest may write what it likes. */
static const uint32_t ignored_list[] = {
	0x79,       /* IA32_BIOS_UPDT_TRIG */
	0xc001001f, /* NB_CFG */
	0xc0010020, /* PATCH_LOADER */
	0xc0011022, /* DC_CFG */
	0xc0011023, /* TW_CFG */
	0xc001102a, /* BU_CFG2 */
	0xc001102c, /* EX_CFG */
};

/* Counters that the CPU lacks, but software programs anyway. They read as 0, and writes are ignored. */
static bool is_k7_counter(uint32_t index)
{
	return index >= MSR_K7_EVNTSEL0 && index <= MSR_K7_PERFCTR3;
}

static bool is_in(const uint32_t *list, size_t count, uint32_t index)
{
	for (size_t i = 0; i < count; i++)
		if (list[i] == index)
			return true;
	return false;
}

static bool is_zero_msr(uint32_t index)
{
	return is_in(zero_list, sizeof(zero_list) / sizeof(*zero_list), index);
}

static bool is_ignored(uint32_t index)
{
	return is_k7_counter(index) || is_in(ignored_list, sizeof(ignored_list) / sizeof(*ignored_list), index);
}

void msr_reset(struct kvm_vcpu *vcpu)
{
	/* KVM's default: CPUID faulting can be switched on; the turbo ratio is 0. */
	vcpu->platform_info = UINT64_C(1) << 31;
	vcpu->bios_sign = UINT64_C(0x100000000);
	vcpu->mcg_cap = MCE_BANKS;
	vcpu->mcg_ctl = UINT64_MAX;
}

/* The numbers of the fixed-range MTRRs are scattered. Returns: an index into mtrr_fixed, or -1. */
static int mtrr_fixed(uint32_t index)
{
	switch (index) {
	case 0x250: return 0;
	case 0x258: return 1;
	case 0x259: return 2;
	default: return index >= 0x268 && index <= 0x26f ? (int)(3 + index - 0x268) : -1;
	}
}

static uint64_t *own_variable(struct kvm_vcpu *vcpu, uint32_t index)
{
	int fixed = mtrr_fixed(index);

	switch (index) {
	case MSR_BIOS_SIGN: return &vcpu->bios_sign;
	case MSR_PLATFORM_INFO: return &vcpu->platform_info;
	case MSR_MISC_FEATURES: return &vcpu->misc_features;
	case MSR_ARCH_CAP: return &vcpu->arch_capabilities;
	case MSR_MCG_CAP: return &vcpu->mcg_cap;
	case MSR_MCG_STATUS: return &vcpu->mcg_status;
	case MSR_MCG_CTL: return &vcpu->mcg_ctl;
	case MSR_MTRR_DEFTYPE: return &vcpu->mtrr_def_type;
	case MSR_POWER_CTL: return &vcpu->power_ctl;
	case MSR_HWCR: return &vcpu->hwcr;
	case MSR_TSC_ADJUST: return &vcpu->tsc_adjust;
	case MSR_SMBASE: return &cpu_state(vcpu->cpu)->smbase;
	case MSR_SMI_COUNT: return &cpu_state(vcpu->cpu)->smi_count;
	default: break;
	}
	if (fixed >= 0)
		return &vcpu->mtrr_fixed[fixed];
	if (index >= MSR_MTRR_VAR && index < MSR_MTRR_VAR + 16)
		return &vcpu->mtrr_var[index - MSR_MTRR_VAR];
	if (index >= MSR_MCE_BANK && index < MSR_MCE_BANK + MCE_BANKS * 4 &&
	    index < MSR_MCE_BANK + (vcpu->mcg_cap & 0xff) * 4)
		return &vcpu->mce[index - MSR_MCE_BANK];
	return NULL;
}

/* Does the guest's CPUID lack the feature that this MSR comes with? The client may use the MSR all the same. */
static bool guest_lacks(struct kvm_vcpu *vcpu, uint32_t index)
{
	switch (index) {
	case MSR_SPEC_CTRL: return !cpuid_guest_has(vcpu, CPUID_SPEC_CTRL);
	case MSR_TSC_AUX: return !cpuid_guest_has(vcpu, CPUID_TSC_AUX);
	case MSR_PERF_CAP: return !cpuid_guest_has(vcpu, CPUID_PDCM);
	case MSR_XSS: return !cpuid_guest_has(vcpu, CPUID_XSAVES);
	default: return false;
	}
}

static bool msr_read(struct kvm_vcpu *vcpu, uint32_t index, uint64_t *value, bool host)
{
	const uint64_t *variable = own_variable(vcpu, index);

	if (!host && guest_lacks(vcpu, index))
		return false;
	if (pv_msr_is(index))
		return pv_msr_read(vcpu, index, value);
	if (variable) {
		if (index == MSR_PLATFORM_INFO && !host && atomic_load(&vcpu->kvm->hide_platform_info))
			return false;
		if (index == MSR_SMBASE && !host)
			return false; /* the handler finds it in its save area */
		*value = *variable;
		return true;
	}
	if (index == MSR_APIC_BASE) {
		*value = cpu_state(vcpu->cpu)->apic_base;
		return true;
	}
	if (index == MSR_MTRR_CAP) {
		*value = 0x508; /* 8 variable ranges, fixed ranges, write combining */
		return true;
	}
	if (index == MSR_TSC_DEADLINE) {
		*value = vcpu->lapic ? lapic_deadline(vcpu->lapic) : 0;
		return vcpu->lapic || host;
	}
	if (index >= MSR_X2APIC && index <= MSR_X2APIC + 0xff)
		return vcpu->lapic && lapic_x2apic_read(vcpu->lapic, index - MSR_X2APIC, value, host);
	if (cpu_msr_get(vcpu->cpu, index, value, host))
		return true;
	*value = 0;
	return is_zero_msr(index) || is_ignored(index) || index == MSR_PERF_CAP;
}

/* May `value` be written? Some MSRs and bits are only for the client. */
static bool own_write_allowed(struct kvm_vcpu *vcpu, uint32_t index, uint64_t value, bool host)
{
	if (host)
		return true;
	switch (index) {
	case MSR_MCG_CAP:
	case MSR_ARCH_CAP:
	case MSR_PLATFORM_INFO:
	case MSR_SMBASE:
	case MSR_SMI_COUNT:
		return false;
	case MSR_MISC_FEATURES:
		return (value & ~UINT64_C(1)) == 0 && (!(value & 1) || vcpu->platform_info & UINT64_C(1) << 31);
	case MSR_MCG_CTL:
		return vcpu->mcg_cap & UINT64_C(1) << 8 && (value == 0 || value == UINT64_MAX);
	default:
		break;
	}
	if (index >= MSR_MCE_BANK && index < MSR_MCE_BANK + MCE_BANKS * 4) {
		if (index % 4 == 0) /* CTL: all bits or none; old Linux leaves bit 10 off */
			return value == 0 || (value | 1u << 10) == UINT64_MAX;
		if (index % 4 == 1) /* STATUS: may only be cleared */
			return value == 0;
	}
	return true;
}

bool msr_apic_base_is_legal(struct kvm_vcpu *vcpu, uint64_t value, bool host)
{
	uint64_t reserved = cpuid_guest_reserved_gpa(vcpu) | 0x2ff |
	                    (cpuid_guest_has(vcpu, CPUID_X2APIC) ? 0 : APIC_BASE_X2APIC);
	uint64_t from = cpu_state(vcpu->cpu)->apic_base & APIC_BASE_MODE, to = value & APIC_BASE_MODE;

	if ((value & reserved) || to == APIC_BASE_X2APIC)
		return false;
	if (host)
		return true;
	/* x2APIC mode is entered only from xAPIC mode, and left only by disabling the APIC (SDM vol. 3, 11.12.5). */
	return !(to == APIC_BASE_MODE && from == 0) && !(to == APIC_BASE_ENABLE && from == APIC_BASE_MODE);
}

/* When CPUID follows the bit for MONITOR and MWAIT, a vCPU without SSE3 cannot change it. */
static bool misc_enable_allowed(struct kvm_vcpu *vcpu, uint64_t value)
{
	return !quirk_is_off(vcpu->kvm, KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT) ||
	       !((cpu_state(vcpu->cpu)->misc_enable ^ value) & MISC_ENABLE_MWAIT) ||
	       cpuid_guest_has(vcpu, CPUID_SSE3);
}

static bool msr_write(struct kvm_vcpu *vcpu, uint32_t index, uint64_t value, bool host)
{
	uint64_t *variable = own_variable(vcpu, index), efer = cpu_state(vcpu->cpu)->efer;

	if (!host && guest_lacks(vcpu, index))
		return false;
	if (pv_msr_is(index))
		return pv_msr_write(vcpu, index, value, host);
	if (index == MSR_HWCR) {
		/*
		 * Ignore the bits of flush filter, IGNNE emulation and TLB cache: none of these exists here. Keep
		 * McStatusWrEn and TscFreqSel.
		 */
		value &= ~(UINT64_C(1) << 6 | UINT64_C(1) << 8 | UINT64_C(1) << 3);
		if (value & ~(UINT64_C(1) << 18 | UINT64_C(1) << 24))
			return false;
	}
	if (variable) {
		if (!own_write_allowed(vcpu, index, value, host))
			return false;
		if (index == MSR_BIOS_SIGN && !host)
			return true; /* the write asks the processor to load a signature */
		if (index == MSR_TSC_ADJUST && !host)
			tsc_guest_adjust(vcpu, value - *variable);
		*variable = value;
		return true;
	}
	if (index == MSR_TSC) {
		/* A guest's write changes TSC_ADJUST too. The client's write changes only the offset. */
		if (host)
			tsc_client_write(vcpu, value);
		else
			tsc_guest_adjust(vcpu, value - cpu_tsc(vcpu->cpu));
		return true;
	}
	if (index == MSR_APIC_BASE) {
		if (!msr_apic_base_is_legal(vcpu, value, host))
			return false;
		cpu_state(vcpu->cpu)->apic_base = value;
		if (vcpu->lapic)
			lapic_base_changed(vcpu->lapic, value);
		return true;
	}
	if (index == MSR_TSC_DEADLINE) {
		if (vcpu->lapic)
			lapic_set_deadline(vcpu->lapic, value);
		return vcpu->lapic || (host && value == 0);
	}
	if (index >= MSR_X2APIC && index <= MSR_X2APIC + 0xff)
		return vcpu->lapic && lapic_x2apic_write(vcpu->lapic, index - MSR_X2APIC, value, host);
	if (index == MSR_MISC_ENABLE && !misc_enable_allowed(vcpu, value))
		return false;
	if (cpu_msr_set(vcpu->cpu, index, value, host)) {
		if (index == MSR_EFER && host)
			nested_efer_written(vcpu, efer);
		return true;
	}
	if (index == MSR_PERF_CAP) /* only for the client, and there is nothing to enable */
		return host && value == 0;
	return is_ignored(index) || (is_zero_msr(index) && value == 0);
}

/* ---- the guest ---------------------------------------------------------------------------------- */

static bool is_known(struct kvm_vcpu *vcpu, uint32_t index)
{
	uint64_t value;

	return msr_read(vcpu, index, &value, true);
}

/* Refuse the access: with #GP, or an exit if the client asked for those with this reason. */
static enum cpu_msr_result refuse(struct kvm_vcpu *vcpu, uint32_t reason)
{
	if (!(atomic_load(&vcpu->kvm->user_msr_mask) & reason))
		return CPU_MSR_GP;
	vcpu->msr_reason = reason;
	return CPU_MSR_EXIT;
}

static uint32_t reason_for(struct kvm_vcpu *vcpu, uint32_t index)
{
	return is_known(vcpu, index) ? KVM_MSR_EXIT_REASON_INVAL : KVM_MSR_EXIT_REASON_UNKNOWN;
}

enum cpu_msr_result msr_guest_read(struct kvm_vcpu *vcpu, uint32_t index, uint64_t *value)
{
	if (!msr_filter_allows(vcpu->kvm, index, KVM_MSR_FILTER_READ))
		return refuse(vcpu, KVM_MSR_EXIT_REASON_FILTER);
	if (!msr_read(vcpu, index, value, false))
		return refuse(vcpu, reason_for(vcpu, index));
	return CPU_MSR_OK;
}

enum cpu_msr_result msr_guest_write(struct kvm_vcpu *vcpu, uint32_t index, uint64_t value)
{
	if (!msr_filter_allows(vcpu->kvm, index, KVM_MSR_FILTER_WRITE))
		return refuse(vcpu, KVM_MSR_EXIT_REASON_FILTER);
	if (!msr_write(vcpu, index, value, false))
		return refuse(vcpu, reason_for(vcpu, index));
	return CPU_MSR_OK;
}

/* ---- the client --------------------------------------------------------------------------------- */

typedef bool (*msr_each)(struct kvm_vcpu *vcpu, struct kvm_msr_entry *entry);

static bool each_get(struct kvm_vcpu *vcpu, struct kvm_msr_entry *entry)
{
	uint64_t value = 0;

	if (!msr_read(vcpu, entry->index, &value, true))
		return false;
	entry->data = value;
	return true;
}

static bool each_set(struct kvm_vcpu *vcpu, struct kvm_msr_entry *entry)
{
	return msr_write(vcpu, entry->index, entry->data, true);
}

static bool each_feature(struct kvm_vcpu *vcpu, struct kvm_msr_entry *entry)
{
	(void)vcpu;
	for (size_t i = 0; i < sizeof(feature_list) / sizeof(*feature_list); i++)
		if (feature_list[i].index == entry->index) {
			entry->data = feature_list[i].value;
			return true;
		}
	return false;
}

/* Returns: how many entries succeeded before the first that did not, or -errno. */
static long msr_list_do(struct kvm_vcpu *vcpu, unsigned long argument, msr_each each, bool write_back)
{
	struct kvm_msrs head;
	struct kvm_msr_entry *entries;
	long done = 0;
	size_t bytes;

	if (user_read(&head, argument, sizeof(head)) != 0)
		return -EFAULT;
	if (head.nmsrs >= MAX_IO_MSRS)
		return -E2BIG;
	bytes = head.nmsrs * sizeof(*entries);
	entries = malloc(bytes + 1);
	if (!entries)
		return -ENOMEM;
	if (user_read(entries, argument + sizeof(head), bytes) != 0) {
		free(entries);
		return -EFAULT;
	}
	while (done < head.nmsrs && each(vcpu, &entries[done]))
		done++;
	if (write_back && user_write(argument + sizeof(head), entries, bytes) != 0)
		done = -EFAULT;
	free(entries);
	return done;
}

long vcpu_get_msrs(struct kvm_vcpu *vcpu, unsigned long argument)
{
	return msr_list_do(vcpu, argument, each_get, true);
}

long vcpu_set_msrs(struct kvm_vcpu *vcpu, unsigned long argument)
{
	return msr_list_do(vcpu, argument, each_set, false);
}

long system_get_msrs(unsigned long argument)
{
	return msr_list_do(NULL, argument, each_feature, true);
}

static long write_list(unsigned long argument, const uint32_t *a, size_t na, const uint32_t *b, size_t nb)
{
	struct kvm_msr_list head;
	uint32_t room;

	if (user_read(&head, argument, sizeof(head)) != 0)
		return -EFAULT;
	room = head.nmsrs;
	head.nmsrs = (uint32_t)(na + nb);
	/* Tell the client the number even if the list does not fit. */
	if (user_write(argument, &head, sizeof(head)) != 0)
		return -EFAULT;
	if (room < head.nmsrs)
		return -E2BIG;
	argument += sizeof(head);
	if (user_write(argument, a, na * sizeof(*a)) != 0 ||
	    user_write(argument + na * sizeof(*a), b, nb * sizeof(*b)) != 0)
		return -EFAULT;
	return 0;
}

long system_msr_list(unsigned long argument)
{
	const uint32_t *cpu;
	uint32_t own[sizeof(own_list) / sizeof(*own_list) + PV_MSRS];
	size_t n = cpu_msr_list(&cpu), own_count = 0;

	for (size_t i = 0; i < sizeof(own_list) / sizeof(*own_list); i++) {
		bool listed = false;

		for (size_t k = 0; k < n; k++)
			listed |= cpu[k] == own_list[i];
		if (!listed)
			own[own_count++] = own_list[i];
	}
	pv_msr_list(&own[own_count]);
	return write_list(argument, cpu, n, own, own_count + PV_MSRS);
}

long system_msr_feature_list(unsigned long argument)
{
	uint32_t list[sizeof(feature_list) / sizeof(*feature_list)];
	size_t n = sizeof(list) / sizeof(*list);

	for (size_t i = 0; i < n; i++)
		list[i] = feature_list[i].index;
	return write_list(argument, list, n, list, 0);
}

/* ---- machine checks ----------------------------------------------------------------------------- */

#define MCG_SUPPORTED (UINT64_C(1) << 8 | UINT64_C(1) << 24) /* MCG_CTL, software error recovery */

long system_mce_cap(unsigned long argument)
{
	uint64_t cap = MCG_SUPPORTED | MCE_BANKS;

	return user_write(argument, &cap, sizeof(cap));
}

long vcpu_setup_mce(struct kvm_vcpu *vcpu, unsigned long argument)
{
	uint64_t cap;
	unsigned banks;

	if (user_read(&cap, argument, sizeof(cap)) != 0)
		return -EFAULT;
	banks = cap & 0xff;
	if (!banks || banks > MCE_BANKS || cap & ~(MCG_SUPPORTED | 0xff | 0xff0000))
		return -EINVAL;
	vcpu->mcg_cap = cap;
	vcpu->mcg_ctl = cap & UINT64_C(1) << 8 ? UINT64_MAX : 0;
	for (unsigned i = 0; i < banks; i++)
		vcpu->mce[i * 4] = UINT64_MAX;
	return 0;
}

#define MCI_VALID         (UINT64_C(1) << 63)
#define MCI_OVERFLOW      (UINT64_C(1) << 62)
#define MCI_UNCORRECTED   (UINT64_C(1) << 61)
#define MCG_IN_PROGRESS   (UINT64_C(1) << 2)
#define CR4_MCE           (1u << 6)

long vcpu_set_mce(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct cpu_state *s = cpu_state(vcpu->cpu);
	struct kvm_x86_mce in;
	uint64_t *bank;

	if (user_read(&in, argument, sizeof(in)) != 0)
		return -EFAULT;
	if (in.bank >= (vcpu->mcg_cap & 0xff) || !(in.status & MCI_VALID))
		return -EINVAL;
	bank = &vcpu->mce[in.bank * 4];
	if (in.status & MCI_UNCORRECTED) {
		/* Reporting is disabled for the whole CPU, or for this bank. */
		if ((vcpu->mcg_cap & UINT64_C(1) << 8 && vcpu->mcg_ctl != UINT64_MAX) || bank[0] != UINT64_MAX)
			return 0;
		if (vcpu->mcg_status & MCG_IN_PROGRESS || !(s->cr4 & CR4_MCE)) {
			s->events.triple_fault = true;
			return 0;
		}
		if (bank[1] & MCI_VALID)
			in.status |= MCI_OVERFLOW;
		bank[2] = in.addr;
		bank[3] = in.misc;
		vcpu->mcg_status = in.mcg_status;
		bank[1] = in.status;
		s->events.exception.pending = true;
		s->events.exception.vector = 18;
		s->events.exception.has_error = false;
		s->events.exception.has_payload = false;
	} else if (!(bank[1] & MCI_VALID) || !(bank[1] & MCI_UNCORRECTED)) {
		if (bank[1] & MCI_VALID)
			in.status |= MCI_OVERFLOW;
		bank[2] = in.addr;
		bank[3] = in.misc;
		bank[1] = in.status;
	} else {
		bank[1] |= MCI_OVERFLOW;
	}
	return 0;
}
