// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
)

func FuzzParseHeaders(f *testing.F) {
	f.Add("# renewed hourly\nauthorization: Bearer abc\nx-scope: a\n")
	f.Add("grpc-timeout: 1\n: x\n")
	f.Fuzz(func(t *testing.T, text string) {
		headers, err := parseHeaders(text)
		if err != nil {
			return
		}
		for name, values := range headers {
			for _, v := range values {
				if !headerName(name) || !utf8.ValidString(v) || len(headers) > maxHeaders {
					t.Fatalf("%q: %q", name, v)
				}
			}
		}
	})
}

func FuzzFindEndpoint(f *testing.F) {
	for _, text := range []string{"http://h:4317", "https://[::1]/a%2Fb/v1/traces", "https://[:]", "unix:///run/otel.sock", "h", "http://u:p@h?x#y"} {
		f.Add(text, "", "grpc", "a=b,c=%20d")
		f.Add("", text, "http/protobuf", "")
	}
	f.Fuzz(func(t *testing.T, given, variable, protocol, headers string) {
		env := map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": variable, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_EXPORTER_OTLP_HEADERS": headers,
		}
		getenv := func(name string) string { return env[name] }
		e, ok, err := FindEndpoint(given, "", getenv)
		if err != nil || !ok {
			return
		}
		if md, err := headersFromEnvironment(Traces, getenv); err != nil || len(md) > maxHeaders {
			t.Fatalf("%v, %v", md, err)
		}
		if e.Protocol == HTTP {
			u, err := url.Parse(e.URL(Traces))
			if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || !strings.HasPrefix(u.Path, "/") {
				t.Fatalf("%+v is %q: %v", e, e.URL(Traces), err)
			}
		}
		if e.socket() != "" {
			return
		}
		if _, port, err := net.SplitHostPort(e.Target); err != nil || port == "" {
			t.Fatalf("%+v: %v", e, err)
		}
		again, _, err := FindEndpoint(e.String(), e.Protocol, func(string) string { return "" })
		if err != nil || again.Target != e.Target || again.Insecure != e.Insecure {
			t.Fatalf("%+v, of its own text %q %+v: %v", e, e, again, err)
		}
	})
}

// The same of a backend over HTTP.
func FuzzAnswer(f *testing.F) {
	f.Add(200, typeProtobuf, "", "", []byte{10, 2, 8, 1})
	f.Add(429, "text/plain", "120", "", []byte("slow down"))
	f.Add(307, "", "Fri, 31 Dec 1999 23:59:59 GMT", "//u:p@h/x?y", []byte(nil))
	f.Fuzz(func(t *testing.T, code int, kind, after, location string, body []byte) {
		resp := &http.Response{
			StatusCode: code, Header: http.Header{"Content-Type": {kind}, "Retry-After": {after}, "Location": {location}},
			Body: io.NopCloser(bytes.NewReader(body)), Request: &http.Request{URL: &url.URL{Scheme: "http", Host: "h", Path: "/v1/traces"}},
		}
		receipt, r := answered(resp)
		if r == nil {
			if code < 200 || code > 299 {
				t.Fatalf("%d is a success: %+v", code, receipt)
			}
			return
		}
		if len(r.Message) > 4*maxReason || !utf8.ValidString(r.Message) || r.After < 0 || r.After > maxAfter {
			t.Fatalf("%+v", r)
		}
		if r.Kind == Temporary && code != 429 && code != 502 && code != 503 && code != 504 {
			t.Fatalf("%d is tried again", code)
		}
	})
}

// What a backend says when it refuses goes into the log and into dead letters, and decides when it is asked again.
func FuzzRefusal(f *testing.F) {
	asked, err := status.New(codes.ResourceExhausted, "slow down").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(2e9)})
	if err != nil {
		f.Fatal(err)
	}
	seed, err := proto.Marshal(asked.Proto())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte{8, 14, 18, 2, 'a', 'b'})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &statuspb.Status{}
		if proto.Unmarshal(b, s) != nil || s.GetCode() == int32(codes.OK) {
			return
		}
		r := newRefusal(status.ErrorProto(s))
		if len(r.Message) > 3*maxReason || !utf8.ValidString(r.Message) || r.After < 0 || r.After > maxAfter {
			t.Fatalf("%+v", r)
		}
	})
}
