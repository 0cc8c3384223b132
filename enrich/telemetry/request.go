// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// refusal is an answer other than success. Its text is a constant: it goes into headers.
type refusal struct {
	http  int
	grpc  codes.Code
	cause cause
	text  string
}

func (r *refusal) Error() string { return r.text }

// By the OTLP specification a client retries after 429, 503 and UNAVAILABLE only.
var (
	errPath = &refusal{http.StatusNotFound, codes.Unimplemented, causeForeign,
		"no such OTLP service: traces, logs and metrics are accepted"}
	errMethod = &refusal{http.StatusMethodNotAllowed, codes.Unimplemented, causeForeign,
		"OTLP is sent by POST"}
	errType = &refusal{http.StatusUnsupportedMediaType, codes.InvalidArgument, causeForeign,
		"the content type is not one of application/x-protobuf, application/json and application/grpc"}
	errEncoding = &refusal{http.StatusUnsupportedMediaType, codes.Unimplemented, causeForeign,
		"the compression is not gzip"}
	errWeb = &refusal{http.StatusForbidden, codes.PermissionDenied, causeForeign,
		"web pages may not send telemetry here"}
	errTooLarge = &refusal{http.StatusRequestEntityTooLarge, codes.ResourceExhausted, causeTooLarge,
		"the request is too large"}
	errMalformed = &refusal{http.StatusBadRequest, codes.InvalidArgument, causeMalformed,
		"the request is not well-formed OTLP"}
	errBusy = &refusal{http.StatusServiceUnavailable, codes.Unavailable, causeBusy,
		"too much telemetry at once"}
	errRate = &refusal{http.StatusTooManyRequests, codes.Unavailable, causeBusy,
		"too much telemetry"}
	errSlow = &refusal{http.StatusRequestTimeout, codes.DeadlineExceeded, causeMalformed,
		"the request did not arrive in time"}
	errForged = &refusal{http.StatusForbidden, codes.PermissionDenied, causeForged,
		"the request carries the scope, sheetbend.* attributes or a trace id of Sheetbend's own spans"}
	errInside = &refusal{http.StatusForbidden, codes.PermissionDenied, causeInside,
		"the sender runs inside of a tool call: only its agent's own telemetry is accepted"}
	errHidden = &refusal{http.StatusForbidden, codes.PermissionDenied, causeInside,
		"the sender cannot be found: keep the connection open until the answer"}
	errEnding = &refusal{http.StatusServiceUnavailable, codes.Unavailable, causeBusy,
		"the intake is ending"}
)

// A cause is the counter that a refusal goes to.
type cause uint8

const (
	causeForeign cause = iota
	causeTooLarge
	causeMalformed
	causeForged
	causeInside
	causeBusy
	causes
)

// ServeHTTP answers one OTLP request. gRPC is spoken here and not by a grpc.Server (docs/design/intake.md): a unary
// call is an HTTP/2 POST whose body is the message behind five bytes, and whose status is a trailer.
func (i *Intake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m := message{}
	contentType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	m.grpc = r.ProtoMajor == 2 && (contentType == typeGRPC || contentType == typeGRPC+"+proto")
	m.json = contentType == typeJSON
	err := i.handle(r, contentType, &m)
	if err == nil {
		accept(w, &m)
		return
	}
	no, ok := errors.AsType[*refusal](err)
	if !ok {
		no = errMalformed
	}
	if i.refused[no.cause].Add(1) == 1 && (no == errForged || no == errInside || no == errHidden) {
		i.o.Log.Warn("agent telemetry refused; more of it is only counted", "err", no)
	}
	i.o.Log.Debug("agent telemetry refused", "path", r.URL.Path, "content_type", contentType, "err", err)
	refuse(w, &m, no)
}

// handle reads the request, hands over its facts and passes it on.
func (i *Intake) handle(r *http.Request, contentType string, m *message) error {
	c, ok := r.Context().Value(peerKey{}).(*conn)
	if !ok || !i.enter() {
		return errEnding
	}
	defer i.handlers.Done()
	defer i.peers.Used(c.slot)
	switch {
	case r.Method != http.MethodPost:
		return errMethod
	// A page that a browser of this host shows can send requests to loopback; browsers name the page.
	case r.Header.Get("Origin") != "":
		return errWeb
	case !m.grpc && !m.json && contentType != typeProtobuf:
		return errType
	}
	for s := Traces; s <= Metrics; s++ {
		if !m.grpc && r.URL.Path == s.Path() || m.grpc && r.URL.Path == s.Method() {
			m.signal = s
		}
	}
	if m.signal == 0 {
		return errPath
	}
	h := &reservation{peers: i.peers, peer: c.slot.Account()}
	defer h.release()
	wire, err := i.receive(r, h, m)
	if err != nil {
		return err
	}
	if !i.peers.spendBytes(c.slot.Account(), len(m.plain)+wire+requestCost) {
		return errRate
	}
	if m.json {
		i.transcoding.Lock()
		plain, err := toProtobuf(m.signal, m.plain)
		i.transcoding.Unlock()
		if err != nil {
			return err
		}
		m.plain = plain
	}
	if err := m.forged(); err != nil {
		return err
	}
	if err := c.admit(r.Context(), i); err != nil {
		return err
	}
	if err := i.read(m, c); err != nil {
		return err
	}
	i.requests.Add(1)
	i.bytes.Add(uint64(wire))
	if i.o.Forward != nil {
		i.o.Forward(m.signal, shrink(m.plain))
	}
	return nil
}

