/* SPDX-License-Identifier: MIT */
/* C11's threads, made of POSIX threads: glibc's types are the same underneath. Instrumented, like threads.c. */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <threads.h>

#include "check/check.h"
#include "check/tool/shim.h"

int SHIM(pthread_mutex_lock)(pthread_mutex_t *mutex);
int SHIM(pthread_mutex_trylock)(pthread_mutex_t *mutex);
int SHIM(pthread_mutex_timedlock)(pthread_mutex_t *mutex, const struct timespec *until);
int SHIM(pthread_mutex_unlock)(pthread_mutex_t *mutex);
int SHIM(pthread_cond_wait)(pthread_cond_t *cond, pthread_mutex_t *mutex);
int SHIM(pthread_cond_timedwait)(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until);
int SHIM(pthread_cond_signal)(pthread_cond_t *cond);
int SHIM(pthread_cond_broadcast)(pthread_cond_t *cond);
int SHIM(pthread_create)(pthread_t *to, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
int SHIM(pthread_join)(pthread_t thread, void **result);
void SHIM(pthread_exit)(void *result);
pthread_t SHIM(pthread_self)(void);
int SHIM(pthread_key_create)(pthread_key_t *key, void (*destroy)(void *));
int SHIM(pthread_key_delete)(pthread_key_t key);
void *SHIM(pthread_getspecific)(pthread_key_t key);
int SHIM(pthread_setspecific)(pthread_key_t key, const void *value);

struct call {
	thrd_start_t fn;
	void *arg;
};

static int result_of(int error)
{
	switch (error) {
	case 0: return thrd_success;
	case EBUSY: return thrd_busy;
	case ETIMEDOUT: return thrd_timedout;
	default: return thrd_error;
	}
}

static void *call_run(void *arg)
{
	struct call call = *(struct call *)arg;

	check_free(arg);
	check_thread_shows((const void *)(uintptr_t)call.fn);
	return (void *)(intptr_t)call.fn(call.arg);
}

int SHIM(thrd_create)(thrd_t *to, thrd_start_t fn, void *arg)
{
	struct call *call = check_alloc(sizeof(*call), 8);

	call->fn = fn;
	call->arg = arg;
	return result_of(SHIM(pthread_create)((pthread_t *)to, NULL, call_run, call));
}

int SHIM(thrd_join)(thrd_t thread, int *result)
{
	void *value;
	int error = SHIM(pthread_join)((pthread_t)thread, &value);

	if (!error && result)
		*result = (int)(intptr_t)value;
	return result_of(error);
}

_Noreturn void SHIM(thrd_exit)(int result)
{
	SHIM(pthread_exit)((void *)(intptr_t)result);
	__builtin_unreachable();
}

int SHIM(thrd_detach)(thrd_t thread) { (void)thread; return thrd_success; }
thrd_t SHIM(thrd_current)(void) { return (thrd_t)SHIM(pthread_self)(); }
void SHIM(thrd_yield)(void) { check_yield(); }
int SHIM(thrd_sleep)(const struct timespec *time, struct timespec *left) { (void)time; (void)left; return 0; }

static pthread_mutex_t *mutex_of(mtx_t *mutex) { return (pthread_mutex_t *)(void *)mutex; }
static pthread_cond_t *cond_of(cnd_t *cond) { return (pthread_cond_t *)(void *)cond; }

int SHIM(mtx_init)(mtx_t *mutex, int type)
{
	memset(mutex, 0, sizeof(*mutex));
	if (type & mtx_recursive)
		mutex_of(mutex)->__data.__kind = PTHREAD_MUTEX_RECURSIVE;
	return thrd_success;
}

void SHIM(mtx_destroy)(mtx_t *mutex) { (void)mutex; }
int SHIM(mtx_lock)(mtx_t *mutex) { return result_of(SHIM(pthread_mutex_lock)(mutex_of(mutex))); }
int SHIM(mtx_trylock)(mtx_t *mutex) { return result_of(SHIM(pthread_mutex_trylock)(mutex_of(mutex))); }
int SHIM(mtx_unlock)(mtx_t *mutex) { return result_of(SHIM(pthread_mutex_unlock)(mutex_of(mutex))); }
int SHIM(mtx_timedlock)(mtx_t *mutex, const struct timespec *until)
{
	return result_of(SHIM(pthread_mutex_timedlock)(mutex_of(mutex), until));
}

int SHIM(cnd_init)(cnd_t *cond) { memset(cond, 0, sizeof(*cond)); return thrd_success; }
void SHIM(cnd_destroy)(cnd_t *cond) { (void)cond; }
int SHIM(cnd_signal)(cnd_t *cond) { return result_of(SHIM(pthread_cond_signal)(cond_of(cond))); }
int SHIM(cnd_broadcast)(cnd_t *cond) { return result_of(SHIM(pthread_cond_broadcast)(cond_of(cond))); }
int SHIM(cnd_wait)(cnd_t *cond, mtx_t *mutex)
{
	return result_of(SHIM(pthread_cond_wait)(cond_of(cond), mutex_of(mutex)));
}
int SHIM(cnd_timedwait)(cnd_t *cond, mtx_t *mutex, const struct timespec *until)
{
	return result_of(SHIM(pthread_cond_timedwait)(cond_of(cond), mutex_of(mutex), until));
}

void SHIM(call_once)(once_flag *once, void (*fn)(void))
{
	int *done = (int *)(void *)once;

	check_lock(once, true);
	if (!*done) {
		fn();
		*done = 1;
	}
	check_unlock(once, true);
}

int SHIM(tss_create)(tss_t *key, tss_dtor_t destroy)
{
	return result_of(SHIM(pthread_key_create)((pthread_key_t *)key, destroy));
}
void SHIM(tss_delete)(tss_t key) { SHIM(pthread_key_delete)((pthread_key_t)key); }
void *SHIM(tss_get)(tss_t key) { return SHIM(pthread_getspecific)((pthread_key_t)key); }
int SHIM(tss_set)(tss_t key, void *value)
{
	return result_of(SHIM(pthread_setspecific)((pthread_key_t)key, value));
}
