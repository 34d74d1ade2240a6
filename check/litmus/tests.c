/* SPDX-License-Identifier: MIT */
/*
 * The standard tests. Each has one outcome and says which models allow it. They are from the tables of Alglave,
 * Maranget and Tautschnig ("Herding Cats", TOPLAS 2014), Sarkar and others ("Understanding POWER
 * Multiprocessors", PLDI 2011), Batty and others ("Mathematizing C++ Concurrency", POPL 2011), Lahav and others
 * ("Repairing Sequential Consistency in C/C++11", PLDI 2017), and Owens, Sarkar and Sewell ("A Better x86 Memory
 * Model: x86-TSO", TPHOLs 2009).
 *
 * Load buffering (LB and its kind) with all reads new is forbidden here, although C11's text and ARM
 * allow it: we follow RC11, which forbids cycles of program order and reads-from. That is the price of
 * having no values out of thin air.
 */
#include "check/litmus/tests.h"

const struct litmus litmus_tests[] = {
	/* Store buffering */
	{ "SB", "x=1 y | y=1 x", "00..", C11 | TSO },
	{ "SB, interleaved", "x=1 y | y=1 x", "10..", C11 | TSO },
	{ "SB, release and acquire", "x=1r ya | y=1r xa", "00..", C11 | TSO },
	{ "SB, SC", "x=1s ys | y=1s xs", "00..", 0 },
	{ "SB, SC on one side", "x=1s ys | y=1r xa", "00..", C11 | TSO },
	{ "SB, SC stores, acquire loads", "x=1s ya | y=1s xa", "00..", C11 },
	{ "SB, SC fences", "x=1 Fs y | y=1 Fs x", "00..", 0 },
	{ "SB, one SC fence", "x=1 Fs y | y=1 x", "00..", C11 | TSO },
	{ "SB, acquire-release fences", "x=1 Fq y | y=1 Fq x", "00..", C11 | TSO },
	{ "SB, exchanges", "x<1q y | y<1q x", "00.0..", C11 },
	{ "SB, SC exchanges", "x<1s ys | y<1s xs", "0000..", 0 },
	{ "SB, SC exchanges, relaxed loads", "x<1s y | y<1s x", "0000..", C11 },
	{ "SB, three threads", "x=1 y | y=1 z | z=1 x", "000...", C11 | TSO },
	{ "SB, three threads, SC", "x=1s ys | y=1s zs | z=1s xs", "000...", 0 },
	{ "SB, with forwarding", "x=1 x y | y=1 y x", "1010..", C11 | TSO },
	/* Message passing */
	{ "MP", "x=1 y=1 | y x", "10..", C11 },
	{ "MP, release and acquire", "x=1 y=1r | ya x", "10..", 0 },
	{ "MP, release and acquire, seen", "x=1 y=1r | ya x", "11..", C11 | TSO },
	{ "MP, release and acquire, early", "x=1 y=1r | ya x", "00..", C11 | TSO },
	{ "MP, release only", "x=1 y=1r | y x", "10..", C11 },
	{ "MP, acquire only", "x=1 y=1 | ya x", "10..", C11 },
	{ "MP, fences", "x=1 Fr y=1 | y Fa x", "10..", 0 },
	{ "MP, release fence and acquire", "x=1 Fr y=1 | ya x", "10..", 0 },
	{ "MP, release and acquire fence", "x=1 y=1r | y Fa x", "10..", 0 },
	{ "MP, fences on the wrong side", "Fr x=1 y=1 | Fa y x", "10..", C11 },
	{ "MP, acquire fence too late", "x=1 Fr y=1 | y x Fa", "10..", C11 },
	{ "MP, SC", "x=1s y=1s | ys xs", "10..", 0 },
	{ "MP, by exchange", "x=1 y<1r | ya x", "010..", 0 },
	{ "MP, to an exchange", "x=1 y=1r | y<2a x", "10..", 0 },
	/* Release sequences */
	{ "MP, a read-modify-write carries it on", "x=1 y=1r | y+1 | ya x", "120..", 0 },
	{ "MP, two carry it on", "x=1 y=1r | y+1 | y+1 | ya x", "1230..", 0 },
	{ "MP, another thread's store ends it", "x=1 y=1r | y=2 | ya x", "20.2", C11 },
	{ "MP, the same thread's store does not", "x=1 y=1r y=2 | ya x", "20..", 0 },
	{ "MP, the carrier itself sees nothing", "x=1 y=1r | y+1 x", "10..", C11 },
	{ "MP, a failed swap does not order", "x=1 y=1r | y?0:2q x", "10..", C11 },
	{ "MP, a swap that succeeds does", "x=1 y=1r | y?1:2q x", "10..", 0 },
	{ "MP, a fence before a carrier", "x=1 Fr y=1 | y+1 | ya x", "120..", 0 },
	/* Load buffering */
	{ "LB", "x y=1 | y x=1", "11..", 0 },
	{ "LB, one way", "x y=1 | y x=1", "01..", C11 | TSO },
	{ "LB, neither", "x y=1 | y x=1", "00..", C11 | TSO },
	{ "LB, release and acquire", "xa y=1r | ya x=1r", "11..", 0 },
	/* Independent reads of independent writes */
	{ "IRIW", "x=1 | y=1 | x y | y x", "1010..", C11 },
	{ "IRIW, acquire", "x=1r | y=1r | xa ya | ya xa", "1010..", C11 },
	{ "IRIW, SC", "x=1s | y=1s | xs ys | ys xs", "1010..", 0 },
	{ "IRIW, SC fences between the reads", "x=1 | y=1 | x Fs y | y Fs x", "1010..", 0 },
	{ "IRIW, SC stores and second loads", "x=1s | y=1s | xa ys | ya xs", "1010..", C11 },
	{ "IRIW, acquire fences", "x=1 | y=1 | x Fa y | y Fa x", "1010..", C11 },
	/* Write-to-read causality, and longer chains */
	{ "WRC", "x=1 | x y=1 | y x", "110..", C11 },
	{ "WRC, release and acquire", "x=1 | xa y=1r | ya x", "110..", 0 },
	{ "WRC, relaxed first: reads are coherent too", "x=1 | x y=1r | ya x", "110..", 0 },
	{ "WRC, SC fences", "x=1 | x Fs y=1 | y Fs x", "110..", 0 },
	{ "WWC", "x=2 | x y=1 | y x=1", "212.", C11 },
	{ "WWC, release and acquire", "x=2 | xa y=1r | ya x=1", "212.", 0 },
	{ "ISA2", "x=1 y=1 | y z=1 | z x", "110...", C11 },
	{ "ISA2, release and acquire", "x=1 y=1r | ya z=1r | za x", "110...", 0 },
	{ "ISA2, broken in the middle", "x=1 y=1r | ya z=1 | za x", "110...", C11 },
	{ "RWC", "x=1 | x y | y=1 x", "100..", C11 | TSO },
	{ "RWC, acquire", "x=1r | xa ya | y=1r xa", "100..", C11 | TSO },
	{ "RWC, SC", "x=1s | xs ys | y=1s xs", "100..", 0 },
	{ "RWC, SC fences", "x=1 | x Fs y | y=1 Fs x", "100..", 0 },
	{ "W+RWC", "x=1 y=1 | y z | z=1 x", "100...", C11 | TSO },
	{ "W+RWC, SC fences", "x=1 y=1r | ya Fs z | z=1 Fs x", "100...", 0 },
	{ "Z6.0", "x=1 y=1 | y=2 z | z=1 x", "00.2.", C11 | TSO },
	{ "Z6.3", "x=1 y=1 | y=2 z=1 | z x", "10.2.", C11 },
	{ "Z6.3, SC fences", "x=1 Fs y=1 | y=2 Fs z=1 | z Fs x", "10.2.", 0 },
	{ "Z6.U (RC11)", "x=1s y=1r | y+1s y | y=3s xs", "130..", C11 },
	{ "Z6.U, SC", "x=1s y=1s | y+1s ys | y=3s xs", "130..", 0 },
	/* Two stores against two */
	{ "2+2W", "x=1 y=2 | y=1 x=2", "11", C11 },
	{ "2+2W, release", "x=1r y=2r | y=1r x=2r", "11", C11 },
	{ "2+2W, SC", "x=1s y=2s | y=1s x=2s", "11", 0 },
	{ "2+2W, SC fences", "x=1 Fs y=2 | y=1 Fs x=2", "11", 0 },
	{ "2+2W, release fences", "x=1 Fr y=2 | y=1 Fr x=2", "11", C11 },
	{ "2+2W, in order", "x=1 y=2 | y=1 x=2", "22", C11 | TSO },
	{ "R", "x=1 y=1 | y=2 x", "0.2", C11 | TSO },
	{ "R, release and acquire", "x=1r y=1r | y=2r xa", "0.2", C11 | TSO },
	{ "R, SC", "x=1s y=1s | y=2s xs", "0.2", 0 },
	{ "R, SC fences", "x=1 Fs y=1 | y=2 Fs x", "0.2", 0 },
	{ "S", "x=2 y=1 | y x=1", "12.", C11 },
	{ "S, release and acquire", "x=2 y=1r | ya x=1", "12.", 0 },
	{ "S, acquire only", "x=2 y=1 | ya x=1", "12.", C11 },
	{ "S, fences", "x=2 Fr y=1 | y Fa x=1", "12.", 0 },
	/* Coherence */
	{ "CoRR", "x=1 | x x", "10.", 0 },
	{ "CoRR, allowed", "x=1 | x x", "01.", C11 | TSO },
	{ "CoRR, two readers", "x=1 | x=2 | x x | x x", "1221.", 0 },
	{ "CoRR, acquired", "x=1 y=1r | ya x x", "110..", 0 },
	{ "CoWW", "x=1 x=2", "1", 0 },
	{ "CoWR", "x=1 x | x=2", "0.", 0 },
	{ "CoWR, overtaken", "x=1 x | x=2", "11", C11 | TSO },
	{ "CoWR, another's then one's own", "x=1 x x | x=2", "21.", 0 },
	{ "CoRW", "x x=1 | x=2", "1.", 0 },
	{ "CoRW1", "x x=1 | x=2", "21", C11 | TSO },
	{ "CoRW2", "x x=1 | x=2", "22", 0 },
	{ "CoWR, across threads", "x=1 y=1r | ya x=2 x", "11..", 0 },
	{ "CoWW, across threads", "x=1 y=1r | ya x=2", "11.", 0 },
	/* Atomicity */
	{ "two additions", "x+1 | x+1", "002", 0 },
	{ "two additions, one after the other", "x+1 | x+1", "012", C11 | TSO },
	{ "three additions", "x+1 | x+1 | x+1", "0122", 0 },
	{ "an addition and a store between", "x+1 | x=2", "01", 0 },
	{ "an addition keeps its place", "x=1 | x=2 | x+2", "13", C11 | TSO },
	{ "two locks", "x?0:1 | x?0:2", "00.", 0 },
	{ "two locks, one got it", "x?0:1 | x?0:2", "011", C11 | TSO },
	{ "a swap that fails sees an old value", "x=1 x=2 | x?3:4", "12", C11 | TSO },
	{ "a swap that succeeds on an old value", "x=1 x=2 | x?1:4", "14", 0 },
	{ "exchanges, each takes one", "x<1 | x<2", "001", 0 },
	{ "read-modify-writes do not order others", "y+1 x=1 | x y", "01011", C11 },
	{ "MP over relaxed additions", "x=1 y+1 | y+1 x", "010..", C11 },
	{ "MP over ordered additions", "x=1 y+1q | y+1q x", "010..", 0 },
	/* Where SC accesses meet weaker ones (RC11, section 2) */
	{ "an SC load after a relaxed one", "x=1s y=1 | y xs", "10..", C11 },
	{ "an SC load after an acquiring one", "x=1s y=1r | ya xs", "10..", 0 },
	{ "SB, SC fence against SC accesses", "x=1 Fs y | y=1s xs", "00..", 0 },
	{ "SB, a fence each, SC stores", "x=1s Fs y | y=1s Fs x", "00..", 0 },
};

const unsigned litmus_count = sizeof(litmus_tests) / sizeof(litmus_tests[0]);
