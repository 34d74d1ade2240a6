/* SPDX-License-Identifier: MIT */
/*
 * N1: a frame with a table that the shadow MMU mirrors is written by nobody unseen.
 *
 * In a VM with both MMUs the guest (L1) writes its memory through TDP leaves, and among this memory are tables that it
 * made for a guest of its own, which the shadow MMU mirrors. Neither MMU knows the other. What they ask and tell each
 * other about such a frame is declared here, below both.
 *
 *   N1.1  While nobody holds mmu_lock for write, no TDP leaf of a mirrored frame, in any root of any address space,
 *         has the write right or MMU_W; and none that covers one is huge.
 *   N1.2  When a mirror is used, no CPU holds a translation from before N1.1 was true of its frame.
 *
 * Why. Frames become mirrored, or cease to be, under mmu_lock for write only. Whoever makes a mirror of a frame calls
 * mirror_begins in the same section, and flushes before the mirror is used (account_shadowed). A TDP entry changes in
 * one of three ways:
 *   - under mmu_lock for read, from what a fault found out (tdp_map, for faults, neighbours and the recovery of huge
 *     leaves). It asks gfn_is_mirrored and block_is_mirrored in its lock section, in which the answer does not change.
 *     If the section came first, mirror_begins finds its entry.
 *   - under mmu_lock, from what the entry said: a huge leaf is split, a right is taken away. The pieces get no right
 *     that the huge leaf had not, and by N1.1 no mirrored frame was below a huge leaf when the section began.
 *   - without a lock, by the fast path (P6), which never asks. It is one compare-and-swap that succeeds only on the
 *     entry that it read, and only if that entry had MMU_W. mirror_begins takes W and MMU_W in one swap. If the fast
 *     path came first, the swap takes the right that it gave; if later, its own fails, or it reads an entry without
 *     MMU_W. Nobody gives MMU_W to an entry that exists but tdp_map.
 *
 * When the last mirror of a frame goes, nothing happens at once. The next write fault takes the slow path, because
 * MMU_W is missing, and tdp_map makes a writable leaf, at the largest level that is now allowed.
 */
#ifndef CORE_TABLE_MIRROR_H
#define CORE_TABLE_MIRROR_H

#include "core/memslot/memslot.h"

/** Is the frame of gfn mirrored, in any address space? Holds: mmu_lock. Supplied by core/shadow. */
bool shadow_mirrors_gfn(struct vm *vm, gfn_t gfn);
/**
 * Is a frame of the block of `level` around gfn mirrored, in any address space? Also true if the block holds parts of
 * slots. Holds: mmu_lock. Supplied by core/shadow.
 */
bool shadow_mirrors_block(struct vm *vm, gfn_t gfn, int level);

/** Must no leaf of gfn be writable? One load as long as the VM has never had a shadow root. Holds: mmu_lock. */
static inline bool gfn_is_mirrored(struct vm *vm, gfn_t gfn)
{
	return unlikely(arrays_exist(vm)) && shadow_mirrors_gfn(vm, gfn);
}

/** Must no leaf of `level` map gfn? Holds: mmu_lock. */
static inline bool block_is_mirrored(struct vm *vm, gfn_t gfn, int level)
{
	return unlikely(arrays_exist(vm)) && shadow_mirrors_block(vm, gfn, level);
}

/**
 * The frame of gfn is now mirrored: no TDP leaf of it may stay writable, nor become so without tdp_map. Huge leaves
 * that cover it are zapped. Leaves a flush pending if a CPU may still write. Does not yield.
 * Holds: mmu_lock write. Supplied by core/tdp.
 */
void mirror_begins(struct mmu_token *token, gfn_t gfn);

#endif
