// SPDX-License-Identifier: Apache-2.0

package bpf

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
