/* SPDX-License-Identifier: MIT */
/*
 * What an entry of a guest's table means. This is the audit's second opinion: written from the manual (SDM vol. 3, 4.3
 * to 4.5), using nothing of core/guest.
 */
#include "core/audit/shadow_int.h"

#define G_P   BIT(0)
#define G_W   BIT(1)
#define G_U   BIT(2)
#define G_A   BIT(5)
#define G_D   BIT(6)
#define G_PS  BIT(7)
#define G_G   BIT(8)
#define G_XD  BIT(63)

bool audit_guest_load(const struct audit *audit, const struct shadow *page, unsigned index, uint64_t *value,
                      bool *readonly)
{
	const struct memslot *slot = memslot_find(memslots_current(audit->vm, role_as_id(page->role)), page->gfn);
	unsigned bytes = page->role & ROLE_FOUR_BYTE ? 4 : 8, at = index;

	if (!slot)
		return false;
	/* A table of 1024 entries has two mirrors of 512; a directory has four, whose entries stand for 2 MiB each. */
	if (bytes == 4)
		at = role_level(page->role) == 1 ? role_quadrant(page->role) * 512 + index
		                                 : role_quadrant(page->role) * 256 + index / 2;
	*readonly = slot->flags & VMMU_SLOT_READONLY;
	return port_load_from_host((audit_frame(audit, memslot_hva(slot, page->gfn)).v << PAGE_SHIFT) + at * bytes,
	                           bytes, value);
}

static struct audit_meaning meaning_narrow(uint32_t role, unsigned index, uint64_t e)
{
	struct audit_meaning m = {
		.present = e & G_P, .write = e & G_W, .user = e & G_U, .exec = true,
		.accessed = e & G_A, .dirty = e & G_D
	};

	m.frame = e >> 12 & 0xfffff;
	if (role_level(role) == 1) {
		m.leaf = true;
	} else if ((role & ROLE_PSE) && (e & G_PS)) { /* 4 MiB: address bits 31:22 in place, 39:32 in 20:13 */
		m.leaf = true;
		m.reserved = e & BIT(21);
		m.frame = (e >> 22 & 0x3ff) << 10 | (e >> 13 & 0xff) << 20 | (index & 1) << 9;
	}
	return m;
}

static struct audit_meaning meaning_wide(const struct audit *audit, uint32_t role, uint64_t e)
{
	struct audit_meaning m = {
		.present = e & G_P, .write = e & G_W, .user = e & G_U,
		.accessed = e & G_A, .dirty = e & G_D
	};
	int level = role_level(role);

	m.exec = !(role & ROLE_NX) || !(e & G_XD);
	m.reserved = (e >> audit->phys_bits & (BIT(52 - audit->phys_bits) - 1)) || (!(role & ROLE_NX) && (e & G_XD)) ||
	             ((role & ROLE_PAE) && (e >> 52 & 0x7ff));
	m.frame = e >> 12 & (BIT(40) - 1);
	m.leaf = level == 1;
	if (level > 3 && (e & (G_PS | (audit->amd ? G_G : 0))))
		m.reserved = true;
	if ((e & G_PS) && (level == 2 || level == 3)) {
		m.leaf = true;
		m.reserved |= (e >> 13 & (level == 2 ? 0xff : 0x1ffff)) || (level == 3 && !audit->gbpages);
		m.frame &= ~(level_pages(level) - 1); /* bit 12 of a large page is PAT */
	}
	if (m.leaf && (role & ROLE_PKE))
		m.key = e >> 59 & 15;
	return m;
}

/* An entry of L1's EPT. `user` stands for the right to read. */
static struct audit_meaning meaning_ept(const struct audit *audit, uint32_t role, uint64_t e)
{
	bool bits = role & ROLE_EPT_AD;
	struct audit_meaning m = {
		.present = e & 7, .write = e & 2, .user = e & 1, .exec = e & 4,
		.accessed = !bits || (e & BIT(8)), .dirty = !bits || (e & BIT(9))
	};
	int level = role_level(role);
	unsigned type = e >> 3 & 7;

	m.leaf = level == 1 || (level <= 3 && (e & G_PS));
	m.frame = e >> 12 & (BIT(40) - 1);
	m.reserved = (e >> audit->phys_bits & (BIT(52 - audit->phys_bits) - 1)) || (m.present && !(e & 1));
	if (!m.leaf)
		m.reserved |= (e >> 3 & (level > 3 ? 31 : 15)) != 0;
	else
		m.reserved |= type == 2 || type == 3 || type == 7 || (m.frame & (level_pages(level) - 1)) ||
		              (level == 3 && !audit->gbpages);
	return m;
}

struct audit_meaning audit_guest_meaning(const struct audit *audit, const struct shadow *page, unsigned index,
                                         uint64_t value)
{
	struct audit_meaning m = page->role & ROLE_FOUR_BYTE ? meaning_narrow(page->role, index, value) :
	                         page->role & ROLE_EPT       ? meaning_ept(audit, page->role, value) :
	                                                       meaning_wide(audit, page->role, value);
	unsigned path = role_rights(page->role);

	m.write &= (path & ACC_WRITE) != 0;
	m.user &= (path & ACC_USER) != 0;
	m.exec &= (path & ACC_EXEC) != 0;
	return m;
}
