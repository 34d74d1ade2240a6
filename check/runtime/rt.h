/* SPDX-License-Identifier: MIT */
/*
 * The state of the runtime: one execution of one scenario, and the search that it belongs to.
 *
 * All of it is in one mapping at a fixed address (RT_ADDRESS). The address is below 2 GiB, so that fields are reached
 * like globals, and outside the window whose accesses are checked: the runtime's own hooks may interrupt it anywhere.
 * Nothing is allocated during an execution.
 *
 *     0 ............ WINDOW_END   the program, its .data and .bss; from HEAP_ADDRESS the arenas of check_alloc, from
 *                                 STACKS_ADDRESS the fibres' stacks
 *     RT_ADDRESS ..               struct runtime
 *     SHADOW_ADDRESS ..           one struct cell for every 8 bytes of the window
 *
 * An execution is a graph of events: what each thread did in program order, which store each load reads from, and the
 * order of the stores to each location (model.h).
 */
#ifndef CHECK_RUNTIME_RT_H
#define CHECK_RUNTIME_RT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "check/runtime/search.h"
#include "check/runtime/trace.h"

#define WINDOW_END     0x40000000ull
#define HEAP_ADDRESS   0x10000000ull
#define ARENA_BYTES    0x02000000ull /* for each thread, and for setup */
#define STACKS_ADDRESS 0x30000000ull
#define STACK_BYTES    0x00100000ull
#define RT_ADDRESS     0x50000000ull
#define SHADOW_ADDRESS 0x100000000000ull

#define THREADS     CHECK_MAX_THREADS
#define EVENTS      8192 /* the most of one thread in one execution */
#define LOCATIONS   16384
#define STORES      (1u << 18) /* the room of all lists of stores together */
#define BLOCKS      4096 /* the most of one arena */
#define OPTIONS     64
#define CALL_DEPTH  256
#define SPIN_READS  16
#define VISITS      32
#define PLAIN_MOST  (1u << 23) /* plain accesses between two operations: more are an endless loop */

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* how many events it has */
typedef uint16_t vclock __attribute__((vector_size(16)));

static inline vclock vclock_join(vclock a, vclock b)
{
	vclock more = (vclock)(a > b);

	return (a & more) | (b & ~more);
}

/* Is everything in `a` known to `b`? */
static inline bool vclock_covers(vclock b, vclock a)
{
	typedef uint64_t pair __attribute__((vector_size(16)));
	pair above = (pair)(a > b);

	return (above[0] | above[1]) == 0;
}

/* An event's name is its thread and index, from 1. 0 is the initial value of a location. */
typedef uint32_t event_id;
#define EVENT_ID(thread, index) ((event_id)(thread) << 16 | (event_id)(index))
#define EVENT_THREAD(id)        ((id) >> 16)
#define EVENT_INDEX(id)         ((id) & 0xffff)

enum {
	EV_READS   = 1, /* `from` and `read` are set */
	EV_WRITES  = 2, /* `value` and `rank` are set */
	EV_FENCE   = 4,
	EV_CHOICE  = 8,
	EV_SC      = 16,
	EV_DRAINS  = 32,  /* TSO: empties the store buffer */
	EV_BLOCKED = 64,  /* a read at which its thread stands still */
};

struct event {
	vclock clock;   /* what happens before the event, and the event itself */
	vclock porf;    /* the same, by program order and reads-from alone */
	vclock release; /* of a store: what an acquire of it takes over */
	uint64_t value, read;
	event_id from;
	event_id next_reader, readers; /* the next reader of the same store; the first reader of this one */
	event_id head;  /* of a store: the thread's last release store to the location, this one included; 0 */
	uint32_t location;
	uint32_t stamp, write_stamp;   /* when it was added (graph.c); the write of a half event has its own */
	uint32_t pc, caller;
	uint32_t visited;
	uint16_t index, rank;
	uint8_t thread, flags, order;
};

struct location {
	uint64_t key;      /* its address, or the name of something abstract */
	uint64_t first;    /* its initial value */
	vclock written, read; /* the last event of each thread that wrote, or read, it */
	event_id readers;  /* of the initial value */
	event_id *store;   /* in modification order; store[0] is 0 */
	event_id head[THREADS];
	uint16_t count, room;
	uint8_t size;
	bool memory;       /* the newest value is also in memory */
};

