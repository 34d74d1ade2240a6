/* SPDX-License-Identifier: MIT */
/* The locks by themselves, with the library's own code: mutex, mmu_lock, SRCU, and the port's wait and wake. */
#include "check/scenario/world.h"

static uint64_t shared; /* plain: what the lock protects */
static struct mutex mutex;
static struct vm vm;

static void setup_mutex(void)
{
	abstract_init(REAL_MUTEX);
}

static void setup_mutex_spin(void)
{
	abstract_init(REAL_MUTEX | SPIN_ONCE);
}

static void lock_once(void)
{
	mutex_lock(&mutex);
	shared++;
	mutex_unlock(&mutex);
}

static void lock_twice(void)
{
	lock_once();
	lock_once();
}

static void finish_mutex(void)
{
	check_assert(shared == 3 && !mutex.word);
}

/*
 * Three threads lock once each. One thread holds the mutex at a time, sees what the holder before it
 * wrote, and a sleeper is woken.
 */
SCENARIO(mutex_vs_itself, .protocol = "",
         .claim = "one thread holds the mutex and sees what the last holder wrote; a sleeping thread is woken",
         .threads = 3, .setup = setup_mutex, .thread = { lock_once, lock_once, lock_once }, .finish = finish_mutex);

static void finish_mutex_two(void)
{
	check_assert(shared == 2 && !mutex.word);
}

/* Two threads that look at the word once more before they sleep. */
SCENARIO(mutex_spin_vs_itself, .protocol = "",
         .claim = "the mutex excludes and wakes threads that look once more before they sleep",
         .threads = 2, .setup = setup_mutex_spin, .thread = { lock_once, lock_once }, .finish = finish_mutex_two);

/* One thread locks twice in a row, the other once. */
SCENARIO(mutex_vs_relock, .protocol = "",
         .claim = "the mutex excludes and wakes threads when a holder takes it again at once",
         .threads = 2, .setup = setup_mutex, .thread = { lock_once, lock_twice }, .finish = finish_mutex);

/* --- mmu_lock --- */

static void setup_mmu_lock(void)
{
	abstract_init(REAL_MMU_LOCK);
	mmu_lock_init(&vm.mmu_lock);
}

static void setup_mmu_lock_spin(void)
{
	abstract_init(REAL_MMU_LOCK | SPIN_ONCE);
	mmu_lock_init(&vm.mmu_lock);
}

static void setup_mmu_lock_whole(void)
{
	abstract_init(REAL_MMU_LOCK | REAL_MUTEX);
	mmu_lock_init(&vm.mmu_lock);
}

static void read_on(unsigned hint)
{
	struct mmu_read token = mmu_read_lock(&vm, hint);

	check_assert(shared % 2 == 0);
	mmu_read_unlock(&token);
}

static void read_0(void)
{
	read_on(0);
}

static void read_0_twice(void)
{
	read_on(0);
	read_on(0);
}

static void read_1(void)
{
	read_on(1);
}

static void write_once(void)
{
	struct mmu_write token = mmu_write_lock(&vm);

	shared++;
	shared++;
	mmu_write_unlock(&token);
}

static void write_twice(void)
{
	write_once();
	write_once();
}

static void write_and_yield(void)
{
	struct mmu_write token = mmu_write_lock(&vm);

	shared++;
	shared++;
	mmu_yield(&token.token);
	shared++;
	shared++;
	mmu_write_unlock(&token);
}

static unsigned passed; /* plain: changes with mmu_lock held for write */

static void write_beside_a_waiter(void)
{
	struct mmu_write token = mmu_write_lock(&vm);

	if (load_relaxed(&vm.mmu_lock.waiters))
		check_assert(++passed <= 1);
	mmu_write_unlock(&token);
}

static void write_three_times_beside_a_waiter(void)
{
	write_beside_a_waiter();
	write_beside_a_waiter();
	write_beside_a_waiter();
}

static void finish_mmu_lock(void)
{
	check_assert(shared % 2 == 0 && !vm.mmu_lock.writer && !vm.mmu_lock.waiters);
	for (unsigned i = 0; i < MMU_LOCK_STRIPES; i++)
		check_assert(!vm.mmu_lock.stripe[i].readers);
}

