/* SPDX-License-Identifier: MIT */
/*
 * The CPUID of KVM_GET_SUPPORTED_CPUID is the host's, but for what the table below names. doc/kvm-conformance.md has
 * the same table.
 *
 *     cpuid_host DOC            check
 *     cpuid_host --markdown     print the table for the document
 */
#include "check.h"
#include <cpuid.h>

enum { EAX, EBX, ECX, EDX };
#define BIT(n) (1u << (n))

/*
 * `never`: bits that the guest does not have, whatever the host has. `always`: bits that it has on every host. Any
 * other bit is as on the host.
 */
static const struct row {
	uint32_t leaf, subleaf;
	unsigned reg;
	uint32_t never, always;
	const char *names, *reason;
} rows[] = {
	{ 1, 0, ECX, BIT(2) | BIT(4) | BIT(7) | BIT(8) | BIT(10) | BIT(11) | BIT(14) | BIT(18), 0,
	  "DTES64 DS_CPL EST TM2 CNXT_ID SDBG XTPR DCA", "of the machine, not of a vCPU; KVM hides them, too" },
	{ 1, 0, ECX, BIT(5) | BIT(6), 0, "VMX SMX", "the CPU is AMD's, and has SVM" },
	{ 1, 0, ECX, BIT(3), 0, "MONITOR", "not shown, as in KVM; a client may set it" },
	{ 1, 0, ECX, BIT(15), 0, "PDCM", "there are no performance counters" },
	{ 1, 0, ECX, BIT(24), 0, "TSC_DEADLINE", "told by KVM_CAP_TSC_DEADLINE_TIMER" },
	{ 1, 0, ECX, BIT(27), 0, "OSXSAVE", "follows the guest's CR4" },
	{ 1, 0, ECX, 0, BIT(0) | BIT(13) | BIT(17) | BIT(21) | BIT(22) | BIT(23) | BIT(26) | BIT(31),
	  "SSE3 CX16 PCID X2APIC MOVBE POPCNT XSAVE HYPERVISOR", "done by the CPU itself" },
	{ 1, 0, EDX, BIT(18) | BIT(21) | BIT(22) | BIT(28) | BIT(29) | BIT(31), 0, "PN DTS ACPI HT TM PBE",
	  "of the machine; the client sets HT with the topology" },
	{ 1, 0, EDX, 0, 0x078bfbff, "all of x86-64-v1", "done by the CPU itself" },
	{ 7, 0, EBX, BIT(2) | BIT(4) | BIT(11) | BIT(14) | BIT(25), 0, "SGX HLE RTM MPX INTEL_PT",
	  "removed from processors, or not of a virtual machine's" },
	{ 7, 0, EBX, BIT(6), 0, "FDP_EXCPTN_ONLY", "x87's pointers are kept always" },
	{ 7, 0, EBX, BIT(12) | BIT(15), 0, "CQM RDT_A", "of the machine's caches" },
	{ 7, 0, EBX, BIT(22) | BIT(26) | BIT(27), 0, "PCOMMIT AVX512PF AVX512ER", "of processors that are no more" },
	{ 7, 0, EBX, 0, BIT(0) | BIT(1) | BIT(7) | BIT(9) | BIT(10) | BIT(13) | BIT(20) | BIT(23) | BIT(24),
	  "FSGSBASE TSC_ADJUST SMEP ERMS INVPCID ZERO_FCS_FDS SMAP CLFLUSHOPT CLWB", "done by the CPU itself" },
	{ 7, 0, ECX, BIT(0) | BIT(5) | BIT(13) | BIT(23) | BIT(24) | BIT(25) | BIT(29) | BIT(30), 0,
	  "PREFETCHWT1 WAITPKG TME KEYLOCKER BUS_LOCK_DETECT CLDEMOTE ENQCMD SGX_LC",
	  "not there yet, or of the machine" },
	{ 7, 0, ECX, BIT(7), 0, "SHSTK", "no control-flow enforcement yet" },
	{ 7, 0, ECX, BIT(31), 0, "PKS", "KVM gives it to no guest" },
	{ 7, 0, ECX, BIT(4), 0, "OSPKE", "follows the guest's CR4" },
	{ 7, 0, ECX, 0x1fu << 17, 0, "MAWAU", "a width of MPX's addresses" },
	{ 7, 0, ECX, 0, BIT(2) | BIT(3) | BIT(16) | BIT(22), "UMIP PKU LA57 RDPID", "done by the CPU itself" },
	{ 7, 0, EDX, ~(BIT(4) | BIT(14)), 0, "all but FSRM and SERIALIZE",
	  "mitigations of what this CPU does not have, AMX, CET, and what belongs to the machine" },
	{ 7, 0, EDX, BIT(4), 0, "FSRM", "copies of a few bytes are not fast here" },
	{ 7, 1, EAX, ~(BIT(4) | BIT(5)), 0, "all but AVX_VNNI and AVX512_BF16", "not there yet" },
	{ 0xd, 1, EAX, ~0xfu, 0xf, "XSAVEOPT XSAVEC XGETBV1 XSAVES", "done by the CPU itself; no XFD without AMX" },
	{ 0x80000001, 0, ECX, BIT(1) | BIT(19) | BIT(22), 0, "CMP_LEGACY NODEID TOPOEXT",
	  "the client sets them with the topology" },
	{ 0x80000001, 0, ECX, BIT(3) | BIT(9) | BIT(10) | BIT(12) | BIT(13) | BIT(15) | BIT(17), 0,
	  "EXTAPIC OSVW IBS SKINIT WDT LWP TCE", "of the machine, or of no use to a guest" },
	{ 0x80000001, 0, ECX, BIT(7), 0, "MISALIGNSSE", "MXCSR has no such bit here" },
	{ 0x80000001, 0, ECX, BIT(11) | BIT(16) | BIT(21), 0, "XOP FMA4 TBM", "of processors that are no more" },
	{ 0x80000001, 0, ECX, BIT(23) | BIT(24) | BIT(26) | BIT(27) | BIT(28), 0,
	  "PERFCTR_CORE PERFCTR_NB BPEXT PTSC PERFCTR_LLC", "there are no performance counters" },
	{ 0x80000001, 0, ECX, BIT(29) | BIT(30), 0, "MWAITX ADDR_MASK_EXT", "not there yet" },
	{ 0x80000001, 0, ECX, 0, BIT(0) | BIT(2) | BIT(4) | BIT(5) | BIT(8),
	  "LAHF_LM SVM CR8_LEGACY ABM 3DNOWPREFETCH", "done by the CPU itself" },
	{ 0x80000001, 0, EDX, BIT(19) | BIT(30) | BIT(31), 0, "MP 3DNOWEXT 3DNOW", "of processors that are no more" },
	{ 0x80000001, 0, EDX, BIT(22) | BIT(25), 0, "MMXEXT FXSR_OPT", "AMD's; nothing asks for them" },
	{ 0x80000001, 0, EDX, 0, 0x2d93fbff, "NX PDPE1GB RDTSCP LM, and v1's once more", "done by the CPU itself" },
	{ 0x80000008, 0, EBX, ~(BIT(0) | BIT(2) | BIT(9)), 0, "all but CLZERO, XSAVEERPTR and WBNOINVD",
	  "mitigations of what this CPU does not have" },
	{ 0x80000008, 0, EBX, 0, BIT(2), "XSAVEERPTR", "done by the CPU itself" },
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

static void print_table(FILE *out)
{
	static const char *const registers[] = { "EAX", "EBX", "ECX", "EDX" };

	fprintf(out, "| leaf | bits | inside | why |\n|---|---|---|---|\n");
	for (const struct row *r = rows; r < rows + ROWS; r++)
		fprintf(out, "| %x.%u %s | %s | %s | %s |\n", r->leaf, r->subleaf, registers[r->reg], r->names,
		        r->never && r->always ? "these and no others" : r->never ? "never" : "always", r->reason);
}

static uint32_t guest_value(uint32_t leaf, uint32_t subleaf, unsigned reg)
{
	static struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entry[100];
	} cpuid;
	int kvm = open("/dev/kvm", O_RDWR);

	cpuid.head.nent = 100;
	NEED(kvm >= 0 && ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) == 0);
	close(kvm);
	for (unsigned i = 0; i < cpuid.head.nent; i++) {
		const struct kvm_cpuid_entry2 *e = &cpuid.entry[i];
		const uint32_t value[] = { e->eax, e->ebx, e->ecx, e->edx };

		if (e->function == leaf && e->index == subleaf)
			return value[reg];
	}
	return 0;
}

