// SPDX-License-Identifier: Apache-2.0

// Package metrics serves what the sensor counts over HTTP: /metrics for Prometheus, /healthz and /readyz for
// whoever restarts it, and Go's profiles if asked for.
package metrics

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sys/unix"
)

// Options configure a Server. Listen and Healthy are needed.
type Options struct {
	Listen string // ADDRESS:PORT
	Expose bool   // allow an address that other hosts can reach
	Pprof  bool   // serve /debug/pprof: whoever can ask for it sees the sensor's memory
	// Collectors are asked at each scrape, from any goroutine.
	Collectors []prometheus.Collector
	// Healthy says whether the sensor does its work; the error says what it does not.
	Healthy func() error
	// Ready says whether it watches; the error says what it waits for.
	Ready func() error
	Log   *slog.Logger // nil: silent
}

// scrapes bounds the scrapes that run at a time.
const scrapes = 4

// Server is what Listen started.
type Server struct {
	http   *http.Server
	addr   net.Addr
	served chan struct{}
}

// Listen begins to serve.
func Listen(o Options) (*Server, error) {
	l, err := listen(o.Listen, o.Expose)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	process := collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})
	for _, c := range append([]prometheus.Collector{collectors.NewGoCollector(), process}, o.Collectors...) {
		if err := registry.Register(c); err != nil {
			_ = l.Close()
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry,
		promhttp.HandlerOpts{MaxRequestsInFlight: scrapes, Timeout: 10 * time.Second}))
	mux.HandleFunc("GET /healthz", answer(o.Healthy))
	mux.HandleFunc("GET /readyz", answer(o.Ready))
	if o.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	open := &conns{log: slog.New(handler(o.Log)), open: map[net.Conn]*list.Element{}}
	s := &Server{
		http: &http.Server{
			Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute,
			WriteTimeout:   2 * time.Minute, // a profile takes its time
			MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(handler(o.Log), slog.LevelDebug),
			ConnState: open.state,
		},
		addr: l.Addr(), served: make(chan struct{}),
	}
	go func() {
		defer close(s.served)
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			slog.New(handler(o.Log)).Error("the server of the metrics has stopped", "error", err)
		}
	}()
	return s, nil
}

func handler(log *slog.Logger) slog.Handler {
	if log == nil {
		return slog.DiscardHandler
	}
	return log.Handler()
}

// listen refuses, unless expose is set, addresses that other hosts can reach: there is no login, and labels name
// endpoints.
func listen(addr string, expose bool) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("metrics: %q is no address to listen on: give one, as in 127.0.0.1:9464", addr)
	}
	ip := net.ParseIP(host)
	switch {
	case host != "" && ip == nil:
		return nil, fmt.Errorf("metrics: %q is not an IP address to listen on: give one, as in 127.0.0.1:9464", host)
	case !expose && (ip == nil || !ip.IsLoopback()):
		return nil, fmt.Errorf("metrics: %s can be reached from other hosts, and there is no login: "+
			"listen on 127.0.0.1, or set metrics.expose if that is meant", addr)
	}
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("metrics: %s is in use, by another sensor maybe: choose another port", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for metrics: %w", err)
	}
	return l, nil
}

func answer(check func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if check != nil {
			if err := check(); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		fmt.Fprintln(w, "ok")
	}
}

// Addr is where it listens.
func (s *Server) Addr() net.Addr { return s.addr }

// Close ends it, with requests that are under way. When it returns, no collector is asked any more.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if err != nil { // a profile
		err = s.http.Close()
	}
	<-s.served
	return err
}
