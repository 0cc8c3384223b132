// SPDX-License-Identifier: Apache-2.0

// Package capture keeps a record stream in a file, so that the same spans can be
// made of it again, elsewhere and without a kernel.
//
// A capture is two lines of text, the second one JSON, and then frames: a length (uint32,
// little-endian), and so many bytes of one record.
//
//	sheetbend capture 3
//	{"sensor":"0.1.0","config":{…}}
//	<length><record><length><record>…
//
// The number is that of the layout of the records ([record.Layout]). A Writer writes the layout of today. A
// Reader reads this and all earlier ones, each by a package of its own, and gives every record in the layout of
// today.
//
// A capture holds arguments, paths and the listed environment variables as they
// were, credentials included: masking comes later, when spans are made. Keep it as secret as those.
package capture

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/record/layout1"
	"github.com/sheetbend/sheetbend/collector/record/layout3"
)

const (
	// magic begins the first line; the number of the records' layout ends it.
	magic = "sheetbend capture "
	// maxNumber bounds that number with the line's end, in bytes.
	maxNumber = len("65535\n")

	// MaxRecord bounds one record in bytes.
	MaxRecord = 1 << 20
	// maxHeader bounds the header line in bytes.
	maxHeader = 4 << 20
)

var (
	// ErrFormat is wrapped when the file is no capture.
	ErrFormat = errors.New("not a capture")
	// ErrLayout is wrapped when the capture's records have a layout that this program does not know.
	ErrLayout = errors.New("a capture of another version")
	// ErrTruncated is wrapped when the file ends within a record, as after a crash of
	// its writer. The records before were good.
	ErrTruncated = errors.New("capture ends within a record")
	// ErrNoHeader is wrapped when the file ends before the first record could come: its writer was ended, or the disk
	// was full.
	ErrNoHeader = errors.New("capture ends within its header: its writer did not come to write it")
)

// Header says under which configuration the records were collected.
type Header struct {
	Sensor string           `json:"sensor"` // version of the program that wrote it
	Config collector.Config `json:"config"`
}

// Writer writes a capture. It buffers and is not safe for concurrent use. After an
// error all further calls return that error.
type Writer struct {
	w   *bufio.Writer
	err error
}

// NewWriter writes the header, with the configuration's defaults written out, so that
// a later version with other defaults makes the same spans. The caller closes w after Flush.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	h.Config = h.Config.WithDefaults()
	line, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode capture header: %w", err)
	}
	if len(line) >= maxHeader {
		return nil, fmt.Errorf("capture header of %d bytes is too long", len(line))
	}
	b := bufio.NewWriterSize(w, 256<<10)
	// A bufio.Writer remembers its first error: Flush returns it.
	_, _ = fmt.Fprintf(b, "%s%d\n", magic, record.Layout)
	_, _ = b.Write(append(line, '\n'))
	if err := b.Flush(); err != nil {
		return nil, fmt.Errorf("write capture header: %w", err)
	}
	return &Writer{w: b}, nil
}

// Record adds one record; raw is not kept.
func (w *Writer) Record(raw []byte) error {
	if w.err != nil {
		return w.err
	}
	if len(raw) > MaxRecord {
		return fmt.Errorf("record of %d bytes is too long for a capture", len(raw))
	}
	var length [4]byte
	binary.LittleEndian.PutUint32(length[:], uint32(len(raw)))
	if _, err := w.w.Write(length[:]); err != nil {
		w.err = fmt.Errorf("write capture: %w", err)
	} else if _, err := w.w.Write(raw); err != nil {
		w.err = fmt.Errorf("write capture: %w", err)
	}
	return w.err
}

// Flush hands everything so far to the underlying writer.
func (w *Writer) Flush() error {
	if w.err == nil {
		if err := w.w.Flush(); err != nil {
			w.err = fmt.Errorf("write capture: %w", err)
		}
	}
	return w.err
}

