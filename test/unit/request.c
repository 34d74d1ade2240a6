/* SPDX-License-Identifier: MIT */
/*
 * Requests and kicks (P9). Fake vCPUs "run a guest" that reads through a cached pointer, as a CPU reads through its
 * TLB. They drop the pointer when a request says so. A thread that replaces the object raises the request, waits, and
 * then frees the old object.
 */
#include "test/unit/threads.h"

#include "core/sync/vm.h"
#include "test/unit/test_vm.h"

#define VCPUS 3

enum guest {
	GUEST_SHORT, /* leaves by itself after a short time */
	GUEST_STAYS, /* runs until it is told to leave */
	GUEST_MIXED,
};

struct fixture {
	struct test_vm *test;
	struct vm *vm;
	enum guest guest;
	uint64_t *page;   /* atomic: the "page table's" entry. The page holds the magic number until it is freed */
	uint32_t done;
	uint32_t finished; /* atomic: how many vCPU threads have ended */
	struct vcpu vcpus[VCPUS];
	struct vcpu *by_id[VCPUS + 2];
};

#define MAGIC UINT64_C(0x6d656d6f7279)

static void fixture_make(struct fixture *f, enum guest guest)
{
	*f = (struct fixture){ .test = test_vm_make(1), .guest = guest };
	f->vm = &f->test->vm;
	f->page = malloc(sizeof(*f->page));
	*f->page = MAGIC;
	/* Id 1 is empty, as after a vCPU was destroyed. */
	for (unsigned i = 0; i < VCPUS; i++) {
		unsigned id = i ? i + 1 : 0;

		f->vcpus[i] = (struct vcpu){ .vm = f->vm, .id = id };
		f->by_id[id] = &f->vcpus[i];
	}
	f->vm->vcpus = (struct vcpu_set){ .by_id = f->by_id, .max = VCPUS + 2, .limit = VCPUS + 1 };
}

static void fixture_free(struct fixture *f)
{
	for (unsigned i = 0; i < VCPUS; i++)
		assert_int_equal(f->vcpus[i].mode, VCPU_OUTSIDE);
	free(f->page);
	test_vm_free(f->test);
}

/* In the guest: read through the cached pointer, until the vCPU is told to leave or its time is over. */
static void guest_run(struct fixture *f, struct vcpu *vcpu, const uint64_t *cached, struct rng *rng)
{
	bool stays = f->guest == GUEST_STAYS || (f->guest == GUEST_MIXED && rng_below(rng, 2));

	for (uint64_t left = rng_below(rng, 400); stays || left; left--) {
		CHECK(*cached == MAGIC);
		if (load_relaxed(&vcpu->mode) != VCPU_IN_GUEST)
			return;
		if (left % 4096 == 4095)
			port_yield();
	}
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *vcpu = arg;
	struct fixture *f = vcpu->cookie;
	struct rng rng = rng_make(vcpu->id);
	const uint64_t *cached = NULL;

	while (!load_acquire(&f->done)) {
		if ((vcpu_requests_take(vcpu) & REQ_TLB_FLUSH) || !cached)
			cached = load_acquire(&f->page);
		if (rng_below(&rng, 64) == 0)
			port_yield();
		if (!vcpu_mode_enter(vcpu))
			continue;
		guest_run(f, vcpu, cached, &rng);
		vcpu_mode_leave(vcpu);
	}
	add_release(&f->finished, 1);
	return NULL;
}

/* Replace the page, as an invalidation does: zap the entry, flush, and let the host have the memory. */
static void page_replace(struct fixture *f)
{
	uint64_t *page = malloc(sizeof(*page)), *old;

	*page = MAGIC;
	old = swap_seqcst(&f->page, page);
	vcpus_request_and_wait(f->vm, REQ_TLB_FLUSH);
	*old = 0;
	free(old);
}

static void *requester(void *arg)
{
	struct fixture *f = arg;

	while (!load_acquire(&f->done))
		page_replace(f);
	return NULL;
}

static void storm(enum guest guest, unsigned requesters)
{
	pthread_t threads[VCPUS], others[4];
	struct fixture f;

	fixture_make(&f, guest);
	for (unsigned i = 0; i < VCPUS; i++) {
		f.vcpus[i].cookie = &f;
		threads[i] = thread_start(vcpu_thread, &f.vcpus[i]);
	}
	for (unsigned i = 0; i < requesters; i++)
		others[i] = thread_start(requester, &f);
	sleep_us(400000);
	store_release(&f.done, 1);
	for (unsigned i = 0; i < requesters; i++)
		thread_join(others[i]);
	/* Guests that stay must be told to leave, and told again if they were just entering. */
	while (load_acquire(&f.finished) < VCPUS) {
		for (unsigned i = 0; i < VCPUS; i++)
			vcpu_kick(&f.vcpus[i]);
		sleep_us(100);
	}
	for (unsigned i = 0; i < VCPUS; i++)
		thread_join(threads[i]);
	fixture_free(&f);
}

