// SPDX-License-Identifier: Apache-2.0

package layout3

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"testing"

	"github.com/sheetbend/sheetbend/collector/record"
)

// rename is a change of layout 3 by hand: f in /d becomes g in /e.
func rename() []byte {
	raw := make([]byte, was, was+8)
	le := binary.LittleEndian
	le.PutUint16(raw[typeAt:], change)
	le.PutUint64(raw[48:], 7) // inode
	le.PutUint64(raw[56:], 8) // replaced
	le.PutUint32(raw[64:], 1) // error
	le.PutUint32(raw[68:], 2) // flags
	le.PutUint32(raw[72:], 3) // dev
	le.PutUint16(raw[76:], 1) // op
	for i, n := range []uint16{2, 1, 2, 1} {
		le.PutUint16(raw[78+2*i:], n)
	}
	raw = append(raw, "d\x00fe\x00g"...)
	le.PutUint32(raw[sizeAt:], uint32(len(raw)))
	return raw
}

func TestAChangeOfLayout3IsRead(t *testing.T) {
	var e record.Event
	if err := e.Decode(Append(nil, rename())); err != nil {
		t.Fatal(err)
	}
	want := record.Change{
		Inode: 7, Replaced: 8, Error: 1, Flags: 2, Dev: 3, Op: record.ChangeRename,
		Old:  record.ChangedName{Dir: record.Components("d\x00"), Name: []byte("f")},
		New:  record.ChangedName{Dir: record.Components("e\x00"), Name: []byte("g")},
		Text: []byte{},
	}
	if !reflect.DeepEqual(e.Change, want) {
		t.Errorf("%+v", e.Change)
	}
}

func FuzzAppend(f *testing.F) {
	f.Add(rename())
	f.Fuzz(func(t *testing.T, raw []byte) {
		out := Append([]byte("before"), raw)
		rest, kept := bytes.CutPrefix(out, []byte("before"))
		if !kept || len(rest) > len(raw)+is-was {
			t.Fatalf("%d bytes of %d", len(out), len(raw))
		}
		var e record.Event
		err := e.Decode(rest)
		if len(raw) < headerSize || record.TypeOf(raw) != change {
			return
		}
		size := binary.LittleEndian.Uint32(raw[sizeAt:])
		if (size < was || uint64(size) > uint64(len(raw))) && !errors.Is(err, record.ErrMalformed) {
			t.Fatalf("%d of %d bytes: %v", size, len(raw), err)
		}
	})
}
