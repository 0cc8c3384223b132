// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/exporter/loadbalancingexporter"
	"github.com/open-telemetry/opentelemetry-collector-contrib/processor/tailsamplingprocessor"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/envprovider"
	"go.opentelemetry.io/collector/confmap/provider/fileprovider"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/otlpexporter"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/memorylimiterprocessor"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"
	"go.uber.org/zap"
	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

type values struct {
	ExtraManifests []struct {
		Metadata struct{ Name, Namespace string }
		Spec     struct {
			ClusterIP string `yaml:"clusterIP"`
			Ports     []struct{ Port int }
		}
	} `yaml:"extraManifests"`
	Config map[string]any
}

func read(t *testing.T, name string) values {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var v values
	if err := yaml.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// given drops what is null: to Helm that deletes the chart's own.
func given(m map[string]any) map[string]any {
	for k, v := range m {
		switch v := v.(type) {
		case nil:
			delete(m, k)
		case map[string]any:
			m[k] = given(v)
		}
	}
	return m
}

func factories() (otelcol.Factories, error) {
	f := otelcol.Factories{Telemetry: otelconftelemetry.NewFactory()}
	var err error
	if f.Receivers, err = otelcol.MakeFactoryMap[receiver.Factory](otlpreceiver.NewFactory()); err != nil {
		return f, err
	}
	if f.Processors, err = otelcol.MakeFactoryMap[processor.Factory](memorylimiterprocessor.NewFactory(), tailsamplingprocessor.NewFactory()); err != nil {
		return f, err
	}
	f.Exporters, err = otelcol.MakeFactoryMap[exporter.Factory](otlpexporter.NewFactory(), loadbalancingexporter.NewFactory())
	return f, err
}

// collector has one with a configuration.
func collector(t *testing.T, config map[string]any) *otelcol.Collector {
	t.Helper()
	text, err := yaml.Marshal(given(config))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := otelcol.NewCollector(otelcol.CollectorSettings{
		BuildInfo: component.NewDefaultBuildInfo(),
		Factories: factories,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{
			URIs: []string{file}, ProviderFactories: []confmap.ProviderFactory{fileprovider.NewFactory(), envprovider.NewFactory()},
		}},
		DisableGracefulShutdown: true,
		LoggingOptions:          []zap.Option{zap.IncreaseLevel(zap.ErrorLevel)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// run has a collector work until the test ends. It returns when that is ready.
func run(t *testing.T, config map[string]any) error {
	t.Helper()
	at(config, "service")["telemetry"] = map[string]any{"metrics": map[string]any{"level": "none"}}
	c := collector(t, config)
	ended := make(chan error, 1)
	go func() { ended <- c.Run(t.Context()) }()
	for c.GetState() != otelcol.StateRunning {
		select {
		case err := <-ended:
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Cleanup(func() {
		c.Shutdown()
		<-ended
	})
	return nil
}

func port(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// here has a configuration work on this machine: it listens at an address.
func here(config map[string]any, address string) map[string]any {
	at(config, "receivers", "otlp", "protocols", "grpc")["endpoint"] = address
	return config
}

func TestTheCollectorRefusesWhatItDoesNotKnow(t *testing.T) {
	for name, change := range map[string]func(map[string]any){
		"a policy's type": func(c map[string]any) {
			at(c, "processors", "tail_sampling")["policies"].([]any)[2].(map[string]any)["type"] = "status"
		},
		"a key": func(c map[string]any) { at(c, "processors", "tail_sampling")["decision_wai"] = "1s" },
		"a condition": func(c map[string]any) {
			at(c, "processors", "tail_sampling")["policies"].([]any)[0].(map[string]any)["ottl_condition"].(map[string]any)["span"] = []any{"nam == 1"}
		},
		"a missing exporter": func(c map[string]any) { at(c, "service", "pipelines", "traces")["exporters"] = []any{"none"} },
	} {
		c := here(read(t, "sampler.values.yaml").Config, port(t))
		change(c)
		if err := run(t, c); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// Both collectors run as their values say, but for addresses and the time that a decision waits: a batch of the sensor's goes in at the gateway,
// and what Tempo would get comes out.
func TestWhatSaysSomethingIsKept(t *testing.T) {
	tempo := &backend{came: map[pcommon.TraceID]int{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	ptraceotlp.RegisterGRPCServer(server, tempo)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)

	gatewayAt, samplerAt := port(t), port(t)
	sampler := here(read(t, "sampler.values.yaml").Config, samplerAt)
	at(sampler, "processors", "tail_sampling")["decision_wait"] = "1s"
	at(sampler, "exporters", "otlp_grpc/tempo")["endpoint"] = l.Addr().String()
	gateway := here(read(t, "gateway.values.yaml").Config, gatewayAt)
	at(gateway, "exporters", "loadbalancing")["resolver"] = map[string]any{"static": map[string]any{"hostnames": []any{samplerAt}}}
	for _, c := range []map[string]any{sampler, gateway} {
		if err := run(t, c); err != nil {
			t.Fatal(err)
		}
	}

	contract, err := os.ReadFile("../../docs/spans.md")
	if err != nil {
		t.Fatal(err)
	}
	known := func(name string) string {
		if !strings.Contains(string(contract), "`"+name+"`") && !strings.Contains(string(contract), "### "+name+"\n") {
			t.Errorf("docs/spans.md knows no %s", name)
		}
		return name
	}
	batch := ptrace.NewTraces()
	spans := batch.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans()
	ids := map[string]pcommon.TraceID{}
	trace := func(what string) ptrace.Span {
		var id pcommon.TraceID
		binary.BigEndian.PutUint64(id[:], rand.Uint64())
		binary.BigEndian.PutUint64(id[8:], rand.Uint64())
		ids[what] = id
		for n := range byte(3) { // the parent comes last, as from a sensor
			s := spans.AppendEmpty()
			s.SetTraceID(id)
			s.SetSpanID(pcommon.SpanID{n + 1})
			s.Attributes().PutStr("sheetbend.event", "process.exec")
		}
		return spans.At(spans.Len() - 1)
	}
	for _, name := range []string{"sensor.loss", "cgroup.escape", "process.access", "process.namespace", "net.socket"} {
		trace(name).Attributes().PutStr(known("sheetbend.event"), known(name))
	}
	for _, key := range []string{"sheetbend.sensitive", "sheetbend.claim.contradicted"} {
		trace(key).Attributes().PutBool(known(key), true)
	}
	trace("failure").Status().SetCode(ptrace.StatusCodeError)
	const others = 400
	for n := range others {
		trace(strconv.Itoa(n))
	}
	conn, err := grpc.NewClient(gatewayAt, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := ptraceotlp.NewGRPCClient(conn).Export(t.Context(), ptraceotlp.NewExportRequestFromTraces(batch)); err != nil {
		t.Fatal(err)
	}
	var missing []string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		missing = missing[:0]
		kept := 0
		tempo.mu.Lock()
		for what, id := range ids {
			if _, err := strconv.Atoi(what); err == nil {
				kept += min(1, tempo.came[id])
			} else if tempo.came[id] != 3 {
				missing = append(missing, what)
			}
		}
		tempo.mu.Unlock()
		// A fifth: 80 of 400, and 40 would be five standard deviations less.
		if len(missing) == 0 && kept > 40 {
			if kept > others/2 {
				t.Errorf("%d of %d others are kept", kept, others)
			}
			return
		}
		<-time.After(20 * time.Millisecond)
	}
	t.Errorf("not all of these came, or too few others: %v", missing)
}

// backend counts the spans of traces.
type backend struct {
	ptraceotlp.UnimplementedGRPCServer
	mu   sync.Mutex
	came map[pcommon.TraceID]int
}

func (b *backend) Export(_ context.Context, r ptraceotlp.ExportRequest) (ptraceotlp.ExportResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, rs := range r.Traces().ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				b.came[s.TraceID()]++
			}
		}
	}
	return ptraceotlp.NewExportResponse(), nil
}

// The gateway finds the samplers by the name that the other file gives them.
func TestTheGatewaySendsToTheSamplers(t *testing.T) {
	s := read(t, "sampler.values.yaml").ExtraManifests
	dns := at(read(t, "gateway.values.yaml").Config, "exporters", "loadbalancing", "resolver", "dns")
	if len(s) != 1 || s[0].Spec.ClusterIP != "None" || len(s[0].Spec.Ports) != 1 || s[0].Spec.Ports[0].Port != 4317 || dns["port"] != "4317" {
		t.Fatalf("%+v, %v", s, dns)
	}
	if want := s[0].Metadata.Name + "." + s[0].Metadata.Namespace + ".svc."; !strings.HasPrefix(dns["hostname"].(string), want) {
		t.Errorf("it asks for %s, and there is %s", dns["hostname"], want)
	}
}

func at(m map[string]any, keys ...string) map[string]any {
	for _, k := range keys {
		m = m[k].(map[string]any)
	}
	return m
}
