// SPDX-License-Identifier: MIT
package main

import (
	"encoding/binary"
	"fmt"
	"os"
)

// Where things are in the guest's memory, which ends at memorySize.
const (
	vcpus       = 2
	gdtAt       = 0x1000
	zeroPage    = 0x2000
	wordsAt     = 0x3000
	tablesAt    = 0xe0000
	kernelAt    = 1 << 20
	initramfsAt = 128 << 20
	memorySize  = 256 << 20
	lowEnd      = 0x9f000
	acpiPort    = 0x600
)

func (m *machine) put16(at int, value uint16) { binary.LittleEndian.PutUint16(m.memory[at:], value) }
func (m *machine) put32(at int, value uint32) { binary.LittleEndian.PutUint32(m.memory[at:], value) }
func (m *machine) put64(at int, value uint64) { binary.LittleEndian.PutUint64(m.memory[at:], value) }

// A byte at `at` by which [from, to) has the sum 0.
func (m *machine) sum(at, from, to int) {
	m.memory[at] = 0
	sum := byte(0)
	for _, b := range m.memory[from:to] {
		sum += b
	}
	m.memory[at] = -sum
}

// ACPI's tables: two processors, the interrupt controllers of a PC, and no device.
func (m *machine) loadTables() {
	next := tablesAt + 64
	table := func(name string, revision byte, body []byte) uint32 {
		at := next
		copy(m.memory[at:], name)
		m.put32(at+4, uint32(36+len(body)))
		m.memory[at+8] = revision
		copy(m.memory[at+10:], "VMMU  VMMUTEST")
		copy(m.memory[at+36:], body)
		next = (at + 36 + len(body) + 15) &^ 15
		m.sum(at+9, at, at+36+len(body))
		return uint32(at)
	}
	madt := binary.LittleEndian.AppendUint32(nil, 0xfee00000)
	madt = append(madt, 1, 0, 0, 0) // there are PICs, too
	for id := byte(0); id < vcpus; id++ {
		madt = append(madt, 0, 8, id, id, 1, 0, 0, 0)
	}
	madt = append(madt, 1, 12, vcpus, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0) // the IOAPIC at 0xfec00000

	fadt := make([]byte, 116-36)
	binary.LittleEndian.PutUint32(fadt[40-36:], table("DSDT", 1, nil))
	fadt[46-36] = 9 // the interrupt of ACPI's events, of which there are none
	binary.LittleEndian.PutUint32(fadt[56-36:], acpiPort)
	binary.LittleEndian.PutUint32(fadt[64-36:], acpiPort+4)
	fadt[88-36], fadt[89-36] = 4, 2

	var root []byte
	for _, at := range []uint32{table("FACP", 1, fadt), table("APIC", 1, madt)} {
		root = binary.LittleEndian.AppendUint32(root, at)
	}
	copy(m.memory[tablesAt:], "RSD PTR ")
	copy(m.memory[tablesAt+9:], "VMMU  ")
	m.put32(tablesAt+16, table("RSDT", 1, root))
	m.sum(tablesAt+8, tablesAt, tablesAt+20)
}

func read(name string, most int) []byte {
	content, err := os.ReadFile(name)
	if err == nil && len(content) > most {
		err = fmt.Errorf("more than %d bytes", most)
	}
	if err != nil {
		fail(name, err)
	}
	return content
}

// Linux as its boot protocol says.
func (m *machine) loadLinux(kernel, initramfs, words string) {
	image := read(kernel, initramfsAt-kernelAt)
	if len(image) < 0x300 || string(image[0x202:0x206]) != "HdrS" {
		fail(kernel, fmt.Errorf("is no bzImage"))
	}
	copy(m.memory[zeroPage+0x1f1:zeroPage+0x290], image[0x1f1:])
	copy(m.memory[kernelAt:], image[(int(image[0x1f1])+1)*512:])
	ram := read(initramfs, memorySize-initramfsAt)
	copy(m.memory[initramfsAt:], ram)
	copy(m.memory[wordsAt:wordsAt+4095], words)
	m.memory[zeroPage+0x210] = 0xff // the loader has no number of its own
	m.put32(zeroPage+0x218, initramfsAt)
	m.put32(zeroPage+0x21c, uint32(len(ram)))
	m.put32(zeroPage+0x228, wordsAt)
	m.memory[zeroPage+0x1e8] = 2 // the map of the memory
	for i, area := range [][2]uint64{{0, lowEnd}, {kernelAt, memorySize - kernelAt}} {
		at := zeroPage + 0x2d0 + 20*i
		m.put64(at, area[0])
		m.put64(at+8, area[1])
		m.put32(at+16, 1)
	}
	for i, entry := range []uint64{0, 0, 0x00cf9a000000ffff, 0x00cf92000000ffff} {
		m.put64(gdtAt+8*i, entry)
	}
}
