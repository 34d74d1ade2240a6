/* SPDX-License-Identifier: MIT */
#include "check/runtime/model.h"

#include <stdlib.h>

#include "check/runtime/graph.h"
#include "check/runtime/seed.h"
#include "check/runtime/shadow.h"
#include "check/runtime/tell.h"

bool order_allows(struct event *e)
{
	return rt.tso ? order_tso_allows(e) : order_sc_allows(e);
}

/* ---- events --------------------------------------------------------------------------------------- */

static struct event *event_begin(struct op *op, unsigned flags)
{
	struct thread *t = self_thread();
	struct event *e;
	unsigned index = t->count + 1u;

	if (index >= EVENTS)
		rt_fail(CHECK_HANG,
		        "thread %d made %u steps in one execution: an endless loop?", rt.self,
		        EVENTS);
	e = &rt.event[rt.self][index];
	e->clock = t->clock;
	e->porf = t->porf;
	e->porf[rt.self] = (uint16_t)index;
	e->release = (vclock){ 0 };
	e->from = e->next_reader = e->readers = e->head = 0;
	e->location = 0;
	e->stamp = e->write_stamp = ++rt.stamp;
	e->pc = op->pc;
	e->caller = op->caller;
	e->visited = 0;
	e->index = (uint16_t)index;
	e->thread = (uint8_t)rt.self;
	e->flags = (uint8_t)flags;
	e->order = op->order;
	op->event = id_of(e);
	t->count = (uint16_t)index;
	return e;
}

/*
 * Put the event on the list of sequentially consistent events. Its final flags may say
 * otherwise; order_sc.c looks at them.
 */
static void list_sc(const struct event *e)
{
	struct thread *t = self_thread();

	t->sc[t->sc_count++] = e->index;
	rt.sc_events++;
}

static void event_end(struct event *e)
{
	struct thread *t = self_thread();

	t->clock = e->clock;
	t->clock[rt.self] = (uint16_t)(e->index + 1);
	t->porf = e->porf;
}

static void choice_note(unsigned option)
{
	if (rt.choice_count == sizeof(rt.choices) / sizeof(rt.choices[0]))
		rt_fail(CHECK_LIMIT, "an execution of more than %u steps", rt.choice_count);
	rt.choices[rt.choice_count++] = (struct choice){ (uint8_t)rt.self, (uint16_t)option };
}

/* ---- reading -------------------------------------------------------------------------------------- */

static void reader_link(struct location *l, struct event *e, event_id from)
{
	event_id *list = readers_of(l, from);

	e->from = from;
	e->next_reader = *list;
	*list = id_of(e);
}

static void reader_unlink(struct location *l, struct event *e)
{
	event_id *list = readers_of(l, e->from);

	while (*list != id_of(e))
		list = &event_of(*list)->next_reader;
	*list = e->next_reader;
}

static unsigned read_order(const struct op *op, unsigned flags)
{
	if (rt.tso)
		return __ATOMIC_ACQ_REL;
	return op->kind == OP_CAS && !(flags & EV_WRITES) ? op->fail_order : op->order;
}

/* Set the clocks of an event that reads `from`, out of its thread's clocks. */
static void read_clocks(struct event *e, const struct thread *t, event_id from, unsigned order)
{
	e->clock = t->clock;
	e->porf = t->porf;
	e->porf[e->thread] = e->index;
	if (from) {
		const struct event *store = event_of(from);

		if (acquires(order))
			e->clock = vclock_join(e->clock, store->release);
		e->porf = vclock_join(e->porf, store->porf);
	}
}

static void release_clock(struct location *l, struct event *e, const struct thread *t, unsigned order)
{
	e->head = releases(order) ? id_of(e) : l->head[e->thread];
	e->release = t->fence_release;
	if (e->head)
		e->release = vclock_join(e->release, event_of(e->head)->clock);
	if ((e->flags & EV_READS) && e->from)
		e->release = vclock_join(e->release, event_of(e->from)->release);
}

/* The event's flags if it read the store at `rank`. */
static unsigned flags_if_read(const struct op *op, uint64_t value)
{
	unsigned flags = EV_READS, order = op->order;

	if (op->kind == OP_RMW || ((op->kind == OP_AWAIT_RMW || op->kind == OP_TRY) && op->ready(value, op->operand)) ||
	    (op->kind == OP_CAS && value == op->expected))
		flags |= EV_WRITES | (rt.tso ? EV_DRAINS : 0);
	else if (op->kind == OP_CAS)
		order = op->fail_order;
	if (rt.tso && op->kind == OP_CAS)
		flags |= EV_DRAINS;
	if (order == __ATOMIC_SEQ_CST)
		flags |= EV_SC;
	return flags;
}

