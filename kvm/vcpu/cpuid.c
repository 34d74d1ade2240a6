/* SPDX-License-Identifier: MIT */
/* The CPUID ioctls and the guest's CPUID instruction. */
#include "kvm/vcpu/cpuid.h"
#include "kvm/vcpu/ioctls.h"
#include "kvm/vcpu/pv.h"
#include "kvm/process/config.h"
#include "kvm/process/user.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <linux/kvm_para.h>
#include <stdlib.h>
#include <string.h>

#define LEAF1_ECX_MONITOR    (1u << 3)
#define LEAF1_ECX_X2APIC     (1u << 21)
#define LEAF1_ECX_XSAVE      (1u << 26)
#define LEAF1_ECX_OSXSAVE    (1u << 27)
#define LEAF1_ECX_HYPERVISOR (1u << 31)
#define LEAF1_EDX_APIC       (1u << 9)
#define LEAF7_EBX_TSC_ADJUST (1u << 1)
#define LEAF7_ECX_PKU        (1u << 3)
#define LEAF7_ECX_OSPKE      (1u << 4)
#define LEAFD_PKRU           9u /* the component's number */
#define LEAFD_EAX_TILE_DATA  (1u << 18)
#define LEAFD_ECX_ALIGNED    (1u << 1)
#define LEAFD1_EAX_XSAVEC    (1u << 1)
#define LEAFD1_EAX_XSAVES    (1u << 3)
#define SVM_LEAF             0x8000000au
#define SVM_ASIDS            8u /* that KVM offers; EBX */
#define SVM_EDX_NP           (1u << 0)
#define EXT1_ECX_SVM         (1u << 2)
#define CR4_OSXSAVE          (1u << 18)
#define CR4_PKE              (1u << 22)
#define APIC_BASE_ENABLE     (1u << 11)
#define SIGNATURE_LEAF       0x40000000u
#define SIGNATURE            0x4b4d564b, 0x564b4d56, 0x4d /* KVMKVMKVM */

struct list {
	struct kvm_cpuid_entry2 *entry;
	unsigned count, max;
	bool full;
};

/*
 * One leaf of the software CPU, with what the front end adds: a local APIC, and the hypervisor bit. The
 * TSC-deadline timer is not shown. A client that emulates the APIC itself may have none. A client that uses ours
 * asks for KVM_CAP_TSC_DEADLINE_TIMER.
 */
static void host_leaf(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	cpu_cpuid_max(leaf, subleaf, out);
	if (leaf == 0x80000001u && !config_nested())
		out[2] &= ~EXT1_ECX_SVM;
	if (leaf == SVM_LEAF && !cpuid_has_svm())
		memset(out, 0, 4 * sizeof(*out));
	if (leaf == SVM_LEAF && out[1] > SVM_ASIDS)
		out[1] = SVM_ASIDS;
	if (leaf == SVM_LEAF && !config_nested_paging())
		out[3] &= ~SVM_EDX_NP;
	if (leaf == 1) {
		out[2] &= ~LEAF1_ECX_OSXSAVE;
		out[2] |= LEAF1_ECX_HYPERVISOR | LEAF1_ECX_X2APIC;
		out[3] |= LEAF1_EDX_APIC;
	}
	if (leaf == 7 && subleaf == 0) {
		out[1] |= LEAF7_EBX_TSC_ADJUST;
		out[2] &= ~LEAF7_ECX_OSPKE;
	}
}

static void add(struct list *list, uint32_t leaf, uint32_t subleaf, bool indexed, const uint32_t r[4])
{
	if (list->count == list->max) {
		list->full = true;
		return;
	}
	list->entry[list->count++] = (struct kvm_cpuid_entry2){
		.function = leaf,
		.index = subleaf,
		.flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
		.eax = r[0], .ebx = r[1], .ecx = r[2], .edx = r[3],
	};
}

