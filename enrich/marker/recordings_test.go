// SPDX-License-Identifier: Apache-2.0

package marker

import (
	"encoding/binary"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/sheetbend/sheetbend/enrich/marker/client"
)

// shelf has one recording, of this user.
type shelf struct {
	mu   sync.Mutex
	gone bool
	open io.ReadCloser // what OpenRecording gives
}

func (s *shelf) List(uid uint32) []client.Recording {
	if uid != uint32(os.Geteuid()) {
		return []client.Recording{}
	}
	return []client.Recording{{Name: "a"}}
}

func (s *shelf) OpenRecording(uid uint32, name string) (io.ReadCloser, error) {
	if name != "a" || uid != uint32(os.Geteuid()) {
		return nil, nil
	}
	return s.open, nil
}

func (s *shelf) Remove(name string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := name == "a" && !s.gone
	s.gone = s.gone || found
	return found, nil
}

// chunksOf reads a recording.
func (l *line) chunksOf() string {
	l.t.Helper()
	var out strings.Builder
	for {
		var head [4]byte
		if _, err := io.ReadFull(l.in, head[:]); err != nil {
			l.t.Fatal(err)
		}
		n := binary.BigEndian.Uint32(head[:])
		if n == 0 {
			return out.String()
		}
		if _, err := io.CopyN(&out, l.in, int64(n)); err != nil {
			l.t.Fatal(err)
		}
	}
}

func TestRecordingsGoToWhoseTheyAreAndToNobodyInASandbox(t *testing.T) {
	content := strings.Repeat("recording ", 50_000)
	s, _ := serve(t, func(o *Options) {
		o.Recordings = &shelf{open: io.NopCloser(strings.NewReader(content))}
	})
	l := dial(t, s)
	if r := l.ask(`{"op":"recordings"}`); !r.OK || len(r.Recordings) != 1 {
		t.Errorf("%+v", r)
	}
	if r := l.ask(`{"op":"spans","recording":"b"}`); r.OK || !strings.Contains(r.Error, "no recording") {
		t.Errorf("%+v", r)
	}
	if r := l.ask(`{"op":"spans","recording":"a"}`); !r.OK || !r.Stream {
		t.Fatalf("%+v", r)
	}
	if got := l.chunksOf(); got != content {
		t.Errorf("%d bytes came of %d", len(got), len(content))
	}
	if r := l.ask(`{"op":"forget","recording":"a"}`); r.OK != (os.Geteuid() == 0) {
		t.Errorf("%+v", r)
	}
	if r := l.ask(`{"op":"forget","recording":"a"}`); r.OK {
		t.Errorf("removed twice: %+v", r)
	}
	s, _ = serve(t, nil)
	if r := dial(t, s).ask(`{"op":"recordings"}`); !r.OK || r.Recordings != nil {
		t.Errorf("of a sensor without a recorder: %+v", r)
	}
	kept := &shelf{open: io.NopCloser(strings.NewReader(content))}
	s, _ = serve(t, func(o *Options) {
		o.Recordings, o.Sandbox = kept, func(int, uint32, string) string { return "/x" }
	})
	l = dial(t, s)
	for _, request := range []string{`{"op":"recordings"}`, `{"op":"spans","recording":"a"}`, `{"op":"forget","recording":"a"}`} {
		if r := l.ask(request); r.OK || r.Stream || r.Recordings != nil || !strings.Contains(r.Error, "in a sandbox") || kept.gone {
			t.Errorf("%s: %+v", request, r)
		}
	}
}

func TestOneUserReadsTwoRecordingsAtATime(t *testing.T) {
	never, end := io.Pipe()
	s, _ := serve(t, func(o *Options) { o.Recordings = &shelf{open: io.NopCloser(never)} })
	var lines []*line
	for range maxTenantStream {
		l := dial(t, s)
		if r := l.ask(`{"op":"spans","recording":"a"}`); !r.Stream {
			t.Fatalf("%+v", r)
		}
		lines = append(lines, l)
	}
	if r := dial(t, s).ask(`{"op":"spans","recording":"a"}`); r.OK || !strings.Contains(r.Error, "try again") {
		t.Errorf("%+v", r)
	}
	_ = end.Close()
	for _, l := range lines {
		_ = l.chunksOf()
		if r := l.ask(`{"op":"recordings"}`); !r.OK { // so the place is free
			t.Errorf("%+v", r)
		}
	}
	if r := dial(t, s).ask(`{"op":"spans","recording":"a"}`); !r.Stream {
		t.Errorf("%+v", r)
	}
}