/* Would the operation change the value? */
static bool changes(const struct op *op, uint64_t value)
{
	if (op->kind == OP_RMW)
		return ((op->change(value, op->operand) ^ value) << (64 - 8 * op->size)) != 0;
	return flags_if_read(op, value) & EV_WRITES;
}

/* May `e` read the store at `rank` and, if it writes, follow it? `but`: flags to leave out. Changes nothing. */
static bool may_read(struct op *op, struct location *l, struct event *e, unsigned rank, unsigned but)
{
	const struct thread *t = self_thread();
	event_id from = l->store[rank];
	bool allowed;

	if (rank + 1u == l->count)
		return true;
	e->flags = (uint8_t)(flags_if_read(op, value_of(l, from)) & ~but);
	read_clocks(e, t, from, read_order(op, e->flags));
	reader_link(l, e, from);
	if (e->flags & EV_WRITES)
		model_insert(l, e, rank + 1);
	allowed = order_allows(e);
	if (e->flags & EV_WRITES)
		model_remove(l, e);
	reader_unlink(l, e);
	return allowed;
}

static bool is_await(const struct op *op)
{
	return op->kind == OP_AWAIT || op->kind == OP_AWAIT_RMW;
}

/* Fill rt.option with the ranks that the event may read, newest first. */
static void read_options(struct op *op, struct location *l, struct event *e)
{
	unsigned floor = model_floor(l, e), newest = l->count - 1u;

	rt.option_count = 0;
	for (unsigned rank = l->count; rank-- > floor;) {
		uint64_t value = value_of(l, l->store[rank]);
		bool ready = !is_await(op) || op->ready(value, op->operand), writes;

		/*
		 * An await that reads the newest store in vain stands still there. One that reads an older store in
		 * vain is of no interest (graph.c).
		 */
		if (!ready && !(rt.graph && rank == newest))
			continue;
		if (rank != newest && !rt.graph && !rt.stale_left && rt.option_count)
			break;
		writes = flags_if_read(op, value) & EV_WRITES;
		if ((writes && model_is_taken(l, rank)) || !may_read(op, l, e, rank, 0)) {
			if (writes && rt.graph && may_read(op, l, e, rank, EV_WRITES))
				graph_taken(l, e, rank);
			continue;
		}
		if (rt.option_count == OPTIONS)
			rt_fail(CHECK_LIMIT, "more than %u stores that a load may read", OPTIONS);
		rt.option[rt.option_count++] = (uint16_t)rank;
	}
}

static unsigned choose_rank(unsigned newest)
{
	unsigned rank, option = 0;

	if (rt.option_count > 1)
		option = rt.strategy->option(rt.option_count, true);
	rank = rt.option[option];
	if (rank != newest && rt.stale_left && rt.stale_left != CHECK_NO_BOUND)
		rt.stale_left--;
	return rank;
}

static uint32_t op_location(const struct op *op, bool write, const struct event *e)
{
	return op->abstract ? location_abstract(op->address) : shadow_atomic(op->address, op->size, write, e);
}

/* Choose the store that the event reads. *forced: the store was given. */
static unsigned choose_store(struct op *op, struct location *l, struct event *e, bool *forced)
{
	unsigned rank, newest = l->count - 1u;

	*forced = rt.graph ? graph_forced_read(e, l, &rank) : replay_forced(&rank, newest);
	if (unlikely(rt.probing)) {
		if (is_await(op) || changes(op, value_of(l, l->store[newest])))
			rt_give_up(true);
		return newest;
	}
	if (!*forced) {
		read_options(op, l, e);
		if (!rt.option_count)
			rt_give_up(true); /* other read-modify-writes have taken all that is left */
		return choose_rank(newest);
	}
	if (rank > newest)
		rt_fail(CHECK_UNSTABLE, "the execution is not what it was: a load of a store that is not there");
	return rank;
}

