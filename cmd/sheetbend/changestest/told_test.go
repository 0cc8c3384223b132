// SPDX-License-Identifier: Apache-2.0

package changestest

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/capture"
	"github.com/sheetbend/sheetbend/collector/effect"
	"github.com/sheetbend/sheetbend/collector/paths"
	"github.com/sheetbend/sheetbend/collector/record"
)

// told computes the net effect of a capture, and which names have been taken by a rename of which nothing tells whether
// something had them: in the tracepoint form, when the call returns, that is gone. Nothing may have been lost.
func told(t *testing.T, file string) (net *effect.Net, taken map[string]bool) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	r, err := capture.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	const many = 1 << 20
	s := &story{scope: effect.NewScope(&effect.Total{Names: many, Bytes: many << 10}, many), there: map[string]bool{}, taken: map[string]bool{}}
	for {
		raw, err := r.Next()
		if errors.Is(err, io.EOF) {
			net := s.scope.Net()
			return &net, s.taken
		}
		if err != nil {
			t.Fatal(err)
		}
		var e record.Event
		if err := e.Decode(raw); err != nil {
			t.Fatal(err)
		}
		switch e.Header.Type {
		case record.TypeOpen:
			s.open(&e.Header, &e.Open)
		case record.TypeChange:
			s.change(&e.Header, &e.Change)
		case record.TypeLoss:
			t.Errorf("%d records of the kind %s were lost: %s", e.Loss.Count, e.Loss.Kind, e.Loss.Cause)
		}
	}
}

// A story tells a scope what records say, as the collector does (collector/spans/effect.go), but all in one.
type story struct {
	scope *effect.Scope
	there map[string]bool // and opened, or not
	taken map[string]bool
}

func (s *story) open(h *record.Header, r *record.Open) {
	resolved := h.Flags&(record.OpenBase|record.OpenSubmitted) == 0 && (r.Inode != 0 || len(r.Path) > 0)
	if r.Error != 0 || h.Flags&record.OpenPseudo != 0 || r.Flags&unix.O_PATH != 0 {
		return
	}
	var name []byte
	if resolved {
		name = paths.AppendResolved(nil, r.Path, paths.OpenMarks(h.Flags))
	} else {
		name = paths.AppendRequested(nil, r.Path, h.Flags, r.Name)
	}
	const nameless = 0o20000000 // of O_TMPFILE what it shares on all architectures
	unlinked := h.Flags&record.OpenUnlinked != 0
	o := effect.Op{
		Op: effect.Open, New: name, ID: effect.ID{Dev: r.Dev, Inode: r.Inode}, ByName: !resolved,
		Created: h.Flags&record.OpenCreated != 0, Truncated: r.Flags&unix.O_TRUNC != 0,
		Nameless: unlinked && r.Flags&nameless == nameless,
	}
	s.there[string(name)] = !o.Nameless
	if !o.Created && !o.Truncated && r.Flags&unix.O_ACCMODE == unix.O_RDONLY || unlinked && !o.Nameless {
		return
	}
	if h.Flags&record.OpenSubmitted != 0 {
		s.scope.Unsure()
		return
	}
	s.scope.Do(&o)
}

func (s *story) change(h *record.Header, r *record.Change) {
	if r.Error != 0 || r.Op >= record.ChangeMount || h.Flags&record.ChangeUnlinked != 0 {
		return
	}
	o := effect.Op{
		Op: r.Op, Flags: r.Flags, Old: pathOf(&r.Old, h.Flags), New: pathOf(&r.New, h.Flags>>record.ChangeNewShift),
		ID: effect.ID{Dev: r.Dev, Inode: r.Inode}, Replaced: effect.ID{Dev: r.Dev, Inode: r.Replaced},
		Nlink: r.Nlink, Mode: r.Mode, Before: r.Before, After: r.After,
		Directory: h.Flags&record.ChangeDirectory != 0, ByName: r.Inode == 0,
	}
	if h.Flags&(record.ChangeSubmitted|record.ChangeNotSure) != 0 {
		s.scope.Unsure()
		return
	}
	switch r.Op {
	case record.ChangeRename:
		o.Existed = r.Inode == 0 && s.there[string(o.New)]
		if r.Inode == 0 && !o.Existed {
			s.taken[string(o.New)] = true
		}
		for name := range s.taken { // of a directory: they go along
			if rest, found := strings.CutPrefix(name, string(o.Old)+"/"); found {
				s.taken[string(o.New)+"/"+rest] = true
			}
		}
		s.there[string(o.New)], s.there[string(o.Old)] = true, r.Flags&unix.RENAME_EXCHANGE != 0
	case record.ChangeUnlink, record.ChangeRmdir:
		s.there[string(o.New)] = false
	}
	s.scope.Do(&o)
}

func pathOf(n *record.ChangedName, flags uint16) []byte {
	var p []byte
	if flags&record.ChangeBase != 0 {
		marks := paths.Marks{Truncated: flags&record.ChangeTruncated != 0, Outside: flags&record.ChangeOutside != 0}
		p = append(paths.AppendResolved(p, n.Dir, marks), '/')
	}
	return paths.Clean(append(p, n.Name...))
}
