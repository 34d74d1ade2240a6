/* SPDX-License-Identifier: MIT */
/*
 * POSIX threads for a program that is checked as it is. A mutex is an abstract lock of its address; what a type keeps
 * beside that is in its own memory, so it is undone and checked like the program's. This file is instrumented, so that
 * the checker knows who called.
 *
 * glibc's types: all of them begin as zero, and have room for what is kept here.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "check/check.h"
#include "check/tool/shim.h"

#define KEYS 32

/* ---- threads -------------------------------------------------------------------------------------- */

static struct {
	void *(*fn)(void *arg);
	void *arg, *result;
} threads[CHECK_MAX_THREADS];

static struct {
	bool used;
	void (*destroy)(void *value);
} keys[KEYS];

static _Thread_local void *specific[KEYS];

/* pthread_t 0 is nobody. */
static pthread_t handle_of(unsigned thread)
{
	return (pthread_t)thread + 1;
}

static void values_destroy(void)
{
	for (unsigned i = 0; i < KEYS; i++) {
		void *value = specific[i];

		specific[i] = NULL;
		if (value && keys[i].destroy)
			keys[i].destroy(value);
	}
}

static void thread_run(void *arg)
{
	unsigned self = (unsigned)check_self();

	(void)arg;
	threads[self].result = threads[self].fn(threads[self].arg);
	values_destroy();
}

/* The new thread's part of `threads` is written before it begins, and its number is known only then. */
struct beginning {
	void *(*fn)(void *arg);
	void *arg;
};

static void thread_begin(void *arg)
{
	struct beginning beginning = *(struct beginning *)arg;

	check_free(arg);
	threads[check_self()].fn = beginning.fn;
	threads[check_self()].arg = beginning.arg;
	check_thread_shows((const void *)(uintptr_t)beginning.fn);
	thread_run(NULL);
}

int SHIM(pthread_create)(pthread_t *to, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	struct beginning *beginning = check_alloc(sizeof(*beginning), 8);

	(void)attr;
	beginning->fn = fn;
	beginning->arg = arg;
	*to = handle_of(check_thread_begin(thread_begin, beginning));
	return 0;
}

int SHIM(pthread_join)(pthread_t thread, void **result)
{
	unsigned number = (unsigned)thread - 1;

	if (number >= CHECK_MAX_THREADS)
		return ESRCH;
	if ((int)number == check_self())
		return EDEADLK;
	check_thread_join(number);
	if (result)
		*result = threads[number].result;
	return 0;
}

void SHIM(pthread_exit)(void *result)
{
	threads[check_self()].result = result;
	values_destroy();
	check_thread_exit();
}

int SHIM(pthread_detach)(pthread_t thread) { (void)thread; return 0; }
pthread_t SHIM(pthread_self)(void) { return handle_of((unsigned)check_self()); }
int SHIM(pthread_yield)(void) { check_yield(); return 0; }
int SHIM(sched_yield)(void) { check_yield(); return 0; }
int SHIM(pthread_setname_np)(pthread_t thread, const char *name) { (void)thread; (void)name; return 0; }

int SHIM(pthread_cancel)(pthread_t thread)
{
	(void)thread;
	check_fail("pthread_cancel is not modelled");
}

int SHIM(pthread_kill)(pthread_t thread, int signal)
{
	(void)thread;
	(void)signal;
	check_fail("pthread_kill is not modelled");
}

int SHIM(pthread_key_create)(pthread_key_t *key, void (*destroy)(void *))
{
	for (unsigned i = 0; i < KEYS; i++)
		if (!keys[i].used) {
			keys[i].used = true;
			keys[i].destroy = destroy;
			*key = i;
			return 0;
		}
	return EAGAIN;
}

int SHIM(pthread_key_delete)(pthread_key_t key)
{
	if (key >= KEYS)
		return EINVAL;
	keys[key].used = false;
	return 0;
}

void *SHIM(pthread_getspecific)(pthread_key_t key) { return key < KEYS ? specific[key] : NULL; }

int SHIM(pthread_setspecific)(pthread_key_t key, const void *value)
{
	if (key >= KEYS)
		return EINVAL;
	specific[key] = (void *)(uintptr_t)value;
	return 0;
}

int SHIM(pthread_once)(pthread_once_t *once, void (*fn)(void))
{
	check_lock(once, true);
	if (!*once) {
		fn();
		*once = 1;
	}
	check_unlock(once, true);
	return 0;
}

/* ---- mutexes -------------------------------------------------------------------------------------- */

static int kind_of(const pthread_mutex_t *mutex)
{
	return mutex->__data.__kind & 3;
}

int SHIM(pthread_mutex_init)(pthread_mutex_t *mutex, const pthread_mutexattr_t *attr)
{
	int kind = PTHREAD_MUTEX_NORMAL;

	memset(mutex, 0, sizeof(*mutex));
	if (attr)
		pthread_mutexattr_gettype(attr, &kind);
	mutex->__data.__kind = kind;
	return 0;
}