static void read_from(struct op *op, struct location *l, struct event *e, event_id from)
{
	struct thread *t = self_thread();

	e->read = value_of(l, from);
	e->flags = (uint8_t)flags_if_read(op, e->read);
	if (unlikely(rt.probing))
		e->flags &= (uint8_t)~EV_WRITES;
	e->order = (uint8_t)(e->flags & EV_WRITES || op->kind != OP_CAS ? op->order : op->fail_order);
	read_clocks(e, t, from, read_order(op, e->flags));
	reader_link(l, e, from);
	l->read[e->thread] = e->index;
	if (from)
		t->fence_acquire = vclock_join(t->fence_acquire, event_of(from)->release);
}

static _Noreturn void stand_still(struct op *op, struct event *e)
{
	e->flags |= EV_BLOCKED;
	self_thread()->state = TH_BLOCKED;
	tell_block(op);
	if (op->waits_for)
		graph_stands_still(e);
	rt_point(); /* does not return: the thread goes on in another execution */
	abort();
}

/* The write of a read-modify-write. In a half event the write is a turn of its own, and waits for it. */
static void do_write(struct op *op, struct location *l, struct event *e, bool forced)
{
	bool half = rt.graph && graph_is_half(e), newest;
	unsigned rank;

	if (half) {
		self_thread()->writing = true;
		e->flags &= (uint8_t)~EV_WRITES; /* the write comes later */
		rt_point();
		e->flags |= EV_WRITES;
		self_thread()->writing = false;
		e->write_stamp = ++rt.stamp;
	}
	rank = rank_of(e->from) + 1u;
	newest = rank == l->count;
	choice_note(l->count - rank);
	e->value = op->kind == OP_CAS ? op->operand : op->change(e->read, op->operand);
	if (l->size < 8)
		e->value &= (1ull << 8 * l->size) - 1;
	release_clock(l, e, self_thread(), rt.tso ? __ATOMIC_ACQ_REL : op->order);
	model_insert(l, e, rank);
	if (half && !newest && !order_allows(e)) {
		graph_written(e, l);
		rt_give_up(true);
	}
	l->head[e->thread] = e->head;
	if (newest && l->memory)
		location_write(l, e->value);
	l->written[e->thread] = e->index;
	op->swapped = true;
	if (rt.graph && (half || !forced || graph_is_fresh(e)))
		graph_written(e, l);
}

static uint64_t do_read(struct op *op)
{
	struct event *e = event_begin(op, EV_READS);
	struct location *l;
	unsigned rank, stale;
	bool forced;

	e->location = op_location(op, op->kind != OP_LOAD && op->kind != OP_AWAIT, e);
	l = &rt.location[e->location];
	if (op->order == __ATOMIC_SEQ_CST || op->fail_order == __ATOMIC_SEQ_CST)
		list_sc(e);
	rank = choose_store(op, l, e, &forced);
	stale = l->count - 1u - rank;
	read_from(op, l, e, l->store[rank]);
	if (rt.graph && graph_is_half(e))
		graph_half_read(e);
	if (is_await(op) && !op->ready(e->read, op->operand))
		stand_still(op, e);
	if (e->flags & EV_WRITES) {
		do_write(op, l, e, forced);
		spin_note(e->location, id_of(e));
		spin_visit(op, e->location, id_of(e));
		if (e->value != e->read)
			spin_forget();
	} else {
		choice_note(stale);
		e->write_stamp = e->stamp;
		spin_note(e->location, e->from);
		spin_visit(op, e->location, e->from);
	}
	event_end(e);
	tell_read(op, e, l, stale);
	return e->read;
}

/* ---- writing -------------------------------------------------------------------------------------- */

static void write_options(struct location *l, struct event *e)
{
	unsigned floor = model_floor(l, e);

	rt.option_count = 0;
	rt.option[rt.option_count++] = l->count;
	if (!rt.graph && !rt.stale_left)
		return;
	for (unsigned rank = l->count - 1u; rank > floor; rank--) {
		bool allowed;

		if (model_is_taken(l, rank - 1))
			continue;
		model_insert(l, e, rank);
		allowed = order_allows(e);
		model_remove(l, e);
		if (!allowed)
			continue;
		if (rt.option_count == OPTIONS)
			rt_fail(CHECK_LIMIT, "more than %u places for a store", OPTIONS);
		rt.option[rt.option_count++] = (uint16_t)rank;
	}
}