// requestCost is what a request without content costs of the rate, in bytes.
const requestCost = 1 << 10

// shrink keeps no room that reading left behind a message.
func shrink(b []byte) []byte {
	if cap(b) > len(b)+len(b)/4 {
		return bytes.Clone(b)
	}
	return b
}

// receive reads the body and uncompresses it.
func (i *Intake) receive(r *http.Request, h *reservation, m *message) (wire int, err error) {
	encoding, limit := r.Header.Get("Content-Encoding"), i.o.MaxMessage
	if m.grpc {
		encoding = r.Header.Get("Grpc-Encoding")
		limit += frameHead
	}
	switch strings.ToLower(encoding) {
	case "", "identity":
		encoding = ""
	case encodingGzip:
		encoding = encodingGzip
	default:
		return 0, errEncoding
	}
	if r.ContentLength > int64(limit) {
		return 0, errTooLarge
	}
	body, err := readAll(r.Body, limit, int(r.ContentLength), h)
	if err != nil {
		return 0, err
	}
	wire = len(body)
	m.plain = body
	if m.grpc {
		compressed, message, ok := unframe(body)
		if !ok || compressed && encoding == "" {
			return 0, errMalformed
		}
		if !compressed {
			encoding = ""
		}
		m.plain = message
	}
	if encoding == encodingGzip {
		z, err := gzip.NewReader(bytes.NewReader(m.plain))
		if err != nil {
			return 0, errMalformed
		}
		if m.plain, err = readAll(z, i.o.MaxMessage, 2*len(m.plain), h); err != nil {
			return 0, err
		}
	}
	return wire, nil
}

// frameHead is the flag and the length before a gRPC message.
const frameHead = 5

// unframe gives the one message in the body of a unary call.
func unframe(body []byte) (compressed bool, message []byte, ok bool) {
	if len(body) < frameHead || body[0] > 1 {
		return false, nil, false
	}
	message = body[frameHead:]
	return body[0] == 1, message, uint64(binary.BigEndian.Uint32(body[1:])) == uint64(len(message))
}

// readAll reads up to limit bytes, accounted for in h before they are there. expected is a guess at their count.
func readAll(r io.Reader, limit, expected int, h *reservation) ([]byte, error) {
	const smallest = 16 << 10
	if !h.grow(smallest) {
		return nil, errBusy
	}
	buf := make([]byte, 0, smallest)
	for {
		if len(buf) == cap(buf) {
			// Doubling, even if the sender announced more: an announcement costs nothing.
			size := min(2*cap(buf), limit+1)
			if size < expected+1 && expected < limit && cap(buf) >= 1<<20 {
				size = expected + 1
			}
			if !h.grow(size) {
				return nil, errBusy
			}
			bigger := make([]byte, len(buf), size)
			copy(bigger, buf)
			h.shrink(cap(buf))
			buf = bigger
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if len(buf) > limit {
			return nil, errTooLarge
		}
		switch {
		case errors.Is(err, io.EOF):
			return buf, nil
		case isTimeout(err):
			return nil, errSlow
		case err != nil:
			return nil, errMalformed
		}
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// accept answers with an empty Export…ServiceResponse: full success.
func accept(w http.ResponseWriter, m *message) {
	switch {
	case m.grpc:
		w.Header().Set("Content-Type", typeGRPC)
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = w.Write(make([]byte, frameHead))
		w.Header().Set("Grpc-Status", "0")
	case m.json:
		w.Header().Set("Content-Type", typeJSON)
		_, _ = io.WriteString(w, "{}")
	default:
		w.Header().Set("Content-Type", typeProtobuf)
		w.WriteHeader(http.StatusOK)
	}
}

// refuse answers with a status alone, over HTTP in the form of a google.rpc.Status.
func refuse(w http.ResponseWriter, m *message, no *refusal) {
	h := w.Header()
	if m.grpc {
		h.Set("Content-Type", typeGRPC)
		h.Set("Grpc-Status", strconv.Itoa(int(no.grpc)))
		h.Set("Grpc-Message", no.text)
		h.Set("Grpc-Accept-Encoding", encodingGzip)
		w.WriteHeader(http.StatusOK)
		return
	}
	answer := status.New(no.grpc, no.text).Proto()
	var body []byte
	if m.json {
		h.Set("Content-Type", typeJSON)
		body, _ = protojson.Marshal(answer)
	} else {
		h.Set("Content-Type", typeProtobuf)
		body, _ = proto.Marshal(answer)
	}
	switch no.http {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h.Set("Retry-After", "1")
	case http.StatusMethodNotAllowed:
		h.Set("Allow", http.MethodPost)
	case http.StatusUnsupportedMediaType:
		h.Set("Accept-Encoding", encodingGzip)
	case http.StatusRequestEntityTooLarge, http.StatusRequestTimeout:
		h.Set("Connection", "close") // the rest of the body is not worth reading
	}
	w.WriteHeader(no.http)
	_, _ = w.Write(body) //nolint:gosec // a constant text, in a content type that browsers do not show
}
