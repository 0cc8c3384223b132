// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"encoding/binary"
	"math/bits"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sheetbend/sheetbend/collector/notable"
	"github.com/sheetbend/sheetbend/collector/span"
)

// Tags of the OTLP 1.x messages (opentelemetry/proto/{trace,common,resource}/v1): field number << 3 | wire type
// (0 varint, 1 eight bytes, 2 length and content, 5 four bytes).
const (
	tagResourceSpans = 1<<3 | 2 // of TracesData, and of the export requests

	tagResourceSpansResource = 1<<3 | 2
	tagResourceSpansScope    = 2<<3 | 2
	tagResourceSpansSchema   = 3<<3 | 2

	tagResourceAttribute = 1<<3 | 2

	tagScopeSpansScope  = 1<<3 | 2
	tagScopeSpansSpan   = 2<<3 | 2
	tagScopeSpansSchema = 3<<3 | 2

	tagScopeName    = 1<<3 | 2
	tagScopeVersion = 2<<3 | 2

	tagSpanTrace     = 1<<3 | 2
	tagSpanID        = 2<<3 | 2
	tagSpanParent    = 4<<3 | 2
	tagSpanName      = 5<<3 | 2
	tagSpanKind      = 6 << 3
	tagSpanStart     = 7<<3 | 1
	tagSpanEnd       = 8<<3 | 1
	tagSpanAttribute = 9<<3 | 2
	tagSpanLink      = 13<<3 | 2
	tagSpanStatus    = 15<<3 | 2
	tagSpanFlags     = 16<<3 | 5 // needs two bytes

	tagLinkTrace     = 1<<3 | 2
	tagLinkID        = 2<<3 | 2
	tagLinkAttribute = 4<<3 | 2
	tagLinkFlags     = 6<<3 | 5

	tagStatusMessage = 2<<3 | 2
	tagStatusCode    = 3 << 3

	tagKey   = 1<<3 | 2
	tagValue = 2<<3 | 2

	tagAnyString = 1<<3 | 2
	tagAnyBool   = 2 << 3
	tagAnyInt    = 3 << 3
	tagAnyArray  = 5<<3 | 2

	tagArrayValue = 1<<3 | 2

	// ResourceLogs and ScopeLogs have the fields of ResourceSpans and ScopeSpans.
	tagRecordTime         = 1<<3 | 1
	tagRecordSeverity     = 2 << 3
	tagRecordSeverityText = 3<<3 | 2
	tagRecordBody         = 5<<3 | 2
	tagRecordAttribute    = 6<<3 | 2
	tagRecordFlags        = 8<<3 | 5
	tagRecordTrace        = 9<<3 | 2
	tagRecordSpan         = 10<<3 | 2
	tagRecordObserved     = 11<<3 | 1
	tagRecordEvent        = 12<<3 | 2
)

const (
	kindInternal = 1
	kindClient   = 3
	statusError  = 2

	// What the OpenTelemetry SDK sends for a sampled span: W3C sampled (0x01), "it is known whether the parent is
	// remote" (0x100), and if it is of another producer, remote (0x200). A link does not have these two flags.
	spanFlags       = 0x101
	spanRemoteFlags = 0x301
	linkFlags       = 0x001

	// eventPrefix is what the names of events begin with.
	eventPrefix = "sheetbend."
)