static uint64_t do_store(struct op *op)
{
	bool sc = op->order == __ATOMIC_SEQ_CST;
	struct event *e = event_begin(op, EV_WRITES | (sc ? EV_SC : 0) | (sc && rt.tso ? EV_DRAINS : 0));
	struct location *l;
	unsigned rank, newest;
	bool forced;

	e->location = op_location(op, true, e);
	l = &rt.location[e->location];
	if (sc)
		list_sc(e);
	e->value = op->operand;
	newest = l->count;
	forced = rt.graph ? graph_forced_write(e, l, &rank) : replay_forced(&rank, newest);
	if (!forced) {
		write_options(l, e);
		rank = choose_rank(newest);
	} else if (rank > newest || rank == 0) {
		rt_fail(CHECK_UNSTABLE, "the execution is not what it was: a store in a place that is not there");
	}
	choice_note(newest - rank);
	release_clock(l, e, self_thread(), rt.tso ? __ATOMIC_ACQ_REL : op->order);
	model_insert(l, e, rank);
	l->head[e->thread] = e->head;
	if (rank == newest && l->memory)
		location_write(l, e->value);
	l->written[e->thread] = e->index;
	if (rt.graph && !forced)
		graph_written(e, l);
	spin_forget();
	event_end(e);
	tell_store(op, e, l, newest - rank);
	return 0;
}

/* ---- the rest ------------------------------------------------------------------------------------- */

static uint64_t do_fence(struct op *op)
{
	bool sc = op->order == __ATOMIC_SEQ_CST;
	struct event *e = event_begin(op, EV_FENCE | (sc ? EV_SC : 0) | (sc && rt.tso ? EV_DRAINS : 0));
	struct thread *t = self_thread();

	if (acquires(op->order))
		e->clock = vclock_join(e->clock, t->fence_acquire);
	if (releases(op->order))
		t->fence_release = e->clock;
	if (sc)
		list_sc(e);
	if (rt.graph)
		graph_forced_other(e);
	event_end(e);
	tell_fence(op, e);
	return 0;
}

static uint64_t do_choose(struct op *op)
{
	struct event *e = event_begin(op, EV_CHOICE);
	unsigned value;

	if (!(rt.graph ? graph_forced_choice(e, &value) : replay_forced_choice(&value))) {
		rt.option_count = (unsigned)op->operand;
		for (unsigned i = 0; i < op->operand && i < OPTIONS; i++)
			rt.option[i] = (uint16_t)i;
		value = op->operand > 1 ? rt.strategy->option((unsigned)op->operand, false) : 0;
	}
	if (value >= op->operand)
		rt_fail(CHECK_UNSTABLE, "the execution is not what it was: choice %u of %u", value,
		        (unsigned)op->operand);
	choice_note(value);
	e->value = value;
	self_thread()->visit_count = 0; /* the next choice may be another */
	event_end(e);
	tell_choice(op, e);
	return value;
}

bool model_knows(uint64_t key)
{
	const struct location *l = &rt.location[location_abstract(key)];

	return vclock_covers(self_thread()->clock, l->written) && l->count > 1;
}

bool model_ready(unsigned thread)
{
	const struct thread *t = &rt.thread[thread];
	struct event probe = { .clock = t->clock };
	const struct op *op = t->op;
	const struct location *l;
	unsigned floor;

	l = &rt.location[location_abstract(op->address)];
	floor = model_floor(l, &probe);
	for (unsigned rank = l->count; rank-- > floor;)
		if (op->ready(value_of(l, l->store[rank]), op->operand) &&
		    !(op->kind == OP_AWAIT_RMW && model_is_taken(l, rank)))
			return true;
	return false;
}

uint64_t model_do(struct op *op)
{
	struct thread *t = self_thread();

	if (unlikely(spin_turns(op))) {
		struct op pause = { .kind = OP_PAUSE, .pc = op->pc, .caller = op->caller };

		model_do(&pause);
	}
	t->op = op;
	/* A fence concerns no other thread: its place among their steps makes no difference. */
	if (op->kind != OP_FENCE)
		rt_point();
	if (unlikely(rt.probing) && (op->kind == OP_STORE || op->kind == OP_CHOOSE))
		rt_give_up(true);
	switch (op->kind) {
	case OP_STORE: return do_store(op);
	case OP_FENCE: return do_fence(op);
	case OP_CHOOSE: return do_choose(op);
	case OP_PAUSE: return spin_pause(op);
	default: return do_read(op);
	}
}
