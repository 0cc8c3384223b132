// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
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