/* The accesses to the bytes of `mask` of one word in this execution. Cells of the word's other bytes are chained. */
struct cell {
	uint32_t execution;
	uint32_t location; /* of atomics on exactly these bytes; 0: none */
	vclock read;       /* plain reads: of each thread, the index of its next event at the time */
	uint32_t write_pc, read_pc;
	uint32_t next;     /* in rt.cells; 0: none */
	uint16_t written;  /* the last plain write */
	uint8_t writer;
	uint8_t mask;
	bool logged;       /* the word is in the undo log (first cell only) */
	bool freed;
};

struct undo {
	uint64_t *word, old;
};

struct block {
	uint64_t start;
	uint32_t size;
	uint32_t alloc_pc, free_pc;
	int8_t freed_by;
	bool freed;
};

enum operation {
	OP_START, OP_LOAD, OP_STORE, OP_RMW, OP_CAS, OP_FENCE, OP_CHOOSE, OP_AWAIT, OP_AWAIT_RMW, OP_TRY, OP_PAUSE
};

/* The operation that a thread does next. */
struct op {
	enum operation kind;
	uint8_t size;
	uint8_t order, fail_order;
	bool abstract;      /* `address` is the key of an abstract location */
	bool weakened;
	uint64_t address;
	uint64_t operand;   /* what is stored, added, ...; CHOOSE: how many choices */
	uint64_t expected;  /* of a CAS */
	uint64_t (*change)(uint64_t old, uint64_t operand);
	bool (*ready)(uint64_t value, uint64_t operand); /* AWAIT: may the thread go on? */
	const char *waits_for; /* AWAIT: a word for messages; NULL: the thread may wait for ever */
	int shown;          /* how it is traced, enum check_event_kind + 1; 0: as `kind` says; -1: not */
	uint32_t pc, caller;
	uint64_t frame;     /* of the hook: what the thread's code left on the stack is above it; 0: not known */
	bool swapped;       /* result of a CAS */
	event_id event;     /* result: the event that it became */
};

enum thread_state { TH_NONE, TH_RUNS, TH_BLOCKED, TH_DONE };

struct spin_read {
	uint32_t location;
	event_id from;
	bool differs; /* it was read with two values in one turn */
};

/* A load, for finding loops without effect (spin.c). */
struct visit {
	uint32_t pc, location;
	uint64_t frame, state; /* state: of the thread before the load; 0: not known */
	event_id from;
};

struct thread {
	vclock clock, porf, start_clock;
	vclock fence_release; /* at the last release fence */
	vclock fence_acquire; /* what relaxed loads took over, for the next acquire fence */
	void *sp;
	struct op *op;
	enum thread_state state;
	bool probed;         /* it has had its extra turn (graph.c) */
	bool writing;        /* it has done the read of a half event, not the write (graph.c) */
	bool yielded;
	uint16_t count;      /* events */
	uint16_t sc_count;
	uint16_t sc[EVENTS]; /* the indices of its sequentially consistent events */
	unsigned spin_count, turn_count;
	struct spin_read spin[SPIN_READS], turn[SPIN_READS]; /* since the last pause; between the two pauses before */
	bool spin_overflow;
	unsigned visit_count;
	struct visit visit[VISITS]; /* the loads since its last effect */
	uint64_t load_state;        /* before the load that it does now, as in struct visit */
	unsigned depth;
	uint32_t stack[CALL_DEPTH];
	uint64_t arena_used;
	unsigned block_count;
	void (*entry)(void);
};

struct strategy {
	void (*start)(void);                 /* at the start of a search */
	bool (*next)(void);                  /* before each execution; false: the search is over */
	unsigned (*thread)(unsigned ready);  /* which of the ready threads (a mask) goes on */
	/* which of `count` options; `costs`: all but option 0 count as stale */
	unsigned (*option)(unsigned count, bool costs);
	void (*done)(void);                  /* after each execution */
};

struct choice {
	uint8_t thread;
	uint16_t option;
};

