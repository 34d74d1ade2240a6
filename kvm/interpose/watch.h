/* SPDX-License-Identifier: MIT */
/* Tells `vmmu run` that somebody asked for /dev/kvm. Otherwise `vmmu run` says that nobody did. */
#ifndef VMMU_KVM_WATCH_H
#define VMMU_KVM_WATCH_H

/** Called whenever /dev/kvm is opened or looked for. Acts once in a process. Takes no lock, allocates nothing. */
void watch_tell(void);

#endif
