/* SPDX-License-Identifier: MIT */
/* A picture of a VM's memory, for a reader who must find out why a test failed. */
#include "core/audit/audit_int.h"

#include "core/base/string.h"
#include "core/format/spte.h"
#include "core/shadow/shadow_int.h"
#include "core/tdp/tdp_int.h"

struct dump {
	struct vm *vm;
	const struct audit_out *out;
	struct text text;
};

static bool slot_dump(void *arg, struct memslot *slot)
{
	struct dump *dump = arg;

	text_dec(&dump->text, "  slot ", slot->id);
	text_hex(&dump->text, " gfn ", slot->base.v);
	text_hex(&dump->text, "..", slot->base.v + slot->npages - 1);
	text_hex(&dump->text, " hva ", slot->hva.v);
	text_str(&dump->text, slot->flags & VMMU_SLOT_LOG_DIRTY ? " logged" : "");
	text_str(&dump->text, slot->flags & VMMU_SLOT_READONLY ? " read-only" : "");
	text_str(&dump->text, slot->flags & SLOT_INVALID ? " INVALID" : "");
	text_end(&dump->text, dump->out);
	return false;
}

/* What entries that continue each other have in common: all but the address. */
static spte_t entry_kind(const struct format *format, spte_t spte)
{
	return spte_is_mmio(format, spte) ? format->mmio : spte & ~SPTE_ADDR;
}

static void run_dump(struct dump *dump, const struct table *table, unsigned first, unsigned last)
{
	const struct format *format = dump->vm->fmt;
	spte_t spte = table_entries(table)[first];
	struct text *text = &dump->text;

	for (int indent = dump->vm->levels - table->level; indent >= 0; indent--)
		text_str(text, "  ");
	text_dec(text, "", first);
	if (last != first)
		text_dec(text, "-", last);
	text_hex(text, " gfn ", table->base.v + first * level_pages(table->level));
	if (spte_is_frozen(spte)) {
		text_str(text, " FROZEN");
	} else if (spte_is_mmio(format, spte)) {
		text_hex(text, " MMIO generation ", spte_mmio_generation(spte));
	} else {
		text_hex(text, spte_is_table(spte, table->level) ? " table " : " page ", spte & SPTE_ADDR);
		text_str(text, spte & format->write ? " W" : " r");
		text_str(text, spte & format->young ? "A" : "-");
		text_str(text, spte & format->dirty ? "D" : "-");
		text_str(text, spte & SPTE_HOST_W ? " host-w" : "");
	}
	text_end(text, dump->out);
}

static void table_dump(struct dump *dump, const struct table *table)
{
	const struct format *format = dump->vm->fmt;
	const spte_t *entries = table_entries(table);

	for (unsigned i = 0, last; i < ENTRIES; i = last + 1) {
		last = i;
		if (!entries[i])
			continue;
		if (!spte_is_table(entries[i], table->level))
			while (last + 1 < ENTRIES && entries[last + 1] &&
			       entry_kind(format, entries[last + 1]) == entry_kind(format, entries[i]))
				last++;
		run_dump(dump, table, i, last);
		if (spte_is_table(entries[i], table->level))
			table_dump(dump, table_of(port_pfn_to_ptr(spte_pfn(entries[i]).v)));
	}
}

static void shadow_dump(struct dump *dump, const struct shadow *page)
{
	struct text *text = &dump->text;

	text_hex(text, page->role & ROLE_DIRECT ? "direct gfn " : "mirror of gfn ", page->gfn.v);
	text_dec(text, ", level ", role_level(page->role));
	text_hex(text, ", role ", page->role);
	text_dec(text, ", roots ", page->roots);
	text_dec(text, ", parents ", rmap_count(&page->parents));
	text_str(text, page->unsync ? ", unsync" : page->unsync_children ? ", unsync below" : "");
	text_end(text, dump->out);
	for (unsigned i = 0; i < ENTRIES; i++) {
		spte_t spte = load_relaxed(&page->spt[i]);

		if (!spte)
			continue;
		text_dec(text, "  ", i);
		text_hex(text, spte_is_table(spte, role_level(page->role)) ? " table " : " gfn ",
		         spte_is_table(spte, role_level(page->role)) ?
		         shadow_of(port_pfn_to_ptr(spte_pfn(spte).v))->gfn.v : shadow_entry_gfn(page, i).v);
		text_hex(text, " spte ", spte);
		text_end(text, dump->out);
	}
}

void audit_dump(struct vm *vm, const struct audit_out *out)
{
	struct dump dump = { .vm = vm, .out = out };

	for (unsigned as_id = 0; as_id < vm->address_spaces; as_id++) {
		text_dec(&dump.text, "address space ", as_id);
		text_hex(&dump.text, ", generation ", memslots_current(vm, as_id)->generation);
		text_end(&dump.text, out);
		memslots_for_each(memslots_current(vm, as_id), slot_dump, &dump);
	}
	tdp_for_each_root(root, vm, -1, false) {
		text_dec(&dump.text, root->invalid ? "invalid root of address space " : "root of address space ",
		         root->as_id);
		text_dec(&dump.text, ", references ", root->refs - 1); /* but for the loop's own */
		text_end(&dump.text, out);
		table_dump(&dump, root);
	}
	if (vm->shadow)
		list_for_each(link, &vm->shadow->pages)
			shadow_dump(&dump, container_of(link, struct shadow, link));
}