// appendSpan appends s as a field of a ScopeSpans message: tag, length, Span.
// Invalid UTF-8, which would make a receiver refuse the whole batch, is replaced by U+FFFD.
// Attributes without a key or of an unknown kind are left out.
func appendSpan(b []byte, s *span.Span) []byte {
	b = append(b, tagScopeSpansSpan)
	mark := len(b)
	b = append(b, 0, 0) // the length: two bytes from 128 to 16383, which is nearly every span

	b = append(b, tagSpanTrace, 16)
	b = append(b, s.Trace[:]...)
	b = append(b, tagSpanID, 8)
	b = append(b, s.ID[:]...)
	if s.Parent != (span.ID{}) {
		b = append(b, tagSpanParent, 8)
		b = append(b, s.Parent[:]...)
	}
	if s.Name != "" {
		b = appendString(b, tagSpanName, valid(s.Name))
	}
	kind := byte(kindInternal)
	if s.Kind == span.Connect || s.Kind == span.ConnectStart {
		kind = kindClient
	}
	b = append(b, tagSpanKind, kind, tagSpanStart)
	b = binary.LittleEndian.AppendUint64(b, s.Start)
	b = append(b, tagSpanEnd)
	b = binary.LittleEndian.AppendUint64(b, s.End)
	for i := range s.Attrs {
		b = appendAttr(b, tagSpanAttribute, &s.Attrs[i])
	}
	for i := range s.Links {
		start := len(b) + 2
		b = append(b, tagSpanLink, 0, tagLinkTrace, 16)
		b = append(b, s.Links[i].Trace[:]...)
		b = append(b, tagLinkID, 8)
		b = append(b, s.Links[i].Span[:]...)
		b = appendAttr(b, tagLinkAttribute, &span.Attr{Key: span.KeyLink, Kind: span.StringAttr, Str: string(s.Links[i].Rel)})
		b = append(b, tagLinkFlags)
		b = binary.LittleEndian.AppendUint32(b, linkFlags)
		b[start-1] = byte(len(b) - start) // some 60 bytes
	}
	if s.Failed {
		n := 2
		message := valid(s.Status)
		if message != "" {
			n += 1 + lengthSize(len(message)) + len(message)
		}
		b = append(b, tagSpanStatus)
		b = appendLength(b, n)
		if message != "" {
			b = appendString(b, tagStatusMessage, message)
		}
		b = append(b, tagStatusCode, statusError)
	}
	b = append(b, tagSpanFlags&0x7f|0x80, tagSpanFlags>>7)
	flags := uint32(spanFlags)
	if s.Remote {
		flags = spanRemoteFlags
	}
	b = binary.LittleEndian.AppendUint32(b, flags)

	return closeLength(b, mark)
}

// appendRecord appends what is notable in s as a field of a ScopeLogs message: tag, length, LogRecord. It has the
// attributes of the span.
func appendRecord(b []byte, s *span.Span, e notable.Event) []byte {
	b = append(b, tagScopeSpansSpan)
	mark := len(b)
	b = append(b, 0, 0, tagRecordTime)
	b = binary.LittleEndian.AppendUint64(b, e.Time(s))
	b = append(b, tagRecordSeverity, byte(e.Severity))
	b = appendString(b, tagRecordSeverityText, e.Severity.String())
	body := valid(e.Sentence)
	b = append(b, tagRecordBody)
	b = appendLength(b, anyStringSize(body))
	b = appendString(b, tagAnyString, body)
	for i := range s.Attrs {
		b = appendAttr(b, tagRecordAttribute, &s.Attrs[i])
	}
	b = append(b, tagRecordFlags)
	b = binary.LittleEndian.AppendUint32(b, linkFlags)
	b = append(b, tagRecordTrace, 16)
	b = append(b, s.Trace[:]...)
	b = append(b, tagRecordSpan, 8)
	b = append(b, s.ID[:]...)
	b = append(b, tagRecordObserved) // the kernel told of it when it happened
	b = binary.LittleEndian.AppendUint64(b, e.Time(s))
	b = appendString(b, tagRecordEvent, eventPrefix+e.Name)
	return closeLength(b, mark)
}

