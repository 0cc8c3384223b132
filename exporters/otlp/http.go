// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"sync"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

const (
	// maxAnswer bounds what is read of a backend's answer, in bytes; its header, too.
	maxAnswer = 64 << 10
	// Connections with requests are asked whether they are alive.
	pingAfter   = 30 * time.Second
	pingTimeout = 10 * time.Second
	// idleConns are kept for the next requests.
	idleConns = 8

	typeProtobuf = "application/x-protobuf"
)

// overHTTP sends all signals with one client.
type overHTTP struct {
	cfg          SenderConfig
	zip          bool
	certificates *rotating // nil for plain text

	mu     sync.Mutex
	client *http.Client // of the certificates that were read last
}

func newOverHTTP(cfg SenderConfig, zip bool, certificates *rotating) *overHTTP {
	h := &overHTTP{cfg: cfg, zip: zip, certificates: certificates}
	h.client = h.newClient()
	return h
}

// errRenewed is that of a connection that was not made: the client has old certificates.
var errRenewed = errors.New("the certificates were renewed")

func (h *overHTTP) newClient() *http.Client {
	dialer := &net.Dialer{Timeout: h.cfg.Timeout}
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSHandshakeTimeout: h.cfg.Timeout,
		ForceAttemptHTTP2: true, HTTP2: &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		MaxIdleConnsPerHost: idleConns, IdleConnTimeout: 90 * time.Second,
		MaxResponseHeaderBytes: maxAnswer, DisableCompression: true,
	}
	if path := h.cfg.Endpoint.socket(); path != "" {
		t.Proxy = nil
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return h.cfg.connect(ctx, path) }
	}
	if h.certificates != nil {
		config, version := h.certificates.config()
		config.NextProtos = nil // the transport's own
		t.TLSClientConfig = config
		t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if _, now := h.certificates.config(); now != version {
				return nil, errRenewed
			}
			return dialer.DialContext(ctx, network, addr)
		}
	}
	return &http.Client{
		Transport: t,
		// A redirected POST would become a GET, or take the credentials elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// renewed is a client with the certificates as they are now.
func (h *overHTTP) renewed(old *http.Client) *http.Client {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.client == old {
		h.client = h.newClient()
		old.CloseIdleConnections()
	}
	return h.client
}

func (h *overHTTP) send(ctx context.Context, b Batch, headers metadata.MD) (Receipt, *Refusal) {
	url := h.cfg.Endpoint.URL(b.Signal)
	if url == "" {
		return Receipt{}, &Refusal{Kind: Unsupported, Message: "the endpoint is for traces only"}
	}
	body := b.AppendRequest(make([]byte, 0, b.Size()+len(b.Resources)*8))
	if h.zip {
		body = zipped(body)
	}
	h.mu.Lock()
	client := h.client
	h.mu.Unlock()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return Receipt{}, &Refusal{Kind: Misconfigured, Message: "the endpoint is not a URL"}
		}
		for name, values := range headers {
			for _, v := range values {
				r.Header.Add(name, v)
			}
		}
		r.Header.Set("Content-Type", typeProtobuf)
		if h.zip {
			r.Header.Set("Content-Encoding", Gzip)
		}
		r.Header.Set("User-Agent", h.cfg.UserAgent)
		resp, err := client.Do(r)
		if errors.Is(err, errRenewed) {
			client = h.renewed(client)
			continue
		}
		if err != nil {
			return Receipt{}, unanswered(ctx, err)
		}
		return answered(resp)
	}
}

// answered closes the body.
func answered(resp *http.Response) (Receipt, *Refusal) {
	defer resp.Body.Close()
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	// Of an answer that breaks off, what the status says holds.
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode/100 != 2 || kind == "text/html" {
		return Receipt{}, refusalOf(resp, kind, text)
	}
	var answer coltracepb.ExportTraceServiceResponse
	if kind != typeProtobuf || proto.Unmarshal(text, &answer) != nil {
		return Receipt{}, nil
	}
	return receiptOf(&answer), nil
}

func (h *overHTTP) close() error {
	h.client.CloseIdleConnections()
	return nil
}

var zippers = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

func zipped(plain []byte) []byte {
	z := zippers.Get().(*gzip.Writer) //nolint:forcetypeassert // nothing else is put
	defer zippers.Put(z)
	var out bytes.Buffer
	z.Reset(&out)
	_, _ = z.Write(plain) // into memory
	_ = z.Close()
	return out.Bytes()
}
