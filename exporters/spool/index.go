// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"sort"

	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// item is a batch in the index.
type item struct {
	head
	batch otlp.Batch // in memory; empty for what is stored
	after uint64     // in memory: spans that were offered before it
}

// after is the first batch after a position.
func after(list []item, position uint64) (item, bool) {
	i := sort.Search(len(list), func(i int) bool { return list[i].seq > position })
	if i == len(list) {
		return item{}, false
	}
	return list[i], true
}

// storedBatches are on disk, the oldest first. Spool.mu guards them.
type storedBatches struct {
	items   []item
	bytes   int64    // in whole pages
	garbage []uint64 // batches that nobody needs any more, and that the next commit removes
}

func (s *storedBatches) add(h head) {
	s.items = append(s.items, item{head: h})
	s.bytes += pages(h.size)
}

// shift makes the oldest garbage.
func (s *storedBatches) shift() item {
	it := s.items[0]
	s.items[0] = item{}
	s.items = s.items[1:]
	s.bytes -= pages(it.size)
	s.garbage = append(s.garbage, it.seq)
	return it
}

// pages is what an entry of size bytes takes in the file.
func pages(size int) int64 {
	const page = 4096
	return int64((size+64+page-1)/page) * page
}
