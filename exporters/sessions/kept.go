// SPDX-License-Identifier: Apache-2.0

package sessions

import (
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

func clip(s string) string { return span.Clip(s, maxText) }

// size is what k takes.
func size(k *keptSpan) int { return int(unsafe.Sizeof(*k)) + cap(k.attrs) + len(k.status) }

// fill gives memory with these bytes: old's, if that has about their size.
func fill(old, bytes []byte) []byte {
	if cap(old) < len(bytes) || cap(old) > 2*len(bytes) {
		old = make([]byte, len(bytes))
	}
	return append(old[:0], bytes...)
}

func (q *queue) len() int { return len(q.list) - q.head }

func (q *queue) push(k keptSpan) {
	if q.head > 64 && q.head > len(q.list)/2 {
		n := copy(q.list, q.list[q.head:])
		clear(q.list[n:])
		q.list, q.head = q.list[:n], 0
	}
	q.list = append(q.list, k)
	q.bytes += k.bytes
}

// drop takes the oldest away and gives its attributes' memory.
func (q *queue) drop() []byte {
	k := q.list[q.head]
	q.list[q.head] = keptSpan{}
	q.head++
	q.bytes -= k.bytes
	return k.attrs
}

func (q *queue) all() []keptSpan { return q.list[q.head:] }