/* A reader and a writer. They exclude each other, and each is woken by the other. */
SCENARIO(mmu_lock_read_vs_write, .protocol = "", .claim = "a reader and a writer exclude and wake each other",
         .threads = 2, .setup = setup_mmu_lock, .thread = { read_0, write_once }, .finish = finish_mmu_lock);

/* The same for threads that look at the lock once more before they sleep. */
SCENARIO(mmu_lock_spin_read_vs_write, .protocol = "",
         .claim = "a reader and a writer that look once more before they sleep exclude and wake each other",
         .threads = 2, .setup = setup_mmu_lock_spin, .thread = { read_0, write_once }, .finish = finish_mmu_lock);

/* A reader and a writer that take the lock twice each. */
SCENARIO(mmu_lock_reads_vs_writes, .protocol = "",
         .claim = "a reader and a writer that take the lock twice exclude and wake each other",
         .threads = 2, .setup = setup_mmu_lock, .thread = { read_0_twice, write_twice }, .finish = finish_mmu_lock);

/* Two readers on different stripes and a writer. The writer waits for both. */
SCENARIO(mmu_lock_two_reads_vs_write, .protocol = "", .claim = "a writer waits for the readers of every stripe",
         .threads = 3, .setup = setup_mmu_lock, .thread = { read_0, read_1, write_once }, .finish = finish_mmu_lock);

/* Two writers, with the library's own mutex inside. They exclude each other. */
SCENARIO(mmu_lock_write_vs_write, .protocol = "", .claim = "two writers exclude each other",
         .threads = 2, .setup = setup_mmu_lock_whole, .thread = { write_once, write_once }, .finish = finish_mmu_lock);

/* Two writers and a reader. The writers exclude each other, and the reader gets the lock in the end. */
SCENARIO(mmu_lock_writes_vs_read, .protocol = "", .claim = "two writers exclude each other, and a reader gets its turn",
         .threads = 3, .setup = setup_mmu_lock, .thread = { write_once, write_once, read_0 },
         .finish = finish_mmu_lock);

/*
 * A reader and a thread that takes the lock for write three times. Once the reader waits, at most one write passes
 * it.
 */
SCENARIO(mmu_lock_reader_that_waits_vs_writes, .protocol = "", .claim = "at most one write passes a reader that waits",
         .threads = 2, .setup = setup_mmu_lock, .thread = { read_0, write_three_times_beside_a_waiter },
         .finish = finish_mmu_lock);

/* The same with two writing threads. */
SCENARIO(mmu_lock_reader_that_waits_vs_two_writers, .protocol = "",
         .claim = "at most one write passes a reader that waits, with two threads that write",
         .threads = 3, .setup = setup_mmu_lock, .thread = { read_0, write_beside_a_waiter, write_beside_a_waiter },
         .finish = finish_mmu_lock);

/*
 * A writer that yields in between, and a reader. The reader sees only whole writes, and the writer gets the lock
 * back.
 */
SCENARIO(mmu_lock_yield_vs_read, .protocol = "",
         .claim = "a writer that yields gets the lock back, and a reader sees only whole writes",
         .threads = 2, .setup = setup_mmu_lock, .thread = { write_and_yield, read_0 }, .finish = finish_mmu_lock);

/* --- SRCU --- */

static struct srcu srcu;
static struct thing {
	uint64_t value;
} things[3], *current;

static void setup_srcu(void)
{
	abstract_init(REAL_SRCU);
	srcu_init(&srcu);
	current = &things[0];
}

static void setup_srcu_whole(void)
{
	setup_srcu();
	abstract_init(REAL_SRCU | REAL_MUTEX);
}

/* As in memslots_active, the first load of a section is sequentially consistent. */
static void reader_on(unsigned hint)
{
	struct srcu_read token = srcu_read_lock(&srcu, hint);
	const struct thing *thing = load_seqcst(&current);

	check_assert(thing->value == 0);
	srcu_read_unlock(&srcu, token);
}

static void reader_0(void)
{
	reader_on(0);
}

