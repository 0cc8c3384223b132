// SPDX-License-Identifier: Apache-2.0

package recorder

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// A recording is a file of blocks. Each is a zstd skippable frame with a Summary in JSON, and a zstd frame with a
// TracesData message. So `zstd -dc` gives all spans of a recording as one TracesData message, and blocks may be taken
// away at the beginning. The Summary is of the recording up to and with its block.

const (
	// Version is that of the format: a higher one is refused.
	Version = 1

	summaryMagic = 0x184D2A5B // of skippable frames there are 16: this one is ours
	frameMagic   = 0xFD2FB528
	headBytes    = 8 // magic and length of a skippable frame

	maxSummary  = 64 << 10
	maxFrame    = 8 << 20  // as it is in the file
	maxMessage  = 16 << 20 // decompressed
	maxSessions = 16       // ids in a Summary
	maxName     = 256      // bytes of each
)

// appendBlock appends a block whose frame is at hand.
func appendBlock(b []byte, s *Summary, frame []byte) ([]byte, error) {
	s.Version, s.Bytes = Version, len(frame)
	text, err := json.Marshal(s)
	if err != nil {
		return b, err
	}
	if len(text) > maxSummary || len(frame) > maxFrame { // which Open and Span rule out
		return b, fmt.Errorf("a summary of %d bytes and a frame of %d cannot be read again", len(text), len(frame))
	}
	b = binary.LittleEndian.AppendUint32(b, summaryMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
	return append(append(b, text...), frame...), nil
}

// What is wrong with a recording.
var (
	// errTorn: it ends within a block, as after a kill of the sensor or a full disk.
	errTorn = errors.New("it ends in the middle of a block")
	// errNewer: a newer sheetbend made it.
	errNewer = errors.New("it was made by a newer sheetbend: read it with that one")
	// ErrNone: the file is no recording.
	ErrNone = errors.New("not a recording")
)

// A damaged error says where a recording cannot be read.
type damaged struct {
	at   int64
	what string
}

func (e *damaged) Error() string { return fmt.Sprintf("damaged at byte %d: %s", e.at, e.what) }

// blocks reads a recording block by block.
type blocks struct {
	r  *bufio.Reader
	at int64 // of the block that comes next
}

func newBlocks(r io.Reader) *blocks { return &blocks{r: bufio.NewReaderSize(r, 4096)} }

// next gives the next Summary, and its frame if buf is not nil, in memory of buf. io.EOF at the end; else errTorn,
// errNewer, a *damaged error, or one of reading. at is where the block begins until it was read.
func (b *blocks) next(buf *[]byte) (s Summary, err error) {
	var head [headBytes]byte
	if _, err := io.ReadFull(b.r, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errTorn
		}
		return s, err
	}
	size := binary.LittleEndian.Uint32(head[4:])
	if binary.LittleEndian.Uint32(head[:]) != summaryMagic || size > maxSummary {
		return s, &damaged{b.at, "no block begins there"}
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(b.r, text); err != nil {
		return s, torn(err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, &damaged{b.at, "its summary is no JSON of a recording"}
	}
	switch {
	case s.Version > Version:
		return s, errNewer
	case s.Version < 1 || s.Bytes < 0 || s.Bytes > maxFrame || s.Instance == "":
		return s, &damaged{b.at, "its summary makes no sense"}
	}
	if buf == nil {
		if n, err := b.r.Discard(s.Bytes); n < s.Bytes {
			return s, torn(err)
		}
	} else {
		*buf = slices.Grow((*buf)[:0], s.Bytes)[:s.Bytes]
		if _, err := io.ReadFull(b.r, *buf); err != nil {
			return s, torn(err)
		}
	}
	b.at += headBytes + int64(size) + int64(s.Bytes)
	return s, nil
}

// torn is errTorn at the end of a file.
func torn(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errTorn
	}
	return err
}

// decompressor reads frames with a checksum, of a bounded size.
func decompressor() (*zstd.Decoder, error) {
	return zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxMessage), zstd.WithDecoderLowmem(true))
}

// Begins says whether these are the first bytes of a recording. Four are enough.
func Begins(b []byte) bool {
	return len(b) >= 4 && binary.LittleEndian.Uint32(b) == summaryMagic
}

// Read hands over the messages (TracesData, as protobuf) of a recording one after the other, each valid until the next,
// with the Summary up to it. After an error, too, what was handed over is good. ErrNone is for what is no recording.
func Read(r io.Reader, message func(s *Summary, traces []byte) error) error {
	d, err := decompressor()
	if err != nil {
		return err
	}
	defer d.Close()
	var frame, traces []byte
	var bad error // of a block whose end is known: the next one is good
	for b := newBlocks(r); ; {
		at := b.at
		s, err := b.next(&frame)
		if errors.Is(err, io.EOF) && at > 0 {
			return bad
		}
		if _, ok := errors.AsType[*damaged](err); at == 0 && (ok || errors.Is(err, io.EOF) || errors.Is(err, errTorn)) {
			return fmt.Errorf("%w: %w", ErrNone, err)
		}
		if err != nil {
			return fmt.Errorf("the recording cannot be read to its end: %w", err)
		}
		if traces, err = d.DecodeAll(frame, traces[:0]); err != nil {
			if bad == nil { // one says enough
				bad = fmt.Errorf("some of the recording cannot be read: %w", &damaged{at, err.Error()})
			}
			continue
		}
		if err := message(&s, traces); err != nil {
			return err
		}
	}
}