// closeLength writes the length of what stands behind the two bytes reserved at mark, and
// moves it when the length needs more or fewer bytes.
func closeLength(b []byte, mark int) []byte {
	n := len(b) - mark - 2
	if n >= 1<<7 && n < 1<<14 {
		b[mark] = byte(n) | 0x80
		b[mark+1] = byte(n >> 7)
		return b
	}
	var head [10]byte
	size := len(protowire.AppendVarint(head[:0], uint64(n)))
	switch {
	case size < 2:
		copy(b[mark+size:], b[mark+2:])
		b = b[:len(b)-2+size]
	case size > 2:
		b = append(b, head[:size-2]...) // room; the content is moved over it
		copy(b[mark+size:], b[mark+2:mark+2+n])
	}
	copy(b[mark:], head[:size])
	return b
}

// appendResource appends a Resource message.
func appendResource(b []byte, r *span.Resource) []byte {
	for i := range r.Attrs {
		b = appendAttr(b, tagResourceAttribute, &r.Attrs[i])
	}
	return b
}

// appendScope appends an InstrumentationScope message.
func appendScope(b []byte, version string) []byte {
	b = appendString(b, tagScopeName, span.ScopeName)
	if version != "" {
		b = appendString(b, tagScopeVersion, valid(version))
	}
	return b
}

func appendAttr(b []byte, tag byte, a *span.Attr) []byte {
	if a.Key == "" {
		return b
	}
	key := valid(a.Key)
	keySize := 1 + lengthSize(len(key)) + len(key)
	switch a.Kind {
	case span.StringAttr:
		text := valid(a.Str)
		n := 1 + lengthSize(len(text)) + len(text)
		b = appendKey(b, tag, keySize, key, n)
		b = appendString(b, tagAnyString, text)
	case span.IntAttr:
		v := uint64(a.Int)
		b = appendKey(b, tag, keySize, key, 1+protowire.SizeVarint(v))
		b = append(b, tagAnyInt)
		b = protowire.AppendVarint(b, v)
	case span.BoolAttr:
		v := byte(0)
		if a.Int != 0 {
			v = 1
		}
		b = appendKey(b, tag, keySize, key, 2)
		b = append(b, tagAnyBool, v)
	case span.StringsAttr:
		values := 0
		for _, text := range a.List {
			n := anyStringSize(valid(text))
			values += 1 + lengthSize(n) + n
		}
		b = appendKey(b, tag, keySize, key, 1+lengthSize(values)+values)
		b = append(b, tagAnyArray)
		b = appendLength(b, values)
		for _, text := range a.List {
			text = valid(text)
			b = append(b, tagArrayValue)
			b = appendLength(b, anyStringSize(text))
			b = appendString(b, tagAnyString, text)
		}
	}
	return b
}

// appendKey appends the head of a KeyValue field up to the content of its AnyValue, which is valueSize bytes long.
func appendKey(b []byte, tag byte, keySize int, key string, valueSize int) []byte {
	total := keySize + 1 + lengthSize(valueSize) + valueSize
	if total < 1<<7 { // nearly always; then every length in it is one byte, too
		b = append(b, tag, byte(total), tagKey, byte(len(key)))
		b = append(b, key...)
		return append(b, tagValue, byte(valueSize))
	}
	b = append(b, tag)
	b = appendLength(b, total)
	b = appendString(b, tagKey, key)
	b = append(b, tagValue)
	return appendLength(b, valueSize)
}

func appendString(b []byte, tag byte, s string) []byte {
	if len(s) < 1<<7 {
		b = append(b, tag, byte(len(s)))
	} else {
		b = protowire.AppendVarint(append(b, tag), uint64(len(s)))
	}
	return append(b, s...)
}

func appendLength(b []byte, n int) []byte {
	if n < 1<<7 {
		return append(b, byte(n))
	}
	return protowire.AppendVarint(b, uint64(n))
}

func anyStringSize(s string) int { return 1 + lengthSize(len(s)) + len(s) }

// lengthSize is the size of n as a varint.
func lengthSize(n int) int {
	if n < 1<<7 {
		return 1
	}
	return (bits.Len64(uint64(n)) + 6) / 7
}

func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
