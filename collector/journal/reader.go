// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"math"
)

// each reads the file from its beginning. next is where the entry after it begins.
func (j *Journal) each(yield func(e *Entry, next int64) error) error {
	r := j.reader(math.MaxInt64)
	for {
		e, ok := r.next()
		if !ok {
			return nil
		}
		if err := yield(e, r.at); err != nil {
			return err
		}
	}
}

// reader reads the file from its beginning up to a position.
func (j *Journal) reader(end int64) reader {
	return reader{f: j.f, at: headSize, end: end, window: int64(j.cfg.Window), buf: make([]byte, 0, 2*maxEntry)}
}

// reader decodes entries. Whatever is no whole entry is the end.
type reader struct {
	f      io.ReaderAt
	at     int64 // of the next entry
	end    int64 // nothing is read from here on; it may be moved on
	window int64
	buf    []byte // read
	off    int    // in buf, of the next entry
	e      Entry
}

// peek gives the next n bytes, or what there is.
func (r *reader) peek(n int) []byte {
	if len(r.buf)-r.off < n {
		r.buf = append(r.buf[:0], r.buf[r.off:]...)
		r.off = 0
		for len(r.buf) < n {
			from := r.at + int64(len(r.buf))
			most := min(int64(cap(r.buf)-len(r.buf)), r.end-from)
			if most <= 0 {
				break
			}
			got, err := r.f.ReadAt(r.buf[len(r.buf):len(r.buf)+int(most)], from)
			r.buf = r.buf[:len(r.buf)+got]
			if err != nil {
				break
			}
		}
	}
	return r.buf[r.off:min(len(r.buf), r.off+n)]
}

func (r *reader) next() (*Entry, bool) {
	for {
		left := int(r.window - r.at%r.window)
		if left < 4 {
			if len(r.peek(left)) < left {
				return nil, false
			}
			r.off, r.at = r.off+left, r.at+int64(left)
			continue
		}
		head := r.peek(min(entryHead, left))
		if len(head) < 4 {
			return nil, false
		}
		n := binary.LittleEndian.Uint32(head)
		if n == skip {
			for left > 0 {
				got := len(r.peek(min(left, cap(r.buf)/2)))
				if got == 0 {
					return nil, false
				}
				r.off, r.at, left = r.off+got, r.at+int64(got), left-got
			}
			continue
		}
		if n < entryHead || n > maxEntry || int(n) > left {
			return nil, false
		}
		b := r.peek(int(n))
		if len(b) < int(n) || crc32.Checksum(b[8:], table) != binary.LittleEndian.Uint32(b[4:]) {
			return nil, false
		}
		seqKind := binary.LittleEndian.Uint64(b[16:])
		r.e = Entry{
			Kind: Kind(seqKind >> 56), Seq: seqKind & (1<<56 - 1),
			Ring: binary.LittleEndian.Uint64(b[8:]), Data: b[entryHead:],
		}
		r.off, r.at = r.off+int(n), r.at+int64(n)
		return &r.e, true
	}
}