static void test_storm_no_vcpu_uses_what_was_flushed(void **state)
{
	(void)state;
	storm(GUEST_SHORT, 1);
}

static void test_storm_vcpus_that_stay_until_kicked(void **state)
{
	(void)state;
	storm(GUEST_STAYS, 1);
}

static void test_storm_several_requesters(void **state)
{
	(void)state;
	storm(GUEST_MIXED, 3);
}

/* --- step by step --- */

static unsigned kicks;

static void count_kick(void *state, void *cookie)
{
	(void)state;
	assert_non_null(cookie);
	kicks++;
}

static void test_kick_reaches_only_a_vcpu_in_the_guest(void **state)
{
	struct fixture f;
	struct vcpu *vcpu;

	(void)state;
	fixture_make(&f, GUEST_SHORT);
	f.test->host.kick = count_kick;
	vcpu = &f.vcpus[0];
	vcpu->cookie = &f;
	kicks = 0;
	vcpu_kick(vcpu);
	assert_int_equal(kicks, 0);
	assert_int_equal(vcpu->mode, VCPU_OUTSIDE);
	assert_true(vcpu_mode_enter(vcpu));
	vcpu_kick(vcpu);
	assert_int_equal(vcpu->mode, VCPU_EXITING);
	vcpu_kick(vcpu);
	assert_int_equal(kicks, 1); /* no second kick: the vCPU is leaving already */
	assert_int_equal(f.vm->stats.kicks, 1);
	vcpu_mode_leave(vcpu);
	assert_int_equal(vcpu->mode, VCPU_OUTSIDE);
	fixture_free(&f);
}

static void test_enter_with_a_request_pending_stays_outside(void **state)
{
	struct fixture f;
	struct vcpu *vcpu;

	(void)state;
	fixture_make(&f, GUEST_SHORT);
	vcpu = &f.vcpus[1];
	vcpu_request(vcpu, REQ_TLB_FLUSH);
	vcpu_request(vcpu, REQ_RING_FULL);
	assert_false(vcpu_mode_enter(vcpu));
	assert_int_equal(vcpu->mode, VCPU_OUTSIDE);
	assert_int_equal(vcpu_requests_take(vcpu), REQ_TLB_FLUSH | REQ_RING_FULL);
	assert_int_equal(vcpu_requests_take(vcpu), 0);
	assert_true(vcpu_mode_enter(vcpu));
	vcpu_mode_leave(vcpu);
	fixture_free(&f);
}

static void *flusher(void *arg)
{
	struct fixture *f = arg;

	vcpus_flush(f->vm);
	store_release(&f->done, 1);
	return NULL;
}

static void test_wait_lasts_until_the_vcpu_has_left(void **state)
{
	struct fixture f;
	struct vcpu *vcpu;
	pthread_t thread;

	(void)state;
	fixture_make(&f, GUEST_SHORT);
	vcpu = &f.vcpus[2];
	assert_true(vcpu_mode_enter(vcpu));
	thread = thread_start(flusher, &f);
	assert_true(word_becomes(&vcpu->mode, VCPU_EXITING));
	sleep_us(3000);
	assert_int_equal(load_acquire(&f.done), 0);
	vcpu_mode_leave(vcpu);
	thread_join(thread);
	assert_int_equal(f.vm->stats.tlb_flushes, 1);
	for (unsigned i = 0; i < VCPUS; i++)
		assert_int_equal(vcpu_requests_take(&f.vcpus[i]), REQ_TLB_FLUSH);
	fixture_free(&f);
}

/* A vCPU leaves, and is back in the guest before the waiter looks again. The one exit is all that the waiter needs. */
static void test_wait_is_content_with_one_exit(void **state)
{
	struct fixture f;
	struct vcpu *vcpu;
	pthread_t thread;

	(void)state;
	fixture_make(&f, GUEST_SHORT);
	vcpu = &f.vcpus[0];
	assert_true(vcpu_mode_enter(vcpu));
	thread = thread_start(flusher, &f);
	assert_true(word_becomes(&vcpu->watched, 1)); /* the waiter is asleep, or about to be */
	sleep_us(1000);
	vcpu_mode_leave(vcpu);
	vcpu_requests_take(vcpu);
	assert_true(vcpu_mode_enter(vcpu));
	thread_join(thread);
	vcpu_mode_leave(vcpu);
	fixture_free(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kick_reaches_only_a_vcpu_in_the_guest),
		cmocka_unit_test(test_enter_with_a_request_pending_stays_outside),
		cmocka_unit_test(test_wait_lasts_until_the_vcpu_has_left),
		cmocka_unit_test(test_wait_is_content_with_one_exit),
		cmocka_unit_test(test_storm_no_vcpu_uses_what_was_flushed),
		cmocka_unit_test(test_storm_vcpus_that_stay_until_kicked),
		cmocka_unit_test(test_storm_several_requesters),
	};

	return cmocka_run_group_tests(tests, watchdog_setup, NULL);
}
