// SPDX-License-Identifier: Apache-2.0

package recordtest

import "github.com/sheetbend/sheetbend/collector/record"

// Losing is a stream of which records of the kernel are lost, and counted as the kernel does.
type Losing struct {
	Each int // of each kind, one of so many
	Lost int // so far
	seen map[record.Type]int
}

// byProcess are the kinds that the kernel counts by process.
var byProcess = map[record.Type]bool{
	record.TypeOpen: true, record.TypeConnect: true, record.TypeUnix: true, record.TypeSocket: true, record.TypeNamespace: true, record.TypeAccess: true,
}

// Take gives the record that comes in the place of another one: that one, or the word that it was lost.
func (l *Losing) Take(raw []byte) []byte {
	var e record.Event
	if e.Decode(raw) != nil || e.Header.Type >= record.TypeClock {
		return raw
	}
	if l.seen == nil {
		l.seen = map[record.Type]int{}
	}
	h := e.Header
	if l.seen[h.Type]++; l.seen[h.Type]%l.Each != 0 {
		return raw
	}
	l.Lost++
	of := record.Header{Cgroup: h.Cgroup}
	if byProcess[h.Type] {
		of.Tgid, of.Start = h.Tgid, h.Start
	}
	return record.AppendLoss(nil, of, record.Loss{Kind: h.Type, Cause: record.CauseRingFull, Count: 1, From: h.Time, To: h.Time + uint64(l.Lost)})
}
