// SPDX-License-Identifier: Apache-2.0

package delivery

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

// Layout, big-endian: magic [3], '1' and the kind [1], CRC-32C of all that follows, begun with the kind [4],
// created [8], spans [4], length of to [2], length of reason [2], to, reason, and the batch as an export request.
const (
	magic    = "SBq"
	headSize = 24
	// maxText bounds to and reason, in bytes.
	maxText = 1 << 10
	// maxEntry bounds what is taken and decoded. The sensor's own batches are of 1 MiB at most.
	maxEntry = 16 << 20
	// maxParts bounds those of a request, and partSize is what each costs in memory, in bytes, besides its content.
	maxParts = 4096
	partSize = 24
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode appends e to buf.
func (e *entry) encode(buf []byte) []byte {
	start := len(buf)
	to, reason := e.to[:min(len(e.to), maxText)], e.reason[:min(len(e.reason), maxText)]
	buf = append(buf, magic...)
	buf = append(buf, '1'+byte(kindOf(e.batch)), 0, 0, 0, 0)
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
func seal(entry []byte) { binary.BigEndian.PutUint32(entry[4:], checksum(entry)) }

func checksum(entry []byte) uint32 { return crc32.Update(uint32(entry[3]-'1'), castagnoli, entry[8:]) }

// entrySize is how large the entry of a batch is.
func entrySize(b otlp.Batch) int {
	n := headSize
	for _, r := range b.Resources {
		n += 1 + protowire.SizeBytes(len(r))
	}
	return n
}

// decodeHead reads no more than the first page of a large entry, and checks only that it is one.
func decodeHead(data []byte) (head, error) {
	if len(data) < headSize || len(data) > maxEntry || string(data[:3]) != magic || data[3]-'1' >= byte(kinds) {
		return head{}, errors.New("not an entry of the spool")
	}
	return head{
		kind:    kind(data[3] - '1'),
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
	if checksum(data) != binary.BigEndian.Uint32(data[4:]) {
		return entry{}, errors.New("its checksum is wrong")
	}
	to := int(binary.BigEndian.Uint16(data[20:]))
	reason := int(binary.BigEndian.Uint16(data[22:]))
	rest := data[headSize:]
	if to > maxText || reason > maxText || to+reason > len(rest) {
		return entry{}, errors.New("it is shorter than its texts")
	}
	e := entry{created: h.created, to: string(rest[:to]), reason: string(rest[to : to+reason])}
	e.batch = otlp.Batch{Signal: h.kind.signal(), PassedOn: h.kind.origin() == passedOn, Spans: h.spans}
	e.batch.Resources, err = resources(rest[to+reason:])
	return e, err
}

var errManyParts = fmt.Errorf("it has more than %d parts", maxParts)

// resources gives the parts of an export request, field 1 of it, which stay in it. Those without content it leaves out.
func resources(request []byte) (parts [][]byte, err error) {
	for len(request) > 0 {
		number, kind, n := protowire.ConsumeTag(request)
		if n < 0 {
			return nil, fmt.Errorf("it is not an export request of OTLP: %w", protowire.ParseError(n))
		}
		m := protowire.ConsumeFieldValue(number, kind, request[n:])
		if m < 0 {
			return nil, fmt.Errorf("it is not an export request of OTLP: %w", protowire.ParseError(m))
		}
		if value, _ := protowire.ConsumeBytes(request[n:]); number == 1 && kind == protowire.BytesType && len(value) > 0 {
			if len(parts) == maxParts {
				return nil, errManyParts
			}
			parts = append(parts, value)
		}
		request = request[n+m:]
	}
	return parts, nil
}
