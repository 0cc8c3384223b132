// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip" // registers the compressor
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// maxAnswer bounds what is read of a backend's answer.
const maxAnswer = 64 << 10

func httpClient(b Backend) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: b.TLS.Clone(),
			MaxIdleConnsPerHost: senders, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: b.Timeout,
			ForceAttemptHTTP2: true, DisableCompression: true,
		},
		// A redirected POST would become a GET, or take the credentials elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// post sends a message over HTTP: of one that came this way in protobuf, the bytes as received.
func (f *Forwarder) post(ctx context.Context, m *message) (again bool, err error) {
	body, encoding := m.body, m.encoding
	if m.grpc {
		body, encoding = m.plain, ""
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, f.base+m.signal.httpPath(), bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	r.Header.Set("Content-Type", typeProtobuf)
	if encoding != "" {
		r.Header.Set("Content-Encoding", encoding)
	}
	if f.b.UserAgent != "" {
		r.Header.Set("User-Agent", f.b.UserAgent)
	}
	for k, v := range f.b.Headers {
		r.Header.Set(k, v)
	}
	resp, err := f.http.Do(r)
	if err != nil {
		return true, err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer) // so that the connection can be used again
	switch resp.StatusCode {
	case http.StatusOK, http.StatusAccepted, http.StatusNoContent:
		return false, nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		again = true
	case http.StatusNotFound:
		err = errUnsupported
	}
	return again, errors.Join(fmt.Errorf("%s answers %s", r.URL.Redacted(), resp.Status), err)
}

func dial(b Backend) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if b.TLS != nil {
		creds = credentials.NewTLS(b.TLS.Clone())
	}
	o := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: b.retryWait, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 10 * time.Second,
			},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(maxAnswer)),
	}
	if b.Dial != nil && strings.HasPrefix(b.GRPC, "unix:") {
		o = append(o, grpc.WithContextDialer(b.Dial))
	}
	if b.UserAgent != "" {
		o = append(o, grpc.WithUserAgent(b.UserAgent))
	}
	return grpc.NewClient(b.GRPC, o...)
}

// call sends a message over gRPC.
func (f *Forwarder) call(ctx context.Context, m *message) (again bool, err error) {
	for k, v := range f.b.Headers {
		ctx = metadata.AppendToOutgoingContext(ctx, k, v)
	}
	var o []grpc.CallOption
	if m.encoding == encodingGzip {
		o = append(o, grpc.UseCompressor(encodingGzip))
	}
	err = f.grpc.Invoke(ctx, m.signal.grpcMethod(), m.plain, new([]byte), o...)
	if err == nil {
		return false, nil
	}
	s := status.Convert(err)
	err = fmt.Errorf("%s answers %s: %s", f.b.GRPC, s.Code(), s.Message())
	switch s.Code() { // those that the OTLP specification calls retryable
	case codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.OutOfRange, codes.Unavailable, codes.DataLoss:
		again = true
	case codes.Unimplemented:
		err = errors.Join(err, errUnsupported)
	}
	return again, err
}

// rawCodec sends bytes that are a message already.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" } // of the content type

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, errors.New("not bytes")
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return errors.New("not bytes")
	}
	*b = data.Materialize()
	return nil
}
