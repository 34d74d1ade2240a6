// SPDX-License-Identifier: MIT

// A virtual machine monitor in Go that boots Linux with two processors: system calls without libc, a thread for each
// processor, signals by which Go preempts them.
//
//	boot BZIMAGE INITRAMFS "console=ttyS0 reboot=t"
//
// The guest is not trusted: what it says is checked before it is used. A triple fault (reboot=t) ends it all.
package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

const (
	createVM            = 0xae01
	getVCPUMmapSize     = 0xae04
	getSupportedCPUID   = 0xc008ae05
	createVCPU          = 0xae41
	setUserMemoryRegion = 0x4020ae46
	setTSSAddr          = 0xae47
	createIRQChip       = 0xae60
	irqLine             = 0x4008ae61
	createPIT2          = 0x4040ae77
	run                 = 0xae80
	setRegs             = 0x4090ae82
	getSregs            = 0x8138ae83
	setSregs            = 0x4138ae84
	setCPUID2           = 0x4008ae90

	exitIO       = 2
	exitMMIO     = 6
	exitShutdown = 8
)

func fail(what string, err error) {
	fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
	os.Exit(1)
}

func ioctl(what string, fd int, request, argument uintptr) int {
	r, _, e := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), request, argument)
	if e != 0 {
		fail(what, e)
	}
	return int(r)
}

// A machine with its memory and its chips.
type machine struct {
	kvm, vm, runSize int
	memory           []byte
	serial           serial
}

func newMachine() *machine {
	m := &machine{}
	var err error
	if m.kvm, err = syscall.Open("/dev/kvm", syscall.O_RDWR|syscall.O_CLOEXEC, 0); err != nil {
		fail("/dev/kvm", err)
	}
	m.vm = ioctl("KVM_CREATE_VM", m.kvm, createVM, 0)
	m.runSize = ioctl("KVM_GET_VCPU_MMAP_SIZE", m.kvm, getVCPUMmapSize, 0)
	m.memory, err = syscall.Mmap(-1, 0, memorySize, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		fail("mmap", err)
	}
	slot := struct {
		slot, flags            uint32
		guest, size, userspace uint64
	}{size: memorySize, userspace: uint64(uintptr(unsafe.Pointer(&m.memory[0])))}
	ioctl("KVM_SET_USER_MEMORY_REGION", m.vm, setUserMemoryRegion, uintptr(unsafe.Pointer(&slot)))
	ioctl("KVM_SET_TSS_ADDR", m.vm, setTSSAddr, 0xfffbd000)
	ioctl("KVM_CREATE_IRQCHIP", m.vm, createIRQChip, 0)
	var pit [64]byte
	ioctl("KVM_CREATE_PIT2", m.vm, createPIT2, uintptr(unsafe.Pointer(&pit)))
	m.serial.interrupt = func() { m.line(serialIRQ, 1); m.line(serialIRQ, 0) }
	return m
}

// Set the level of an interrupt line.
func (m *machine) line(number, level uint32) {
	l := [2]uint32{number, level}
	ioctl("KVM_IRQ_LINE", m.vm, irqLine, uintptr(unsafe.Pointer(&l)))
}

type vcpu struct {
	fd  int
	run []byte
}

func (m *machine) newVCPU(id int) *vcpu {
	v := &vcpu{fd: ioctl("KVM_CREATE_VCPU", m.vm, createVCPU, uintptr(id))}
	var err error
	v.run, err = syscall.Mmap(v.fd, 0, m.runSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		fail("mmap of a vCPU", err)
	}
	var cpuid struct {
		count, _ uint32
		entry    [128]struct{ function, index, flags, eax, ebx, ecx, edx, _, _, _ uint32 }
	}
	cpuid.count = uint32(len(cpuid.entry))
	ioctl("KVM_GET_SUPPORTED_CPUID", m.kvm, getSupportedCPUID, uintptr(unsafe.Pointer(&cpuid)))
	for i := range cpuid.entry[:cpuid.count] {
		e := &cpuid.entry[i]
		switch e.function { // each says who it is
		case 1:
			e.ebx = e.ebx&0xffff | vcpus<<16 | uint32(id)<<24
			e.edx |= 1 << 28
		case 0xb, 0x1f:
			e.edx = uint32(id)
		}
	}
	ioctl("KVM_SET_CPUID2", v.fd, setCPUID2, uintptr(unsafe.Pointer(&cpuid)))
	return v
}

