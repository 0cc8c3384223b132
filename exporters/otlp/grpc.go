// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
)

// overGRPC sends all signals on one connection.
type overGRPC struct {
	conn   *grpc.ClientConn
	traces otlptrace.Client
}

// newOverGRPC does not wait for a connection. certificates are nil for plain text.
func newOverGRPC(cfg SenderConfig, zip bool, certificates *rotating) (*overGRPC, error) {
	o := []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(readReceipt),
		grpc.WithUserAgent(cfg.UserAgent),
		// gRPC's own backoff between connections grows to 120 s.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: cfg.RetryWait, Multiplier: 1.6, Jitter: 0.2, MaxDelay: max(cfg.RetryWait, maxRetryWait),
			},
			MinConnectTimeout: 5 * time.Second,
		}),
		// Timeout also becomes TCP_USER_TIMEOUT: a peer that vanished without a FIN is noticed by
		// it. Pings only while a request runs, and seldom: servers close connections that ping more.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingAfter, Timeout: pingTimeout}),
	}
	if certificates != nil {
		o = append(o, grpc.WithTransportCredentials(certificates))
	} else {
		o = append(o, grpc.WithTransportCredentials(insecure.NewCredentials()))
	}
	if zip {
		o = append(o, grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name)))
	}
	if cfg.Endpoint.socket() != "" {
		o = append(o, grpc.WithContextDialer(cfg.connect))
	}
	conn, err := grpc.NewClient(cfg.Endpoint.Target, o...)
	if err != nil {
		return nil, err
	}
	g := &overGRPC{conn: conn}
	// It reads what the variables name, though the connection is given.
	err = withRights(cfg.TLS.As, func() error {
		if err := noPipes(); err != nil {
			return err
		}
		g.traces = otlptracegrpc.NewClient(
			otlptracegrpc.WithGRPCConn(conn),
			// What of its own is not the connection's is the sender's, for all signals.
			otlptracegrpc.WithHeaders(map[string]string{}),
			otlptracegrpc.WithTimeout(0),
			// Who calls Send knows how long a batch may be tried, and where else it can go.
			otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{Enabled: false}),
		)
		return g.traces.Start(context.Background())
	})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return g, nil
}

// outcome is filled by the interceptor: UploadTraces returns a partial success as an error of an internal type.
type outcome struct {
	accepted bool
	receipt  Receipt
}

type outcomeKey struct{}

func (g *overGRPC) send(ctx context.Context, b Batch, headers metadata.MD) (Receipt, *Refusal) {
	var o outcome
	ctx = metadata.NewOutgoingContext(context.WithValue(ctx, outcomeKey{}, &o), headers)
	resources := make([]*tracepb.ResourceSpans, len(b.Resources))
	for i, raw := range b.Resources {
		// Unknown fields go on the wire as they are, so nothing is encoded again.
		resources[i] = new(tracepb.ResourceSpans)
		resources[i].ProtoReflect().SetUnknown(raw)
	}
	var err error
	if b.Signal == Traces {
		err = g.traces.UploadTraces(ctx, resources)
	} else {
		// Of all signals, requests and answers have the same form on the wire.
		request := &coltracepb.ExportTraceServiceRequest{ResourceSpans: resources}
		err = g.conn.Invoke(ctx, b.Signal.Method(), request, new(coltracepb.ExportTraceServiceResponse))
	}
	if err == nil || o.accepted {
		return o.receipt, nil
	}
	return Receipt{}, newRefusal(err)
}

func (g *overGRPC) close() error {
	return errors.Join(g.traces.Stop(context.Background()), g.conn.Close())
}

// readReceipt is the interceptor that fills outcome.
func readReceipt(
	ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption,
) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	if o, ok := ctx.Value(outcomeKey{}).(*outcome); ok && err == nil {
		o.accepted = true
		if r, ok := reply.(*coltracepb.ExportTraceServiceResponse); ok {
			o.receipt = receiptOf(r)
		}
	}
	return err
}

// receiptOf reads the answer of any signal: they differ in names only.
func receiptOf(r *coltracepb.ExportTraceServiceResponse) Receipt {
	p := r.GetPartialSuccess()
	return Receipt{Rejected: uint64(max(0, p.GetRejectedSpans())), Message: p.GetErrorMessage()}
}
