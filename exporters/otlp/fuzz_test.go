// SPDX-License-Identifier: Apache-2.0

package otlp

import (
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