/* A mutex that its thread has: another lock of it is counted, refused, or a deadlock that the checker reports. */
static bool lock_again(pthread_mutex_t *mutex, int *error)
{
	if (kind_of(mutex) == PTHREAD_MUTEX_NORMAL || !check_lock_held(mutex, true))
		return false;
	*error = kind_of(mutex) == PTHREAD_MUTEX_RECURSIVE ? 0 : EDEADLK;
	mutex->__data.__count += !*error;
	return true;
}

int SHIM(pthread_mutex_lock)(pthread_mutex_t *mutex)
{
	int error;

	if (lock_again(mutex, &error))
		return error;
	check_lock(mutex, true);
	return 0;
}

int SHIM(pthread_mutex_trylock)(pthread_mutex_t *mutex)
{
	int error;

	if (lock_again(mutex, &error))
		return error ? EBUSY : 0;
	if (check_lock_held(mutex, true))
		return EBUSY;
	return check_trylock(mutex, true) ? 0 : EBUSY;
}

int SHIM(pthread_mutex_unlock)(pthread_mutex_t *mutex)
{
	if (kind_of(mutex) == PTHREAD_MUTEX_ERRORCHECK && !check_lock_held(mutex, true))
		return EPERM;
	if (kind_of(mutex) == PTHREAD_MUTEX_RECURSIVE && mutex->__data.__count) {
		mutex->__data.__count--;
		return 0;
	}
	check_unlock(mutex, true);
	return 0;
}

/* A thread's wait with a time limit ends by it at most once in an execution, as one of two choices. */
static _Thread_local bool timed_out;

static bool time_is_up(void)
{
	if (timed_out)
		return false;
	timed_out = check_choose(2) == 1;
	return timed_out;
}

int SHIM(pthread_mutex_timedlock)(pthread_mutex_t *mutex, const struct timespec *until)
{
	(void)until;
	if (time_is_up() && SHIM(pthread_mutex_trylock)(mutex) != 0)
		return ETIMEDOUT;
	return check_lock_held(mutex, true) ? 0 : SHIM(pthread_mutex_lock)(mutex);
}

int SHIM(pthread_mutex_destroy)(pthread_mutex_t *mutex)
{
	if (check_lock_held(mutex, true))
		check_fail("a mutex is destroyed while its thread holds it");
	return 0;
}

int SHIM(pthread_spin_init)(pthread_spinlock_t *lock, int shared) { (void)shared; *(volatile int *)lock = 0; return 0; }
int SHIM(pthread_spin_destroy)(pthread_spinlock_t *lock) { (void)lock; return 0; }
int SHIM(pthread_spin_lock)(pthread_spinlock_t *lock) { check_lock((const void *)lock, true); return 0; }
int SHIM(pthread_spin_unlock)(pthread_spinlock_t *lock) { check_unlock((const void *)lock, true); return 0; }
int SHIM(pthread_spin_trylock)(pthread_spinlock_t *lock)
{
	return check_trylock((const void *)lock, true) ? 0 : EBUSY;
}

int SHIM(pthread_rwlock_init)(pthread_rwlock_t *lock, const pthread_rwlockattr_t *attr)
{
	(void)attr;
	memset(lock, 0, sizeof(*lock));
	return 0;
}

int SHIM(pthread_rwlock_destroy)(pthread_rwlock_t *lock) { (void)lock; return 0; }
int SHIM(pthread_rwlock_rdlock)(pthread_rwlock_t *lock) { check_lock(lock, false); return 0; }
int SHIM(pthread_rwlock_wrlock)(pthread_rwlock_t *lock) { check_lock(lock, true); return 0; }
int SHIM(pthread_rwlock_tryrdlock)(pthread_rwlock_t *lock) { return check_trylock(lock, false) ? 0 : EBUSY; }
int SHIM(pthread_rwlock_trywrlock)(pthread_rwlock_t *lock) { return check_trylock(lock, true) ? 0 : EBUSY; }
int SHIM(pthread_rwlock_unlock)(pthread_rwlock_t *lock) { check_unlock(lock, check_lock_held(lock, true)); return 0; }

/* ---- conditions ----------------------------------------------------------------------------------- */

/* Threads queue before they let go of the mutex. A signal wakes one of them, any; each is an execution. */
struct condition {
	uint32_t queue; /* a bit for each thread */
};

static uint32_t woken[CHECK_MAX_THREADS];

static struct condition *condition_of(pthread_cond_t *cond)
{
	return (struct condition *)(void *)cond;
}

int SHIM(pthread_cond_init)(pthread_cond_t *cond, const pthread_condattr_t *attr)
{
	(void)attr;
	memset(cond, 0, sizeof(*cond));
	return 0;
}