static void reader_0_twice(void)
{
	reader_on(0);
	reader_on(0);
}

static void reader_1(void)
{
	reader_on(1);
}

/* Publish another thing. After the grace period the old one belongs to this thread, which writes it plainly. */
static void replace(unsigned from, unsigned to)
{
	store_release(&current, &things[to]);
	srcu_synchronize(&srcu);
	things[from].value = 1;
}

static void replace_once(void)
{
	replace(0, 1);
}

static void replace_twice(void)
{
	replace(0, 1);
	replace(1, 2);
}

static void synchronize(void)
{
	srcu_synchronize(&srcu);
}

static void finish_srcu(void)
{
	check_assert(!srcu.waiting);
	for (unsigned bank = 0; bank < 2; bank++) {
		uint64_t readers = 0;

		for (unsigned i = 0; i < SRCU_STRIPES; i++)
			readers += srcu.stripe[i].entered[bank] - srcu.stripe[i].left[bank];
		check_assert(!readers);
	}
}

/*
 * SRCU. A reader, and a thread that publishes and waits. The grace period lasts until the reader has left, a later
 * reader sees what was published, and the waiting thread is woken.
 */
SCENARIO(srcu_read_vs_synchronize, .protocol = "SRCU",
         .claim = "a grace period waits for a reader; a later reader sees what was published; the waiting "
                  "thread is woken",
         .threads = 2, .setup = setup_srcu, .thread = { reader_0, replace_once }, .finish = finish_srcu);

/* SRCU. The same with readers on both stripes. */
SCENARIO(srcu_two_reads_vs_synchronize, .protocol = "SRCU",
         .claim = "a grace period waits for the readers of every stripe",
         .threads = 3, .setup = setup_srcu, .thread = { reader_0, reader_1, replace_once }, .finish = finish_srcu);

/*
 * SRCU. A reader beside two grace periods in a row. The reader may read the bank's number before the first one and
 * count itself in that bank late; it is waited for all the same.
 */
SCENARIO(srcu_read_vs_two_synchronize, .protocol = "SRCU",
         .claim = "a grace period waits for a reader that counts itself late, in the previous bank",
         .threads = 2, .setup = setup_srcu, .thread = { reader_0, replace_twice }, .finish = finish_srcu);

/*
 * SRCU. Two sections in a row beside two grace periods in a row. Readers that come and go never
 * make a busy bank look empty.
 */
SCENARIO(srcu_reads_vs_two_synchronize, .protocol = "SRCU",
         .claim = "readers that come and go never make a busy bank look empty",
         .threads = 2, .setup = setup_srcu, .thread = { reader_0_twice, replace_twice }, .finish = finish_srcu);

/* SRCU. Two threads wait for grace periods beside a reader, with the library's own mutex inside. */
SCENARIO(srcu_synchronize_vs_synchronize, .protocol = "SRCU",
         .claim = "two threads can wait for grace periods beside a reader",
         .threads = 3, .setup = setup_srcu_whole, .thread = { reader_0, replace_once, synchronize },
         .finish = finish_srcu);

/* SRCU. The same with the checker's mutex: one grace period at a time. */
SCENARIO(srcu_synchronize_after_synchronize, .protocol = "SRCU", .claim = "one grace period runs at a time",
         .threads = 3, .setup = setup_srcu, .thread = { reader_0, replace_once, synchronize }, .finish = finish_srcu);

/* --- wait and wake --- */

static uint32_t word;

static void setup_wait(void)
{
	abstract_init(0);
}

static void wait_for_word(void)
{
	while (!load_acquire(&word))
		port_wait(&word, 0);
	check_assert(shared == 1);
}

static void set_word(void)
{
	shared = 1;
	store_release(&word, 1);
	port_wake(&word);
}

static void finish_wait(void)
{
	check_assert(word == 1);
}

/* Two threads sleep until the word is set, one sets it and wakes. Neither wake is lost. */
SCENARIO(wait_vs_wake, .protocol = "", .claim = "a wake that follows a store is never lost",
         .threads = 3, .setup = setup_wait, .thread = { wait_for_word, wait_for_word, set_word },
         .finish = finish_wait);
