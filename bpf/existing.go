// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cilium/ebpf/link"
)

// eachRecord splits a stream of whole records by the size in their headers.
func eachRecord(r io.Reader, yield func(raw []byte) error) error {
	in := bufio.NewReaderSize(r, MaxRecord)
	buf := make([]byte, MaxRecord)
	for {
		head, err := in.Peek(8)
		if errors.Is(err, io.EOF) && len(head) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a record: %w", err)
		}
		size := binary.LittleEndian.Uint32(head[4:])
		if size < 8 || size > MaxRecord {
			return fmt.Errorf("read a record: size %d out of range", size)
		}
		if _, err := io.ReadFull(in, buf[:size]); err != nil {
			return fmt.Errorf("read a record of %d bytes: %w", size, err)
		}
		if err := yield(buf[:size]); err != nil {
			return err
		}
	}
}

// existingProgram is the one that is attached for each walk only.
const existingProgram = "process_existing"

// existingPasses bounds the search for processes below agents whose pids are lower than those of their parents.
const existingPasses = 8

// Existing yields a RECORD_PROCESS for every process that is in a watched cgroup now, that has one of
// Options.Programs' names, or that is below such a one, and makes the kernel side know them. The slice is valid
// during the call only.
func (s *Sensor) Existing(yield func(raw []byte) error) error {
	if !s.finds {
		return s.iterate(yield)
	}
	again := s.kernel.collection.Variables["existing_again"]
	defer func() { _ = again.Set(false) }()
	for range existingPasses {
		told := 0
		err := s.iterate(func(raw []byte) error {
			told++
			return yield(raw)
		})
		if err != nil || told == 0 {
			return err
		}
		if err := again.Set(true); err != nil {
			return fmt.Errorf("list processes once more: %w", err)
		}
	}
	return nil
}

func (s *Sensor) iterate(yield func(raw []byte) error) error {
	it, err := link.AttachIter(link.IterOptions{Program: s.kernel.programs[existingProgram]})
	if err != nil {
		return fmt.Errorf("attach the task iterator: %w", err)
	}
	defer it.Close()
	r, err := it.Open()
	if err != nil {
		return fmt.Errorf("open the task iterator: %w", err)
	}
	defer r.Close()
	return eachRecord(r, yield)
}
