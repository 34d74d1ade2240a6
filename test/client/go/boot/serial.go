// SPDX-License-Identifier: MIT
package main

import (
	"io"
	"os"
	"sync"
)

const (
	serialPort = 0x3f8
	serialIRQ  = 4
)

// The registers of a 16550, and bits in them.
const (
	data, interruptEnable, interruptCause, lineControl, lineStatus, modemStatus = 0, 1, 2, 3, 5, 6

	wantsInput, wantsRoom = 1, 2 // in interruptEnable
	causeNone, causeRoom  = 1, 2
	causeInput            = 4
	divisor               = 0x80 // in lineControl
)

// A serial port: two processors use it, and the terminal.
type serial struct {
	lock      sync.Mutex
	register  [8]byte
	input     []byte
	empty     bool // the transmitter became empty, and the guest was not told yet
	interrupt func()
}

func (s *serial) cause() byte {
	switch {
	case s.register[interruptEnable]&wantsInput != 0 && len(s.input) > 0:
		return causeInput
	case s.register[interruptEnable]&wantsRoom != 0 && s.empty:
		return causeRoom
	}
	return causeNone
}

func (s *serial) read(register int) byte {
	s.lock.Lock()
	defer s.lock.Unlock()
	switch register {
	case data:
		if len(s.input) == 0 {
			return 0
		}
		first := s.input[0]
		s.input = s.input[1:]
		return first
	case interruptCause:
		cause := s.cause()
		if cause == causeRoom {
			s.empty = false
		}
		return cause
	case lineStatus:
		if len(s.input) > 0 {
			return 0x61
		}
		return 0x60
	case modemStatus:
		return 0xb0
	}
	return s.register[register]
}

func (s *serial) write(register int, value byte) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if register <= interruptEnable && s.register[lineControl]&divisor != 0 {
		return // it sets the speed
	}
	if register == data {
		os.Stdout.Write([]byte{value})
	}
	s.register[register] = value
	s.empty = s.empty || register <= interruptEnable
	if s.cause() != causeNone {
		s.interrupt()
	}
}

// Give the guest what comes, until there is no more.
func (s *serial) feed(from io.Reader) {
	var room [64]byte
	for {
		n, err := from.Read(room[:])
		if err != nil {
			return
		}
		s.lock.Lock()
		s.input = append(s.input, room[:n]...)
		s.interrupt()
		s.lock.Unlock()
	}
}