static void add_leaf(struct list *list, uint32_t leaf)
{
	uint32_t r[4];

	host_leaf(leaf, 0, r);
	switch (leaf) {
	case 4: /* caches: subleaves until one says "none" */
		for (uint32_t i = 0; i < 8; i++) {
			host_leaf(leaf, i, r);
			add(list, leaf, i, true, r);
			if (!(r[0] & 31))
				break;
		}
		break;
	case 7:
		add(list, leaf, 0, true, r);
		for (uint32_t i = 1, last = r[0]; i <= last && i < 4; i++) {
			host_leaf(leaf, i, r);
			add(list, leaf, i, true, r);
		}
		break;
	case 0xb:
	case 0x1f: /* topology: the client fills it in */
		memset(r, 0, sizeof(r));
		add(list, leaf, 0, true, r);
		break;
	case 0xd:
		add(list, leaf, 0, true, r);
		for (uint32_t i = 1; i < 64; i++) {
			host_leaf(leaf, i, r);
			if (i == 1 || r[0] || r[1])
				add(list, leaf, i, true, r);
		}
		break;
	default:
		add(list, leaf, 0, false, r);
		break;
	}
}

static void add_range(struct list *list, uint32_t first)
{
	uint32_t r[4];

	cpu_cpuid_max(first, 0, r);
	for (uint32_t leaf = first; leaf <= r[0] && leaf - first < 0x100 && leaf >= first; leaf++)
		add_leaf(list, leaf);
}

static void supported(struct list *list)
{
	const uint32_t signature[4] = { SIGNATURE_LEAF + 1, SIGNATURE };
	const uint32_t features[4] = { pv_features(), 0, 0, 0 };

	add_range(list, 0);
	add_range(list, 0x80000000u);
	add(list, SIGNATURE_LEAF, 0, false, signature);
	add(list, SIGNATURE_LEAF + 1, 0, false, features);
}

/*
 * Features that are emulated though the CPU lacks them. There are none: the software CPU has MOVBE, and leaf 7
 * shows RDPID.
 */
static void emulated(struct list *list)
{
	const uint32_t none[4] = { 0 };

	add(list, 0, 0, false, none);
}

static long list_leaves(unsigned long argument, void (*fill)(struct list *list), bool padding_checked)
{
	struct kvm_cpuid2 head;
	struct list list = { 0 };
	long result = 0;

	if (user_read(&head, argument, sizeof(head)) != 0)
		return -EFAULT;
	if (head.nent < 1)
		return -E2BIG;
	list.max = head.nent > MAX_CPUID ? MAX_CPUID : head.nent;
	list.entry = calloc(list.max, sizeof(*list.entry));
	if (!list.entry)
		return -ENOMEM;
	if (padding_checked) {
		if (user_read(list.entry, argument + sizeof(head), list.max * sizeof(*list.entry)) != 0)
			result = -EINVAL;
		for (unsigned i = 0; !result && i < list.max; i++)
			if (list.entry[i].padding[0] || list.entry[i].padding[1] || list.entry[i].padding[2])
				result = -EINVAL;
	}
	if (!result) {
		fill(&list);
		head.nent = list.count;
		if (list.full)
			result = -E2BIG;
		else if (user_write(argument + sizeof(head), list.entry, list.count * sizeof(*list.entry)) != 0 ||
		         user_write(argument, &head, sizeof(head)) != 0)
			result = -EFAULT;
	}
	free(list.entry);
	return result;
}

long system_supported_cpuid(unsigned long argument)
{
	return list_leaves(argument, supported, false);
}

long system_emulated_cpuid(unsigned long argument)
{
	return list_leaves(argument, emulated, true);
}

/* ---- per vCPU ---------------------------------------------------------------------------------- */

