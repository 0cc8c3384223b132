// SPDX-License-Identifier: Apache-2.0

// Package watching hands the spans of single sandboxes to the users who had them watched, encoded, as they come, and
// bounded. What runs there as another user they get as a count.
package watching

import (
	"sync"
	"sync/atomic"

	"github.com/sheetbend/sheetbend/collector/span"
)

const (
	// maxStream bounds what waits for one client in bytes, maxUser what waits for those of one user, maxAll for all.
	maxStream = 4 << 20
	maxUser   = 8 << 20
	maxAll    = 64 << 20
)

// A Hub is a span.Sink. Span and Flush are called from one goroutine, Open and Dropped from any.
type Hub struct {
	version string

	open atomic.Int64 // streams
	mu   sync.Mutex   // of by
	by   map[string]*Stream

	dropped atomic.Int64 // spans

	bytes   sync.Mutex // of what follows; a Stream's is taken before it
	waiting int        // bytes
	users   map[uint32]int
}

// New returns a Hub without streams. version is that of the instrumentation scope.
func New(version string) *Hub {
	return &Hub{version: version, by: make(map[string]*Stream), users: make(map[uint32]int)}
}

// room says whether so many bytes more may wait for a user.
func (h *Hub) room(uid uint32, n int) bool {
	h.bytes.Lock()
	defer h.bytes.Unlock()
	return h.users[uid]+n <= maxUser && h.waiting+n <= maxAll
}

// wait counts bytes that wait for a user, or, below 0, that do no longer.
func (h *Hub) wait(uid uint32, n int) {
	h.bytes.Lock()
	defer h.bytes.Unlock()
	h.waiting += n
	if h.users[uid] += n; h.users[uid] == 0 {
		delete(h.users, uid)
	}
}

// Dropped counts the spans that no client got, as it was too slow.
func (h *Hub) Dropped() uint64 { return uint64(h.dropped.Load()) }

// Open has a user get the spans of a sandbox, by its id, from the next one on. Close has to follow.
func (h *Hub) Open(sandbox string, uid uint32) *Stream {
	s := newStream(h, sandbox, uid)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.by[sandbox] = s
	h.open.Add(1)
	return s
}

// Span implements span.Sink.
func (h *Hub) Span(x *span.Span) {
	if h.open.Load() == 0 {
		return
	}
	h.mu.Lock()
	s := h.by[span.Attrs(x.Attrs).Text(span.KeySandboxID)]
	h.mu.Unlock()
	if s != nil {
		s.span(x)
	}
}

// Flush implements span.Sink.
func (h *Hub) Flush() {
	if h.open.Load() == 0 {
		return
	}
	h.mu.Lock()
	streams := make([]*Stream, 0, len(h.by))
	for _, s := range h.by {
		streams = append(streams, s)
	}
	h.mu.Unlock()
	for _, s := range streams {
		s.encoder.Flush()
	}
}
