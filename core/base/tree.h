/* SPDX-License-Identifier: MIT */
/*
 * An intrusive balanced binary tree (AVL) with augmentation. It is an ordered tree; when each node also keeps
 * something about its subtree, it is an interval tree. Nothing allocates, nothing recurses.
 *
 * Any number of threads may read a tree that nobody changes: reading writes nothing.
 */
#ifndef CORE_BASE_TREE_H
#define CORE_BASE_TREE_H

#include "core/base/types.h"

enum tree_side {
	TREE_LEFT = 0,
	TREE_RIGHT = 1,
};

struct tree_node {
	struct tree_node *parent;
	struct tree_node *child[2]; /* by enum tree_side */
	uint32_t height;            /* of the subtree: 1 for a leaf */
};

struct tree;

struct tree_type {
	/** Does `a` come before `b`? A strict weak order. */
	bool (*before)(const struct tree *tree, const struct tree_node *a, const struct tree_node *b);
	/**
	 * Recompute what `node` keeps about its subtree, from itself and its children. NULL: nodes keep nothing.
	 * Returns: whether it changed.
	 */
	bool (*augment)(const struct tree *tree, struct tree_node *node);
};

struct tree {
	struct tree_node *root;
	const struct tree_type *type;
};

static inline void tree_init(struct tree *tree, const struct tree_type *type)
{
	*tree = (struct tree){ .type = type };
}

/** Add a node that is in no tree and whose key is set. It goes after nodes that compare equal. O(log n). */
void tree_add(struct tree *tree, struct tree_node *node);

/** Remove a node of this tree. O(log n). */
void tree_remove(struct tree *tree, struct tree_node *node);

/** The first node in order, or NULL. O(log n). */
struct tree_node *tree_first(const struct tree *tree);

/** The node after `node`, or NULL. O(log n); a walk over the whole tree is O(n). */
struct tree_node *tree_next(const struct tree_node *node);

#endif