int SHIM(pthread_cond_destroy)(pthread_cond_t *cond)
{
	check_lock(cond, true);
	if (condition_of(cond)->queue)
		check_fail("a condition is destroyed while threads wait for it");
	check_unlock(cond, true);
	return 0;
}

int SHIM(pthread_cond_wait)(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
	unsigned self = (unsigned)check_self();

	if (!check_lock_held(mutex, true))
		check_fail("pthread_cond_wait without its mutex");
	check_lock(cond, true);
	condition_of(cond)->queue |= 1u << self;
	__atomic_store_n(&woken[self], 0, __ATOMIC_RELAXED);
	check_unlock(cond, true);
	check_unlock(mutex, true);
	while (!__atomic_load_n(&woken[self], __ATOMIC_ACQUIRE))
		check_wait(&woken[self], 0);
	check_lock(mutex, true);
	return 0;
}

int SHIM(pthread_cond_timedwait)(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until)
{
	(void)until;
	if (!time_is_up())
		return SHIM(pthread_cond_wait)(cond, mutex);
	check_unlock(mutex, true);
	check_lock(mutex, true);
	return ETIMEDOUT;
}

static void wake(struct condition *condition, unsigned skip)
{
	uint32_t queue = condition->queue, *word;

	while (skip--)
		queue &= queue - 1;
	condition->queue &= ~(queue & -queue);
	word = &woken[__builtin_ctz(queue)];
	__atomic_store_n(word, 1, __ATOMIC_RELEASE);
	check_wake(word);
}

int SHIM(pthread_cond_signal)(pthread_cond_t *cond)
{
	struct condition *condition = condition_of(cond);
	unsigned waiting;

	check_lock(cond, true);
	waiting = (unsigned)__builtin_popcount(condition->queue);
	if (waiting)
		wake(condition, waiting > 1 ? check_choose(waiting) : 0);
	check_unlock(cond, true);
	return 0;
}

int SHIM(pthread_cond_broadcast)(pthread_cond_t *cond)
{
	check_lock(cond, true);
	while (condition_of(cond)->queue)
		wake(condition_of(cond), 0);
	check_unlock(cond, true);
	return 0;
}

/* ---- barriers and semaphores ---------------------------------------------------------------------- */

struct barrier {
	uint32_t wanted, arrived, generation;
};

int SHIM(pthread_barrier_init)(pthread_barrier_t *barrier, const pthread_barrierattr_t *attr, unsigned count)
{
	struct barrier *b = (struct barrier *)(void *)barrier;

	(void)attr;
	*b = (struct barrier){ .wanted = count };
	return count ? 0 : EINVAL;
}

int SHIM(pthread_barrier_destroy)(pthread_barrier_t *barrier) { (void)barrier; return 0; }

int SHIM(pthread_barrier_wait)(pthread_barrier_t *barrier)
{
	struct barrier *b = (struct barrier *)(void *)barrier;
	uint32_t generation;

	check_lock(barrier, true);
	generation = __atomic_load_n(&b->generation, __ATOMIC_RELAXED);
	if (++b->arrived == b->wanted) {
		b->arrived = 0;
		__atomic_store_n(&b->generation, generation + 1, __ATOMIC_RELEASE);
		check_unlock(barrier, true);
		check_wake(&b->generation);
		return PTHREAD_BARRIER_SERIAL_THREAD;
	}
	check_unlock(barrier, true);
	while (__atomic_load_n(&b->generation, __ATOMIC_ACQUIRE) == generation)
		check_wait(&b->generation, generation);
	return 0;
}

static uint32_t *count_of(sem_t *sem)
{
	return (uint32_t *)(void *)sem;
}

int SHIM(sem_init)(sem_t *sem, int shared, unsigned value)
{
	(void)shared;
	__atomic_store_n(count_of(sem), value, __ATOMIC_RELAXED);
	return 0;
}

int SHIM(sem_destroy)(sem_t *sem) { (void)sem; return 0; }

int SHIM(sem_trywait)(sem_t *sem)
{
	uint32_t count = __atomic_load_n(count_of(sem), __ATOMIC_RELAXED);

	while (count)
		if (__atomic_compare_exchange_n(count_of(sem), &count, count - 1, false, __ATOMIC_ACQUIRE,
		                                __ATOMIC_RELAXED))
			return 0;
	errno = EAGAIN;
	return -1;
}

int SHIM(sem_wait)(sem_t *sem)
{
	while (SHIM(sem_trywait)(sem))
		check_wait(count_of(sem), 0);
	return 0;
}

int SHIM(sem_post)(sem_t *sem)
{
	__atomic_fetch_add(count_of(sem), 1, __ATOMIC_RELEASE);
	check_wake(count_of(sem));
	return 0;
}

int SHIM(sem_getvalue)(sem_t *sem, int *value)
{
	*value = (int)__atomic_load_n(count_of(sem), __ATOMIC_RELAXED);
	return 0;
}
