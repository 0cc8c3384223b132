// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"time"

	"go.yaml.in/yaml/v3"
)

// OTLPs are the endpoints, at least one: exporters.otlp is a mapping, or a list of them.
type OTLPs []OTLP

// OTLP is one of them. The only one without an endpoint here or by flag is that of
// OTEL_EXPORTER_OTLP_*; without those neither, it is not used.
type OTLP struct {
	Endpoint    string            `yaml:"endpoint"`
	Protocol    string            `yaml:"protocol"` // "": as the endpoint has it
	Headers     map[string]string `yaml:"headers"`
	HeadersFile string            `yaml:"headers_file"`
	TLS         TLS               `yaml:"tls"`
	// Timeout is 0 when it is not set: then OTEL_EXPORTER_OTLP_TIMEOUT holds, else 10 s.
	Timeout     Duration `yaml:"timeout"`
	Compression string   `yaml:"compression"` // "": as OTEL_EXPORTER_OTLP_COMPRESSION has it
	Queue       Queue    `yaml:"queue"`
	// Signals are what it gets: traces are spans, logs are security events.
	Signals []string `yaml:"signals"`
}

// The values of OTLP.Signals.
const (
	SignalTraces = "traces"
	SignalLogs   = "logs"
)

// TLS names PEM files. Empty ones stand for the variables of the OTLP exporter.
type TLS struct {
	CA         string `yaml:"ca"`
	Cert       string `yaml:"cert"`
	Key        string `yaml:"key"`
	ServerName string `yaml:"server_name"`
}

// Queue bounds what waits in memory: for the backend, or for the disk if there is a spool.
type Queue struct {
	Bytes Size `yaml:"bytes"`
	Spans int  `yaml:"spans"`
}

// Spool keeps on disk what backends have not got yet.
type Spool struct {
	// Path is DefaultSpool for the sensor if it is empty, and nothing for run. NoSpool is none for both.
	Path        string   `yaml:"path"`
	MaxBytes    Size     `yaml:"max_bytes"`
	MaxAge      Duration `yaml:"max_age"`
	Sync        string   `yaml:"sync"`
	DeadLetters Size     `yaml:"dead_letters"`
	PassedOn    string   `yaml:"passed_on"`
}

// Recorder keeps the sessions of the last days on disk, to be looked at here.
type Recorder struct {
	// Path is DefaultRecorder for the sensor if it is empty, and nothing for run. NoRecorder is none for both.
	Path     string   `yaml:"path"`
	MaxBytes Size     `yaml:"max_bytes"`
	MaxAge   Duration `yaml:"max_age"`
}

// Metrics are served over HTTP by the sensor. Without an address there is nothing.
type Metrics struct {
	Listen string `yaml:"listen"`
	Expose bool   `yaml:"expose"`
	Pprof  bool   `yaml:"pprof"`
}

const (
	// DefaultSpool is where the sensor spools unless told otherwise.
	DefaultSpool = "/var/lib/sheetbend/spool"
	// NoSpool is the path that means none.
	NoSpool = "none"
	// DefaultRecorder is where the sensor records unless told otherwise, if that is possible.
	DefaultRecorder = "/var/lib/sheetbend/recordings"
	// NoRecorder is the path that means none.
	NoRecorder = "none"
	// PassedOnDisk spools agents' telemetry like the spans, PassedOnMemory keeps it in memory.
	PassedOnDisk, PassedOnMemory = "disk", "memory"
	// MaxEndpoints bounds the list of them.
	MaxEndpoints = 16
)

func defaultOTLP() OTLP {
	return OTLP{Queue: Queue{Bytes: 64 << 20, Spans: 65536}, Signals: []string{SignalTraces}}
}

func defaultSpool() Spool {
	return Spool{
		MaxBytes: 1 << 30, MaxAge: Duration(72 * time.Hour), Sync: "batch", DeadLetters: 64 << 20, PassedOn: PassedOnDisk,
	}
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (o *OTLPs) UnmarshalYAML(n *yaml.Node) error {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		if items = n.Content; len(items) == 0 {
			return fmt.Errorf("line %d: exporters.otlp is an empty list", n.Line)
		}
	}
	*o = nil
	for _, item := range items {
		one := defaultOTLP()
		if err := item.Decode(&one); err != nil {
			return err
		}
		*o = append(*o, one)
	}
	return nil
}

// Send lets spans go to one endpoint only, with what the file says about it if it is alone there: what is meant for
// another endpoint, such as its headers, is not for this one. protocol may be empty.
func (e *Exporters) Send(endpoint, protocol string) {
	if len(e.OTLP) != 1 {
		e.OTLP = OTLPs{defaultOTLP()}
	}
	e.OTLP[0].Endpoint, e.OTLP[0].Protocol = endpoint, protocol
}

// Dir is where recordings are; "" is nowhere.
func (r Recorder) Dir() string {
	if r.Path == NoRecorder {
		return ""
	}
	return r.Path
}

// Dir is where batches are spooled; "" is nowhere.
func (s Spool) Dir() string {
	if s.Path == NoSpool {
		return ""
	}
	return s.Path
}