// In 32-bit protected mode at `rip`, as Linux's boot protocol wants it.
func (v *vcpu) begin(rip, rsi uint64) {
	var s [0x138]byte
	ioctl("KVM_GET_SREGS", v.fd, getSregs, uintptr(unsafe.Pointer(&s)))
	flat := func(at int, selector uint16, kind byte) {
		segment := s[at : at+24]
		binary.LittleEndian.PutUint64(segment, 0)
		binary.LittleEndian.PutUint32(segment[8:], 0xffffffff)
		binary.LittleEndian.PutUint16(segment[12:], selector)
		copy(segment[14:], []byte{kind, 1, 0, 1, 1, 0, 1, 0, 0, 0}) // type present dpl db s l g avl unusable
	}
	flat(0, 0x10, 11) // CS
	for _, at := range []int{24, 48, 120} {
		flat(at, 0x18, 3) // DS, ES, SS
	}
	binary.LittleEndian.PutUint64(s[192:], gdtAt)
	binary.LittleEndian.PutUint16(s[200:], 31)
	s[224] |= 1 // CR0.PE
	ioctl("KVM_SET_SREGS", v.fd, setSregs, uintptr(unsafe.Pointer(&s)))
	var r [18]uint64
	r[4], r[16], r[17] = rsi, rip, 2
	ioctl("KVM_SET_REGS", v.fd, setRegs, uintptr(unsafe.Pointer(&r)))
}

// Run it for ever. It has a thread of its own.
func (v *vcpu) loop(m *machine) {
	runtime.LockOSThread()
	for {
		_, _, e := syscall.Syscall(syscall.SYS_IOCTL, uintptr(v.fd), run, 0)
		if e == syscall.EINTR || e == syscall.EAGAIN { // Go's signal; or it waits for its start, and has been asked
			continue
		}
		if e != 0 {
			fail("KVM_RUN", e)
		}
		switch reason := binary.LittleEndian.Uint32(v.run[8:]); reason {
		case exitIO:
			v.ports(m)
		case exitMMIO: // nothing is there
			copy(v.run[40:48], "\xff\xff\xff\xff\xff\xff\xff\xff")
		case exitShutdown:
			os.Exit(0)
		default:
			fail("KVM_RUN", fmt.Errorf("exit %d", reason))
		}
	}
}

func (v *vcpu) ports(m *machine) {
	out, size := v.run[32] == 1, int(v.run[33])
	port := int(binary.LittleEndian.Uint16(v.run[34:]))
	count := int(binary.LittleEndian.Uint32(v.run[36:]))
	data := v.run[binary.LittleEndian.Uint64(v.run[40:]):][:size*count]
	for ; len(data) > 0; data = data[size:] {
		switch {
		case port >= serialPort && port < serialPort+8 && out:
			m.serial.write(port-serialPort, data[0])
		case port >= serialPort && port < serialPort+8:
			data[0] = m.serial.read(port - serialPort)
		case !out:
			value := byte(0xff)
			if port == 0x71 || port >= acpiPort && port < acpiPort+8 { // the clock: midnight; no event of ACPI
				value = 0
			}
			for i := range data[:size] {
				data[i] = value
			}
		}
	}
}

func main() {
	if len(os.Args) != 4 {
		fail("usage", fmt.Errorf("boot BZIMAGE INITRAMFS WORDS"))
	}
	m := newMachine()
	var all [vcpus]*vcpu
	for id := range all {
		all[id] = m.newVCPU(id)
	}
	m.loadTables()
	m.loadLinux(os.Args[1], os.Args[2], os.Args[3])
	all[0].begin(kernelAt, zeroPage)
	for _, v := range all {
		go v.loop(m)
	}
	m.serial.feed(os.Stdin)
	select {} // until the guest ends
}
