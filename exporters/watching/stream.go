// SPDX-License-Identifier: Apache-2.0

package watching

import (
	"encoding/binary"
	"encoding/json"
	"slices"
	"sync"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// A Stream has the spans of one sandbox as frames (enrich/marker/client). Next is called from one goroutine, Finish
// where the Hub's Span is, Close from any.
type Stream struct {
	hub     *Hub
	sandbox string
	uid     uint32
	encoder *otlp.Encoder

	others uint64 // programs of other users
	mixed  bool   // something of them was seen: what sums up may have it

	mu      sync.Mutex
	queue   [][]byte
	bytes   int
	dropped uint64
	over    bool // nothing comes any more
	wake    chan struct{}
}

func newStream(h *Hub, sandbox string, uid uint32) *Stream {
	s := &Stream{hub: h, sandbox: sandbox, uid: uid, wake: make(chan struct{}, 1)}
	s.encoder = otlp.NewEncoder(h.version, otlp.Limits{Spans: 256, Bytes: client.MaxFrame / 2}, s.batch)
	return s
}

// span takes what the user may see.
func (s *Stream) span(x *span.Span) {
	if s.uid == 0 {
		s.encoder.Span(x)
		return
	}
	a := span.Attrs(x.Attrs)
	if x.OfProgram && x.User != (span.User{Known: true, ID: s.uid}) {
		if x.Kind == span.Exec && !x.StandIn && !a.Is(span.KeyPartial) {
			s.others++
		}
		s.mixed = true
		return
	}
	if x.Kind.Story() && s.mixed {
		y := *x
		y.Attrs = slices.DeleteFunc(slices.Clone(x.Attrs), func(a span.Attr) bool {
			return a.Kind == span.StringsAttr || a.Key == span.KeyCallSummary || a.Key == span.KeySessionSummary
		})
		x = &y
	}
	s.encoder.Span(x)
}

// frame puts the length and the kind of a frame before it.
func frame(kind byte, size int) []byte {
	f := make([]byte, 5, 5+size)
	f[4] = kind
	return f
}

func closed(f []byte) []byte {
	binary.BigEndian.PutUint32(f, uint32(len(f)-4))
	return f
}

// batch queues spans, if there is room.
func (s *Stream) batch(b otlp.Batch) {
	f := closed(b.AppendRequest(frame(client.FrameSpans, b.Size()+16*len(b.Resources))))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.bytes+len(f) > maxStream || !s.hub.room(s.uid, len(f)) {
		if !s.over {
			s.dropped += uint64(b.Spans)
			s.hub.dropped.Add(int64(b.Spans))
		}
		return
	}
	s.put(f)
}

func (s *Stream) put(f []byte) {
	s.queue = append(s.queue, f)
	s.bytes += len(f)
	s.hub.wait(s.uid, len(f))
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Finish ends the stream after what it has: nothing more is to come. running: something of the command still runs.
func (s *Stream) Finish(running bool) {
	s.encoder.Flush()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	text, err := json.Marshal(client.WatchEnd{Dropped: s.dropped, Others: s.others, Running: running})
	if err == nil {
		s.put(closed(append(frame(client.FrameEnd, len(text)), text...)))
	}
	s.over = true
}

// Next waits for the next frame, with its length before it. false: there is none any more.
func (s *Stream) Next() ([]byte, bool) {
	for {
		s.mu.Lock()
		if len(s.queue) > 0 {
			f := s.queue[0]
			s.queue[0] = nil
			s.queue = s.queue[1:]
			s.bytes -= len(f)
			s.hub.wait(s.uid, -len(f))
			s.mu.Unlock()
			return f, true
		}
		over := s.over
		s.mu.Unlock()
		if over {
			return nil, false
		}
		<-s.wake
	}
}

// Close ends the stream at once. It may be called again.
func (s *Stream) Close() {
	s.hub.mu.Lock()
	if s.hub.by[s.sandbox] == s {
		delete(s.hub.by, s.sandbox)
		s.hub.open.Add(-1)
	}
	s.hub.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	s.hub.wait(s.uid, -s.bytes)
	s.queue, s.bytes = nil, 0
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
