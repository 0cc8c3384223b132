// SPDX-License-Identifier: Apache-2.0

package watching

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
	"github.com/sheetbend/sheetbend/exporters/otlp"
)

const user = 1000

func aSpan(kind span.Kind, sandbox string, uid uint32, attrs ...span.Attr) *span.Span {
	s := &span.Span{
		Kind: kind, Name: kind.String(), ID: span.ID{1}, Trace: span.TraceID{1}, Start: 1, End: 2,
		OfProgram: !kind.Story(), User: span.User{Known: true, ID: uid},
	}
	text := func(key, value string) span.Attr { return span.Attr{Key: key, Kind: span.StringAttr, Str: value} }
	s.Attrs = append([]span.Attr{text(span.KeyEvent, kind.String()), text(span.KeySandboxID, sandbox)}, attrs...)
	return s
}

// kept is a sink that describes spans.
type kept []string

func (k *kept) Span(s *span.Span) {
	*k = append(*k, fmt.Sprintf("%s %s%t", s.Kind, span.Attrs(s.Attrs).Text(span.KeyFilePath), span.Attrs(s.Attrs).Find(span.KeyHosts) != nil))
}
func (*kept) Flush() {}

// rest reads what a finished stream has.
func rest(t *testing.T, s *Stream) (kept, client.WatchEnd) {
	t.Helper()
	var in bytes.Buffer
	for f, ok := s.Next(); ok; f, ok = s.Next() {
		in.Write(f)
	}
	var got kept
	var d otlp.Decoder
	end, err := client.ReadFrames(&in, func(traces []byte) error { return d.Decode(traces, &got) })
	if err != nil {
		t.Fatal(err)
	}
	return got, end
}

func TestAUserGetsTheSpansOfOneSandboxAndOthersProgramsAsACount(t *testing.T) {
	h := New("v")
	s := h.Open("a", user)
	defer s.Close()
	file := func(name string) span.Attr { return span.Attr{Key: span.KeyFilePath, Kind: span.StringAttr, Str: name} }
	hosts := span.Attr{Key: span.KeyHosts, Kind: span.StringsAttr, List: []string{"h"}}
	call := func(id string) span.Attr { return span.Attr{Key: span.KeyCallID, Kind: span.StringAttr, Str: id} }
	unknown := aSpan(span.Open, "a", user, file("/unknown"))
	unknown.User = span.User{}
	for _, x := range []*span.Span{
		aSpan(span.Open, "a", user, file("/own")),
		aSpan(span.Open, "b", user, file("/elsewhere")),
		aSpan(span.Exec, "a", 0, call("2")),
		aSpan(span.Open, "a", 0, file("/roots"), call("2")),
		unknown,
		aSpan(span.SessionCall, "a", 0, call("1"), hosts),
		aSpan(span.SessionCall, "a", 0, call("2"), hosts),
		aSpan(span.SandboxEnd, "a", 0, hosts),
	} {
		h.Span(x)
	}
	h.Flush()
	s.Finish(true)
	got, end := rest(t, s)
	want := []string{"file.open /ownfalse", "session.call false", "session.call false", "sandbox.end false"}
	if !slices.Equal(got, want) || end != (client.WatchEnd{Others: 1, Running: true}) {
		t.Errorf("%q %+v", got, end)
	}
}

func TestAClientThatReadsNothingCostsItsOwnSpansAndBoundedMemory(t *testing.T) {
	h := New("v")
	s := h.Open("a", user)
	long := span.Attr{Key: span.KeyFilePath, Kind: span.StringAttr, Str: strings.Repeat("x", 4000)}
	const sent = 4000
	for range sent {
		h.Span(aSpan(span.Open, "a", user, long))
		h.Flush()
	}
	if n := h.waiting; n > maxStream || n < maxStream/2 {
		t.Errorf("%d bytes wait", n)
	}
	s.Finish(false)
	got, end := rest(t, s)
	if end.Dropped == 0 || uint64(len(got))+end.Dropped != sent || h.Dropped() != end.Dropped {
		t.Errorf("%d came, %d dropped of %d", len(got), end.Dropped, sent)
	}
	s.Close()
	s.Close()
	if h.waiting != 0 || h.open.Load() != 0 {
		t.Errorf("%d bytes of %d streams wait at the end", h.waiting, h.open.Load())
	}
}

func TestOneUserTakesNothingFromAnother(t *testing.T) {
	h := New("v")
	long := span.Attr{Key: span.KeyFilePath, Kind: span.StringAttr, Str: strings.Repeat("x", 4000)}
	for i := range 16 { // nobody reads them
		name := fmt.Sprint("flood", i)
		defer h.Open(name, user).Close()
		for range 2000 {
			h.Span(aSpan(span.Open, name, user, long))
			h.Flush()
		}
	}
	if h.waiting > maxUser {
		t.Errorf("%d bytes wait for one user", h.waiting)
	}
	s := h.Open("a", user+1)
	defer s.Close()
	h.Span(aSpan(span.Open, "a", user+1, long))
	s.Finish(false)
	if got, end := rest(t, s); len(got) != 1 || end.Dropped != 0 {
		t.Errorf("%d came, %+v", len(got), end)
	}
}

func TestCloseEndsWhoWaits(t *testing.T) {
	s := New("v").Open("a", user)
	ended := make(chan bool)
	go func() {
		_, ok := s.Next()
		ended <- ok
	}()
	s.Close()
	if <-ended {
		t.Error("a frame of a closed stream")
	}
}
