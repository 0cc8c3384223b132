// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/binary"
	"testing"
)

// TestAnEventAtTheCutIsTakenOnce lets one thread do one thing after the other, seen by two kernel sides, and cuts at every instant.
func TestAnEventAtTheCutIsTakenOnce(t *testing.T) {
	raw := func(at uint64, tid uint32, kind uint16) []byte {
		b := make([]byte, headBytes)
		binary.LittleEndian.PutUint16(b, kind)
		binary.LittleEndian.PutUint64(b[8:], at)
		binary.LittleEndian.PutUint32(b[44:], tid)
		return b
	}
	const events, apart, start = 8, 10, cutoverWindow * 2
	for _, c := range []struct {
		form  Form
		first uint64 // the old one's delay
		then  uint64 // the new one's
	}{{FormTracepoint, 0, 3}, {FormTrampoline, 3, 0}} {
		for at := uint64(start - 5); at < start+events*apart+5; at++ {
			cut := newCutover(at, 0, []Hook{{Name: "open_file", Form: string(c.form)}})
			taken := map[[2]uint64]int{} // thread, number of the event -> how often
			count := func(raw []byte, delay uint64) {
				tid := binary.LittleEndian.Uint32(raw[44:])
				taken[[2]uint64{uint64(tid), (binary.LittleEndian.Uint64(raw[8:]) - delay - start) / apart}]++
			}
			for i := range uint64(events) {
				for tid := uint32(1); tid <= 2; tid++ {
					if r := raw(start+i*apart+c.first, tid, uint16(objectRecordTypeRECORD_OPEN)); cut.takesOld(r) {
						count(r, c.first)
					}
				}
			}
			for i := range uint64(events) {
				for tid := uint32(1); tid <= 2; tid++ {
					if r := raw(start+i*apart+c.then, tid, uint16(objectRecordTypeRECORD_OPEN)); cut.takesNew(r) {
						count(r, c.then)
					}
				}
			}
			for _, r := range cut.end() {
				count(r, c.first)
			}
			for tid := uint64(1); tid <= 2; tid++ {
				for i := range uint64(events) {
					if n := taken[[2]uint64{tid, i}]; n != 1 {
						t.Errorf("%s, cut at %d: event %d of thread %d taken %d times", c.form, at-start, i, tid, n)
					}
				}
			}
		}
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"Format":1,"Content":"x","Maps":{"ring":1},"Links":[{"Name":"a","ID":1}],"Hooks":[{"Name":"a"}]}`))
	f.Add([]byte(`{"Format":2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := parseManifest(text)
		if err != nil && (m.Links != nil || m.Content != "") {
			t.Errorf("half a manifest: %+v", m)
		}
		if err == nil && m.Format != manifestFormat {
			t.Errorf("format %d", m.Format)
		}
	})
}

func TestWhatOnlyTheOldOneSawHidesNothingOfTheNewOne(t *testing.T) {
	const both, at = cutoverWindow * 2, cutoverWindow*2 + 100
	c := newCutover(at, both, nil)
	before, after := make([]byte, headBytes), make([]byte, headBytes)
	binary.LittleEndian.PutUint64(before[8:], both-10) // the new one was not attached yet
	binary.LittleEndian.PutUint64(after[8:], at+10)
	if !c.takesOld(before) || !c.takesNew(after) {
		t.Error("one of two events is missing")
	}
}