static const struct kvm_cpuid_entry2 *find(const struct kvm_cpuid_entry2 *entries, unsigned n, uint32_t leaf,
                                           uint32_t subleaf)
{
	for (unsigned i = 0; i < n; i++)
		if (entries[i].function == leaf &&
		    (!(entries[i].flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || entries[i].index == subleaf))
			return &entries[i];
	return NULL;
}

static uint32_t with_bit(uint32_t value, uint32_t bit, bool on)
{
	return on ? value | bit : value & ~bit;
}

/* Set the bits that follow the state of the vCPU, whatever the client said. Like KVM's kvm_update_cpuid_runtime. */
static void follow_state(struct kvm_vcpu *vcpu, struct kvm_cpuid_entry2 *e)
{
	const struct cpu_state *s = cpu_state(vcpu->cpu);

	if (e->function == 1) {
		e->ecx = with_bit(e->ecx, LEAF1_ECX_OSXSAVE, s->cr4 & CR4_OSXSAVE);
		e->edx = with_bit(e->edx, LEAF1_EDX_APIC, s->apic_base & APIC_BASE_ENABLE);
		if (quirk_is_off(vcpu->kvm, KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT))
			e->ecx = with_bit(e->ecx, LEAF1_ECX_MONITOR, s->misc_enable & MISC_ENABLE_MWAIT);
	}
	/* A guest whose HLT does not exit cannot be woken by a hypercall of another vCPU. */
	if (vcpu->pv_leaf && e->function == vcpu->pv_leaf && atomic_load(&vcpu->kvm->hlt_in_guest))
		e->eax &= ~(1u << KVM_FEATURE_PV_UNHALT);
	/* The client may set it, but the CPU goes by it: what is hidden does not exist. */
	if (e->function == 0x80000001u && !cpuid_has_svm())
		e->ecx &= ~EXT1_ECX_SVM;
	if (e->function == 7 && e->index == 0)
		e->ecx = with_bit(e->ecx, LEAF7_ECX_OSPKE, s->cr4 & CR4_PKE);
	/* The sizes of XSAVE areas with the components that are on. */
	if (e->function == 0xd && e->index == 0)
		e->ebx = cpu_xsave_bytes(s->xcr0, false);
	if (e->function == 0xd && e->index == 1 && e->eax & (LEAFD1_EAX_XSAVEC | LEAFD1_EAX_XSAVES))
		e->ebx = cpu_xsave_bytes(s->xcr0 | s->xss, true);
}

static void all_follow_state(struct kvm_vcpu *vcpu, struct kvm_cpuid_entry2 *entries, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		follow_state(vcpu, &entries[i]);
}

/*
 * Which leaf of a CPUID has the features of KVM's paravirtual interface, or 0. Its leaves begin with the signature, at
 * the first number of these that has it, so that a client may offer other interfaces beside.
 */
static uint32_t pv_leaf_in(const struct kvm_cpuid_entry2 *entries, unsigned n)
{
	static const uint32_t signature[3] = { SIGNATURE };

	for (uint32_t base = SIGNATURE_LEAF; base < SIGNATURE_LEAF + 0x10000; base += 0x100) {
		const struct kvm_cpuid_entry2 *e = find(entries, n, base, 0);

		if (!e || e->ebx != signature[0] || e->ecx != signature[1] || e->edx != signature[2])
			continue;
		return find(entries, n, base + 1, 0) ? base + 1 : 0;
	}
	return 0;
}

static struct kvm_cpuid_entry2 *find_subleaf(struct kvm_cpuid_entry2 *entries, unsigned n, uint32_t leaf,
                                             uint32_t subleaf)
{
	for (unsigned i = 0; i < n; i++)
		if (entries[i].function == leaf && entries[i].index == subleaf &&
		    entries[i].flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX)
			return &entries[i];
	return NULL;
}

/*
 * Take away protection keys whose component of XSAVE the client shows where it is not. QEMU asks the host's processor
 * for the places of components, and one without keys says that PKRU is at 0. The guest would make its areas too small.
 */
static void hide_misplaced_keys(struct kvm_cpuid_entry2 *entries, unsigned n)
{
	struct kvm_cpuid_entry2 *place = find_subleaf(entries, n, 0xd, LEAFD_PKRU), *e;
	uint32_t r[4];

	host_leaf(0xd, LEAFD_PKRU, r);
	if (!place || (place->eax == r[0] && place->ebx == r[1] && !((place->ecx ^ r[2]) & LEAFD_ECX_ALIGNED)))
		return;
	place->eax = place->ebx = place->ecx = place->edx = 0;
	e = find_subleaf(entries, n, 0xd, 0);
	if (e)
		e->eax &= ~(1u << LEAFD_PKRU);
	e = find_subleaf(entries, n, 7, 0);
	if (e)
		e->ecx &= ~LEAF7_ECX_PKU;
}

/* Returns: may a vCPU have it? Else -errno. Like KVM's kvm_check_cpuid. */
static long check_entries(const struct kvm_cpuid_entry2 *entries, unsigned n)
{
	const struct kvm_cpuid_entry2 *sizes = find(entries, n, 0x80000008u, 0), *components = find(entries, n, 0xd, 0);
	unsigned virtual_bits = sizes ? (sizes->eax >> 8) & 0xff : 0;

	if (virtual_bits != 0 && virtual_bits != 48 && virtual_bits != 57)
		return -EINVAL;
	/* AMX's tiles want a permission (arch_prctl), which a machine without AMX gives nobody. */
	if (components && components->eax & LEAFD_EAX_TILE_DATA)
		return -EPERM;
	return 0;
}

/* Takes over `entries` and frees them in time. */
static long install(struct kvm_vcpu *vcpu, struct kvm_cpuid_entry2 *entries, unsigned n)
{
	long refused;

	hide_misplaced_keys(entries, n);
	if (vcpu->ran || cpu_state(vcpu->cpu)->svm.guest) {
		/*
		 * Once a vCPU has run, or a nested guest was put into it, its CPUID cannot change. Setting the same
		 * again is accepted.
		 */
		bool same = n == vcpu->cpuid_count;

		if (same && n != 0) {
			all_follow_state(vcpu, entries, n);
			all_follow_state(vcpu, vcpu->cpuid, n);
			same = memcmp(entries, vcpu->cpuid, n * sizeof(*entries)) == 0;
		}

		free(entries);
		return same ? 0 : -EINVAL;
	}
	refused = check_entries(entries, n);
	if (refused) {
		free(entries);
		return refused;
	}
	free(vcpu->cpuid);
	vcpu->cpuid = entries;
	vcpu->cpuid_count = n;
	vcpu->pv_leaf = pv_leaf_in(entries, n);
	vcpu->pv_features = vcpu->pv_leaf ? find(entries, n, vcpu->pv_leaf, 0)->eax : 0;
	cpu_state_changed(vcpu->cpu, CPU_CHANGED_CPUID);
	return 0;
}

long vcpu_set_cpuid2(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct kvm_cpuid_entry2 *entries;
	struct kvm_cpuid2 head;

	if (user_read(&head, argument, sizeof(head)) != 0)
		return -EFAULT;
	if (head.nent > MAX_CPUID)
		return -E2BIG;
	entries = calloc(head.nent ? head.nent : 1, sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	if (user_read(entries, argument + sizeof(head), head.nent * sizeof(*entries)) != 0) {
		free(entries);
		return -EFAULT;
	}
	return install(vcpu, entries, head.nent);
}

long vcpu_set_cpuid(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct kvm_cpuid_entry2 *entries;
	struct kvm_cpuid_entry *old;
	struct kvm_cpuid head;
	long result = 0;

	if (user_read(&head, argument, sizeof(head)) != 0)
		return -EFAULT;
	if (head.nent > MAX_CPUID)
		return -E2BIG;
	old = calloc(head.nent + 1, sizeof(*old));
	entries = calloc(head.nent + 1, sizeof(*entries));
	if (!old || !entries)
		result = -ENOMEM;
	else if (user_read(old, argument + sizeof(head), head.nent * sizeof(*old)) != 0)
		result = -EFAULT;
	if (result) {
		free(old);
		free(entries);
		return result;
	}
	for (unsigned i = 0; i < head.nent; i++)
		entries[i] = (struct kvm_cpuid_entry2){ .function = old[i].function, .eax = old[i].eax,
			.ebx = old[i].ebx, .ecx = old[i].ecx, .edx = old[i].edx };
	free(old);
	return install(vcpu, entries, head.nent);
}

long vcpu_get_cpuid2(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct kvm_cpuid2 head;
	long result = 0;

	if (user_read(&head, argument, sizeof(head)) != 0)
		return -EFAULT;
	if (head.nent < vcpu->cpuid_count)
		return -E2BIG;
	head.nent = vcpu->cpuid_count;
	all_follow_state(vcpu, vcpu->cpuid, vcpu->cpuid_count);
	if (user_write(argument + sizeof(head), vcpu->cpuid, vcpu->cpuid_count * sizeof(*vcpu->cpuid)) != 0 ||
	    user_write(argument, &head, sizeof(head)) != 0)
		result = -EFAULT;
	return result;
}

/*
 * The entry for a leaf beyond the last. On Intel the answer is that of the last basic leaf; on AMD it is zeros
 * (NULL).
 */
static const struct kvm_cpuid_entry2 *out_of_range(struct kvm_vcpu *vcpu, uint32_t leaf, uint32_t subleaf)
{
	const struct kvm_cpuid_entry2 *basic = find(vcpu->cpuid, vcpu->cpuid_count, 0, 0);
	const struct kvm_cpuid_entry2 *class;
	bool amd;

	if (!basic)
		return NULL;
	amd = (basic->ebx == 0x68747541 && basic->ecx == 0x444d4163) || /* AuthenticAMD */
	      (basic->ebx == 0x6f677948 && basic->ecx == 0x656e6975);   /* HygonGenuine */
	if (amd)
		return NULL;
	if (leaf >= 0x40000000u && leaf <= 0x4fffffffu)
		class = find(vcpu->cpuid, vcpu->cpuid_count, leaf & 0xffffff00u, 0);
	else if (leaf >= 0xc0000000u)
		class = find(vcpu->cpuid, vcpu->cpuid_count, 0xc0000000u, 0);
	else
		class = find(vcpu->cpuid, vcpu->cpuid_count, leaf & 0x80000000u, 0);
	if (class && leaf <= class->eax)
		return NULL;
	return find(vcpu->cpuid, vcpu->cpuid_count, basic->eax, subleaf);
}

void cpuid_answer(struct kvm_vcpu *vcpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	const struct kvm_cpuid_entry2 *found;
	struct kvm_cpuid_entry2 e;

	if (!vcpu->cpuid && vcpu->cpuid_unset_means_all) {
		host_leaf(leaf, subleaf, out);
		return;
	}
	memset(out, 0, 4 * sizeof(*out));
	found = find(vcpu->cpuid, vcpu->cpuid_count, leaf, subleaf);
	if (!found)
		found = out_of_range(vcpu, leaf, subleaf);
	if (found) {
		/* follow_state needs a state. When cpu_create asks there is none, but no CPUID entry either. */
		e = *found;
		follow_state(vcpu, &e);
		out[0] = e.eax;
		out[1] = e.ebx;
		out[2] = e.ecx;
		out[3] = e.edx;
	} else if (leaf == 0xb || leaf == 0x1f) {
		found = find(vcpu->cpuid, vcpu->cpuid_count, leaf, 1);
		if (found) {
			out[2] = subleaf & 0xff;
			out[3] = found->edx;
		}
	}
}

/* Like KVM's cpuid_query_maxphyaddr. Before KVM_SET_CPUID2 it is what the software CPU has. */
static unsigned guest_phys_bits(struct kvm_vcpu *vcpu)
{
	const struct kvm_cpuid_entry2 *max = find(vcpu->cpuid, vcpu->cpuid_count, 0x80000000u, 0);
	const struct kvm_cpuid_entry2 *e = find(vcpu->cpuid, vcpu->cpuid_count, 0x80000008u, 0);
	uint32_t r[4];

	if (vcpu->cpuid)
		return max && max->eax >= 0x80000008u && e ? e->eax & 0xff : 36;
	cpu_cpuid_max(0x80000008u, 0, r);
	return r[0] & 0xff;
}

uint64_t cpuid_guest_reserved_gpa(struct kvm_vcpu *vcpu)
{
	unsigned bits = guest_phys_bits(vcpu);

	return bits < 64 ? ~((UINT64_C(1) << bits) - 1) : 0;
}

static bool guest_has(struct kvm_vcpu *vcpu, uint32_t leaf, enum cpuid_register which, uint32_t bits)
{
	const struct kvm_cpuid_entry2 *e = find(vcpu->cpuid, vcpu->cpuid_count, leaf, leaf == 0xd ? 1 : 0);
	const uint32_t value[] = {
		[CPUID_EAX] = e ? e->eax : 0,
		[CPUID_EBX] = e ? e->ebx : 0,
		[CPUID_ECX] = e ? e->ecx : 0,
		[CPUID_EDX] = e ? e->edx : 0,
	};

	return value[which] & bits;
}

bool cpuid_guest_has(struct kvm_vcpu *vcpu, enum cpuid_feature feature)
{
	/* The guest has a feature if any of these bits is set. */
	static const struct {
		struct { uint32_t leaf; enum cpuid_register which; uint32_t bits; } any[2];
	} features[] = {
		[CPUID_SSE3] = { { { 1, CPUID_ECX, 1u << 0 } } },
		[CPUID_X2APIC] = { { { 1, CPUID_ECX, LEAF1_ECX_X2APIC } } },
		[CPUID_XSAVES] = { { { 0xd, CPUID_EAX, LEAFD1_EAX_XSAVES } } }, /* of subleaf 1 */
		[CPUID_PDCM] = { { { 1, CPUID_ECX, 1u << 15 } } },
		/* Intel's bit; AMD's IBRS, STIBP and SSBD. */
		[CPUID_SPEC_CTRL] = { { { 7, CPUID_EDX, 1u << 26 },
		                        { 0x80000008u, CPUID_EBX, 1u << 14 | 1u << 15 | 1u << 24 } } },
		/* RDTSCP and RDPID: both read TSC_AUX. */
		[CPUID_TSC_AUX] = { { { 0x80000001u, CPUID_EDX, 1u << 27 }, { 7, CPUID_ECX, 1u << 22 } } },
	};

	for (unsigned i = 0; i < 2; i++)
		if (guest_has(vcpu, features[feature].any[i].leaf, features[feature].any[i].which,
		              features[feature].any[i].bits))
			return true;
	return false;
}

uint64_t cpuid_guest_components(struct kvm_vcpu *vcpu)
{
	const struct kvm_cpuid_entry2 *e = find(vcpu->cpuid, vcpu->cpuid_count, 0xd, 0);

	return e ? (e->eax | (uint64_t)e->edx << 32) & cpuid_xcr0_max() : 0;
}

bool cpuid_has_svm(void)
{
	uint32_t r[4];

	cpu_cpuid_max(0x80000001u, 0, r);
	return config_nested() && r[2] & EXT1_ECX_SVM;
}

bool cpuid_has_xsave(void)
{
	uint32_t r[4];

	cpu_cpuid_max(1, 0, r);
	return r[2] & LEAF1_ECX_XSAVE;
}

uint64_t cpuid_xcr0_max(void)
{
	uint32_t r[4];

	cpu_cpuid_max(0xd, 0, r);
	return r[0] | (uint64_t)r[3] << 32;
}
