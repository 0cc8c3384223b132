// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"slices"
	"time"

	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// pendingBatches are in memory only, the oldest first. All are after those on disk. Spool.mu guards them.
type pendingBatches struct {
	items        []item
	writing      int // so many of items are being written
	writingSince time.Time
	bytes, spans int    // of items
	offered      uint64 // spans, since the start
}

func (p *pendingBatches) add(h head, b otlp.Batch) {
	p.items = append(p.items, item{h, b, p.offered})
	p.bytes += h.size
	p.spans += h.spans
	p.offered += uint64(h.spans)
}

// shift removes the oldest.
func (p *pendingBatches) shift() item {
	it := p.items[0]
	p.items[0] = item{}
	p.items = p.items[1:]
	p.bytes -= it.size
	p.spans -= it.spans
	return it
}

// shiftUnwritten removes the oldest that is not being written.
func (p *pendingBatches) shiftUnwritten() item {
	it := p.items[p.writing]
	copy(p.items[1:p.writing+1], p.items[:p.writing])
	p.items[0] = it
	return p.shift()
}

// group marks a group at the head as being written, and gives its size in bytes.
func (p *pendingBatches) group(maxBytes, maxSpans int) (size int) {
	spans := 0
	for p.writing < len(p.items) {
		next := p.items[p.writing].head
		size, spans = size+next.size, spans+next.spans
		if p.writing > 0 && (p.writing == groupBatches || size > maxBytes || spans > maxSpans) {
			return size - next.size
		}
		p.writing++
	}
	return size
}

// grouped is a copy of those that are being written.
func (p *pendingBatches) grouped() []item { return slices.Clone(p.items[:p.writing]) }

// durable counts the spans offered before the oldest.
func (p *pendingBatches) durable() uint64 {
	if len(p.items) > 0 {
		return p.items[0].after
	}
	return p.offered
}
