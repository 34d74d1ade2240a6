// SPDX-License-Identifier: MIT

// A virtual machine monitor in Go: system calls without libc, threads by clone, preemption by signals. Two vCPUs write
// to a port until each has done so often enough. Exits with 0 when all is as on KVM.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const (
	getAPIVersion       = 0xae00
	createVM            = 0xae01
	getVCPUMmapSize     = 0xae04
	createVCPU          = 0xae41
	setUserMemoryRegion = 0x4020ae46
	run                 = 0xae80
	setRegs             = 0x4090ae82
	getSregs            = 0x8138ae83
	setSregs            = 0x4138ae84
	exitIO              = 2
	exitHlt             = 5
	exits               = 2000
)

type region struct {
	slot, flags            uint32
	guest, size, userspace uint64
}

type regs struct {
	_           [16]uint64
	rip, rflags uint64
}

func need(what string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(1)
	}
}

func ioctl(fd int, request, argument uintptr) (int, error) {
	r, _, e := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), request, argument)
	if e != 0 {
		return -1, e
	}
	return int(r), nil
}

func vcpu(vm, size, id int) {
	runtime.LockOSThread()
	fd, err := ioctl(vm, createVCPU, uintptr(id))
	need("KVM_CREATE_VCPU", err)
	page, err := syscall.Mmap(fd, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	need("mmap of the vCPU", err)
	var s [0x138]byte
	_, err = ioctl(fd, getSregs, uintptr(unsafe.Pointer(&s)))
	need("KVM_GET_SREGS", err)
	for i := 0; i < 8; i++ { // cs.base
		s[i] = 0
	}
	s[12], s[13] = 0, 0 // cs.selector
	_, err = ioctl(fd, setSregs, uintptr(unsafe.Pointer(&s)))
	need("KVM_SET_SREGS", err)
	r := regs{rip: 0x1000, rflags: 2}
	_, err = ioctl(fd, setRegs, uintptr(unsafe.Pointer(&r)))
	need("KVM_SET_REGS", err)
	for i := 0; i < exits; {
		_, err = ioctl(fd, run, 0)
		if err == syscall.EINTR { // Go interrupts its threads, to run another goroutine
			continue
		}
		need("KVM_RUN", err)
		if page[8] != exitIO {
			need("KVM_RUN", fmt.Errorf("exit %d", page[8]))
		}
		i++
	}
}

func main() {
	if len(os.Args) > 1 {
		os.Exit(9)
	}
	kvm, err := syscall.Open("/dev/kvm", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	need("/dev/kvm", err)
	version, err := ioctl(kvm, getAPIVersion, 0)
	need("KVM_GET_API_VERSION", err)
	vm, err := ioctl(kvm, createVM, 0)
	need("KVM_CREATE_VM", err)
	size, err := ioctl(kvm, getVCPUMmapSize, 0)
	need("KVM_GET_VCPU_MMAP_SIZE", err)
	memory, err := syscall.Mmap(-1, 0, 1<<16, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_PRIVATE|syscall.MAP_ANON)
	need("mmap", err)
	copy(memory[0x1000:], []byte{0xe6, 0x01, 0xeb, 0xfc}) // out %al, $1; and again
	slot := region{size: 1 << 16, userspace: uint64(uintptr(unsafe.Pointer(&memory[0])))}
	_, err = ioctl(vm, setUserMemoryRegion, uintptr(unsafe.Pointer(&slot)))
	need("KVM_SET_USER_MEMORY_REGION", err)

	started := time.Now()
	var wait sync.WaitGroup
	for id := 0; id < 2; id++ {
		wait.Add(1)
		go func(id int) {
			defer wait.Done()
			vcpu(vm, size, id)
		}(id)
	}
	wait.Wait()
	fmt.Printf("version %d, %d exits, %d ns each\n", version, 2*exits,
		time.Since(started).Nanoseconds()*2/(2*exits))

	self, err := os.Executable()
	need("the program's own name", err)
	child := exec.Command(self, "child")
	child.Env = []string{}
	if err := child.Run(); err == nil || child.ProcessState.ExitCode() != 9 {
		need("the child", fmt.Errorf("%v", child.ProcessState))
	}
	defer func() {
		if recover() == nil {
			os.Exit(1)
		}
	}()
	var nothing *int
	*nothing = 1 // a signal becomes a panic
}