static uint32_t host_value(uint32_t leaf, uint32_t subleaf, unsigned reg)
{
	uint32_t r[4] = { 0 };

	if (!__get_cpuid_count(leaf, subleaf, &r[EAX], &r[EBX], &r[ECX], &r[EDX]))
		return 0;
	return r[reg];
}

static void check_register(const struct row *first)
{
	uint32_t host = host_value(first->leaf, first->subleaf, first->reg), never = 0, always = 0;
	uint32_t guest = guest_value(first->leaf, first->subleaf, first->reg), expected;

	for (const struct row *r = rows; r < rows + ROWS; r++) {
		if (r->leaf != first->leaf || r->subleaf != first->subleaf || r->reg != first->reg)
			continue;
		CHECK(!((never | always) & (r->never | r->always)) && !(r->never & r->always));
		never |= r->never;
		always |= r->always;
	}
	expected = (host & ~never) | always;
	check_count++;
	if (guest == expected)
		return;
	check_failures++;
	fprintf(stderr, "leaf %#x.%u register %u: host %#x, guest %#x: more %#x, fewer %#x than the table says\n",
	        first->leaf, first->subleaf, first->reg, host, guest, guest & ~expected, expected & ~guest);
}

static void check_document(const char *path)
{
	char *table = NULL, *document = NULL;
	size_t size, length = 0;
	FILE *out = open_memstream(&table, &size), *in = fopen(path, "r");

	NEED(out && in);
	print_table(out);
	fclose(out);
	NEED(getdelim(&document, &length, '\0', in) > 0);
	fclose(in);
	check_count++;
	if (!strstr(document, table)) {
		fprintf(stderr, "%s does not have the table of --markdown\n", path);
		check_failures++;
	}
	free(table);
	free(document);
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--markdown") == 0) {
		print_table(stdout);
		return 0;
	}
	for (const struct row *r = rows; r < rows + ROWS; r++)
		if (r == rows || r->leaf != r[-1].leaf || r->subleaf != r[-1].subleaf || r->reg != r[-1].reg)
			check_register(r);
	if (argc > 1)
		check_document(argv[1]);
	return check_end();
}