enum rt_mode { RT_IDLE, RT_SETUP, RT_THREADS, RT_FINISH };

struct runtime {
	enum rt_mode mode;
	int self;                    /* the running thread; -1: none */
	uint32_t execution;          /* its number, which marks what belongs to it */
	bool tso, graph;             /* is the model TSO; is the strategy CHECK_GRAPH? */
	unsigned stale_left;
	uint32_t stamp;
	uint32_t visit;
	unsigned thread_count;       /* of the scenario */
	unsigned thread_limit;       /* with the threads of check_rcu_call */
	unsigned sc_events;
	uint64_t points;             /* of this execution */
	unsigned plain;              /* plain accesses since the last point */
	volatile bool look;          /* the clock wants to be looked at */
	uint64_t stack_bytes;        /* what is a stack in STACK_BYTES; thread-local variables are above it */
	uint64_t ticks;              /* of all executions; the watchdog looks at it */
	void *main_sp;
	const struct strategy *strategy;
	const struct check_search *search;
	struct check_result *result;

	void **starter;              /* where to go back when a thread has run up to its first operation */
	bool freeing;                /* the current access is a free */
	bool pruned;                 /* check_prune was called */
	bool probing;                /* a probe: nothing that happens counts any more (graph.c) */
	bool ended;                  /* the execution is given up, or failed */
	bool failed, blocked;
	enum check_verdict verdict;
	char message[1024];

	const struct check_weak *weak;
	unsigned weak_count;
	bool collect;

	unsigned choice_count;
	unsigned option_count;
	uint16_t option[OPTIONS];    /* the ranks to choose from, newest first */

	unsigned location_count, store_used, cell_count, undo_count;
	struct thread thread[THREADS + 1]; /* the last is for setup and finish */
	struct block block[THREADS + 1][BLOCKS];
	struct event event[THREADS][EVENTS];
	struct location location[LOCATIONS];
	event_id stores[STORES];
	struct cell cells[1u << 16];
	unsigned setup_count;
	struct undo undo[1u << 20], setup_undo[1u << 20];
	struct choice choices[1u << 18];
	struct { uint64_t key; uint32_t execution, location; } abstract[4096];
};

#define rt (*(struct runtime *)RT_ADDRESS)

static inline struct event *event_of(event_id id)
{
	return &rt.event[EVENT_THREAD(id)][EVENT_INDEX(id)];
}

static inline event_id id_of(const struct event *e)
{
	return EVENT_ID(e->thread, e->index);
}

/* Does `a` happen before `b`, or is it `b`? The initial value happens before everything. */
static inline bool before(event_id a, const struct event *b)
{
	return a == 0 || b->clock[EVENT_THREAD(a)] >= EVENT_INDEX(a);
}

static inline struct thread *self_thread(void)
{
	return &rt.thread[rt.self];
}

/** Where the stack of `thread` begins; it grows down. */
static inline uint64_t fibre_stack_top(unsigned thread)
{
	return STACKS_ADDRESS + thread * STACK_BYTES + rt.stack_bytes;
}

/* ---- sched.c ---- */

/** End the execution as a violation. */
_Noreturn void rt_fail(enum check_verdict verdict, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** The same from outside the threads; it returns. */
void rt_fail_note(enum check_verdict verdict, const char *format, va_list args);
/** End the execution without a verdict. `blocked`: it waits for something that only another execution has. */
_Noreturn void rt_give_up(bool blocked);
/** Let another thread go first, if the strategy says so; self_thread()->op is what this thread does next. */
void rt_point(void);
/** Begin thread `thread`; what `clock` says happens before. */
void rt_begin_thread(unsigned thread, void (*entry)(void), vclock clock, vclock porf);
/** Run one execution, from restoring memory to the final checks. */
void rt_execute(void);
bool rt_setup(void); /* returns: false when it failed */

/* ---- start.c ---- */

extern bool rt_is_up; /* does struct runtime exist? */

/** Map zeroed memory without reserving it. Ends the program when there is none. */
void *rt_map(uint64_t bytes);

/* ---- the strategies ---- */
extern const struct strategy graph_strategy, dfs_strategy, random_strategy, pct_strategy, replay_strategy;

#endif
