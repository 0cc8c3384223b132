// SPDX-License-Identifier: Apache-2.0

package sessions

import (
	"strings"
	"unsafe"

	"github.com/sheetbend/sheetbend/collector/span"
)

// leftOut are the attributes that all spans of a session share, and the one that says another again.
func leftOut(key string) bool {
	switch key {
	case span.KeyContract, span.KeySandboxID, span.KeySessionID, span.KeyAgentName, span.KeyCommandLine:
		return true
	}
	return false
}

// attrs reads the attributes of one span by key; they are some thirty, a map would cost more.
type attrs []span.Attr

func (a attrs) find(key string) *span.Attr {
	for i := range a {
		if a[i].Key == key {
			return &a[i]
		}
	}
	return nil
}

func (a attrs) text(key string) string {
	if f := a.find(key); f != nil && f.Kind == span.StringAttr {
		return f.Str
	}
	return ""
}

func (a attrs) int(key string) (int64, bool) {
	if f := a.find(key); f != nil && f.Kind == span.IntAttr {
		return f.Int, true
	}
	return 0, false
}

func (a attrs) is(key string) bool {
	f := a.find(key)
	return f != nil && f.Kind == span.BoolAttr && f.Int != 0
}

// clip keeps the first maxText bytes, and nothing of the memory of a longer string.
func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	n := maxText
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return strings.Clone(s[:n]) + "…"
}

// copyAttrs appends what is kept of from, whose memory belongs to the collector.
func copyAttrs(to, from []span.Attr) []span.Attr {
	for _, a := range from {
		if leftOut(a.Key) {
			continue
		}
		a.Str = clip(a.Str)
		var list []string
		room := maxText
		for _, s := range a.List {
			if room <= 0 {
				list = append(list, "…")
				break
			}
			s = clip(s)
			room -= len(s) + 1
			list = append(list, s)
		}
		a.List = list
		to = append(to, a)
	}
	return to
}

// size is what k takes, about. Strings that spans share are counted each time.
func size(k *kept) int {
	n := int(unsafe.Sizeof(*k)) + cap(k.attrs)*int(unsafe.Sizeof(span.Attr{})) + len(k.status)
	for _, a := range k.attrs {
		n += len(a.Str)
		for _, s := range a.List {
			n += len(s) + int(unsafe.Sizeof(s))
		}
	}
	return n
}

func (q *queue) len() int { return len(q.list) - q.head }

func (q *queue) push(k kept) {
	if q.head > 64 && q.head > len(q.list)/2 {
		n := copy(q.list, q.list[q.head:])
		clear(q.list[n:])
		q.list, q.head = q.list[:n], 0
	}
	q.list = append(q.list, k)
	q.bytes += k.bytes
}

// drop takes the oldest away and gives its attributes' memory.
func (q *queue) drop() []span.Attr {
	k := q.list[q.head]
	q.list[q.head] = kept{}
	q.head++
	q.bytes -= k.bytes
	return k.attrs
}

func (q *queue) all() []kept { return q.list[q.head:] }
