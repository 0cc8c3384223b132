// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"

	"github.com/cilium/ebpf"
)

// WithEntries gives tables of the kernel side other sizes.
func (o Options) WithEntries(entries map[string]uint32) Options {
	o.entries = entries
	return o
}

// Entries is how many entries a table has.
func (s *Sensor) Entries(table string) (n int, err error) {
	var key, value []byte
	entries := s.kernel.table(table).Iterate()
	for entries.Next(&key, &value) {
		n++
	}
	return n, entries.Err()
}

// Put writes an entry of a table; what value lacks is zero.
func (s *Sensor) Put(table string, key uint32, value []byte) error {
	m := s.kernel.table(table)
	return m.Put(key, append(value, make([]byte, int(m.ValueSize())-len(value))...))
}

// Room is how many entries a table can have.
func (s *Sensor) Room(table string) int { return int(s.kernel.table(table).MaxEntries()) }

// Kill is Close as a kill does it: the record that was read last is not handled.
func (s *Sensor) Kill() error {
	err := s.ring.Reader.Close()
	s.ring = nil
	return errors.Join(err, s.Close())
}

// Programs are the ids of those that are attached.
func (s *Sensor) Programs() (ids []ebpf.ProgramID, err error) {
	for _, p := range s.kernel.programs {
		info, err := p.Info()
		if err != nil {
			return nil, err
		}
		id, _ := info.ID()
		ids = append(ids, id)
	}
	return ids, nil
}
