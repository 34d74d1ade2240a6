/* SPDX-License-Identifier: MIT */
/* The balanced tree compared with a sorted array. Its invariants are checked after every operation. */
#include "test/unit/test.h"

#include "core/base/tree.h"

struct item {
	struct tree_node node;
	uint32_t key, serial;
	uint64_t sum; /* the sum of the keys in the subtree */
	bool in;
};

static struct item *item_of(const struct tree_node *node)
{
	return container_of(node, struct item, node);
}

static bool item_before(const struct tree *tree, const struct tree_node *a, const struct tree_node *b)
{
	(void)tree;
	return item_of(a)->key < item_of(b)->key;
}

static bool item_augment(const struct tree *tree, struct tree_node *node)
{
	struct item *item = item_of(node);
	uint64_t before = item->sum;

	(void)tree;
	item->sum = item->key;
	for (int side = 0; side < 2; side++)
		if (node->child[side])
			item->sum += item_of(node->child[side])->sum;
	return item->sum != before;
}

static const struct tree_type item_tree = { .before = item_before, .augment = item_augment };
static const struct tree_type plain_tree = { .before = item_before };

#define MOST 400

/* The model: the items in the order in which the tree must have them. */
struct model {
	struct item *item[MOST];
	unsigned count;
};

static void model_add(struct model *model, struct item *item)
{
	unsigned at = model->count;

	while (at && model->item[at - 1]->key > item->key) {
		model->item[at] = model->item[at - 1];
		at--;
	}
	model->item[at] = item;
	model->count++;
}

static void model_remove(struct model *model, const struct item *item)
{
	unsigned at = 0;

	while (model->item[at] != item)
		at++;
	memmove(&model->item[at], &model->item[at + 1], (model->count - at - 1) * sizeof(model->item[0]));
	model->count--;
}

static void node_check(const struct tree *tree, const struct tree_node *node)
{
	uint64_t sum = item_of(node)->key;
	uint32_t height[2];

	for (int side = 0; side < 2; side++) {
		const struct tree_node *child = node->child[side];

		height[side] = child ? child->height : 0;
		if (child) {
			assert_ptr_equal(child->parent, node);
			sum += item_of(child)->sum;
		}
	}
	assert_int_equal(node->height, 1 + (height[0] > height[1] ? height[0] : height[1]));
	assert_true(height[0] <= height[1] + 1 && height[1] <= height[0] + 1);
	if (tree->type->augment)
		assert_int_equal(item_of(node)->sum, sum);
}

static void tree_check(const struct tree *tree, const struct model *model)
{
	const struct tree_node *node = tree_first(tree);

	assert_true(!tree->root || !tree->root->parent);
	for (unsigned i = 0; i < model->count; i++, node = tree_next(node)) {
		assert_ptr_equal(node, &model->item[i]->node);
		node_check(tree, node);
	}
	assert_null(node);
}

static void tree_of_random_changes_equals_model(const struct tree_type *type, uint64_t seed, uint32_t keys)
{
	struct rng rng = rng_make(seed);
	struct item *items = calloc(MOST, sizeof(*items));
	struct model model = { .count = 0 };
	struct tree tree;

	tree_init(&tree, type);
	for (int step = 0; step < 4000; step++) {
		/* Phases of growth and of shrinking, so that all sizes occur. */
		bool grow = rng_below(&rng, 100) < (step / 500 % 2 ? 25 : 75);
		struct item *item = &items[rng_below(&rng, MOST)];

		if (item->in == grow)
			continue;
		if (grow) {
			memset(&item->node, 0xa5, sizeof(item->node));
			item->key = (uint32_t)rng_below(&rng, keys);
			tree_add(&tree, &item->node);
			model_add(&model, item);
		} else {
			tree_remove(&tree, &item->node);
			model_remove(&model, item);
		}
		item->in = grow;
		tree_check(&tree, &model);
	}
	free(items);
}

static void test_tree_random_changes_equal_sorted_array(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 6; seed++)
		tree_of_random_changes_equals_model(&item_tree, seed, 1u << 30);
	tree_of_random_changes_equals_model(&plain_tree, 7, 1u << 30);
}

static void test_tree_equal_keys_keep_order_of_adding(void **state)
{
	(void)state;
	tree_of_random_changes_equals_model(&item_tree, 8, 5);
	tree_of_random_changes_equals_model(&item_tree, 9, 1);
}

/* Build every tree of up to 8 nodes, by every order of adding, and remove every node from it. */
static void test_tree_every_small_tree_loses_every_node(void **state)
{
	struct item items[8] = { 0 };

	(void)state;
	for (unsigned n = 1; n <= 7; n++) {
		unsigned orders = 1;

		for (unsigned i = 2; i <= n; i++)
			orders *= i;
		for (unsigned order = 0; order < orders; order++)
			for (unsigned victim = 0; victim < n; victim++) {
				struct model model = { .count = 0 };
				unsigned rest = order;
				struct tree tree;

				tree_init(&tree, &item_tree);
				for (unsigned i = 0; i < n; i++, rest /= i) {
					/* The order-th permutation: the i-th item goes to one of i + 1 places. */
					unsigned place = rest % (i + 1);

					for (unsigned j = 0; j < i; j++)
						items[j].key += items[j].key >= place;
					items[i].key = place;
				}
				for (unsigned i = 0; i < n; i++) {
					tree_add(&tree, &items[i].node);
					model_add(&model, &items[i]);
				}
				tree_remove(&tree, &items[victim].node);
				model_remove(&model, &items[victim]);
				tree_check(&tree, &model);
			}
	}
}

static void test_tree_of_ascending_keys_is_shallow(void **state)
{
	enum { COUNT = 32768 };
	struct item *items = calloc(COUNT, sizeof(*items));
	struct tree tree;

	(void)state;
	tree_init(&tree, &plain_tree);
	for (uint32_t i = 0; i < COUNT; i++) {
		items[i].key = i;
		tree_add(&tree, &items[i].node);
	}
	/* An AVL tree of n nodes is no higher than 1.44 log2(n). */
	assert_in_range(tree.root->height, 15, 21);
	for (uint32_t i = 0; i < COUNT; i++)
		tree_remove(&tree, &items[i].node);
	assert_null(tree.root);
	assert_null(tree_first(&tree));
	free(items);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tree_random_changes_equal_sorted_array),
		cmocka_unit_test(test_tree_equal_keys_keep_order_of_adding),
		cmocka_unit_test(test_tree_every_small_tree_loses_every_node),
		cmocka_unit_test(test_tree_of_ascending_keys_is_shallow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