// Reader reads a capture.
type Reader struct {
	r       *bufio.Reader
	layout  uint64
	header  Header
	buf     []byte
	convert []byte // a record of an earlier layout in that of today
	count   uint64
}

// NewReader reads the header. The error wraps ErrFormat if r is no capture, ErrNoHeader if it is the begin of
// one, and ErrLayout if a later version wrote it.
func NewReader(r io.Reader) (*Reader, error) {
	b := bufio.NewReaderSize(r, 256<<10)
	if head, _ := b.Peek(2); string(head) == "\x1f\x8b" {
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("%w: it begins as gzip does: %w", ErrFormat, err)
		}
		b = bufio.NewReaderSize(z, 256<<10)
	}
	first := make([]byte, len(magic))
	n, err := io.ReadFull(b, first)
	switch {
	case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("read capture: %w", err)
	case n < len(magic) && string(first[:n]) == magic[:n]:
		return nil, ErrNoHeader
	case string(first) != magic:
		return nil, fmt.Errorf("%w: it does not begin with %q", ErrFormat, magic)
	}
	number, err := line(b, maxNumber)
	if err != nil {
		return nil, err
	}
	layout, err := strconv.ParseUint(strings.TrimSuffix(string(number), "\n"), 10, 16)
	if err != nil || layout == 0 {
		return nil, fmt.Errorf("%w: %q is no version of one", ErrFormat, number)
	}
	if layout > record.Layout {
		return nil, fmt.Errorf("%w: it is of version %d, this sheetbend reads up to %d: "+
			"use the sheetbend that wrote it, or a later one", ErrLayout, layout, record.Layout)
	}
	text, err := line(b, maxHeader)
	if err != nil {
		return nil, err
	}
	c := &Reader{r: b, layout: layout}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c.header); err != nil {
		return nil, fmt.Errorf("%w: its header: %w", ErrFormat, err)
	}
	return c, nil
}

// line reads a line of the header, with its end, of at most limit bytes.
func line(b *bufio.Reader, limit int) (text []byte, err error) {
	for {
		part, err := b.ReadSlice('\n')
		text = append(text, part...)
		switch {
		case len(text) > limit:
			return nil, fmt.Errorf("%w: a line of its header is longer than %d bytes", ErrFormat, limit)
		case err == nil:
			return text, nil
		case errors.Is(err, io.EOF):
			return nil, ErrNoHeader
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("read the header of the capture: %w", err)
		}
	}
}

// Header is what the writer gave. It is not validated: collector.New does that.
func (r *Reader) Header() Header {
	return r.header
}

// Next gives the next record in the layout of today, valid until the call after, and io.EOF after the last. The
// error wraps ErrTruncated if the capture was cut off.
func (r *Reader) Next() ([]byte, error) {
	var length [4]byte
	n, err := io.ReadFull(r.r, length[:])
	switch {
	case err == io.EOF:
		return nil, io.EOF
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("%w: %d of 4 bytes of a length after %d records", ErrTruncated, n, r.count)
	case err != nil:
		return nil, fmt.Errorf("read capture: %w", err)
	}
	size := binary.LittleEndian.Uint32(length[:])
	if size > MaxRecord {
		return nil, fmt.Errorf("%w: a record of %d bytes after %d records, at most %d are possible", ErrFormat, size,
			r.count, MaxRecord)
	}
	if int(size) > cap(r.buf) {
		r.buf = make([]byte, max(int(size), 4096))
	}
	r.buf = r.buf[:size]
	n, err = io.ReadFull(r.r, r.buf)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("%w: %d of %d bytes after %d records", ErrTruncated, n, size, r.count)
	}
	if err != nil {
		return nil, fmt.Errorf("read capture: %w", err)
	}
	r.count++
	switch r.layout {
	case 1: // had none of the kinds that changed later
		r.convert = layout1.Append(r.convert[:0], r.buf)
		return r.convert, nil
	case 2, 3:
		r.convert = layout3.Append(r.convert[:0], r.buf)
		return r.convert, nil
	}
	return r.buf, nil
}
