// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// RefusalKind says what has to change before a batch that was not taken can be.
type RefusalKind int

// The kinds of Refusal.
const (
	// Temporary: the backend is away, busy or slow. The same batch is worth another attempt.
	Temporary RefusalKind = iota
	// Misconfigured: credentials, rights or the kind of server are wrong. Another batch would be refused, too.
	Misconfigured
	// Permanent: the backend will never take this batch, but may take the next.
	Permanent
	// TooMuch: too much at once, or the batch is too large; the backend did not say which, nor when to come back.
	TooMuch
	// Unsupported: the backend does not take the signal at all. Another batch of it would be refused, too.
	Unsupported
)

// Refusal is why a backend did not take a batch.
type Refusal struct {
	Code    string // of gRPC or HTTP; "" if there was no answer
	Message string // of the backend or about it; for people, maxReason bytes and what to do
	Kind    RefusalKind
	// After is how long the backend asks to wait before the next attempt; 0 if it does not say.
	After time.Duration
}

const (
	// maxReason bounds what a backend can make logs and dead letters say, in bytes.
	maxReason = 512
	// maxAfter bounds what it can make the sender wait.
	maxAfter = time.Minute
)

// Error is what a user can act on.
func (r *Refusal) Error() string {
	if r.Code == "" {
		return r.Message
	}
	return fmt.Sprintf("%s (%s)", r.Message, r.Code)
}

// Retryable is what the OTLP specification calls so.
func (r *Refusal) Retryable() bool { return r.Kind == Temporary }

func newRefusal(err error) *Refusal {
	var in interface{ GRPCStatus() *status.Status }
	s := status.New(codes.Unknown, err.Error())
	if errors.As(err, &in) {
		s = in.GRPCStatus()
	}
	r := &Refusal{Code: s.Code().String(), Message: reason(s.Message())}
	asked := false
	for _, detail := range s.Details() {
		if t, ok := detail.(*errdetails.RetryInfo); ok {
			asked = true
			r.After = min(max(0, t.GetRetryDelay().AsDuration()), maxAfter)
		}
	}
	switch s.Code() {
	case codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.OutOfRange, codes.Unavailable, codes.DataLoss:
		r.Kind = Temporary
	case codes.ResourceExhausted:
		if r.Kind = TooMuch; asked {
			r.Kind = Temporary
		}
	case codes.Unauthenticated, codes.PermissionDenied:
		r.Kind = Misconfigured
	case codes.Unimplemented:
		r.Kind = Unsupported
	default:
		r.Kind = Permanent
	}
	if s.Code() == codes.Unavailable && strings.Contains(s.Message(), "looked like an HTTP/1.1 header") ||
		s.Code() != codes.Unavailable && strings.Contains(s.Message(), "unexpected HTTP status code") ||
		s.Code() == codes.Unknown && strings.Contains(s.Message(), "unexpected content-type") {
		r.Kind = Misconfigured
		r.Message += ": no gRPC server answers; is it the port for HTTP (protocol: http/protobuf)?"
	}
	return r
}

const wantsGRPC = ": it may be the port for gRPC (protocol: grpc)"

// refusalOf is of an answer over HTTP that is not as it should be. kind is its content type.
func refusalOf(resp *http.Response, kind string, text []byte) *Refusal {
	r := &Refusal{Code: "HTTP " + strconv.Itoa(resp.StatusCode), Message: http.StatusText(resp.StatusCode)}
	var details statuspb.Status
	switch {
	case kind == typeProtobuf && proto.Unmarshal(text, &details) == nil:
		r.Message = cmp.Or(reason(details.GetMessage()), r.Message)
	case kind == "text/plain", kind == "application/json":
		r.Message = cmp.Or(reason(strings.TrimSpace(string(text))), r.Message)
	}
	switch code := resp.StatusCode; {
	case code/100 == 2:
		r.Kind, r.Message = Misconfigured, "a web page answers, no OTLP server: is the path right?"
	case code/100 == 3:
		r.Kind, r.Message = Misconfigured, "redirects are not followed: it leads to "+leadsTo(resp)
	case strings.HasPrefix(kind, "application/grpc"):
		r.Kind, r.Message = Misconfigured, r.Message+wantsGRPC
	case code == http.StatusTooManyRequests, code == http.StatusBadGateway,
		code == http.StatusServiceUnavailable, code == http.StatusGatewayTimeout:
		r.Kind, r.After = Temporary, retryAfter(resp.Header.Get("Retry-After"), time.Now())
	case code == http.StatusNotFound, code == http.StatusNotImplemented:
		r.Kind, r.Message = Unsupported, r.Message+" at "+resp.Request.URL.EscapedPath()
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusProxyAuthRequired,
		code == http.StatusMethodNotAllowed, code == http.StatusUnsupportedMediaType,
		code == http.StatusMisdirectedRequest, code == http.StatusUpgradeRequired:
		r.Kind = Misconfigured
	case code == http.StatusBadRequest && resp.Request.URL.Scheme == "http" && wantsTLS(text):
		r.Kind, r.Message = Misconfigured, "it takes TLS only: give the endpoint as https://"
	default:
		r.Kind = Permanent
	}
	return r
}

// wantsTLS knows the words of Go's server, nginx and Apache for a request in plain text.
func wantsTLS(text []byte) bool {
	s := strings.ToLower(string(text))
	return strings.Contains(s, "https server") || strings.Contains(s, "https port") ||
		strings.Contains(s, "ssl-enabled server port")
}

// leadsTo is where a redirect does, without what may be secret.
func leadsTo(resp *http.Response) string {
	u, err := resp.Location()
	if err != nil {
		return "nowhere"
	}
	return reason((&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String())
}

// retryAfter reads the header: seconds, or a date. It is 0 if that says nothing.
func retryAfter(text string, now time.Time) time.Duration {
	var wait time.Duration
	if n, err := strconv.ParseUint(text, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		wait = time.Duration(min(n, uint64(maxAfter/time.Second))) * time.Second
	} else if date, err := http.ParseTime(text); err == nil {
		wait = date.Sub(now)
	}
	return min(max(0, wait), maxAfter)
}

// unanswered is of a request without an answer.
func unanswered(ctx context.Context, err error) *Refusal {
	var in *url.Error
	if errors.As(err, &in) {
		err = in.Err // without the URL
	}
	r := &Refusal{Kind: Temporary, Message: reason(err.Error())}
	switch {
	case ctx.Err() != nil:
		r.Message = reason(context.Cause(ctx).Error())
	// A server of HTTP/2 speaks first. If it does before the request is written, net/http says it like this.
	case strings.Contains(r.Message, "malformed HTTP response"), strings.HasPrefix(r.Message, "readLoopPeekFailLocked: %!w(<nil>)"):
		r.Kind, r.Message = Misconfigured, "no HTTP server answers"+wantsGRPC
	case strings.Contains(r.Message, "server gave HTTP response to HTTPS client"):
		r.Kind, r.Message = Misconfigured, "it takes no TLS: give the endpoint as http://"
	}
	return r
}

func reason(s string) string {
	if len(s) > maxReason {
		s = s[:maxReason]
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return s
}
