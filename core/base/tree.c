/* SPDX-License-Identifier: MIT */
#include "core/base/tree.h"

/*
 * The invariants, for every node: the heights of its two subtrees differ by at most one; `height` is one more than
 * the larger; what augment keeps describes the whole subtree. A change breaks them only on the path from its place
 * up to the root. One walk up that path, repairing each node, restores them. It ends early at a node that comes out
 * unchanged.
 */

static uint32_t height_of(const struct tree_node *node)
{
	return node ? node->height : 0;
}

/* Returns: whether anything changed that the node above depends on. */
static bool node_update(const struct tree *tree, struct tree_node *node)
{
	uint32_t left = height_of(node->child[TREE_LEFT]);
	uint32_t right = height_of(node->child[TREE_RIGHT]);
	uint32_t height = 1 + (left > right ? left : right);
	bool changed = node->height != height;

	node->height = height;
	if (tree->type->augment)
		changed |= tree->type->augment(tree, node);
	return changed;
}

/* Put `new` (which may be NULL) where `old` hangs. */
static void node_replace(struct tree *tree, const struct tree_node *old, struct tree_node *new)
{
	struct tree_node *parent = old->parent;

	if (new)
		new->parent = parent;
	if (!parent)
		tree->root = new;
	else
		parent->child[parent->child[TREE_RIGHT] == old] = new;
}

static void node_set_child(struct tree_node *node, enum tree_side side, struct tree_node *child)
{
	node->child[side] = child;
	if (child)
		child->parent = node;
}

/*
 *        node               up
 *       /    \             /  \
 *      a      up    =>   node  c      for side = TREE_LEFT: `node` sinks to the left
 *            /  \        /  \
 *           b    c      a    b
 */
static struct tree_node *node_rotate(struct tree *tree, struct tree_node *node, enum tree_side side)
{
	struct tree_node *up = node->child[!side];

	node_replace(tree, node, up);
	node_set_child(node, !side, up->child[side]);
	node_set_child(up, side, node);
	node_update(tree, node);
	node_update(tree, up);
	return up;
}

/* Repair one node whose subtrees are in order. Returns: the node above if it must be repaired, too, else NULL. */
static struct tree_node *node_balance(struct tree *tree, struct tree_node *node)
{
	uint32_t left = height_of(node->child[TREE_LEFT]);
	uint32_t right = height_of(node->child[TREE_RIGHT]);
	enum tree_side high = right > left ? TREE_RIGHT : TREE_LEFT;
	struct tree_node *child = node->child[high];

	if ((high ? right - left : left - right) < 2) {
		return node_update(tree, node) ? node->parent : NULL;
	}
	/* If the child is higher on its inner side, a rotation only moves the height across. Turn it outwards first. */
	if (height_of(child->child[!high]) > height_of(child->child[high]))
		node_rotate(tree, child, high);
	return node_rotate(tree, node, !high)->parent;
}

static void path_repair(struct tree *tree, struct tree_node *node)
{
	while (node)
		node = node_balance(tree, node);
}

void tree_add(struct tree *tree, struct tree_node *node)
{
	struct tree_node *parent = NULL, **link = &tree->root;

	while (*link) {
		parent = *link;
		link = &parent->child[!tree->type->before(tree, node, parent)];
	}
	*node = (struct tree_node){ .parent = parent };
	*link = node;
	path_repair(tree, node);
}

static struct tree_node *leftmost(struct tree_node *node)
{
	while (node && node->child[TREE_LEFT])
		node = node->child[TREE_LEFT];
	return node;
}

void tree_remove(struct tree *tree, struct tree_node *node)
{
	struct tree_node *left = node->child[TREE_LEFT], *right = node->child[TREE_RIGHT];
	/* `heir` takes the node's place. `changed` is the lowest node whose subtree changed. */
	struct tree_node *heir, *changed;

	if (!left || !right) {
		changed = node->parent;
		node_replace(tree, node, left ? left : right);
		path_repair(tree, changed);
		return;
	}
	heir = leftmost(right);
	changed = heir;
	if (heir != right) {
		changed = heir->parent;
		node_replace(tree, heir, heir->child[TREE_RIGHT]);
		node_set_child(heir, TREE_RIGHT, right);
	}
	node_set_child(heir, TREE_LEFT, left);
	node_replace(tree, node, heir);
	/* The height from its old place must not count as unchanged in the new one: 0 is no node's height. */
	heir->height = 0;
	path_repair(tree, changed);
	if (!heir->height)
		path_repair(tree, heir); /* the repair ended below the heir */
}

struct tree_node *tree_first(const struct tree *tree)
{
	return leftmost(tree->root);
}

struct tree_node *tree_next(const struct tree_node *node)
{
	if (node->child[TREE_RIGHT])
		return leftmost(node->child[TREE_RIGHT]);
	while (node->parent && node->parent->child[TREE_RIGHT] == node)
		node = node->parent;
	return node->parent;
}
