// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// An entry is a batch as it lies on the disk: in the store, or alone in the file of a dead letter.
type entry struct {
	created int64  // Unix time in nanoseconds
	to      string // dead letters: the destination that refused it
	reason  string // dead letters: the reason that it gave
	batch   otlp.Batch
}

// Layout, big-endian: magic [4], CRC-32C of all that follows [4], created [8], spans [4], length of to [2],
// length of reason [2], to, reason, and the batch as a TracesData message.
const (
	magic    = "SBq1"
	headSize = 24
	// maxText bounds to and reason, in bytes.
	maxText = 1 << 10
	// maxEntry bounds what is decoded. Batches are of 1 MiB at most.
	maxEntry = 16 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode appends e to buf.
func (e *entry) encode(buf []byte) []byte {
	start := len(buf)
	to, reason := e.to[:min(len(e.to), maxText)], e.reason[:min(len(e.reason), maxText)]
	buf = append(buf, magic...)
	buf = append(buf, 0, 0, 0, 0)
	buf = binary.BigEndian.AppendUint64(buf, uint64(e.created))
	buf = binary.BigEndian.AppendUint32(buf, uint32(e.batch.Spans))
	buf = binary.BigEndian.AppendUint16(buf, uint16(len(to)))
	buf = binary.BigEndian.AppendUint16(buf, uint16(len(reason)))
	buf = append(append(buf, to...), reason...)
	buf = e.batch.AppendRequest(buf)
	seal(buf[start:])
	return buf
}

// seal writes the checksum.
func seal(entry []byte) {
	binary.BigEndian.PutUint32(entry[4:], crc32.Checksum(entry[8:], castagnoli))
}

// head is what the index knows of an entry in the store.
type head struct {
	seq     uint64
	created int64
	spans   int
	size    int // bytes encoded
}

// decodeHead reads no more than the first page of a large entry, and checks only that it is one.
func decodeHead(data []byte) (head, error) {
	if len(data) < headSize || len(data) > maxEntry || string(data[:4]) != magic {
		return head{}, errors.New("not an entry of the spool")
	}
	return head{
		created: int64(binary.BigEndian.Uint64(data[8:])),
		spans:   int(binary.BigEndian.Uint32(data[16:])),
		size:    len(data),
	}, nil
}

// decodeEntry checks all of data, and keeps it: the batch lies in it.
func decodeEntry(data []byte) (entry, error) {
	h, err := decodeHead(data)
	if err != nil {
		return entry{}, err
	}
	if crc32.Checksum(data[8:], castagnoli) != binary.BigEndian.Uint32(data[4:]) {
		return entry{}, errors.New("its checksum is wrong")
	}
	to := int(binary.BigEndian.Uint16(data[20:]))
	reason := int(binary.BigEndian.Uint16(data[22:]))
	rest := data[headSize:]
	if to > maxText || reason > maxText || to+reason > len(rest) {
		return entry{}, errors.New("it is shorter than its texts")
	}
	e := entry{created: h.created, to: string(rest[:to]), reason: string(rest[to : to+reason])}
	e.batch.Signal, e.batch.Spans = otlp.Traces, h.spans
	for rest = rest[to+reason:]; len(rest) > 0; {
		number, kind, n := protowire.ConsumeTag(rest)
		if n < 0 || number != 1 || kind != protowire.BytesType {
			return entry{}, errors.New("its batch is not a TracesData message")
		}
		value, m := protowire.ConsumeBytes(rest[n:])
		if m < 0 {
			return entry{}, fmt.Errorf("its batch is not a TracesData message: %w", protowire.ParseError(m))
		}
		e.batch.Resources = append(e.batch.Resources, value)
		rest = rest[n+m:]
	}
	return e, nil
}
