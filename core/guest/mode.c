/* SPDX-License-Identifier: MIT */
#include "core/guest/mode.h"

/* Does an access of this kind fault on rights `rights`? Computes the table of guest_mode, entry by entry. */
static bool access_faults(const struct guest_mode *mode, unsigned index, unsigned rights)
{
	bool write = index & 1, user = index & 2, fetch = index & 4, smap = index & 8;

	if (user && !(rights & ACC_USER))
		return true;
	if (fetch) /* SMEP: the supervisor does not run a user's page */
		return !(rights & ACC_EXEC) || (!user && mode->smep && (rights & ACC_USER));
	if (write && !(rights & ACC_WRITE) && (user || mode->wp))
		return true;
	return smap && !user && mode->smap && (rights & ACC_USER);
}

static void faults_init(struct guest_mode *mode)
{
	for (unsigned index = 0; index < array_size(mode->faults); index++) {
		mode->faults[index] = 0;
		for (unsigned rights = 0; rights <= ACC_ALL; rights++)
			if (mode->levels && access_faults(mode, index, rights))
				mode->faults[index] |= 1u << rights;
	}
}

/* SDM vol. 3, figures 4-4 and 4-11; APM vol. 2, 5.3. */
static void reserved_init(struct guest_mode *mode, const struct vmmu_guest_regs *regs)
{
	uint64_t address = BIT_MASK(51, 0) & ~(BIT(regs->phys_bits) - 1), nx = mode->nx ? 0 : GPTE_NX;

	for (int level = 1; level <= GUEST_MAX_LEVELS; level++)
		mode->reserved[0][level - 1] = mode->reserved[1][level - 1] = address | nx;
	mode->reserved[1][1] |= BIT_MASK(20, 13);
	mode->reserved[1][2] |= BIT_MASK(29, 13);
	if (!regs->gbpages)
		mode->reserved[1][2] |= GPTE_PS;
	mode->reserved[0][3] |= GPTE_PS | (regs->amd ? GPTE_G : 0);
	mode->reserved[0][4] |= GPTE_PS | (regs->amd ? GPTE_G : 0);
	if (mode->levels == 3) {
		mode->reserved[0][0] |= BIT_MASK(62, 52);
		mode->reserved[0][1] |= BIT_MASK(62, 52);
		mode->reserved[1][1] |= BIT_MASK(62, 52);
		mode->reserved[0][2] |= BIT_MASK(63, 52) | BIT_MASK(8, 5) | BIT_MASK(2, 1);
	}
	if (!mode->wide) {
		mode->reserved[0][0] = mode->reserved[0][1] = 0;
		mode->reserved[1][1] = BIT(21); /* PSE-36: bits 20:13 are address bits 39:32 */
	}
}

/* SDM vol. 3, 29.3.3.1: what is a misconfiguration. */
static void reserved_init_ept(struct guest_mode *mode, const struct vmmu_guest_regs *regs)
{
	uint64_t address = BIT_MASK(51, 0) & ~(BIT(regs->phys_bits) - 1);

	for (int level = 1; level <= GUEST_MAX_LEVELS; level++) {
		mode->reserved[1][level - 1] = address;
		mode->reserved[0][level - 1] = address | (level > 3 ? BIT_MASK(7, 3) : level > 1 ? BIT_MASK(6, 3) : 0);
	}
	mode->reserved[1][1] |= BIT_MASK(20, 12);
	mode->reserved[1][2] |= BIT_MASK(29, 12) | (regs->gbpages ? 0 : EPTE_PS);
	for (unsigned low = 0; low < 64; low++) {
		unsigned rights = low & 7, type = low >> 3;

		/* Without R there is no W and no X. Memory types are 0, 1, 4, 5 and 6. */
		if ((rights && !(rights & EPTE_R)) || type == 2 || type == 3 || type == 7)
			mode->reserved_low |= BIT(low);
	}
}

void guest_mode_init_ept(struct guest_mode *mode, unsigned control, const struct vmmu_guest_regs *regs)
{
	bool bits = control & EPTP_AD;

	*mode = (struct guest_mode){
		.levels = EPTP_LEVELS(control),
		.wide = true,
		.nx = true,
		.wp = true,
		.present = EPTE_R | EPTE_W | EPTE_X,
		.exec_mask = EPTE_X,
		.exec = EPTE_X,
		.implied = ACC_USER, /* a present entry has R */
		.accessed = bits ? EPTE_A : 0,
		.dirty = bits ? EPTE_D : 0,
	};
	reserved_init_ept(mode, regs);
	faults_init(mode);
}

void guest_mode_init(struct guest_mode *mode, const struct vmmu_guest_regs *regs)
{
	bool paging = regs->cr0 & CR0_PG, lma = regs->efer & EFER_LMA, pae = regs->cr4 & CR4_PAE;

	*mode = (struct guest_mode){
		.levels = !paging ? 0 : lma ? (regs->cr4 & CR4_LA57 ? 5 : 4) : pae ? 3 : 2,
		.wide = lma || pae,
		.pse = regs->cr4 & CR4_PSE,
		.nx = (lma || pae) && (regs->efer & EFER_NXE),
		.wp = regs->cr0 & CR0_WP,
		.smep = regs->cr4 & CR4_SMEP,
		.smap = regs->cr4 & CR4_SMAP,
		.pke = lma && (regs->cr4 & CR4_PKE),
		.present = GPTE_P,
		.accessed = GPTE_A,
		.dirty = GPTE_D,
	};
	mode->exec_mask = mode->nx ? GPTE_NX : 0;
	reserved_init(mode, regs);
	faults_init(mode);
}
