/* SPDX-License-Identifier: MIT */
/* Roots: found, referenced, invalidated, zapped, freed (P3). */
#include "core/tdp/tdp_int.h"

enum vmmu_status tdp_init(struct vm *vm)
{
	vm->tdp = vm_alloc(vm, sizeof(*vm->tdp));
	if (!vm->tdp)
		return VMMU_ENOMEM;
	list_init(&vm->tdp->roots);
	return VMMU_OK;
}

/* I3.4: a root with references is not freed, and a root whose count is 0 never gets another reference. */
static bool root_tryget(struct table *root)
{
	uint32_t refs = load_relaxed(&root->refs);

	while (refs)
		if (cas_acquire(&root->refs, &refs, refs + 1)) /* pairs with tdp_root_put */
			return true;
	return false;
}

static struct table *root_find(struct vm *vm, unsigned as_id)
{
	list_for_each(link, &vm->tdp->roots) {
		struct table *root = container_of(link, struct table, link);

		if (root->as_id == as_id && tdp_root_is_valid(root) && root_tryget(root))
			return root;
	}
	return NULL;
}

struct table *tdp_root_get(struct mmu_read *token, unsigned as_id, struct table_cache *cache)
{
	struct vm *vm = token->token.vm;
	struct table *root;

	spin_lock(&vm->tdp->lock);
	root = root_find(vm, as_id);
	if (!root && (root = table_get(cache))) {
		root->level = vm->levels;
		root->as_id = as_id;
		root->is_root = true;
		/*
		 * One reference for the caller, and one for the MMU, which tdp_invalidate_roots gives to the
		 * zapper.
		 */
		store_relaxed(&root->refs, 2);
		list_add_tail(&vm->tdp->roots, &root->link);
	}
	spin_unlock(&vm->tdp->lock);
	return root;
}

void tdp_root_put(struct vm *vm, struct table *root)
{
	/*
	 * release: all that the holder did under the root is done before the root may be freed. acquire: for the
	 * holder that frees it. Pairs with itself on other threads, and with root_tryget.
	 */
	if (sub_acqrel(&root->refs, 1) != 1)
		return;
	VM_BUG(vm, tdp_root_is_valid(root)); /* I3.4: the MMU's own reference is put only after the zap */
	spin_lock(&vm->tdp->lock);
	list_remove(&root->link);
	spin_unlock(&vm->tdp->lock);
	table_free_rcu(root);
}

struct table *tdp_next_root(struct vm *vm, struct table *previous, int as_id, bool only_valid)
{
	struct list *link;
	struct table *found = NULL;

	if (!vm->tdp)
		return NULL;
	spin_lock(&vm->tdp->lock);
	for (link = previous ? previous->link.next : vm->tdp->roots.next; link != &vm->tdp->roots; link = link->next) {
		struct table *root = container_of(link, struct table, link);

		if ((as_id >= 0 && root->as_id != as_id) || (only_valid && !tdp_root_is_valid(root)))
			continue;
		if (root_tryget(root)) {
			found = root;
			break;
		}
	}
	spin_unlock(&vm->tdp->lock);
	if (previous)
		tdp_root_put(vm, previous);
	return found;
}

void tdp_invalidate_roots(struct mmu_write *token)
{
	struct vm *vm = token->token.vm;

	if (!vm->tdp)
		return;
	spin_lock(&vm->tdp->lock);
	list_for_each(link, &vm->tdp->roots) {
		struct table *root = container_of(link, struct table, link);

		if (!tdp_root_is_valid(root))
			continue;
		/* I3.5, I3.6: from here on the MMU's own reference belongs to the zapper. */
		root->scheduled = true;
		store_release(&root->invalid, true); /* pairs with tdp_root_is_valid */
	}
	spin_unlock(&vm->tdp->lock);
}

/*
 * Zap from the bottom up, so that each step under the lock is short: removing a table takes apart at most what the
 * level below left. No flush is owed: every vCPU has left the root since it was invalidated (P3, front half), or
 * there is no vCPU.
 */
static void root_zap(struct vm *vm, struct table *root)
{
	struct mmu_read read = mmu_read_lock(vm, 0);
	struct mmu_token *token = &read.token;
	struct tdp_iter iter;

	for (int level = 2; level <= root->level; level++) {
		port_rcu_read_lock();
		tdp_for_each(&iter, root, GFN(0), GFN(~UINT64_C(0)), level) {
			if (tdp_iter_yield(token, &iter))
				continue;
			if (iter.level == level)
				while (iter.old && !tdp_set(token, &iter, 0))
					port_pause();
			token->flush = false;
		}
		port_rcu_read_unlock();
	}
	mmu_flush(token);
	mmu_read_unlock(&read);
}

void tdp_zap_invalidated_roots(struct vm *vm)
{
	tdp_for_each_root(root, vm, -1, false) {
		if (!root->scheduled)
			continue;
		root_zap(vm, root);
		/*
		 * Put the MMU's reference only now (I3.4). Until here an invalidation could find the root and wait
		 * for its entries.
		 */
		root->scheduled = false;
		tdp_root_put(vm, root);
	}
}

void tdp_fini(struct vm *vm)
{
	struct mmu_write token;

	if (!vm->tdp)
		return;
	token = mmu_write_lock(vm);
	tdp_invalidate_roots(&token);
	mmu_write_unlock(&token);
	tdp_zap_invalidated_roots(vm);
	port_rcu_barrier();
	VM_BUG(vm, !list_empty(&vm->tdp->roots)); /* a reference was leaked */
	vm_free(vm, vm->tdp, sizeof(*vm->tdp));
	vm->tdp = NULL;
}
