/* SPDX-License-Identifier: MIT */
/*
 * Sleepable RCU: readers may sleep, and a grace period waits only for the readers of its own domain. One domain per VM
 * protects the memslots. As in Linux's classic SRCU there are two banks of counters. A reader counts itself into the
 * current bank; a grace period flips the bank and waits until the old one is empty.
 *
 * Readers count on stripes, so that vCPUs do not share a cache line.
 */
#ifndef CORE_SYNC_SRCU_H
#define CORE_SYNC_SRCU_H

#include "core/base/types.h"
#include "core/sync/mutex.h"

#define SRCU_STRIPES READER_STRIPES

struct srcu_stripe {
	uint64_t entered[2]; /* readers that came into each bank, ever */
	uint64_t left[2];    /* readers that went */
} cacheline;

struct srcu {
	struct srcu_stripe stripe[SRCU_STRIPES];
	uint32_t bank;    /* low bit: where new readers count. The grace period writes it, under `writers` */
	uint32_t waiting; /* a grace period sleeps, or is about to */
	uint32_t event;   /* the grace period sleeps on it; a leaving reader that saw `waiting` moves it */
	struct mutex writers;
};

/* Proof of being inside a read section; only srcu_read_lock makes one. */
struct srcu_read {
	struct srcu_stripe *stripe;
	unsigned bank;
};

void srcu_init(struct srcu *srcu);

/**
 * Enter a read section. `hint`: any number that differs between threads that run at the same time, such as a vCPU's
 * id. Sections may nest, each with its own token. Never sleeps.
 */
struct srcu_read srcu_read_lock(struct srcu *srcu, unsigned hint);
void srcu_read_unlock(struct srcu *srcu, struct srcu_read token);

/**
 * Wait until every read section that was open at the call has closed.
 * Holds: neither a read section of this domain, nor a lock that a reader may wait for. Sleeps.
 */
void srcu_synchronize(struct srcu *srcu);

#endif
